//! When the caller's turn begins and ends, and what follows.

use crate::harness::*;
use media_core::conversation::*;

#[test]
fn a_question_is_answered_and_both_turns_are_recorded_once() {
    let mut call = Call::new(settings());
    call.say("What time is it?");
    assert_eq!(call.asked(), [user("What time is it?")]);

    call.answer("It is noon. Anything else?");
    call.advance(ms(3_000));

    assert_eq!(
        call.rows(),
        [user_row("What time is it?"), agent_row("It is noon. Anything else?")]
    );
    assert!(call.has(&Output::Notice(Notice::AgentStoppedSpeaking)));
}

#[test]
fn the_next_question_comes_with_the_history() {
    let mut call = Call::new(settings());
    call.say("Hi.");
    call.answer("Hello!");
    call.advance(ms(1_000));
    call.say("Who are you?");
    assert_eq!(call.asked(), [user("Hi."), agent("Hello!"), user("Who are you?")]);
}

#[test]
fn speech_begins_after_enough_voice_and_recognition_gets_what_came_before() {
    let mut call = Call::new(settings());
    call.silence(ms(1_000));
    call.speech(ms(180));
    assert_eq!(call.count(|output| matches!(output, Output::BeginUtterance { .. })), 0);
    call.speech(ms(20));
    assert!(call.has(&Output::BeginUtterance {
        utterance: UtteranceId(1),
        pre_roll: ms(500)
    }));
    assert!(call.has(&Output::Notice(Notice::UserStartedSpeaking)));
}

#[test]
fn short_gaps_in_the_first_word_do_not_matter_but_clicks_are_no_speech() {
    let mut call = Call::new(settings());
    for _ in 0..10 {
        call.speech(ms(40));
        call.silence(ms(300));
    }
    assert_eq!(call.count(|output| matches!(output, Output::BeginUtterance { .. })), 0);
    call.speech(ms(120));
    call.silence(ms(40));
    call.speech(ms(80));
    assert!(call.has(&Output::BeginUtterance {
        utterance: UtteranceId(1),
        pre_roll: ms(540)
    }));
}

#[test]
fn quiet_voices_in_the_background_are_not_the_caller() {
    let mut call = Call::new(settings());
    call.audio(ms(2_000), 0.99, 0.005);
    assert_eq!(call.count(|output| matches!(output, Output::BeginUtterance { .. })), 0);
}

#[test]
fn the_turn_ends_after_its_silence_and_not_at_a_pause() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.silence(ms(580));
    call.speech(ms(400));
    call.silence(ms(580));
    assert_eq!(call.count(|output| matches!(output, Output::EndUtterance(_))), 0);
    call.silence(ms(20));
    assert!(call.has(&Output::EndUtterance(UtteranceId(1))));
    assert!(call.has(&Output::Notice(Notice::UserStoppedSpeaking)));
}

#[test]
fn a_click_does_not_prolong_the_turn() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.silence(ms(300));
    call.speech(ms(60));
    call.silence(ms(240));
    assert!(call.has(&Output::EndUtterance(UtteranceId(1))));
}

#[test]
fn a_stalled_network_is_not_silence() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.advance(ms(800));
    call.speech(ms(100));
    assert_eq!(call.count(|output| matches!(output, Output::EndUtterance(_))), 0);
}

#[test]
fn a_muted_client_ends_its_turn() {
    let mut call = Call::new(settings());
    call.speech(ms(500));
    call.advance(ms(1_000));
    assert!(call.has(&Output::EndUtterance(UtteranceId(1))));
}

#[test]
fn endless_speech_is_answered_without_losing_a_word() {
    let mut call = Call::new(Settings {
        turn_max: ms(2_000),
        ..settings()
    });
    call.speech(ms(2_000));
    assert!(call.has(&Output::EndUtterance(UtteranceId(1))));
    call.understood("On and on");
    call.speech(ms(600));
    assert_eq!(call.requests(), 1);
    // The next utterance starts exactly where the last one ended.
    let mut pre_rolls = call.log.iter().filter_map(|(_, output)| match output {
        Output::BeginUtterance { pre_roll, .. } => Some(*pre_roll),
        _ => None,
    });
    assert_eq!(pre_rolls.next_back(), Some(ms(200)));

    call.answer("I see what you mean, go on.");
    call.speech(ms(200));
    call.silence(ms(600));
    call.understood("and on.");
    call.advance(ms(4_000));
    assert_eq!(
        call.asked(),
        [user("On and on"), agent("I see what you mean, go on."), user("and on.")]
    );
    assert_eq!(call.count(|output| matches!(output, Output::ClearPlayback { .. })), 0);
}

