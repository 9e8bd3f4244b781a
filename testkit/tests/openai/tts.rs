//! Audio speech.

use media_core::conversation::TtsEvent;
use serde_json::json;
use voxray_testkit::openai::{Answer, Endpoint, Gate, OpenAiServer, Outcome, tone};

use crate::support::{Agent, config, frequency, set_key};

#[tokio::test]
async fn a_request_asks_for_raw_samples_of_the_configured_voice() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Speech, Answer::speech(&tone(440.0, 200)));
    let config = config(&server.base_url(), "tts-shape", &[("tts_voice", "marin")]);
    set_key(&config, "sk-1");
    let mut agent = Agent::with(config, "tts-shape").await;

    let _spoken = agent.say("Hello there.");
    agent.speech().await;

    let request = server.request(Endpoint::Speech, 0).await;
    assert_eq!(request.authorization(), Some("Bearer sk-1"));
    let expected = json!({"model": "tts-shape", "voice": "marin", "input": "Hello there.", "response_format": "pcm"});
    assert_eq!(request.json, expected);
}

#[tokio::test]
async fn the_first_audio_is_reported_while_the_rest_is_still_being_made() {
    let server = OpenAiServer::start().await.unwrap();
    let gate = Gate::new();
    let half: Vec<u8> = tone(440.0, 500)
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let answer = Answer::of_type("audio/pcm")
        .raw(half.clone())
        .hold(gate.hold())
        .raw(half);
    server.otherwise(Endpoint::Speech, answer);
    let mut agent = Agent::new(&server, "tts-pieces").await;

    let _spoken = agent.say("Hello.");

    let TtsEvent::Audio(first) = agent.next_tts().await else {
        panic!("no audio")
    };
    assert!(!first.is_empty());
    gate.open();
    let (rest, end) = agent.speech().await;
    assert_eq!(end, TtsEvent::Done);
    assert_eq!(first.len() + rest.len(), 8_000, "one second at the call's rate");
    assert_eq!(agent.counted("tts_time_to_first_audio_chunk_seconds_count", None), 1);
    assert_eq!(agent.counted("tts_synthesis_latency_seconds_count", None), 1);
}

#[tokio::test]
async fn samples_may_be_cut_in_two_between_pieces() {
    let server = OpenAiServer::start().await.unwrap();
    let mut agent = Agent::new(&server, "tts-odd").await;
    for size in [1, 3, 7, 959, 4_801] {
        server.answer(
            Endpoint::Speech,
            [Answer::speech(&tone(1_000.0, 200)).in_chunks_of(size)],
        );

        let _spoken = agent.say("Hello.");
        let (audio, end) = agent.speech().await;

        assert_eq!((audio.len(), end), (1_600, TtsEvent::Done), "{size}");
        assert!((frequency(&audio, 8_000) - 1_000.0).abs() < 10.0, "{size}");
    }
}

#[tokio::test]
async fn packaged_audio_is_refused_instead_of_played_as_noise() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Speech, Answer::of_type("audio/mpeg").raw(vec![0; 4_000]));
    let mut agent = Agent::new(&server, "tts-mpeg").await;

    let _spoken = agent.say("Hello.");
    let (audio, end) = agent.speech().await;

    assert!(audio.is_empty());
    assert!(
        matches!(&end, TtsEvent::Failed(why) if why.contains("audio/mpeg") && why.contains("pcm")),
        "{end:?}"
    );
}

#[tokio::test]
async fn an_answer_without_audio_is_a_failure() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Speech, Answer::of_type("audio/pcm"));
    let mut agent = Agent::new(&server, "tts-empty").await;

    let _spoken = agent.say("Hello.");

    assert!(matches!(agent.next_tts().await, TtsEvent::Failed(_)));
    assert_eq!(agent.counted("tts_errors_total", Some("malformed")), 1);
}

#[tokio::test]
async fn letting_go_of_speech_closes_its_connection() {
    let server = OpenAiServer::start().await.unwrap();
    let answer = Answer::speech(&tone(440.0, 200)).hold(Gate::new().hold());
    server.otherwise(Endpoint::Speech, answer);
    let mut agent = Agent::new(&server, "tts-cancel").await;

    let spoken = agent.say("Hello.");
    agent.next_tts().await;
    drop(spoken);

    assert_eq!(
        server.request(Endpoint::Speech, 0).await.outcome().await,
        Outcome::Abandoned
    );
    assert_eq!(agent.counted("tts_errors_total", None), 0);
}
