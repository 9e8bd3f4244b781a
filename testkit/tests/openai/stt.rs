//! Audio transcriptions.

use std::time::Duration;

use media_core::conversation::{Input, SttEvent, UtteranceId, Word};
use media_svc::providers::SttCommand;
use voxray_testkit::openai::{Answer, Endpoint, Gate, OpenAiServer, Outcome};

use crate::support::{Agent, UTTERANCE, config, set_key};

/// Half a second of samples that cannot be taken for one another.
fn audio() -> Vec<i16> {
    (0..8_000).collect()
}

#[tokio::test]
async fn an_utterance_is_uploaded_as_the_wav_that_was_heard() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Transcriptions, Answer::transcript("Hello."));
    let config = config(&server.base_url(), "stt-shape", &[("stt_language", "en-US")]);
    set_key(&config, "sk-1");
    let mut agent = Agent::with(config, "stt-shape").await;

    let _stt = agent.hear(audio()).await;
    assert_eq!(agent.next_stt().await, SttEvent::Final("Hello.".to_owned()));

    let request = server.request(Endpoint::Transcriptions, 0).await;
    assert_eq!(request.authorization(), Some("Bearer sk-1"));
    let upload = request.upload.unwrap();
    let field = |name: &str| upload.fields.get(name).map(String::as_str);
    assert_eq!(field("model"), Some("stt-shape"));
    assert_eq!(field("language"), Some("en"));
    assert_eq!(field("stream"), Some("true"));
    assert_eq!(field("response_format"), Some("json"));
    assert_eq!(
        (upload.file_name.as_str(), upload.content_type.as_str()),
        ("utterance.wav", "audio/wav")
    );
    assert_eq!((upload.sample_rate_hz, upload.channels), (16_000, 1));
    assert_eq!(upload.samples, audio());
    assert_eq!(agent.counted("stt_time_to_first_token_seconds_count", None), 1);
    assert_eq!(agent.counted("stt_transcription_latency_seconds_count", None), 1);
}

#[tokio::test]
async fn text_is_reported_while_the_rest_is_still_being_recognised() {
    let server = OpenAiServer::start().await.unwrap();
    let gate = Gate::new();
    let answer = Answer::of_type("text/event-stream; charset=utf-8")
        .transcript_delta("Ten")
        .hold(gate.hold())
        .transcript_delta(" of clubs")
        .event(&serde_json::json!({"type": "transcript.text.done", "text": "Ten of clubs.", "usage": {}}));
    server.otherwise(Endpoint::Transcriptions, answer);
    let mut agent = Agent::new(&server, "stt-pieces").await;

    let _stt = agent.hear(audio()).await;

    assert_eq!(agent.next_stt().await, SttEvent::Interim("Ten".to_owned()));
    gate.open();
    assert_eq!(agent.next_stt().await, SttEvent::Interim("Ten of clubs".to_owned()));
    assert_eq!(agent.next_stt().await, SttEvent::Final("Ten of clubs.".to_owned()));
    assert_eq!(agent.ended().await.len(), 0, "nothing follows the final text");
}

#[tokio::test]
async fn a_streamed_transcript_may_be_cut_at_any_byte() {
    let server = OpenAiServer::start().await.unwrap();
    let mut agent = Agent::new(&server, "stt-bytes").await;
    for size in 1..=20 {
        let answer = Answer::transcript_stream(["Grüße", " 世界"]).in_chunks_of(size);
        server.answer(Endpoint::Transcriptions, [answer]);

        let _stt = agent.hear(audio()).await;

        assert_eq!(agent.next_stt().await, SttEvent::Interim("Grüße".to_owned()));
        assert_eq!(agent.next_stt().await, SttEvent::Interim("Grüße 世界".to_owned()));
        assert_eq!(agent.next_stt().await, SttEvent::Final("Grüße 世界".to_owned()));
    }
}

#[tokio::test]
async fn whisper_is_not_asked_to_stream() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Transcriptions, Answer::transcript("Yes."));
    for (number, model) in ["whisper-1", "Systran/faster-whisper-small"].into_iter().enumerate() {
        let mut agent = Agent::new(&server, model).await;

        let _stt = agent.hear(audio()).await;

        assert_eq!(agent.next_stt().await, SttEvent::Final("Yes.".to_owned()));
        let upload = server.request(Endpoint::Transcriptions, number).await.upload.unwrap();
        assert_eq!(upload.fields.get("stream"), None);
        assert_eq!(upload.fields.get("language"), None);
    }
}

