//! Callers: a fixed number of them, each of whom calls again as soon as a call is over. They play recordings of people;
//! what the agent hears, thinks and says is scripted.
//!
//! Where a single node is hurt, a caller whose stream is answered 503 with `Retry-After` calls again after that time, as the
//! contract of that answer is; [`Placed::retries`] counts it. Callers of a fleet do not: no provider opens a stream twice, so
//! one that is refused is a lost call. Nothing else is tried again: whoever hears that nobody can take the call
//! (`telephony.busy_message`) was turned away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use media_core::wire::telephony::Provider;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use voxray::caller::{Call, CallError, Script, Step};
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};
use voxray_testkit::service::Role;
use voxray_testkit::stack::{Stack, StackBuilder};
use voxray_testkit::wait::eventually;

use crate::{gauges, scale};

/// What every caller is understood to say.
const HEARD: &str = "My card is 4111 1111 1111 1111, call me at +1 (650) 555-0199 or write to ada@example.com, thanks.";
/// What of it may be in a transcript.
pub const KEPT: &str = "My card is [card], call me at [phone] or write to [email], thanks.";
/// What the agent says first.
pub const GREETING: &str = "Good morning.";
/// Length of each sentence of the agent, in milliseconds.
const SENTENCE_MS: u32 = 600;
/// Callers begin one after the other, as they do elsewhere.
const STAGGER: Duration = Duration::from_millis(60);
/// So often a caller is asked in a row to come back, on a machine that others use as well; then that is no answer.
const MOST_RETRIES: usize = 3;
/// Pause of a caller whose call has failed.
pub const CALL_AGAIN: Duration = Duration::from_millis(500);
/// How long callers listen before they go on: the agent has answered by then, unless the machine is busy.
const LISTENS: Duration = Duration::from_millis(2_800);
/// Quiet after which callers of a fleet take it that the agent has finished: longer than its pause between two sentences.
const HEARD_OUT: Duration = Duration::from_millis(800);

