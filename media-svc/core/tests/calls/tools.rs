//! Tool calls and their rounds.

use crate::harness::*;
use media_core::conversation::*;

fn result(reply: ReplyId, id: &str, content: &str) -> Input {
    Input::ToolResult {
        reply,
        call_id: id.to_owned(),
        content: content.to_owned(),
    }
}

#[test]
fn the_model_is_asked_again_when_all_tools_have_answered() {
    let mut call = Call::new(settings());
    call.say("What is the weather and the time?");
    let reply = call.last_reply();
    call.input(Input::Llm(reply, LlmEvent::Text("Let me see.".to_owned())));
    call.call_tool("a", "weather");
    call.call_tool("b", "time");
    assert_eq!(call.count(|output| matches!(output, Output::CallTool { .. })), 2);
    call.input(result(reply, "b", "noon"));
    call.input(Input::Llm(reply, LlmEvent::Done));
    assert_eq!(call.requests(), 1);
    call.input(result(reply, "a", "sunny"));
    assert_eq!(call.requests(), 2);

    let messages = call.asked();
    assert_eq!(messages[0], user("What is the weather and the time?"));
    let Message::Assistant { text, tool_calls } = &messages[1] else {
        panic!("{messages:?}")
    };
    assert_eq!((text.as_str(), tool_calls.len()), ("Let me see.", 2));
    assert_eq!(
        messages[2],
        Message::ToolResult {
            call_id: "a".into(),
            content: "sunny".into()
        }
    );
    assert_eq!(
        messages[3],
        Message::ToolResult {
            call_id: "b".into(),
            content: "noon".into()
        }
    );

    call.answer("It is sunny at noon.");
    call.advance(ms(4_000));
    let row = agent_row("Let me see. It is sunny at noon.");
    assert_eq!(call.rows(), [user_row("What is the weather and the time?"), row]);
    call.say("Thanks.");
    assert_eq!(call.asked()[4..], [agent("It is sunny at noon."), user("Thanks.")]);
}

#[test]
fn a_model_that_goes_in_circles_is_stopped() {
    let mut call = Call::new(settings());
    call.say("Loop.");
    while call.count(|output| matches!(output, Output::Notice(Notice::StageFailed { stage: "llm", .. }))) == 0 {
        let reply = call.call_tool("again", "loop");
        call.input(Input::Llm(reply, LlmEvent::Done));
        call.input(result(reply, "again", "once more"));
    }
    assert_eq!(call.requests(), 8);
    call.advance(ms(5_000));
    assert_eq!(
        call.rows().last(),
        Some(&agent_row("Sorry, I am having trouble. Could you say that again?"))
    );
}

#[test]
fn answers_for_unknown_calls_are_ignored() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    let reply = call.call_tool("a", "tool");
    let outputs = call.log.len();
    call.input(result(reply, "b", "?"));
    call.input(result(ReplyId(99), "a", "?"));
    assert_eq!(call.log.len(), outputs);
}

#[test]
fn an_answer_without_words_still_records_the_question() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    let reply = call.last_reply();
    call.input(Input::Llm(reply, LlmEvent::Done));
    assert_eq!(call.rows(), [user_row("Hi.")]);
}

/// A tool that runs when the words before it were heard.
fn put_through() -> Settings {
    Settings {
        tools: vec![Tool {
            name: "transfer_call".to_owned(),
            description: String::new(),
            parameters: serde_json::json!({}),
            after_speech: true,
        }],
        ..settings()
    }
}

fn ran(call: &Call) -> bool {
    call.count(|output| matches!(output, Output::CallTool { .. })) > 0
}

#[test]
fn a_transfer_waits_until_the_caller_has_heard_of_it() {
    for marks in [false, true] {
        let mut call = Call::new(Settings {
            far_end_marks: marks,
            ..put_through()
        });
        call.echo_marks = marks.then(|| ms(150));
        call.say("A person, please.");
        let reply = call.last_reply();
        call.input(Input::Llm(reply, LlmEvent::Text("I will put you through.".to_owned())));
        call.call_tool("t", "transfer_call");
        call.input(Input::Llm(reply, LlmEvent::Done));
        // 23 characters at 50 ms.
        call.advance(ms(1_100));
        assert!(!ran(&call));
        call.advance(ms(300));
        assert!(ran(&call));
        call.input(result(reply, "t", "error: nobody answers"));
        assert_eq!(call.requests(), 2);
    }
}

#[test]
fn a_transfer_without_words_runs_at_once() {
    let mut call = Call::new(put_through());
    call.say("A person, please.");
    let reply = call.call_tool("t", "transfer_call");
    call.input(Input::Llm(reply, LlmEvent::Done));
    assert!(ran(&call));
}

#[test]
fn a_caller_who_objects_in_time_is_not_transferred() {
    let mut call = Call::new(put_through());
    call.say("A person, please.");
    let reply = call.last_reply();
    call.input(Input::Llm(reply, LlmEvent::Text("I will put you through.".to_owned())));
    call.call_tool("t", "transfer_call");
    call.input(Input::Llm(reply, LlmEvent::Done));
    call.advance(ms(500));
    call.say("No, wait.");
    call.answer("I am listening.");
    call.advance(ms(3_000));
    assert!(!ran(&call));
}

#[test]
fn a_transferred_call_is_over_at_once() {
    let mut call = Call::new(settings());
    call.say("A person, please.");
    call.input(Input::EndRequested {
        reason: EndReason::Transferred,
        last_words: None,
    });
    assert!(call.has(&Output::HangUp(EndReason::Transferred)));
}
