use super::*;

/// Everything up to the read-back.
fn read_back(message: &str) -> (Talk, String) {
    let mut talk = Talk::new();
    talk.script(&[
        ("I'd like to leave a message.", "Who is calling, please?"),
        ("Anna Smith", "What number can we reach you on?"),
        ("five five five one two three four", "What is your message?"),
    ]);
    let answer = talk.say(message);
    (talk, answer)
}

#[test]
fn a_message_is_taken_read_back_and_confirmed() {
    let mut talk = Talk::new();
    talk.script(&[
        ("Hello.", "Hello. How can I help you?"),
        ("I would like to leave a message.", "Of course. Who is calling, please?"),
        ("This is Anna Smith.", "Thank you, Anna Smith. What number can we reach you on?"),
        ("Five five five, one two three four.", "Thank you. What is your message?"),
        (
            "Please tell Bob that the piano arrives on Tuesday",
            "Thank you. Let me read that back. The message is from Anna Smith. The number is five five five, one two three \
             four. The message is: Please tell Bob that the piano arrives on Tuesday. Is that correct?",
        ),
        (
            "Yes, that's correct.",
            "Thank you, Anna Smith. I will pass your message on. Is there anything else I can do for you?",
        ),
        ("No, thank you. Goodbye.", "Thank you for calling. Goodbye."),
    ]);
    assert_eq!(talk.called.as_deref(), Some(END_CALL_TOOL));
}

#[test]
fn lower_case_fillers_and_no_punctuation_do_as_well() {
    let mut talk = Talk::new();
    talk.script(&[
        ("um hi i'd like to uh leave a message please", "Who is calling"),
        ("uh it's anna smith", "Thank you, Anna Smith."),
        (
            "yeah it's double five five um one two three oh",
            "What is your message?",
        ),
        (
            "my guitar is ready to be picked up",
            "five five five, one two three zero. The message is: my guitar",
        ),
        ("yeah that's right thanks", "I will pass your message on."),
        ("nope that's all", "Goodbye."),
    ]);
}

#[test]
fn what_the_caller_says_at_once_is_not_asked_again() {
    let mut talk = Talk::new();
    talk.script(&[
        (
            "Hi, this is Bob Jones. I'd like to leave a message. My number is 555-1234.",
            "Of course, Bob Jones. What is your message?",
        ),
        (
            "Call me back.",
            "from Bob Jones. The number is five five five, one two three four. The message is: Call me back.",
        ),
        (
            "Yes. Goodbye.",
            "I will pass your message on. Thank you for calling. Goodbye.",
        ),
    ]);
    assert_eq!(talk.called.as_deref(), Some(END_CALL_TOOL));
}

#[test]
fn a_dictated_message_is_taken_word_for_word_whatever_it_says() {
    for message in [
        "Please repeat that to the operator: what are your opening hours and where can I park?",
        "I want to speak to a manager about my order.",
        "Goodbye yellow brick road is the song I would like to learn, thank you very much, bye.",
        "No rush, just call me when the price is known",
        "and so my fellow americans ask not what your country can do for you ask what you can do for your country",
        "It was the best of times, it was the worst of times.",
        "Never mind the invoice I sent on Monday, it was wrong.",
        "GO FORWARD TEN METERS",
    ] {
        let (_, answer) = read_back(message);
        assert!(
            answer.contains(&format!("The message is: {message}")),
            "{message:?} got {answer:?}"
        );
        assert!(answer.ends_with("Is that correct?"), "{answer}");
    }
}

#[test]
fn short_utterances_that_are_plainly_no_message_are_none() {
    for (said, expected) in [
        (
            "Goodbye.",
            "I have not taken a message. Thank you for calling. Goodbye.",
        ),
        ("Can you repeat that?", "Of course. Thank you. What is your message?"),
        ("never mind", "I have dropped the message."),
        ("hold on", "Take your time."),
        ("Hello?", "I am listening. What is your message?"),
        ("um", "I am listening. What is your message?"),
        ("okay", "I am listening. What is your message?"),
        (
            "No, my name is Anne Smythe.",
            "I have changed that. What is your message?",
        ),
        (
            "sorry the number is wrong",
            "All right. What number can we reach you on?",
        ),
    ] {
        let (_, answer) = read_back(said);
        assert!(answer.contains(expected), "{said:?} got {answer:?}");
    }
}

#[test]
fn a_message_may_go_on_after_a_pause() {
    let (mut talk, _) = read_back("The piano arrives on Tuesday.");
    talk.script(&[
        (
            "And please tell him to bring the keys.",
            "I'll add that. The message is: The piano arrives on Tuesday. And please tell him to bring the keys. Is that correct?",
        ),
        ("Not before noon, though", "The message is: The piano arrives on Tuesday. And please tell him to bring the keys. Not before noon, though. Is"),
        ("Yes, and it is urgent.", "bring the keys. Not before noon, though and it is urgent."),
        ("Yes, that's right, but he should ring first.", "and it is urgent. but he should ring first."),
        ("That is correct, thank you.", "I will pass your message on."),
    ]);
}

#[test]
fn parts_of_a_message_can_be_corrected() {
    for (said, expected) in [
        (
            "No, the name is Anne Smythe.",
            "I have changed that. Let me read that back. The message is from Anne Smythe.",
        ),
        ("no it's 555 9999", "The number is five five five, nine nine nine nine."),
        (
            "The number should be five five five four three two one",
            "The number is five five five, four three two one.",
        ),
        ("the number is wrong", "All right. What number can we reach you on?"),
        ("no, the name is wrong", "All right. Who is calling, please?"),
        ("Change the message please", "All right. What is your message?"),
        (
            "No, the message should be: Call me on Monday",
            "The message is: Call me on Monday. Is that correct?",
        ),
        (
            "That's wrong.",
            "What should I change: the name, the number, or the message?",
        ),
        ("No.", "What should I change"),
        ("no that's not right", "What should I change"),
        ("Can you repeat that?", "Of course. Let me read that back."),
        ("My wife's name is Carol and she will come", "I'll add that."),
    ] {
        let (mut talk, _) = read_back("Call me.");
        let answer = talk.say(said);
        assert!(answer.contains(expected), "{said:?} got {answer:?}");
    }
}

