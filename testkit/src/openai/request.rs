//! What the server was asked.

use std::collections::BTreeMap;
use std::io::Cursor;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use tokio::sync::watch;

use super::Endpoint;

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// What was asked for.
    pub endpoint: Endpoint,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, when that is JSON; else null.
    pub json: Value,
    /// Its form, when it is one.
    pub upload: Option<Upload>,
    outcome: watch::Receiver<Outcome>,
}

/// What became of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is being given.
    Answering,
    /// It was given to its end.
    Finished,
    /// The client closed the connection before its end.
    Abandoned,
}

/// An uploaded recording and the fields beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Upload {
    /// Text fields.
    pub fields: BTreeMap<String, String>,
    /// Name of the file.
    pub file_name: String,
    /// Media type of the file.
    pub content_type: String,
    /// Rate of its WAV.
    pub sample_rate_hz: u32,
    /// Channels of its WAV.
    pub channels: u16,
    /// Its audio.
    pub samples: Vec<i16>,
}

/// Notes what became of the answer, also when the connection is dropped.
pub(super) struct Guard(watch::Sender<Outcome>);

impl Guard {
    pub(super) fn finished(&self) {
        self.0.send_replace(Outcome::Finished);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send_if_modified(|outcome| {
            let left = *outcome == Outcome::Answering;
            if left {
                *outcome = Outcome::Abandoned;
            }
            left
        });
    }
}

impl Request {
    pub(super) fn read(endpoint: Endpoint, headers: HeaderMap, body: &[u8]) -> (Self, Guard) {
        let (sender, outcome) = watch::channel(Outcome::Answering);
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = content_type.and_then(|value| value.strip_prefix("multipart/form-data; boundary="));
        let request = Self {
            endpoint,
            json: serde_json::from_slice(body).unwrap_or_default(),
            upload: boundary.and_then(|boundary| Upload::read(body, boundary.trim_matches('"'))),
            headers,
            outcome,
        };
        (request, Guard(sender))
    }

    /// The value of `Authorization`.
    pub fn authorization(&self) -> Option<&str> {
        self.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())
    }

    /// Waits until the answer was given or the client has gone.
    pub async fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        let settled = outcome.wait_for(|outcome| *outcome != Outcome::Answering).await;
        // The guard tells before it goes.
        settled.map_or(Outcome::Abandoned, |outcome| *outcome)
    }
}

impl Upload {
    /// Reads `multipart/form-data` (RFC 7578) with a WAV in the field `file`; `None` when it is anything else.
    fn read(body: &[u8], boundary: &str) -> Option<Self> {
        let mut upload = Self::default();
        let delimiter = format!("\r\n--{boundary}");
        let mut rest = body.strip_prefix(format!("--{boundary}").as_bytes())?;
        while let Some(part) = rest.strip_prefix(b"\r\n") {
            let end = find(part, delimiter.as_bytes())?;
            let (part, after) = part.split_at(end);
            rest = after.get(delimiter.len()..)?;
            let split = find(part, b"\r\n\r\n")?;
            let (head, content) = (part.get(..split)?, part.get(split + 4..)?);
            upload.take(std::str::from_utf8(head).ok()?, content)?;
        }
        rest.starts_with(b"--").then_some(upload)
    }

    fn take(&mut self, head: &str, content: &[u8]) -> Option<()> {
        let name = parameter(head, "name")?;
        if name != "file" {
            self.fields.insert(name, String::from_utf8(content.to_vec()).ok()?);
            return Some(());
        }
        self.file_name = parameter(head, "filename")?;
        let content_type = head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field
                .eq_ignore_ascii_case("content-type")
                .then(|| value.trim().to_owned())
        });
        self.content_type = content_type.unwrap_or_default();
        let mut wav = hound::WavReader::new(Cursor::new(content)).ok()?;
        self.sample_rate_hz = wav.spec().sample_rate;
        self.channels = wav.spec().channels;
        self.samples = wav.samples().collect::<Result<_, _>>().ok()?;
        Some(())
    }
}

fn parameter(head: &str, name: &str) -> Option<String> {
    let start = head.find(&format!("; {name}=\""))? + name.len() + 4;
    let value = head.get(start..)?;
    value.split('"').next().map(str::to_owned)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
