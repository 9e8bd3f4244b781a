//! A stage fails; the call goes on.

use crate::harness::*;
use media_core::conversation::*;

const APOLOGY: &str = "Sorry, I am having trouble. Could you say that again?";

fn failed(call: &Call, stage: &str) -> usize {
    call.count(|output| matches!(output, Output::Notice(Notice::StageFailed { stage: failed, .. }) if *failed == stage))
}

#[test]
fn the_text_so_far_is_used_when_recognition_fails() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.interim("What time is");
    call.silence(ms(600));
    let utterance = call.last_ended();
    call.input(Input::Stt(utterance, SttEvent::Failed("gone".to_owned())));
    assert_eq!(failed(&call, "stt"), 1);
    assert_eq!(call.asked(), [user("What time is")]);
}

#[test]
fn a_caller_who_was_not_understood_is_told_so() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.silence(ms(600));
    let utterance = call.last_ended();
    call.input(Input::Stt(utterance, SttEvent::Failed("gone".to_owned())));
    assert_eq!(call.requests(), 0);
    call.advance(ms(5_000));
    assert_eq!(call.rows(), [agent_row(APOLOGY)]);
}

#[test]
fn recognition_that_breaks_off_in_mid_speech_gets_the_same_audio_again() {
    let mut call = Call::new(settings());
    call.silence(ms(1_000));
    call.speech(ms(1_000));
    call.input(Input::Stt(UtteranceId(1), SttEvent::Failed("reset".to_owned())));
    // 500 ms before speech was found at 200 ms, and the 800 ms since.
    assert!(call.has(&Output::BeginUtterance {
        utterance: UtteranceId(2),
        pre_roll: ms(1_300)
    }));
    call.silence(ms(600));
    call.understood("Hello.");
    assert_eq!(call.asked(), [user("Hello.")]);
}

#[test]
fn recognition_that_never_ends_is_given_up() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.interim("Hello");
    call.silence(ms(600));
    call.advance(ms(10_000));
    assert!(call.has(&Output::CancelUtterance(UtteranceId(1))));
    assert_eq!(call.asked(), [user("Hello")]);
}

#[test]
fn a_failing_model_is_apologised_for_behind_what_it_has_said() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    let reply = call.last_reply();
    call.input(Input::Llm(
        reply,
        LlmEvent::Text("Hello there, my friend. And".to_owned()),
    ));
    call.input(Input::Llm(reply, LlmEvent::Failed("overloaded".to_owned())));
    assert_eq!(failed(&call, "llm"), 1);
    call.advance(ms(8_000));
    assert_eq!(
        call.rows().last(),
        Some(&agent_row(&format!("Hello there, my friend. {APOLOGY}")))
    );
}

#[test]
fn a_silent_model_is_given_up() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    let reply = call.last_reply();
    call.advance(ms(40_000));
    assert!(call.has(&Output::CancelReply(reply)));
    assert_eq!(call.rows(), [user_row("Hi."), agent_row(APOLOGY)]);
}

#[test]
fn text_that_could_not_be_spoken_was_not_heard() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("Hi.");
    call.answer("This one fails. This one works.");
    call.input(Input::Tts(SpeechId(1), TtsEvent::Failed("no voice".to_owned())));
    call.input(Input::Tts(SpeechId(2), TtsEvent::Audio(vec![1; 8_000])));
    call.input(Input::Tts(SpeechId(2), TtsEvent::Done));
    call.advance(ms(2_000));
    assert_eq!(failed(&call, "tts"), 1);
    assert_eq!(call.rows(), [user_row("Hi."), agent_row("This one works.")]);
}

#[test]
fn a_silent_voice_is_given_up() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("Hi.");
    call.answer("Nobody will say this.");
    call.advance(ms(11_000));
    assert_eq!(failed(&call, "tts"), 1);
    assert_eq!(call.rows(), [user_row("Hi.")]);
    assert_eq!(call.conversation.poll_deadline(), None);
}
