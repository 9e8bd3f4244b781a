//! pipecat-ai's own serializers as telephones: for the four providers that both know, at once.

use futures_util::future::join_all;
use serde_json::{Value, json};
use voxray::caller::{TICK_SAMPLES, rms};
use voxray::wav;
use voxray_testkit::browser::Script;
use voxray_testkit::servers::tools::workspace_root;

use super::Server;
use crate::api::{self, LIMIT};
use crate::clips;
use crate::recording::Stereo;
use crate::rows::Errors;

const PROVIDERS: [&str; 4] = ["twilio", "telnyx", "plivo", "exotel"];
/// What people say: a question whose answer is long, and one that interrupts it.
const CLIPS: [&str; 2] = ["austen-0880.wav", "austen-0930.wav"];
/// Root mean square above which 20 ms are speech.
const AUDIBLE_RMS: f64 = 200.0;
/// Speech that may be in the recording and not in the telephone, or the other way round: what was on the way when the
/// agent was interrupted, and what a busy machine makes of that.
const MOST_APART_SECONDS: f64 = 0.5;
/// Words of people, over all calls, that may be misunderstood.
const MOST_ERRORS: f64 = 0.20;

/// What the agent knows, in order.
fn answers(facts: &[u8]) -> Vec<String> {
    let facts: Value = serde_json::from_slice(facts).unwrap();
    let topics = facts["topics"].as_array().unwrap().iter();
    topics
        .map(|topic| topic["answer"].as_str().unwrap().to_owned())
        .collect()
}

fn audible_seconds(samples: &[i16]) -> f64 {
    let packets = samples.chunks(TICK_SAMPLES).filter(|packet| rms(packet) > AUDIBLE_RMS);
    packets.count() as f64 / 50.0
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn samples(bytes: &[u8]) -> Vec<i16> {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_messages_pipecats_own_serializers_write_and_read_are_understood_answered_and_interrupted() {
    let facts = workspace_root().join("testkit/tests/browser/facts.json");
    let [long, short]: [String; 2] = answers(&std::fs::read(&facts).unwrap()).try_into().unwrap();
    let server = Server::start_with(&[("local.facts_file", facts.to_str().unwrap())]).await;
    let said = CLIPS.map(clips::named);
    let files = CLIPS.map(|clip| {
        let samples = wav::read_file(&workspace_root().join("testdata/speech").join(clip)).unwrap();
        let file = server.folder.path().join(format!("{clip}.s16le"));
        std::fs::write(&file, bytes(&samples)).unwrap();
        file
    });
    let plans = PROVIDERS.map(|provider| json!({"provider": provider, "call_id": format!("call-of-{provider}")}));
    let args = json!({"server": server.url(), "clips": files, "calls": plans});

    let script = Script::start_python("pipecat_calls.py", &args).unwrap();
    let sessions = join_all(plans.iter().map(async |plan| {
        let call_id = plan["call_id"].as_str().unwrap();
        api::connected(&server.url(), call_id).await
    }));
    // A script that fails says why, and ends this at once.
    let both = tokio::try_join!(script.result(2 * LIMIT), async { Ok(sessions.await) });
    let (result, sessions) = both.unwrap_or_else(|error| panic!("{error:?}"));

    let mut errors = Errors::default();
    for ((provider, call), session) in PROVIDERS.iter().zip(result["calls"].as_array().unwrap()).zip(sessions) {
        let turns = voxray_testkit::api::turns(&server.url(), &session.session_id, LIMIT)
            .await
            .unwrap();
        println!("{provider}: {} frames; {turns:#?}", call["frames"]);
        let said_by = |who: &str| -> Vec<&str> {
            let by = turns.iter().filter(|(role, _)| role == who);
            by.map(|(_, text)| text.as_str()).collect()
        };
        let people: Vec<&str> = said.iter().map(|clip| clip.text.as_str()).collect();
        assert_eq!(said_by("user").len(), people.len(), "{provider}: {turns:#?}");
        errors.add(&people.join(" "), &said_by("user").join(" "));
        let [_greeting, cut, answer] = said_by("assistant")[..] else {
            panic!("{provider}: {turns:#?}")
        };
        assert!(long.starts_with(cut) && cut.len() < long.len(), "{provider}: {cut:?}");
        assert!(answer.starts_with(&short), "{provider}: {answer:?}");

        let clears = call["clears"].as_array().unwrap();
        assert!(!clears.is_empty(), "{provider}: the agent was interrupted");
        for clear in clears {
            assert_eq!(clear, &call["expected_clear"], "{provider}");
        }

        let heard = samples(&std::fs::read(script.folder().join(format!("{provider}.s16le"))).unwrap());
        let wav = api::recording(&server.url(), &session.session_id)
            .await
            .unwrap()
            .unwrap();
        let recorded = Stereo::read(&wav);
        let (heard, kept) = (audible_seconds(&heard), audible_seconds(&recorded.right));
        println!("{provider}: {heard:.2} s of the agent heard, {kept:.2} s recorded");
        assert!(heard > 3.0, "{provider}: {heard}");
        assert!((heard - kept).abs() <= MOST_APART_SECONDS, "{provider}: {heard} {kept}");
    }
    println!("people: {errors}");
    assert!(errors.rate() <= MOST_ERRORS, "{errors}");
    api::no_sessions(&server.url()).await;
    server.stop().await;
}
