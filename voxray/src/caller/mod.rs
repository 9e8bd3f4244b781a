//! A phone caller that speaks a provider's media stream protocol at real-time pace: webhook, stream, playback, marks.
//!
//! Each provider's documentation is named with its messages, in `media_core::wire`.

mod genesys;
mod line;
mod playback;
mod script;
mod webhook;

use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Channels, Codec, MediaFormat, Provider, Start};

use line::Line;
pub use playback::rms;
pub use script::{Action, Said, Script, Step, TICK, TICK_SAMPLES};
pub use webhook::{StreamTarget, request_stream};

/// Stands for an account; nothing is looked up by it.
const ACCOUNT_SID: &str = "AC00000000000000000000000000000000";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers there.
    #[error("{url} does not answer: check that the server runs there (`voxray`), or name another one with --url")]
    Unreachable {
        /// The webhook.
        url: String,
        /// Cause.
        #[source]
        source: reqwest::Error,
    },
    /// The webhook did not answer with a stream.
    #[error("the webhook failed: {0}")]
    Webhook(String),
    /// The server answered that it takes no call now.
    #[error("the call was refused: {0}")]
    Refused(String),
    /// The media socket could not be opened.
    #[error("cannot open the media stream {url}{said}")]
    Connect {
        /// Its URL without the token.
        url: String,
        /// Why the server refuses, in its own words after a colon; empty when it said nothing.
        said: String,
        /// Cause.
        #[source]
        source: Box<tungstenite::Error>,
    },
    /// The server did not do what the script waited for.
    #[error("gave up after {seconds:.1} s of the call, waiting for {what}")]
    TimedOut {
        /// What was awaited.
        what: &'static str,
        /// Time since the stream began.
        seconds: f64,
    },
    /// The server closed the stream although the script was not over.
    #[error("the server ended the call early, after {seconds:.1} s{reason}")]
    EndedEarly {
        /// Time since the stream began.
        seconds: f64,
        /// Close reason, if one was given.
        reason: String,
    },
    /// The server sent something that the provider would not accept.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// A rate that cannot be converted, or a secret that no header can carry.
    #[error("this call cannot be made: {0}")]
    Impossible(String),
}

/// Whom to call and how.
#[derive(Debug, Clone)]
pub struct Call {
    /// Base URL of the signaling service.
    pub base_url: String,
    /// Phone provider to act as.
    pub provider: Provider,
    /// Provider call id; random when `None`.
    pub call_id: Option<String>,
    /// What the server knows the provider by: signs Twilio's webhook, opens Exotel's, is Genesys' API key.
    pub auth_token: Option<String>,
    /// Signs Genesys' connection.
    pub client_secret: Option<String>,
    /// What the caller does.
    pub steps: Vec<Step>,
}

/// What a finished call was like, seen from the caller. All audio is mono 8 kHz on the call's clock.
#[derive(Debug)]
pub struct CallReport {
    /// Provider call id.
    pub call_id: String,
    /// Phone provider acted as.
    pub provider: Provider,
    /// Host and port of the media node.
    pub media_host: String,
    /// Everything the caller heard.
    pub heard: Vec<i16>,
    /// Everything the caller sent.
    pub sent: Vec<i16>,
    /// What was said when.
    pub said: Vec<Said>,
    /// Whether the agent ended the call.
    pub ended_by_agent: bool,
    /// Ticks at which the server cleared playback (barge-in).
    pub clears: Vec<usize>,
    /// Longest audio that waited in the provider's buffer, milliseconds.
    pub max_queued_ms: usize,
}

