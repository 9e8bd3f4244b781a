//! What goes wrong is reported once, in words that help, and counted; what may pass is tried again first.

use serde_json::json;
use voxray_testkit::openai::{Answer, Endpoint, Gate, OpenAiServer, tone};

use crate::support::{Agent, failure};

const STAGES: [(&str, Endpoint); 3] = [
    ("stt", Endpoint::Transcriptions),
    ("llm", Endpoint::Chat),
    ("tts", Endpoint::Speech),
];

/// Asks one stage for something; what keeps it going is returned.
async fn ask(agent: &Agent, endpoint: Endpoint) -> Box<dyn Send> {
    match endpoint {
        Endpoint::Transcriptions => Box::new(agent.hear((0..8_000).collect()).await),
        Endpoint::Chat => Box::new(agent.ask()),
        Endpoint::Speech => Box::new(agent.say("Hello.")),
    }
}

/// The beginning of a good answer.
fn beginning(endpoint: Endpoint) -> Answer {
    match endpoint {
        Endpoint::Transcriptions => Answer::of_type("text/event-stream").transcript_delta("Ten"),
        Endpoint::Chat => Answer::chat_beginning(["Yes"]),
        Endpoint::Speech => Answer::speech(&tone(440.0, 200)),
    }
}

struct Case {
    name: &'static str,
    answer: Answer,
    message: &'static str,
    kind: &'static str,
    attempts: usize,
}

fn refusals() -> Vec<Case> {
    let case = |name, answer, message, kind, attempts| Case {
        name,
        answer,
        message,
        kind,
        attempts,
    };
    let quota = "insufficient_quota";
    let busy = |seconds| Answer::error(429, "rate_limit_exceeded", "Slow down.").header("retry-after", seconds);
    vec![
        case(
            "key",
            Answer::error(401, "invalid_api_key", "Incorrect key."),
            "OPENAI_API_KEY",
            "refused",
            1,
        ),
        case(
            "model",
            Answer::error(404, "model_not_found", "No such model."),
            "model's name",
            "refused",
            1,
        ),
        case(
            "request",
            Answer::error(400, "invalid_request_error", "Too loud."),
            "Too loud.",
            "refused",
            1,
        ),
        case("rate", busy("0"), "Slow down.", "rate_limit", 3),
        case("patience", busy("30"), "429", "rate_limit", 1),
        case(
            "quota",
            Answer::error(429, quota, "Pay first."),
            "Pay first.",
            "rate_limit",
            1,
        ),
        case(
            "server",
            Answer::error(500, "server_error", "Oops.").header("retry-after", "0"),
            "Oops.",
            "server",
            3,
        ),
        case(
            "overload",
            Answer::error(503, "overloaded", "Busy.").header("retry-after", "0"),
            "Busy.",
            "server",
            3,
        ),
    ]
}

#[tokio::test]
async fn a_refused_request_is_reported_once_in_words_that_help() {
    for (stage, endpoint) in STAGES {
        for case in refusals() {
            let server = OpenAiServer::start().await.unwrap();
            server.otherwise(endpoint, case.answer);
            let mut agent = Agent::new(&server, &format!("{stage}-refused-{}", case.name)).await;

            let _asked = ask(&agent, endpoint).await;
            let why = failure(agent.next().await);

            let named = &agent.name;
            assert!(why.contains(case.message), "{named}: {why}");
            assert_eq!(server.requests(endpoint).len(), case.attempts, "{named}");
            let errors = format!("{stage}_errors_total");
            assert_eq!(agent.counted(&errors, Some(case.kind)), 1, "{named}");
            assert_eq!(agent.counted(&errors, None), 1, "{named}");
            let retries = agent.counted(&format!("{stage}_retries_total"), None);
            assert_eq!(retries, case.attempts as u64 - 1, "{named}");
            assert_eq!(agent.ended().await.len(), 0, "one failure is enough");
        }
    }
}