#[test]
fn which_part_is_wrong_can_be_told_in_many_ways() {
    for (said, expected) in [
        ("the name", "Who is calling, please?"),
        ("my phone number", "What number can we reach you on?"),
        ("The message.", "What is your message?"),
        ("the name is Anne", "The message is from Anne."),
        ("555 9999", "The number is five five five, nine nine nine nine."),
        ("everything", "let us start again. Who is calling, please?"),
        ("nothing", "I will pass your message on."),
        ("never mind", "I have dropped the message."),
        ("elephants like to sing about the moon", "What should I change"),
    ] {
        let (mut talk, _) = read_back("Call me.");
        talk.script(&[("That's wrong", "What should I change"), (said, expected)]);
    }
}

#[test]
fn a_corrected_part_is_asked_and_the_rest_is_kept() {
    let (mut talk, _) = read_back("Call me.");
    talk.script(&[
        ("no the number is wrong", "What number can we reach you on?"),
        (
            "double nine eight, seven seven six six",
            "from Anna Smith. The number is nine nine eight, seven seven six six. The message is: Call me.",
        ),
        ("correct", "I will pass your message on."),
    ]);
}

#[test]
fn a_number_may_come_in_pieces() {
    let mut talk = Talk::new();
    talk.script(&[
        ("leave a message", "Who is calling"),
        ("Anna", "What number"),
        (
            "Five five five.",
            "I have five five five so far. What comes after that?",
        ),
        ("one", "I have five five five one so far. What comes after that?"),
        ("two three four", "What is your message?"),
        ("five", "I have added that to the number. What is your message?"),
        ("Call me.", "The number is five five five one, two three four five."),
    ]);
}

#[test]
fn a_caller_may_begin_the_number_again() {
    let mut talk = Talk::new();
    talk.script(&[
        ("leave a message", "Who is calling"),
        ("Anna", "What number"),
        ("it's five five", "so far"),
        ("five five five one two three four", "What is your message?"),
        ("Hi.", "I am listening."),
        ("Call me please.", "The number is five five five, one two three four."),
    ]);
}

#[test]
fn a_caller_may_keep_name_and_number_to_themselves() {
    let mut talk = Talk::new();
    talk.script(&[
        ("Can I leave a message?", "Who is calling"),
        ("I'd rather not say.", "That is all right. What number"),
        ("you have my number", "Good. What is your message?"),
        (
            "Your piano is out of tune.",
            "Let me read that back. The number is the one you are calling from. The message is: Your piano",
        ),
    ]);
}

#[test]
fn a_caller_who_is_not_understood_twice_is_not_asked_a_third_time() {
    let mut talk = Talk::new();
    talk.script(&[
        ("take a message", "Who is calling"),
        (
            "it is about the thing with the thing",
            "Sorry, I did not catch your name.",
        ),
        (
            "what do you mean by that now",
            "Let us go on without a name. What number",
        ),
        ("somewhere over the rainbow", "Sorry, I did not catch a number."),
        ("way up high", "Let us go on without a number. What is your message?"),
        (
            "Thank you for the lovely evening at the concert",
            "read that back. The message is: Thank you for the lovely",
        ),
    ]);
}

#[test]
fn a_question_in_between_is_answered_and_the_message_goes_on() {
    let mut talk = Talk::new();
    talk.script(&[
        ("leave a message", "Who is calling"),
        (
            "What are your opening hours?",
            "half past five, and on Saturday from ten to two. On Sunday we are closed. Who is calling, please?",
        ),
        ("Anna", "What number"),
        (
            "What time is it?",
            "It is nine oh five in the morning. What number can we reach you on?",
        ),
        ("555 1234", "What is your message?"),
        ("Call me.", "from Anna."),
        (
            "Yes. Are you open on Sunday?",
            "I will pass your message on. We are closed on Sunday.",
        ),
    ]);
}

#[test]
fn a_second_message_does_not_ask_who_is_calling() {
    let (mut talk, _) = read_back("First.");
    talk.script(&[
        ("yes", "anything else"),
        (
            "Yes, I'd like to leave another message",
            "Of course, Anna Smith. What is your message?",
        ),
        (
            "Second message, please call before noon.",
            "from Anna Smith. The number is five five five, one two three four. The message is: Second",
        ),
    ]);
}

#[test]
fn a_call_that_ends_before_confirmation_keeps_the_message() {
    let (mut talk, _) = read_back("Call me.");
    talk.script(&[(
        "Okay, bye.",
        "I will pass your message on. Thank you for calling. Goodbye.",
    )]);
    assert_eq!(talk.called.as_deref(), Some(END_CALL_TOOL));
}

#[test]
fn a_read_back_is_confirmed_in_many_ways() {
    for said in [
        "yes",
        "Yeah.",
        "Yes, that is correct.",
        "that's right thank you very much",
        "Perfect, thanks.",
        "I think so",
        "you got it",
        "that's it",
        "sounds good",
        "Correct.",
        "yes it is",
        "Thank you, goodbye.",
        "mhm",
    ] {
        let (mut talk, _) = read_back("Call me.");
        talk.script(&[(said, "I will pass your message on.")]);
    }
}
