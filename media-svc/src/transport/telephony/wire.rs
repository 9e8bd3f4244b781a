//! A provider's messages between socket and call: which bad ones are survived, and what ends a stream.

use std::time::Duration;

use axum::extract::ws::Message;
use media_core::conversation::{EndReason, MarkId};
use media_core::wire::telephony::{
    self, Answer, Event, Frame, Goodbye, Message as WireMessage, Provider, Read, Start, WireError,
};
use tokio::time::Instant;

use crate::call::{CallerCommand, CallerEvent};
use crate::metrics::{PHONE_FRAMES_LATE, PROTOCOL_ERRORS};
use crate::transport::writer::{Closing, Encode};

use super::TRANSPORT;

/// Bad messages that a stream survives; the next one closes it. A lost frame is no reason to lose a call.
const TOLERATED_ERRORS: u32 = 50;
/// Keys a second that a telephone can send: a key takes 80 ms at least (ETSI ES 201 235-2), providers may batch them.
const MOST_KEYS: u32 = 40;
const KEY_WINDOW: Duration = Duration::from_secs(1);

/// Reads what the provider sends.
pub struct Inbound {
    stream: telephony::Inbound,
    errors: u32,
    keys: u32,
    keys_since: Instant,
}

/// What one message of a running stream means.
#[derive(Debug)]
pub struct Meaning {
    /// For the call.
    pub event: Option<CallerEvent>,
    /// For the provider.
    pub answer: Option<Answer>,
}

impl Inbound {
    /// Nothing read yet.
    pub fn new(announced: Option<Provider>) -> Self {
        Self {
            stream: telephony::Inbound::new(announced),
            errors: 0,
            keys: 0,
            keys_since: Instant::now(),
        }
    }

    /// One message before the stream has begun.
    pub fn introduction(&mut self, frame: Frame<'_>) -> Result<Read, Closing> {
        self.stream.read(frame).map_err(|error| closing(&error))
    }

    /// One message of the running stream.
    pub fn event(&mut self, frame: Frame<'_>) -> Result<Meaning, Closing> {
        let read = match self.stream.read(frame) {
            Ok(read) => read,
            Err(error @ (WireError::Binary | WireError::Oversized { .. })) => return Err(closing(&error)),
            Err(error) => {
                self.wrong(|| closing(&error))?;
                Event::Ignored.into()
            }
        };
        let event = match read.event {
            Event::Media(samples) => Some(CallerEvent::Audio(samples)),
            Event::Dtmf(key) => self.key(key)?.map(CallerEvent::Dtmf),
            Event::Mark(name) => mark_id(&name).map(CallerEvent::Played),
            Event::Stop => Some(CallerEvent::Closed(EndReason::CallerHungUp)),
            Event::Late => {
                PHONE_FRAMES_LATE.with_label_values(&[self.provider_name()]).inc();
                None
            }
            Event::Trouble(said) => {
                tracing::warn!(
                    provider = self.provider_name(),
                    said,
                    "the phone provider reports a problem with a stream"
                );
                None
            }
            Event::Connected | Event::Start(_) | Event::Probe(_) | Event::Held | Event::Ignored => None,
        };
        Ok(Meaning {
            event,
            answer: read.answer,
        })
    }

    fn provider_name(&self) -> &'static str {
        self.stream.provider().map_or("unknown", Provider::name)
    }

    /// Faster than a telephone sends them, keys are noise or an attack.
    fn key(&mut self, key: char) -> Result<Option<char>, Closing> {
        if self.keys_since.elapsed() >= KEY_WINDOW {
            self.keys_since = Instant::now();
            self.keys = 0;
        }
        self.keys += 1;
        if self.keys <= MOST_KEYS {
            return Ok(Some(key));
        }
        self.wrong(|| Closing::new(Closing::POLICY, "more keys than a telephone can send"))?;
        Ok(None)
    }

    fn wrong(&mut self, closing: impl FnOnce() -> Closing) -> Result<(), Closing> {
        PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
        self.errors += 1;
        if self.errors > TOLERATED_ERRORS {
            Err(closing())
        } else {
            Ok(())
        }
    }
}

fn closing(error: &WireError) -> Closing {
    let code = match error {
        WireError::Oversized { .. } => Closing::TOO_BIG,
        WireError::BeforeStart { .. }
        | WireError::SecondStart
        | WireError::OtherProvider { .. }
        | WireError::OutOfSequence { .. } => Closing::POLICY,
        WireError::NotJson(_)
        | WireError::Missing { .. }
        | WireError::Unknown
        | WireError::WrongFormat { .. }
        | WireError::WrongStream
        | WireError::NotBase64(_)
        | WireError::OddLength { .. }
        | WireError::NotAKey
        | WireError::Binary => Closing::INVALID_DATA,
    };
    Closing::new(code, error.to_string())
}

fn mark_name(mark: MarkId) -> String {
    format!("m{}", mark.0)
}

fn mark_id(name: &str) -> Option<MarkId> {
    name.strip_prefix('m')?.parse().ok().map(MarkId)
}

/// Writes what the provider understands.
pub struct Outbound {
    /// `None` until the stream has begun: then there is nothing that could be said.
    stream: Option<telephony::Outbound>,
    has_left: bool,
    /// Reused from frame to frame.
    built: Vec<WireMessage>,
}

impl Outbound {
    /// For this stream; without one, for a far end that is refused before it has said who it is.
    pub fn new(start: Option<&Start>) -> Self {
        Self {
            stream: start.map(telephony::Outbound::new),
            has_left: false,
            built: Vec::new(),
        }
    }

    fn hand_over(&mut self, out: &mut Vec<Message>) {
        out.extend(self.built.drain(..).map(|message| match message {
            WireMessage::Text(text) => Message::Text(text.into()),
            WireMessage::Binary(bytes) => Message::Binary(bytes.into()),
        }));
    }
}

impl Encode for Outbound {
    type Reply = Answer;

    fn encode(&mut self, command: CallerCommand, out: &mut Vec<Message>) {
        let Some(stream) = &mut self.stream else { return };
        match command {
            CallerCommand::Audio(frame) => stream.audio(&frame, &mut self.built),
            CallerCommand::Mark(mark) => stream.mark(&mark_name(mark), &mut self.built),
            CallerCommand::Clear => stream.clear(&mut self.built),
            CallerCommand::Notice(_) | CallerCommand::Close(_) => {}
        }
        self.hand_over(out);
    }

    fn reply(&mut self, reply: Answer, out: &mut Vec<Message>) {
        let Some(stream) = &mut self.stream else { return };
        self.has_left |= matches!(reply, Answer::Closed { .. });
        stream.answer(reply, &mut self.built);
        self.hand_over(out);
    }

    fn is_holding(&self) -> bool {
        self.stream.as_ref().is_some_and(telephony::Outbound::is_holding)
    }

    fn flush(&mut self, out: &mut Vec<Message>) {
        let Some(stream) = &mut self.stream else { return };
        stream.flush(&mut self.built);
        self.hand_over(out);
    }

    fn goodbye(&mut self, end: &Closing, out: &mut Vec<Message>) -> bool {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.has_left) else {
            return false;
        };
        let goodbye = if end.code == Closing::NORMAL {
            Goodbye::Completed
        } else {
            Goodbye::Refused(&end.reason)
        };
        let waits = stream.goodbye(goodbye, &mut self.built);
        self.hand_over(out);
        waits && !end.is_broken()
    }

    fn has_left(&self) -> bool {
        self.has_left
    }
}
