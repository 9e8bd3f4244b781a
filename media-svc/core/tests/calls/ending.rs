//! How calls end.

use crate::harness::*;
use media_core::Time;
use media_core::conversation::*;

fn end(reason: EndReason, last_words: Option<&str>) -> Input {
    Input::EndRequested {
        reason,
        last_words: last_words.map(str::to_owned),
    }
}

fn hung_up(call: &Call) -> Option<Time> {
    call.at(|output| matches!(output, Output::HangUp(_)))
}

#[test]
fn last_words_are_heard_before_the_call_ends() {
    let mut call = Call::new(settings());
    call.advance(ms(1_000));
    call.input(end(EndReason::Drained, Some("We must stop here. Goodbye.")));
    call.advance(ms(1_000));
    assert_eq!(hung_up(&call), None);
    call.advance(ms(1_000));
    assert!(call.has(&Output::HangUp(EndReason::Drained)));
    assert_eq!(call.rows(), [agent_row("We must stop here. Goodbye.")]);
}

#[test]
fn last_words_come_after_what_is_queued_and_stop_what_is_still_being_written() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    let reply = call.last_reply();
    call.input(Input::Llm(
        reply,
        LlmEvent::Text("Hello there, my friend. I was".to_owned()),
    ));
    call.input(end(EndReason::Drained, Some("Goodbye.")));
    assert!(call.has(&Output::CancelReply(reply)));
    call.advance(ms(5_000));
    assert_eq!(
        call.rows(),
        [user_row("Hi."), agent_row("Hello there, my friend. Goodbye.")]
    );
    assert!(call.has(&Output::HangUp(EndReason::Drained)));
}

#[test]
fn a_request_without_last_words_ends_the_call_at_once() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    call.answer("Hello there my dear friend.");
    call.advance(ms(500));
    call.input(end(EndReason::Requested, None));
    assert_eq!(hung_up(&call), Some(call.now));
    assert_eq!(call.rows(), [user_row("Hi."), cut_row("Hello")]);
}

#[test]
fn an_agent_that_hangs_up_finishes_its_goodbye() {
    let mut call = Call::new(settings());
    call.say("That is all.");
    let reply = call.call_tool("bye", "end_call");
    call.input(end(EndReason::AgentHungUp, None));
    call.input(Input::ToolResult {
        reply,
        call_id: "bye".into(),
        content: "ok".into(),
    });
    call.input(Input::Llm(reply, LlmEvent::Text("Thank you, goodbye.".to_owned())));
    call.input(Input::Llm(reply, LlmEvent::Done));
    assert_eq!(call.requests(), 1);
    assert_eq!(hung_up(&call), None);
    call.advance(ms(3_000));
    assert_eq!(
        call.rows(),
        [user_row("That is all."), agent_row("Thank you, goodbye.")]
    );
    assert!(call.has(&Output::HangUp(EndReason::AgentHungUp)));
}

#[test]
fn an_agent_that_hangs_up_without_a_word_just_does() {
    let mut call = Call::new(settings());
    call.say("That is all.");
    let reply = call.call_tool("bye", "end_call");
    call.input(Input::Llm(reply, LlmEvent::Done));
    call.input(end(EndReason::AgentHungUp, None));
    assert!(call.has(&Output::HangUp(EndReason::AgentHungUp)));
}

#[test]
fn the_goodbye_is_not_interrupted() {
    let mut call = Call::new(settings());
    call.input(end(EndReason::AgentHungUp, Some("Thank you for calling, goodbye.")));
    call.advance(ms(300));
    call.speech(ms(400));
    call.silence(ms(600));
    call.understood("Bye bye.");
    call.advance(ms(3_000));
    assert_eq!(
        call.rows(),
        [agent_row("Thank you for calling, goodbye."), user_row("Bye bye.")]
    );
}

#[test]
fn a_question_that_gets_no_answer_any_more_is_recorded_before_the_goodbye() {
    let mut call = Call::new(settings());
    call.say("One more thing.");
    call.input(end(EndReason::TimeLimit, Some("Time is up.")));
    call.advance(ms(3_000));
    assert_eq!(call.rows(), [user_row("One more thing."), agent_row("Time is up.")]);
}

#[test]
fn the_words_a_caller_hangs_up_on_are_in_the_transcript() {
    let mut call = Call::new(settings());
    call.speech(ms(800));
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    assert!(call.has(&Output::EndUtterance(UtteranceId(1))));
    assert_eq!(hung_up(&call), None);
    call.advance(ms(100));
    call.understood("Thanks, bye.");
    assert_eq!(hung_up(&call), Some(call.now));
    assert_eq!(call.rows(), [user_row("Thanks, bye.")]);
}

#[test]
fn the_line_is_let_go_at_once_whoever_hangs_up_on_words_that_are_still_recognised() {
    for reason in [EndReason::CallerHungUp, EndReason::AgentHungUp] {
        let mut call = Call::new(settings());
        call.speech(ms(800));
        let ended = call.now;
        call.input(match reason {
            EndReason::CallerHungUp => Input::CallerGone(reason.clone()),
            _ => end(reason.clone(), None),
        });
        let left = Output::Leave(reason.clone());
        assert_eq!(call.at(|output| *output == left), Some(ended), "{reason:?}");
        assert_eq!(hung_up(&call), None);
        call.advance(ms(5_000));
        assert_eq!(hung_up(&call), Some(ended + LAST_TEXT_WAIT), "{reason:?}");
    }
}

#[test]
fn a_call_with_nothing_to_wait_for_is_hung_up_without_being_left_first() {
    let mut call = Call::new(settings());
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    assert_eq!(hung_up(&call), Some(call.now));
    assert_eq!(call.at(|output| matches!(output, Output::Leave(_))), None);
}

#[test]
fn a_call_does_not_wait_for_ever_for_its_last_text() {
    let mut call = Call::new(settings());
    call.speech(ms(800));
    call.interim("Thanks");
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    let gone = call.now;
    call.advance(ms(5_000));
    assert_eq!(hung_up(&call), Some(gone + ms(1_500)));
    assert!(call.has(&Output::CancelUtterance(UtteranceId(1))));
    assert_eq!(call.rows(), [user_row("Thanks")]);
}

#[test]
fn a_caller_who_hangs_up_in_mid_answer_has_heard_a_part_of_it() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    call.answer("Hello there my dear friend.");
    call.advance(ms(500));
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    assert_eq!(call.rows(), [user_row("Hi."), cut_row("Hello")]);
    assert_eq!(hung_up(&call), Some(call.now));
}

#[test]
fn keys_pressed_at_the_end_are_recorded() {
    let mut call = Call::new(settings());
    call.input(Input::Dtmf('5'));
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    assert_eq!(call.rows(), [user_row("[keys pressed: 5]")]);
}

#[test]
fn nothing_comes_after_hanging_up() {
    let mut call = Call::new(settings());
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    let outputs = call.log.len();
    call.speech(ms(1_000));
    call.input(Input::Text("Hello?".into()));
    call.input(Input::Connected);
    call.input(end(EndReason::Drained, Some("Goodbye.")));
    call.advance(ms(60_000));
    assert_eq!(call.log.len(), outputs);
    assert_eq!(call.conversation.poll_deadline(), None);
}

#[test]
fn a_call_that_was_never_connected_ends_at_once() {
    let mut call = Call::unconnected(settings());
    call.input(end(EndReason::Drained, Some("Goodbye.")));
    assert_eq!(call.log, [(Time::ZERO, Output::HangUp(EndReason::Drained))]);
}
