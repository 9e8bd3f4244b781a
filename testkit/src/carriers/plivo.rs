//! Plivo: [Call API](https://www.plivo.com/docs/voice/api/calls), checked 2026-11-23.

use serde_json::{Value, json};

use super::{ACCOUNT, Asked, Request};

pub(super) fn read(request: &Request) -> Asked {
    let text = |pointer: &str| request.text(pointer).to_owned();
    if !request.path.ends_with('/') {
        return Asked::Unknown("paths end in a slash".to_owned());
    }
    match (request.method.as_str(), request.segments().as_slice()) {
        ("POST", ["v1", "Account", ACCOUNT, "Call"]) if !request.text("/answer_url").is_empty() => Asked::Place {
            to: text("/to"),
            from: text("/from"),
        },
        ("DELETE", ["v1", "Account", ACCOUNT, "Call", call]) => Asked::HangUp {
            call: (*call).to_owned(),
        },
        ("POST", ["v1", "Account", ACCOUNT, "Call", call]) if request.text("/legs") == "aleg" => Asked::Transfer {
            call: (*call).to_owned(),
            to: text("/aleg_url"),
        },
        ("POST", ["v1", "Account", ACCOUNT, "Call", call, "DTMF"]) => Asked::SendDtmf {
            call: (*call).to_owned(),
            digits: text("/digits"),
        },
        (method, _) => Asked::Unknown(format!("{method} {}", request.path)),
    }
}

pub(super) fn placed(id: &str) -> Value {
    json!({ "message": "call fired", "request_uuid": id, "api_id": "x" })
}

pub(super) fn problem(_status: u16) -> Value {
    json!({ "api_id": "x", "error": "refused" })
}
