//! One scripted call of every provider, over real sockets at the pace of speech: heard, interrupted, recorded, written.

use std::path::Path;

use futures_util::future::join_all;
use media_core::wire::telephony::Provider;
use service_kit::config::{Config, Secret, Secrets};
use std::time::Duration;
use voxray::caller::{Call, CallReport, Script as Steps, Step, StreamTarget, TICK_SAMPLES, rms, stream};
use voxray::wav;
use voxray_testkit::scripted::{Answer, MS_PER_CHARACTER, Script};
use voxray_testkit::servers::tools::workspace_root;

use crate::support::Server;

const HOURS: &str = "We are open from nine to five on every day but Sunday, and on Saturday until noon, and gladly take a \
    message whenever nobody answers the telephone.";
const PARKING: &str = "Right behind the house.";
/// What a busy machine may add to or take from what was heard, in milliseconds.
const SLACK_MS: usize = 800;

fn with_key(config: &mut Config) {
    config.secrets = Secrets::new([("genesys".to_owned(), Secret::new("key"))].into(), Vec::new()).into();
}

fn steps() -> Vec<Step> {
    let answer = || Step::WaitForAnswer {
        quiet: Duration::from_millis(1_500),
        timeout: Duration::from_secs(60),
    };
    let say = |file: &str| Step::Say {
        text: file.to_owned(),
        samples: wav::read_file(&workspace_root().join("testdata/speech").join(file)).unwrap(),
    };
    let interrupt = Step::WaitForSpeech {
        heard: Duration::from_millis(1_500),
        timeout: Duration::from_secs(60),
    };
    vec![
        answer(),
        say("cards-005.wav"),
        interrupt,
        say("cards-005.wav"),
        answer(),
    ]
}

struct Done {
    report: CallReport,
    /// Unknown for Genesys, whose session has no token.
    session_id: Option<String>,
}

async fn call(server: &Server, provider: Provider) -> Done {
    if provider == Provider::Genesys {
        let mut call = Call::new(&server.base, steps()).by(provider);
        call.auth_token = Some("key".to_owned());
        return Done {
            report: call.place().await.unwrap(),
            session_id: None,
        };
    }
    let call_id = format!("call-of-{}", provider.name());
    let (url, session_id) = server.url_for(provider, &call_id);
    let target = StreamTarget {
        url,
        parameters: vec![("plan".to_owned(), "gold".to_owned())],
        codec: None,
    };
    let report = stream(provider, target, call_id, Steps::new(steps())).await;
    Done {
        report: report.unwrap_or_else(|error| panic!("{provider:?}: {error}")),
        session_id: Some(session_id),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_every_provider_is_heard_interrupted_recorded_and_written_down() {
    let script = Script::new()
        .hears("When are you open?")
        .hears("And where can I park?")
        .answers(Answer::say(HOURS))
        .answers(Answer::say(PARKING));
    let server = Server::start_with(script, Default::default(), with_key).await;

    let calls = join_all(Provider::ALL.map(|provider| call(&server, provider))).await;

    server.is_idle().await;
    let known: Vec<&String> = calls.iter().filter_map(|done| done.session_id.as_ref()).collect();
    for done in &calls {
        let session_id = match &done.session_id {
            Some(session_id) => session_id.clone(),
            None => {
                crate::support::eventually("all six are stored", async || server.recordings().len() == 6).await;
                server
                    .recordings()
                    .into_iter()
                    .find(|name| !known.contains(&name))
                    .unwrap()
            }
        };
        let (rows, recording) = server.archived(&session_id).await;
        check_rows(done, &rows);
        check_recording(done, &recording);
    }
    server.stop().await;
}

fn check_rows(done: &Done, rows: &[(String, String)]) {
    let provider = done.report.provider;
    let texts: Vec<(&str, &str)> = rows.iter().map(|(role, text)| (role.as_str(), text.as_str())).collect();
    let [greeting, asked, cut, again, parking] = texts[..] else {
        panic!("{provider:?}: {texts:#?}")
    };
    assert_eq!(greeting, ("assistant", "Hello."), "{provider:?}");
    assert_eq!(asked, ("user", "When are you open?"), "{provider:?}");
    assert_eq!(again, ("user", "And where can I park?"), "{provider:?}");
    assert_eq!(parking, ("assistant", PARKING), "{provider:?}");
    assert_eq!(cut.0, "assistant");
    assert!(
        HOURS.starts_with(cut.1) && cut.1.len() < HOURS.len(),
        "{provider:?}: {:?}",
        cut.1
    );
    assert_eq!(done.report.clears.len(), 1, "{provider:?}: the player was emptied once");
    // The history holds what was heard: as much text as there was audio, up to the word that was cut.
    let audible = done
        .report
        .heard
        .chunks(TICK_SAMPLES)
        .filter(|packet| rms(packet) > 100.0)
        .count()
        * 20;
    let fixed = (greeting.1.len() + PARKING.len()) * MS_PER_CHARACTER as usize;
    let heard_ms = audible.saturating_sub(fixed);
    let written_ms = cut.1.len() * MS_PER_CHARACTER as usize;
    println!("{provider:?}: {heard_ms} ms of the answer were heard, {written_ms} ms are written down");
    assert!(
        written_ms <= heard_ms + SLACK_MS && heard_ms <= written_ms + SLACK_MS + 500,
        "{provider:?}: heard {heard_ms} ms, written {written_ms} ms: {:?}",
        cut.1
    );
}

fn check_recording(done: &Done, path: &Path) {
    let provider = done.report.provider;
    let mut wav = hound::WavReader::open(path).unwrap();
    let spec = wav.spec();
    let rate = if provider == Provider::Vonage { 16_000 } else { 8_000 };
    assert_eq!((spec.channels, spec.sample_rate), (2, rate), "{provider:?}");
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    let side = |first: usize| -> Vec<i16> { samples.iter().skip(first).step_by(2).copied().collect() };
    // Energy does not depend on the rate when it is counted in seconds.
    let energy = |samples: &[i16], rate: u32| rms(samples).powi(2) * samples.len() as f64 / f64::from(rate);
    for (name, line, recorded) in [
        ("caller", &done.report.sent, side(0)),
        ("agent", &done.report.heard, side(1)),
    ] {
        let share = energy(&recorded, rate) / energy(line, 8_000);
        println!(
            "{provider:?}, {name}: {:.3} of the energy on the line is recorded",
            share
        );
        assert!((0.85..1.15).contains(&share), "{provider:?}, {name}: {share}");
    }
    let (line, recorded) = (
        done.report.sent.len() as f64 / 8_000.0,
        samples.len() as f64 / 2.0 / f64::from(rate),
    );
    assert!(
        (line - 0.5..line + 2.0).contains(&recorded),
        "{provider:?}: {line} s, recorded {recorded} s"
    );
}
