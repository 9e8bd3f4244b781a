//! Exotel: [Outgoing Call to a Call
//! Flow](https://developer.exotel.com/docs/voice-v1/api-reference/outgoing-call-to-flow), checked 2026-11-23.

use serde_json::{Value, json};

use super::{ACCOUNT, Asked, Request};

pub(super) fn read(request: &Request) -> Asked {
    // "AgentStream developer guide": 128 characters.
    if request.field("CustomField").len() > 128 {
        return Asked::Unknown("CustomField is too long".to_owned());
    }
    let flow = format!("http://my.exotel.com/{ACCOUNT}/exoml/start_voice/926");
    match (request.method.as_str(), request.segments().as_slice()) {
        ("POST", ["v1", "Accounts", ACCOUNT, "Calls", "connect.json"]) if request.field("Url") == flow => {
            Asked::Place {
                to: request.field("From").to_owned(),
                from: request.field("CallerId").to_owned(),
            }
        }
        (method, _) => Asked::Unknown(format!("{method} {}", request.path)),
    }
}

pub(super) fn placed(id: &str) -> Value {
    json!({ "Call": { "Sid": id, "ParentCallSid": null, "AccountSid": ACCOUNT, "Status": "in-progress" } })
}

pub(super) fn problem(status: u16) -> Value {
    json!({ "RestException": { "Status": status, "Message": "refused" } })
}
