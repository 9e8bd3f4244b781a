//! What a receptionist knows, from a short JSON file.
//!
//! ```json
//! {
//!   "company": "Voxray",
//!   "topics": [
//!     { "id": "parking", "label": "parking", "keywords": { "park": 2, "my car": 1 }, "answer": "There is …" }
//!   ],
//!   "hours": { "monday": ["09:00", "17:30"] }
//! }
//! ```
//! - `company`: as it is said aloud.
//! - `topics`: at least one. `keywords` are words, or several words in a row, each with a weight; singular and plural
//!   are one. A topic is meant when the weights of the keywords heard add up to 2 or more, so a weight of 2 decides
//!   alone and a weight of 1 needs a second word. `answer` is said as it stands. `label` completes "I can tell you
//!   about …".
//! - `hours`, optional: opening and closing time of each day, 24-hour; days left out are closed. With them, "are you
//!   open now", "tomorrow" or "on Sunday" are answered from the clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use time::Weekday;

use super::LocalTime;
use super::numbers::spoken_time;
use super::words::{Word, texts};

/// The facts of a made-up company, for trying things out.
const BUILT_IN: &str = include_str!("facts.json");
/// Sum of weights from which a topic is meant.
const THRESHOLD: f32 = 2.0;
/// Topics answered at once.
const MOST_ANSWERS: usize = 2;

/// A facts file that cannot be used. Nothing of it is used then.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Not JSON, or not of the documented shape.
    #[error("the facts file is not as documented: {0}")]
    Shape(#[source] serde_json::Error),
    /// Nothing to tell.
    #[error("the facts file has no topics: add at least one to \"topics\"")]
    NoTopics,
    /// A text is blank.
    #[error("\"{field}\" of topic \"{topic}\" is empty: write what should be said")]
    Empty {
        /// Topic, by its id.
        topic: String,
        /// Field.
        field: &'static str,
    },
    /// Two topics share an id.
    #[error("the topic \"{0}\" is there twice: give each topic its own \"id\"")]
    Duplicate(String),
    /// A topic that nobody can ask for.
    #[error(
        "the keywords of topic \"{topic}\" weigh {total} together, it needs {THRESHOLD}: add keywords or raise their weights"
    )]
    Unreachable {
        /// Topic, by its id.
        topic: String,
        /// All of its weights.
        total: f32,
    },
    /// A keyword without a word, or a weight that is no positive number.
    #[error("keyword \"{keyword}\" of topic \"{topic}\" needs at least one word and a weight above 0")]
    Keyword {
        /// Topic, by its id.
        topic: String,
        /// The keyword.
        keyword: String,
    },
    /// Not a day, or not a time.
    #[error(
        "\"hours\" of \"{0}\": use a day of the week and two times such as [\"09:00\", \"17:30\"], the earlier one first"
    )]
    Hours(String),
}

/// What a receptionist knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    company: String,
    topics: Vec<Topic>,
    hours: Option<[Option<Opening>; 7]>,
}

#[derive(Debug, Clone, PartialEq)]
struct Topic {
    label: String,
    /// Words in a row, in singular, with their weight.
    keywords: Vec<(Vec<String>, f32)>,
    answer: String,
}

