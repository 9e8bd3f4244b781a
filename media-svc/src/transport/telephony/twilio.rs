//! Twilio Media Streams between socket and call.
//!
//! <https://www.twilio.com/docs/voice/media-streams/websocket-messages>

use axum::extract::ws::Message;
use media_core::audio::g711;
use media_core::conversation::{EndReason, MarkId};
use media_core::wire::twilio::{
    StreamStart, TwilioError, TwilioEvent, TwilioStream, clear_message, mark_message, media_message,
};

use crate::call::{CallerCommand, CallerEvent};
use crate::metrics::PROTOCOL_ERRORS;
use crate::transport::writer::{Closing, Encode};

/// Bad messages that a stream survives; the next one closes it. A lost frame is no reason to lose a call.
const TOLERATED_ERRORS: u32 = 50;

/// Reads what Twilio sends.
pub struct Inbound {
    stream: TwilioStream,
    errors: u32,
}

impl Inbound {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self {
            stream: TwilioStream::new(),
            errors: 0,
        }
    }

    /// One message before the stream has begun; `Some` when it begins.
    pub fn introduction(&mut self, text: &str) -> Result<Option<StreamStart>, Closing> {
        match self.stream.read(text) {
            Ok(TwilioEvent::Start(start)) => Ok(Some(start)),
            Ok(TwilioEvent::Stop) => Err(Closing::new(Closing::NORMAL, "stopped before it began")),
            Ok(
                TwilioEvent::Connected
                | TwilioEvent::Ignored
                | TwilioEvent::Media(_)
                | TwilioEvent::Dtmf(_)
                | TwilioEvent::Mark(_),
            ) => Ok(None),
            Err(error) => Err(closing(&error)),
        }
    }

    /// One message of the running stream; `None` when there is nothing to do.
    pub fn event(&mut self, text: &str) -> Result<Option<CallerEvent>, Closing> {
        match self.stream.read(text) {
            Ok(TwilioEvent::Media(frame)) => Ok(Some(CallerEvent::Audio(frame.samples))),
            Ok(TwilioEvent::Dtmf(key)) => Ok(Some(CallerEvent::Dtmf(key))),
            Ok(TwilioEvent::Mark(name)) => Ok(mark_id(&name).map(CallerEvent::Played)),
            Ok(TwilioEvent::Stop) => Ok(Some(CallerEvent::Closed(EndReason::CallerHungUp))),
            Ok(TwilioEvent::Connected | TwilioEvent::Start(_) | TwilioEvent::Ignored) => Ok(None),
            Err(error) => {
                PROTOCOL_ERRORS.with_label_values(&["telephony"]).inc();
                self.errors += 1;
                if self.errors > TOLERATED_ERRORS {
                    Err(closing(&error))
                } else {
                    Ok(None)
                }
            }
        }
    }
}

fn closing(error: &TwilioError) -> Closing {
    let code = match error {
        TwilioError::Oversized { .. } => Closing::TOO_BIG,
        TwilioError::BeforeStart { .. } | TwilioError::SecondStart => Closing::POLICY,
        TwilioError::NotJson(_)
        | TwilioError::Missing { .. }
        | TwilioError::WrongFormat { .. }
        | TwilioError::WrongStream
        | TwilioError::NotBase64(_)
        | TwilioError::NotAKey => Closing::INVALID_DATA,
    };
    Closing::new(code, error.to_string())
}

fn mark_name(mark: MarkId) -> String {
    format!("m{}", mark.0)
}

fn mark_id(name: &str) -> Option<MarkId> {
    name.strip_prefix('m')?.parse().ok().map(MarkId)
}

/// Writes what Twilio understands.
pub struct Outbound {
    stream_sid: String,
}

impl Outbound {
    /// For this stream.
    pub fn new(stream_sid: String) -> Self {
        Self { stream_sid }
    }
}

impl Encode for Outbound {
    fn encode(&mut self, command: CallerCommand) -> Vec<Message> {
        let text = match command {
            CallerCommand::Audio(frame) => media_message(&self.stream_sid, &g711::encode_ulaw(&frame)),
            CallerCommand::Mark(mark) => mark_message(&self.stream_sid, &mark_name(mark)),
            CallerCommand::Clear => clear_message(&self.stream_sid),
            CallerCommand::Notice(_) | CallerCommand::Close(_) => return Vec::new(),
        };
        vec![Message::text(text)]
    }
}
