//! One call that a client in Chromium has made: what it was told, and what it has heard.

use std::time::Duration;

use serde_json::{Value, json};
use voxray::words::{normalise, word_errors};
use voxray_testkit::browser::Script;

use crate::ears::{EARS_HZ, Ears, rms};
use crate::microphone::Microphone;
use crate::support::LIMIT;
use crate::tape::Tape;

/// Words of real people that may be misunderstood, with an echo canceller between them and us: one of a sentence of eight.
const MOST_USER_ERRORS: f64 = 0.125;
/// Words of the agent that may be misunderstood by somebody who hears what the browser has received.
const MOST_AGENT_ERRORS: f64 = 0.1;
/// Speech on its way to the browser when the agent stops: the network, the jitter buffer, the player.
const IN_FLIGHT: usize = EARS_HZ as usize;
/// Quieter than any word, louder than the noise that a codec makes of silence.
const QUIET_RMS: f64 = 60.0;

/// Something that the client was told.
#[derive(Debug, serde::Deserialize)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub data: Value,
    /// Samples on the tape by then.
    pub at: usize,
}

/// A request that went through the front.
#[derive(Debug, serde::Deserialize)]
pub struct Passed {
    pub method: String,
    pub path: String,
    pub upstream: String,
    pub status: u16,
}

/// How WebRTC's player has fared, in samples of the browser's own rate; the fields of `RTCInboundRtpStreamStats`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Played {
    packets_received: usize,
    total_audio_energy: f64,
    total_samples_received: u64,
    concealed_samples: u64,
    silent_concealed_samples: u64,
}

/// A call that is over.
#[derive(Debug, serde::Deserialize)]
pub struct Conversation {
    pub events: Vec<Event>,
    pub passed: Vec<Passed>,
    heard: Tape,
    /// What the browser says about its player, with WebRTC.
    played: Option<Played>,
    /// What came of a change of networks, where the page makes one.
    pub moved: Value,
    /// What the browser's statistics and the session's API answer say of the connection, where the page looks at them.
    pub told: Value,
    #[serde(skip)]
    tape: Vec<i16>,
}

/// A caller who lets the agent greet, asks, interrupts the long answer, and hears the short one out.
pub fn caller() -> Microphone {
    Microphone::default()
        .quiet(Duration::from_secs(6))
        .say("austen-0880.wav")
        .quiet(Duration::from_millis(5_500))
        .say("austen-0930.wav")
        .quiet(Duration::from_secs(1))
}

impl Conversation {
    /// Has a page of `testkit/browser/pages` call, with this microphone, until it is answered.
    pub async fn hold(page: &str, microphone: &Microphone, mut args: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        args["page"] = page.into();
        args["microphone"] = json!(microphone.write(folder.path()));
        args["seconds"] = microphone.seconds().into();
        let script = Script::start("call.mjs", &args).unwrap_or_else(|error| panic!("{error:?}"));
        let result = script.result(LIMIT).await.unwrap_or_else(|error| panic!("{error:?}"));
        let mut conversation: Self = serde_json::from_value(result).unwrap();
        conversation.tape = conversation.heard.samples();
        let rate = conversation.heard.rate();
        for event in &mut conversation.events {
            event.at = event.at * EARS_HZ as usize / rate as usize;
        }
        conversation
    }

    /// The final transcripts.
    fn transcribed(&self) -> String {
        let finals = self.events.iter().filter(|event| event.kind == "onUserTranscript");
        let finals = finals.filter(|event| event.data["final"] == true);
        let texts: Vec<&str> = finals.map(|event| event.data["text"].as_str().unwrap()).collect();
        texts.join(" ")
    }

    /// Places of an event on the tape.
    fn places(&self, kind: &str) -> Vec<usize> {
        let events = self.events.iter().filter(|event| event.kind == kind);
        events.map(|event| event.at).collect()
    }

    /// The caller was understood.
    pub fn assert_transcribed(&self, said: &Microphone) {
        let (wrong, of) = word_errors(&said.text(), &self.transcribed());
        println!("the caller was told {:?}: {wrong}/{of} words wrong", self.transcribed());
        assert!(wrong as f64 <= MOST_USER_ERRORS * of as f64, "{:#?}", self.events);
    }

