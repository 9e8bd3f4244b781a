//! A caller who is put through to somebody else, and comes back when nobody takes them.

use crate::harness::*;
use media_core::conversation::*;

/// How long it may ring.
const RING: u64 = 50_000;

/// A call in which the model has just had the caller put through.
fn put_through() -> (Call, ReplyId) {
    let transfer = Tool {
        name: "transfer_call".to_owned(),
        description: String::new(),
        parameters: serde_json::Value::Null,
        after_speech: true,
    };
    let mut call = Call::new(Settings {
        tools: vec![transfer],
        idle_prompt_after: Some(ms(5_000)),
        ..settings()
    });
    call.say("Give me a person.");
    let reply = call.last_reply();
    call.input(Input::Llm(reply, LlmEvent::Text("One moment.".to_owned())));
    call.call_tool("t", "transfer_call");
    call.input(Input::Llm(reply, LlmEvent::Done));
    call.advance(ms(2_000));
    assert_eq!(call.count(|output| matches!(output, Output::CallTool { .. })), 1);
    let tool = Some((reply, "t".to_owned()));
    call.input(Input::PutThrough { tool, wait: ms(RING) });
    (call, reply)
}

fn hung_up(call: &Call) -> Option<EndReason> {
    call.find_last(|output| match output {
        Output::HangUp(reason) => Some(reason.clone()),
        _ => None,
    })
}

#[test]
fn while_it_rings_the_agent_neither_speaks_nor_listens() {
    let (mut call, _) = put_through();
    let (frames, requests) = (call.frames().len(), call.requests());
    call.input(Input::LineCut);
    call.speech(ms(2_000));
    call.silence(ms(8_000));
    call.input(Input::Dtmf('1'));
    call.advance(ms(5_000));
    assert_eq!((call.frames().len(), call.requests()), (frames, requests));
    assert_eq!(hung_up(&call), None);
}

#[test]
fn somebody_who_says_nothing_about_it_has_taken_the_caller() {
    let (mut call, _) = put_through();
    call.input(Input::LineCut);
    call.advance(ms(RING - 1));
    assert_eq!(hung_up(&call), None);
    call.advance(ms(1));
    assert_eq!(hung_up(&call), Some(EndReason::Transferred));
    assert_eq!(call.rows(), [user_row("Give me a person."), agent_row("One moment.")]);
}

#[test]
fn a_caller_who_was_taken_is_not_waited_for() {
    let (mut call, _) = put_through();
    call.advance(ms(7_000));
    call.input(Input::EndRequested {
        reason: EndReason::Transferred,
        last_words: None,
    });
    assert_eq!(hung_up(&call), Some(EndReason::Transferred));
}

#[test]
fn a_caller_whom_nobody_takes_is_told_so_by_the_agent_when_they_are_back() {
    let (mut call, _) = put_through();
    call.input(Input::LineCut);
    call.advance(ms(30_000));
    call.input(Input::NotPutThrough("no answer".to_owned()));
    let messages = call.asked();
    let Some(Message::ToolResult { call_id, content }) = messages.last() else {
        panic!("{messages:?}")
    };
    assert_eq!(call_id, "t");
    assert_eq!(content, "error: the caller could not be put through: no answer");
    let frames = call.frames().len();
    call.answer("Nobody is there.");
    call.advance(ms(1_000));
    assert_eq!(call.frames().len(), frames, "the line is not back yet");

    call.input(Input::LineBack);
    call.advance(ms(3_000));
    let said = agent_row("One moment. Nobody is there.");
    assert_eq!(call.rows(), [user_row("Give me a person."), said]);
    call.say("Then take a message.");
    assert_eq!(call.asked().last(), Some(&user("Then take a message.")));
    call.advance(ms(RING));
    assert_eq!(hung_up(&call), None, "the wait is over");
}

#[test]
fn a_line_that_is_back_says_enough() {
    let (mut call, _) = put_through();
    call.input(Input::LineCut);
    call.advance(ms(20_000));
    call.input(Input::LineBack);
    let Some(Message::ToolResult { content, .. }) = call.asked().pop() else {
        panic!("{:?}", call.asked())
    };
    assert!(content.starts_with("error:"), "{content}");
    // Whatever is reported later is known.
    let requests = call.requests();
    call.input(Input::NotPutThrough("busy".to_owned()));
    assert_eq!(call.requests(), requests);
}

#[test]
fn a_transfer_from_outside_that_nobody_takes_is_explained_too() {
    let mut call = Call::new(settings());
    call.say("Are you there?");
    call.answer("I am here, and I will be here all day long.");
    call.advance(ms(500));
    call.input(Input::PutThrough {
        tool: None,
        wait: ms(RING),
    });
    call.advance(ms(10_000));
    call.input(Input::NotPutThrough("busy".to_owned()));
    let messages = call.asked();
    let [
        ..,
        Message::Assistant { tool_calls, .. },
        Message::ToolResult { call_id, content },
    ] = &messages[..]
    else {
        panic!("{messages:?}")
    };
    assert_eq!(
        (&tool_calls[0].id, tool_calls[0].name.as_str()),
        (call_id, "transfer_call")
    );
    assert!(content.ends_with("busy"), "{content}");
    call.answer("They are busy.");
    call.advance(ms(2_000));
    assert_eq!(call.rows().last(), Some(&agent_row("They are busy.")));
}

#[test]
fn a_transfer_that_was_withdrawn_interrupts_nothing() {
    let mut call = Call::new(settings());
    call.say("Hello?");
    call.answer("Hello, what can I do for you?");
    call.advance(ms(300));
    call.input(Input::PutThrough {
        tool: None,
        wait: ms(RING),
    });
    call.advance(ms(2_000));
    call.input(Input::TransferWithdrawn);
    call.advance(ms(5_000));
    assert_eq!(
        call.rows(),
        [user_row("Hello?"), agent_row("Hello, what can I do for you?")]
    );
    assert_eq!(call.requests(), 1);
}

#[test]
fn a_call_may_be_ended_while_it_rings() {
    let (mut call, _) = put_through();
    call.input(Input::EndRequested {
        reason: EndReason::Requested,
        last_words: Some("Goodbye.".to_owned()),
    });
    assert_eq!(hung_up(&call), Some(EndReason::Requested));
}
