//! Chat completions.

use media_core::conversation::{LlmEvent, Message, ToolCall};
use serde_json::json;
use voxray_testkit::openai::{Answer, Endpoint, Gate, OpenAiServer, Outcome};

use crate::support::Agent;

fn end_call(arguments: &str) -> ToolCall {
    ToolCall {
        id: "call_1".to_owned(),
        name: "end_call".to_owned(),
        arguments: arguments.to_owned(),
    }
}

#[tokio::test]
async fn a_request_holds_model_history_and_tools_as_documented() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Chat, Answer::chat(["Hi."]));
    let mut agent = Agent::new(&server, "llm-shape").await;
    super::support::set_key(&agent.config, "sk-1");

    let _asked = agent.ask_with(vec![
        Message::System("Be brief.".to_owned()),
        Message::User("Bye.".to_owned()),
        Message::Assistant {
            text: "Goodbye.".to_owned(),
            tool_calls: vec![end_call("{}")],
        },
        Message::ToolResult {
            call_id: "call_1".to_owned(),
            content: "done".to_owned(),
        },
    ]);
    agent.reply().await;

    let request = server.request(Endpoint::Chat, 0).await;
    assert_eq!(request.authorization(), Some("Bearer sk-1"));
    let function = json!({"name": "end_call", "description": "Ends the call.", "parameters": {"type": "object"}});
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "end_call", "arguments": "{}"}});
    let expected = json!({
        "model": "llm-shape",
        "stream": true,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Bye."},
            {"role": "assistant", "content": "Goodbye.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "done"},
        ],
        "tools": [{"type": "function", "function": function}],
    });
    assert_eq!(request.json, expected);
}

#[tokio::test]
async fn the_first_text_is_reported_while_the_rest_is_still_being_written() {
    let server = OpenAiServer::start().await.unwrap();
    let gate = Gate::new();
    let answer = Answer::chat_beginning(["One"])
        .hold(gate.hold())
        .text(" two")
        .chat_end("stop");
    server.otherwise(Endpoint::Chat, answer);
    let mut agent = Agent::new(&server, "llm-pieces").await;

    let _asked = agent.ask();

    assert_eq!(agent.next_llm().await, LlmEvent::Text("One".to_owned()));
    gate.open();
    assert_eq!(agent.next_llm().await, LlmEvent::Text(" two".to_owned()));
    assert_eq!(agent.next_llm().await, LlmEvent::Done);
    assert_eq!(agent.counted("llm_time_to_first_token_seconds_count", None), 1);
    assert_eq!(agent.counted("llm_generation_latency_seconds_count", None), 1);
    assert_eq!(agent.ended().await.len(), 0, "nothing follows the end");
}

#[tokio::test]
async fn a_tool_call_is_put_together_from_its_pieces() {
    let server = OpenAiServer::start().await.unwrap();
    let answer = Answer::chat_beginning(["Bye."])
        .tool_call(0, "call_1", "end_call", &["{\"why\"", ":\"done\"", "}"])
        .tool_call(1, "call_2", "look_up", &["{}"])
        .chat_end("tool_calls");
    server.otherwise(Endpoint::Chat, answer);
    let mut agent = Agent::new(&server, "llm-tools").await;

    let _asked = agent.ask();
    let (said, rest) = agent.reply().await;

    assert_eq!(said, "Bye.");
    let second = ToolCall {
        id: "call_2".to_owned(),
        name: "look_up".to_owned(),
        arguments: "{}".to_owned(),
    };
    let first = end_call("{\"why\":\"done\"}");
    assert_eq!(
        rest,
        [LlmEvent::ToolCall(first), LlmEvent::ToolCall(second), LlmEvent::Done]
    );
}

#[tokio::test]
async fn an_answer_may_be_cut_at_any_byte() {
    let server = OpenAiServer::start().await.unwrap();
    let mut agent = Agent::new(&server, "llm-bytes").await;
    let whole = || {
        Answer::of_type("text/event-stream")
            .raw(": keep-alive\n\n")
            .raw("data: {\"choices\":[{\"delta\":{\"content\":\"Grüße, 世界 👋\"}}]}\n\n")
            .raw("data: {\"choices\":[{\"delta\":{\"content\":\" é\"},\"finish_reason\":null}]}\n\n")
            .chat_end("stop")
    };
    for size in 1..=40 {
        for answer in [whole(), whole().with_crlf()] {
            server.answer(Endpoint::Chat, [answer.in_chunks_of(size)]);

            let _asked = agent.ask();
            let (said, rest) = agent.reply().await;

            assert_eq!(
                (said.as_str(), rest),
                ("Grüße, 世界 👋 é", vec![LlmEvent::Done]),
                "{size}"
            );
        }
    }
}

#[tokio::test]
async fn servers_may_leave_out_or_null_what_they_do_not_use() {
    let server = OpenAiServer::start().await.unwrap();
    let answer = Answer::of_type("text/event-stream")
        .event(&json!({"choices": [{"delta": {"role": "assistant", "content": null, "tool_calls": null}}]}))
        .event(&json!({"choices": [{"delta": {"content": "Yes."}}]}))
        .event(&json!({"choices": null}))
        .event(&json!({"choices": [{"delta": null, "finish_reason": "stop"}]}));
    server.otherwise(Endpoint::Chat, answer);
    let mut agent = Agent::new(&server, "llm-lenient").await;

    let _asked = agent.ask();

    assert_eq!(agent.reply().await, ("Yes.".to_owned(), vec![LlmEvent::Done]));
}

#[tokio::test]
async fn a_refusal_is_spoken() {
    let server = OpenAiServer::start().await.unwrap();
    let refusal = json!({"choices": [{"delta": {"refusal": "I cannot help with that."}}]});
    let answer = Answer::of_type("text/event-stream").event(&refusal).chat_end("stop");
    server.otherwise(Endpoint::Chat, answer);
    let mut agent = Agent::new(&server, "llm-refusal").await;

    let _asked = agent.ask();

    assert_eq!(agent.reply().await.0, "I cannot help with that.");
}

#[tokio::test]
async fn half_a_tool_call_is_never_run() {
    let server = OpenAiServer::start().await.unwrap();
    let half = Answer::chat_beginning([]).tool_call(0, "call_1", "end_call", &["{"]);
    server.answer(Endpoint::Chat, [half.clone().cut(), half]);
    let mut agent = Agent::new(&server, "llm-half").await;

    for _ in 0..2 {
        let _asked = agent.ask();
        let (_, rest) = agent.reply().await;
        assert!(matches!(rest.as_slice(), [LlmEvent::Failed(_)]), "{rest:?}");
    }
}

#[tokio::test]
async fn letting_go_of_a_reply_closes_its_connection() {
    let server = OpenAiServer::start().await.unwrap();
    let before_the_head = Answer::silence();
    let in_the_middle = Answer::chat_beginning(["One"]).hold(Gate::new().hold());
    server.answer(Endpoint::Chat, [in_the_middle, before_the_head]);
    let mut agent = Agent::new(&server, "llm-cancel").await;

    let asked = agent.ask();
    assert_eq!(agent.next_llm().await, LlmEvent::Text("One".to_owned()));
    drop(asked);
    assert_eq!(
        server.request(Endpoint::Chat, 0).await.outcome().await,
        Outcome::Abandoned
    );

    let asked = agent.ask();
    let request = server.request(Endpoint::Chat, 1).await;
    drop(asked);
    assert_eq!(request.outcome().await, Outcome::Abandoned);
    assert_eq!(agent.counted("llm_errors_total", None), 0, "nothing went wrong");
    assert_eq!(agent.ended().await.len(), 0);
}
