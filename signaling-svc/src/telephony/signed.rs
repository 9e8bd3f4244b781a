//! Whether a webhook is its provider's: signature, age, and that it did not come before.

use std::sync::LazyLock;
use std::time::SystemTime;

use prometheus::IntCounterVec;
use serde_json::Value;
use service_kit::http::ApiError;
use service_kit::signatures::{self, Once, SignatureError, plivo, telnyx, twilio, vonage};
use session_store::StoreError;
use uuid::Uuid;

use super::{Provider, SECRET_QUERY, Webhook};
use crate::app::App;

static WEBHOOKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    service_kit::metrics::counter_vec(
        "telephony_webhooks_total",
        "Webhooks of phone providers: accepted, unchecked (no secret is set), or refused because their signature was missing, malformed, wrong, expired or replayed.",
        &["provider", "outcome"],
    )
});

const OUTCOMES: [&str; 7] = [
    "accepted",
    "unchecked",
    "missing",
    "malformed",
    "wrong",
    "expired",
    "replayed",
];

/// Puts every outcome at zero, so that a rate can be taken from the first one on.
pub fn declare_metrics() {
    for provider in Provider::ALL {
        for outcome in OUTCOMES {
            WEBHOOKS.with_label_values(&[provider.name(), outcome]);
        }
    }
}

/// What speaks for a webhook that is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Its provider's secret.
    Signed,
    /// Nothing: the secret is not set, or checking was switched off.
    Unchecked,
}

/// Why a webhook is not worked on.
#[derive(Debug)]
pub enum Unproven {
    /// It is not the provider's, or came before.
    Refused(ApiError),
    /// Whether it came before is not known.
    StoreAway(StoreError),
}

/// Whether webhooks of this provider are checked: its secret is known, and checking was not switched off.
pub fn are_checked(app: &App, provider: Provider) -> bool {
    let telephony = &app.config.telephony;
    let known = match provider {
        Provider::Twilio | Provider::Plivo | Provider::Vonage => secret(app, provider).is_some(),
        Provider::Telnyx => telephony.telnyx_public_key.is_some(),
        Provider::Exotel => telephony.exotel_webhook_secret.is_some(),
    };
    known && telephony.verify_signatures
}

/// What has to be set to have webhooks of this provider checked.
pub fn setting(provider: Provider) -> &'static str {
    match provider {
        Provider::Twilio => "api_keys.twilio (TWILIO_AUTH_TOKEN)",
        Provider::Telnyx => "telnyx.public_key (TELNYX_PUBLIC_KEY)",
        Provider::Plivo => "api_keys.plivo (PLIVO_AUTH_TOKEN)",
        Provider::Exotel => "exotel.webhook_secret (EXOTEL_WEBHOOK_SECRET)",
        Provider::Vonage => "api_keys.vonage (VONAGE_SIGNATURE_SECRET)",
    }
}

/// Passes what the provider signed, once. Checked as soon as the provider's secret is known, unless that was switched
/// off.
pub async fn check(app: &App, provider: Provider, webhook: &Webhook) -> Result<Proof, Unproven> {
    let count = |outcome| WEBHOOKS.with_label_values(&[provider.name(), outcome]).inc();
    if !are_checked(app, provider) {
        count("unchecked");
        return Ok(Proof::Unchecked);
    }
    let once = verify(app, provider, webhook).map_err(|error| {
        count(error.kind());
        refused(provider, webhook, &error)
    })?;
    if let Some(once) = once {
        let mark = format!("webhook:{}", once.name);
        let request = Uuid::new_v4().to_string();
        let fresh = app.store.use_token(&mark, &request, once.window).await;
        if !fresh.map_err(Unproven::StoreAway)? {
            count("replayed");
            tracing::warn!(
                provider = provider.name(),
                "a webhook was refused: the same one came before"
            );
            let message = "this webhook was received before".to_owned();
            return Err(Unproven::Refused(ApiError::Forbidden(message)));
        }
    }
    count("accepted");
    Ok(Proof::Signed)
}

fn verify(app: &App, provider: Provider, webhook: &Webhook) -> Result<Option<Once>, SignatureError> {
    let now = SystemTime::now();
    let telephony = &app.config.telephony;
    let secret = secret(app, provider).unwrap_or_default();
    match provider {
        Provider::Twilio => {
            let signature = webhook.header(twilio::SIGNATURE);
            twilio::verify(&secret, &webhook.url, &webhook.form, signature).map(|()| None)
        }
        Provider::Telnyx => {
            let key = telephony.telnyx_public_key.as_deref().unwrap_or_default();
            let (timestamp, signature) = (webhook.header(telnyx::TIMESTAMP), webhook.header(telnyx::SIGNATURE));
            telnyx::verify(key, timestamp, signature, &webhook.body, now).map(Some)
        }
        Provider::Plivo => {
            let signed = plivo::Signed {
                is_post: webhook.is_post,
                base_url: webhook.base_url(),
                query: &webhook.query,
                form: &webhook.form,
            };
            let headers = [plivo::SIGNATURE, plivo::MAIN_ACCOUNT_SIGNATURE];
            let signatures: Vec<_> = headers.iter().filter_map(|name| webhook.header(name)).collect();
            plivo::verify(&secret, signed, webhook.header(plivo::NONCE), &signatures).map(Some)
        }
        Provider::Exotel => {
            let given = webhook.query.iter().find(|(name, _)| name == SECRET_QUERY);
            let (_, given) = given.ok_or(SignatureError::Missing("?secret="))?;
            let secret = telephony.exotel_webhook_secret.clone().unwrap_or_default();
            if signatures::is_secret(given, &secret) {
                Ok(None)
            } else {
                Err(SignatureError::Wrong)
            }
        }
        Provider::Vonage => {
            let authorization = webhook.header(vonage::AUTHORIZATION);
            let query = query_as_json(webhook);
            let raw_query = webhook.uri.query().unwrap_or_default();
            let payloads: &[&[u8]] = if webhook.is_post {
                &[&webhook.body]
            } else {
                &[query.as_bytes(), raw_query.as_bytes(), b""]
            };
            vonage::verify(&secret, authorization, !webhook.body.is_empty(), payloads, now).map(Some)
        }
    }
}

fn secret(app: &App, provider: Provider) -> Option<service_kit::config::Secret> {
    let secret = app.config.secrets.api_key(provider.name());
    secret.filter(|secret| !secret.is_empty())
}

/// The query as `JSON.stringify` writes an object of it: names in their order, no spaces.
fn query_as_json(webhook: &Webhook) -> String {
    let fields: Vec<_> = webhook
        .query
        .iter()
        .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), Value::from(value.as_str())))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn refused(provider: Provider, webhook: &Webhook, error: &SignatureError) -> Unproven {
    // The query may hold anything an operator put there.
    tracing::warn!(
        provider = provider.name(),
        url = webhook.base_url(),
        %error,
        "a webhook was refused; behind a proxy set proxy_host or telephony.trusted_proxies, and compare the provider's secret"
    );
    Unproven::Refused(ApiError::Forbidden(
        "the signature of this webhook is missing or wrong".to_owned(),
    ))
}
