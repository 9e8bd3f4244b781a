use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::conversation::{Origin, SpeechId, TurnPart, Word};
use crate::recorder::{Channels, Recorder};
use crate::redact::{Kind, Unfinished};

const RATE_HZ: u32 = 8_000;
const FRAME_SAMPLES: usize = 160;
const CARD: &str = "4111 1111 1111 1111";
/// What the caller and the agent sound like.
const CALLER: i16 = 1_000;
const AGENT: i16 = 2_000;
const PRE_ROLL: Duration = Duration::from_millis(500);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn word(text: &str, from: u64, to: u64) -> Word {
    let (from, to) = (ms(from), ms(to));
    Word {
        text: text.to_owned(),
        from,
        to,
    }
}

/// A call of which both sides are audible all the time.
struct Call {
    recorder: Recorder,
    mute: Mute,
    now: Time,
    held: VecDeque<(i16, i16)>,
    caller: Vec<i16>,
    agent: Vec<i16>,
    agent_speaks: bool,
    unfinished: Unfinished,
}

fn redactor() -> Redactor {
    Redactor::new(vec![Kind::Card, Kind::Email], Vec::new()).unwrap()
}

impl Call {
    fn new() -> Self {
        Self {
            recorder: Recorder::new(RATE_HZ, Channels::Stereo),
            mute: Mute::new(RATE_HZ, Arc::new(redactor()), PRE_ROLL),
            now: Time::ZERO,
            held: VecDeque::new(),
            caller: Vec::new(),
            agent: Vec::new(),
            agent_speaks: false,
            unfinished: Unfinished::default(),
        }
    }

    fn hear(&mut self, samples: &[i16]) {
        self.recorder.caller(self.now, samples);
        self.mute.heard(self.now, self.recorder.caller_samples());
    }

    fn until(&mut self, end: u64) {
        while self.now < ms(end) {
            self.now += ms(20);
            self.hear(&[CALLER; FRAME_SAMPLES]);
            if self.agent_speaks {
                self.recorder.agent(self.now, &[AGENT; FRAME_SAMPLES]);
            }
            self.give();
        }
    }

    fn take(&mut self, sides: &Sides) {
        self.mute.push(sides);
        let both = sides.caller.samples.iter().zip(&sides.agent.samples);
        self.held.extend(both.map(|(caller, agent)| (*caller, *agent)));
    }

    fn give(&mut self) {
        while let Some(sides) = self.recorder.take_sides(self.now) {
            self.take(&sides);
        }
        let frames = self.mute.settled(self.now) - self.mute.given();
        let taken = self.held.drain(..usize::try_from(frames).unwrap());
        let (mut caller, mut agent): (Vec<i16>, Vec<i16>) = taken.unzip();
        let first = self.mute.given();
        assert_eq!(first, self.caller.len() as u64);
        self.mute.apply(first, &mut caller, &mut agent);
        self.caller.extend(caller);
        self.agent.extend(agent);
    }

    fn end(&mut self) {
        if let Some(sides) = self.recorder.finish_sides(self.now) {
            self.take(&sides);
        }
        self.mute.close(self.recorder.agent_samples());
        self.give();
        assert!(self.held.is_empty());
        assert_eq!(self.caller.len() as u64, self.recorder.total_frames());
    }

    fn begin(&mut self, id: u64) {
        let heard = Duration::from_secs_f64(self.recorder.caller_samples() as f64 / f64::from(RATE_HZ));
        self.mute.utterance_begins(UtteranceId(id), heard);
    }

    fn understand(&mut self, id: u64, text: &str, words: Option<&[Word]>) {
        self.mute.utterance_ends(UtteranceId(id));
        if let Some(words) = words {
            self.mute.recognised(UtteranceId(id), &SttEvent::Words(words.to_vec()));
        }
        self.mute.recognised(UtteranceId(id), &SttEvent::Final(text.to_owned()));
    }

    fn user_turn(&mut self, parts: &[(&str, Origin)]) {
        let mut text = String::new();
        let mut places = Vec::new();
        for (part, origin) in parts {
            text = crate::text::join(&text, part);
            let text = text.len() - part.len()..text.len();
            places.push(TurnPart { text, origin: *origin });
        }
        let redacted = redactor().find_in_turn(&mut self.unfinished, &text).ranges();
        self.mute.turn(&record(Role::User, &text, places), &redacted);
    }

