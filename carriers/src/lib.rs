//! REST clients of the phone providers: end a call, transfer it, send digits into it, place one.
//!
//! A room of its own because both planes need it: media nodes end and steer the calls they carry, the control plane
//! places new ones. Every request has a timeout and a bounded number of attempts; nothing here belongs on the path of
//! audio, so callers run it in a task of their own.
//!
//! A file a provider; its module names the pages of the provider's documentation that it follows.

mod check;
mod error;
mod exotel;
mod metrics;
mod plivo;
mod rest;
mod sealed;
mod telnyx;
mod twilio;
mod vonage;
mod xml;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use service_kit::config::Config;
use service_kit::exit::Fatal;

pub use check::{is_destination, is_digits};
pub use error::CarrierError;
pub use sealed::{Dial, Origin, Sealed, TransferSeal};
pub use xml::dial_document;

use exotel::Exotel;
use metrics::{Operation, Timed};
use plivo::Plivo;
use rest::Rest;
use telnyx::Telnyx;
use twilio::Twilio;
use vonage::Vonage;

/// The providers that send webhooks and whose calls can be steered by REST.
///
/// `media_core::wire::telephony::Provider` is another set: whoever opens media streams, Genesys AudioHook included, which
/// has neither webhook nor REST here. Two types keep both sets exhaustive, and the wire formats free of this crate's HTTP
/// client; they meet only by [`name`](Self::name), in tokens and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Twilio.
    Twilio,
    /// Telnyx.
    Telnyx,
    /// Plivo.
    Plivo,
    /// Exotel.
    Exotel,
    /// Vonage.
    Vonage,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Twilio, Self::Telnyx, Self::Plivo, Self::Exotel, Self::Vonage];

    /// By the name used in URLs, configuration and sessions.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// Name used in URLs, configuration and sessions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Telnyx => "telnyx",
            Self::Plivo => "plivo",
            Self::Exotel => "exotel",
            Self::Vonage => "vonage",
        }
    }

    /// Whether [`Carriers::hang_up`] exists; Exotel ends a call when its media stream is closed.
    pub fn hangs_up(self) -> bool {
        match self {
            Self::Twilio | Self::Telnyx | Self::Plivo | Self::Vonage => true,
            Self::Exotel => false,
        }
    }

    /// Whether [`Carriers::transfer`] exists.
    pub fn transfers(self) -> bool {
        match self {
            Self::Twilio | Self::Telnyx | Self::Plivo | Self::Vonage => true,
            Self::Exotel => false,
        }
    }

    /// Whether our media stream goes on while the provider rings somebody else for the caller, and ends when they answer.
    /// Elsewhere a transfer ends it, and a caller whom nobody takes comes back by a new one.
    pub fn keeps_stream(self) -> bool {
        match self {
            Self::Telnyx => true,
            Self::Twilio | Self::Plivo | Self::Exotel | Self::Vonage => false,
        }
    }

    /// Whether [`Carriers::send_dtmf`] exists. Where it does not, digits are sent as tones in the audio: Twilio plays
    /// digits only by a new document, which would end the media stream.
    pub fn sends_dtmf(self) -> bool {
        match self {
            Self::Telnyx | Self::Plivo | Self::Vonage => true,
            Self::Twilio | Self::Exotel => false,
        }
    }
}

/// What an outbound call does once somebody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its media stream is opened here (`wss://…`). Twilio, Telnyx and Vonage; the URL must stay valid while it rings.
    Stream(String),
    /// The provider fetches its answer document here (`https://…`, by POST) when the call is answered. Twilio, Plivo and
    /// Vonage.
    Document(String),
    /// The flow in the provider's portal decides (`exotel.app_id`). Exotel.
    Flow,
}

/// An outbound call to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceCall {
    /// Number that is called: E.164.
    pub to: String,
    /// Number shown to it; one that the account owns.
    pub from: String,
    /// What happens when it is answered.
    pub answer: Answer,
    /// Where the provider reports progress (`https://…`); `None` = nowhere.
    pub status_url: Option<String>,
    /// Whether the provider listens for an answering machine; it reports what it found at `status_url`.
    pub machine_detection: bool,
    /// Opaque text that comes back with the provider's reports where it has a place for it (Telnyx `client_state`,
    /// Exotel `CustomField`, at most 128 characters); the others carry such a thing in their URLs.
    pub reference: Option<String>,
}

/// A call that the provider has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderCall {
    /// The provider's id of the call, as its media stream and its reports name it.
    pub call_id: String,
}

/// How a caller comes back whom nobody takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// Where the provider says what has become of the transfer, and asks what to do when nobody took the caller.
    pub url: String,
    /// How long it rings, seconds.
    pub ring_secs: u32,
}

/// The providers' APIs. Clones share their connections.
#[derive(Clone)]
pub struct Carriers {
    providers: Arc<Providers>,
}

