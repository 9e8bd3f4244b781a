//! Genesys Cloud AudioHook, protocol version 2, as the Audio Connector speaks it: JSON text for the session, binary PCMU
//! at 8 kHz for audio, one or two channels in and one out.
//!
//! Follows "AudioHook protocol reference" (<https://developer.genesys.cloud/devapps/audiohook/protocol-reference>, read
//! 2026-11-22) and Genesys' reference implementation (github.com/purecloudlabs/audiohook-reference-implementation): checked
//! 2026-11-23 against its `protocol/message.ts`, which has every message here but `dtmf` and the event `barge_in` of the
//! Audio Connector.
//!
//! The client is Genesys, which opens and closes sessions; the server may only ask for an end by `disconnect`. Every
//! message has a number of its own side and repeats the other side's last one. `barge_in` makes Genesys drop what it
//! has not played. There are no marks, and sessions cannot be picked up again after a cut.

pub mod far_end;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::telephony::envelope::{key, texts};
use super::telephony::{Answer, Channels, Event, Goodbye, MediaFormat, Provider, Read, Start, WireError};

const EXPECTED: &str = "PCMU at 8000 Hz with 1 (external) or 2 (external, internal)";
/// The ids of a connection that only tests whether anybody answers.
const NULL_UUID: &str = "00000000-0000-0000-0000-000000000000";

#[derive(Deserialize)]
struct ClientMessage {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenParameters {
    organization_id: Option<String>,
    #[serde(default)]
    conversation_id: String,
    participant: Option<Participant>,
    #[serde(default)]
    media: Vec<Media>,
    input_variables: Option<BTreeMap<String, Value>>,
    language: Option<String>,
}

#[derive(Deserialize)]
struct Participant {
    #[serde(default)]
    id: String,
    ani: Option<String>,
    dnis: Option<String>,
}

#[derive(Deserialize)]
struct Media {
    #[serde(default)]
    format: String,
    #[serde(default)]
    rate: u64,
    #[serde(default)]
    channels: Vec<String>,
}

/// A message read, with its number.
pub(super) struct Numbered {
    pub(super) read: Read,
    pub(super) seq: u64,
}

/// Reads a text message that follows on number `last`.
pub(super) fn read(text: &str, last: u64) -> Result<Numbered, WireError> {
    let message: ClientMessage = serde_json::from_str(text).map_err(WireError::NotJson)?;
    let client_seq = message.seq;
    // A gap is the client's own business; a number that was used is not.
    if client_seq <= last && last > 0 {
        return Err(WireError::OutOfSequence { seq: client_seq, last });
    }
    let numbered = |event, answer| {
        Ok(Numbered {
            read: Read { event, answer },
            seq: client_seq,
        })
    };
    match message.kind.as_str() {
        "open" => {
            let (start, is_probe) = open(message)?;
            let answer = Answer::Opened {
                client_seq,
                channels: start.channels,
            };
            let event = if is_probe {
                Event::Probe(start)
            } else {
                Event::Start(start)
            };
            numbered(event, Some(answer))
        }
        "ping" => numbered(Event::Ignored, Some(Answer::Pong { client_seq })),
        "close" => numbered(Event::Stop, Some(Answer::Closed { client_seq })),
        "update" => numbered(Event::Ignored, Some(Answer::Updated { client_seq })),
        "dtmf" => {
            let digit = message.parameters.get("digit").and_then(Value::as_str);
            let digit = digit.ok_or(WireError::Missing {
                event: "dtmf",
                part: "digit",
            })?;
            numbered(Event::Dtmf(key(digit)?), None)
        }
        "error" => numbered(Event::Trouble(trouble(&message.parameters)), None),
        // playback_started, playback_completed, paused, resumed, discarded: told, not asked.
        _ => numbered(Event::Ignored, None),
    }
}

fn trouble(parameters: &Value) -> String {
    const LONGEST: usize = 200;
    parameters.to_string().chars().take(LONGEST).collect()
}

fn open(message: ClientMessage) -> Result<(Start, bool), WireError> {
    let missing = |part| WireError::Missing { event: "open", part };
    let open: OpenParameters = serde_json::from_value(message.parameters).map_err(WireError::NotJson)?;
    if message.id.is_empty() {
        return Err(missing("id"));
    }
    let channels = choose(&open.media)?;
    let participant = open.participant;
    let is_probe = open.conversation_id == NULL_UUID
        && participant
            .as_ref()
            .is_none_or(|participant| participant.id == NULL_UUID);
    let mut parameters = texts(open.input_variables);
    let known = [
        (
            "from",
            participant.as_ref().and_then(|participant| participant.ani.clone()),
        ),
        ("to", participant.and_then(|participant| participant.dnis)),
        ("language", open.language),
    ];
    for (name, value) in known {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            parameters.entry(name.to_owned()).or_insert(value);
        }
    }
    let start = Start {
        provider: Provider::Genesys,
        stream_id: message.id,
        call_id: open.conversation_id,
        account_id: open.organization_id,
        parameters,
        format: MediaFormat::ULAW_8K,
        channels,
    };
    Ok((start, is_probe))
}

