//! A caller who speaks while the agent does.

use std::time::Duration;

use voxray::caller::{Step, TICK_SAMPLES, rms};

use super::Server;
use crate::clips::answer;
use crate::rows::Errors;

/// By how many packets the caller's clock and that of the recording may differ: that of the recording starts when the
/// server has set the call up.
const APART: usize = 15;
/// Root mean square above which a packet is speech.
const LOUD_RMS: f64 = 200.0;

fn loud_packets(audio: &[i16]) -> usize {
    audio
        .chunks(TICK_SAMPLES)
        .filter(|packet| rms(packet) > LOUD_RMS)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_stops_when_it_is_interrupted_and_the_call_goes_on() {
    let server = Server::start().await;
    let hours = "We are open Monday to Friday from nine in the morning to half past five, and on Saturday from ten to \
        two. On Sunday we are closed.";
    let steps = vec![
        answer(),
        server.say("When is your office open during the week?").await,
        Step::WaitForSpeech {
            heard: Duration::from_secs(2),
            timeout: Duration::from_secs(60),
        },
        server
            .say("Thank you, and is there a parking garage where I can park my car?")
            .await,
        answer(),
    ];

    let call = server.call(steps).await;

    let report = &call.report;
    println!("{:#?}", call.rows);
    let interruption = &report.said[1];
    let cleared = *report.clears.first().expect("the player was emptied");
    println!(
        "stopped {} ms after the interruption began",
        (cleared - interruption.from) * 20
    );
    assert!(
        (interruption.from..interruption.to).contains(&cleared),
        "while the caller spoke"
    );
    let after = &report.heard[(cleared + 1) * TICK_SAMPLES..interruption.to * TICK_SAMPLES];
    assert!(rms(after) < 50.0, "the agent went on: {}", rms(after));
    let recorded = &call.recording.right;
    let after = &recorded[(cleared + 1 + APART) * TICK_SAMPLES..(interruption.to - APART) * TICK_SAMPLES];
    assert!(rms(after) < 50.0, "the agent goes on in the recording: {}", rms(after));
    let begun = report.said[0].to * TICK_SAMPLES;
    let heard = loud_packets(&report.heard[begun..(cleared + 1) * TICK_SAMPLES]);
    let kept = loud_packets(&recorded[begun..(cleared + 1 + APART) * TICK_SAMPLES]);
    println!("{heard} packets heard of what was cut off, {kept} recorded");
    assert!(kept > 0 && heard.abs_diff(kept) <= APART, "{heard} {kept}");

    let agent = call.said_by("assistant");
    let [_greeting, cut, parking] = agent[..] else {
        panic!("{agent:#?}")
    };
    assert!(hours.starts_with(cut) && cut.len() < hours.len(), "{cut:?}");
    let before = &report.heard[report.said[0].to * TICK_SAMPLES..(cleared + 1) * TICK_SAMPLES];
    let heard = server.understand(before).await;
    let (said, understood) = (cut.split_whitespace().count(), heard.split_whitespace().count());
    println!("{said} words in the transcript, heard {heard:?}");
    assert!(said.abs_diff(understood) <= 2, "{cut:?} {heard:?}");
    assert!(parking.contains("visitor parking"), "{parking:?}");
    let asked: Vec<&str> = report.said.iter().map(|said| said.text.as_str()).collect();
    let errors = Errors::between(&asked.join(" "), &call.said_by("user").join(" "));
    // A synthetic caller is harder to understand than people are; what it said is there all the same.
    assert!(errors.rate() <= 0.25, "{errors}: {:#?}", call.rows);
    server.stop().await;
}
