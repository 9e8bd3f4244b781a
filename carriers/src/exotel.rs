//! Exotel Voice API v1.
//!
//! Follows [Outgoing Call to a Call
//! Flow](https://developer.exotel.com/docs/voice-v1/api-reference/outgoing-call-to-flow), checked 2026-11-23 ("Connect
//! Number to Call Flow" beside it says the same). `.json` at the end asks for an answer in JSON instead of XML. The flow's
//! Voicebot applet opens the media stream. Exotel documents no request that ends, transfers or dials into a running
//! call: it goes on in its flow when the stream is closed.

use std::sync::Arc;

use reqwest::{Method, RequestBuilder};
use service_kit::config::{Config, PhoneAccounts, Secret, Secrets};
use service_kit::exit::Fatal;

use crate::error::CarrierError;
use crate::metrics::Operation;
use crate::rest::{Endpoint, Repeat, Rest};
use crate::{Answer, PlaceCall, Provider, not_supported};

const NAME: &str = "exotel";

/// The client.
pub(crate) struct Exotel {
    endpoint: Endpoint,
    account: PhoneAccounts,
    secrets: Arc<Secrets>,
}

impl Exotel {
    pub(crate) fn new(config: &Config, rest: &Rest) -> Result<Self, Fatal> {
        let account = config.telephony.accounts.clone();
        let base = format!("https://{}", account.exotel_subdomain);
        Ok(Self {
            endpoint: rest.endpoint(config, Provider::Exotel, &base, "exotel.api_key and api_keys.exotel")?,
            account,
            secrets: config.secrets.clone(),
        })
    }

    pub(crate) async fn place_call(&self, call: &PlaceCall) -> Result<String, CarrierError> {
        if call.answer != Answer::Flow {
            return Err(not_supported(NAME, Operation::PlaceCall));
        }
        let (sid, key, token) = self.credentials()?;
        let app_id = configured(self.account.exotel_app_id.as_deref(), "exotel.app_id")?;
        let flow = format!("http://my.exotel.com/{sid}/exoml/start_voice/{app_id}");
        // `From` is the one who is called first; `CallerId` is the number of the account.
        let mut form = vec![
            ("From", call.to.as_str()),
            ("CallerId", call.from.as_str()),
            ("Url", &flow),
            ("CallType", "trans"),
        ];
        if let Some(url) = &call.status_url {
            form.extend([
                ("StatusCallback", url.as_str()),
                // Otherwise it is multipart/form-data, and only the end is reported.
                ("StatusCallbackContentType", "application/json"),
                ("StatusCallbackEvents[0]", "terminal"),
                ("StatusCallbackEvents[1]", "answered"),
            ]);
        }
        if let Some(reference) = &call.reference {
            form.push(("CustomField", reference));
        }
        let path = ["v1", "Accounts", sid, "Calls", "connect.json"];
        let fill = |request: RequestBuilder| request.basic_auth(key, Some(token.expose())).form(&form);
        let answer = self
            .endpoint
            .send(Method::POST, &path, Repeat::Unsafe, token.expose(), fill)
            .await?;
        crate::id_of(&answer, "/Call/Sid")
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.credentials().is_ok()
    }

    fn credentials(&self) -> Result<(&str, &str, Secret), CarrierError> {
        let sid = configured(self.account.exotel_account_sid.as_deref(), "exotel.account_sid")?;
        let key = configured(self.account.exotel_api_key.as_deref(), "exotel.api_key")?;
        let token = self.secrets.api_key(NAME).filter(|token| !token.is_empty());
        Ok((sid, key, configured(token, "api_keys.exotel")?))
    }
}

fn configured<T>(value: Option<T>, key: &'static str) -> Result<T, CarrierError> {
    value.ok_or(CarrierError::NotConfigured { provider: NAME, key })
}
