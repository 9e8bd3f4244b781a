//! The HTTP side that all providers share: timeouts, attempts, what an answer means.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use service_kit::config::Config;
use service_kit::exit::{self, Fatal};

use crate::error::{CarrierError, Problem};
use crate::{Provider, metrics};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts in all.
const ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// A provider that asks for more patience than this is not asked again: a caller is on the line.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3);
/// Of an answer, what is read at most, in bytes; all that is needed is an id or an error.
const LONGEST_BODY: usize = 64 * 1024;

/// Whether a request may be sent again when it is not known what came of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Doing it twice is the same as doing it once.
    Safe,
    /// So too, but what a later attempt is refused for may be that one before it worked.
    SafeInDoubt,
    /// Doing it twice would be noticed: only what surely was not done is sent again.
    Unsafe,
}

/// Clients of all providers share this.
#[derive(Clone)]
pub(crate) struct Rest {
    http: Client,
    timeout: Duration,
}

/// The way to one provider.
pub(crate) struct Endpoint {
    rest: Rest,
    provider: Provider,
    base: Url,
    /// Configuration key that a refusal of credentials is about.
    credential: &'static str,
}

impl Rest {
    pub(crate) fn new(config: &Config) -> Result<Self, Fatal> {
        // The process may have chosen already; then this does nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = Duration::from_secs_f64(config.telephony.request_timeout_secs);
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .pool_idle_timeout(Duration::from_secs(90))
            .tcp_nodelay(true)
            // A redirect would carry the credentials somewhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Fatal::new(exit::SOFTWARE, format!("no HTTP client: {error}"), "start it again"))?;
        Ok(Self { http, timeout })
    }

    /// For a provider at its configured base URL, or else at `own`.
    pub(crate) fn endpoint(
        &self,
        config: &Config,
        provider: Provider,
        own: &str,
        credential: &'static str,
    ) -> Result<Endpoint, Fatal> {
        let name = provider.name();
        let configured = config.agent.base_urls.get(name).map_or(own, String::as_str);
        let base = Url::parse(configured)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base = base.ok_or_else(|| {
            let what = format!("{name}.base_url is not an http:// or https:// URL");
            Fatal::new(exit::CONFIG, what, "name the API's base URL, or remove the key")
        })?;
        Ok(Endpoint {
            rest: self.clone(),
            provider,
            base,
            credential,
        })
    }
}

impl Endpoint {
    /// Sends one request, again where that is right, and reads the JSON of a success (`Null` when there is none).
    /// Segments are percent-encoded into the path; `fill` adds credentials and body; `secret` never shows in an error.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &[&str],
        repeat: Repeat,
        secret: &str,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Value, CarrierError> {
        let url = self.url(path);
        let mut backoff = FIRST_BACKOFF;
        let mut attempt = 1;
        let mut in_doubt = None;
        loop {
            let request = fill(self.rest.http.request(method.clone(), url.clone()));
            let failure = match self.attempt(request, secret).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = failure.wait(repeat, jittered(backoff)).filter(|_| attempt < ATTEMPTS);
            let Some(wait) = wait else {
                return Err(in_doubt.unwrap_or(failure.error));
            };
            metrics::retried(self.provider);
            tracing::debug!(provider = self.provider.name(), error = %failure.error, attempt, "trying again");
            if repeat == Repeat::SafeInDoubt && failure.error.may_have_been_done() {
                in_doubt = Some(failure.error);
            }
            tokio::time::sleep(wait).await;
            attempt += 1;
            backoff *= 2;
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only URLs that cannot be a base refuse this, and those were refused at start.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn attempt(&self, request: RequestBuilder, secret: &str) -> Result<Value, Failure> {
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = self.body(response).await;
        if status.is_success() {
            // It was done: a body that breaks off or is none changes nothing, an id that is missing is noticed later.
            return Ok(serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default());
        }
        let problem = Problem::read(&body.unwrap_or_default(), secret);
        Err(self.refused(status, retry_after, problem))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            let room = LONGEST_BODY.saturating_sub(body.len());
            body.extend(piece.iter().take(room));
            if room <= piece.len() {
                break;
            }
        }
        Ok(body)
    }

    fn failed(&self, error: reqwest::Error) -> Failure {
        let never_sent = error.is_connect();
        let timed_out = error.is_timeout();
        let error = error.without_url();
        let error = if timed_out && !never_sent {
            CarrierError::TimedOut(self.rest.timeout)
        } else {
            CarrierError::Unavailable {
                reason: root_cause(&error),
                source: Some(error),
            }
        };
        Failure {
            error,
            surely_not_done: never_sent,
            passes: true,
        }
    }

    fn refused(&self, status: StatusCode, retry_after: Option<Duration>, problem: Problem) -> Failure {
        let error = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CarrierError::Unauthorized {
                status: status.as_u16(),
                key: self.credential,
            },
            StatusCode::NOT_FOUND | StatusCode::GONE => CarrierError::NotFound,
            StatusCode::TOO_MANY_REQUESTS => CarrierError::RateLimited { retry_after },
            status if status.is_server_error() => CarrierError::Unavailable {
                reason: format!("HTTP {}: {}", status.as_u16(), problem.message),
                source: None,
            },
            status => CarrierError::Refused {
                status: status.as_u16(),
                code: problem.code,
                message: problem.message,
            },
        };
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        Failure {
            error,
            surely_not_done: limited,
            passes: limited || status.is_server_error(),
        }
        .after(retry_after)
    }
}

/// One attempt that gave nothing.
struct Failure {
    error: CarrierError,
    /// The provider has done nothing.
    surely_not_done: bool,
    /// Another attempt may do better. `Retry-After` beyond our patience makes this false.
    passes: bool,
}

impl Failure {
    fn after(mut self, retry_after: Option<Duration>) -> Self {
        self.passes &= retry_after.is_none_or(|wait| wait <= LONGEST_BACKOFF);
        self
    }

    /// How long to wait before another attempt; `None` when there must be none.
    fn wait(&self, repeat: Repeat, backoff: Duration) -> Option<Duration> {
        let is_safe = match repeat {
            Repeat::Safe | Repeat::SafeInDoubt => true,
            Repeat::Unsafe => false,
        };
        let allowed = self.passes && (is_safe || self.surely_not_done);
        let asked = match self.error {
            CarrierError::RateLimited { retry_after } => retry_after,
            _ => None,
        };
        allowed.then(|| asked.unwrap_or(backoff))
    }
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); the providers here send no dates.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Up to half as much again, so that calls which failed together do not come back together.
fn jittered(backoff: Duration) -> Duration {
    backoff.mul_f64(rand::random_range(1.0..1.5))
}

/// An HTTP client's own words say only that something failed; the innermost cause says what.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
