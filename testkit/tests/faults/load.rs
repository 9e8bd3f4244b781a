//! Callers: a fixed number of them, each of whom calls again as soon as a call is over. They play recordings of people;
//! what the agent hears, thinks and says is scripted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use voxray::caller::{Call, CallError, Step};
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};
use voxray_testkit::service::Role;
use voxray_testkit::stack::{Stack, StackBuilder};
use voxray_testkit::wait::eventually;

use crate::{gauges, scale};

/// What every caller is understood to say.
const HEARD: &str = "My card is 4111 1111 1111 1111, thanks.";
/// What of it may be in a transcript.
pub const KEPT: &str = "My card is [card], thanks.";
/// Callers begin one after the other, as they do elsewhere.
const STAGGER: Duration = Duration::from_millis(60);
/// Pause of a caller who was turned away.
const CALL_AGAIN: Duration = Duration::from_millis(500);
/// How long callers listen before they go on: the agent has answered by then, unless the machine is busy.
const LISTENS: Duration = Duration::from_millis(3_500);
/// The same of callers who are in a hurry.
const LISTENS_BRIEFLY: Duration = Duration::from_millis(1_500);
/// Longest until all callers are on the line, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The agent's ears, mind and voice, for all calls.
pub async fn agent() -> OpenAiServer {
    let agent = OpenAiServer::start().await.unwrap();
    agent.otherwise(Endpoint::Transcriptions, Answer::transcript(HEARD));
    agent.otherwise(Endpoint::Chat, Answer::chat(["Thank you. ", "What else can I do?"]));
    agent.otherwise(Endpoint::Speech, Answer::speech(&tone(440.0, 900)));
    agent.forget_requests();
    agent
}

/// One node for all calls, and what these tests read of the services.
pub fn builder(agent: &OpenAiServer) -> StackBuilder {
    Stack::builder()
        .signaling(1)
        .media(1)
        .env("VOXRAY_JSON_LOGS", "true")
        .env_for(Role::Media, "VOXRAY_TRANSCRIPTS_REDACT", "card")
        .env_for(Role::Media, "VOXRAY_MEDIA_MAX_SESSIONS", "200")
        .env_for(Role::Media, "VOXRAY_PROVIDER", "openai")
        .env_for(Role::Media, "VOXRAY_OPENAI_BASE_URL", agent.base_url())
        .env_for(Role::Media, "VOXRAY_GREETING", "Good morning.")
}

/// A stack of this.
pub async fn start(builder: StackBuilder) -> Stack {
    builder.start().await.unwrap_or_else(|error| panic!("{error:?}"))
}

/// A client for requests by hand.
#[allow(dead_code, reason = "the tests of fleets use it")]
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// One call, when it is over.
#[derive(Debug)]
pub struct Placed {
    pub call_id: String,
    pub outcome: Result<(), CallError>,
}

/// The callers.
pub struct Load {
    stop: CancellationToken,
    callers: Vec<JoinHandle<Vec<Placed>>>,
}

impl Load {
    /// Starts as many callers as the scale says, and returns when all of them are on the line.
    pub async fn start(stack: &Stack) -> Self {
        Self::of(stack, scale::calls()).await
    }

    /// The same with this many callers.
    pub async fn of(stack: &Stack, callers: usize) -> Self {
        Self::through(&stack.signaling[0].url(), stack, callers, script).await
    }

    /// The same where the callers' provider knows the deployment by this URL, and callers of whom each says something
    /// short and is gone again.
    #[allow(dead_code, reason = "the tests of fleets use it")]
    pub async fn of_brief_calls(url: &str, stack: &Stack, callers: usize) -> Self {
        Self::through(url, stack, callers, brief_script).await
    }

    async fn through(url: &str, stack: &Stack, callers: usize, script: fn(usize) -> Vec<Step>) -> Self {
        let stop = CancellationToken::new();
        let url = url.to_owned();
        let start = |number| tokio::spawn(keep_calling(url.clone(), number, script, stop.clone()));
        let load = Self {
            callers: (0..callers).map(start).collect(),
            stop,
        };
        let running = eventually("all callers to be on the line", PATIENCE, || async {
            Ok((gauges::open_calls(stack).await? >= callers as f64).then_some(()))
        });
        running.await.unwrap();
        load
    }

