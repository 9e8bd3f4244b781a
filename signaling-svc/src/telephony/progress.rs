//! How an outbound call goes, as its provider reports it.
//!
//! Checked 2026-11-23: Twilio "Call resource: StatusCallback" and "Answering machine detection"; Telnyx "Call hangup",
//! "Call machine detection ended" and "TeXML call answered" of the API reference; Plivo "Make a call" (`ring_url`,
//! `hangup_url`) and "Asynchronous machine detection"; Exotel "Outgoing call to connect a number to a call flow"
//! and "StatusCallback"; Vonage "Voice API webhooks reference: event webhook" and "Voicemail Detection".

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CallFacts, Provider, Webhook};

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallState {
    /// The provider has accepted it.
    Queued,
    /// The far end rings.
    Ringing,
    /// Somebody, or something, has answered.
    Answered,
    /// It was answered and is over.
    Completed,
    /// The far end is busy or has declined.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// The provider could not place it.
    Failed,
    /// It was given up before it was answered.
    Canceled,
}

impl CallState {
    /// Reports overtake each other and come twice: only one of a higher rank counts.
    pub fn rank(self) -> u32 {
        match self {
            Self::Queued => 0,
            Self::Ringing => 1,
            Self::Answered => 2,
            Self::Completed | Self::Busy | Self::NoAnswer | Self::Failed | Self::Canceled => 3,
        }
    }

    /// Whether nothing follows.
    pub fn is_over(self) -> bool {
        self.rank() == 3
    }
}

/// Who took the call, where the provider listens for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnsweredBy {
    /// A person.
    Human,
    /// An answering machine or fax; it may still be greeting.
    Machine,
    /// An answering machine that takes a message now.
    MachineBeep,
}

impl AnsweredBy {
    /// A beep tells more than "a machine".
    pub fn rank(self) -> u32 {
        match self {
            Self::Human | Self::Machine => 1,
            Self::MachineBeep => 2,
        }
    }
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The provider's id of the call; empty where it is not said.
    pub call_id: String,
    /// Where the call is, if this report is about that.
    pub state: Option<CallState>,
    /// Who answered, if this report is about that.
    pub answered_by: Option<AnsweredBy>,
}

impl Report {
    /// Reads a report in its provider's words; words that are not known say nothing.
    pub fn read(provider: Provider, webhook: &Webhook) -> Self {
        let (state, answered_by) = match provider {
            Provider::Twilio => (
                state(webhook.field("CallStatus")),
                twilio_answered_by(webhook.field("AnsweredBy")),
            ),
            Provider::Telnyx => return telnyx(webhook),
            Provider::Plivo => plivo(webhook),
            Provider::Exotel => (exotel(webhook), None),
            Provider::Vonage => vonage(webhook),
        };
        Self {
            call_id: CallFacts::read(provider, webhook).call_id,
            state,
            answered_by,
        }
    }
}

/// The words that Twilio, TeXML, Plivo and Exotel share.
fn state(word: &str) -> Option<CallState> {
    match word {
        "queued" | "initiated" => Some(CallState::Queued),
        "ringing" => Some(CallState::Ringing),
        "in-progress" | "answered" => Some(CallState::Answered),
        "completed" => Some(CallState::Completed),
        "busy" => Some(CallState::Busy),
        "no-answer" | "timeout" => Some(CallState::NoAnswer),
        "failed" => Some(CallState::Failed),
        "canceled" | "cancelled" | "cancel" => Some(CallState::Canceled),
        _ => None,
    }
}

fn twilio_answered_by(word: &str) -> Option<AnsweredBy> {
    match word {
        "human" => Some(AnsweredBy::Human),
        "machine_start" | "fax" => Some(AnsweredBy::Machine),
        "machine_end_beep" | "machine_end_silence" | "machine_end_other" => Some(AnsweredBy::MachineBeep),
        _ => None,
    }
}

/// Events of the Voice API are JSON; those of TeXML are Twilio's.
fn telnyx(webhook: &Webhook) -> Report {
    let text = |pointer| {
        webhook
            .json
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if webhook.json.is_null() {
        return Report {
            call_id: webhook.field("CallSid").to_owned(),
            state: state(webhook.field("CallStatus")),
            answered_by: twilio_answered_by(webhook.field("AnsweredBy")),
        };
    }
    let result = text("/data/payload/result");
    let (state, answered_by) = match text("/data/event_type") {
        "call.initiated" => (Some(CallState::Ringing), None),
        "call.answered" => (Some(CallState::Answered), None),
        "call.hangup" => (Some(telnyx_hangup(text("/data/payload/hangup_cause"))), None),
        "call.machine.detection.ended" | "call.machine.premium.detection.ended" => match result {
            "human" | "human_residence" | "human_business" => (None, Some(AnsweredBy::Human)),
            "machine" | "fax_detected" => (None, Some(AnsweredBy::Machine)),
            _ => (None, None),
        },
        "call.machine.greeting.ended" | "call.machine.premium.greeting.ended" => match result {
            "beep_detected" | "ended" | "prompt_ended" => (None, Some(AnsweredBy::MachineBeep)),
            _ => (None, None),
        },
        _ => (None, None),
    };
    Report {
        call_id: text("/data/payload/call_control_id").to_owned(),
        state,
        answered_by,
    }
}

fn telnyx_hangup(cause: &str) -> CallState {
    match cause {
        "normal_clearing" | "time_limit" => CallState::Completed,
        "user_busy" | "call_rejected" => CallState::Busy,
        "timeout" => CallState::NoAnswer,
        "originator_cancel" => CallState::Canceled,
        _ => CallState::Failed,
    }
}

fn plivo(webhook: &Webhook) -> (Option<CallState>, Option<AnsweredBy>) {
    if webhook.field("Event") == "MachineDetection" {
        let found = match webhook.field("Machine") {
            machine if machine.eq_ignore_ascii_case("true") => Some(AnsweredBy::Machine),
            human if human.eq_ignore_ascii_case("false") => Some(AnsweredBy::Human),
            _ => None,
        };
        return (None, found);
    }
    (state(webhook.field("CallStatus")), None)
}

/// `EventType` is `answered` or `terminal`; without one it is the end.
fn exotel(webhook: &Webhook) -> Option<CallState> {
    match webhook.field("EventType") {
        "answered" => Some(CallState::Answered),
        _ => state(webhook.field("Status")),
    }
}

/// The leg of the WebSocket reports to the same URL, and its beginning and end are not the person's: it ends when the
/// person is put through, for one.
fn vonage(webhook: &Webhook) -> (Option<CallState>, Option<AnsweredBy>) {
    if webhook.field("to").starts_with("ws") {
        return (None, None);
    }
    match webhook.field("status") {
        "started" => (Some(CallState::Queued), None),
        "unanswered" => (Some(CallState::NoAnswer), None),
        "rejected" => (Some(CallState::Busy), None),
        "human" => (None, Some(AnsweredBy::Human)),
        "machine" if webhook.field("sub_state") == "beep_start" => (None, Some(AnsweredBy::MachineBeep)),
        "machine" => (None, Some(AnsweredBy::Machine)),
        word => (state(word), None),
    }
}
