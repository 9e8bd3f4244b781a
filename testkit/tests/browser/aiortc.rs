//! aiortc, a WebRTC peer in Python that shares no code with any browser.

use std::collections::HashSet;

use serde_json::{Value, json};
use voxray::words::word_errors;
use voxray_testkit::browser::Script;
use voxray_testkit::servers::tools::workspace_root;

use crate::conversation::{Event, said_by_the_agent};
use crate::ears::{Ears, stretches};
use crate::support::{LIMIT, deployment, is_one_recording, no_sessions, reconnections, stop, turn, turns};

/// Calls, and how many of them at a time.
const CALLS: usize = 20;
const AT_ONCE: usize = 7;
/// Of the audio packets to the server.
const LOSS: f64 = 0.05;
const SEED: u64 = 20;
/// What people say, and the words. The recogniser gets all of them right as they were recorded: what is misunderstood here,
/// the network took.
const CLIP: &str = "austen-0930.wav";
const TEXT: &str = "he might even have been made amiable himself";
/// Words of people that may be misunderstood where every twentieth packet is missing.
const MOST_USER_ERRORS: f64 = 0.2;
/// Words of the agent that may be misunderstood by the caller. Nothing is lost on that way, but seven peers, the server and
/// its speech share the machine: speech comes with gaps when that is overloaded.
const MOST_AGENT_ERRORS: f64 = 0.2;

#[derive(Debug, serde::Deserialize)]
struct Call {
    session_id: String,
    /// As each answer named the peer connection.
    pc_ids: Vec<String>,
    told: Vec<Event>,
    /// How media went before and after an ICE restart.
    restarted: Value,
}

impl Call {
    fn transcribed(&self) -> Vec<&str> {
        let finals = self.told.iter().filter(|event| event.kind == "user-transcription");
        let finals = finals.filter(|event| event.data["final"] == true);
        finals.map(|event| event.data["text"].as_str().unwrap()).collect()
    }
}

/// The last call restarts ICE, and the one before it does what pipecat's client does: it puts another peer connection in
/// the place of the first (`restart_pc`). Both go on as the same call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_with_packets_lost_are_understood_and_answered_and_survive_a_restart() {
    let _turn = turn().await;
    let stack = deployment().start().await;
    let stack = stack.unwrap_or_else(|error| panic!("{error:?}"));
    let speech = workspace_root().join("testdata/speech");
    let calls: Vec<Value> = (0..CALLS)
        .map(|number| {
            let server = stack.signaling[number % stack.signaling.len()].url();
            json!({"clip": speech.join(CLIP), "server": server, "restart": restart(number)})
        })
        .collect();
    let args = json!({"calls": calls, "at_once": AT_ONCE, "loss": LOSS, "seed": SEED});

    let script = Script::start_python("aiortc_calls.py", &args).unwrap();
    let mut result = script
        .result(2 * LIMIT)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));

    let calls: Vec<Call> = serde_json::from_value(result["calls"].take()).unwrap();
    println!("{}", result["packets"]);
    assert!(result["packets"]["dropped"].as_u64().unwrap() > 100, "{result}");
    assert!(result["abandoned"].as_str().unwrap().starts_with("v=0"), "{result}");
    let base = stack.signaling[0].url();
    // The slot of the client that never connected is free again as well.
    no_sessions(&base).await;
    let ears = Ears::new().await;
    let (mut user, mut agent) = ((0, 0), (0, 0));
    for (number, call) in calls.iter().enumerate() {
        let restarted = restart(number).is_some();
        assert_eq!(call.transcribed().len(), 1 + usize::from(restarted), "{:#?}", call.told);
        for transcribed in call.transcribed() {
            add(&mut user, word_errors(TEXT, transcribed));
        }
        let tape = std::fs::read(script.folder().join(format!("call-{number}.s16le"))).unwrap();
        let tape: Vec<i16> = tape
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        assert!(!stretches(&tape).is_empty(), "call {number} heard nothing");
        let turns = turns(&base, &call.session_id).await;
        let said = said_by_the_agent(&turns);
        assert_eq!(
            said.len(),
            2 + usize::from(restarted),
            "one session from the first word to the last: {turns:#?}"
        );
        let heard = ears.understand(&tape).await;
        let errors = word_errors(&said.join(" "), &heard);
        println!(
            "call {number}: {:?}; heard {heard:?} ({} of {} wrong)",
            call.transcribed(),
            errors.0,
            errors.1
        );
        add(&mut agent, errors);
        let pcs: HashSet<&String> = call.pc_ids.iter().collect();
        let answers = call.pc_ids.len();
        match restart(number) {
            None => assert_eq!((answers, pcs.len()), (1, 1)),
            Some("pc") => assert_eq!((answers, pcs.len()), (2, 2)),
            Some(_) => {
                assert_eq!((answers, pcs.len()), (2, 1), "the same peer connection");
                has_restarted_ice(&call.restarted);
            }
        }
        if restarted {
            is_one_recording(&stack, &call.session_id).await;
        }
    }
    // An offer that was asked again, because the node was busy, may have been taken before.
    assert!(reconnections(&stack).await >= 2.0);
    println!("callers: {user:?} words wrong; agent: {agent:?}");
    assert!(user.0 as f64 <= MOST_USER_ERRORS * user.1 as f64, "{user:?}");
    assert!(agent.0 as f64 <= MOST_AGENT_ERRORS * agent.1 as f64, "{agent:?}");
    stop(stack).await;
}

/// What happens in the middle of a call.
fn restart(number: usize) -> Option<&'static str> {
    match CALLS - number {
        1 => Some("ice"),
        2 => Some("pc"),
        _ => None,
    }
}

/// Both sides have other credentials and the client another port, and below them goes the DTLS connection that went before.
fn has_restarted_ice(restarted: &Value) {
    println!("{restarted}");
    let [before, after] = ["before", "after"].map(|when| &restarted[when]);
    for field in ["ours", "theirs", "port"] {
        assert_ne!(before[field], after[field], "{restarted:#}");
    }
    assert_eq!(before["dtls"], after["dtls"], "{restarted:#}");
    assert_eq!(after["dtls"][0], "connected", "{restarted:#}");
}

fn add(sum: &mut (usize, usize), errors: (usize, usize)) {
    *sum = (sum.0 + errors.0, sum.1 + errors.1);
}