    fn speak(&mut self, text: &str) {
        self.agent_speaks = true;
        let notice = Notice::Speaking {
            speech: SpeechId(1),
            text: text.to_owned(),
        };
        self.mute.noticed(&notice, self.recorder.agent_samples());
    }

    fn fall_silent(&mut self, heard: &str) {
        self.agent_speaks = false;
        self.mute.turn(&record(Role::Assistant, heard, Vec::new()), &[]);
        self.mute
            .noticed(&Notice::AgentStoppedSpeaking, self.recorder.agent_samples());
    }

    /// Milliseconds that are silent, from the first sound on.
    fn silent(side: &[i16]) -> Vec<(usize, usize)> {
        let mut silent: Vec<Range<usize>> = Vec::new();
        let first = side.iter().position(|sample| *sample != 0).unwrap_or(side.len());
        for (at, _) in side.iter().enumerate().skip(first).filter(|(_, sample)| **sample == 0) {
            match silent.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                Some(_) | None => silent.push(at..at + 1),
            }
        }
        silent.iter().map(|range| (range.start / 8, range.end / 8)).collect()
    }
}

fn record(role: Role, text: &str, parts: Vec<TurnPart>) -> TurnRecord {
    TurnRecord {
        seq: 0,
        role,
        text: text.to_owned(),
        started_at: Time::ZERO,
        ended_at: Time::ZERO,
        interrupted: false,
        timing: None,
        parts,
    }
}

const FIRST: Origin = Origin::Utterance(UtteranceId(1));
const SECOND: Origin = Origin::Utterance(UtteranceId(2));

#[test]
fn the_words_of_a_span_are_silent_and_those_around_it_are_not() {
    let mut call = Call::new();
    call.until(2_000);
    call.begin(1);
    call.until(8_000);
    let said = format!("It is {CARD}, thanks.");
    let mut words = vec![word("It", 400, 600), word(" is", 600, 900)];
    words.extend((0..4).map(|group| {
        word(
            CARD.split(' ').nth(group).unwrap(),
            1_000 + 500 * group as u64,
            1_500 + 500 * group as u64,
        )
    }));
    words.push(word("thanks", 3_600, 4_000));
    call.understand(1, &said, Some(&words));
    call.user_turn(&[(&said, FIRST)]);
    call.until(12_000);
    call.end();

    // 1.0 to 3.0 s of an utterance that began at 2 s, and the margins.
    assert_eq!(Call::silent(&call.caller), [(2_750, 5_250)]);
    assert_eq!(call.caller.len(), 12_000 * 8);
}

#[test]
fn without_word_times_the_whole_utterance_is_silent() {
    let others = [word("Something", 0, 500), word("else", 500, 900)];
    let backwards = [word("It", 400, 600), word("is", 300, 400), word(CARD, 600, 900)];
    let too_long = [word("It", 0, 500), word("is", 500, 600), word(CARD, 600, 9_000)];
    for words in [None, Some(&others[..]), Some(&backwards), Some(&too_long)] {
        let mut call = Call::new();
        call.until(2_000);
        call.begin(1);
        call.until(5_000);
        let said = format!("It is {CARD}.");
        call.understand(1, &said, words);
        call.user_turn(&[(&said, FIRST)]);
        call.until(8_000);
        call.end();
        assert_eq!(Call::silent(&call.caller), [(2_000, 5_000)], "{words:?}");
    }
}

#[test]
fn nothing_of_an_utterance_is_given_out_before_its_turn_is_complete() {
    let mut call = Call::new();
    call.until(5_000);
    // Where nobody speaks, what is older than an utterance may reach back is given out.
    assert!(call.caller.len() >= 3_700 * 8, "{}", call.caller.len());
    call.begin(1);
    call.until(20_000);
    assert!(call.caller.len() <= 5_000 * 8);
    call.understand(1, "Good morning.", None);
    call.until(30_000);
    assert!(
        call.caller.len() <= 5_000 * 8,
        "the text may go on with the next utterance"
    );
    call.user_turn(&[("Good morning.", FIRST)]);
    call.until(30_020);
    assert!(call.caller.len() >= 28_000 * 8);
    call.end();
    assert!(Call::silent(&call.caller).is_empty());
}

