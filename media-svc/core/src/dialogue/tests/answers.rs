use proptest::prelude::*;

use super::*;

#[test]
fn questions_are_answered_and_the_call_ends_politely() {
    let mut talk = Talk::new();
    talk.script(&[
        ("Hi, what are your opening hours?", "Monday to Friday"),
        ("And where are you located?", "Harbour Lane"),
        ("yes how much is it to tune a piano", "ninety dollars"),
        ("thank you", "You are welcome. Is there anything else I can do for you?"),
        ("No, that's all.", "Thank you for calling. Goodbye."),
    ]);
    assert_eq!(talk.called.as_deref(), Some(END_CALL_TOOL));
}

#[test]
fn time_and_date_are_told() {
    for (said, expected) in [
        ("what time is it", "It is nine oh five in the morning."),
        (
            "Could you tell me the time, please?",
            "It is nine oh five in the morning.",
        ),
        ("What's today's date?", "Today is Thursday, the fifth of March 2026."),
        ("what day is it", "Today is Thursday"),
        (
            "Are you open right now?",
            "Yes, we are open until five thirty in the afternoon.",
        ),
    ] {
        let answer = Talk::new().say(said);
        assert!(answer.contains(expected), "{said:?} got {answer:?}");
    }
}

#[test]
fn the_last_sentence_is_repeated_as_often_as_asked() {
    let mut talk = Talk::new();
    let answer = talk.say("Where can I park?");
    for said in ["Can you repeat that?", "Sorry?", "what did you say"] {
        assert_eq!(talk.say(said), format!("Of course. {answer}"), "{said}");
    }
    talk.script(&[("no thanks", "Goodbye.")]);
    assert_eq!(Talk::new().say("pardon"), format!("Of course. {GREETING}"));
}

#[test]
fn a_wish_for_a_person_is_transferred_when_that_is_possible() {
    for said in [
        "Can I speak to a human?",
        "operator please",
        "put me through to sales",
        "transfer me",
    ] {
        let mut talk = Talk::new();
        assert_eq!(talk.say(said), "One moment, please. I will put you through.");
        assert_eq!(talk.called.as_deref(), Some(TRANSFER_TOOL), "{said}");
    }
}

#[test]
fn without_the_tool_a_message_is_offered_instead() {
    let mut talk = Talk::without_tools();
    talk.script(&[
        (
            "Let me talk to a real person",
            "I cannot put you through to a person from here. Would you like to leave a message?",
        ),
        ("Yes, please.", "Of course. Who is calling, please?"),
    ]);
    assert_eq!(talk.called, None);
    let mut talk = Talk::without_tools();
    talk.script(&[
        ("operator", "Would you like to leave a message?"),
        ("no", "All right. Is there anything else"),
        ("no", "Goodbye."),
    ]);
    assert_eq!(talk.called, None);
}

#[test]
fn a_failed_transfer_is_told_and_a_message_offered() {
    let mut talk = Talk::new();
    talk.messages.push(Message::User("operator".to_owned()));
    let parts = talk.receptionist.reply(&talk.messages, &talk.tools, thursday_morning());
    let [ReplyPart::Text(text), ReplyPart::ToolCall(call)] = parts.as_slice() else {
        panic!("{parts:?}")
    };
    talk.messages.push(Message::Assistant {
        text: text.clone(),
        tool_calls: vec![call.clone()],
    });
    let result = |content: &str| Message::ToolResult {
        call_id: call.id.clone(),
        content: content.to_owned(),
    };

    talk.messages.push(result("{\"status\":\"ok\"}"));
    assert_eq!(talk.reply(), "", "a successful transfer needs no words");
    talk.messages.pop();
    talk.messages.push(result("{\"error\":\"no destination\"}"));
    let sorry = talk.reply();
    assert_eq!(
        sorry,
        "I am sorry, I could not put you through. Would you like to leave a message?"
    );
    talk.hear(&sorry);
    talk.script(&[("yes", "Who is calling, please?")]);
}