    /// From when the agent begins to speak for the n-th time to when it begins the next time.
    fn heard(&self, speech: usize) -> &[i16] {
        let started = self.places("onBotStartedSpeaking");
        let end = started.get(speech + 1).map_or(self.tape.len(), |next| *next);
        &self.tape[started[speech]..end]
    }

    /// What was received by WebRTC went to the speakers too: with the packets passed on, the player has made sound of
    /// the most of them.
    pub fn assert_played(&self) {
        let played = self.played.as_ref().unwrap();
        println!("{played:?}");
        let made_up = played.concealed_samples - played.silent_concealed_samples;
        assert!(played.total_audio_energy > 0.0, "{played:?}");
        assert!(made_up < played.total_samples_received / 2, "{played:?}");
        assert_eq!(played.packets_received, self.heard.packets(), "{played:?}");
    }

    /// What the browser has received is what the agent said.
    pub async fn assert_heard(&self, ears: &Ears, said: &[(usize, &str)]) {
        let (mut wrong, mut of) = (0, 0);
        for (speech, text) in said {
            let understood = ears.understand(self.heard(*speech)).await;
            let errors = word_errors(text, &understood);
            println!("heard {understood:?}: {}/{} words wrong", errors.0, errors.1);
            (wrong, of) = (wrong + errors.0, of + errors.1);
        }
        assert!(
            wrong as f64 <= MOST_AGENT_ERRORS * of as f64,
            "{wrong} of {of} words wrong"
        );
    }

    /// What [`caller`] does has come about: it was transcribed, greeted, cut the answer off and was answered again, and
    /// what the browser has received is what the archive says.
    pub async fn assert_held(&self, said: &Microphone, turns: &[(String, String)]) {
        println!("{turns:#?}");
        self.assert_transcribed(said);
        let agent = said_by_the_agent(turns);
        let [greeting, cut, last] = agent[..] else {
            panic!("greeting, an answer cut off, an answer: {turns:#?}")
        };
        assert!(
            greeting.contains("Mary"),
            "the body of the start reaches the agent: {greeting:?}"
        );
        let (started, stopped) = (self.places("onBotStartedSpeaking"), self.places("onBotStoppedSpeaking"));
        assert_eq!((started.len(), stopped.len()), (3, 3), "{:#?}", self.events);

        for kind in ["onBotReady", "onBotOutput", "onMetrics", "onDisconnected"] {
            assert!(!self.places(kind).is_empty(), "no {kind}: {:#?}", self.events);
        }
        for kind in ["onError", "onDeviceError"] {
            assert!(self.places(kind).is_empty(), "{kind}: {:#?}", self.events);
        }

        let ears = Ears::new().await;
        self.assert_heard(&ears, &[(0, greeting), (2, last)]).await;

        let place = |kind: &str| {
            self.events
                .iter()
                .enumerate()
                .filter(|(_, event)| event.kind == kind)
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        let (began, ended) = (place("onBotStartedSpeaking")[1], place("onBotStoppedSpeaking")[1]);
        assert!(
            place("onUserStartedSpeaking")
                .iter()
                .any(|at| (began..=ended).contains(at)),
            "{:#?}",
            self.events
        );
        let after = &self.tape[(stopped[1] + IN_FLIGHT).min(started[2])..started[2]];
        assert!(rms(after) < QUIET_RMS, "the agent went on: {}", rms(after));
        let understood = ears.understand(self.heard(1)).await;
        println!("of {cut:?} was heard {understood:?}");
        let (said, understood) = (normalise(cut).len(), normalise(&understood).len());
        assert!(
            said > 0 && said.abs_diff(understood) <= 2,
            "{said} words said, {understood} heard"
        );
    }
}

/// The agent's turns.
pub fn said_by_the_agent(turns: &[(String, String)]) -> Vec<&str> {
    let agent = turns.iter().filter(|(role, _)| role == "assistant");
    agent.map(|(_, text)| text.as_str()).collect()
}
