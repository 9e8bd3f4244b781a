//! A recording holds what the caller heard of the agent, and not what was sent.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails may panic"
)]

use std::time::Duration;

use crate::harness::*;
use media_core::conversation::*;

const GREETING: &str = "Good morning, this is Vox.";
const ANSWER: &str = "We are open from nine to five on weekdays. On Sunday we are closed.";
/// Further ahead of time than any far end of these tests is late.
const LEAD: Duration = Duration::from_millis(200);
/// What rounding to whole frames may take or add.
const ROUNDING: usize = 160;

fn samples(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap() * RATE_HZ as usize / 1_000
}

/// A call whose far end plays this much later than it gets audio, and says so; `None`: it says nothing.
fn call(delay: Option<Duration>) -> Call {
    let mut call = Call::unconnected(Settings {
        far_end_marks: delay.is_some(),
        greeting: Some(GREETING.to_owned()),
        playout_lead: LEAD,
        ..settings()
    });
    call.echo_marks = delay;
    call.input(Input::Connected);
    call
}

/// First and last sample that is not silent in this part.
fn loud(agent: &[i16], from: usize) -> (usize, usize) {
    let is_loud = |sample: &i16| *sample != 0;
    let first = agent[from..].iter().position(is_loud).unwrap();
    (from + first, agent.iter().rposition(is_loud).unwrap() + 1)
}

#[test]
fn after_an_interruption_the_recording_ends_where_the_caller_heard_the_agent_end() {
    for delay in [None, Some(0), Some(100), Some(300), Some(700)] {
        let late = ms(delay.unwrap_or(0));
        let mut call = call(delay.map(ms));
        // The greeting is heard, and teaches how late the far end is.
        call.advance(ms(3_000));
        call.say("When are you open?");
        let asked_at = samples(call.now);
        call.answer(ANSWER);
        let answered_at = call.now;
        call.advance(ms(1_500));
        call.speech(ms(400));
        let cut_at = call
            .at(|output| matches!(output, Output::ClearPlayback { .. }))
            .unwrap();
        call.silence(ms(2_000));

        let agent = call.recorded();

        let (first, last) = loud(&agent, asked_at);
        assert_eq!(first, samples(answered_at + late), "{delay:?}");
        let cut = samples(cut_at);
        assert!((cut - ROUNDING..=cut).contains(&last), "{delay:?}: {last} {cut}");
    }
}

#[test]
fn a_greeting_that_is_cut_off_before_its_end_is_as_long_in_the_recording_as_in_the_transcript() {
    // Nothing is known of this far end yet; what lies behind a mark that it has not answered was not heard.
    let mut call = Call::unconnected(Settings {
        far_end_marks: true,
        greeting: Some("One two three. Four five six. Seven eight nine.".to_owned()),
        playout_lead: LEAD,
        ..settings()
    });
    call.echo_marks = Some(ms(300));
    call.input(Input::Connected);
    // 50 ms a character: the first sentence is over after 700 ms, and known to be heard after 1000.
    call.advance(ms(1_100));
    call.speech(ms(200));
    assert_eq!(call.rows(), [cut_row("One two three. Four")]);
    let heard = call.now - ms(300);

    let (first, last) = loud(&call.recorded(), 0);

    assert_eq!(first, 0);
    assert!(last.abs_diff(samples(heard)) <= ROUNDING, "{last}");
}

#[test]
fn an_agent_that_is_heard_out_is_whole_in_the_recording() {
    for delay in [None, Some(0), Some(300)] {
        let mut call = call(delay.map(ms));
        call.advance(ms(3_000));
        call.say("When are you open?");
        let (asked_at, before) = (samples(call.now), call.frames().len());
        call.answer(ANSWER);
        // The far end catches up: its answer comes sooner than it did before.
        call.echo_marks = delay.map(|_| Duration::ZERO);
        call.input(Input::EndRequested {
            reason: EndReason::AgentHungUp,
            last_words: None,
        });
        call.advance(ms(10_000));
        let hung_up = call.at(|output| matches!(output, Output::HangUp(_))).unwrap();
        call.now = hung_up;
        let length = (call.frames().len() - before) * FRAME_SAMPLES;

        let (first, last) = loud(&call.recorded(), asked_at);

        // The last frame is filled up with silence.
        assert!((last - first).abs_diff(length) <= ROUNDING, "{delay:?}: {first} {last}");
    }
}