#[test]
fn what_is_not_understood_is_said_and_a_message_is_suggested_the_second_time() {
    let mut talk = Talk::new();
    talk.script(&[
        ("colourless green ideas sleep furiously", "I can take a message."),
        (
            "the moon is made of cheese",
            "I still do not understand. Would you like to leave a message?",
        ),
        ("Sure.", "Who is calling, please?"),
    ]);
    let mut talk = Talk::new();
    talk.script(&[
        ("blah", "I am not sure what you mean."),
        ("Where can I park?", "Mill Street"),
        ("blah blah blah", "Sorry, I did not understand that."),
    ]);
}

#[test]
fn small_talk_is_answered() {
    for (said, expected) in [
        ("hello", "Hello. How can I help you?"),
        ("How are you today?", "I am fine, thank you."),
        ("Are you a robot?", "I am the automatic receptionist of Voxray."),
        (
            "Am I talking to a real person?",
            "I am the automatic receptionist of Voxray.",
        ),
        (
            "what can you do",
            "I can tell you about our opening hours, our address, parking and public transport, and I can take a message.",
        ),
        ("Hi, my name is Anna.", "Hello, Anna. How can I help you?"),
        ("hold on", "Take your time."),
        ("", GREETING),
        ("yes", "How can I help you?"),
    ] {
        let answer = Talk::new().say(said);
        assert!(answer.contains(expected), "{said:?} got {answer:?}");
    }
}

#[test]
fn goodbyes_end_the_call() {
    for said in [
        "Goodbye.",
        "ok bye bye",
        "That's all, thank you.",
        "thanks good-bye",
        "that's it",
        "have a nice day",
    ] {
        let mut talk = Talk::new();
        assert_eq!(talk.say(said), "Thank you for calling. Goodbye.", "{said}");
        assert_eq!(talk.called.as_deref(), Some(END_CALL_TOOL), "{said}");
    }
}

#[test]
fn a_conversation_in_which_nobody_has_spoken_begins_with_the_greeting() {
    let receptionist = Receptionist::new(Facts::built_in());
    let greeting = vec![ReplyPart::Text(GREETING.to_owned())];
    assert_eq!(receptionist.reply(&[], &[], thursday_morning()), greeting);
}

#[test]
fn every_sentence_is_short_enough_to_be_listened_to() {
    let mut talk = Talk::new();
    for said in [
        "blah",
        "what can you do",
        "hours and parking",
        "leave a message",
        "Anna",
        "555 1234",
        "Hi there from me",
        "no",
    ] {
        let answer = talk.say(said);
        for sentence in answer.split_inclusive(['.', '?', '!']) {
            assert!(sentence.split_whitespace().count() <= 30, "{sentence}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_history_gets_a_reply(
        turns in proptest::collection::vec((0..4_u8, "\\PC{0,40}"), 0..12),
        words in proptest::collection::vec(
            prop_oneof!["leave a message", "no", "yes", "five five five one two", "Anna", "bye", "the name is", "repeat that"], 0..10),
    ) {
        let receptionist = Receptionist::new(Facts::built_in());
        let mut messages = Vec::new();
        for (kind, text) in turns {
            messages.push(match kind {
                0 => Message::System(text),
                1 => Message::Assistant { text, tool_calls: Vec::new() },
                2 => Message::ToolResult { call_id: text.clone(), content: text },
                _ => Message::User(text),
            });
        }
        messages.push(Message::User("hello".to_owned()));
        for said in words {
            let parts = receptionist.reply(&messages, &["end_call"], thursday_morning());
            prop_assert!(matches!(parts.first(), Some(ReplyPart::Text(text)) if !text.is_empty()));
            if let Some(ReplyPart::Text(text)) = parts.into_iter().next() {
                messages.push(Message::Assistant { text, tool_calls: Vec::new() });
            }
            messages.push(Message::User(said));
        }
    }
}
