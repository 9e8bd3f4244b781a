use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use media_core::conversation::{Origin, Role, SpeechId, TurnPart, Word};
use media_core::redact::Kind;
use service_kit::config;
use sha2::{Digest, Sha256};
use voxray_proto::archive::{Event, SessionEnded};

use super::*;
use crate::archive::{ArchiveError, ArchiveSink, Outbox, Scratch};

const TRANSPORT: TransportTraits = TransportTraits {
    name: "telephony",
    input_rate_hz: 8_000,
    output_rate_hz: 8_000,
    recording_rate_hz: 8_000,
    echoes_marks: true,
    playout_lead: Duration::from_millis(200),
};
const CARD: &str = "4111 1111 1111 1111";

pub(super) fn call(channels: Option<Channels>, mute: Option<Duration>) -> RecordedCall<'static> {
    RecordedCall {
        traceparent: String::new(),
        session_id: "s".into(),
        node_id: "n",
        transport: TRANSPORT,
        provider: "",
        channels,
        redactor: Redactor::new(vec![Kind::Card], Vec::new()).map(Arc::new),
        mute,
    }
}

fn turn(seq: u32, role: Role, text: &str, parts: Vec<TurnPart>) -> TurnRecord {
    TurnRecord {
        seq,
        role,
        text: text.to_owned(),
        started_at: Duration::ZERO,
        ended_at: Duration::ZERO,
        interrupted: false,
        timing: None,
        parts,
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<Body>>);

impl ArchiveSession for Kept {
    fn append(&self, body: Body) -> Result<u64, ArchiveError> {
        let mut kept = self.0.lock().unwrap();
        kept.push(body);
        Ok(kept.len() as u64)
    }

    fn scratch(&self) -> Result<Scratch, ArchiveError> {
        Err(ArchiveError::NoEvent("there is no disk here"))
    }
}

#[test]
fn what_is_redacted_never_reaches_the_archive() {
    let kept = Arc::new(Kept::default());
    let mut record = CallRecord::start(call(None, None), Some(kept.clone())).unwrap();
    for (seq, role, text) in [
        (0, Role::User, "It is 4111 1111 1111 1111."),
        (
            1,
            Role::Assistant,
            "So four one one one one one one one one one one one one one one one?",
        ),
    ] {
        record.turn(turn(seq, role, text, Vec::new()));
    }
    let kept = kept.0.lock().unwrap();
    let texts = kept.iter().filter_map(|body| match body {
        Body::Turn(turn) => Some(turn.text.as_str()),
        Body::Started(_) | Body::Audio(_) | Body::Ended(_) => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["It is [card].", "So [card]?"]);
}

#[test]
fn of_a_card_number_that_the_agent_was_cut_off_in_nothing_reaches_the_archive() {
    let kept = Arc::new(Kept::default());
    let mut record = CallRecord::start(call(None, None), Some(kept.clone())).unwrap();
    let mut says = |sentences: &[&str], heard: &str| {
        for text in sentences {
            record.noticed(&Notice::Speaking {
                speech: SpeechId(1),
                text: (*text).to_owned(),
            });
        }
        record.turn(turn(0, Role::Assistant, heard, Vec::new()));
        record.noticed(&Notice::AgentStoppedSpeaking);
    };
    says(
        &["Thank you.", "So 4111 1111 1111 1111."],
        "Thank you. So 4111 1111 1111",
    );
    says(&["Your room is 4111."], "Your room is 4111.");
    let kept = kept.0.lock().unwrap();
    let texts = kept.iter().filter_map(|body| match body {
        Body::Turn(turn) => Some(turn.text.as_str()),
        Body::Started(_) | Body::Audio(_) | Body::Ended(_) => None,
    });
    assert_eq!(
        texts.collect::<Vec<_>>(),
        ["Thank you. So [card]", "Your room is 4111."]
    );
}

#[test]
fn of_a_card_number_said_in_two_turns_the_second_does_not_reach_the_archive() {
    let kept = Arc::new(Kept::default());
    let mut record = CallRecord::start(call(None, None), Some(kept.clone())).unwrap();
    for (seq, role, text) in [
        (0, Role::User, "It is 4111 1111."),
        (1, Role::Assistant, "Go on."),
        (2, Role::User, "1111 1111."),
    ] {
        record.turn(turn(seq, role, text, Vec::new()));
    }
    let kept = kept.0.lock().unwrap();
    let texts = kept.iter().filter_map(|body| match body {
        Body::Turn(turn) => Some(turn.text.as_str()),
        Body::Started(_) | Body::Audio(_) | Body::Ended(_) => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["It is 4111 1111.", "Go on.", "[card]."]);
}

const CALLER: i16 = 1_000;
const AGENT: i16 = 2_000;
/// What somebody sounds like who says a card number. Alone and mixed with the other it is found again.
const SECRET: i16 = 0x4a4a;
pub(super) const PRE_ROLL: Duration = Duration::from_millis(500);
const FIRST: UtteranceId = UtteranceId(1);

/// A recorded call, and its node's outbox.
struct Scene {
    folder: tempfile::TempDir,
    outbox: Outbox,
    record: CallRecord,
    now: Time,
}

pub(super) fn open(dir: &Path) -> Outbox {
    let (dir, max_bytes) = (dir.to_owned(), 1 << 30);
    Outbox::open(&config::Outbox { dir, max_bytes }).unwrap()
}

impl Scene {
    fn new(channels: Channels) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path());
        let session = outbox.open("s").unwrap();
        let record = CallRecord::start(call(Some(channels), Some(PRE_ROLL)), Some(session)).unwrap();
        let now = Time::ZERO;
        Self {
            folder,
            outbox,
            record,
            now,
        }
    }

    /// Both are heard until then; 0 is silence.
    fn until(&mut self, seconds: f64, caller: i16, agent: i16) {
        while self.now < Duration::from_secs_f64(seconds) {
            self.now += Duration::from_millis(20);
            self.record.caller(self.now, &[caller; 160]);
            if agent != 0 {
                self.record.agent(self.now, Duration::ZERO, &[agent; 160]);
            }
        }
    }

    /// The caller says a card number from the fourth to the sixth second, while the agent goes on.
    fn say_card(&mut self) {
        self.until(2.0, 0, 0);
        self.record.utterance_begins(FIRST, Duration::from_secs(2));
        self.until(4.0, CALLER, AGENT);
        self.until(6.0, SECRET, AGENT);
        self.until(8.0, CALLER, 0);
    }

    fn understand_card(&mut self) {
        self.record.utterance_ends(FIRST);
        let word = |text: &str, from, to| Word {
            text: text.to_owned(),
            from: Duration::from_secs(from),
            to: Duration::from_secs(to),
        };
        let words = vec![word("Mine:", 0, 2), word(CARD, 2, 4), word("okay", 4, 6)];
        self.record.recognised(FIRST, &SttEvent::Words(words));
        let text = format!("Mine: {CARD}, okay?");
        self.record.recognised(FIRST, &SttEvent::Final(text.clone()));
        let (part, origin) = (0..text.len(), Origin::Utterance(FIRST));
        self.record
            .turn(turn(0, Role::User, &text, vec![TurnPart { text: part, origin }]));
    }

    fn repeat_card(&mut self) {
        let says = |text: &str| Notice::Speaking {
            speech: SpeechId(1),
            text: text.to_owned(),
        };
        self.record.noticed(&Notice::AgentStartedSpeaking);
        self.record.noticed(&says("Thank you."));
        self.until(10.0, 0, AGENT);
        self.record.noticed(&says("So 4111 1111 1111 1111."));
        self.until(12.0, 0, SECRET);
        self.record.noticed(&says("Right?"));
        self.until(13.0, 0, AGENT);
        let said = format!("Thank you. So {CARD}. Right?");
        self.record.turn(turn(1, Role::Assistant, &said, Vec::new()));
        self.record.noticed(&Notice::AgentStoppedSpeaking);
    }
}

/// Everything that the outbox gives out, up to the end of the session.
async fn sent(outbox: &Outbox) -> Vec<Event> {
    let mut progress = outbox.progress();
    let mut reader = outbox.reader();
    let mut events: Vec<Event> = Vec::new();
    while !matches!(
        events.last().and_then(|event| event.body.as_ref()),
        Some(Body::Ended(_))
    ) {
        progress.borrow_and_update();
        let more = reader.read();
        if more.is_empty() {
            outbox.flush_now();
            progress.changed().await.unwrap();
        }
        events.extend(more);
    }
    events
}

/// The samples of a session in order, and its end. They fit its hash.
fn audio(events: &[Event]) -> (Vec<i16>, SessionEnded) {
    let mut pcm: Vec<u8> = Vec::new();
    let mut end = None;
    for event in events {
        match event.body.clone().unwrap() {
            Body::Audio(chunk) => pcm.extend_from_slice(&chunk.pcm),
            Body::Ended(ended) => end = Some(ended),
            Body::Started(_) | Body::Turn(_) => {}
        }
    }
    let end = end.unwrap();
    assert_eq!(Bytes::from(Sha256::digest(&pcm).to_vec()), end.pcm_sha256);
    let (samples, _) = pcm.as_chunks::<2>();
    (samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect(), end)
}

fn is_secret(sample: i16) -> bool {
    [SECRET, SECRET + CALLER, SECRET + AGENT].contains(&sample)
}

/// Nothing secret in any file, be it sent or not.
fn assert_clean(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let found = bytes.windows(8).any(|eight| {
            eight
                .as_chunks::<2>()
                .0
                .iter()
                .filter(|two| is_secret(i16::from_le_bytes(**two)))
                .count()
                >= 2
        });
        assert!(!found);
    }
}