struct Providers {
    twilio: Twilio,
    telnyx: Telnyx,
    plivo: Plivo,
    exotel: Exotel,
    vonage: Vonage,
    /// Where providers reach the control plane.
    public_host: Option<String>,
    ring_secs: u32,
    seal: TransferSeal,
}

impl Carriers {
    /// Clients for every provider; what one needs is asked for when it is used.
    ///
    /// # Errors
    /// A base URL that is not HTTP, or a private key that is none.
    pub fn from_config(config: &Config) -> Result<Self, Fatal> {
        let rest = Rest::new(config)?;
        Ok(Self {
            providers: Arc::new(Providers {
                twilio: Twilio::new(config, &rest)?,
                telnyx: Telnyx::new(config, &rest)?,
                plivo: Plivo::new(config, &rest)?,
                exotel: Exotel::new(config, &rest)?,
                vonage: Vonage::new(config, &rest)?,
                public_host: public_host(config),
                ring_secs: config.telephony.transfer_ring_secs,
                seal: TransferSeal::new(&config.links.service_token),
            }),
        })
    }

    /// Whether [`hang_up`](Self::hang_up) can be asked for: the provider knows it and its account is configured.
    pub fn can_hang_up(&self, provider: &str) -> bool {
        Provider::from_name(provider).is_some_and(|provider| provider.hangs_up() && self.is_configured(provider))
    }

    /// Whether [`transfer`](Self::transfer) can be asked for.
    pub fn can_transfer(&self, provider: &str) -> bool {
        Provider::from_name(provider).is_some_and(|provider| provider.transfers() && self.is_configured(provider))
    }

    /// Whether [`send_dtmf`](Self::send_dtmf) can be asked for.
    pub fn can_send_dtmf(&self, provider: &str) -> bool {
        Provider::from_name(provider).is_some_and(|provider| provider.sends_dtmf() && self.is_configured(provider))
    }

    /// Whether a caller comes back whom nobody takes after [`transfer`](Self::transfer): the provider has to reach the
    /// control plane for that.
    pub fn brings_back(&self, provider: &str) -> bool {
        self.can_transfer(provider) && self.providers.public_host.is_some()
    }

    /// Whether the media stream goes on meanwhile, see [`Provider::keeps_stream`].
    pub fn keeps_stream(&self, provider: &str) -> bool {
        Provider::from_name(provider).is_some_and(Provider::keeps_stream)
    }

    /// How long it rings at whoever a caller is put through to.
    pub fn ring(&self) -> Duration {
        Duration::from_secs(self.providers.ring_secs.into())
    }

    /// The way back of a call, where there is one.
    fn way_back(&self, provider: Provider, origin: &Origin) -> Option<WayBack> {
        let host = self.providers.public_host.as_deref()?;
        let sealed = self.providers.seal.seal(origin, SystemTime::now());
        Some(WayBack {
            url: format!("https://{host}/telephony/{}/transferred/{sealed}", provider.name()),
            ring_secs: self.providers.ring_secs,
        })
    }

    fn is_configured(&self, provider: Provider) -> bool {
        let p = &*self.providers;
        match provider {
            Provider::Twilio => p.twilio.is_configured(),
            Provider::Telnyx => p.telnyx.is_configured(),
            Provider::Plivo => p.plivo.is_configured(),
            Provider::Exotel => p.exotel.is_configured(),
            Provider::Vonage => p.vonage.is_configured(),
        }
    }

    /// Ends a call. A call that has ended already is a success.
    ///
    /// # Errors
    /// See [`CarrierError`]; `NotSupported` for Exotel, and for names that are no provider's.
    pub async fn hang_up(&self, provider: &str, call_id: &str) -> Result<(), CarrierError> {
        let timed = Timed::start(Operation::HangUp, provider);
        let ended = match self.hang_up_at(provider, call_id).await {
            Err(CarrierError::NotFound) => Ok(()),
            ended => ended,
        };
        timed.done(ended)
    }

    async fn hang_up_at(&self, provider: &str, call_id: &str) -> Result<(), CarrierError> {
        let p = &*self.providers;
        check::call_id(call_id)?;
        match known(provider, Operation::HangUp)? {
            Provider::Twilio => p.twilio.hang_up(call_id).await,
            Provider::Telnyx => p.telnyx.hang_up(call_id).await,
            Provider::Plivo => p.plivo.hang_up(call_id).await,
            Provider::Vonage => p.vonage.hang_up(call_id).await,
            Provider::Exotel => Err(not_supported(provider, Operation::HangUp)),
        }
    }

    /// Connects the caller with somebody else; the media stream ends, except where [`Provider::keeps_stream`]. With an
    /// origin, a caller whom nobody takes comes back to it where [`brings_back`](Self::brings_back).
    ///
    /// # Errors
    /// See [`CarrierError`]; `NotSupported` for Exotel; `Invalid` when `to` is neither E.164 nor a SIP address.
    pub async fn transfer(
        &self,
        provider: &str,
        call_id: &str,
        to: &str,
        origin: Option<&Origin>,
    ) -> Result<(), CarrierError> {
        let timed = Timed::start(Operation::Transfer, provider);
        timed.done(self.transfer_at(provider, call_id, to, origin).await)
    }