/// Minutes since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    from: u16,
    to: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FactsFile {
    company: String,
    topics: Vec<TopicEntry>,
    hours: Option<BTreeMap<String, (String, String)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicEntry {
    id: String,
    label: String,
    keywords: BTreeMap<String, f32>,
    answer: String,
}

impl Facts {
    /// Reads a facts file in the format described at the top of this module.
    ///
    /// # Errors
    /// [`FactsError`], which says what to change.
    pub fn from_json(json: &str) -> Result<Self, FactsError> {
        let file: FactsFile = serde_json::from_str(json).map_err(FactsError::Shape)?;
        if file.topics.is_empty() {
            return Err(FactsError::NoTopics);
        }
        let mut seen = BTreeSet::new();
        for topic in &file.topics {
            if !seen.insert(&topic.id) {
                return Err(FactsError::Duplicate(topic.id.clone()));
            }
        }
        let topics = file.topics.into_iter().map(Topic::new).collect::<Result<_, _>>()?;
        let hours = file.hours.map(read_hours).transpose()?;
        Ok(Self {
            company: file.company,
            topics,
            hours,
        })
    }

    /// The facts of a made-up company.
    pub fn built_in() -> Self {
        // A test reads the embedded file; an empty company is what a broken one would leave.
        Self::from_json(BUILT_IN).unwrap_or(Self {
            company: String::new(),
            topics: Vec::new(),
            hours: None,
        })
    }

    /// The company's name, as it is said aloud.
    pub fn company(&self) -> &str {
        &self.company
    }

    /// "our opening hours, our address and parking": some of the subjects.
    pub(super) fn subjects(&self) -> String {
        let labels: Vec<&str> = self.topics.iter().take(4).map(|topic| topic.label.as_str()).collect();
        match labels.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => "the company".to_owned(),
        }
    }

    /// The answer to what was asked, if it is known; to two questions at once, both answers.
    pub(super) fn answer(&self, words: &[Word], now: LocalTime) -> Option<String> {
        if let Some(answer) = self.open_on(words, now) {
            return Some(answer);
        }
        let heard: Vec<String> = words.iter().map(|word| singular(&word.text)).collect();
        let mut scored: Vec<(f32, &Topic)> = self.topics.iter().map(|topic| (topic.score(&heard), topic)).collect();
        scored.retain(|(score, _)| *score >= THRESHOLD);
        // Stable: equal topics stay in the order of the file.
        scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let answers: Vec<&str> = scored
            .into_iter()
            .take(MOST_ANSWERS)
            .map(|(_, topic)| topic.answer.as_str())
            .collect();
        (!answers.is_empty()).then(|| answers.join(" "))
    }

    /// "Are you open on Sunday?", from the clock.
    fn open_on(&self, words: &[Word], now: LocalTime) -> Option<String> {
        let hours = self.hours.as_ref()?;
        let says = |choices: &[&str]| words.iter().any(|word| choices.contains(&word.text.as_str()));
        if !says(&["open", "opening", "close", "closed", "closing", "hours"]) {
            return None;
        }
        let opening = |day: Weekday| hours.get(usize::from(day.number_days_from_monday())).copied().flatten();
        let day_named = words.iter().find_map(|word| weekday(&singular(&word.text)));
        let (day, name) = match day_named {
            Some(day) => (day, format!("on {day}")),
            None if says(&["tomorrow"]) => (now.weekday.next(), "tomorrow".to_owned()),
            None if says(&["today", "tonight"]) => (now.weekday, "today".to_owned()),
            None if says(&["now", "currently", "still", "moment"]) => {
                return Some(open_now(opening(now.weekday), now));
            }
            None => return None,
        };
        Some(match opening(day) {
            Some(Opening { from, to }) => {
                format!(
                    "We are open {name} from {} to {}.",
                    minutes_spoken(from),
                    minutes_spoken(to)
                )
            }
            None => format!("We are closed {name}."),
        })
    }
}

impl Topic {
    fn new(entry: TopicEntry) -> Result<Self, FactsError> {
        for (field, text) in [("id", &entry.id), ("label", &entry.label), ("answer", &entry.answer)] {
            if text.trim().is_empty() {
                return Err(FactsError::Empty {
                    topic: entry.id.clone(),
                    field,
                });
            }
        }
        let mut keywords = Vec::new();
        for (keyword, weight) in entry.keywords {
            let sequence: Vec<String> = texts(&keyword).iter().map(|word| singular(word)).collect();
            if sequence.is_empty() || !weight.is_finite() || weight <= 0.0 {
                return Err(FactsError::Keyword {
                    topic: entry.id,
                    keyword,
                });
            }
            // Singular and plural are one keyword: the heavier counts.
            match keywords.iter_mut().find(|(known, _)| *known == sequence) {
                Some((_, known)) => *known = weight.max(*known),
                None => keywords.push((sequence, weight)),
            }
        }
        let total: f32 = keywords.iter().map(|(_, weight)| weight).sum();
        if total < THRESHOLD {
            return Err(FactsError::Unreachable { topic: entry.id, total });
        }
        Ok(Self {
            label: entry.label,
            keywords,
            answer: entry.answer,
        })
    }

    fn score(&self, heard: &[String]) -> f32 {
        let heard_keyword = |sequence: &[String]| heard.windows(sequence.len()).any(|window| window == sequence);
        self.keywords
            .iter()
            .filter(|(sequence, _)| heard_keyword(sequence))
            .map(|(_, weight)| weight)
            .sum()
    }
}

fn singular(word: &str) -> String {
    match word.strip_suffix('s') {
        Some(stem) if stem.len() >= 3 && !stem.ends_with('s') => stem.to_owned(),
        _ => word.to_owned(),
    }
}

fn weekday(name: &str) -> Option<Weekday> {
    [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ]
    .into_iter()
    .find_map(|(word, day)| (word == name).then_some(day))
}

fn read_hours(days: BTreeMap<String, (String, String)>) -> Result<[Option<Opening>; 7], FactsError> {
    let mut hours = [None; 7];
    for (name, (from, to)) in days {
        let opening = minutes(&from).zip(minutes(&to)).filter(|(from, to)| from < to);
        let slot = weekday(&name).and_then(|day| hours.get_mut(usize::from(day.number_days_from_monday())));
        match (slot, opening) {
            (Some(slot), Some((from, to))) => *slot = Some(Opening { from, to }),
            _ => return Err(FactsError::Hours(name)),
        }
    }
    Ok(hours)
}

fn minutes(time: &str) -> Option<u16> {
    let (hour, minute) = time.split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour <= 23 && minute <= 59).then_some(hour * 60 + minute)
}

fn minutes_spoken(minutes: u16) -> String {
    // Both are below 60.
    spoken_time((minutes / 60) as u8, (minutes % 60) as u8)
}

