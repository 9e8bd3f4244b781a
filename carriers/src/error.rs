//! Why a provider did not do what it was asked, in words that say what to do.

use std::time::Duration;

use serde_json::Value;

/// Of a provider's message, what is worth telling, in characters.
const EXCERPT: usize = 200;
/// Digits in a row that may be somebody's number.
const NUMBER_LENGTH: usize = 5;

/// Why a provider did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// A credential or an address is missing in the configuration.
    #[error("{provider} cannot be asked: set {key}")]
    NotConfigured {
        /// Which provider.
        provider: &'static str,
        /// The configuration key.
        key: &'static str,
    },
    /// The provider has no such operation.
    #[error("{provider} cannot {what}")]
    NotSupported {
        /// Which provider.
        provider: String,
        /// What was asked.
        what: &'static str,
    },
    /// What was asked makes no sense to any provider.
    #[error("{0}")]
    Invalid(&'static str),
    /// The provider does not accept our credentials.
    #[error("the provider refused our credentials (HTTP {status}): check {key}")]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// The configuration key of the credential.
        key: &'static str,
    },
    /// No such call, or it has ended already.
    #[error("the call has ended already")]
    NotFound,
    /// Asked too often; waiting was of no use or would have taken too long.
    #[error("the provider is asked too often{}", retry_words(*retry_after))]
    RateLimited {
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// No connection, a broken one, or a server error.
    #[error("the provider cannot be reached: {reason}")]
    Unavailable {
        /// What went wrong.
        reason: String,
        /// Cause, where there is one.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// No answer in time. Whether the provider did it is not known.
    #[error("the provider did not answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The provider understood and will not.
    #[error("the provider refused (HTTP {status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The provider's own code, where it has one.
        code: Option<String>,
        /// Its words, without numbers that may be somebody's.
        message: String,
    },
}

impl CarrierError {
    /// Metric label `outcome`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotConfigured { .. } => "not_configured",
            Self::NotSupported { .. } => "not_supported",
            Self::Invalid(_) => "invalid",
            Self::Unauthorized { .. } => "unauthorized",
            Self::NotFound => "not_found",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::TimedOut(_) => "timed_out",
            Self::Refused { .. } => "refused",
        }
    }

    /// Whether the provider may have done it all the same: it was asked, and either no answer came, or one that says neither
    /// yes nor no: a server error, which the provider's edge may have made up, or a yes that cannot be read.
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Unavailable { source, .. } => source.as_ref().is_none_or(|source| !source.is_connect()),
            Self::NotConfigured { .. }
            | Self::NotSupported { .. }
            | Self::Invalid(_)
            | Self::Unauthorized { .. }
            | Self::NotFound
            | Self::RateLimited { .. }
            | Self::Refused { .. } => false,
        }
    }
}

fn retry_words(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!(": come back in {} s", wait.as_secs()))
}

/// What the body of an error answer says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    /// For programs.
    pub(crate) code: Option<String>,
    /// For people.
    pub(crate) message: String,
}

impl Problem {
    /// Reads the shapes in use: Twilio `{code, message}`, Telnyx `{errors: [{code, title, detail}]}`, Plivo `{error}`,
    /// Vonage `{title, detail}` (RFC 7807), Exotel `{RestException: {Code, Message}}`. `secret` is blotted out.
    pub(crate) fn read(body: &[u8], secret: &str) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let place = json
            .pointer("/errors/0")
            .or_else(|| json.get("RestException"))
            .unwrap_or(&json);
        let text = |names: &[&str]| {
            names.iter().find_map(|name| match place.get(*name)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
            })
        };
        let message = text(&["detail", "message", "Message", "error", "title"]);
        let mut message = message.unwrap_or_else(|| "without a reason".to_owned());
        if !secret.is_empty() {
            message = message.replace(secret, "***");
        }
        Self {
            code: text(&["code", "Code"]),
            message: without_numbers(&message).chars().take(EXCERPT).collect(),
        }
    }
}

/// Blots out runs of digits that may be phone numbers or account numbers.
fn without_numbers(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut run = String::new();
    let flush = |run: &mut String, shown: &mut String| {
        if run.len() >= NUMBER_LENGTH {
            shown.push_str("***");
        } else {
            shown.push_str(run);
        }
        run.clear();
    };
    for character in text.chars() {
        if character.is_ascii_digit() {
            run.push(character);
        } else {
            flush(&mut run, &mut shown);
            shown.push(character);
        }
    }
    flush(&mut run, &mut shown);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> (Option<String>, String) {
        let problem = Problem::read(body.as_bytes(), "tok");
        (problem.code, problem.message)
    }

    #[test]
    fn every_provider_s_way_to_say_no_is_understood() {
        let code = |code: &str| Some(code.to_owned());
        assert_eq!(
            read(r#"{"code": 21220, "message": "Call is not in-progress", "status": 400}"#),
            (code("21220"), "Call is not in-progress".to_owned())
        );
        assert_eq!(
            read(r#"{"errors": [{"code": "90018", "title": "Call has already ended", "detail": "It ended."}]}"#),
            (code("90018"), "It ended.".to_owned())
        );
        assert_eq!(
            read(r#"{"api_id": "x", "error": "call not found"}"#),
            (None, "call not found".to_owned())
        );
        assert_eq!(
            read(r#"{"type": "https://…", "title": "Bad Request", "detail": "no such action"}"#),
            (None, "no such action".to_owned())
        );
        assert_eq!(
            read(r#"{"RestException": {"Status": 400, "Message": "Bad From"}}"#),
            (None, "Bad From".to_owned())
        );
        assert_eq!(read("<html>"), (None, "without a reason".to_owned()));
    }

    #[test]
    fn neither_numbers_nor_secrets_come_out_of_an_error() {
        let (_, message) = read(r#"{"message": "To +14155550100 is not valid for tok; 21 tries"}"#);
        assert_eq!(message, "To +*** is not valid for ***; 21 tries");
    }
}
