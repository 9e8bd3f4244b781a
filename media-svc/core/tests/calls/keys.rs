//! Keys that a tool asks for, and keys that the agent presses.

use std::time::Duration;

use crate::harness::*;
use media_core::conversation::*;

fn plan(max_digits: usize) -> KeyPlan {
    KeyPlan {
        max_digits,
        terminator: Some('#'),
        timeout: Duration::from_secs(5),
    }
}

/// The agent asks for a code and waits for it.
fn asked(plan: KeyPlan) -> (Call, ReplyId) {
    let mut call = Call::new(settings());
    call.say("I want to pay.");
    let reply = call.last_reply();
    call.input(Input::Llm(reply, LlmEvent::Text("Please enter your code.".to_owned())));
    call.call_tool("k", "collect_dtmf");
    call.input(Input::CollectKeys {
        reply,
        call_id: "k".to_owned(),
        plan,
    });
    call.input(Input::Llm(reply, LlmEvent::Done));
    (call, reply)
}

fn press(call: &mut Call, keys: &str) {
    for key in keys.chars() {
        call.input(Input::Dtmf(key));
        call.advance(ms(200));
    }
}

fn answer(call: &Call) -> String {
    let done = call.find_last(|output| match output {
        Output::Notice(Notice::ToolDone { content, .. }) => Some(content.clone()),
        _ => None,
    });
    done.unwrap_or_default()
}

