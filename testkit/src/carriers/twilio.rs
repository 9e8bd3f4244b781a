//! Twilio: [Call resource](https://www.twilio.com/docs/voice/api/call-resource), checked 2026-11-23.

use serde_json::{Value, json};

use super::{ACCOUNT, Asked, Request};

pub(super) fn read(request: &Request) -> Asked {
    let call = |resource: &str| resource.strip_suffix(".json").unwrap_or_default().to_owned();
    match (request.method.as_str(), request.segments().as_slice()) {
        ("POST", ["2010-04-01", "Accounts", ACCOUNT, "Calls.json"]) => {
            let answered = !request.field("Twiml").is_empty() || !request.field("Url").is_empty();
            if !answered || request.field("To").is_empty() || request.field("From").is_empty() {
                return Asked::Unknown("a new call needs To, From, and Url or Twiml".to_owned());
            }
            Asked::Place {
                to: request.field("To").to_owned(),
                from: request.field("From").to_owned(),
            }
        }
        ("POST", ["2010-04-01", "Accounts", ACCOUNT, "Calls", resource]) => {
            if request.field("Status") == "completed" {
                return Asked::HangUp { call: call(resource) };
            }
            let document = request.field("Twiml");
            let inner = document
                .split_once("<Number")
                .and_then(|(_, rest)| rest.split_once('>'))
                .and_then(|(_, rest)| rest.split_once("</Number>"));
            match inner {
                Some((to, _)) => Asked::Transfer {
                    call: call(resource),
                    to: to.to_owned(),
                },
                None => Asked::Unknown("neither Status nor a Dial".to_owned()),
            }
        }
        (method, _) => Asked::Unknown(format!("{method} {}", request.path)),
    }
}

pub(super) fn placed(id: &str) -> Value {
    json!({ "sid": id, "account_sid": ACCOUNT, "status": "queued", "direction": "outbound-api" })
}

pub(super) fn not_in_progress() -> Value {
    json!({ "code": 21220, "message": "Call is not in-progress. Cannot redirect.", "status": 400 })
}

pub(super) fn problem(status: u16) -> Value {
    let code = match status {
        401 => 20003,
        404 => 20404,
        429 => 20429,
        _ => 20001,
    };
    json!({ "code": code, "message": "refused", "more_info": "https://www.twilio.com/docs/errors", "status": status })
}
