//! What a phone caller hears when no media node takes the call: a sentence, or whatever another URL answers; and when
//! nobody waits for the call any more: nothing.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use service_kit::config::Telephony;
use service_kit::http::ApiError;

use super::{Document, Provider, plivo, twilio, vonage, xml};

/// Ends a call of ours that was given up before it was answered.
pub fn hang_up(provider: Provider) -> Response {
    let document = match provider {
        Provider::Twilio | Provider::Telnyx => Document::xml(twilio::hang_up()),
        Provider::Plivo => Document::xml(plivo::hang_up()),
        // An NCCO that is done ends its call.
        Provider::Vonage => Document::json(&serde_json::json!([])),
        Provider::Exotel => return ApiError::unavailable("nobody waits for this call").into_response(),
    };
    document.into_response()
}

/// Has nothing more done: a call that nobody else has ends, as it does at the end of any document.
pub fn nothing(provider: Provider) -> Response {
    match provider {
        Provider::Twilio | Provider::Telnyx | Provider::Plivo => Document::xml(xml::response("")).into_response(),
        Provider::Vonage | Provider::Exotel => StatusCode::NO_CONTENT.into_response(),
    }
}

/// The polite answer, as `telephony.busy_redirect_url` or `telephony.busy_message` has it.
pub fn answer(provider: Provider, config: &Telephony) -> Response {
    let message = config.busy_message.as_str();
    let document = match (provider, config.busy_redirect_url.as_deref()) {
        (Provider::Twilio | Provider::Telnyx | Provider::Plivo, Some(url)) => Document::xml(twilio::redirect(url)),
        (Provider::Twilio | Provider::Telnyx, None) => Document::xml(twilio::say_and_hang_up(message)),
        (Provider::Plivo, None) => Document::xml(plivo::say_and_hang_up(message)),
        (Provider::Vonage, Some(url)) => Document::json(&vonage::ask(url)),
        (Provider::Vonage, None) => Document::json(&vonage::say(message)),
        // Its applet knows sockets only: the flow goes on with the next applet.
        (Provider::Exotel, _) => return ApiError::unavailable("no media node takes this call").into_response(),
    };
    document.into_response()
}
