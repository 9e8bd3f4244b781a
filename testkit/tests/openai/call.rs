//! Whole phone calls over Twilio's protocol with every stage at the scripted server.

use std::time::Duration;

use archiver_svc::Row;
use serde_json::{Value, json};
use tempfile::TempDir;
use voxray::caller::{Call, CallReport, Step, TICK_SAMPLES, rms};
use voxray::single::SingleProcess;
use voxray::words::word_error_rate;
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};

use crate::support::{config, frequency, recording};

/// Root mean square above which a packet is speech.
const AUDIBLE_RMS: f64 = 100.0;
const TIMEOUT: Duration = Duration::from_secs(30);
const APOLOGY: &str = "Sorry, I am having trouble. Could you say that again?";

struct Line {
    process: SingleProcess,
    _folder: TempDir,
}

impl Line {
    async fn new(server: &OpenAiServer, name: &str, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().display().to_string();
        let mut settings = vec![
            ("host", "127.0.0.1"),
            ("port", "0"),
            ("data_dir", data_dir.as_str()),
            ("greeting", "Good morning."),
            ("system_prompt", "Be brief."),
        ];
        settings.extend(more);
        let config = config(&server.base_url(), name, &settings);
        let process = SingleProcess::start(&config, None).await.unwrap();
        Self {
            process,
            _folder: folder,
        }
    }

    /// The call, and its transcript once the archive has all of it.
    async fn call(self, steps: Vec<Step>) -> (CallReport, Vec<Row>) {
        let mut events = self.process.media().events();
        let report = Call::new(self.process.base_url(), steps).place().await.unwrap();
        let (session, _) = events.recv().await.unwrap();
        self.process.media().drain().await;
        let rows = self
            .process
            .archiver()
            .transcripts()
            .unwrap()
            .rows(&session)
            .await
            .unwrap();
        self.process.stop().await;
        (report, rows)
    }
}

fn say(file: &str) -> Step {
    Step::Say {
        text: file.to_owned(),
        samples: recording(file),
    }
}

/// Frequency of what was heard between two ticks, quiet packets and the edges left out.
fn heard_frequency(report: &CallReport, from: usize, to: usize) -> f64 {
    let span = &report.heard[from * TICK_SAMPLES..to.min(report.heard.len() / TICK_SAMPLES) * TICK_SAMPLES];
    let packets: Vec<_> = span.chunks(TICK_SAMPLES).collect();
    let first = packets.iter().position(|packet| rms(packet) > AUDIBLE_RMS);
    let first = first.expect("nothing was heard") + 2;
    let run = packets[first..]
        .iter()
        .take_while(|packet| rms(packet) > AUDIBLE_RMS)
        .count();
    assert!(run > 12, "only {run} packets were heard");
    frequency(&packets[first..first + run - 2].concat(), 8_000)
}

#[track_caller]
fn assert_tone(heard: f64, expected: f64) {
    assert!(
        (heard - expected).abs() < expected / 50.0,
        "{heard} Hz instead of {expected}"
    );
}

fn spoken(rows: &[Row]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (row.role.as_str(), row.text.as_str())).collect()
}

