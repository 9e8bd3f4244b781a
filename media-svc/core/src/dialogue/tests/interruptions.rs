use super::*;

#[test]
fn a_question_that_was_cut_short_is_known_again() {
    for heard in [
        "Of",
        "Of course. Who",
        "Of course. Who is call",
        "Of course. Who is calling, please?",
    ] {
        let mut talk = Talk::new();
        talk.reply_to("I'd like to leave a message");
        talk.hear(heard);
        talk.script(&[("Anna Smith", "Thank you, Anna Smith. What number")]);
    }
}

#[test]
fn a_reply_of_which_nothing_was_heard_makes_one_turn_of_two() {
    let mut talk = Talk::new();
    talk.reply_to("I'd like to leave");
    let answer = talk.reply_to("a message");
    assert_eq!(answer, "Of course. Who is calling, please?");
    talk.hear(&answer);
    talk.reply_to("Anna");
    talk.script(&[("Smith", "Thank you, Anna Smith. What number")]);
}

#[test]
fn a_dictation_interrupted_before_the_read_back_goes_on() {
    let mut talk = Talk::new();
    talk.script(&[("leave a message", "Who"), ("Anna", "number"), ("555 1234", "message")]);
    talk.reply_to("Tell Bob that");
    let answer = talk.say("the piano is here.");
    assert!(
        answer.contains("The message is: Tell Bob that the piano is here. Is that correct?"),
        "{answer}"
    );
}

#[test]
fn a_read_back_that_was_cut_short_can_be_confirmed_or_added_to() {
    for heard in [
        "Thank you. Let me",
        "Thank you. Let me read that back. The message is from Anna. The number is five",
    ] {
        let talk = || {
            let mut talk = Talk::new();
            talk.script(&[("leave a message", "Who"), ("Anna", "number"), ("555 1234", "message")]);
            talk.reply_to("The piano is here.");
            talk.hear(heard);
            talk
        };
        talk().script(&[("Yes, that's right.", "I will pass your message on.")]);
        talk().script(&[(
            "And it is in tune.",
            "I'll add that. The message is: The piano is here. And it is in tune.",
        )]);
        talk().script(&[("no the number is wrong", "What number can we reach you on?")]);
    }
}

#[test]
fn other_sentences_of_the_agent_do_not_lose_the_thread() {
    let mut talk = Talk::new();
    talk.script(&[("leave a message", "Who is calling")]);
    talk.hear("Are you still there?");
    talk.script(&[("Yes, sorry, it's Anna.", "Thank you, Anna. What number")]);
    talk.hear("Are you still there?");
    talk.script(&[("five five five one two three four", "What is your message?")]);
}

#[test]
fn a_history_that_begins_in_the_middle_is_picked_up() {
    let mut talk = Talk::new();
    talk.messages.clear();
    talk.hear("Thank you. What is your message?");
    talk.script(&[
        ("The piano is here.", "Thank you. Who is calling, please?"),
        ("Anna", "What number can we reach you on?"),
        ("555 1234", "from Anna. The number is five five five, one two three four. The message is: The piano is here. Is that correct?"),
        ("yes", "I will pass your message on."),
    ]);
}

#[test]
fn the_time_of_day_does_not_change_what_was_asked() {
    let mut talk = Talk::new();
    talk.say("What time is it?");
    // Since then five minutes have passed: the answer in the history is not what would be said now.
    talk.messages.pop();
    talk.hear("It is nine o'clock in the morning. Is there anything else I can do for you?");
    talk.script(&[("no", "Goodbye.")]);
}

#[test]
fn a_repeated_sentence_is_whole_although_it_was_cut_short() {
    let mut talk = Talk::new();
    let answer = talk.reply_to("Where can I park?");
    talk.hear("There is free");
    assert_eq!(talk.say("what did you say"), format!("Of course. {answer}"));
}
