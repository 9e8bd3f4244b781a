//! A caller who pauses in mid-sentence is answered once, with all of it.

use crate::harness::*;
use media_core::conversation::*;

#[test]
fn speech_that_goes_on_before_the_final_text_is_one_turn() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.silence(ms(600));
    call.speech(ms(300));
    call.input(Input::Stt(UtteranceId(1), SttEvent::Final("I would like".to_owned())));
    assert_eq!(call.requests(), 0);
    call.silence(ms(600));
    call.understood("to leave a message.");
    assert_eq!(call.requests(), 1);
    assert_eq!(call.asked(), [user("I would like to leave a message.")]);
}

#[test]
fn texts_are_joined_in_the_order_spoken_even_when_the_second_is_understood_first() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.silence(ms(600));
    call.speech(ms(300));
    call.silence(ms(600));
    call.understood("to leave a message.");
    assert_eq!(call.requests(), 0);
    call.input(Input::Stt(UtteranceId(1), SttEvent::Final("I would like".to_owned())));
    assert_eq!(call.asked(), [user("I would like to leave a message.")]);
}

#[test]
fn a_reply_under_way_is_dropped_when_the_caller_goes_on() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("I would like");
    let first = call.last_reply();
    call.input(Input::Llm(
        first,
        LlmEvent::Text("Sure, what would you like? ".to_owned()),
    ));
    let speech = call.last_speech();
    call.speech(ms(200));
    assert!(call.has(&Output::CancelReply(first)));
    assert!(call.has(&Output::CancelSpeech(speech)));
    call.silence(ms(600));
    call.understood("a table for two.");
    assert_eq!(call.asked(), [user("I would like a table for two.")]);

    call.voice = Some(ms(50));
    call.answer("For when?");
    call.advance(ms(2_000));
    assert_eq!(
        call.rows(),
        [user_row("I would like a table for two."), agent_row("For when?")]
    );
}

#[test]
fn a_cough_while_the_model_thinks_loses_nothing() {
    let mut call = Call::new(settings());
    call.say("What is the price?");
    call.speech(ms(300));
    call.silence(ms(600));
    call.understood("");
    assert_eq!(call.requests(), 2);
    assert_eq!(call.asked(), [user("What is the price?")]);
}

#[test]
fn a_turn_of_which_no_word_was_heard_is_still_joined() {
    let mut call = Call::new(settings());
    call.say("I would like");
    call.speech(ms(180));
    call.answer("Extraordinarily nice of you.");
    call.speech(ms(20));
    assert_eq!(call.count(|output| matches!(output, Output::ClearPlayback { .. })), 1);
    call.silence(ms(600));
    call.understood("a table.");
    assert_eq!(call.asked(), [user("I would like a table.")]);
    call.answer("Fine.");
    call.advance(ms(1_000));
    assert_eq!(call.rows(), [user_row("I would like a table."), agent_row("Fine.")]);
}

#[test]
fn tools_called_before_the_caller_went_on_stay_called() {
    let mut call = Call::new(settings());
    call.say("Book a table");
    let reply = call.call_tool("call_1", "book");
    call.input(Input::Llm(reply, LlmEvent::Done));
    call.speech(ms(300));
    call.silence(ms(600));
    call.understood("for two.");
    let messages = call.asked();
    assert_eq!(messages.first(), Some(&user("Book a table")));
    assert!(matches!(&messages[1], Message::Assistant { tool_calls, .. } if tool_calls.len() == 1));
    assert!(matches!(&messages[2], Message::ToolResult { call_id, .. } if call_id == "call_1"));
    assert_eq!(messages.last(), Some(&user("for two.")));

    // The answer that comes late is there the next time.
    call.input(Input::ToolResult {
        reply,
        call_id: "call_1".into(),
        content: "booked".into(),
    });
    call.answer("Done.");
    call.advance(ms(1_000));
    call.say("Thanks.");
    let result = Message::ToolResult {
        call_id: "call_1".into(),
        content: "booked".into(),
    };
    assert!(call.asked().contains(&result));
    assert_eq!(call.rows()[0], user_row("Book a table for two."));
}

#[test]
fn an_open_turn_is_recorded_when_the_call_ends() {
    let mut call = Call::new(settings());
    call.say("Tell her I called.");
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    assert_eq!(call.rows(), [user_row("Tell her I called.")]);
    assert!(call.has(&Output::HangUp(EndReason::CallerHungUp)));
}
