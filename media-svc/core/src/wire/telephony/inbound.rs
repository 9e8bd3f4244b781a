//! Reads one stream, whoever's it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::envelope::{Envelope, MediaPart, key};
use super::hello::{First, recognise};
use super::order::{Order, Ordered, Piece};
use super::{Channels, Event, Frame, MAX_MESSAGE_BYTES, MediaFormat, Provider, Read, Start, WireError};
use crate::wire::{exotel, genesys, plivo, telnyx, twilio, vonage};

/// Telnyx' media messages may overtake each other by so many: 80 ms.
const MOST_OVERTAKEN: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeStart,
    Streaming,
    Stopped,
}

/// The receiving side of one stream: reads messages and knows in which order they may come.
#[derive(Debug)]
pub struct Inbound {
    announced: Option<Provider>,
    provider: Option<Provider>,
    phase: Phase,
    format: MediaFormat,
    channels: Channels,
    order: Order,
    /// Whether media messages say when their audio was spoken, and not when they were sent.
    has_audio_times: bool,
    /// Largest number of a message so far (Genesys).
    client_seq: u64,
    /// Reused from frame to frame.
    bytes: Vec<u8>,
}

impl Inbound {
    /// A stream of which nothing has been read, announced as this provider's.
    pub fn new(announced: Option<Provider>) -> Self {
        Self {
            announced,
            provider: None,
            phase: Phase::BeforeStart,
            format: MediaFormat::ULAW_8K,
            channels: Channels::Caller,
            order: Order::new(0, MediaFormat::ULAW_8K.rate_hz),
            has_audio_times: false,
            client_seq: 0,
            bytes: Vec::new(),
        }
    }

    /// Whose stream it is, once that is known.
    pub fn provider(&self) -> Option<Provider> {
        self.provider
    }

