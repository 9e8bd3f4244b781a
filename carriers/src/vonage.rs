//! Vonage Voice API v1.
//!
//! Follows the [Voice API reference](https://developer.vonage.com/en/api/voice) (version 1.10: create an outbound call,
//! modify an in-progress call, play DTMF tones), the [NCCO
//! reference](https://developer.vonage.com/en/voice/voice-api/ncco-reference),
//! [Voicemail Detection](https://developer.vonage.com/en/voice/voice-api/concepts/advanced-machine-detection) and
//! [Authentication](https://developer.vonage.com/en/getting-started/concepts/authentication) (JWT, RS256). Checked
//! 2026-11-23, paths and names of parameters against vonage-voice 1.5.1 (Python) as well.

mod jwt;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use service_kit::config::Config;
use service_kit::exit::{self, Fatal};

use crate::error::CarrierError;
use crate::metrics::Operation;
use crate::rest::{Endpoint, Repeat, Rest};
use crate::{Answer, PlaceCall, Provider, WayBack, not_supported};
use jwt::Signer;

const NAME: &str = "vonage";
const BASE_URL: &str = "https://api.nexmo.com";

/// The client.
pub(crate) struct Vonage {
    endpoint: Endpoint,
    application_id: Option<String>,
    signer: Option<Signer>,
}

impl Vonage {
    /// # Errors
    /// The private key is none.
    pub(crate) fn new(config: &Config, rest: &Rest) -> Result<Self, Fatal> {
        let accounts = &config.telephony.accounts;
        let signer = accounts.vonage_private_key.as_ref().map(Signer::new).transpose();
        let signer = signer.map_err(|error| {
            let remedy =
                "give the private key file that Vonage made with the application, by VOXRAY_VONAGE_PRIVATE_KEY_FILE";
            Fatal::new(exit::CONFIG, format!("vonage.private_key: {error}"), remedy)
        })?;
        Ok(Self {
            endpoint: rest.endpoint(
                config,
                Provider::Vonage,
                BASE_URL,
                "vonage.application_id and vonage.private_key",
            )?,
            application_id: accounts.vonage_application_id.clone(),
            signer,
        })
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.application_id.is_some() && self.signer.is_some()
    }

    pub(crate) async fn hang_up(&self, call_id: &str) -> Result<(), CarrierError> {
        self.modify(&[call_id], Repeat::Safe, &json!({ "action": "hangup" }))
            .await
    }

    /// `eventType: synchronous`: the answer to the event that says that nobody took the caller is the next NCCO.
    pub(crate) async fn transfer(
        &self,
        call_id: &str,
        to: &str,
        way_back: Option<&WayBack>,
    ) -> Result<(), CarrierError> {
        let connect = match way_back {
            Some(WayBack { url, ring_secs }) => json!({
                "action": "connect",
                "endpoint": [endpoint(to)],
                "timeout": ring_secs,
                "eventType": "synchronous",
                "eventUrl": [url],
                "eventMethod": "POST",
            }),
            None => json!({ "action": "connect", "endpoint": [endpoint(to)] }),
        };
        let body = json!({ "action": "transfer", "destination": { "type": "ncco", "ncco": [connect] } });
        self.modify(&[call_id], Repeat::Unsafe, &body).await
    }

    pub(crate) async fn send_dtmf(&self, call_id: &str, digits: &str) -> Result<(), CarrierError> {
        let body = json!({ "digits": digits });
        self.modify(&[call_id, "dtmf"], Repeat::Unsafe, &body).await
    }

    pub(crate) async fn place_call(&self, call: &PlaceCall) -> Result<String, CarrierError> {
        let mut body = json!({
            "to": [endpoint(&call.to)],
            "from": { "type": "phone", "number": bare(&call.from) },
        });
        let mut set = |name: &str, value: Value| {
            if let Some(fields) = body.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
        };
        match &call.answer {
            Answer::Stream(url) => {
                let socket = json!({ "type": "websocket", "uri": url, "content-type": "audio/l16;rate=16000" });
                set("ncco", json!([{ "action": "connect", "endpoint": [socket] }]));
            }
            Answer::Document(url) => {
                set("answer_url", json!([url]));
                set("answer_method", json!("POST"));
            }
            Answer::Flow => return Err(not_supported(NAME, Operation::PlaceCall)),
        }
        if let Some(url) = &call.status_url {
            set("event_url", json!([url]));
            set("event_method", json!("POST"));
        }
        if call.machine_detection {
            // `default` is the asynchronous mode: the NCCO, and so the stream, begins at once, the verdict comes as an event,
            // and another one at the beep. With `detect` and `detect_beep` a person hears nothing until there is one.
            set(
                "advanced_machine_detection",
                json!({ "behavior": "continue", "mode": "default" }),
            );
        }
        let answer = self.send(Method::POST, &[], Repeat::Unsafe, &body).await?;
        crate::id_of(&answer, "/uuid")
    }

    async fn modify(&self, path: &[&str], repeat: Repeat, body: &Value) -> Result<(), CarrierError> {
        self.send(Method::PUT, path, repeat, body).await.map(|_| ())
    }

    async fn send(&self, method: Method, path: &[&str], repeat: Repeat, body: &Value) -> Result<Value, CarrierError> {
        let missing = |key| CarrierError::NotConfigured { provider: NAME, key };
        let application = self.application_id.as_deref().ok_or(missing("vonage.application_id"))?;
        let signer = self.signer.as_ref().ok_or(missing("vonage.private_key"))?;
        let token = signer.sign(application).map_err(CarrierError::Invalid)?;
        let path = [&["v1", "calls"], path].concat();
        let fill = |request: RequestBuilder| request.bearer_auth(&token).json(body);
        self.endpoint.send(method, &path, repeat, &token, fill).await
    }
}

/// An endpoint of the NCCO `connect` action: numbers without their plus, or a SIP address.
fn endpoint(to: &str) -> Value {
    if to.starts_with("sip") {
        json!({ "type": "sip", "uri": to })
    } else {
        json!({ "type": "phone", "number": bare(to) })
    }
}

fn bare(number: &str) -> &str {
    number.strip_prefix('+').unwrap_or(number)
}
