//! The provider's side of a stream, for simulated callers: builds what a provider sends and reads what it is sent.
//!
//! It checks what the provider would: messages for another stream, or of a shape nobody documented, are errors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::telephony::{Frame, MAX_MESSAGE_BYTES, MediaFormat, Message, Provider, Start, WireError};
use super::{exotel, genesys, plivo, telnyx, twilio, vonage};

/// What a server has to say to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// Audio for the caller, mono at the stream's rate.
    Media(Vec<i16>),
    /// Report this name when everything before it has been played.
    Mark(String),
    /// Drop what has not been played.
    Clear,
    /// The session is open (Genesys).
    Opened,
    /// Please close the session (Genesys).
    Disconnect,
    /// The session is closed (Genesys).
    Closed,
    /// Valid, but nothing that the provider acts on.
    Ignored,
}

/// The far end of one stream.
#[derive(Debug, Clone)]
pub enum FarEnd {
    /// Twilio.
    Twilio(twilio::far_end::FarEnd),
    /// Telnyx.
    Telnyx(telnyx::far_end::FarEnd),
    /// Plivo.
    Plivo(plivo::far_end::FarEnd),
    /// Exotel.
    Exotel(exotel::far_end::FarEnd),
    /// Vonage.
    Vonage(vonage::far_end::FarEnd),
    /// Genesys.
    Genesys(genesys::far_end::FarEnd),
}

impl FarEnd {
    /// The far end of a stream that has not started.
    pub fn new(start: Start) -> Self {
        match start.provider {
            Provider::Twilio => Self::Twilio(twilio::far_end::FarEnd::new(start)),
            Provider::Telnyx => Self::Telnyx(telnyx::far_end::FarEnd::new(start)),
            Provider::Plivo => Self::Plivo(plivo::far_end::FarEnd::new(start)),
            Provider::Exotel => Self::Exotel(exotel::far_end::FarEnd::new(start)),
            Provider::Vonage => Self::Vonage(vonage::far_end::FarEnd::new(start)),
            Provider::Genesys => Self::Genesys(genesys::far_end::FarEnd::new(start)),
        }
    }

    /// Everything up to the start of the stream.
    pub fn opening(&mut self) -> Vec<Message> {
        let texts = match self {
            Self::Twilio(far_end) => vec![twilio::far_end::connected(), far_end.start()],
            Self::Telnyx(far_end) => vec![telnyx::far_end::connected(), far_end.start()],
            Self::Plivo(far_end) => vec![far_end.start()],
            Self::Exotel(far_end) => vec![exotel::far_end::connected(), far_end.start()],
            Self::Vonage(far_end) => vec![far_end.connected()],
            Self::Genesys(far_end) => vec![far_end.open()],
        };
        texts.into_iter().map(Message::Text).collect()
    }

    /// A piece of caller audio that begins `timestamp_ms` after the stream did.
    pub fn media(&mut self, timestamp_ms: u64, samples: &[i16]) -> Message {
        let mut bytes = Vec::with_capacity(samples.len() * 2);
        let text = match self {
            Self::Twilio(far_end) => {
                MediaFormat::ULAW_8K.codec.encode(samples, &mut bytes);
                far_end.media(timestamp_ms, &bytes)
            }
            Self::Telnyx(far_end) => {
                far_end.format().codec.encode(samples, &mut bytes);
                far_end.media(timestamp_ms, &bytes)
            }
            Self::Plivo(far_end) => {
                far_end.format().codec.encode(samples, &mut bytes);
                far_end.media(timestamp_ms, &bytes)
            }
            Self::Exotel(far_end) => {
                far_end.format().codec.encode(samples, &mut bytes);
                far_end.media(timestamp_ms, &bytes)
            }
            Self::Vonage(far_end) => {
                far_end.format().codec.encode(samples, &mut bytes);
                return Message::Binary(bytes);
            }
            Self::Genesys(far_end) => return Message::Binary(far_end.audio(samples)),
        };
        Message::Text(text)
    }

    /// The caller pressed a key.
    pub fn dtmf(&mut self, key: char) -> Message {
        Message::Text(match self {
            Self::Twilio(far_end) => far_end.dtmf(key),
            Self::Telnyx(far_end) => far_end.dtmf(key),
            Self::Plivo(far_end) => far_end.dtmf(key),
            Self::Exotel(far_end) => far_end.dtmf(key),
            Self::Vonage(far_end) => far_end.dtmf(key),
            Self::Genesys(far_end) => far_end.dtmf(key),
        })
    }

