//! What the server answers, piece by piece.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::body;
use super::gate::Hold;
use super::request::Guard;

/// Rate of `response_format: pcm`.
pub const PCM_RATE_HZ: u32 = 24_000;
/// Bytes of a piece of speech: 100 ms.
const SPEECH_PIECE: usize = PCM_RATE_HZ as usize / 10 * 2;

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pub(super) parts: Vec<Part>,
}

/// A step of an answer.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// One chunk of the body.
    Bytes(Bytes),
    /// Nothing until the test says so.
    Hold(Hold),
    /// The connection is cut.
    Cut,
}

impl Answer {
    /// An empty 200 of a media type.
    pub fn of_type(content_type: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", content_type.to_owned())],
            parts: Vec::new(),
        }
    }

    /// A streamed reply of these texts, as chat completions with `stream` are, with a last chunk of token counts.
    pub fn chat<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::chat_beginning(texts).chat_end("stop")
    }

    /// The beginning of a streamed reply.
    pub fn chat_beginning<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let start = Self::of_type("text/event-stream; charset=utf-8")
            .event(&chunk(json!({"role": "assistant", "content": ""}), None));
        texts.into_iter().fold(start, Self::text)
    }

    /// One more text of a streamed reply.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.event(&chunk(json!({"content": text}), None))
    }

    /// A tool call in pieces: its name first, then its arguments in these parts.
    #[must_use]
    pub fn tool_call(self, index: usize, id: &str, name: &str, arguments: &[&str]) -> Self {
        let first = json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
        let started = self.event(&chunk(json!({"tool_calls": [first]}), None));
        arguments.iter().fold(started, |answer, part| {
            let more = json!({"index": index, "function": {"arguments": part}});
            answer.event(&chunk(json!({"tool_calls": [more]}), None))
        })
    }

    /// The end of a streamed reply: reason, token counts, `[DONE]`.
    #[must_use]
    pub fn chat_end(self, finish_reason: &str) -> Self {
        let usage = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [],
            "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
        });
        self.event(&chunk(json!({}), Some(finish_reason)))
            .event(&usage)
            .raw("data: [DONE]\n\n")
    }

    /// A transcript in one document.
    pub fn transcript(text: &str) -> Self {
        Self::of_type("application/json").raw(json!({"text": text}).to_string())
    }

    /// A transcript in one document that tells when each word was said, in seconds (`verbose_json`).
    pub fn transcript_of_words(text: &str, words: &[(&str, f64, f64)]) -> Self {
        let words = words
            .iter()
            .map(|(word, start, end)| json!({"word": word, "start": start, "end": end}));
        let words: Vec<_> = words.collect();
        let document =
            json!({"task": "transcribe", "language": "english", "duration": 0.0, "text": text, "words": words});
        Self::of_type("application/json").raw(document.to_string())
    }

    /// A transcript as it is recognised, part by part.
    pub fn transcript_stream<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let parts: Vec<_> = parts.into_iter().collect();
        let start = Self::of_type("text/event-stream; charset=utf-8");
        let all = parts.iter().fold(start, |answer, part| answer.transcript_delta(part));
        all.event(&json!({"type": "transcript.text.done", "text": parts.concat()}))
            .raw("data: [DONE]\n\n")
    }

    /// One more part of a streamed transcript.
    #[must_use]
    pub fn transcript_delta(self, part: &str) -> Self {
        self.event(&json!({"type": "transcript.text.delta", "delta": part}))
    }

    /// Speech as raw samples at [`PCM_RATE_HZ`], in chunks of 100 ms.
    pub fn speech(samples: &[i16]) -> Self {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let start = Self::of_type("audio/pcm");
        bytes
            .chunks(SPEECH_PIECE)
            .fold(start, |answer, piece| answer.raw(piece.to_vec()))
    }

    /// An error as the API describes it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"error": {"message": message, "type": code, "param": null, "code": code}});
        Self {
            status,
            ..Self::of_type("application/json").raw(body.to_string())
        }
    }

    /// Never begins.
    pub fn silence() -> Self {
        Self::of_type("application/json").hold(super::Gate::new().hold())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Adds one server-sent event.
    #[must_use]
    pub fn event(self, data: &Value) -> Self {
        self.raw(format!("data: {data}\n\n"))
    }

    /// Adds a chunk of the body as it is.
    #[must_use]
    pub fn raw(mut self, bytes: impl Into<Bytes>) -> Self {
        self.parts.push(Part::Bytes(bytes.into()));
        self
    }

    /// Sends nothing more until the gate is open. Before the first chunk this holds the head of the answer back too.
    #[must_use]
    pub fn hold(mut self, hold: Hold) -> Self {
        self.parts.push(Part::Hold(hold));
        self
    }

    /// Cuts the connection here.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.parts.push(Part::Cut);
        self
    }

    /// The same bytes in chunks of this size.
    #[must_use]
    pub fn in_chunks_of(self, size: usize) -> Self {
        let bytes = self.parts.iter().filter_map(|part| match part {
            Part::Bytes(bytes) => Some(bytes.as_ref()),
            Part::Hold(_) | Part::Cut => None,
        });
        let whole = bytes.collect::<Vec<_>>().concat();
        let parts = whole
            .chunks(size.max(1))
            .map(|chunk| Part::Bytes(chunk.to_vec().into()));
        Self {
            parts: parts.collect(),
            ..self
        }
    }

    /// The same bytes with lines ended as some servers end them: carriage return and line feed.
    #[must_use]
    pub fn with_crlf(mut self) -> Self {
        for part in &mut self.parts {
            if let Part::Bytes(bytes) = part {
                *bytes = String::from_utf8_lossy(bytes).replace('\n', "\r\n").into();
            }
        }
        self
    }

    pub(super) async fn respond(mut self, guard: Guard) -> Response {
        // What is held before the first chunk holds the status line as well.
        while let Some(Part::Hold(hold)) = self.parts.first() {
            hold.wait().await;
            self.parts.remove(0);
        }
        let mut response = Response::new(Body::from_stream(body::stream(self.parts, guard)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        for (name, value) in self.headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// A `chat.completion.chunk`.
fn chunk(delta: Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "scripted",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
    })
}

/// A sine of this frequency at [`PCM_RATE_HZ`].
#[expect(clippy::cast_possible_truncation, reason = "a quarter of full scale")]
pub fn tone(frequency_hz: f64, milliseconds: u32) -> Vec<i16> {
    let step = std::f64::consts::TAU * frequency_hz / f64::from(PCM_RATE_HZ);
    (0..PCM_RATE_HZ / 1_000 * milliseconds)
        .map(|n| ((f64::from(n) * step).sin() * 8_000.0) as i16)
        .collect()
}