#[test]
fn noise_that_is_not_understood_asks_nothing() {
    let mut call = Call::new(settings());
    call.say("  ");
    call.advance(ms(5_000));
    assert_eq!(call.requests(), 0);
    assert_eq!(call.rows(), []);
}

#[test]
fn latencies_are_counted_from_the_last_voice() {
    let mut call = Call::new(settings());
    call.speech(ms(1_000));
    call.silence(ms(600));
    call.advance(ms(80));
    call.understood("Hi.");
    call.advance(ms(120));
    let reply = call.last_reply();
    call.voice = None;
    call.input(Input::Llm(reply, LlmEvent::Text("Hello there, friend. Yes".to_owned())));
    call.advance(ms(50));
    let speech = call.log.iter().find_map(|(_, output)| match output {
        Output::Speak { speech, .. } => Some(*speech),
        _ => None,
    });
    call.input(Input::Tts(speech.expect("spoken"), TtsEvent::Audio(vec![0; 400])));
    let timing = TurnTiming {
        endpoint: ms(600),
        transcript: ms(680),
        first_token: ms(800),
        first_audio: ms(850),
    };
    assert!(call.has(&Output::Notice(Notice::TurnTiming(timing))));
}

#[test]
fn the_agent_speaks_first_when_it_has_a_greeting() {
    let mut call = Call::new(Settings {
        greeting: Some("Hello, this is Vox. How can I help?".into()),
        ..settings()
    });
    call.advance(ms(3_000));
    assert_eq!(call.rows(), [agent_row("Hello, this is Vox. How can I help?")]);
    call.say("Hi.");
    assert_eq!(
        call.asked(),
        [agent("Hello, this is Vox. How can I help?"), user("Hi.")]
    );
}

#[test]
fn keys_become_one_message_after_a_pause_or_a_hash() {
    let mut call = Call::new(settings());
    for key in "12x3".chars() {
        call.input(Input::Dtmf(key));
        call.advance(ms(900));
    }
    call.advance(ms(1_090));
    assert_eq!(call.requests(), 0);
    call.advance(ms(10));
    assert_eq!(call.asked(), [user("[keys pressed: 123]")]);
    call.answer("Thanks.");
    call.advance(ms(1_000));
    for key in "45#".chars() {
        call.input(Input::Dtmf(key));
    }
    assert_eq!(call.asked().last(), Some(&user("[keys pressed: 45#]")));
}

#[test]
fn keys_interrupt_nothing_and_are_answered_in_turn() {
    let mut call = Call::new(Settings {
        greeting: Some("Please enter your number.".into()),
        ..settings()
    });
    call.advance(ms(500));
    call.input(Input::Dtmf('7'));
    call.input(Input::Dtmf('#'));
    assert_eq!(call.requests(), 0);
    call.advance(ms(2_000));
    assert_eq!(
        call.asked(),
        [agent("Please enter your number."), user("[keys pressed: 7#]")]
    );
}

#[test]
fn typed_text_is_a_turn_at_once() {
    let mut call = Call::new(settings());
    call.input(Input::Text("Hello".into()));
    call.answer("This is quite a long answer to a short text.");
    call.advance(ms(1_000));
    call.input(Input::Text("Stop".into()));
    assert_eq!(call.count(|output| matches!(output, Output::ClearPlayback { .. })), 1);
    assert_eq!(call.asked().last(), Some(&user("Stop")));
}

#[test]
fn a_silent_caller_is_asked_twice_and_then_left_alone() {
    let mut call = Call::new(Settings {
        idle_prompt_after: Some(ms(10_000)),
        ..settings()
    });
    call.advance(ms(60_000));
    assert_eq!(call.spoken(), ["Are you still there?", "Are you still there?"]);
    call.say("Yes.");
    call.answer("Good.");
    call.advance(ms(11_000));
    assert_eq!(call.spoken().len(), 4);
}

#[test]
fn nothing_is_due_when_nothing_is_pending() {
    let mut call = Call::new(settings());
    assert_eq!(call.conversation.poll_deadline(), None);
    call.say("Hi.");
    call.answer("Hello.");
    call.advance(ms(5_000));
    assert_eq!(call.conversation.poll_deadline(), None);
}
