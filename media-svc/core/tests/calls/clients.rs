//! What clients with a screen are told, and what they may ask for besides speaking.

use crate::harness::*;
use media_core::conversation::*;

fn typed(text: &str, run_immediately: bool, audio_response: bool) -> Input {
    Input::Text(Typed {
        text: text.to_owned(),
        run_immediately,
        audio_response,
    })
}

fn notices(call: &Call) -> Vec<Notice> {
    let notices = call.log.iter().filter_map(|(_, output)| match output {
        Output::Notice(notice) => Some(notice.clone()),
        _ => None,
    });
    notices.collect()
}

fn heard_so_far(call: &Call) -> Vec<String> {
    let spoken = notices(call).into_iter().filter_map(|notice| match notice {
        Notice::Spoken { heard, .. } => Some(heard),
        _ => None,
    });
    spoken.collect()
}

#[test]
fn each_word_is_told_when_it_has_been_heard() {
    let mut call = Call::new(settings());
    call.say("Count.");
    let asked_at = call.now;
    call.answer("One two three.");
    call.advance(ms(5_000));

    assert_eq!(heard_so_far(&call), ["One", "One two", "One two three."]);
    // 50 ms a character: "One" is complete after 150 ms of the answer, and its frames of 20 ms after 160.
    let first = call.at(|output| matches!(output, Output::Notice(Notice::Spoken { .. })));
    let after = first.unwrap() - asked_at;
    assert!((ms(150)..=ms(260)).contains(&after), "{after:?}");
}

#[test]
fn words_that_were_cut_off_are_never_told() {
    let mut call = Call::new(settings());
    call.say("Count.");
    call.answer("One two three four five six seven eight nine ten.");
    call.advance(ms(700));
    call.input(Input::Interrupt);
    call.advance(ms(5_000));

    let heard = heard_so_far(&call);
    let (_, last_row, interrupted) = call.rows().pop().unwrap();
    assert_eq!((heard.last(), interrupted), (Some(&last_row), true));
}

#[test]
fn the_question_is_told_as_the_model_gets_it() {
    let mut call = Call::new(settings());
    call.say("When are you");
    call.say("open on Monday?");
    let asked: Vec<Notice> = notices(&call)
        .into_iter()
        .filter(|notice| matches!(notice, Notice::Asked(_)))
        .collect();
    let question = |text: &str| Notice::Asked(text.to_owned());
    assert_eq!(
        asked,
        [question("When are you"), question("When are you open on Monday?")]
    );
}

#[test]
fn a_question_to_be_answered_in_text_is_answered_in_text_alone() {
    let mut call = Call::new(settings());
    call.input(typed("When are you open?", true, false));
    call.answer("From nine to five. Not on Sunday.");
    call.advance(ms(5_000));

    assert_eq!((call.spoken().len(), call.frames().len()), (0, 0));
    let written: Vec<String> = notices(&call)
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::Written { text, .. } => Some(text.trim().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(written, ["From nine to five.", "Not on Sunday."]);
    let said = "From nine to five. Not on Sunday.";
    assert_eq!(call.rows(), [user_row("When are you open?"), agent_row(said)]);

    call.say("Thanks.");
    assert_eq!(call.asked()[1..], [agent(said), user("Thanks.")]);
    call.answer("Bye.");
    assert_eq!(call.spoken(), ["Bye."]);
}

#[test]
fn text_that_is_not_to_be_answered_now_is_answered_with_what_follows() {
    let mut call = Call::new(settings());
    call.say("Hello.");
    call.answer("This is a long answer to a short greeting.");
    call.advance(ms(500));
    call.input(typed("My number is 5.", false, true));
    call.advance(ms(20_000));
    assert_eq!(call.requests(), 1);
    assert!(!call.rows().iter().any(|(_, _, interrupted)| *interrupted));

    call.say("What is it?");

    assert_eq!(call.asked().last(), Some(&user("My number is 5. What is it?")));
}

#[test]
fn an_interruption_silences_the_agent_and_asks_nothing() {
    let mut call = Call::new(settings());
    call.say("Tell me everything.");
    call.answer("This is quite a long answer to a short question.");
    call.advance(ms(1_000));
    call.input(Input::Interrupt);
    call.advance(ms(10_000));

    assert_eq!(call.count(|output| matches!(output, Output::ClearPlayback { .. })), 1);
    assert_eq!(call.requests(), 1);

    // Nothing of an answer was heard: its question waits for the next.
    call.say("And now?");
    call.input(Input::Interrupt);
    call.advance(ms(10_000));
    assert_eq!(call.requests(), 2);
    call.say("Really?");
    assert_eq!(call.asked().last(), Some(&user("And now? Really?")));
}

/// Of what clients are told: which sentences are to come, and that none of them will.
fn announced(call: &Call) -> Vec<String> {
    let of_sentences = |notice| match notice {
        Notice::SpeechQueued { text, .. } => Some(text.trim().to_owned()),
        Notice::Withdrawn => Some("withdrawn".to_owned()),
        Notice::Interrupted { .. } => Some("interrupted".to_owned()),
        Notice::AgentStartedSpeaking => Some("sound".to_owned()),
        _ => None,
    };
    notices(call).into_iter().filter_map(of_sentences).collect()
}

#[test]
fn sentences_that_nobody_will_hear_are_withdrawn_before_those_of_the_next_answer() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("When are you");
    call.answer("Could you say more?");
    // The caller goes on before the voice has begun.
    call.say("open on Monday?");
    call.answer("At nine. Do come in.");
    call.input(typed("And on Sunday?", true, true));
    call.voice = Some(ms(50));
    call.answer("Never.");
    call.advance(ms(2_000));

    let expected = [
        "Could you say more?",
        "withdrawn",
        "At nine.",
        "Do come in.",
        "withdrawn",
        "Never.",
        "sound",
    ];
    assert_eq!(announced(&call), expected);
}