/// The agent's ears, mind and voice, for all calls.
pub async fn agent() -> OpenAiServer {
    let agent = OpenAiServer::start().await.unwrap();
    agent.otherwise(Endpoint::Transcriptions, Answer::transcript(HEARD));
    agent.otherwise_by(Endpoint::Chat, |request| {
        let messages = request.json["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let asked = messages.iter().filter(|message| message["role"] == "user").count();
        let answer = answer_to(asked);
        let (first, second) = answer.split_at(answer.find("That").unwrap());
        Answer::chat([first, second])
    });
    agent.otherwise(Endpoint::Speech, Answer::speech(&tone(440.0, SENTENCE_MS)));
    agent.forget_requests();
    agent
}

/// What the agent says to the caller's first, second, … turn.
pub fn answer_to(turn: usize) -> String {
    format!("Thank you. That was number {turn}.")
}

/// One node for all calls, and what these tests read of the services.
pub fn builder(agent: &OpenAiServer) -> StackBuilder {
    Stack::builder()
        .signaling(1)
        .media(1)
        .env("VOXRAY_JSON_LOGS", "true")
        .env_for(Role::Media, "VOXRAY_TRANSCRIPTS_REDACT", "card,phone,email")
        .env_for(Role::Media, "VOXRAY_MEDIA_MAX_SESSIONS", "200")
        .env_for(Role::Media, "VOXRAY_PROVIDER", "openai")
        .env_for(Role::Media, "VOXRAY_OPENAI_BASE_URL", agent.base_url())
        .env_for(Role::Media, "VOXRAY_GREETING", GREETING)
        .env("VOXRAY_TRANSCRIPTS_EXTENDED", "true")
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
    /// How often the caller was asked to come back before.
    pub retries: usize,
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
        let manner = Manner {
            script,
            comes_back: true,
            one_address: false,
        };
        Self::through(&stack.signaling[0].url(), stack, callers, manner).await
    }

    /// The same where the callers' provider knows the deployment by this URL, and callers of whom each says something
    /// short, hears the answer and is gone again. The streams of every second caller come to one address for all nodes, whatever node is
    /// named.
    #[allow(dead_code, reason = "the tests of fleets use it")]
    pub async fn of_brief_calls(url: &str, stack: &Stack, callers: usize) -> Self {
        let manner = Manner {
            script: brief_script,
            comes_back: false,
            one_address: true,
        };
        Self::through(url, stack, callers, manner).await
    }

    async fn through(url: &str, stack: &Stack, callers: usize, manner: Manner) -> Self {
        let stop = CancellationToken::new();
        let url = url.to_owned();
        let start = |number| tokio::spawn(keep_calling(url.clone(), number, manner, stop.clone()));
        let load = Self {
            callers: (0..callers).map(start).collect(),
            stop,
        };
        let running = eventually("all callers to be on the line", scale::patience(), || async {
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

/// How callers behave.
#[derive(Clone, Copy)]
struct Manner {
    script: fn(usize) -> Vec<Step>,
    /// Call again where the stream was answered 503 with `Retry-After`.
    comes_back: bool,
    /// Every second one's streams come to one address for all nodes.
    one_address: bool,
}

async fn keep_calling(url: String, number: usize, manner: Manner, stop: CancellationToken) -> Vec<Placed> {
    tokio::time::sleep(STAGGER * u32::try_from(number).unwrap()).await;
    let mut placed = Vec::new();
    while !stop.is_cancelled() {
        let manner = Manner {
            one_address: manner.one_address && number % 2 == 1,
            ..manner
        };
        let call = place(&url, (manner.script)(number + placed.len()), manner).await;
        let failed = call.outcome.is_err();
        placed.push(call);
        if failed {
            tokio::select! {
                () = tokio::time::sleep(CALL_AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
    }
    placed
}

/// One call, which begins when the server is ready for it.
async fn place(url: &str, steps: Vec<Step>, manner: Manner) -> Placed {
    let mut retries = 0;
    loop {
        let call_id = format!("CA{}", uuid::Uuid::new_v4().simple());
        let outcome = if manner.one_address {
            place_at_one_address(url, &call_id, steps.clone()).await
        } else {
            let mut call = Call::new(url, steps.clone());
            call.call_id = Some(call_id.clone());
            call.place().await.map(drop)
        };
        if manner.comes_back
            && let Some(wait) = outcome.as_ref().err().and_then(retry_after)
            && retries < MOST_RETRIES
        {
            retries += 1;
            tokio::time::sleep(wait).await;
            continue;
        }
        return Placed {
            call_id,
            retries,
            outcome,
        };
    }
}

/// One call whose stream is opened at the deployment's address without the node's name.
async fn place_at_one_address(url: &str, call_id: &str, steps: Vec<Step>) -> Result<(), CallError> {
    let fields = [("AccountSid", "AC0"), ("CallSid", call_id), ("From", "+15005550006")];
    let mut target = voxray::caller::request_stream(url, &fields, None).await?;
    let (_, path) = target.url.split_once("/telephony/").unwrap();
    target.url = format!("{}/telephony/{path}", url.replacen("http", "ws", 1));
    let script = Script::new(steps);
    let call = voxray::caller::stream(Provider::Twilio, target, call_id.to_owned(), script);
    call.await.map(drop)
}

/// When to call again, if the answer was 503 and said so.
fn retry_after(error: &CallError) -> Option<Duration> {
    let CallError::Connect { source, .. } = error else {
        return None;
    };
    let tokio_tungstenite::tungstenite::Error::Http(answer) = &**source else {
        return None;
    };
    let seconds = answer.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    (answer.status().as_u16() == 503).then_some(Duration::from_secs(seconds))
}

/// Hears the greeting, and says one thing, or two short ones. A caller who waited for answers would wait in vain where a
/// busy machine has let the agent answer in the middle of a sentence.
fn script(number: usize) -> Vec<Step> {
    let rounds = 1 + number % 2;
    let clips = &CLIPS[..CLIPS.len() / rounds];
    let mut steps = vec![Step::Silence(LISTENS)];
    for round in 0..rounds {
        let (text, samples) = clips[(number / 2 + round) % clips.len()].clone();
        steps.extend([Step::Say { text, samples }, Step::Silence(LISTENS)]);
    }
    steps
}

/// Hears the greeting out, says the shortest of all things, in which there is no pause for the agent to answer in, hears the
/// answer out, and leaves, if it does not ask again first. A call in which either is not heard has failed.
fn brief_script(number: usize) -> Vec<Step> {
    let hear_out = || Step::WaitForAnswer {
        quiet: HEARD_OUT,
        timeout: scale::patience(),
    };
    let mut steps = vec![hear_out()];
    for _ in 0..rounds(number) {
        let (text, samples) = shortest();
        steps.extend([Step::Say { text, samples }, hear_out()]);
    }
    steps
}

/// How often a caller of a fleet asks: where rolling lasts, every fourth stays longer than the others.
#[allow(dead_code, reason = "the tests of fleets use it")]
pub fn rounds(number: usize) -> usize {
    let stays = !scale::rolling().is_zero() && number.is_multiple_of(4);
    if stays { 4 } else { 1 }
}

/// Text and sound (8 kHz) of the shortest recording.
#[allow(dead_code, reason = "the tests of fleets use it")]
pub fn shortest() -> (String, Vec<i16>) {
    CLIPS[0].clone()
}

/// Text and sound of the recordings, the shortest first, read once.
static CLIPS: LazyLock<Vec<(String, Vec<i16>)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/speech");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wav"));
    let read = |file: &PathBuf| (file.display().to_string(), voxray::wav::read_file(file).unwrap());
    let mut clips: Vec<_> = files.iter().map(read).collect();
    clips.sort_by_key(|(file, samples)| (samples.len(), file.clone()));
    clips
});

/// Asserts that nobody was turned away and that every call went on to its end, and returns how many there were.
pub fn assert_undisturbed(placed: &[Placed]) -> usize {
    let failed = placed.iter().filter(|placed| placed.outcome.is_err());
    let failed: Vec<_> = failed.collect();
    assert!(
        failed.is_empty(),
        "{} of {} calls: {failed:#?}",
        failed.len(),
        placed.len()
    );
    println!(
        "{} calls, nobody turned away, none disturbed, {} asked to come back in a moment",
        placed.len(),
        placed.iter().map(|placed| placed.retries).sum::<usize>()
    );
    placed.len()
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
