//! The HTTP side that the three stages share: key, base URL, timeouts, retries, errors in words.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use service_kit::config::{Config, Secrets};
use service_kit::exit::{self, Fatal};

use crate::providers::metrics::Stage;
use crate::providers::{Labels, metrics};

const BASE_URL: &str = "https://api.openai.com/v1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for the head of an answer, and between two pieces of it.
const PIECE_TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts in all; only what failed before its first piece is tried again.
const ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// A provider that asks for more patience than this has failed for this turn.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Of an error body, what is worth telling.
const ERROR_EXCERPT: usize = 300;

/// A client of one API.
#[derive(Clone)]
pub struct OpenAi {
    http: Client,
    base_url: Arc<str>,
    secrets: Arc<Secrets>,
}

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// No connection, or it broke.
    #[error("{url} does not answer: {source}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Cause.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came for too long.
    #[error("the provider sent nothing for {} s", PIECE_TIMEOUT.as_secs())]
    TimedOut,
    /// An error status.
    #[error("the provider answered {status}: {body}{}", hint(*status))]
    Status {
        /// HTTP status.
        status: StatusCode,
        /// Beginning of its body.
        body: String,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// Something that the API does not define.
    #[error("the provider sent {0}")]
    Malformed(String),
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (check OPENAI_API_KEY)",
        StatusCode::NOT_FOUND => " (check openai.base_url and the model's name)",
        _ => "",
    }
}

impl OpenAiError {
    /// Metric label `error_type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "connection",
            Self::TimedOut => "timeout",
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => "rate_limit",
            Self::Status { status, .. } if status.is_server_error() => "server",
            Self::Status { .. } => "refused",
            Self::Malformed(_) => "malformed",
        }
    }

    /// How long to wait before another attempt; `None` when there is no use.
    fn retry_after(&self, backoff: Duration) -> Option<Duration> {
        match self {
            Self::Unreachable { .. } => Some(backoff),
            Self::Status {
                status, retry_after, ..
            } => {
                let worth_it = *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
                let wait = retry_after.unwrap_or(backoff);
                (worth_it && wait <= LONGEST_BACKOFF).then_some(wait)
            }
            // A caller who has waited that long will not wait again.
            Self::TimedOut | Self::Malformed(_) => None,
        }
    }
}

impl OpenAi {
    /// For the configured base URL. A key is needed unless the base URL is somebody else's.
    ///
    /// # Errors
    /// The key is missing.
    pub fn new(config: &Config) -> Result<Self, Fatal> {
        let base_url = config
            .agent
            .base_urls
            .get("openai")
            .map_or(BASE_URL, |url| url.trim_end_matches('/'));
        if base_url == BASE_URL && config.secrets.api_key("openai").is_none() {
            let remedy = "set OPENAI_API_KEY, or openai.base_url for a server of your own";
            return Err(Fatal::new(exit::CONFIG, "provider openai needs a key", remedy));
        }
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(90))
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Fatal::new(exit::SOFTWARE, format!("no HTTP client: {error}"), "start it again"))?;
        Ok(Self {
            http,
            base_url: base_url.into(),
            secrets: config.secrets.clone(),
        })
    }

    /// Posts to `{base}{path}`, trying again what is worth it, until an answer begins.
    pub async fn post(
        &self,
        path: &str,
        stage: Stage,
        labels: &Labels,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, OpenAiError> {
        let mut backoff = FIRST_BACKOFF;
        let mut attempt = 1;
        loop {
            let error = match self.try_post(path, &fill).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.retry_after(backoff).filter(|_| attempt < ATTEMPTS) {
                Some(wait) => {
                    metrics::retried(stage, labels);
                    tracing::debug!(%error, attempt, "trying again");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            }
            attempt += 1;
            backoff *= 2;
        }
    }

    async fn try_post(
        &self,
        path: &str,
        fill: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, OpenAiError> {
        let url = format!("{}{path}", self.base_url);
        let mut request = fill(self.http.post(&url));
        // Read for every request: keys are rotated while calls run.
        if let Some(key) = self.secrets.api_key("openai") {
            request = request.bearer_auth(key.expose());
        }
        let response = tokio::time::timeout(PIECE_TIMEOUT, request.send())
            .await
            .map_err(|_| OpenAiError::TimedOut)?
            .map_err(|source| OpenAiError::Unreachable {
                url,
                source: source.without_url(),
            })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = tokio::time::timeout(PIECE_TIMEOUT, response.text())
            .await
            .unwrap_or(Ok(String::new()));
        let body = body.unwrap_or_default().chars().take(ERROR_EXCERPT).collect();
        Err(OpenAiError::Status {
            status,
            body,
            retry_after,
        })
    }
}

/// The next piece of a streamed answer, or why there is none. `None` at its end.
pub async fn next_piece<T, E>(stream: &mut (impl Stream<Item = Result<T, E>> + Unpin)) -> Option<Result<T, OpenAiError>>
where
    E: std::fmt::Display,
{
    match tokio::time::timeout(PIECE_TIMEOUT, stream.next()).await {
        Ok(Some(Ok(piece))) => Some(Ok(piece)),
        Ok(Some(Err(error))) => Some(Err(OpenAiError::Malformed(format!("a broken answer: {error}")))),
        Ok(None) => None,
        Err(_) => Some(Err(OpenAiError::TimedOut)),
    }
}