/// The first offer that can be carried, the caller alone before both parties.
fn choose(offers: &[Media]) -> Result<Channels, WireError> {
    let pcmu = |media: &&Media| media.format.eq_ignore_ascii_case("PCMU") && media.rate == 8_000;
    let offered = |wanted: &[&str]| offers.iter().filter(pcmu).any(|media| media.channels == wanted);
    if offered(&["external"]) {
        Ok(Channels::Caller)
    } else if offered(&["external", "internal"]) {
        Ok(Channels::Both)
    } else {
        let first = offers.first();
        Err(WireError::WrongFormat {
            encoding: first.map_or_else(|| "not offered".to_owned(), |media| media.format.clone()),
            sample_rate: first.map_or(0, |media| media.rate),
            channels: first.map_or(0, |media| media.channels.len() as u64),
            expected: EXPECTED,
        })
    }
}

/// Numbers of a server's messages.
#[derive(Debug, Default)]
pub(super) struct Counters {
    seq: u64,
    client_seq: u64,
}

/// The answer to a message.
pub(super) fn answer(counters: &mut Counters, id: &str, answer: Answer) -> String {
    let (kind, client_seq, parameters) = match answer {
        Answer::Opened { client_seq, channels } => {
            let channels: &[&str] = match channels {
                Channels::Caller => &["external"],
                Channels::Both => &["external", "internal"],
            };
            let media = json!([{"type": "audio", "format": "PCMU", "channels": channels, "rate": 8000}]);
            ("opened", client_seq, json!({"startPaused": false, "media": media}))
        }
        Answer::Pong { client_seq } => ("pong", client_seq, json!({})),
        Answer::Updated { client_seq } => ("updated", client_seq, json!({})),
        Answer::Closed { client_seq } => ("closed", client_seq, json!({})),
    };
    counters.client_seq = counters.client_seq.max(client_seq);
    message(counters, id, kind, &parameters)
}

/// Asks Genesys to drop what it has not played.
pub(super) fn barge_in(counters: &mut Counters, id: &str) -> String {
    let parameters = json!({"entities": [{"type": "barge_in", "data": {}}]});
    message(counters, id, "event", &parameters)
}

/// Asks Genesys to close the session.
pub(super) fn disconnect(counters: &mut Counters, id: &str, goodbye: Goodbye<'_>) -> String {
    let mut parameters = Map::new();
    match goodbye {
        Goodbye::Completed => parameters.insert("reason".to_owned(), "completed".into()),
        Goodbye::Refused(info) => {
            parameters.insert("info".to_owned(), info.into());
            parameters.insert("reason".to_owned(), "error".into())
        }
    };
    message(counters, id, "disconnect", &parameters.into())
}

fn message(counters: &mut Counters, id: &str, kind: &str, parameters: &Value) -> String {
    counters.seq += 1;
    json!({
        "version": "2",
        "type": kind,
        "seq": counters.seq,
        "clientseq": counters.client_seq,
        "id": id,
        "parameters": parameters,
    })
    .to_string()
}
