//! Twilio Programmable Voice, API 2010-04-01.
//!
//! Follows [Call resource](https://www.twilio.com/docs/voice/api/call-resource) (create and update, `Status`, `Twiml`),
//! [Answering Machine Detection](https://www.twilio.com/docs/voice/answering-machine-detection) and
//! [Error 21220](https://www.twilio.com/docs/api/errors/21220) ("Invalid call state": the call is not in progress).
//! Checked 2026-11-23, paths and names of parameters against twilio-python 9.13.0 as well.
//!
//! There is no REST request that plays digits into a running call and leaves its media stream alone: `Twiml` with
//! `<Play digits>` replaces the document that holds the stream.

use std::sync::Arc;

use reqwest::{Method, RequestBuilder};
use service_kit::config::{Config, Secret, Secrets};
use service_kit::exit::Fatal;

use crate::error::CarrierError;
use crate::rest::{Endpoint, Repeat, Rest};
use crate::{Answer, PlaceCall, Provider, WayBack, not_supported, xml};

const NAME: &str = "twilio";
const BASE_URL: &str = "https://api.twilio.com";
/// "Call is not in-progress".
const NOT_IN_PROGRESS: &str = "21220";

/// The client.
pub(crate) struct Twilio {
    endpoint: Endpoint,
    account_sid: Option<String>,
    secrets: Arc<Secrets>,
}

impl Twilio {
    pub(crate) fn new(config: &Config, rest: &Rest) -> Result<Self, Fatal> {
        Ok(Self {
            endpoint: rest.endpoint(
                config,
                Provider::Twilio,
                BASE_URL,
                "twilio.account_sid and api_keys.twilio",
            )?,
            account_sid: config.telephony.twilio_account_sid.clone(),
            secrets: config.secrets.clone(),
        })
    }

    pub(crate) async fn hang_up(&self, call_id: &str) -> Result<(), CarrierError> {
        let form = [("Status", "completed")];
        self.update(call_id, Repeat::Safe, &form).await
    }

    pub(crate) async fn transfer(
        &self,
        call_id: &str,
        to: &str,
        way_back: Option<&WayBack>,
    ) -> Result<(), CarrierError> {
        let document = xml::dial_document(Provider::Twilio, to, way_back).unwrap_or_default();
        self.update(call_id, Repeat::Unsafe, &[("Twiml", &document)]).await
    }

    pub(crate) async fn place_call(&self, call: &PlaceCall) -> Result<String, CarrierError> {
        let document;
        let mut form = vec![("To", call.to.as_str()), ("From", call.from.as_str())];
        match &call.answer {
            Answer::Stream(url) => {
                document = xml::twilio_stream(url);
                form.push(("Twiml", &document));
            }
            Answer::Document(url) => form.extend([("Url", url.as_str()), ("Method", "POST")]),
            Answer::Flow => return Err(not_supported(NAME, crate::metrics::Operation::PlaceCall)),
        }
        if let Some(url) = &call.status_url {
            form.extend([("StatusCallback", url.as_str()), ("StatusCallbackMethod", "POST")]);
            let events = ["initiated", "ringing", "answered", "completed"];
            form.extend(events.map(|event| ("StatusCallbackEvent", event)));
        }
        if call.machine_detection {
            // The stream is connected at once; the verdict comes after the greeting has ended, when a message may be
            // left, or at once for a person.
            form.extend([("MachineDetection", "DetectMessageEnd"), ("AsyncAmd", "true")]);
            if let Some(url) = &call.status_url {
                form.extend([
                    ("AsyncAmdStatusCallback", url.as_str()),
                    ("AsyncAmdStatusCallbackMethod", "POST"),
                ]);
            }
        }
        let (sid, token) = self.credentials()?;
        let path = ["2010-04-01", "Accounts", sid, "Calls.json"];
        let fill = |request: RequestBuilder| request.basic_auth(sid, Some(token.expose())).form(&form);
        let answer = self
            .endpoint
            .send(Method::POST, &path, Repeat::Unsafe, token.expose(), fill)
            .await?;
        crate::id_of(&answer, "/sid")
    }

    async fn update(&self, call_id: &str, repeat: Repeat, form: &[(&str, &str)]) -> Result<(), CarrierError> {
        let (sid, token) = self.credentials()?;
        let resource = format!("{call_id}.json");
        let path = ["2010-04-01", "Accounts", sid, "Calls", &resource];
        let fill = |request: RequestBuilder| request.basic_auth(sid, Some(token.expose())).form(form);
        let updated = self
            .endpoint
            .send(Method::POST, &path, repeat, token.expose(), fill)
            .await;
        updated
            .map(|_| ())
            .map_err(|error| crate::gone_if(error, NOT_IN_PROGRESS))
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.credentials().is_ok()
    }

    fn credentials(&self) -> Result<(&str, Secret), CarrierError> {
        let missing = |key| CarrierError::NotConfigured { provider: NAME, key };
        let sid = self.account_sid.as_deref().ok_or(missing("twilio.account_sid"))?;
        let token = self.secrets.api_key(NAME).filter(|token| !token.is_empty());
        Ok((sid, token.ok_or(missing("api_keys.twilio"))?))
    }
}