#[test]
fn a_number_in_two_breaths_is_one_number() {
    let mut call = Call::new();
    call.until(1_000);
    call.begin(1);
    call.until(3_000);
    let first = [
        word("Sure", 0, 500),
        word("4111", 700, 1_000),
        word("1111", 1_000, 1_500),
    ];
    call.understand(1, "Sure: 4111 1111", Some(&first));
    call.until(4_000);
    call.begin(2);
    call.until(6_000);
    let second = [
        word("1111", 200, 500),
        word("1111", 500, 700),
        word("okay", 1_200, 1_500),
    ];
    call.understand(2, "1111 1111, okay?", Some(&second));
    call.user_turn(&[("Sure: 4111 1111", FIRST), ("1111 1111, okay?", SECOND)]);
    call.end();
    assert_eq!(Call::silent(&call.caller), [(1_450, 2_750), (4_000, 4_950)]);
}

#[test]
fn of_a_number_in_two_turns_the_second_is_silent() {
    let mut call = Call::new();
    for (from, id, origin, text) in [(1_000, 1, FIRST, "4111 1111."), (4_000, 2, SECOND, "1111 1111.")] {
        call.until(from);
        call.begin(id);
        call.until(from + 2_000);
        call.understand(id, text, None);
        call.user_turn(&[(text, origin)]);
    }
    call.end();
    assert_eq!(Call::silent(&call.caller), [(4_000, 6_000)]);
}

#[test]
fn what_recognition_fails_on_is_silent_until_somebody_listens_again() {
    let mut call = Call::new();
    call.until(1_000);
    call.begin(1);
    call.until(2_000);
    call.mute
        .recognised(UtteranceId(1), &SttEvent::Failed("down".to_owned()));
    call.until(3_000);
    call.begin(2);
    call.until(4_000);
    call.understand(2, "Hello.", None);
    call.mute.noticed(&Notice::UserStoppedSpeaking, 0);
    call.user_turn(&[("Hello.", SECOND)]);
    call.until(5_000);
    call.begin(3);
    call.until(6_000);
    call.mute.utterance_lost(UtteranceId(3));
    call.until(7_000);
    call.mute.noticed(&Notice::UserStoppedSpeaking, 0);
    call.until(9_000);
    // Nothing was understood of this one, and nothing had to be.
    call.begin(4);
    call.until(10_000);
    call.understand(4, " ", None);
    call.until(11_000);
    // And nobody waits for the text of the last one.
    call.begin(5);
    call.until(12_000);
    call.end();
    assert_eq!(
        Call::silent(&call.caller),
        [(1_000, 3_000), (5_000, 7_000), (11_000, 12_000)]
    );
}

#[test]
fn keys_are_silent_where_their_text_is_redacted() {
    let mut call = Call::new();
    let mut pressed = Vec::new();
    for first in [3_000, 10_000] {
        call.until(first);
        for _ in 0..4 {
            call.mute.key(call.now, '4');
            call.until(u64::try_from(call.now.as_millis()).unwrap() + 500);
        }
        pressed.push((ms(first), call.now - ms(500)));
    }
    let origin = |(from, to): (Time, Time)| Origin::Keys { from, to };
    assert!(call.caller.len() <= 2_000 * 8);
    let card = format!("[keys pressed: {}]", CARD.replace(' ', ""));
    call.user_turn(&[("[keys pressed: 1234]", origin(pressed[0]))]);
    call.user_turn(&[(&card, origin(pressed[1]))]);
    // No such key; and two that nobody asks for any more.
    call.until(20_000);
    call.mute.key(call.now, 'x');
    call.until(25_000);
    call.mute.key(call.now, '1');
    call.until(26_000);
    call.mute.key(call.now, '#');
    call.until(55_000);
    assert!(call.caller.len() <= 24_000 * 8);
    call.until(60_000);
    assert!(call.caller.len() >= 58_000 * 8);
    call.end();
    assert_eq!(Call::silent(&call.caller), [(9_000, 12_500), (24_000, 27_000)]);
}

