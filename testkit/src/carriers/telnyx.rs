//! Telnyx: [Call commands](https://developers.telnyx.com/api-reference/call-commands/dial) and [API
//! errors](https://developers.telnyx.com/development/api-fundamentals/api-errors), checked 2026-11-23.

use serde_json::{Value, json};

use super::{ACCOUNT, Asked, Request};

pub(super) fn read(request: &Request) -> Asked {
    let text = |pointer: &str| request.text(pointer).to_owned();
    match (request.method.as_str(), request.segments().as_slice()) {
        ("POST", ["v2", "calls"]) if request.text("/connection_id") == ACCOUNT => Asked::Place {
            to: text("/to"),
            from: text("/from"),
        },
        ("POST", ["v2", "calls", call, "actions", action]) => {
            let call = (*call).to_owned();
            match *action {
                "hangup" => Asked::HangUp { call },
                "transfer" => Asked::Transfer { call, to: text("/to") },
                "send_dtmf" => Asked::SendDtmf {
                    call,
                    digits: text("/digits"),
                },
                other => Asked::Unknown(other.to_owned()),
            }
        }
        (method, _) => Asked::Unknown(format!("{method} {}", request.path)),
    }
}

pub(super) fn placed(id: &str) -> Value {
    json!({ "data": { "record_type": "call", "call_control_id": id, "call_leg_id": "leg", "is_alive": false } })
}

pub(super) fn has_ended() -> Value {
    error("90018", "Call has already ended")
}

pub(super) fn problem(status: u16) -> Value {
    match status {
        401 => error("10009", "Authentication failed"),
        404 => error("10005", "Resource not found"),
        429 => error("10011", "Too many requests"),
        _ => error("10015", "Bad Request"),
    }
}

fn error(code: &str, title: &str) -> Value {
    json!({ "errors": [{ "code": code, "title": title }] })
}