    async fn transfer_at(
        &self,
        provider: &str,
        call_id: &str,
        to: &str,
        origin: Option<&Origin>,
    ) -> Result<(), CarrierError> {
        let p = &*self.providers;
        check::call_id(call_id)?;
        check::destination(to)?;
        let known = known(provider, Operation::Transfer)?;
        let way_back = origin.and_then(|origin| self.way_back(known, origin));
        let way_back = way_back.as_ref();
        match known {
            Provider::Twilio => p.twilio.transfer(call_id, to, way_back).await,
            Provider::Telnyx => p.telnyx.transfer(call_id, to, way_back).await,
            Provider::Plivo => p.plivo.transfer(call_id, to, way_back).await,
            Provider::Vonage => p.vonage.transfer(call_id, to, way_back).await,
            Provider::Exotel => Err(not_supported(provider, Operation::Transfer)),
        }
    }

    /// Plays digits (`0-9`, `*`, `#`, `A-D`) to the other side of the call.
    ///
    /// # Errors
    /// See [`CarrierError`]; `NotSupported` where [`Provider::sends_dtmf`] is false; `Invalid` for anything but digits.
    pub async fn send_dtmf(&self, provider: &str, call_id: &str, digits: &str) -> Result<(), CarrierError> {
        let timed = Timed::start(Operation::SendDtmf, provider);
        timed.done(self.send_dtmf_at(provider, call_id, digits).await)
    }

    async fn send_dtmf_at(&self, provider: &str, call_id: &str, digits: &str) -> Result<(), CarrierError> {
        let p = &*self.providers;
        check::call_id(call_id)?;
        check::digits(digits)?;
        match known(provider, Operation::SendDtmf)? {
            Provider::Telnyx => p.telnyx.send_dtmf(call_id, digits).await,
            Provider::Plivo => p.plivo.send_dtmf(call_id, digits).await,
            Provider::Vonage => p.vonage.send_dtmf(call_id, digits).await,
            Provider::Twilio | Provider::Exotel => Err(not_supported(provider, Operation::SendDtmf)),
        }
    }

    /// Places a call. It is tried again only where the first attempt surely placed none: nobody was reached, or the
    /// provider said that it was asked too often.
    ///
    /// # Errors
    /// See [`CarrierError`]; `NotSupported` when the provider has no such [`Answer`].
    pub async fn place_call(&self, provider: &str, call: &PlaceCall) -> Result<ProviderCall, CarrierError> {
        let timed = Timed::start(Operation::PlaceCall, provider);
        timed.done(self.place_call_at(provider, call).await)
    }

    async fn place_call_at(&self, provider: &str, call: &PlaceCall) -> Result<ProviderCall, CarrierError> {
        let p = &*self.providers;
        check::destination(&call.to)?;
        let call_id = match known(provider, Operation::PlaceCall)? {
            Provider::Twilio => p.twilio.place_call(call).await,
            Provider::Telnyx => p.telnyx.place_call(call).await,
            Provider::Plivo => p.plivo.place_call(call).await,
            Provider::Exotel => p.exotel.place_call(call).await,
            Provider::Vonage => p.vonage.place_call(call).await,
        }?;
        Ok(ProviderCall { call_id })
    }
}

impl std::fmt::Debug for Carriers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Carriers")
    }
}

/// `proxy_host`, which may have been given as a URL.
fn public_host(config: &Config) -> Option<String> {
    let host = config.telephony.proxy_host.as_deref()?;
    let host = host.split_once("://").map_or(host, |(_, rest)| rest);
    Some(host.trim_end_matches('/').to_owned())
}

fn known(provider: &str, operation: Operation) -> Result<Provider, CarrierError> {
    Provider::from_name(provider).ok_or_else(|| not_supported(provider, operation))
}

fn not_supported(provider: &str, operation: Operation) -> CarrierError {
    CarrierError::NotSupported {
        provider: provider.to_owned(),
        what: operation.words(),
    }
}

/// The id of a new call. Without it the call exists and nobody can end it: that is worth an error of its own.
fn id_of(answer: &serde_json::Value, pointer: &str) -> Result<String, CarrierError> {
    let id = answer.pointer(pointer).and_then(serde_json::Value::as_str);
    id.map(str::to_owned).ok_or_else(|| CarrierError::Unavailable {
        reason: "it accepted the call without naming it".to_owned(),
        source: None,
    })
}

/// A refusal by the code that says "this call has ended" is the same as not finding it.
fn gone_if(error: CarrierError, ended: &str) -> CarrierError {
    match error {
        CarrierError::Refused { code: Some(code), .. } if code == ended => CarrierError::NotFound,
        other => other,
    }
}
