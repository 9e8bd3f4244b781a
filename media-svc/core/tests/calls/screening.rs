//! Persons and answering machines on outbound calls.

use crate::harness::*;
use media_core::conversation::*;

const GREETING: &str = "Hello, this is Vox.";
const MESSAGE: &str = "Please call us back.";

fn placed(message: Option<&str>) -> Call {
    Call::new(Settings {
        greeting: Some(GREETING.to_owned()),
        screening: Some(Screening {
            voicemail_message: message.map(str::to_owned),
        }),
        ..settings()
    })
}

fn verdict(call: &Call) -> Option<AnsweredBy> {
    call.find_last(|output| match output {
        Output::Notice(Notice::AnsweredBy(verdict)) => Some(*verdict),
        _ => None,
    })
}

fn hung_up(call: &Call) -> bool {
    call.has(&Output::HangUp(EndReason::AnsweringMachine))
}

#[test]
fn a_person_who_says_hello_is_greeted_once_they_wait() {
    let mut call = placed(Some(MESSAGE));
    call.silence(ms(700));
    call.speech(ms(600));
    call.silence(ms(600));
    assert!(call.spoken().is_empty(), "not before it is clear who it is");
    call.understood("Hello?");
    call.silence(ms(220));
    assert_eq!(verdict(&call), Some(AnsweredBy::Human));
    assert_eq!(call.spoken(), [GREETING]);
    call.silence(ms(2_000));
    assert_eq!(call.rows(), [user_row("Hello?"), agent_row(GREETING)]);
    assert_eq!(call.requests(), 0, "the greeting answers the hello");
}

#[test]
fn a_person_whose_words_are_not_understood_is_greeted_all_the_same() {
    let mut call = placed(None);
    call.speech(ms(600));
    call.silence(ms(2_400));
    assert_eq!(call.spoken(), [GREETING]);
}

#[test]
fn somebody_who_says_nothing_is_taken_for_a_person() {
    let mut call = placed(Some(MESSAGE));
    call.silence(ms(4_100));
    assert_eq!(verdict(&call), Some(AnsweredBy::Human));
    assert_eq!(call.spoken(), [GREETING]);
}

#[test]
fn a_line_without_any_audio_is_greeted_in_the_end() {
    let mut call = placed(Some(MESSAGE));
    call.advance(ms(10_000));
    assert_eq!(call.spoken(), [GREETING]);
}

/// "You have reached … [pause] … after the tone."
fn machine_greets(call: &mut Call) {
    call.silence(ms(500));
    call.speech(ms(1_600));
    call.silence(ms(400));
    call.speech(ms(3_000));
}

#[test]
fn a_machine_gets_its_message_after_the_beep_and_the_call_ends_when_it_is_said() {
    let mut call = placed(Some(MESSAGE));
    machine_greets(&mut call);
    assert_eq!(verdict(&call), Some(AnsweredBy::Machine));
    call.silence(ms(800));
    assert!(call.spoken().is_empty());
    call.input(Input::Beep);
    assert_eq!(call.spoken(), [MESSAGE]);
    // The mailbox clicks and hums: nothing cuts the message off.
    call.speech(ms(400));
    call.silence(ms(1_200));
    // What the mailbox was just saying is waited for a little.
    call.advance(ms(1_500));
    assert!(hung_up(&call));
    assert_eq!(call.rows().last(), Some(&agent_row(MESSAGE)));
}

#[test]
fn a_machine_without_a_beep_gets_its_message_when_it_has_been_silent() {
    let mut call = placed(Some(MESSAGE));
    machine_greets(&mut call);
    call.silence(ms(1_900));
    assert!(call.spoken().is_empty());
    call.silence(ms(200));
    assert_eq!(call.spoken(), [MESSAGE]);
}

#[test]
fn without_a_message_the_call_ends_at_the_machine() {
    let mut call = placed(None);
    machine_greets(&mut call);
    call.advance(ms(2_000));
    assert!(hung_up(&call));
    assert!(call.spoken().is_empty());
}

#[test]
fn a_greeting_that_never_ends_is_not_waited_for_forever() {
    let mut call = placed(Some(MESSAGE));
    call.speech(ms(61_000));
    call.advance(ms(5_000));
    assert_eq!(call.spoken().last().map(String::as_str), Some(MESSAGE));
}

#[test]
fn the_provider_knows_better() {
    let mut call = placed(Some(MESSAGE));
    call.speech(ms(400));
    call.input(Input::AnsweredBy(AnsweredBy::MachineReady));
    assert_eq!(call.spoken(), [MESSAGE]);

    let mut call = placed(Some(MESSAGE));
    machine_greets(&mut call);
    call.input(Input::AnsweredBy(AnsweredBy::Human));
    call.silence(ms(2_500));
    assert_eq!(call.spoken(), [GREETING]);

    let mut call = placed(Some(MESSAGE));
    call.speech(ms(600));
    call.silence(ms(2_400));
    assert_eq!(call.spoken(), [GREETING]);
    call.input(Input::AnsweredBy(AnsweredBy::Machine));
    call.silence(ms(2_100));
    assert_eq!(call.spoken(), [GREETING, MESSAGE], "a person was greeted too early");
}

#[test]
fn a_verdict_about_a_call_that_is_not_screened_changes_nothing() {
    let mut call = Call::new(settings());
    let before = call.log.len();
    call.input(Input::AnsweredBy(AnsweredBy::Machine));
    call.input(Input::Beep);
    assert_eq!(call.log.len(), before);
}