#[tokio::test]
async fn a_provider_that_recovers_is_not_noticed() {
    for (stage, endpoint) in STAGES {
        let server = OpenAiServer::start().await.unwrap();
        let busy = Answer::error(503, "overloaded", "Busy.").header("retry-after", "0");
        let good = match endpoint {
            Endpoint::Transcriptions => Answer::transcript("Ten."),
            Endpoint::Chat => Answer::chat(["Yes."]),
            Endpoint::Speech => Answer::speech(&tone(440.0, 100)),
        };
        server.answer(endpoint, [busy.clone(), busy, good]);
        let mut agent = Agent::new(&server, &format!("{stage}-recovers")).await;

        let _asked = ask(&agent, endpoint).await;
        let first = agent.next().await;

        assert!(!format!("{first:?}").contains("Failed"), "{first:?}");
        assert_eq!(agent.counted(&format!("{stage}_errors_total"), None), 0);
        assert_eq!(agent.counted(&format!("{stage}_retries_total"), None), 2);
        let requests = server.requests(endpoint);
        assert!(requests.iter().all(|request| request.json == requests[0].json));
        assert!(requests.iter().all(|request| request.upload == requests[0].upload));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_fails_and_is_not_tried_again() {
    for (stage, endpoint) in STAGES {
        let server = OpenAiServer::start().await.unwrap();
        let gate = Gate::new();
        server.otherwise(endpoint, beginning(endpoint).hold(gate.hold()).cut());
        let mut agent = Agent::new(&server, &format!("{stage}-cut")).await;

        let _asked = ask(&agent, endpoint).await;
        // The first piece has arrived before the connection goes.
        agent.next().await;
        gate.open();
        let why = last(&mut agent).await;

        assert!(why.contains("broke off"), "{why}");
        assert_eq!(agent.counted(&format!("{stage}_errors_total"), Some("connection")), 1);
        assert_eq!(server.requests(endpoint).len(), 1);
        assert_eq!(agent.ended().await.len(), 0);
    }
}

/// The failure behind whatever was reported before it.
async fn last(agent: &mut Agent) -> String {
    loop {
        let input = agent.next().await;
        if format!("{input:?}").contains("Failed") {
            return failure(input);
        }
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_given_up() {
    for (stage, endpoint) in STAGES {
        let server = OpenAiServer::start().await.unwrap();
        server.otherwise(endpoint, Answer::silence());
        let mut agent = Agent::new(&server, &format!("{stage}-silent")).await;

        let _asked = ask(&agent, endpoint).await;
        server.request(endpoint, 0).await;
        // From here on nothing but time passes.
        tokio::time::pause();
        let why = failure(agent.next().await);
        tokio::time::resume();

        assert!(why.contains("sent nothing for"), "{why}");
        assert_eq!(agent.counted(&format!("{stage}_errors_total"), Some("timeout")), 1);
        assert_eq!(server.requests(endpoint).len(), 1);
    }
}

#[tokio::test]
async fn a_provider_that_falls_silent_in_the_middle_is_given_up() {
    for (stage, endpoint) in STAGES {
        let server = OpenAiServer::start().await.unwrap();
        server.otherwise(endpoint, beginning(endpoint).hold(Gate::new().hold()));
        let mut agent = Agent::new(&server, &format!("{stage}-stalls")).await;

        let _asked = ask(&agent, endpoint).await;
        agent.next().await;
        tokio::time::pause();
        let why = last(&mut agent).await;
        tokio::time::resume();

        assert!(why.contains("sent nothing for"), "{why}");
        assert_eq!(agent.counted(&format!("{stage}_errors_total"), Some("timeout")), 1);
    }
}

#[tokio::test]
async fn a_transcript_whose_document_never_ends_is_given_up() {
    let server = OpenAiServer::start().await.unwrap();
    let answer = Answer::of_type("application/json")
        .raw("{\"text\":")
        .hold(Gate::new().hold());
    server.otherwise(Endpoint::Transcriptions, answer);
    let mut agent = Agent::new(&server, "stt-document-stalls").await;

    let _asked = ask(&agent, Endpoint::Transcriptions).await;
    server.request(Endpoint::Transcriptions, 0).await;
    tokio::time::pause();
    let why = failure(agent.next().await);

    assert!(why.contains("sent nothing for"), "{why}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for (stage, endpoint) in STAGES {
        let name = format!("{stage}-nobody");
        let config = crate::support::config(&format!("http://user:secret@{address}/v1"), &name, &[]);
        let mut agent = Agent::with(config, &name).await;

        let _asked = ask(&agent, endpoint).await;
        let why = failure(agent.next().await);

        assert!(why.contains(&address) && why.contains("refused"), "{why}");
        assert!(!why.contains("secret"), "{why}");
        assert_eq!(agent.counted(&format!("{stage}_errors_total"), Some("connection")), 1);
        assert_eq!(agent.counted(&format!("{stage}_retries_total"), None), 2);
    }
}

#[tokio::test]
async fn what_the_api_does_not_define_is_a_failure() {
    let sse = || Answer::of_type("text/event-stream");
    let oops = json!({"error": {"message": "The model fell over.", "type": "server_error"}});
    let cases = [
        (
            "json",
            Endpoint::Chat,
            sse().raw("data: {oops\n\n"),
            "chunk",
            "malformed",
        ),
        (
            "utf8",
            Endpoint::Chat,
            sse().raw(&b"data: \xff\xff\n\n"[..]),
            "UTF-8",
            "malformed",
        ),
        (
            "no-end",
            Endpoint::Chat,
            Answer::chat_beginning([]),
            "without an end",
            "malformed",
        ),
        (
            "reported",
            Endpoint::Chat,
            sse().event(&oops),
            "The model fell over.",
            "server",
        ),
        (
            "json",
            Endpoint::Transcriptions,
            sse().raw("data: {oops\n\n"),
            "event",
            "malformed",
        ),
        (
            "no-end",
            Endpoint::Transcriptions,
            sse().raw("data: [DONE]\n\n"),
            "without an end",
            "malformed",
        ),
        (
            "reported",
            Endpoint::Transcriptions,
            sse().event(&oops),
            "The model fell over.",
            "server",
        ),
        (
            "html",
            Endpoint::Transcriptions,
            Answer::of_type("text/html").raw("<html>"),
            "no transcript",
            "malformed",
        ),
        (
            "html",
            Endpoint::Speech,
            Answer::of_type("text/html").raw("<html>"),
            "text/html",
            "malformed",
        ),
    ];
    for (name, endpoint, answer, message, kind) in cases {
        let (stage, _) = STAGES.into_iter().find(|(_, of)| *of == endpoint).unwrap();
        let server = OpenAiServer::start().await.unwrap();
        server.otherwise(endpoint, answer);
        let mut agent = Agent::new(&server, &format!("{stage}-undefined-{name}")).await;

        let _asked = ask(&agent, endpoint).await;
        let why = last(&mut agent).await;

        assert!(why.contains(message), "{stage} {name}: {why}");
        assert_eq!(
            agent.counted(&format!("{stage}_errors_total"), Some(kind)),
            1,
            "{stage} {name}"
        );
        assert_eq!(agent.ended().await.len(), 0);
    }
}

#[tokio::test]
async fn an_answer_without_an_end_does_not_fill_the_memory() {
    let server = OpenAiServer::start().await.unwrap();
    let start = Answer::of_type("text/event-stream").raw("data: ");
    let line = (0..4).fold(start, |answer, _| answer.raw(vec![b'x'; 100_000]));
    let start = Answer::of_type("audio/pcm");
    let audio = (0..80).fold(start, |answer, _| answer.raw(vec![0; 100_000]));
    server.otherwise(Endpoint::Chat, line);
    server.otherwise(Endpoint::Speech, audio);
    let mut agent = Agent::new(&server, "llm-endless").await;

    for endpoint in [Endpoint::Chat, Endpoint::Speech] {
        let _asked = ask(&agent, endpoint).await;
        assert!(last(&mut agent).await.contains("more than"));
    }
}