fn open_now(today: Option<Opening>, now: LocalTime) -> String {
    let minute = u16::from(now.hour) * 60 + u16::from(now.minute);
    match today {
        Some(Opening { from, to }) if (from..to).contains(&minute) => {
            format!("Yes, we are open until {}.", minutes_spoken(to))
        }
        Some(Opening { from, .. }) if minute < from => format!("Not yet. We open at {}.", minutes_spoken(from)),
        Some(_) | None => "No, we are closed at the moment.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    fn thursday(hour: u8, minute: u8) -> LocalTime {
        let date = time::Date::from_calendar_date(2026, time::Month::March, 5).unwrap();
        LocalTime {
            date,
            weekday: date.weekday(),
            hour,
            minute,
        }
    }

    fn answer(question: &str) -> Option<String> {
        Facts::built_in().answer(&words(question), thursday(10, 0))
    }

    #[test]
    fn the_built_in_facts_can_be_read() {
        let facts = Facts::from_json(BUILT_IN).unwrap();
        assert_eq!((facts.company(), facts.topics.len()), ("Voxray", 13));
        assert_eq!(
            facts.subjects(),
            "our opening hours, our address, parking and public transport"
        );
    }

    #[test]
    fn questions_find_their_answers() {
        for (question, part) in [
            ("What are your opening hours?", "Monday to Friday"),
            ("when do you close", "half past five"),
            ("um where are you located please", "Harbour Lane"),
            ("What's your address?", "Harbour Lane"),
            ("can I park my car there", "Mill Street"),
            ("How much does it cost to tune a piano?", "ninety dollars"),
            ("what's your e-mail", "dot example"),
            ("whats your email address", "dot example"),
            ("do you take credit cards", "in cash"),
            ("do you deliver", "twenty five dollars"),
            ("I'd like to make an appointment", "without an appointment"),
            ("WHAT SERVICES DO YOU OFFER", "repair, tune and rent"),
        ] {
            let answer = answer(question).unwrap_or_else(|| panic!("no answer to {question:?}"));
            assert!(answer.contains(part), "{question:?}: {answer}");
        }
    }

    #[test]
    fn two_questions_get_two_answers() {
        let answer = answer("What are your opening hours and where can I park?").unwrap();
        assert!(
            answer.contains("Monday to Friday") && answer.contains("Mill Street"),
            "{answer}"
        );
    }

    #[test]
    fn what_is_not_in_the_facts_has_no_answer() {
        for question in [
            "what is the capital of France",
            "hello",
            "",
            "my car is red",
            "call me at lunch",
        ] {
            assert_eq!(answer(question), None, "{question}");
        }
    }

    #[test]
    fn open_now_today_and_on_a_day_are_told_by_the_clock() {
        let ask = |question: &str, now| Facts::built_in().answer(&words(question), now).unwrap();
        let open = "Yes, we are open until five thirty in the afternoon.";
        assert_eq!(ask("are you open right now", thursday(17, 29)), open);
        assert_eq!(
            ask("are you still open", thursday(17, 30)),
            "No, we are closed at the moment."
        );
        assert_eq!(
            ask("are you open now", thursday(8, 0)),
            "Not yet. We open at nine o'clock in the morning."
        );
        assert_eq!(
            ask("Are you open on Sundays?", thursday(10, 0)),
            "We are closed on Sunday."
        );
        let saturday = "We are open on Saturday from ten o'clock in the morning to two o'clock in the afternoon.";
        assert_eq!(ask("when do you open on saturday", thursday(10, 0)), saturday);
        assert!(ask("are you open tomorrow", thursday(10, 0)).starts_with("We are open tomorrow from nine"));
    }

    #[test]
    fn a_bad_file_says_what_to_change() {
        let topic = |rest: &str| format!(r#"{{"company":"C","topics":[{{"id":"a","label":"a",{rest}}}]}}"#);
        let good = topic(r#""keywords":{"a":2},"answer":"A.""#);
        assert!(Facts::from_json(&good).is_ok());
        for (file, part) in [
            ("nonsense".to_owned(), "line 1 column"),
            (r#"{"company":"C"}"#.to_owned(), "missing field `topics`"),
            (r#"{"company":"C","topics":[]}"#.to_owned(), "add at least one"),
            (topic(r#""keywords":{"a":2},"answer":" ""#), "write what should be said"),
            (
                topic(r#""keywords":{"a":1},"answer":"A.""#),
                "weigh 1 together, it needs 2",
            ),
            (topic(r#""keywords":{"?":2},"answer":"A.""#), "at least one word"),
            (topic(r#""keywords":{"a":-2},"answer":"A.""#), "a weight above 0"),
            (topic(r#""keywords":{"a":2},"answers":"A.""#), "unknown field `answers`"),
            (good.replace("]}", r#"],"hours":{"monday":["9","17"]}}"#), "\"09:00\""),
            (
                good.replace("]}", r#"],"hours":{"funday":["09:00","17:00"]}}"#),
                "funday",
            ),
            (
                good.replace("]}", r#",{"id":"a","label":"b","keywords":{"b":2},"answer":"B."}]}"#),
                "there twice",
            ),
        ] {
            let error = Facts::from_json(&file).unwrap_err().to_string();
            assert!(error.contains(part), "{file}: {error}");
        }
    }
}
