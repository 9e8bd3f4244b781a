//! What has become of a transfer, as providers report it to the URL that the transfer gave them.
//!
//! Read 2026-11-23: Twilio "TwiML Voice: `<Dial>`" (`action`: `DialCallStatus`) and "`<Number>`" (`statusCallback`); Telnyx
//! "Transfer call" (expected webhooks) and "Call hangup"; Plivo "The Dial element" (`action`: `DialStatus`, `callbackUrl`:
//! `DialAction`); Vonage "NCCO reference: connect" (`eventType: synchronous`) and "Event webhook".

use serde_json::Value;

use super::{CallFacts, Document, Provider, Webhook, plivo, twilio, vonage};

/// What one report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transferred {
    /// Somebody has taken the caller.
    Taken,
    /// They have, and have hung up again: the caller is left.
    Over,
    /// Nobody has, for this reason; the provider waits for what to do with the caller, or the caller is with us still.
    NotTaken(&'static str),
    /// The caller has hung up.
    CallerGone,
    /// Nothing of that.
    Nothing,
}

impl Transferred {
    /// Reads a report in its provider's words; `caller` is its id of the caller's leg.
    pub fn read(provider: Provider, webhook: &Webhook, caller: Option<&str>) -> Self {
        match provider {
            Provider::Twilio => twilio_dial(webhook),
            Provider::Telnyx => telnyx_event(webhook, caller),
            Provider::Plivo => plivo_dial(webhook),
            Provider::Vonage => vonage_event(webhook, caller),
            // It has no transfers.
            Provider::Exotel => Self::Nothing,
        }
    }
}

/// The `action` request carries `DialCallStatus`; the status callback of the other leg carries `ParentCallSid`.
fn twilio_dial(webhook: &Webhook) -> Transferred {
    let of_caller = webhook.field("CallStatus");
    match webhook.field("DialCallStatus") {
        "" => match of_caller {
            "in-progress" | "answered" if !webhook.field("ParentCallSid").is_empty() => Transferred::Taken,
            _ => Transferred::Nothing,
        },
        "completed" | "answered" => Transferred::Over,
        _ if of_caller == "completed" => Transferred::CallerGone,
        "busy" => Transferred::NotTaken("busy"),
        "no-answer" => Transferred::NotTaken("no answer"),
        "canceled" => Transferred::NotTaken("canceled"),
        _ => Transferred::NotTaken("the call failed"),
    }
}

/// Events of both legs come here: the caller's is known by its id.
fn telnyx_event(webhook: &Webhook, caller: Option<&str>) -> Transferred {
    let text = |pointer| {
        let found = webhook.json.pointer(pointer);
        found.and_then(Value::as_str).unwrap_or_default()
    };
    let of_caller = caller == Some(text("/data/payload/call_control_id"));
    match text("/data/event_type") {
        "call.bridged" => Transferred::Taken,
        "call.answered" if !of_caller => Transferred::Taken,
        "call.hangup" if of_caller => Transferred::CallerGone,
        "call.hangup" => match text("/data/payload/hangup_cause") {
            // Nobody hangs up normally who has not answered.
            "normal_clearing" | "time_limit" => Transferred::Taken,
            "user_busy" => Transferred::NotTaken("busy"),
            "call_rejected" => Transferred::NotTaken("declined"),
            "timeout" => Transferred::NotTaken("no answer"),
            _ => Transferred::NotTaken("the call failed"),
        },
        _ => Transferred::Nothing,
    }
}

/// The `action` request carries `DialStatus`, the callback `DialAction`.
fn plivo_dial(webhook: &Webhook) -> Transferred {
    match webhook.field("DialStatus") {
        "" => match webhook.field("DialAction") {
            "answer" | "connected" => Transferred::Taken,
            _ => Transferred::Nothing,
        },
        "completed" => Transferred::Over,
        _ if webhook.field("CallStatus") == "completed" => Transferred::CallerGone,
        "busy" => Transferred::NotTaken("busy"),
        "no-answer" | "timeout" => Transferred::NotTaken("no answer"),
        _ => Transferred::NotTaken("the call failed"),
    }
}

/// Events of the other leg; what is answered to one that says that nobody took the caller is the next NCCO.
fn vonage_event(webhook: &Webhook, caller: Option<&str>) -> Transferred {
    let of_caller = caller.is_some_and(|caller| !caller.is_empty() && caller == webhook.field("uuid"));
    match webhook.field("status") {
        "completed" if of_caller => Transferred::CallerGone,
        _ if of_caller => Transferred::Nothing,
        "answered" => Transferred::Taken,
        "completed" => Transferred::Over,
        "busy" => Transferred::NotTaken("busy"),
        "timeout" | "unanswered" => Transferred::NotTaken("no answer"),
        "rejected" => Transferred::NotTaken("declined"),
        "failed" => Transferred::NotTaken("the call failed"),
        "cancelled" => Transferred::NotTaken("canceled"),
        _ => Transferred::Nothing,
    }
}

/// Ends a call for good; `None` where nothing is to be answered.
pub fn hang_up(provider: Provider) -> Option<Document> {
    match provider {
        Provider::Twilio => Some(Document::xml(twilio::hang_up())),
        Provider::Plivo => Some(Document::xml(plivo::hang_up())),
        // A call whose document is done has ended.
        Provider::Vonage | Provider::Telnyx | Provider::Exotel => None,
    }
}

/// Says one sentence in the provider's voice and ends the call; `None` where the agent still has the caller.
pub fn say_goodbye(provider: Provider, sentence: &str) -> Option<Document> {
    match provider {
        Provider::Twilio => Some(Document::xml(twilio::say_and_hang_up(sentence))),
        Provider::Plivo => Some(Document::xml(plivo::say_and_hang_up(sentence))),
        Provider::Vonage => Some(Document::json(&vonage::say(sentence))),
        Provider::Telnyx | Provider::Exotel => None,
    }
}

/// Whether this is about that call at all, where the report says which it is about.
pub fn is_about(provider: Provider, webhook: &Webhook, call_id: &str) -> bool {
    let told = match provider {
        Provider::Twilio => webhook.field("ParentCallSid"),
        Provider::Plivo => webhook.field("DialALegUUID"),
        // The other leg's id says nothing.
        Provider::Telnyx | Provider::Vonage | Provider::Exotel => return true,
    };
    let own = CallFacts::read(provider, webhook).call_id;
    call_id.is_empty() || told == call_id || own == call_id || (told.is_empty() && own.is_empty())
}
