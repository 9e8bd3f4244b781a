//! What a caller wants, by weighted word patterns.

use super::words::Word;

/// Words that may stand between two of a pattern.
const GAP: usize = 2;
/// Score from which an intent counts.
const THRESHOLD: f32 = 1.0;

/// Something a caller may want, whatever the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Message,
    Transfer,
    Goodbye,
    Repeat,
    Time,
    Date,
    Help,
    Greeting,
    Thanks,
    Yes,
    No,
    Wrong,
    Cancel,
    WhoAreYou,
    HowAreYou,
    Wait,
    Decline,
}

/// A pattern is a list of words in order, each with alternatives; `^` binds the first to the beginning of what was said,
/// `$` the last to the end. The weights of all patterns found are added.
type Pattern = (&'static str, f32);

const PERSON: &str = "human|person|people|operator|someone|somebody|anyone|anybody|agent|representative|manager|receptionist|staff|colleague|owner|boss|engineer|technician|sales|support";

const MESSAGE: &[Pattern] = &[
    ("leave|take|record|pass|give|have|send message|note|voicemail", 2.0),
    ("message for", 1.0),
    ("call|ring|phone|calls|calling|get me|us back", 2.0),
    ("callback", 1.0),
    ("call back$", 1.0),
];
const TRANSFER: &[Pattern] = &[
    ("speak|talk|speaking|talking to|with @", 2.0),
    ("speak|talk to|with mr|mrs|ms|miss|doctor|your|the", 1.0),
    ("put|patch me through", 2.0),
    ("transfer me|my|this|call|please", 2.0),
    ("^transfer$", 2.0),
    ("connect me", 2.0),
    ("real|actual|live human|person", 1.0),
    ("^human|operator|agent|representative", 1.0),
    ("get|want|need|have @", 1.0),
];
const GOODBYE: &[Pattern] = &[
    ("bye|goodbye|cheerio", 2.0),
    ("good bye", 2.0),
    ("that is|was all", 1.0),
    ("that is|was it$", 1.0),
    ("that will be all", 1.0),
    ("nothing else|more|further", 1.0),
    ("no more|other|further questions", 1.0),
    ("hang up", 1.0),
    ("end call|conversation", 1.0),
    ("see you", 1.0),
    ("have nice|good|great|lovely day|evening|weekend|afternoon|one", 1.0),
    ("i am done|finished", 1.0),
    ("all i needed|wanted|need", 1.0),
    ("talk you later|soon", 1.0),
];
const REPEAT: &[Pattern] = &[
    ("repeat that|it|this|yourself|please|again", 1.0),
    ("^repeat$", 1.0),
    ("say that|it|this again", 1.0),
    ("^say again", 1.0),
    ("come|once again|more$", 1.0),
    ("one more time", 1.0),
    ("what did|was you|that say$", 1.0),
    ("what did you just", 1.0),
    ("not hear|catch|get|understand that|you|it|what", 1.0),
    ("^pardon", 1.0),
    ("^i beg your pardon", 1.0),
    ("^sorry$", 1.0),
    ("^what$", 1.0),
    ("^sorry what$", 1.0),
    ("^excuse me$", 1.0),
];
const TIME: &[Pattern] = &[
    ("what time is it|now", 1.0),
    ("what time it is", 1.0),
    ("what is time", 1.0),
    ("tell|give me time", 1.0),
    ("have|got|know time$", 1.0),
    ("current time", 1.0),
];
const DATE: &[Pattern] = &[
    ("what|which day is", 1.0),
    ("what|which day it is", 1.0),
    ("what|which date", 1.0),
    ("what is date", 1.0),
    ("what is today", 1.0),
    ("today date", 1.0),
];
const HELP: &[Pattern] = &[
    ("what can|could you do|help|tell", 1.0),
    ("^help$", 1.0),
    ("help me", 1.0),
    ("how can|could you help", 1.0),
    ("what options|choices", 1.0),
    ("what are my options|choices", 1.0),
    ("what do you do|know$", 1.0),
];
const GREETING: &[Pattern] = &[
    ("^hello|hi|hey|greetings|hiya", 1.0),
    ("good morning|afternoon|evening", 1.0),
    ("are you there$", 1.0),
];
const THANKS: &[Pattern] = &[("thank you", 1.0), ("thanks", 1.0), ("cheers$", 1.0)];
const YES: &[Pattern] = &[
    (
        "^yes|yeah|yep|yup|sure|okay|ok|correct|right|exactly|absolutely|definitely|certainly|perfect|fine|indeed|great|mhm|please",
        1.0,
    ),
    (
        "that|it is|sounds|was correct|right|fine|good|it|perfect|great|okay",
        1.0,
    ),
    ("of course", 1.0),
    ("go ahead", 1.0),
    ("i would$", 1.0),
    ("i would like that|to", 1.0),
    ("why not", 1.0),
    ("i think so$", 1.0),
    ("you got it|that$", 1.0),
    ("looks|sounds|all good|fine|correct|right|perfect|great", 1.0),
];
const NO: &[Pattern] = &[
    ("^no|nope|nah|not|nothing", 1.0),
    ("^thanks|you but no", 1.0),
    ("that is not", 1.0),
    ("i am good|fine|okay$", 1.0),
    ("no thank|thanks", 1.0),
    ("do|would not", 1.0),
];
const WRONG: &[Pattern] = &[
    ("wrong|incorrect|mistake|misheard|misunderstood", 1.0),
    ("not right|correct|true|quite", 1.0),
    ("change|correct|fix name|number|message|it|that|something", 1.0),
];
const CANCEL: &[Pattern] = &[
    ("never mind", 1.0),
    ("nevermind", 1.0),
    ("forget it|that|about", 1.0),
    ("^cancel", 1.0),
    ("cancel that|it|message|this", 1.0),
    ("not bother", 1.0),
    ("changed my mind", 1.0),
    ("not want to leave message", 1.0),
    ("no message", 1.0),
];
const WHO: &[Pattern] = &[
    ("who are you", 1.0),
    ("are you robot|human|machine|computer|bot|real|ai|person|recording", 1.0),
    ("am i speaking|talking to|with", 1.0),
    ("who is this", 1.0),
    ("what is your name", 1.0),
    ("^what are you$", 1.0),
];
const HOW: &[Pattern] = &[("how are you", 1.0), ("how is it going", 1.0), ("how do you do", 1.0)];
const WAIT: &[Pattern] = &[
    ("hold on", 1.0),
    ("hang on", 1.0),
    ("one|a|just moment|second|minute|sec", 1.0),
    ("^wait", 1.0),
    ("let me think|see|check|look|get|find", 1.0),
    ("give me moment|second|minute|sec", 1.0),
    ("bear with", 1.0),
];
const DECLINE: &[Pattern] = &[
    ("rather|prefer not", 1.0),
    ("not want|like to say|give|tell|share", 1.0),
    ("do|have not have|got", 1.0),
    ("have no|none", 1.0),
    ("^no|nope|none|anonymous", 1.0),
    ("no name|number|phone", 1.0),
    ("not matter|important|necessary", 1.0),
    ("none of your", 1.0),
    ("skip", 1.0),
];

/// How strongly an utterance speaks for an intent; 0 below the threshold.
pub(super) fn score(intent: Intent, words: &[Word]) -> f32 {
    if intent == Intent::Message && refuses_message(words) {
        return 0.0;
    }
    let total: f32 = patterns(intent)
        .iter()
        .filter(|(pattern, _)| matches(pattern, words))
        .map(|(_, weight)| weight)
        .sum();
    if total >= THRESHOLD { total } else { 0.0 }
}

/// Whether an utterance speaks for an intent.
pub(super) fn is(intent: Intent, words: &[Word]) -> bool {
    score(intent, words) > 0.0
}

/// Whether an utterance contains the words of a pattern; see [`Pattern`].
pub(super) fn matches(pattern: &str, words: &[Word]) -> bool {
    let (pattern, at_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (pattern, at_end) = pattern.strip_suffix('$').map_or((pattern, false), |rest| (rest, true));
    let slots: Vec<&str> = pattern.split(' ').collect();
    (0..words.len())
        .take(if at_start { 1 } else { words.len() })
        .any(|from| matches_from(&slots, words.get(from..).unwrap_or_default(), 0, at_end))
}

fn matches_from(slots: &[&str], words: &[Word], gap: usize, at_end: bool) -> bool {
    let Some((slot, more)) = slots.split_first() else {
        return !at_end || words.is_empty();
    };
    (0..=gap).any(|skipped| {
        words.get(skipped).is_some_and(|word| fits(slot, &word.text))
            && matches_from(more, words.get(skipped + 1..).unwrap_or_default(), GAP, at_end)
    })
}

fn fits(slot: &str, word: &str) -> bool {
    let slot = if slot == "@" { PERSON } else { slot };
    slot.split('|').any(|choice| choice == word)
}

fn refuses_message(words: &[Word]) -> bool {
    matches("not|no|without leave|want|message", words) && matches("message|messages", words)
}

fn patterns(intent: Intent) -> &'static [Pattern] {
    match intent {
        Intent::Message => MESSAGE,
        Intent::Transfer => TRANSFER,
        Intent::Goodbye => GOODBYE,
        Intent::Repeat => REPEAT,
        Intent::Time => TIME,
        Intent::Date => DATE,
        Intent::Help => HELP,
        Intent::Greeting => GREETING,
        Intent::Thanks => THANKS,
        Intent::Yes => YES,
        Intent::No => NO,
        Intent::Wrong => WRONG,
        Intent::Cancel => CANCEL,
        Intent::WhoAreYou => WHO,
        Intent::HowAreYou => HOW,
        Intent::Wait => WAIT,
        Intent::Decline => DECLINE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    #[track_caller]
    fn all_are(intent: Intent, sayings: &[&str]) {
        for said in sayings {
            assert!(is(intent, &words(said)), "{said:?} should be {intent:?}");
        }
    }

    #[track_caller]
    fn none_is(intent: Intent, sayings: &[&str]) {
        for said in sayings {
            assert!(!is(intent, &words(said)), "{said:?} should not be {intent:?}");
        }
    }

    #[test]
    fn wishes_to_leave_a_message_are_recognised() {
        all_are(
            Intent::Message,
            &[
                "I'd like to leave a message.",
                "can i leave a message please",
                "Could you take a message?",
                "um, leave message",
                "Can you pass on a message for me?",
                "could someone call me back",
                "I have a message for the workshop",
            ],
        );
        none_is(
            Intent::Message,
            &[
                "I don't want to leave a message",
                "no message thanks",
                "did you get it",
                "hello",
            ],
        );
    }

    #[test]
    fn wishes_for_a_person_are_recognised() {
        all_are(
            Intent::Transfer,
            &[
                "can I speak to a human",
                "I want to talk to someone please",
                "Put me through to sales.",
                "operator",
                "transfer me",
                "I need a real person",
                "could you connect me with support",
                "may I speak with Mr. Brown",
            ],
        );
        none_is(
            Intent::Transfer,
            &["nice to talk to you", "what are your hours", "I spoke yesterday"],
        );
    }

    #[test]
    fn goodbyes_are_recognised() {
        all_are(
            Intent::Goodbye,
            &[
                "Goodbye.",
                "bye bye",
                "OK good-bye",
                "that's all thank you",
                "No, that's it.",
                "have a nice day",
                "nothing else",
            ],
        );
        none_is(Intent::Goodbye, &["is that it on the corner", "buy one", "all of them"]);
    }

    #[test]
    fn questions_about_time_and_date_are_told_apart() {
        all_are(
            Intent::Time,
            &[
                "what time is it",
                "What's the time?",
                "could you tell me the time",
                "do you have the time",
            ],
        );
        all_are(
            Intent::Date,
            &[
                "what day is it today",
                "what's today's date",
                "What is the date?",
                "which day is it",
            ],
        );
        none_is(Intent::Time, &["what day is it", "what time do you open"]);
        none_is(Intent::Date, &["what time is it"]);
    }

    #[test]
    fn small_talk_and_control_are_recognised() {
        all_are(
            Intent::Repeat,
            &[
                "can you repeat that",
                "Sorry?",
                "say that again please",
                "pardon",
                "I didn't catch that",
                "what did you say",
            ],
        );
        all_are(
            Intent::Yes,
            &[
                "yes",
                "Yeah, that's right.",
                "correct",
                "that's correct",
                "sure",
                "of course",
                "Perfect.",
            ],
        );
        all_are(
            Intent::No,
            &["no", "No, thank you.", "nope", "not really", "that's not it"],
        );
        all_are(
            Intent::Wrong,
            &[
                "that's wrong",
                "that is not right",
                "there's a mistake",
                "you misheard",
                "change the number",
            ],
        );
        all_are(
            Intent::Cancel,
            &[
                "never mind",
                "forget it",
                "cancel that",
                "I changed my mind",
                "I don't want to leave a message",
            ],
        );
        all_are(
            Intent::WhoAreYou,
            &[
                "who are you",
                "are you a robot",
                "am I talking to a real person",
                "who is this",
            ],
        );
        all_are(
            Intent::Wait,
            &[
                "hold on",
                "just a second",
                "wait a minute",
                "let me check",
                "one moment please",
            ],
        );
        all_are(
            Intent::Help,
            &["what can you do", "help", "can you help me", "how could you help"],
        );
        all_are(
            Intent::Decline,
            &[
                "I'd rather not say",
                "I don't have one",
                "no number",
                "nope",
                "it doesn't matter",
            ],
        );
        all_are(Intent::Greeting, &["Hello?", "hi there", "Good morning."]);
        all_are(Intent::HowAreYou, &["how are you", "how are you doing today"]);
        all_are(Intent::Thanks, &["thanks a lot", "Thank you."]);
    }

    #[test]
    fn patterns_bind_to_the_beginning_and_the_end() {
        assert!(matches("^a b$", &words("a x b")));
        assert!(!matches("^a b$", &words("x a b")) && !matches("^a b$", &words("a b x")));
        assert!(!matches("alpha beta", &words("alpha 1 2 3 beta")), "too far apart");
        assert!(!matches("alpha", &[]));
    }
}
