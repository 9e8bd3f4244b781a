//! A far end that the network cuts off hears, when it is back, what it has missed.

use crate::harness::*;
use media_core::conversation::*;

/// Five sentences, a second each.
const GREETING: &str =
    "This is the first one. This is second one. This is the third one. That is the fourth. And this is last.";

fn greeted() -> Call {
    let mut call = Call::unconnected(Settings {
        greeting: Some(GREETING.into()),
        far_end_marks: true,
        playout_lead: ms(200),
        ..settings()
    });
    call.echo_marks = Some(ms(0));
    call.input(Input::Connected);
    call
}

#[test]
fn nothing_is_played_into_a_cut_line_and_nothing_is_left_out_afterwards() {
    let mut whole = greeted();
    whole.advance(ms(10_000));
    let complete = whole.frames().len();

    let mut call = greeted();
    call.advance(ms(1_500));
    call.input(Input::LineCut);
    let before = call.frames().len();
    call.advance(ms(5_000));
    assert_eq!(call.frames().len(), before, "while it is cut");
    assert_eq!(call.rows(), [], "nobody has heard it yet");

    call.input(Input::LineBack);
    call.advance(ms(10_000));
    assert_eq!(call.frames().len(), complete);
    assert_eq!(call.rows(), [agent_row(GREETING)]);
}

#[test]
fn after_a_cut_audio_keeps_its_pace() {
    let mut call = greeted();
    call.advance(ms(1_000));
    call.input(Input::LineCut);
    call.advance(ms(3_000));
    call.input(Input::LineBack);
    let (back_at, before) = (call.now, call.frames().len());
    call.advance(ms(1_000));
    for (index, (at, _)) in call.frames().iter().skip(before).enumerate() {
        let sent = FRAME * u32::try_from(index + 1).unwrap();
        assert!(
            sent <= *at - back_at + ms(200),
            "{sent:?} sent {:?} after it came back",
            *at - back_at
        );
    }
}

#[test]
fn what_is_answered_while_the_line_is_cut_is_said_when_it_is_back() {
    let mut call = Call::new(settings());
    call.say("When are you open?");
    call.input(Input::LineCut);
    call.answer("We are open from nine to five.");
    call.advance(ms(4_000));
    assert_eq!(call.frames(), []);

    call.input(Input::LineBack);
    call.advance(ms(4_000));

    let row = agent_row("We are open from nine to five.");
    assert_eq!(call.rows(), [user_row("When are you open?"), row]);
}

#[test]
fn a_caller_who_was_cut_off_while_speaking_is_understood() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.input(Input::LineCut);
    call.advance(ms(3_000));
    call.understood("I would like to");
    assert_eq!(call.asked(), [user("I would like to")]);
}

#[test]
fn nobody_is_kept_waiting_for_last_words_that_cannot_be_heard() {
    let end = || Input::EndRequested {
        reason: EndReason::Requested,
        last_words: Some("Goodbye.".into()),
    };
    let mut cut_before = greeted();
    cut_before.input(Input::LineCut);
    cut_before.input(end());
    let mut cut_after = greeted();
    cut_after.advance(ms(500));
    cut_after.input(end());
    cut_after.input(Input::LineCut);
    for call in [cut_before, cut_after] {
        assert!(call.has(&Output::HangUp(EndReason::Requested)));
    }
}

#[test]
fn a_call_may_end_while_its_line_is_cut() {
    let mut call = greeted();
    call.advance(ms(1_000));
    call.input(Input::LineCut);
    call.input(Input::CallerGone(EndReason::CallerHungUp));
    call.advance(ms(3_000));
    assert!(call.has(&Output::HangUp(EndReason::CallerHungUp)));
    let rows = call.rows();
    assert!(
        matches!(&rows[..], [(Role::Assistant, text, true)] if GREETING.starts_with(text.as_str())),
        "{rows:?}"
    );
}
