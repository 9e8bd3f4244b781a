//! Telnyx Voice API v2 (Call Control).
//!
//! Follows [Dial](https://developers.telnyx.com/api-reference/call-commands/dial), [Hangup
//! call](https://developers.telnyx.com/api-reference/call-commands/hangup-call), [Transfer
//! call](https://developers.telnyx.com/api-reference/call-commands/transfer-call), [Send
//! DTMF](https://developers.telnyx.com/api-reference/call-commands/send-dtmf) and [API error
//! codes](https://developers.telnyx.com/development/api-fundamentals/api-errors) (90018: the call has ended), and
//! [Answering Machine
//! Detection](https://developers.telnyx.com/docs/voice/programmable-voice/answering-machine-detection). Checked 2026-11-23,
//! paths and names of parameters against telnyx-python 4.189.0 as well.
//!
//! Commands carry a `command_id`: Telnyx ignores a second one with the same id for the same call, so a command whose
//! answer was lost may be sent again.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use service_kit::config::{Config, Secret, Secrets};
use service_kit::exit::Fatal;
use uuid::Uuid;

use crate::error::CarrierError;
use crate::metrics::Operation;
use crate::rest::{Endpoint, Repeat, Rest};
use crate::{Answer, PlaceCall, Provider, WayBack, not_supported};

const NAME: &str = "telnyx";
const BASE_URL: &str = "https://api.telnyx.com";
/// "Call has already ended".
const HAS_ENDED: &str = "90018";

/// The client.
pub(crate) struct Telnyx {
    endpoint: Endpoint,
    connection_id: Option<String>,
    secrets: Arc<Secrets>,
}

impl Telnyx {
    pub(crate) fn new(config: &Config, rest: &Rest) -> Result<Self, Fatal> {
        Ok(Self {
            endpoint: rest.endpoint(config, Provider::Telnyx, BASE_URL, "api_keys.telnyx")?,
            connection_id: config.telephony.accounts.telnyx_connection_id.clone(),
            secrets: config.secrets.clone(),
        })
    }

    pub(crate) async fn hang_up(&self, call_id: &str) -> Result<(), CarrierError> {
        self.command(call_id, "hangup", Repeat::Safe, json!({})).await
    }

    /// "If the transfer is unsuccessful, a `call.hangup` webhook for the other call (Leg B) will be sent […]. The original
    /// call will remain active": nothing has to be opened again.
    pub(crate) async fn transfer(
        &self,
        call_id: &str,
        to: &str,
        way_back: Option<&WayBack>,
    ) -> Result<(), CarrierError> {
        let body = match way_back {
            Some(WayBack { url, ring_secs }) => json!({
                "to": to,
                "timeout_secs": ring_secs,
                "webhook_url": url,
                "webhook_url_method": "POST",
            }),
            None => json!({ "to": to }),
        };
        self.command(call_id, "transfer", Repeat::SafeInDoubt, body).await
    }

    pub(crate) async fn send_dtmf(&self, call_id: &str, digits: &str) -> Result<(), CarrierError> {
        self.command(call_id, "send_dtmf", Repeat::Safe, json!({ "digits": digits }))
            .await
    }

    pub(crate) async fn place_call(&self, call: &PlaceCall) -> Result<String, CarrierError> {
        let Answer::Stream(stream_url) = &call.answer else {
            return Err(not_supported(NAME, Operation::PlaceCall));
        };
        let missing = CarrierError::NotConfigured {
            provider: NAME,
            key: "telnyx.connection_id",
        };
        let connection_id = self.connection_id.as_deref().ok_or(missing)?;
        let mut body = json!({
            "connection_id": connection_id,
            "to": call.to,
            "from": call.from,
            "stream_url": stream_url,
            "stream_track": "inbound_track",
            "stream_bidirectional_mode": "rtp",
            "stream_bidirectional_codec": "PCMU",
            "command_id": Uuid::new_v4().to_string(),
        });
        let mut set = |name: &str, value: String| {
            if let Some(fields) = body.as_object_mut() {
                fields.insert(name.to_owned(), Value::String(value));
            }
        };
        if let Some(url) = &call.status_url {
            set("webhook_url", url.clone());
            set("webhook_url_method", "POST".to_owned());
        }
        if let Some(reference) = &call.reference {
            set("client_state", STANDARD.encode(reference));
        }
        if call.machine_detection {
            // Reports what answered, and then the beep.
            set("answering_machine_detection", "detect_beep".to_owned());
        }
        let answer = self.post(&["v2", "calls"], Repeat::Unsafe, &body).await?;
        crate::id_of(&answer, "/data/call_control_id")
    }

    /// A command carries an id of its own: Telnyx does it once, however often it is sent.
    async fn command(&self, call_id: &str, action: &str, repeat: Repeat, mut body: Value) -> Result<(), CarrierError> {
        if let Some(fields) = body.as_object_mut() {
            fields.insert("command_id".to_owned(), Value::String(Uuid::new_v4().to_string()));
        }
        let path = ["v2", "calls", call_id, "actions", action];
        let done = self.post(&path, repeat, &body).await;
        done.map(|_| ()).map_err(|error| crate::gone_if(error, HAS_ENDED))
    }

    async fn post(&self, path: &[&str], repeat: Repeat, body: &Value) -> Result<Value, CarrierError> {
        let key = self.key()?;
        let fill = |request: RequestBuilder| request.bearer_auth(key.expose()).json(body);
        self.endpoint.send(Method::POST, path, repeat, key.expose(), fill).await
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.key().is_ok()
    }

    fn key(&self) -> Result<Secret, CarrierError> {
        let key = self.secrets.api_key(NAME).filter(|key| !key.is_empty());
        key.ok_or(CarrierError::NotConfigured {
            provider: NAME,
            key: "api_keys.telnyx",
        })
    }
}