fn messages(request: &Value) -> Vec<(&str, &str)> {
    let messages = request["messages"].as_array().unwrap().iter();
    messages
        .map(|message| (message["role"].as_str().unwrap(), message["content"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_talks_interrupts_and_is_said_goodbye_to() {
    const LONG: &str = "The kitchen is open every evening from six until eleven.";
    let server = OpenAiServer::start().await.unwrap();
    server.answer(
        Endpoint::Transcriptions,
        [
            Answer::transcript_stream(["I would like", " a table for two."]),
            Answer::transcript("Wait, for three."),
        ],
    );
    server.answer(
        Endpoint::Chat,
        [
            Answer::chat([
                "The kitchen is open ",
                "every evening ",
                "from six until eleven.",
                " Shall I?",
            ]),
            Answer::chat_beginning(["Goodbye."])
                .tool_call(0, "call_1", "end_call", &["{", "}"])
                .chat_end("tool_calls"),
        ],
    );
    server.otherwise(Endpoint::Speech, Answer::speech(&tone(700.0, 800)));
    let long = Answer::speech(&tone(1_000.0, 8_000));
    server.answer(
        Endpoint::Speech,
        [Answer::speech(&tone(500.0, 800)), long.clone(), long],
    );
    let line = Line::new(&server, "call-whole", &[]).await;

    let heard = Duration::from_millis(1_500);
    let steps = vec![
        Step::answer(),
        say("austen-0880.wav"),
        Step::WaitForSpeech {
            heard,
            timeout: TIMEOUT,
        },
        say("cards-001.wav"),
        Step::WaitForHangUp { timeout: TIMEOUT },
    ];
    let (report, rows) = line.call(steps).await;

    // The caller heard the server's voice, and no more of it after interrupting.
    assert!(report.ended_by_agent);
    let [first, second] = report.said.as_slice() else {
        panic!("{:?}", report.said)
    };
    assert_tone(heard_frequency(&report, 0, first.from), 500.0);
    assert_tone(heard_frequency(&report, first.to, second.from), 1_000.0);
    assert_tone(heard_frequency(&report, second.to, usize::MAX / TICK_SAMPLES), 700.0);
    assert_eq!(report.clears.len(), 1);

    // The model is told what was heard, not what was written.
    let requests = server.requests(Endpoint::Chat);
    let first_turn = [
        ("system", "Be brief."),
        ("assistant", "Good morning."),
        ("user", "I would like a table for two."),
    ];
    assert_eq!(messages(&requests[0].json), first_turn);
    let second_turn = messages(&requests[1].json);
    assert_eq!(second_turn[..3], first_turn);
    let (role, cut) = second_turn[3];
    assert_eq!(role, "assistant");
    assert!(
        !cut.is_empty() && LONG.starts_with(cut) && cut.len() < LONG.len() / 2,
        "{cut}"
    );
    assert_eq!(second_turn[4..], [("user", "Wait, for three.")]);
    assert_eq!(requests.len(), 2, "nothing is asked after the tool that ends the call");

    assert_eq!(
        spoken(&rows),
        [
            ("assistant", "Good morning."),
            ("user", "I would like a table for two."),
            ("assistant", cut),
            ("user", "Wait, for three."),
            ("assistant", "Goodbye."),
        ]
    );
    // What was said was what recognition was given: three seconds of it, at its rate.
    let upload = server.request(Endpoint::Transcriptions, 0).await.upload.unwrap();
    assert_eq!(upload.sample_rate_hz, 16_000);
    assert!(rms(&upload.samples) > AUDIBLE_RMS && upload.samples.len() > 2 * 16_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_survives_the_failure_of_every_stage() {
    let server = OpenAiServer::start().await.unwrap();
    let down = || Answer::error(500, "server_error", "Down.").header("retry-after", "0");
    let refused = || Answer::error(400, "invalid_request_error", "No.");
    server.answer(
        Endpoint::Transcriptions,
        [
            down(),
            down(),
            down(),
            Answer::transcript("One."),
            Answer::transcript("Two."),
            Answer::transcript("Three."),
        ],
    );
    server.answer(
        Endpoint::Chat,
        [
            down(),
            down(),
            down(),
            Answer::chat(["Fine."]),
            Answer::chat(["Still here."]),
        ],
    );
    let voice = || Answer::speech(&tone(600.0, 500));
    // Greeting, two apologies of two sentences each; then a sentence that cannot be spoken.
    let spoken_well = std::iter::repeat_with(voice).take(5);
    server.answer(Endpoint::Speech, spoken_well.chain([refused()]));
    server.otherwise(Endpoint::Speech, voice());
    let line = Line::new(&server, "call-failures", &[]).await;

    let steps = vec![
        Step::answer(),
        say("cards-001.wav"),
        Step::answer(),
        say("cards-001.wav"),
        Step::answer(),
        say("cards-001.wav"),
        Step::Silence(Duration::from_secs(3)),
        say("cards-001.wav"),
        Step::answer(),
    ];
    let (report, rows) = line.call(steps).await;

    assert!(!report.ended_by_agent, "nothing of this ends a call");
    assert_eq!(
        spoken(&rows),
        [
            ("assistant", "Good morning."),
            // Recognition failed: the caller is asked to repeat.
            ("assistant", APOLOGY),
            // The model failed.
            ("user", "One."),
            ("assistant", APOLOGY),
            // The voice failed: nothing was heard, so nothing was said.
            ("user", "Two."),
            ("user", "Three."),
            ("assistant", "Still here."),
        ]
    );
    let unspoken = server.request(Endpoint::Speech, 5).await;
    assert_eq!(unspoken.json["input"], json!("Fine."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ears_and_voice_may_stay_local_while_the_words_come_from_elsewhere() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Chat, Answer::chat(["The kitchen is open", " every evening."]));
    let local = [
        ("provider", "local"),
        ("llm_provider", "openai"),
        ("stt_model", ""),
        ("tts_model", ""),
    ];
    let line = Line::new(&server, "call-mixed", &local).await;

    let steps = vec![Step::answer(), say("austen-0880.wav"), Step::answer()];
    let (report, rows) = line.call(steps).await;

    let understood = server.request(Endpoint::Chat, 0).await.json["messages"][2].clone();
    let understood = understood["content"].as_str().unwrap().to_owned();
    assert!(
        word_error_rate("he was not an ill disposed young man", &understood) <= 0.3,
        "{understood}"
    );
    assert!(server.requests(Endpoint::Speech).is_empty() && server.requests(Endpoint::Transcriptions).is_empty());
    let answer = &report.heard[report.said[0].to * TICK_SAMPLES..];
    assert!(
        answer
            .chunks(TICK_SAMPLES)
            .filter(|packet| rms(packet) > AUDIBLE_RMS)
            .count()
            > 25
    );
    assert_eq!(
        spoken(&rows),
        [
            ("assistant", "Good morning."),
            ("user", understood.as_str()),
            ("assistant", "The kitchen is open every evening."),
        ]
    );
}
