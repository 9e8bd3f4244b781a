//! Recordings that are silent where the transcript is redacted: a real call, recognition that tells when each word was
//! said.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use voxray::caller::{Call, CallReport, Step, rms};
use voxray::single::SingleProcess;
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};

use crate::support::{config, recording};

const SAID: &str = "My card is 4111 1111 1111 1111, thanks.";
/// Seconds of the utterance; what is said in the recording that is played does not matter.
const WORDS: [(&str, f64, f64); 8] = [
    ("My", 0.3, 0.5),
    ("card", 0.5, 0.8),
    ("is", 0.8, 1.1),
    ("4111", 1.3, 1.5),
    ("1111", 1.5, 1.6),
    ("1111", 1.6, 1.8),
    ("1111", 1.8, 2.0),
    ("thanks", 2.5, 2.8),
];
/// What of the utterance must be silent: the card number, and a quarter of a second around it.
const SILENT: Range<f64> = 1.05..2.25;
/// Samples of one step of an envelope: 2.5 ms.
const STEP: usize = 20;
const RATE_HZ: f64 = 8_000.0;
/// Mean amplitude above which a stretch is speech.
const AUDIBLE_RMS: f64 = 100.0;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A call in which the caller tells a card number and the agent repeats it: what the caller sent and heard, what
/// recognition was given of that, and the recording, one side after the other.
async fn call(channels: &'static str) -> (CallReport, Vec<i16>, Vec<Vec<i16>>) {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Transcriptions, Answer::transcript_of_words(SAID, &WORDS));
    let answer = Answer::chat(["Thank you very much. ", "So 4111 1111 1111 1111. ", "Is that right?"]);
    server.otherwise(Endpoint::Chat, answer);
    server.otherwise(Endpoint::Speech, Answer::speech(&tone(600.0, 1_000)));
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().display().to_string();
    let settings = [
        ("host", "127.0.0.1"),
        ("port", "0"),
        ("data_dir", data_dir.as_str()),
        ("greeting", "Good morning."),
        ("stt_model", "whisper-1"),
        ("transcripts.redact", "card"),
        ("recording.enable", "true"),
        ("recording.channels", channels),
        ("recording.mute_redacted", "true"),
    ];
    let config = config(&server.base_url(), "muted", &settings);
    let process = SingleProcess::start(&config, None).await.unwrap();
    let mut events = process.media().events();
    let say = Step::Say {
        text: SAID.to_owned(),
        samples: recording("austen-0880.wav"),
    };
    let steps = vec![
        Step::answer(),
        say,
        Step::answer(),
        Step::Silence(Duration::from_secs(1)),
    ];

    let report = Call::new(process.base_url(), steps).place().await.unwrap();

    let (session, _) = events.recv().await.unwrap();
    process.media().drain().await;
    let rows = process.archiver().transcripts().unwrap().rows(&session).await.unwrap();
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Good morning.",
            "My card is [card], thanks.",
            "Thank you very much. So [card]. Is that right?"
        ]
    );
    process.stop().await;
    let stored = files(&folder.path().join("recordings"));
    let stored: Vec<_> = stored
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "wav"))
        .collect();
    let [wav] = stored.as_slice() else { panic!("{stored:?}") };
    let mut reader = hound::WavReader::open(wav).unwrap();
    let sides = usize::from(reader.spec().channels);
    let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
    let side = |first| samples.iter().skip(first).step_by(sides).copied().collect();
    let upload = server.request(Endpoint::Transcriptions, 0).await.upload.unwrap();
    let uploaded = upload.samples.iter().step_by(2).copied().collect();
    (report, uploaded, (0..sides).map(side).collect())
}

fn envelope(samples: &[i16]) -> Vec<f64> {
    samples.chunks_exact(STEP).map(rms).collect()
}

/// Where a piece of sound begins within a longer one, in samples, to a step of the envelope.
fn find(piece: &[i16], whole: &[i16]) -> usize {
    let (piece, whole) = (envelope(piece), envelope(whole));
    let fit = |there: &[f64]| {
        let product: f64 = piece.iter().zip(there).map(|(a, b)| a * b).sum();
        let power: f64 = there.iter().map(|b| b * b).sum();
        product / (1.0 + power).sqrt()
    };
    let fits: Vec<f64> = whole.windows(piece.len()).map(fit).collect();
    let best = (0..fits.len()).max_by(|a, b| fits[*a].total_cmp(&fits[*b]));
    best.unwrap() * STEP
}

fn at(seconds: f64) -> usize {
    (seconds * RATE_HZ) as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_number_of_a_real_call_is_silent_in_its_recording_and_everything_else_is_heard() {
    let (stereo, mono) = tokio::join!(call("stereo"), call("mono"));
    for (report, uploaded, sides) in [stereo, mono] {
        let (caller, agent) = (&sides[0], sides.last().unwrap());
        // What recognition heard up to the number places the utterance; what comes behind it is where it belongs.
        let utterance = find(&uploaded[..at(SILENT.start)], caller);
        let behind = find(&uploaded[at(SILENT.end)..at(2.9)], caller);
        let expected = utterance + at(SILENT.end);
        assert!(behind.abs_diff(expected) <= 8 * STEP, "{behind} instead of {expected}");
        let part = |from: f64, to: f64| &caller[utterance + at(from)..utterance + at(to)];
        let silent = part(SILENT.start + 0.02, SILENT.end - 0.02);
        assert!(silent.iter().all(|sample| *sample == 0));
        let was = rms(&uploaded[at(SILENT.start)..at(SILENT.end)]);
        assert!(was > AUDIBLE_RMS, "the caller said nothing there: {was}");
        for (from, to) in [(0.4, SILENT.start - 0.02), (SILENT.end + 0.02, 2.9)] {
            let (there, here) = (rms(part(from, to)), rms(&uploaded[at(from)..at(to)]));
            assert!(
                here > AUDIBLE_RMS && (0.8..1.25).contains(&(there / here)),
                "{from}: {there} of {here}"
            );
        }

        // Of the agent's three sentences of a second the second is silent. The caller heard it: the call is not muted.
        let answered = expected + at(0.8);
        let loud = |side: &[i16]| side.chunks(160).filter(|packet| rms(packet) > 1_000.0).count();
        let kept = loud(&agent[answered..]);
        assert!(
            (90..=102).contains(&kept),
            "{kept} packets of the answer are in the recording"
        );
        let heard = loud(&report.heard[report.said[0].to * 160..]);
        assert!((140..=152).contains(&heard), "the caller heard {heard} packets");
        let sent = report.sent.len() as f64 / RATE_HZ;
        let recorded = caller.len() as f64 / RATE_HZ;
        assert!((sent - 0.5..sent + 2.0).contains(&recorded), "{recorded} s of {sent}");
    }
}