#[test]
fn sentences_that_no_voice_was_found_for_are_withdrawn() {
    let mut call = Call::new(settings());
    call.voice = None;
    call.say("Hello.");
    call.answer("Good day.");
    let failure = TtsEvent::Failed("refused".to_owned());
    call.input(Input::Tts(call.last_speech(), failure));
    call.advance(ms(1_000));

    assert_eq!(announced(&call), ["Good day.", "withdrawn"]);
}

#[test]
fn an_answer_without_a_sentence_withdraws_nothing() {
    let mut call = Call::new(settings());
    call.say("Hello.");
    call.input(typed("Are you there?", true, true));

    assert_eq!(call.requests(), 2);
    assert!(announced(&call).is_empty(), "{:?}", announced(&call));
}

#[test]
fn an_interruption_of_silence_is_nothing() {
    let mut call = Call::new(settings());
    call.input(Input::Interrupt);
    call.advance(ms(1_000));
    assert!(call.log.is_empty(), "{:?}", call.log);
}

#[test]
fn a_tool_is_told_to_run_when_it_runs_and_given_up_when_it_never_will() {
    let transfer = Tool {
        name: "transfer".to_owned(),
        description: String::new(),
        parameters: serde_json::json!({}),
        after_speech: true,
    };
    let tools = vec![transfer];
    let mut call = Call::new(Settings { tools, ..settings() });
    let told = |call: &Call| -> Vec<Notice> {
        let of_tools = |notice: &Notice| {
            matches!(
                notice,
                Notice::ToolStarted(_) | Notice::ToolRunning { .. } | Notice::ToolCancelled { .. }
            )
        };
        notices(call).into_iter().filter(of_tools).collect()
    };
    call.say("A person, please.");
    let reply = call.last_reply();
    call.input(Input::Llm(
        reply,
        LlmEvent::Text("I put you through to somebody.".to_owned()),
    ));
    call.call_tool("t1", "transfer");
    call.input(Input::Llm(reply, LlmEvent::Done));
    assert_eq!(told(&call).len(), 1, "it waits until the words were heard");

    call.advance(ms(500));
    call.input(Input::Interrupt);

    let cancelled = Notice::ToolCancelled {
        call_id: "t1".to_owned(),
    };
    assert_eq!(told(&call)[1..], [cancelled]);

    call.say("No, do it.");
    let reply = call.last_reply();
    call.call_tool("t2", "transfer");
    call.input(Input::Llm(reply, LlmEvent::Done));
    call.advance(ms(100));
    let running = Notice::ToolRunning {
        call_id: "t2".to_owned(),
    };
    assert_eq!(told(&call).last(), Some(&running));
}
