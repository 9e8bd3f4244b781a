//! Plivo Voice API v1.
//!
//! Follows [Make a call](https://www.plivo.com/docs/voice/api/call/make-a-call), [Hang up a
//! call](https://www.plivo.com/docs/voice/api/call/hangup-a-specific-call), [Transfer a
//! call](https://www.plivo.com/docs/voice/api/call/transfer-a-call), [Send digits on a
//! call](https://www.plivo.com/docs/voice/api/dtmf) and [Answering machine
//! detection](https://www.plivo.com/docs/voice/concepts/answering-machine-detection). Checked 2026-11-23,
//! paths and names of parameters against plivo-python 4.63.0.
//!
//! A transfer names a URL from which Plivo fetches the XML that dials. The control plane serves it at
//! `/telephony/plivo/transfer/{sealed}`; the number is encrypted into the path (see [`TransferSeal`]). The `request_uuid`
//! that answers a new call to one number is its `call_uuid`.

use std::sync::Arc;
use std::time::SystemTime;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use service_kit::config::{Config, Secret, Secrets};
use service_kit::exit::Fatal;

use crate::error::CarrierError;
use crate::metrics::Operation;
use crate::rest::{Endpoint, Repeat, Rest};
use crate::sealed::{Dial, TransferSeal};
use crate::{Answer, PlaceCall, Provider, WayBack, not_supported};

const NAME: &str = "plivo";
const BASE_URL: &str = "https://api.plivo.com";

/// The client.
pub(crate) struct Plivo {
    endpoint: Endpoint,
    auth_id: Option<String>,
    /// Where Plivo reaches the control plane.
    public_host: Option<String>,
    seal: TransferSeal,
    secrets: Arc<Secrets>,
}

impl Plivo {
    pub(crate) fn new(config: &Config, rest: &Rest) -> Result<Self, Fatal> {
        Ok(Self {
            endpoint: rest.endpoint(config, Provider::Plivo, BASE_URL, "plivo.auth_id and api_keys.plivo")?,
            auth_id: config.telephony.accounts.plivo_auth_id.clone(),
            public_host: crate::public_host(config),
            seal: TransferSeal::new(&config.links.service_token),
            secrets: config.secrets.clone(),
        })
    }

    pub(crate) async fn hang_up(&self, call_id: &str) -> Result<(), CarrierError> {
        let path = ["Call", call_id, ""];
        self.send(Method::DELETE, &path, Repeat::Safe, None).await.map(|_| ())
    }

    pub(crate) async fn transfer(
        &self,
        call_id: &str,
        to: &str,
        way_back: Option<&WayBack>,
    ) -> Result<(), CarrierError> {
        let missing = CarrierError::NotConfigured {
            provider: NAME,
            key: "proxy_host",
        };
        let host = self.public_host.as_deref().ok_or(missing)?;
        let dial = Dial {
            to: to.to_owned(),
            report_to: way_back.map(|way_back| way_back.url.clone()),
        };
        let sealed = self.seal.seal(&dial, SystemTime::now());
        let body = json!({
            "legs": "aleg",
            "aleg_url": format!("https://{host}/telephony/plivo/transfer/{sealed}"),
            "aleg_method": "POST",
        });
        let path = ["Call", call_id, ""];
        self.send(Method::POST, &path, Repeat::Unsafe, Some(&body))
            .await
            .map(|_| ())
    }

    pub(crate) async fn send_dtmf(&self, call_id: &str, digits: &str) -> Result<(), CarrierError> {
        let body = json!({ "digits": digits, "leg": "aleg" });
        let path = ["Call", call_id, "DTMF", ""];
        self.send(Method::POST, &path, Repeat::Unsafe, Some(&body))
            .await
            .map(|_| ())
    }

    pub(crate) async fn place_call(&self, call: &PlaceCall) -> Result<String, CarrierError> {
        let Answer::Document(answer_url) = &call.answer else {
            return Err(not_supported(NAME, Operation::PlaceCall));
        };
        let mut body = json!({
            "from": call.from,
            "to": call.to,
            "answer_url": answer_url,
            "answer_method": "POST",
        });
        let mut set = |name: &str, value: &str| {
            if let Some(fields) = body.as_object_mut() {
                fields.insert(name.to_owned(), Value::String(value.to_owned()));
            }
        };
        if call.machine_detection {
            set("machine_detection", "true");
        }
        if let Some(url) = &call.status_url {
            for event in ["ring", "hangup"] {
                set(&format!("{event}_url"), url);
                set(&format!("{event}_method"), "POST");
            }
            if call.machine_detection {
                // With this URL the call is connected while Plivo listens.
                set("machine_detection_url", url);
                set("machine_detection_method", "POST");
            }
        }
        let answer = self
            .send(Method::POST, &["Call", ""], Repeat::Unsafe, Some(&body))
            .await?;
        crate::id_of(&answer, "/request_uuid")
    }

    /// Paths end in a slash, as documented.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        repeat: Repeat,
        body: Option<&Value>,
    ) -> Result<Value, CarrierError> {
        let (id, token) = self.credentials()?;
        let path = [&["v1", "Account", id], path].concat();
        let fill = |request: RequestBuilder| {
            let request = request.basic_auth(id, Some(token.expose()));
            match body {
                Some(body) => request.json(body),
                None => request,
            }
        };
        self.endpoint.send(method, &path, repeat, token.expose(), fill).await
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.credentials().is_ok()
    }

    fn credentials(&self) -> Result<(&str, Secret), CarrierError> {
        let missing = |key| CarrierError::NotConfigured { provider: NAME, key };
        let id = self.auth_id.as_deref().ok_or(missing("plivo.auth_id"))?;
        let token = self.secrets.api_key(NAME).filter(|token| !token.is_empty());
        Ok((id, token.ok_or(missing("api_keys.plivo"))?))
    }
}