#[test]
fn the_agents_sentence_with_a_span_in_it_is_silent() {
    let mut call = Call::new();
    call.until(2_000);
    call.mute.noticed(&Notice::AgentStartedSpeaking, 0);
    for (text, end) in [
        ("Thank you.", 3_000),
        ("I have 4111 1111.", 5_000),
        ("And 1111 1111.", 6_000),
        ("So 4111 1111", 7_000),
        ("1111 1111.", 8_000),
        ("Is that right?", 9_000),
    ] {
        call.speak(text);
        call.until(end);
    }
    assert!(call.agent.len() <= 2_020 * 8, "a turn is held until it is over");
    call.fall_silent("Thank you. I have 4111 1111. And 1111 1111. So 4111 1111 1111 1111. Is that right?");
    call.until(12_000);
    call.end();
    // "And" is no hesitation: only the second time it is a number. A frame is heard after it is sent; the margins are 20 ms.
    let agent = &call.agent[..9_000 * 8];
    assert_eq!(Call::silent(agent), [(6_000, 8_040)]);
}

#[test]
fn what_the_agent_was_cut_off_in_is_silent_too() {
    let mut call = Call::new();
    call.until(1_000);
    call.speak("Fine.");
    call.until(2_000);
    call.speak("It is ada@example.com.");
    call.until(2_500);
    call.recorder.agent_cut(FRAME_SAMPLES as u64);
    call.fall_silent("Fine. It is");
    call.until(5_000);
    call.end();
    assert_eq!(Call::silent(&call.agent[..2_480 * 8]), [(2_000, 2_480)]);
}

#[test]
fn a_client_that_sends_nothing_holds_nothing_up() {
    let mut call = Call::new();
    call.until(3_000);
    for _ in 0..500 {
        call.now += ms(20);
        call.give();
    }
    assert!(call.caller.len() >= 12_000 * 8, "{}", call.caller.len());
}

#[test]
fn what_is_held_too_long_is_decided_on_the_safe_side() {
    let mut call = Call::new();
    call.until(1_000);
    call.begin(1);
    call.until(2_000);
    call.speak("Once upon a time.");
    call.until(60_000);
    call.speak("There was 4111 1111 1111 1111.");
    call.until(62_000);
    call.speak("The end.");
    call.until(302_500);
    assert!(call.caller.len() > 60_000 * 8);
    assert_eq!(Call::silent(&call.caller[..60_000 * 8]), [(1_000, 60_000)]);
    call.fall_silent("Once upon a time. There was 4111 1111 1111 1111. The end.");
    call.understand(1, "Aha.", None);
    call.user_turn(&[("Aha.", FIRST)]);
    call.until(310_000);
    call.end();
    assert_eq!(Call::silent(&call.agent[..300_000 * 8]), [(60_000, 62_040)]);
    let heard = &call.caller[305_000 * 8..];
    assert!(Call::silent(heard).is_empty());
}

proptest! {
    #[test]
    fn no_sample_of_a_span_is_given_out_whatever_the_network_does(
        lateness in prop::collection::vec((0_u64..90, 0_u32..20), 300..600),
        from in 50_usize..150,
        length in 10_usize..100,
    ) {
        let mut call = Call::new();
        let (utterance, card) = (from - 20..from + length + 20, from..from + length);
        let mut sent = Vec::new();
        let mut lost = 0;
        for (number, (late, fate)) in lateness.iter().enumerate() {
            if number == utterance.start {
                call.begin(1);
            }
            // One of twenty packets is lost, and a caller's clock may be wrong.
            let due = ms(20 * (number as u64 + 1) + late);
            call.now = call.now.max(due);
            if *fate == 0 {
                lost += 1;
            } else {
                let sound = if card.contains(&number) { -CALLER } else { CALLER };
                sent.push(number);
                call.hear(&[sound; FRAME_SAMPLES]);
            }
            call.give();
            if number == utterance.end {
                let heard = |until: usize| {
                    let before = sent.iter().filter(|sent| (utterance.start..until).contains(*sent)).count();
                    20 * before as u64
                };
                let card = [word("It's", 0, heard(card.start)), word(CARD, heard(card.start), heard(card.end))];
                call.understand(1, &format!("It's {CARD}."), Some(&card));
                call.user_turn(&[(&format!("It's {CARD}."), FIRST)]);
            }
        }
        call.end();
        let leaked = call.caller.iter().filter(|sample| **sample < 0).count();
        prop_assert_eq!(leaked, 0);
        // Nor is more silent than the span with its margins, what was lost, and what came late.
        let heard = call.caller.iter().filter(|sample| **sample > 0).count() / FRAME_SAMPLES;
        let kept = lateness.len() - lost - length - 2 * 13;
        prop_assert!(heard + 40 >= kept, "{heard} of {kept}");
    }
}