    /// Whether the start has been read and the end has not.
    pub fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`WireError`]; the stream stays as it was, so a bad message may be skipped.
    pub fn read(&mut self, frame: Frame<'_>) -> Result<Read, WireError> {
        if frame.len() > MAX_MESSAGE_BYTES {
            return Err(WireError::Oversized { bytes: frame.len() });
        }
        let provider = match (self.provider, frame) {
            (Some(provider), _) => provider,
            (None, Frame::Binary(_)) => return Err(WireError::BeforeStart { event: "audio" }),
            (None, Frame::Text(text)) => match recognise(text)? {
                First::Event(event) => return Ok(event.into()),
                First::Of(found) => self.admit(found)?,
            },
        };
        match (provider, frame) {
            (Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Exotel, Frame::Text(text)) => {
                self.json(provider, text).map(Read::from)
            }
            (Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Exotel, Frame::Binary(_)) => {
                Err(WireError::Binary)
            }
            (Provider::Vonage, Frame::Text(text)) => self.vonage(text).map(Read::from),
            (Provider::Genesys, Frame::Text(text)) => self.genesys(text),
            (Provider::Vonage | Provider::Genesys, Frame::Binary(bytes)) => self.binary(bytes).map(Read::from),
        }
    }

    fn admit(&self, found: Provider) -> Result<Provider, WireError> {
        match self.announced {
            Some(announced) if announced != found => Err(WireError::OtherProvider { announced, found }),
            Some(_) | None => Ok(found),
        }
    }

    fn json(&mut self, provider: Provider, text: &str) -> Result<Event, WireError> {
        let message: Envelope<'_> = serde_json::from_str(text).map_err(WireError::NotJson)?;
        match message.event.as_ref() {
            "media" => {
                let media = message.media.ok_or(missing("media"))?;
                self.media(&media)
            }
            "start" => {
                let start = match provider {
                    Provider::Twilio => twilio::start(text),
                    Provider::Telnyx => telnyx::start(text),
                    Provider::Plivo => plivo::start(text),
                    Provider::Exotel => exotel::start(text),
                    Provider::Vonage | Provider::Genesys => Err(WireError::Unknown),
                };
                self.begin(start?).map(Event::Start)
            }
            "mark" => Ok(Event::Mark(message.mark.ok_or(missing("mark"))?.name.into_owned())),
            // Plivo; its support pages also call it `played`.
            "playedStream" | "played" => {
                let name = message.name.ok_or(WireError::Missing {
                    event: "playedStream",
                    part: "name",
                })?;
                Ok(Event::Mark(name.0.into_owned()))
            }
            "dtmf" => key(&message.dtmf.ok_or(missing("dtmf"))?.digit).map(Event::Dtmf),
            "stop" => Ok(self.stop()),
            "connected" => Ok(Event::Connected),
            "error" => Ok(Event::Trouble(telnyx::trouble(text))),
            _ => Ok(Event::Ignored),
        }
    }

    fn media(&mut self, media: &MediaPart<'_>) -> Result<Event, WireError> {
        // A stream of both tracks also brings what we said; and frames may overtake a `stop`.
        let ours = media
            .track
            .as_ref()
            .is_some_and(|track| track.0.starts_with("outbound"));
        if ours || self.phase == Phase::Stopped {
            return Ok(Event::Ignored);
        }
        self.bytes.clear();
        BASE64
            .decode_vec(media.payload.as_ref(), &mut self.bytes)
            .map_err(WireError::NotBase64)?;
        let samples = self.format.codec.decode(&self.bytes)?;
        let piece = Piece {
            number: media.chunk,
            timestamp_ms: media.timestamp.filter(|_| self.has_audio_times),
            samples,
        };
        Ok(match self.order.push(piece) {
            Ordered::Ready(samples) => Event::Media(samples),
            Ordered::Held => Event::Held,
            Ordered::Late => Event::Late,
        })
    }

    fn vonage(&mut self, text: &str) -> Result<Event, WireError> {
        match vonage::read(text)? {
            vonage::Text::Connected(start) => self.begin(start).map(Event::Start),
            vonage::Text::Event(event) => Ok(event),
        }
    }

    fn genesys(&mut self, text: &str) -> Result<Read, WireError> {
        let message = genesys::read(text, self.client_seq)?;
        let read = match message.read.event {
            Event::Start(start) => Event::Start(self.begin(start)?),
            Event::Probe(start) => Event::Probe(self.begin(start)?),
            Event::Stop => self.stop(),
            event => event,
        };
        self.client_seq = message.seq;
        Ok(Read {
            event: read,
            answer: message.read.answer,
        })
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<Event, WireError> {
        if self.phase == Phase::Stopped {
            return Ok(Event::Ignored);
        }
        match self.channels {
            Channels::Caller => self.format.codec.decode(bytes).map(Event::Media),
            Channels::Both => {
                let (pairs, rest) = bytes.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(WireError::OddLength { bytes: bytes.len() });
                }
                self.bytes.clear();
                self.bytes.extend(pairs.iter().map(|[caller, _]| caller));
                self.format.codec.decode(&self.bytes).map(Event::Media)
            }
        }
    }

    fn begin(&mut self, start: Start) -> Result<Start, WireError> {
        if self.phase != Phase::BeforeStart {
            return Err(WireError::SecondStart);
        }
        let most_held = match start.provider {
            Provider::Telnyx => MOST_OVERTAKEN,
            Provider::Twilio | Provider::Plivo | Provider::Exotel | Provider::Vonage | Provider::Genesys => 0,
        };
        self.has_audio_times = match start.provider {
            Provider::Twilio | Provider::Telnyx | Provider::Exotel => true,
            // Plivo gives the time of day, and does not say of what.
            Provider::Plivo | Provider::Vonage | Provider::Genesys => false,
        };
        self.provider = Some(start.provider);
        self.phase = Phase::Streaming;
        self.format = start.format;
        self.channels = start.channels;
        self.order = Order::new(most_held, start.format.rate_hz);
        Ok(start)
    }

    fn stop(&mut self) -> Event {
        self.phase = Phase::Stopped;
        Event::Stop
    }
}

/// An event whose part has the event's own name.
fn missing(event: &'static str) -> WireError {
    WireError::Missing { event, part: event }
}
