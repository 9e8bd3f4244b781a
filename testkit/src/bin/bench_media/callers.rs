//! Callers at the pace of speech, as cheap as they can be made: this process shares the machine with what it measures.
//!
//! Each says a sentence of a real person in every [`PERIOD`], is answered and listens for the rest of it; all are at
//! another place of it. Phone callers speak Twilio's protocol, clients pipecat's frames.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use media_core::audio::g711;
use media_core::wire::far_end::FromServer;
use media_core::wire::pipecat;
use media_core::wire::telephony::{Channels, MediaFormat, Provider, Start};
use media_core::wire::twilio::far_end::{self, FarEnd};
use service_kit::config::Secret;
use service_kit::tasks::TaskScope;
use service_kit::token::{Claims, TokenSigner};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use voxray::wav;
use voxray_testkit::servers::tools::workspace_root;

/// A caller's sentence of some 3 s, the end of the turn, an answer of 3 s, and a moment.
pub const PERIOD: Duration = Duration::from_secs(8);
/// Length of a message.
pub const TICK: Duration = Duration::from_millis(20);
/// Messages in a period.
pub const PERIOD_TICKS: usize = 400;
/// Samples of a message on the phone, and of a client's.
const PHONE_SAMPLES: usize = 160;
const CLIENT_SAMPLES: usize = 320;
/// µ-law of silence.
const SILENCE: [u8; PHONE_SAMPLES] = [0xff; PHONE_SAMPLES];
/// Short sentences of two people.
const SENTENCES: [&str; 2] = ["austen-0880.wav", "austen-0930.wav"];
/// New calls a second while a step begins: nobody starts a hundred at once.
const STARTS_A_SECOND: u32 = 40;
/// A token is used at once.
const TOKEN: Duration = Duration::from_secs(60);
/// Fewer bytes than this are no audio of a client's 20 ms.
const CLIENT_AUDIO_BYTES: usize = 900;
/// Upper bounds of the callers' own lateness, in milliseconds; the last one is "later".
const LATE_MS: [u64; 8] = [1, 2, 5, 10, 20, 50, 100, u64::MAX];

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What kind of callers there are, and whom they call.
#[derive(Clone)]
pub enum Far {
    /// `ws://…/telephony/ws` of a media node, with the secret that its tokens are signed with.
    Phone { url: String, secret: String },
    /// `ws://…/ws` of a media node.
    Client { url: String },
    /// A server that takes any path, as the phone callers of a media node.
    Wire { url: String },
}

/// What all callers together did and saw.
#[derive(Default)]
pub struct Tally {
    pub sent: AtomicU64,
    pub heard_ms: AtomicU64,
    pub said: AtomicU64,
    /// Calls that the server ended or refused.
    pub lost: AtomicU64,
    /// From the last message of each sentence to the first audio after it, in milliseconds.
    answers: Mutex<Vec<u64>>,
    late: [AtomicU64; LATE_MS.len()],
}

/// The same at one moment.
#[derive(Default, Clone, Copy)]
pub struct Count {
    pub sent: u64,
    pub heard_ms: u64,
    pub said: u64,
    pub lost: u64,
    late: [u64; LATE_MS.len()],
}

impl Tally {
    pub fn count(&self) -> Count {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Count {
            sent: load(&self.sent),
            heard_ms: load(&self.heard_ms),
            said: load(&self.said),
            lost: load(&self.lost),
            late: std::array::from_fn(|place| self.late.get(place).map_or(0, load)),
        }
    }

    fn answered(&self, after: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }

    /// How long phone callers waited for each answer since this was last asked, in milliseconds, shortest first.
    pub fn take_answers(&self) -> Vec<u64> {
        let mut answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        answers.sort_unstable();
        answers
    }

    fn ticked(&self, late: Duration) {
        let late = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        let place = LATE_MS
            .iter()
            .position(|bound| late < *bound)
            .unwrap_or(LATE_MS.len() - 1);
        if let Some(bucket) = self.late.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Count {
    /// What was added since.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            heard_ms: self.heard_ms - before.heard_ms,
            said: self.said - before.said,
            lost: self.lost - before.lost,
            late: std::array::from_fn(|place| {
                let of = |count: &Self| count.late.get(place).copied().unwrap_or_default();
                of(self) - of(before)
            }),
        }
    }

    /// The bound in milliseconds below which 99 % of the callers' own messages were late.
    pub fn late_p99_ms(&self) -> f64 {
        let all: u64 = self.late.iter().sum();
        let mut sum = 0;
        for (count, bound) in self.late.iter().zip(LATE_MS) {
            sum += count;
            if sum * 100 >= all * 99 {
                return if bound == u64::MAX { f64::INFINITY } else { bound as f64 };
            }
        }
        0.0
    }
}

