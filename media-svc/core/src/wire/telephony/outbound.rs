//! Writes to one stream, whoever's it is.
//!
//! Every call sends fifty frames a second this way: what never changes of an audio message is built once, and a message
//! is one allocation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Answer, Goodbye, MediaFormat, Message, Provider, Start};
use crate::wire::{exotel, genesys, plivo, telnyx, twilio, vonage};

/// The sending side of one stream.
#[derive(Debug)]
pub struct Outbound {
    provider: Provider,
    stream_id: String,
    format: MediaFormat,
    /// Audio messages up to their base64, of providers that speak JSON.
    head: String,
    message_samples: usize,
    /// Audio that does not fill a message yet.
    held: Vec<i16>,
    /// Marks behind audio that is held.
    marks: Vec<String>,
    /// Reused from frame to frame.
    bytes: Vec<u8>,
    genesys: genesys::Counters,
}

impl Outbound {
    /// For the stream that has started like this.
    pub fn new(start: &Start) -> Self {
        let head = match start.provider {
            Provider::Twilio => twilio::media_head(&start.stream_id),
            Provider::Telnyx => telnyx::media_head(),
            Provider::Plivo => plivo::media_head(&start.stream_id, start.format),
            Provider::Exotel => exotel::media_head(&start.stream_id),
            Provider::Vonage | Provider::Genesys => String::new(),
        };
        Self {
            provider: start.provider,
            stream_id: start.stream_id.clone(),
            format: start.format,
            head,
            message_samples: start.format.samples(start.provider.message_ms()),
            held: Vec::new(),
            marks: Vec::new(),
            bytes: Vec::new(),
            genesys: genesys::Counters::default(),
        }
    }

    /// Audio at the stream's rate. It goes out at once, or with what follows where the provider wants longer messages.
    pub fn audio(&mut self, samples: &[i16], out: &mut Vec<Message>) {
        if self.held.is_empty() && samples.len() >= self.message_samples {
            let message = self.audio_message(samples);
            out.push(message);
            return;
        }
        self.held.extend_from_slice(samples);
        if self.held.len() >= self.message_samples {
            self.send_held(out);
        }
    }

    /// Asks to be told when everything before it has been played; nothing where the provider cannot.
    pub fn mark(&mut self, name: &str, out: &mut Vec<Message>) {
        if self.held.is_empty() {
            out.extend(self.mark_message(name));
        } else {
            self.marks.push(name.to_owned());
        }
    }

    /// Makes the provider drop what it has not played.
    pub fn clear(&mut self, out: &mut Vec<Message>) {
        self.held.clear();
        self.marks.clear();
        out.push(Message::Text(match self.provider {
            Provider::Twilio => twilio::clear_message(&self.stream_id),
            Provider::Telnyx => telnyx::clear_message(),
            Provider::Plivo => plivo::clear_message(&self.stream_id),
            Provider::Exotel => exotel::clear_message(&self.stream_id),
            Provider::Vonage => vonage::clear_message(),
            Provider::Genesys => genesys::barge_in(&mut self.genesys, &self.stream_id),
        }));
    }

    /// Whether audio waits for more of it: [`flush`](Self::flush) when none comes.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sends what is held. Exotel gets silence up to a whole message: shorter ones break up, says its documentation.
    pub fn flush(&mut self, out: &mut Vec<Message>) {
        if self.held.is_empty() {
            return;
        }
        match self.provider {
            Provider::Exotel => self.held.resize(self.message_samples.max(self.held.len()), 0),
            Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Vonage | Provider::Genesys => {}
        }
        self.send_held(out);
    }

    /// Answers a message; nothing where the provider's messages have no answers.
    pub fn answer(&mut self, answer: Answer, out: &mut Vec<Message>) {
        match self.provider {
            Provider::Genesys => {
                let text = genesys::answer(&mut self.genesys, &self.stream_id, answer);
                out.push(Message::Text(text));
            }
            Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Exotel | Provider::Vonage => {}
        }
    }

    /// Takes leave, where the protocol has a word for it; true when the provider then closes the stream itself.
    pub fn goodbye(&mut self, goodbye: Goodbye<'_>, out: &mut Vec<Message>) -> bool {
        match self.provider {
            Provider::Genesys => {
                let text = genesys::disconnect(&mut self.genesys, &self.stream_id, goodbye);
                out.push(Message::Text(text));
                true
            }
            Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Exotel | Provider::Vonage => false,
        }
    }

    fn send_held(&mut self, out: &mut Vec<Message>) {
        let mut held = std::mem::take(&mut self.held);
        let message = self.audio_message(&held);
        out.push(message);
        held.clear();
        self.held = held;
        for name in std::mem::take(&mut self.marks) {
            out.extend(self.mark_message(&name));
        }
    }

    fn audio_message(&mut self, samples: &[i16]) -> Message {
        match self.provider {
            Provider::Vonage | Provider::Genesys => {
                let mut bytes = Vec::with_capacity(samples.len() * 2);
                self.format.codec.encode(samples, &mut bytes);
                Message::Binary(bytes)
            }
            Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Exotel => {
                self.bytes.clear();
                self.format.codec.encode(samples, &mut self.bytes);
                let mut json = String::with_capacity(self.head.len() + self.bytes.len().div_ceil(3) * 4 + 3);
                json.push_str(&self.head);
                BASE64.encode_string(&self.bytes, &mut json);
                json.push_str(r#""}}"#);
                Message::Text(json)
            }
        }
    }

    fn mark_message(&self, name: &str) -> Option<Message> {
        let id = self.stream_id.as_str();
        match self.provider {
            Provider::Twilio => Some(twilio::mark_message(id, name)),
            Provider::Telnyx => Some(telnyx::mark_message(name)),
            Provider::Plivo => Some(plivo::checkpoint_message(id, name)),
            Provider::Exotel => Some(exotel::mark_message(id, name)),
            Provider::Vonage => Some(vonage::notify_message(name)),
            Provider::Genesys => None,
        }
        .map(Message::Text)
    }
}
