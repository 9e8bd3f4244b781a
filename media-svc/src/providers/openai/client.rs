//! The HTTP side that the three stages share: key, base URL, timeouts, retries.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, Url};
use service_kit::config::{Config, Secrets};
use service_kit::exit::{self, Fatal};

use super::answer::Answer;
use super::error::{OpenAiError, Problem};
use crate::providers::metrics::Stage;
use crate::providers::{Labels, metrics};

const BASE_URL: &str = "https://api.openai.com/v1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts in all; only what failed before its first piece is tried again.
const ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// A provider that asks for more patience than this has failed for this turn.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Of an error body, what is read, in bytes, and how long that may take.
const ERROR_BODY: usize = 16 * 1024;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for the head of an answer, all attempts included, and then between two pieces of it. Each is a little
/// less than the conversation's own limit, so that a failure is reported in the provider's words and counted.
pub(super) fn patience(stage: Stage) -> Duration {
    match stage {
        Stage::Stt | Stage::Tts => Duration::from_secs(9),
        // A local server may have to load the model first.
        Stage::Llm => Duration::from_secs(28),
    }
}

/// A client of one API. Clones share their connections.
#[derive(Clone)]
pub struct OpenAi {
    http: Client,
    base_url: Arc<str>,
    secrets: Arc<Secrets>,
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
        // The process may have chosen already; then this does nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
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
    pub(super) async fn post(
        &self,
        path: &str,
        stage: Stage,
        labels: &Labels,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, OpenAiError> {
        let patience = patience(stage);
        let response = tokio::time::timeout(patience, self.attempts(path, stage, labels, fill))
            .await
            .map_err(|_| OpenAiError::TimedOut(patience))??;
        Ok(Answer::new(response, patience))
    }

    async fn attempts(
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
            let wait = error.worth_another_attempt(jittered(backoff), LONGEST_BACKOFF);
            let Some(wait) = wait.filter(|_| attempt < ATTEMPTS) else {
                return Err(error);
            };
            metrics::retried(stage, labels);
            tracing::debug!(%error, attempt, "trying again");
            tokio::time::sleep(wait).await;
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
        let key = self.secrets.api_key("openai");
        if let Some(key) = &key {
            request = request.bearer_auth(key.expose());
        }
        let response = request.send().await.map_err(|source| OpenAiError::Unreachable {
            url: without_credentials(&url),
            source: source.without_url(),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let body = error_body(response).await;
        let problem = Problem::read(&String::from_utf8_lossy(&body), key.as_ref().map(|key| key.expose()));
        Err(OpenAiError::Status {
            status,
            problem,
            retry_after,
        })
    }
}

/// Up to half as much again, so that calls which failed together do not come back together.
fn jittered(backoff: Duration) -> Duration {
    backoff.mul_f64(rand::random_range(1.0..1.5))
}

/// What came of the body of an error in a short time: its status says most of it.
async fn error_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            body.extend_from_slice(&piece);
            if body.len() >= ERROR_BODY {
                break;
            }
        }
    };
    // What was read until then is told.
    let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, read).await;
    body
}

/// `http://user:password@host` is a way to reach some servers, and nothing for a log.
fn without_credentials(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return "openai.base_url".to_owned();
    };
    // Only URLs without a host refuse this, and they hold no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_an_error_holds_no_password() {
        assert_eq!(without_credentials("http://me:pass@host:1/v1/x"), "http://host:1/v1/x");
    }

    #[test]
    fn failures_are_reported_before_the_conversation_gives_up() {
        // 10 s for recognition and synthesis, 30 s for the model.
        assert!(patience(Stage::Stt) < Duration::from_secs(10));
        assert!(patience(Stage::Tts) < Duration::from_secs(10));
        assert!(patience(Stage::Llm) < Duration::from_secs(30));
    }
}
