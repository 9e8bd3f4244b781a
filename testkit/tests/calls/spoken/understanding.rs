//! What people say on the telephone is in the transcript.

use std::time::Duration;

use futures_util::future::join_all;
use media_svc::speech::models;
use voxray::caller::Step;
use voxray::wav;
use voxray::words::normalise;

use super::Server;
use crate::clips::{self, answer};
use crate::rows::Errors;

const TWO_CITIES: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age \
    of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was the \
    season of darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had \
    nothing before us, we were all going direct to heaven, we were all going direct the other way, in short, the period \
    was so far like the present period that some of its noisiest authorities insisted on its being received, for good or \
    for evil, in the superlative degree of comparison only.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_people_who_call_at_once_are_understood() {
    let server = Server::start().await;
    let clips = clips::all();
    let calls = clips
        .iter()
        .map(|clip| server.call(vec![answer(), clip.say(), answer()]));

    let calls = join_all(calls).await;

    let (mut read, mut all) = (Errors::default(), Errors::default());
    for (clip, call) in clips.iter().zip(&calls) {
        let understood = call.said_by("user").join(" ");
        println!(
            "{}: {} {understood:?}",
            clip.file,
            Errors::between(&clip.text, &understood)
        );
        all.add(&clip.text, &understood);
        if clip.read {
            read.add(&clip.text, &understood);
        }
        assert_eq!(
            call.said_by("assistant").len(),
            2,
            "greeting and answer: {:#?}",
            call.rows
        );
    }
    println!("read sentences: {read}; all: {all}");
    assert!(read.rate() <= 0.08, "{read}");
    assert!(all.rate() <= 0.15, "{all}");
    server.stop().await;
}

/// The speech package's own sample: a man reads for 44 s, with pauses in which the agent may begin to answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_of_a_caller_who_talks_on() {
    let server = Server::start().await;
    let sample = models::locate().unwrap().unwrap().sample;
    let reading = Step::Say {
        text: TWO_CITIES.to_owned(),
        samples: wav::read_file(&sample).unwrap(),
    };

    let call = server
        .call(vec![answer(), reading, Step::Silence(Duration::from_secs(2))])
        .await;

    println!("{:#?}", call.rows);
    let understood = call.said_by("user").join(" ");
    let errors = Errors::between(TWO_CITIES, &understood);
    println!("44 s with pauses: {errors}");
    assert!(errors.rate() <= 0.12, "{errors}: {:#?}", call.rows);
    let (said, written) = (normalise(TWO_CITIES).len(), normalise(&understood).len());
    assert!(said.abs_diff(written) * 20 <= said, "{written} of {said} words");
    server.stop().await;
}