impl Call {
    /// A call of Twilio's to this server with a fresh id.
    pub fn new(base_url: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            base_url: base_url.into(),
            provider: Provider::Twilio,
            call_id: None,
            auth_token: None,
            client_secret: None,
            steps,
        }
    }

    /// The same call of another provider.
    #[must_use]
    pub fn by(mut self, provider: Provider) -> Self {
        self.provider = provider;
        self
    }

    /// Places the call and stays until it is over.
    pub async fn place(self) -> Result<CallReport, CallError> {
        let provider = self.provider;
        let call_id = self.call_id.clone().unwrap_or_else(|| fresh_id(provider));
        let script = Script::new(self.steps.clone());
        if provider == Provider::Genesys {
            let session = uuid::Uuid::new_v4().to_string();
            let request = genesys::request(&self, &session)?;
            let mut start = start(&StreamTarget::default(), provider, call_id);
            start.stream_id = session;
            return connect(request, start, script).await;
        }
        let token = self.auth_token.as_deref();
        let target = webhook::ask(provider, &self.base_url, &call_id, token).await?;
        stream(provider, target, call_id, script).await
    }
}

fn fresh_id(provider: Provider) -> String {
    let id = uuid::Uuid::new_v4();
    match provider {
        Provider::Twilio => format!("CA{}", id.simple()),
        Provider::Telnyx => format!("v3:{}", id.simple()),
        Provider::Exotel => id.simple().to_string(),
        Provider::Plivo | Provider::Vonage | Provider::Genesys => id.to_string(),
    }
}

/// Opens the media stream that a webhook's answer names and plays the script on it.
pub async fn stream(
    provider: Provider,
    target: StreamTarget,
    call_id: String,
    script: Script,
) -> Result<CallReport, CallError> {
    let request = target
        .url
        .as_str()
        .into_client_request()
        .map_err(|source| not_connected(&host_of(&target.url), source))?;
    connect(request, start(&target, provider, call_id), script).await
}

async fn connect(request: Request, start: Start, script: Script) -> Result<CallReport, CallError> {
    let media_host = host_of(&request.uri().to_string());
    let (socket, _) = tokio_tungstenite::connect_async(request)
        .await
        .map_err(|source| not_connected(&media_host, source))?;
    let call = (start.provider, start.call_id.clone());
    let mut line = Line::new(socket, start.format, FarEnd::new(start), script)?;
    line.open().await?;
    let ended_by_agent = line.talk().await?;
    Ok(line.report(call, media_host, ended_by_agent))
}

/// What a failed handshake means, with what the server said in its error envelope.
fn not_connected(host: &str, source: tungstenite::Error) -> CallError {
    let said = match &source {
        tungstenite::Error::Http(answer) => answer.body().as_deref().and_then(refusal),
        _ => None,
    };
    CallError::Connect {
        url: host.to_owned(),
        said: said.map_or_else(String::new, |message| format!(": {message}")),
        source: Box::new(source),
    }
}

fn refusal(body: &[u8]) -> Option<String> {
    let envelope: serde_json::Value = serde_json::from_slice(body).ok()?;
    envelope.pointer("/error/message")?.as_str().map(str::to_owned)
}

/// How the provider's stream begins.
fn start(target: &StreamTarget, provider: Provider, call_id: String) -> Start {
    let format = match provider {
        Provider::Twilio | Provider::Plivo | Provider::Genesys => MediaFormat::ULAW_8K,
        Provider::Telnyx => MediaFormat {
            codec: if target.codec.as_deref() == Some("PCMA") {
                Codec::Alaw
            } else {
                Codec::Ulaw
            },
            rate_hz: 8_000,
        },
        Provider::Exotel => MediaFormat {
            codec: Codec::L16,
            rate_hz: 8_000,
        },
        Provider::Vonage => MediaFormat {
            codec: Codec::L16,
            rate_hz: if target
                .codec
                .as_deref()
                .is_some_and(|codec| codec.ends_with("rate=8000"))
            {
                8_000
            } else {
                16_000
            },
        },
    };
    Start {
        provider,
        stream_id: match provider {
            Provider::Twilio | Provider::Exotel => format!("MZ{}", uuid::Uuid::new_v4().simple()),
            Provider::Telnyx | Provider::Plivo | Provider::Vonage | Provider::Genesys => {
                uuid::Uuid::new_v4().to_string()
            }
        },
        call_id,
        account_id: Some(ACCOUNT_SID.to_owned()),
        parameters: target.parameters.iter().cloned().collect(),
        format,
        channels: Channels::Caller,
    }
}

fn host_of(url: &str) -> String {
    url.split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .unwrap_or(url)
        .to_owned()
}