#[tokio::test]
async fn a_card_number_is_silent_in_all_that_leaves_the_node_and_the_rest_is_as_it_was() {
    for channels in [Channels::Stereo, Channels::Mono] {
        let mut scene = Scene::new(channels);
        scene.say_card();
        assert_clean(scene.folder.path());
        scene.understand_card();
        scene.repeat_card();
        assert_clean(scene.folder.path());
        scene.until(15.0, CALLER, 0);
        let Scene {
            folder,
            outbox,
            record,
            now,
        } = scene;
        record.finish(now, &EndReason::CallerHungUp);
        assert_clean(folder.path());

        let events = sent(&outbox).await;
        let (samples, ended) = audio(&events);
        assert_eq!(sent(&outbox).await, events, "what is sent again is the same");
        assert_eq!(ended.total_frames, 15 * 8_000);
        let sides = channels.count() as usize;
        assert_eq!(samples.len(), 15 * 8_000 * sides);
        let at = |seconds: f64| {
            let frame = (seconds * 8_000.0) as usize * sides;
            match channels {
                Channels::Stereo => (samples[frame], samples[frame + 1]),
                Channels::Mono => (samples[frame], samples[frame]),
            }
        };
        let both = |caller, agent| match channels {
            Channels::Stereo => (caller, agent),
            Channels::Mono => (caller + agent, caller + agent),
        };
        for (seconds, caller, agent) in [
            (1.0, 0, 0),
            (3.7, CALLER, AGENT),
            (3.8, 0, AGENT),
            (5.0, 0, AGENT),
            (6.2, 0, 0),
            (6.3, CALLER, 0),
            (7.9, CALLER, 0),
            (9.9, 0, AGENT),
            (10.1, 0, 0),
            (11.9, 0, 0),
            (12.5, 0, AGENT),
            (14.0, CALLER, 0),
        ] {
            assert_eq!(at(seconds), both(caller, agent), "{channels:?} at {seconds} s");
        }
        assert!(!samples.iter().any(|sample| is_secret(*sample)));
    }
}

#[tokio::test]
async fn a_node_that_dies_leaves_what_was_settled_and_nothing_else() {
    let mut scene = Scene::new(Channels::Stereo);
    scene.say_card();
    // Somebody speaks for longer than memory holds.
    scene.until(20.0, SECRET, 0);
    let disk = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(scene.folder.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), disk.path().join(entry.file_name())).unwrap();
    }
    let restarted = open(disk.path());
    assert_clean(disk.path());

    let (samples, ended) = audio(&sent(&restarted).await);

    assert_eq!(ended.reason, "node_restarted");
    assert_eq!(samples.len() as u64, ended.total_frames * 2);
    // Up to where the utterance began.
    assert!(
        (14_000..=16_000).contains(&ended.total_frames),
        "{}",
        ended.total_frames
    );
    assert!(samples.iter().all(|sample| *sample == 0));
}
