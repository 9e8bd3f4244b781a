//! Twilio Media Streams, bidirectional: JSON text messages to and from typed events.
//!
//! Follows <https://www.twilio.com/docs/voice/media-streams/websocket-messages>. Emulators leave out much of it
//! (`connected`, `accountSid`, `mediaFormat`, `streamSid` on media); none of that is needed here.

pub mod far_end;
mod parts;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::audio::g711;
use parts::{InboundMessage, StartPart, push_json_string};

/// Longest text message that is read, in bytes; a second of µ-law is 10 668 characters of base64.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Sample rate of the stream in both directions.
pub const SAMPLE_RATE_HZ: u32 = 8_000;

/// What Twilio has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum TwilioEvent {
    /// The socket is up; `start` follows.
    Connected,
    /// The stream begins.
    Start(StreamStart),
    /// Caller audio.
    Media(MediaFrame),
    /// The caller pressed a key: `0`–`9`, `*`, `#`, `A`–`D`.
    Dtmf(char),
    /// Everything sent before this mark has been played, or was dropped by a `clear`.
    Mark(String),
    /// The stream or the call has ended.
    Stop,
    /// Valid, but nothing to act on: an unknown event, our own audio, or audio after the end.
    Ignored,
}

/// Who is calling, from the `start` message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamStart {
    /// Names the stream in every message to Twilio.
    pub stream_sid: String,
    /// Names the call, also for the REST API.
    pub call_sid: String,
    /// Account the call belongs to.
    pub account_sid: Option<String>,
    /// `<Parameter>`s of the TwiML; values that are no strings are kept as their JSON.
    pub custom_parameters: BTreeMap<String, String>,
}

/// One piece of caller audio, usually 20 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaFrame {
    /// Counts from 1.
    pub chunk: Option<u64>,
    /// Milliseconds since the stream began.
    pub timestamp_ms: Option<u64>,
    /// Mono samples at [`SAMPLE_RATE_HZ`].
    pub samples: Vec<i16>,
}

/// A message that breaks the protocol. Which ones end a call is for the transport to decide.
#[derive(Debug, thiserror::Error)]
pub enum TwilioError {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {bytes} bytes is larger than the {MAX_MESSAGE_BYTES} allowed")]
    Oversized {
        /// Its length.
        bytes: usize,
    },
    /// Not a JSON object of the documented shape.
    #[error("not a Media Streams message: {0}")]
    NotJson(#[source] serde_json::Error),
    /// An event needs a part that is not there.
    #[error("a `{event}` message without `{part}`")]
    Missing {
        /// The event.
        event: &'static str,
        /// What it lacks.
        part: &'static str,
    },
    /// Something that only makes sense within a stream came before `start`.
    #[error("`{event}` came before `start`")]
    BeforeStart {
        /// The event.
        event: &'static str,
    },
    /// `start` came twice.
    #[error("a second `start` on one stream")]
    SecondStart,
    /// Audio in a form that Media Streams does not have.
    #[error(
        "audio is {encoding} at {sample_rate} Hz with {channels} channel(s); expected audio/x-mulaw at 8000 Hz with 1"
    )]
    WrongFormat {
        /// As announced.
        encoding: String,
        /// As announced.
        sample_rate: u64,
        /// As announced.
        channels: u64,
    },
    /// A message to Twilio that names no stream, or another one.
    #[error("the message is not for this stream: its `streamSid` is missing or wrong")]
    WrongStream,
    /// The audio is not base64.
    #[error("the audio is not base64: {0}")]
    NotBase64(#[source] base64::DecodeError),
    /// A key that no telephone has.
    #[error("the key pressed is not one of 0-9, *, # and A-D")]
    NotAKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeStart,
    Streaming,
    Stopped,
}

/// The receiving side of one stream: reads messages and knows in which order they may come.
#[derive(Debug)]
pub struct TwilioStream {
    phase: Phase,
    /// Reused from frame to frame.
    ulaw: Vec<u8>,
}

impl Default for TwilioStream {
    fn default() -> Self {
        Self::new()
    }
}

impl TwilioStream {
    /// A stream of which nothing has been read.
    pub fn new() -> Self {
        Self {
            phase: Phase::BeforeStart,
            ulaw: Vec::new(),
        }
    }