#[test]
fn digits_end_with_their_terminator_and_answer_the_tool() {
    let (mut call, _) = asked(plan(10));
    call.advance(ms(2_000));
    press(&mut call, "1234#");
    assert_eq!(answer(&call), r#"{"digits":"1234","ended_by":"terminator"}"#);
    assert_eq!(call.requests(), 2);
    call.answer("Thank you.");
    call.advance(ms(2_000));
    let rows = [
        user_row("I want to pay."),
        agent_row("Please enter your code."),
        user_row("[keys pressed: 1234]"),
        agent_row("Thank you."),
    ];
    assert_eq!(call.rows(), rows);
}

#[test]
fn enough_digits_need_no_terminator() {
    let (mut call, _) = asked(plan(4));
    call.advance(ms(2_000));
    press(&mut call, "1234");
    assert_eq!(answer(&call), r#"{"digits":"1234","ended_by":"length"}"#);
}

#[test]
fn a_long_pause_ends_the_input_with_what_there_is() {
    let (mut call, _) = asked(plan(10));
    call.advance(ms(2_000));
    press(&mut call, "12");
    call.advance(ms(4_700));
    assert_eq!(answer(&call), "");
    call.advance(ms(200));
    assert_eq!(answer(&call), r#"{"digits":"12","ended_by":"timeout"}"#);
    assert_eq!(call.requests(), 2);
}

#[test]
fn the_wait_begins_when_the_question_has_been_heard() {
    let (mut call, _) = asked(plan(10));
    // 23 characters at 50 ms.
    call.advance(ms(1_150 + 4_900));
    assert_eq!(answer(&call), "");
    call.advance(ms(200));
    assert_eq!(answer(&call), r#"{"digits":"","ended_by":"timeout"}"#);
    call.answer("Are you there?");
    call.advance(ms(2_000));
    let rows = [
        user_row("I want to pay."),
        agent_row("Please enter your code. Are you there?"),
    ];
    assert_eq!(call.rows(), rows);
}

#[test]
fn keys_pressed_ahead_of_the_question_s_end_count_and_stop_it() {
    let (mut call, _) = asked(plan(4));
    call.advance(ms(400));
    press(&mut call, "123");
    assert_eq!(call.requests(), 1);
    press(&mut call, "4");
    assert_eq!(answer(&call), r#"{"digits":"1234","ended_by":"length"}"#);
    assert!(call.is_cut());
    assert_eq!(
        call.count(|output| matches!(output, Output::Notice(Notice::Interrupted { .. }))),
        1
    );
    assert_eq!(call.requests(), 2);
    let rows = call.rows();
    assert_eq!(rows[2], user_row("[keys pressed: 1234]"));
    assert!(rows[1].2, "the question was cut off: {rows:?}");
}

#[test]
fn keys_pressed_before_the_tool_was_called_count() {
    let mut call = Call::new(settings());
    call.say("I want to pay.");
    press(&mut call, "12");
    let reply = call.call_tool("k", "collect_dtmf");
    call.input(Input::CollectKeys {
        reply,
        call_id: "k".to_owned(),
        plan: plan(4),
    });
    call.input(Input::Llm(reply, LlmEvent::Done));
    press(&mut call, "34");
    assert_eq!(answer(&call), r#"{"digits":"1234","ended_by":"length"}"#);
}

#[test]
fn keys_pressed_ahead_beyond_what_was_asked_for_are_answered_next() {
    for (pressed, terminator, digits) in [("123456", '#', "1234"), ("12*56", '*', "12")] {
        let mut call = Call::new(settings());
        call.say("I want to pay.");
        press(&mut call, pressed);
        let reply = call.call_tool("k", "collect_dtmf");
        let plan = KeyPlan {
            terminator: Some(terminator),
            ..plan(4)
        };
        call.input(Input::CollectKeys {
            reply,
            call_id: "k".to_owned(),
            plan,
        });
        call.input(Input::Llm(reply, LlmEvent::Done));
        assert!(answer(&call).contains(&format!(r#""digits":"{digits}""#)), "{pressed}");
        call.answer("Thank you.");
        call.advance(ms(4_000));
        assert_eq!(call.asked().last(), Some(&user("[keys pressed: 56]")), "{pressed}");
    }
}

#[test]
fn a_caller_who_speaks_instead_is_answered_and_the_keys_so_far_are_not_lost() {
    let (mut call, reply) = asked(plan(10));
    call.advance(ms(2_000));
    press(&mut call, "12");
    call.say("I do not have one.");
    call.advance(ms(2_000));
    assert_eq!(call.requests(), 2);
    let said = call.asked();
    assert_eq!(said.last(), Some(&user("[keys pressed: 12] I do not have one.")));
    // The tool is over: whatever comes now is for nobody.
    call.input(Input::CollectKeys {
        reply,
        call_id: "k".to_owned(),
        plan: plan(4),
    });
    call.answer("No problem.");
    call.advance(ms(2_000));
    press(&mut call, "5");
    call.advance(ms(2_500));
    assert_eq!(call.asked().last(), Some(&user("[keys pressed: 5]")));
}

#[test]
fn a_storm_of_keys_is_bounded() {
    let (mut call, _) = asked(plan(64));
    for _ in 0..10_000 {
        call.input(Input::Dtmf('1'));
    }
    let longest = call.rows().iter().map(|row| row.1.len()).max();
    assert!(longest.unwrap_or(0) < 120);
}

#[test]
fn keys_that_the_agent_presses_are_heard_as_tones_after_its_words() {
    let mut call = Call::new(settings());
    call.say("Choose.");
    call.answer("One moment.");
    call.input(Input::SendKeys("12#".to_owned()));
    call.advance(ms(4_000));
    // 11 characters at 50 ms, then three keys of 200 ms.
    assert_eq!(call.frames().len(), 28 + 30);
    let tones = &call.frames()[28..];
    assert!(tones[0].1.iter().any(|sample| sample.abs() > 5_000));
    assert_eq!(call.rows().last(), Some(&agent_row("One moment.")));
}

#[test]
fn no_voice_cuts_tones_off() {
    let mut call = Call::new(settings());
    call.input(Input::SendKeys("123456".to_owned()));
    call.speech(ms(1_000));
    assert!(!call.is_cut());
    call.silence(ms(600));
    assert_eq!(call.frames().len(), 60);
}