    /// A mark of the server has been reached; nothing where there are no marks.
    pub fn played(&mut self, name: &str) -> Option<Message> {
        let text = match self {
            Self::Twilio(far_end) => far_end.mark(name),
            Self::Telnyx(far_end) => far_end.mark(name),
            Self::Plivo(far_end) => far_end.played(name),
            Self::Exotel(far_end) => far_end.mark(name),
            Self::Vonage(far_end) => far_end.notify(name),
            Self::Genesys(_) => return None,
        };
        Some(Message::Text(text))
    }

    /// The caller hung up; nothing where the socket's end says so.
    pub fn stop(&mut self) -> Option<Message> {
        let text = match self {
            Self::Twilio(far_end) => far_end.stop(),
            Self::Telnyx(far_end) => far_end.stop(),
            Self::Exotel(far_end) => far_end.stop(),
            Self::Genesys(far_end) => far_end.close("end"),
            Self::Plivo(_) | Self::Vonage(_) => return None,
        };
        Some(Message::Text(text))
    }

    /// Reads one message of a server.
    ///
    /// # Errors
    /// [`WireError`] for what the provider would not accept.
    pub fn read(&mut self, frame: Frame<'_>) -> Result<FromServer, WireError> {
        match (self, frame) {
            (_, Frame::Text(text)) if text.len() > MAX_MESSAGE_BYTES => Err(WireError::Oversized { bytes: text.len() }),
            (Self::Twilio(far_end), Frame::Text(text)) => far_end.read(text),
            (Self::Telnyx(far_end), Frame::Text(text)) => far_end.read(text),
            (Self::Plivo(far_end), Frame::Text(text)) => far_end.read(text),
            (Self::Exotel(far_end), Frame::Text(text)) => far_end.read(text),
            (Self::Vonage(far_end), Frame::Text(text)) => far_end.read(text),
            (Self::Genesys(far_end), Frame::Text(text)) => far_end.read(text),
            (Self::Vonage(far_end), Frame::Binary(bytes)) => {
                far_end.format().codec.decode(bytes).map(FromServer::Media)
            }
            (Self::Genesys(_), Frame::Binary(bytes)) => MediaFormat::ULAW_8K.codec.decode(bytes).map(FromServer::Media),
            (Self::Twilio(_) | Self::Telnyx(_) | Self::Plivo(_) | Self::Exotel(_), Frame::Binary(_)) => {
                Err(WireError::Binary)
            }
        }
    }
}

/// Reads a message that has the shape of Twilio's; `stream` is the name and value of the stream's id, where there is
/// one.
pub(super) fn read_json(
    text: &str,
    stream: Option<(&str, &str)>,
    format: MediaFormat,
) -> Result<FromServer, WireError> {
    let message: Value = serde_json::from_str(text).map_err(WireError::NotJson)?;
    if let Some((name, id)) = stream
        && message.get(name).and_then(Value::as_str) != Some(id)
    {
        return Err(WireError::WrongStream);
    }
    match message.get("event").and_then(Value::as_str).unwrap_or_default() {
        "media" => payload(&message, format),
        "mark" => {
            let name = message
                .get("mark")
                .and_then(|mark| mark.get("name"))
                .and_then(Value::as_str);
            Ok(FromServer::Mark(name.ok_or(missing("mark"))?.to_owned()))
        }
        "clear" => Ok(FromServer::Clear),
        _ => Ok(FromServer::Ignored),
    }
}

/// The audio of a message's `media`.
pub(super) fn payload(message: &Value, format: MediaFormat) -> Result<FromServer, WireError> {
    let payload = message
        .get("media")
        .and_then(|media| media.get("payload"))
        .and_then(Value::as_str);
    let bytes = BASE64
        .decode(payload.ok_or(missing("media"))?)
        .map_err(WireError::NotBase64)?;
    format.codec.decode(&bytes).map(FromServer::Media)
}

pub(super) fn missing(event: &'static str) -> WireError {
    WireError::Missing { event, part: event }
}
