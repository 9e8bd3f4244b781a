//! What phone providers send and want to be answered, a file a provider.

pub mod busy;
pub mod exotel;
pub mod plivo;
pub mod progress;
pub mod signed;
pub mod telnyx;
pub mod transferred;
pub mod twilio;
pub mod vonage;
pub mod webhook;
pub mod xml;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

pub use carriers::Provider;
pub use webhook::{Pairs, Webhook};

/// Names in a webhook's query that are ours and no template variables: the sealed session of an outbound call, and the
/// secret of providers that sign nothing.
pub const OWN_QUERY: [&str; 2] = [CALL_QUERY, SECRET_QUERY];
/// Token of an outbound call, in the URLs that its provider calls.
pub const CALL_QUERY: &str = "call";
/// See [`exotel`].
pub const SECRET_QUERY: &str = "secret";

/// What a webhook says about its call; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallFacts {
    /// The provider's id of the call.
    pub call_id: String,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
}

impl CallFacts {
    /// Reads a webhook in its provider's words.
    pub fn read(provider: Provider, webhook: &Webhook) -> Self {
        let [call_id, from, to] = match provider {
            Provider::Twilio => twilio::FACTS,
            Provider::Telnyx => telnyx::FACTS,
            Provider::Plivo => plivo::FACTS,
            Provider::Exotel => exotel::FACTS,
            Provider::Vonage => vonage::FACTS,
        };
        let field = |name| webhook.field(name).to_owned();
        Self {
            call_id: field(call_id),
            from: field(from),
            to: field(to),
        }
    }
}

/// What the operator put into the webhook's URL for the agent to know. On a GET the provider's own fields are there
/// too; those are left out.
pub fn custom_parameters(provider: Provider, webhook: &Webhook) -> Pairs {
    let is_own = |name: &str| match provider {
        // These write their fields in capitals.
        Provider::Twilio | Provider::Telnyx | Provider::Plivo => name.starts_with(|c: char| c.is_ascii_uppercase()),
        Provider::Exotel => exotel::is_own_field(name),
        Provider::Vonage => vonage::is_own_field(name),
    };
    let custom = webhook.query.iter().filter(|(name, _)| {
        let is_ours = OWN_QUERY.contains(&name.as_str());
        !is_ours && (webhook.is_post || !is_own(name))
    });
    custom.cloned().collect()
}

/// A media stream that a call is to be connected to.
#[derive(Debug, Clone, Copy)]
pub struct Stream<'a> {
    /// `wss://…/telephony/ws/{token}`
    pub url: &'a str,
    /// Come back in the stream's first messages, as far as the provider carries them.
    pub parameters: &'a [(String, String)],
    /// The called number, for providers that want a caller for the stream's own leg.
    pub called: &'a str,
    /// Whom to ask what is next when the stream could not be opened or has ended, for providers that ask; empty = nobody.
    pub fallback: &'a str,
}

/// The answer to a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The document.
    pub body: String,
}

impl Document {
    fn xml(body: String) -> Self {
        Self {
            content_type: "text/xml",
            body,
        }
    }

    fn json(body: &serde_json::Value) -> Self {
        Self {
            content_type: "application/json",
            body: body.to_string(),
        }
    }

    /// Connects the call to a media stream.
    pub fn connect(provider: Provider, stream: Stream<'_>) -> Self {
        match provider {
            Provider::Twilio => Self::xml(twilio::connect(stream)),
            Provider::Telnyx => Self::xml(telnyx::connect(stream)),
            Provider::Plivo => Self::xml(plivo::connect(stream)),
            Provider::Exotel => Self::json(&exotel::connect(stream)),
            Provider::Vonage => Self::json(&vonage::connect(stream)),
        }
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}

/// The parameters that a provider carries: each within `fits`, together within `most` bytes; the others stay with the
/// session and do not make the round by the provider.
fn that_fit<'a>(
    parameters: &'a [(String, String)],
    most: usize,
    fits: impl Fn(&str, &str) -> bool + 'a,
) -> impl Iterator<Item = &'a (String, String)> {
    let mut used = 0;
    parameters.iter().filter(move |(name, value)| {
        // A separator and an equals sign come with each.
        let bytes = name.len() + value.len() + 2;
        let taken = fits(name, value) && used + bytes <= most;
        if taken {
            used += bytes;
        }
        taken
    })
}