#[tokio::test]
async fn the_times_of_words_are_asked_for_where_they_are_of_use_and_the_model_knows_them() {
    let server = OpenAiServer::start().await.unwrap();
    let words = [("Call", 0.5, 0.75), ("Ada", 0.75, 1.25)];
    let timed = Answer::transcript_of_words("Call Ada.", &words);
    let impossible = Answer::transcript_of_words("Call.", &[("Call", -1.0, 0.75)]);
    server.answer(Endpoint::Transcriptions, [timed, impossible]);
    server.otherwise(Endpoint::Transcriptions, Answer::transcript("Call Ada."));
    let agent = |model: &'static str| {
        let more = [
            ("recording.enable", "true"),
            ("recording.mute_redacted", "true"),
            ("transcripts.redact", "card"),
        ];
        Agent::with(config(&server.base_url(), model, &more), model)
    };
    let form = |number| {
        let request = server.request(Endpoint::Transcriptions, number);
        async move { request.await.upload.unwrap().fields }
    };

    let mut whisper = agent("whisper-1").await;
    let _stt = whisper.hear(audio()).await;
    let word = |(text, from, to): (&str, f64, f64)| Word {
        text: text.to_owned(),
        from: Duration::from_secs_f64(from),
        to: Duration::from_secs_f64(to),
    };
    assert_eq!(whisper.next_stt().await, SttEvent::Words(words.map(word).to_vec()));
    assert_eq!(whisper.next_stt().await, SttEvent::Final("Call Ada.".to_owned()));
    let fields = form(0).await;
    assert_eq!(fields["response_format"], "verbose_json");
    assert_eq!(fields["timestamp_granularities[]"], "word");

    // Times that cannot be are none, and a server need not give any.
    for text in ["Call.", "Call Ada."] {
        let _stt = whisper.hear(audio()).await;
        assert_eq!(whisper.next_stt().await, SttEvent::Final(text.to_owned()));
    }
    let mut other = agent("gpt-4o-mini-transcribe").await;
    let _stt = other.hear(audio()).await;
    assert_eq!(other.next_stt().await, SttEvent::Final("Call Ada.".to_owned()));
    assert_eq!(form(3).await["response_format"], "json");
}

#[tokio::test]
async fn a_click_is_no_word_and_asks_nobody() {
    let server = OpenAiServer::start().await.unwrap();
    let mut agent = Agent::new(&server, "stt-click").await;

    let _stt = agent.hear(vec![1_000; 1_599]).await;

    assert_eq!(agent.next_stt().await, SttEvent::Final(String::new()));
    assert!(server.requests(Endpoint::Transcriptions).is_empty());
}

#[tokio::test]
async fn a_cancelled_utterance_closes_its_connection_and_is_silent() {
    let server = OpenAiServer::start().await.unwrap();
    server.answer(
        Endpoint::Transcriptions,
        [Answer::silence(), Answer::transcript("The next one.")],
    );
    let mut agent = Agent::new(&server, "stt-cancel").await;

    let stt = agent.hear(audio()).await;
    let request = server.request(Endpoint::Transcriptions, 0).await;
    stt.send(SttCommand::Cancel(UTTERANCE)).await.unwrap();
    assert_eq!(request.outcome().await, Outcome::Abandoned);

    // Cancelled while it is spoken: what still comes for it belongs to nobody.
    let next = UtteranceId(3);
    for command in [
        SttCommand::Begin(UtteranceId(2)),
        SttCommand::Audio(UtteranceId(2), audio()),
        SttCommand::Cancel(UtteranceId(2)),
        SttCommand::Audio(UtteranceId(2), audio()),
        SttCommand::Begin(next),
        SttCommand::Audio(next, audio()),
        SttCommand::End(next),
    ] {
        stt.send(command).await.unwrap();
    }
    assert!(
        matches!(agent.next().await, Input::Stt(id, SttEvent::Final(text)) if id == next && text == "The next one.")
    );
    let upload = server.request(Endpoint::Transcriptions, 1).await.upload.unwrap();
    assert_eq!(upload.samples, audio());
    assert_eq!(agent.counted("stt_errors_total", None), 0);
}

#[tokio::test]
async fn every_end_is_answered_even_without_a_beginning() {
    let server = OpenAiServer::start().await.unwrap();
    let mut agent = Agent::new(&server, "stt-orphan").await;

    let stt = agent.listen();
    stt.send(SttCommand::End(UTTERANCE)).await.unwrap();

    assert!(matches!(agent.next_stt().await, SttEvent::Failed(_)));
}

#[tokio::test]
async fn the_end_of_the_call_ends_its_requests() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Transcriptions, Answer::silence());
    let agent = Agent::new(&server, "stt-scope").await;

    let _stt = agent.hear(audio()).await;
    let request = server.request(Endpoint::Transcriptions, 0).await;
    assert_eq!(agent.ended().await.len(), 0);

    assert_eq!(request.outcome().await, Outcome::Abandoned);
}

#[tokio::test]
async fn turns_that_no_upload_can_hold_are_refused_when_the_server_starts() {
    let config = config(
        "http://127.0.0.1:9/v1",
        "stt-long",
        &[("turn_max_duration_secs", "900")],
    );

    let error = media_svc::providers::build(&config).await.err().unwrap();

    assert!(error.to_string().contains("turn_max_duration_secs"), "{error}");
}