/// Callers who stay on the line.
pub struct Callers {
    far: Far,
    sentences: Arc<[Vec<i16>]>,
    scope: TaskScope,
    count: usize,
    pub tally: Arc<Tally>,
}

impl Callers {
    /// Nobody yet.
    pub fn new(far: Far) -> anyhow::Result<Self> {
        let folder = workspace_root().join("testdata/speech");
        let sentences = SENTENCES.iter().map(|name| wav::read_file(&folder.join(name)));
        Ok(Self {
            far,
            sentences: sentences.collect::<anyhow::Result<Vec<_>>>()?.into(),
            scope: TaskScope::root("callers"),
            count: 0,
            tally: Arc::default(),
        })
    }

    /// More of them, until there are so many.
    pub async fn grow(&mut self, count: usize) {
        let mut clock = tokio::time::interval(Duration::from_secs(1) / STARTS_A_SECOND);
        while self.count < count {
            clock.tick().await;
            let caller = Caller::new(self.far.clone(), &self.sentences, self.count, self.tally.clone());
            let scope = self.scope.clone();
            self.scope.spawn("caller", async move {
                if let Err(error) = caller {
                    eprintln!("a caller has nothing to say: {error:#}");
                    return;
                }
                if let Ok(mut caller) = caller {
                    while !scope.is_cancelled() {
                        if let Err(error) = caller.call(&scope).await {
                            caller.tally.lost.fetch_add(1, Ordering::Relaxed);
                            // A server that refuses is not asked again at once.
                            eprintln!("a call was lost: {error:#}");
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                }
            });
            self.count += 1;
        }
    }

    /// All hang up.
    pub async fn leave(self) {
        self.scope.cancel();
        self.scope.join().await;
    }
}

struct Caller {
    far: Far,
    number: usize,
    /// The sentence in messages: µ-law on the phone, whole frames of a client.
    sentence: Vec<Vec<u8>>,
    silence: Vec<u8>,
    tally: Arc<Tally>,
}

/// What is still to be played at the caller's, and what is to be reported then.
struct Player {
    until: Instant,
    marks: VecDeque<(Instant, String)>,
    /// When the caller's sentence was over, until it is answered.
    asked: Option<Instant>,
}

impl Player {
    fn plays(&mut self, length_ms: u64, tally: &Tally) {
        self.until = self.until.max(Instant::now()) + Duration::from_millis(length_ms);
        tally.heard_ms.fetch_add(length_ms, Ordering::Relaxed);
        if let Some(asked) = self.asked.take() {
            tally.answered(asked.elapsed());
        }
    }
}

impl Caller {
    fn new(far: Far, sentences: &[Vec<i16>], number: usize, tally: Arc<Tally>) -> anyhow::Result<Self> {
        let narrow = sentences.get(number % sentences.len().max(1)).context("no sentence")?;
        let (sentence, silence) = match far {
            Far::Phone { .. } | Far::Wire { .. } => {
                let message = |part: &[i16]| {
                    let mut codes = g711::encode_ulaw(part);
                    codes.resize(PHONE_SAMPLES, 0xff);
                    codes
                };
                (narrow.chunks(PHONE_SAMPLES).map(message).collect(), SILENCE.to_vec())
            }
            Far::Client { .. } => {
                let wide = wav::resample(narrow, wav::TELEPHONE_HZ, 16_000)?;
                let message = |part: &[i16]| pipecat::audio_frame(part, 16_000);
                (
                    wide.chunks(CLIENT_SAMPLES).map(message).collect(),
                    message(&[0; CLIENT_SAMPLES]),
                )
            }
        };
        Ok(Self {
            far,
            number,
            sentence,
            silence,
            tally,
        })
    }

    /// One call, until everybody leaves or the server ends it.
    async fn call(&mut self, scope: &TaskScope) -> anyhow::Result<()> {
        match self.far.clone() {
            Far::Phone { url, secret } => {
                let call_id = format!("CA{}", uuid::Uuid::new_v4().simple());
                let token = token(&secret, &call_id);
                self.phone(&format!("{url}/{token}"), call_id, scope).await
            }
            Far::Wire { url } => self.phone(&url, format!("CA{}", self.number), scope).await,
            Far::Client { url } => self.client(&url, scope).await,
        }
    }

    async fn phone(&self, url: &str, call_id: String, scope: &TaskScope) -> anyhow::Result<()> {
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
        let mut far_end = FarEnd::new(Start {
            provider: Provider::Twilio,
            stream_id: format!("MZ{}", uuid::Uuid::new_v4().simple()),
            call_id,
            account_id: None,
            parameters: [].into(),
            format: MediaFormat::ULAW_8K,
            channels: Channels::Caller,
        });
        for text in [far_end::connected(), far_end.start()] {
            socket.send(Message::text(text)).await?;
        }
        let mut player = Player {
            until: Instant::now(),
            marks: VecDeque::new(),
            asked: None,
        };
        let mut clock = self.clock();
        let mut ticks = 0;
        loop {
            tokio::select! {
                due = clock.tick() => {
                    self.tally.ticked(due.elapsed());
                    while player.marks.front().is_some_and(|(at, _)| *at <= due) {
                        if let Some((_, name)) = player.marks.pop_front() {
                            socket.feed(Message::text(far_end.mark(&name))).await?;
                        }
                    }
                    if place(self.number, ticks) == self.sentence.len() {
                        player.asked = Some(Instant::now());
                    }
                    let media = far_end.media(ticks as u64 * 20, self.says(ticks));
                    socket.send(Message::text(media)).await?;
                    ticks += 1;
                }
                message = socket.next() => {
                    let message = message.context("the server is gone")??;
                    ensure!(!message.is_close(), "the server has hung up");
                    if let Message::Text(text) = &message {
                        self.hear(text, &mut far_end, &mut player)?;
                    }
                }
                () = scope.cancelled() => {
                    socket.send(Message::text(far_end.stop())).await?;
                    return close(socket).await;
                }
            }
        }
    }

    /// Audio is only measured, everything else is read.
    fn hear(&self, text: &str, far_end: &mut FarEnd, player: &mut Player) -> anyhow::Result<()> {
        if text.starts_with(r#"{"event":"media""#) {
            let payload = text.rsplit('"').nth(1).map_or(0, str::len);
            // Four characters are three bytes, eight bytes a millisecond.
            player.plays((payload * 3 / 4 / 8) as u64, &self.tally);
            return Ok(());
        }
        match far_end.read(text)? {
            FromServer::Mark(name) => player.marks.push_back((player.until, name)),
            FromServer::Clear => {
                player.until = Instant::now();
                for (at, _) in &mut player.marks {
                    *at = player.until;
                }
            }
            FromServer::Media(samples) => player.plays(samples.len() as u64 / 8, &self.tally),
            FromServer::Opened | FromServer::Disconnect | FromServer::Closed | FromServer::Ignored => {}
        }
        Ok(())
    }

    async fn client(&self, url: &str, scope: &TaskScope) -> anyhow::Result<()> {
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("{url}?format=protobuf")).await?;
        let ready = r#"{"label":"rtvi-ai","type":"client-ready","id":"1","data":{"version":"2.0.0"}}"#;
        socket.send(Message::binary(pipecat::message_frame(ready))).await?;
        let mut clock = self.clock();
        let mut ticks = 0;
        loop {
            tokio::select! {
                due = clock.tick() => {
                    self.tally.ticked(due.elapsed());
                    socket.send(Message::binary(self.says(ticks).to_vec())).await?;
                    ticks += 1;
                }
                message = socket.next() => {
                    let message = message.context("the server is gone")??;
                    ensure!(!message.is_close(), "the server has hung up");
                    if message.is_binary() && message.len() >= CLIENT_AUDIO_BYTES {
                        self.tally.heard_ms.fetch_add(20, Ordering::Relaxed);
                    }
                }
                () = scope.cancelled() => return close(socket).await,
            }
        }
    }

    fn clock(&self) -> tokio::time::Interval {
        let mut clock = tokio::time::interval(TICK);
        // The far end's clock does not stand still because this machine was busy.
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        clock
    }

    /// The message of this tick.
    fn says(&self, ticks: usize) -> &[u8] {
        self.tally.sent.fetch_add(1, Ordering::Relaxed);
        let place = place(self.number, ticks);
        if place == self.sentence.len() {
            self.tally.said.fetch_add(1, Ordering::Relaxed);
        }
        self.sentence.get(place).unwrap_or(&self.silence)
    }
}

/// Where in its period the call of this number is: the golden section spreads any number of them evenly.
pub fn place(number: usize, ticks: usize) -> usize {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let offset = (number as f64 * GOLDEN).fract() * PERIOD_TICKS as f64;
    (offset as usize + ticks) % PERIOD_TICKS
}

fn token(secret: &str, call_id: &str) -> String {
    let expires = std::time::SystemTime::now() + TOKEN;
    let expires = expires.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let claims = Claims {
        session_id: service_kit::ids::session_id(),
        transport: "telephony".to_owned(),
        provider: "twilio".to_owned(),
        call_id: call_id.to_owned(),
        expires_at: expires.as_secs(),
        body_json: String::new(),
    };
    TokenSigner::new(Secret::new(secret)).sign(&claims)
}

async fn close(mut socket: Socket) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let _ = socket.close(None).await;
    let rest = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(PATIENCE, rest).await;
    Ok(())
}
