//! What the caller has heard, by marks and by the clock.

use crate::harness::*;
use media_core::Time;
use media_core::conversation::*;

const GREETING: &str = "First sentence here. Second sentence here.";
const FIRST: &str = "First sentence here.";

/// The sentences take 50 and 53 frames.
fn greeted(echo: Option<u64>) -> Call {
    let settings = Settings {
        greeting: Some(GREETING.into()),
        far_end_marks: true,
        playout_lead: ms(200),
        ..settings()
    };
    let mut call = Call::unconnected(settings);
    call.echo_marks = echo.map(ms);
    call.input(Input::Connected);
    call
}

fn ended(call: &Call) -> Option<Time> {
    call.at(|output| *output == Output::Notice(Notice::AgentStoppedSpeaking))
}

#[test]
fn every_sentence_is_followed_by_a_mark() {
    let mut call = greeted(Some(0));
    call.advance(ms(3_000));
    let audible = call
        .log
        .iter()
        .filter(|(_, output)| matches!(output, Output::Play(_) | Output::Mark(_)));
    let marks: Vec<usize> = audible
        .enumerate()
        .filter(|(_, (_, output))| matches!(output, Output::Mark(_)))
        .map(|(index, _)| index)
        .collect();
    assert_eq!(marks, [50, 104]);
}

#[test]
fn the_far_end_decides_when_the_turn_is_over() {
    let mut call = greeted(Some(300));
    call.advance(ms(5_000));
    assert_eq!(ended(&call), Some(ms(2_060 + 300)));
}

#[test]
fn without_answers_to_marks_the_clock_counts_after_a_while_and_then_at_once() {
    let mut call = greeted(None);
    call.advance(ms(5_000));
    assert_eq!(ended(&call), Some(ms(2_060)));
    assert_eq!(call.rows(), [agent_row(GREETING)]);
    call.say("Hi.");
    call.answer("Hello to you.");
    let asked_at = call.now;
    call.advance(ms(3_000));
    let last = call
        .log
        .iter()
        .rev()
        .find(|(_, output)| *output == Output::Notice(Notice::AgentStoppedSpeaking));
    // Both of its pieces are padded to whole frames.
    assert_eq!(last.map(|(at, _)| *at), Some(asked_at + ms(50) * 13 + ms(10)));
}

#[test]
fn what_is_behind_a_missing_mark_was_not_heard() {
    let mut call = greeted(Some(500));
    // By the clock the second sentence has begun; by the far end the first is not over.
    call.advance(ms(1_200));
    call.speech(ms(200));
    assert_eq!(call.rows(), [cut_row(FIRST)]);
}

#[test]
fn a_delay_shown_by_marks_is_taken_off_the_estimate() {
    let mut call = greeted(Some(400));
    call.advance(ms(1_700));
    call.speech(ms(200));
    // 900 ms of the second sentence were due, 500 ms heard: "Second" is 300 ms, "Second sentence" 750 ms.
    assert_eq!(call.rows(), [cut_row("First sentence here. Second")]);
}

#[test]
fn marks_sent_back_by_a_clear_mean_nothing() {
    let mut call = greeted(Some(0));
    call.advance(ms(300));
    call.speech(ms(200));
    let rows = call.rows();
    call.input(Input::Played(MarkId(1)));
    call.input(Input::Played(MarkId(99)));
    assert_eq!(call.rows(), rows);
    assert_eq!(rows, [cut_row("First")]);
}

#[test]
fn a_far_end_that_answers_marks_at_once_is_believed_no_further_than_it_was_sent() {
    let mut call = Call::unconnected(Settings {
        greeting: Some(GREETING.into()),
        far_end_marks: true,
        ..settings()
    });
    call.input(Input::Connected);
    for _ in 0..200 {
        let seen = call.log.len();
        call.advance(FRAME);
        let marks: Vec<MarkId> = call.log[seen..]
            .iter()
            .filter_map(|(_, output)| {
                if let Output::Mark(mark) = output {
                    Some(*mark)
                } else {
                    None
                }
            })
            .collect();
        for mark in marks {
            call.input(Input::Played(mark));
        }
    }
    assert_eq!(call.rows(), [agent_row(GREETING)]);
}

/// How far ahead of the clock each provider gets audio, and whether and how late it reports what was played.
const FAR_ENDS: [(&str, u64, Option<u64>); 7] = [
    ("20 ms messages and marks", 200, Some(0)),
    ("20 ms messages and late marks", 200, Some(250)),
    ("20 ms messages, marks never echoed", 200, None),
    ("100 ms messages and marks", 200, Some(100)),
    ("100 ms messages, marks never echoed", 200, None),
    ("200 ms messages without marks", 400, None),
    ("a client that buffers little", 60, Some(0)),
];

#[test]
fn whatever_the_far_end_is_like_the_history_holds_only_what_was_heard() {
    for (what, lead, echo) in FAR_ENDS {
        for cut_at in [300, 700, 1_200, 1_700] {
            let marks = what.contains("marks") && !what.contains("without");
            let mut call = Call::unconnected(Settings {
                greeting: Some(GREETING.into()),
                far_end_marks: marks,
                playout_lead: ms(lead),
                ..settings()
            });
            call.echo_marks = echo.map(ms);
            call.input(Input::Connected);
            call.advance(ms(cut_at));
            call.speech(ms(200));

            let heard_ms = cut_at + 200 - echo.unwrap_or(0);
            let written = call.rows().first().map_or(String::new(), |(_, text, _)| text.clone());
            assert!(GREETING.starts_with(&written), "{what} at {cut_at}: {written:?}");
            let written_ms = written.chars().count() as u64 * 50;
            // Never more than was heard: a frame is all that rounding may add. Never less than the last whole word.
            assert!(
                written_ms <= heard_ms + echo.unwrap_or(0) + 20,
                "{what} at {cut_at}: {written:?}"
            );
            // The first mark that is not echoed is waited for; what lies behind it does not count meanwhile.
            let waits = if what.contains("never") { 1_000 } else { 0 };
            assert!(
                written_ms + 600 + lead + waits >= heard_ms,
                "{what} at {cut_at}: {written:?}"
            );
            assert!(call.is_cut(), "{what} at {cut_at}");
        }
    }
}
