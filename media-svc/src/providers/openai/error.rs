//! Why a request gave nothing, in words that say what to do.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// Of an error body, what is worth telling, in characters.
const ERROR_EXCERPT: usize = 300;

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// No connection, or it broke before the answer began.
    #[error("{url} does not answer: {}", root_cause(source))]
    Unreachable {
        /// What was asked, without credentials.
        url: String,
        /// Cause.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke while the answer was read.
    #[error("the answer broke off: {}", root_cause(.0))]
    BrokenOff(#[source] reqwest::Error),
    /// Nothing came for too long.
    #[error("the provider sent nothing for {} s", .0.as_secs())]
    TimedOut(Duration),
    /// An error status.
    #[error("the provider answered {status}: {}{}", problem.message, hint(*status))]
    Status {
        /// HTTP status.
        status: StatusCode,
        /// What its body says.
        problem: Problem,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// An error in the middle of a streamed answer.
    #[error("the provider gave up: {0}")]
    Reported(String),
    /// Something that the API does not define.
    #[error("the provider sent {0}")]
    Malformed(String),
    /// More audio than one upload may hold.
    #[error("the utterance is longer than one upload may be (25 MB): set turn_max_duration_secs lower")]
    TooLong,
}

impl OpenAiError {
    /// Metric label `error_type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::BrokenOff(_) => "connection",
            Self::TimedOut(_) => "timeout",
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => "rate_limit",
            Self::Status { status, .. } if status.is_server_error() => "server",
            Self::Reported(_) => "server",
            Self::Status { .. } | Self::TooLong => "refused",
            Self::Malformed(_) => "malformed",
        }
    }

    /// How long to wait before another attempt; `None` when there is no use. What the provider asks for counts more
    /// than `backoff`; when it asks for more than `longest`, a caller would not wait that long.
    pub(super) fn worth_another_attempt(&self, backoff: Duration, longest: Duration) -> Option<Duration> {
        match self {
            Self::Unreachable { .. } => Some(backoff),
            Self::Status {
                status,
                problem,
                retry_after,
            } => {
                let passes = *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
                    || status.is_server_error();
                let wait = retry_after.unwrap_or(backoff);
                (passes && !problem.is_out_of_quota() && wait <= longest).then_some(wait)
            }
            Self::BrokenOff(_) | Self::TimedOut(_) | Self::Reported(_) | Self::Malformed(_) | Self::TooLong => None,
        }
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (check OPENAI_API_KEY)",
        StatusCode::NOT_FOUND => " (check openai.base_url and the model's name)",
        _ => "",
    }
}

/// An HTTP client's own words say only that something failed; the innermost cause says what.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// An error as the API describes it: `{"error": {"message", "type", "code"}}`; some servers put a text in `error`.
///
/// <https://platform.openai.com/docs/guides/error-codes>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// For people, shortened.
    pub message: String,
    /// For programs.
    pub code: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    error: Value,
}

impl Problem {
    /// Reads the body of an error answer; `secret` is blotted out if the body repeats it.
    pub(super) fn read(body: &str, secret: Option<&str>) -> Self {
        let described = serde_json::from_str::<Envelope>(body).map(|envelope| Self::described(&envelope.error));
        let mut problem = described.unwrap_or_else(|_| Self {
            message: body.trim().to_owned(),
            code: None,
        });
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            problem.message = problem.message.replace(secret, "***");
        }
        problem.message = problem.message.chars().take(ERROR_EXCERPT).collect();
        if problem.message.is_empty() {
            problem.message = "without a reason".to_owned();
        }
        problem
    }

    /// Reads the value of `error`.
    pub(super) fn described(error: &Value) -> Self {
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = text("message").or_else(|| error.as_str().map(str::to_owned));
        Self {
            message: message.unwrap_or_else(|| error.to_string()),
            code: text("code").or_else(|| text("type")),
        }
    }

    /// A 429 that does not pass by waiting.
    fn is_out_of_quota(&self) -> bool {
        self.code.as_deref() == Some("insufficient_quota")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(2);

    fn answered(status: u16, body: &str, retry_after: Option<u64>) -> OpenAiError {
        OpenAiError::Status {
            status: StatusCode::from_u16(status).unwrap(),
            problem: Problem::read(body, None),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn wait(error: &OpenAiError) -> Option<Duration> {
        error.worth_another_attempt(BACKOFF, LONGEST)
    }

    #[test]
    fn only_what_passes_by_waiting_is_tried_again() {
        for status in [408, 429, 500, 503] {
            assert_eq!(wait(&answered(status, "", None)), Some(BACKOFF), "{status}");
        }
        for status in [400, 401, 403, 404, 413] {
            assert_eq!(wait(&answered(status, "", None)), None, "{status}");
        }
        assert_eq!(wait(&OpenAiError::TimedOut(LONGEST)), None);
    }

    #[test]
    fn the_provider_says_how_long_to_wait_and_nobody_waits_longer_than_a_caller_would() {
        assert_eq!(wait(&answered(429, "", Some(1))), Some(Duration::from_secs(1)));
        assert_eq!(wait(&answered(503, "", Some(0))), Some(Duration::ZERO));
        assert_eq!(wait(&answered(429, "", Some(3))), None);
    }

    #[test]
    fn an_empty_account_is_not_asked_again() {
        let body = r#"{"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}"#;
        assert_eq!(wait(&answered(429, body, None)), None);
    }

    #[test]
    fn messages_are_found_in_every_usual_shape_and_never_hold_the_key() {
        let read = |body: &str| Problem::read(body, Some("sk-1")).message;
        assert_eq!(read(r#"{"error": {"message": "bad key sk-1"}}"#), "bad key ***");
        assert_eq!(read(r#"{"error": "model 'x' not found"}"#), "model 'x' not found");
        assert_eq!(read("<html>busy</html>"), "<html>busy</html>");
        assert_eq!(read(" "), "without a reason");
        assert_eq!(read(&"x".repeat(1_000)).len(), ERROR_EXCERPT);
    }
}
