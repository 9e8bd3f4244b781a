//! What the caller hears of the agent.

use std::time::Duration;

use voxray::caller::{Step, TICK_SAMPLES, rms};

use super::Server;
use crate::clips::answer;
use crate::recording::speech;
use crate::rows::{Errors, texts};

/// Root mean square of a line on which nobody speaks.
const SILENT_RMS: f64 = 50.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transcript_says_what_the_caller_heard_the_agent_say() {
    // The made-up name in the usual greeting is a word that no recogniser knows.
    let greeting = "Good morning, you have reached the front desk. How can I help you today?";
    let server = Server::start_with(&[("greeting", greeting)]).await;
    let questions = [
        "When is your office open during the week?",
        "Thank you, and where can I park my car when I visit you?",
        "No, thank you. Goodbye.",
    ];
    let mut steps = vec![answer()];
    for question in questions {
        steps.push(server.say(question).await);
        steps.push(answer());
    }
    steps.pop();
    steps.push(Step::WaitForHangUp {
        timeout: Duration::from_secs(60),
    });

    let call = server.call(steps).await;

    assert!(call.report.ended_by_agent);
    assert!(call.report.clears.is_empty(), "nobody interrupted");
    // The agent's turns lie between the caller's.
    let ends = call.report.said.iter().map(|said| said.to);
    let starts = call.report.said.iter().map(|said| said.from);
    let spans = std::iter::once(0)
        .chain(ends)
        .zip(starts.chain([usize::MAX / TICK_SAMPLES]));
    let rows = texts(&call.rows, "assistant");
    assert_eq!(rows.len(), questions.len() + 1, "{rows:#?}");
    let mut errors = Errors::default();
    for (row, (from, to)) in rows.into_iter().zip(spans) {
        let heard = &call.report.heard;
        let heard = &heard[from * TICK_SAMPLES..(to * TICK_SAMPLES).min(heard.len())];
        let understood = server.understand(heard).await;
        println!("{row:?}\n  was heard as {understood:?}");
        errors.add(row, &understood);
    }
    println!("the agent: {errors}");
    assert!(errors.rate() <= 0.10, "{errors}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_caller_gets_the_greeting_and_is_then_left_in_peace() {
    let server = Server::start().await;

    let call = server.call(vec![answer(), Step::Silence(Duration::from_secs(6))]).await;

    let heard = &call.report.heard;
    let (_, greeted) = *speech(heard).last().unwrap();
    let after = &heard[greeted + 2 * TICK_SAMPLES..];
    assert!(after.len() > 6 * 8_000, "{}", after.len());
    assert!(rms(after) < SILENT_RMS, "{}", rms(after));
    assert_eq!(call.rows.len(), 1, "{:#?}", call.rows);
    assert_eq!(call.rows[0].role, "assistant");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_pressed_reach_the_agent_and_are_answered() {
    let server = Server::start().await;
    let keys = ['4', '2', '#'].map(Step::Press);
    let answered = Step::WaitForSpeech {
        heard: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
    };

    let call = server
        .call([vec![answer()], keys.to_vec(), vec![answered]].concat())
        .await;

    assert_eq!(call.said_by("user"), ["[keys pressed: 42#]"]);
    assert_eq!(call.said_by("assistant").len(), 2, "{:#?}", call.rows);
    server.stop().await;
}