    /// Lets every caller finish the call it is in.
    pub async fn stop(self) -> Vec<Placed> {
        self.stop.cancel();
        let placed = futures_util::future::join_all(self.callers).await;
        placed.into_iter().flat_map(Result::unwrap).collect()
    }
}

async fn keep_calling(
    url: String,
    number: usize,
    script: fn(usize) -> Vec<Step>,
    stop: CancellationToken,
) -> Vec<Placed> {
    tokio::time::sleep(STAGGER * u32::try_from(number).unwrap()).await;
    let mut placed = Vec::new();
    while !stop.is_cancelled() {
        let call_id = format!("CA{}", uuid::Uuid::new_v4().simple());
        let mut call = Call::new(&url, script(number + placed.len()));
        call.call_id = Some(call_id.clone());
        let outcome = call.place().await.map(drop);
        let turned_away = outcome.is_err();
        placed.push(Placed { call_id, outcome });
        if turned_away {
            tokio::select! {
                () = tokio::time::sleep(CALL_AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
    }
    placed
}

/// Hears the greeting, and says one or two things. A caller who waited for answers would wait in vain where a busy machine
/// has let the agent answer in the middle of a sentence.
fn script(number: usize) -> Vec<Step> {
    let clips = &*CLIPS;
    let mut steps = vec![Step::Silence(LISTENS)];
    for round in 0..1 + number % 2 {
        let (text, samples) = clips[(number + round) % clips.len()].clone();
        steps.extend([Step::Say { text, samples }, Step::Silence(LISTENS)]);
    }
    steps
}

/// Hears the greeting, says the shortest of all things, and leaves soon after.
fn brief_script(_number: usize) -> Vec<Step> {
    let shortest = CLIPS.iter().min_by_key(|(_, samples)| samples.len());
    let (text, samples) = shortest.unwrap().clone();
    vec![
        Step::Silence(LISTENS_BRIEFLY),
        Step::Say { text, samples },
        Step::Silence(LISTENS),
    ]
}

/// Text and sound of the recordings, read once.
static CLIPS: LazyLock<Vec<(String, Vec<i16>)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/speech");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wav"));
    files.sort();
    let read = |file: &PathBuf| (file.display().to_string(), voxray::wav::read_file(file).unwrap());
    files.iter().map(read).collect()
});

/// Asserts that every call that began went on to its end, and returns how many there were.
///
/// On a machine that is too small for all of this a caller may be turned away before the call begins, because a server
/// answers too late: that is none of the faults here, is counted, and must stay an exception.
pub fn assert_undisturbed(placed: &[Placed]) -> usize {
    let (mut turned_away, mut disturbed) = (Vec::new(), Vec::new());
    for error in placed.iter().filter_map(|placed| placed.outcome.as_ref().err()) {
        match error {
            CallError::Unreachable { .. }
            | CallError::Webhook(_)
            | CallError::Refused(_)
            | CallError::Connect { .. } => turned_away.push(error.to_string()),
            CallError::TimedOut { .. }
            | CallError::EndedEarly { .. }
            | CallError::Protocol(_)
            | CallError::Impossible(_) => {
                disturbed.push(error.to_string());
            }
        }
    }
    assert!(
        disturbed.is_empty(),
        "{} of {} calls: {disturbed:#?}",
        disturbed.len(),
        placed.len()
    );
    assert!(
        turned_away.len() * 4 < placed.len(),
        "{} of {} calls: {turned_away:#?}",
        turned_away.len(),
        placed.len()
    );
    println!(
        "{} calls, none disturbed, {} callers turned away",
        placed.len() - turned_away.len(),
        turned_away.len()
    );
    placed.len() - turned_away.len()
}

/// Session and provider's call id of the calls that are connected.
pub async fn connected(stack: &Stack) -> BTreeMap<String, String> {
    let body: Value = gauges::get(&format!("{}/sessions", stack.signaling[0].url()))
        .await
        .unwrap();
    let sessions = body["data"]["sessions"].as_array().unwrap();
    let connected = sessions.iter().filter(|session| session["state"] == "connected");
    let text = |session: &Value, key: &str| session[key].as_str().unwrap_or_default().to_owned();
    connected
        .map(|session| (text(session, "sessionId"), text(session, "callId")))
        .collect()
}
