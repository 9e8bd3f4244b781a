//! The caller cuts the agent off.

use crate::harness::*;
use media_core::conversation::*;

const ANSWER: &str = "We are open from nine to five on weekdays. On Sunday we are closed.";

fn talking(settings: Settings) -> Call {
    let mut call = Call::new(settings);
    call.say("When are you open?");
    call.answer(ANSWER);
    call
}

#[test]
fn the_agent_falls_silent_the_moment_speech_is_detected() {
    let mut call = talking(settings());
    call.advance(ms(1_000));
    call.speech(ms(400));
    let started = call
        .log
        .iter()
        .rev()
        .find(|(_, output)| matches!(output, Output::BeginUtterance { .. }));
    let started = started.map(|(at, _)| *at);
    let cleared = call.at(|output| matches!(output, Output::ClearPlayback { .. }));
    assert_eq!(started, cleared);
    let last_frame = call.frames().last().map(|(at, _)| *at);
    assert!(last_frame <= cleared, "a frame at {last_frame:?} after {cleared:?}");
}

#[test]
fn only_what_was_heard_stays() {
    let mut call = talking(settings());
    // 50 ms a character: "We are open from" has been heard after 16 of them, "nine" after 21.
    call.advance(ms(700));
    call.speech(ms(200));
    let heard = "We are open from".to_owned();
    assert!(call.has(&Output::Notice(Notice::Interrupted { heard: heard.clone() })));
    assert_eq!(call.rows(), [user_row("When are you open?"), cut_row(&heard)]);
    call.silence(ms(600));
    call.understood("And on Sunday?");
    assert_eq!(
        call.asked(),
        [user("When are you open?"), agent(&heard), user("And on Sunday?")]
    );
}

#[test]
fn everything_in_progress_is_cancelled() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    call.voice = None;
    let reply = call.last_reply();
    call.input(Input::Llm(
        reply,
        LlmEvent::Text("Hello there, dear friend. I am here. ".to_owned()),
    ));
    let speech = call.last_speech();
    call.input(Input::Tts(SpeechId(1), TtsEvent::Audio(vec![1; 16_000])));
    call.advance(ms(1_000));
    call.speech(ms(200));
    assert!(call.has(&Output::CancelReply(reply)));
    assert!(call.has(&Output::CancelSpeech(speech)));

    let outputs = call.log.len();
    call.input(Input::Llm(reply, LlmEvent::Text("More text. And more.".to_owned())));
    call.input(Input::Tts(speech, TtsEvent::Audio(vec![1; 16_000])));
    assert_eq!(call.log.len(), outputs, "events for cancelled ids are ignored");
}

#[test]
fn words_can_be_required_to_interrupt() {
    let mut call = talking(Settings {
        interrupt_min_words: 2,
        ..settings()
    });
    call.advance(ms(500));
    call.speech(ms(400));
    call.interim("Wait");
    assert_eq!(call.count(|output| matches!(output, Output::ClearPlayback { .. })), 0);
    call.interim("Wait please");
    assert_eq!(call.count(|output| matches!(output, Output::ClearPlayback { .. })), 1);
}

#[test]
fn too_few_words_are_answered_when_the_agent_has_ended() {
    let mut call = talking(Settings {
        interrupt_min_words: 3,
        ..settings()
    });
    call.advance(ms(200));
    call.say("Okay.");
    assert_eq!(call.requests(), 1);
    call.advance(ms(4_000));
    assert_eq!(call.asked(), [user("When are you open?"), agent(ANSWER), user("Okay.")]);
}

#[test]
fn an_agent_that_may_not_be_interrupted_ends_first_and_then_answers() {
    let mut call = talking(Settings {
        allow_interruptions: false,
        ..settings()
    });
    call.advance(ms(500));
    call.say("And on Sunday?");
    assert_eq!(call.requests(), 1);
    call.advance(ms(4_000));
    assert_eq!(call.count(|output| matches!(output, Output::ClearPlayback { .. })), 0);
    assert_eq!(
        call.asked(),
        [user("When are you open?"), agent(ANSWER), user("And on Sunday?")]
    );
    assert_eq!(call.rows(), [user_row("When are you open?"), agent_row(ANSWER)]);
}

#[test]
fn a_greeting_that_is_cut_off_leaves_what_was_heard() {
    let mut call = Call::new(Settings {
        greeting: Some("Welcome to the house of Vox.".into()),
        ..settings()
    });
    call.advance(ms(300));
    call.speech(ms(300));
    assert_eq!(call.rows(), [cut_row("Welcome to")]);
}

#[test]
fn an_agent_that_has_been_heard_out_was_not_interrupted() {
    let mut call = talking(settings());
    let reply_length = ms(50) * u32::try_from(ANSWER.chars().count()).unwrap();
    call.advance(reply_length - ms(180));
    call.speech(ms(200));
    assert_eq!(call.rows().last(), Some(&agent_row(ANSWER)));
    assert_eq!(
        call.count(|output| matches!(output, Output::Notice(Notice::Interrupted { .. }))),
        0
    );
}

#[test]
fn a_caller_who_speaks_while_a_tool_runs_ends_that_answer() {
    let mut call = Call::new(settings());
    call.say("Book a table.");
    let reply = call.last_reply();
    call.input(Input::Llm(reply, LlmEvent::Text("One moment please.".to_owned())));
    call.call_tool("call_1", "book");
    call.input(Input::Llm(reply, LlmEvent::Done));
    call.advance(ms(3_000));
    call.speech(ms(300));
    assert_eq!(call.rows(), [user_row("Book a table."), cut_row("One moment please.")]);
    call.input(Input::ToolResult {
        reply,
        call_id: "call_1".into(),
        content: "ok".into(),
    });
    assert_eq!(call.requests(), 1);
    call.silence(ms(600));
    call.understood("For two.");
    assert!(call.asked().contains(&Message::ToolResult {
        call_id: "call_1".into(),
        content: "ok".into()
    }));
}

#[test]
fn a_caller_who_speaks_before_the_greeting_has_a_voice_is_answered_instead() {
    let mut call = Call::unconnected(Settings {
        greeting: Some("Welcome to the house of Vox.".into()),
        ..settings()
    });
    call.voice = None;
    call.input(Input::Connected);
    call.say("Hello?");
    assert!(call.has(&Output::CancelSpeech(SpeechId(1))));
    assert_eq!(call.asked(), [user("Hello?")]);
}