    /// Whether `start` has been read and `stop` has not.
    pub fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
    }

    /// Reads one text message.
    ///
    /// # Errors
    /// [`TwilioError`]; the stream stays as it was, so a bad message may be skipped.
    pub fn read(&mut self, text: &str) -> Result<TwilioEvent, TwilioError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(TwilioError::Oversized { bytes: text.len() });
        }
        let message: InboundMessage<'_> = serde_json::from_str(text).map_err(TwilioError::NotJson)?;
        match message.event.as_ref() {
            "media" => self.media(message),
            "mark" => {
                self.streaming("mark")?;
                let mark = message.mark.ok_or(TwilioError::Missing {
                    event: "mark",
                    part: "mark",
                })?;
                Ok(TwilioEvent::Mark(mark.name.into_owned()))
            }
            "dtmf" => {
                self.streaming("dtmf")?;
                let dtmf = message.dtmf.ok_or(TwilioError::Missing {
                    event: "dtmf",
                    part: "dtmf",
                })?;
                key(&dtmf.digit).map(TwilioEvent::Dtmf)
            }
            "start" => {
                if self.phase != Phase::BeforeStart {
                    return Err(TwilioError::SecondStart);
                }
                let outer_sid = message.stream_sid.map(|sid| sid.0.into_owned());
                let start = message.start.ok_or(TwilioError::Missing {
                    event: "start",
                    part: "start",
                })?;
                let start = stream_start(start, outer_sid)?;
                self.phase = Phase::Streaming;
                Ok(TwilioEvent::Start(start))
            }
            "stop" => {
                self.phase = Phase::Stopped;
                Ok(TwilioEvent::Stop)
            }
            "connected" => Ok(TwilioEvent::Connected),
            _ => Ok(TwilioEvent::Ignored),
        }
    }

    fn streaming(&self, event: &'static str) -> Result<(), TwilioError> {
        if self.phase == Phase::BeforeStart {
            Err(TwilioError::BeforeStart { event })
        } else {
            Ok(())
        }
    }

    fn media(&mut self, message: InboundMessage<'_>) -> Result<TwilioEvent, TwilioError> {
        self.streaming("media")?;
        let media = message.media.ok_or(TwilioError::Missing {
            event: "media",
            part: "media",
        })?;
        // A stream of both tracks also brings what we said; and frames may overtake a `stop`.
        let ours = media.track.is_some_and(|track| track.0 == "outbound");
        if ours || self.phase == Phase::Stopped {
            return Ok(TwilioEvent::Ignored);
        }
        self.ulaw.clear();
        BASE64
            .decode_vec(media.payload.as_ref(), &mut self.ulaw)
            .map_err(TwilioError::NotBase64)?;
        Ok(TwilioEvent::Media(MediaFrame {
            chunk: media.chunk,
            timestamp_ms: media.timestamp,
            samples: g711::decode_ulaw(&self.ulaw),
        }))
    }
}

/// The message that plays µ-law audio to the caller.
pub fn media_message(stream_sid: &str, ulaw: &[u8]) -> String {
    let mut json = String::with_capacity(96 + stream_sid.len() + ulaw.len().div_ceil(3) * 4);
    json.push_str(r#"{"event":"media","streamSid":"#);
    push_json_string(&mut json, stream_sid);
    json.push_str(r#","media":{"payload":""#);
    BASE64.encode_string(ulaw, &mut json);
    json.push_str(r#""}}"#);
    json
}

/// The message that asks Twilio to report when everything sent before it has been played.
pub fn mark_message(stream_sid: &str, name: &str) -> String {
    let mut json = String::from(r#"{"event":"mark","streamSid":"#);
    push_json_string(&mut json, stream_sid);
    json.push_str(r#","mark":{"name":"#);
    push_json_string(&mut json, name);
    json.push_str("}}");
    json
}

/// The message that makes Twilio drop what it has not played; pending marks come back at once.
pub fn clear_message(stream_sid: &str) -> String {
    let mut json = String::from(r#"{"event":"clear","streamSid":"#);
    push_json_string(&mut json, stream_sid);
    json.push('}');
    json
}

fn stream_start(start: StartPart<'_>, outer_sid: Option<String>) -> Result<StreamStart, TwilioError> {
    if let Some(format) = start.media_format {
        let encoding = format.encoding.map_or("audio/x-mulaw".into(), |text| text.0);
        let (sample_rate, channels) = (format.sample_rate.unwrap_or(8_000), format.channels.unwrap_or(1));
        if (encoding.as_ref(), sample_rate, channels) != ("audio/x-mulaw", 8_000, 1) {
            return Err(TwilioError::WrongFormat {
                encoding: encoding.into_owned(),
                sample_rate,
                channels,
            });
        }
    }
    let owned = |text: Option<parts::Text<'_>>| text.map(|text| text.0.into_owned()).filter(|text| !text.is_empty());
    let missing = |part| TwilioError::Missing { event: "start", part };
    Ok(StreamStart {
        stream_sid: owned(start.stream_sid).or(outer_sid).ok_or(missing("streamSid"))?,
        call_sid: owned(start.call_sid).ok_or(missing("callSid"))?,
        account_sid: owned(start.account_sid),
        custom_parameters: start
            .custom_parameters
            .unwrap_or_default()
            .into_iter()
            .map(|(k, v)| (k, plain(v)))
            .collect(),
    })
}

fn plain(value: serde_json::Value) -> String {
    if let serde_json::Value::String(text) = value {
        text
    } else {
        value.to_string()
    }
}

fn key(digit: &str) -> Result<char, TwilioError> {
    let mut chars = digit.chars();
    match (chars.next().map(|c| c.to_ascii_uppercase()), chars.next()) {
        (Some(key @ ('0'..='9' | '*' | '#' | 'A'..='D')), None) => Ok(key),
        _ => Err(TwilioError::NotAKey),
    }
}

#[cfg(test)]
mod tests;
