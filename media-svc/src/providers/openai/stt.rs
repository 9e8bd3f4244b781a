//! Audio transcriptions: one request an utterance; text is streamed by the models that can.
//!
//! <https://platform.openai.com/docs/api-reference/audio/createTranscription>

use std::collections::HashMap;
use std::time::Instant;

use eventsource_stream::Eventsource;
use media_core::audio::{RECOGNITION_RATE_HZ, pcm};
use media_core::conversation::{Input, SttEvent, UtteranceId};
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use service_kit::config::Config;
use service_kit::tasks::AbortOnDrop;
use tokio::sync::mpsc;

use super::client::{OpenAi, OpenAiError, next_piece};
use crate::providers::metrics::Stage;
use crate::providers::{CallContext, Labels, STT_COMMANDS, SpeechToText, SttCommand, metrics};

const DEFAULT_MODEL: &str = "gpt-4o-mini-transcribe";
/// The one model that does not stream its text.
const WHISPER: &str = "whisper-1";

/// A transcription model.
#[derive(Clone)]
pub struct OpenAiStt {
    api: OpenAi,
    labels: Labels,
    language: Option<String>,
}

impl OpenAiStt {
    /// The configured model (`stt_model`) and language (`stt_language`).
    pub fn new(api: OpenAi, config: &Config) -> Self {
        let model = config
            .agent
            .stt_model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        // The API wants ISO 639-1: the first part of a BCP 47 tag.
        let language = config
            .agent
            .stt_language
            .as_deref()
            .and_then(|tag| tag.split('-').next())
            .map(str::to_owned);
        Self {
            api,
            labels: Labels {
                provider: "openai",
                model,
            },
            language,
        }
    }
}

impl SpeechToText for OpenAiStt {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn start(&self, call: CallContext) -> mpsc::Sender<SttCommand> {
        let (sender, commands) = mpsc::channel(STT_COMMANDS);
        let provider = self.clone();
        let tasks = call.tasks.clone();
        tasks.spawn("openai stt", async move {
            let scope = call.tasks.clone();
            tokio::select! {
                () = provider.listen(call, commands) => {}
                () = scope.cancelled() => {}
            }
        });
        sender
    }
}

impl OpenAiStt {
    async fn listen(self, call: CallContext, mut commands: mpsc::Receiver<SttCommand>) {
        let mut audio: HashMap<UtteranceId, Vec<i16>> = HashMap::new();
        let mut requests: HashMap<UtteranceId, AbortOnDrop> = HashMap::new();
        while let Some(command) = commands.recv().await {
            match command {
                SttCommand::Begin(utterance) => {
                    audio.insert(utterance, Vec::new());
                    // Finished requests are let go with the next utterance; there are one or two at most.
                    requests.retain(|_, request| !request.is_finished());
                }
                SttCommand::Audio(utterance, samples) => audio.entry(utterance).or_default().extend(samples),
                SttCommand::End(utterance) => {
                    let samples = audio.remove(&utterance).unwrap_or_default();
                    let (provider, call) = (self.clone(), call.clone());
                    let tasks = call.tasks.clone();
                    let request = tasks.spawn_owned("openai transcription", async move {
                        provider.transcribe(&call, utterance, samples).await;
                    });
                    requests.insert(utterance, request);
                }
                SttCommand::Cancel(utterance) => {
                    audio.remove(&utterance);
                    requests.remove(&utterance);
                }
            }
        }
    }

    async fn transcribe(&self, call: &CallContext, utterance: UtteranceId, samples: Vec<i16>) {
        let event = match self.request(call, utterance, &samples).await {
            Ok(text) => SttEvent::Final(text),
            Err(error) => {
                metrics::failed(Stage::Stt, &self.labels, error.kind());
                SttEvent::Failed(error.to_string())
            }
        };
        // A call that is gone wants no event.
        let _ = call.events.send(Input::Stt(utterance, event)).await;
    }

    async fn request(
        &self,
        call: &CallContext,
        utterance: UtteranceId,
        samples: &[i16],
    ) -> Result<String, OpenAiError> {
        let asked = Instant::now();
        let streams = self.labels.model != WHISPER;
        let wav = wav(samples);
        let form = || {
            let file = Part::bytes(wav.clone()).file_name("utterance.wav");
            let mut form = Form::new().part("file", file).text("model", self.labels.model.clone());
            if let Some(language) = &self.language {
                form = form.text("language", language.clone());
            }
            if streams {
                form = form.text("stream", "true");
            }
            form.text("response_format", "json")
        };
        let fill = |http: reqwest::RequestBuilder| http.multipart(form());
        let response = self
            .api
            .post("/audio/transcriptions", Stage::Stt, &self.labels, fill)
            .await?;
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok());
        // Compatible servers may ignore `stream` and answer one document.
        let text = if content_type.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            self.streamed(call, utterance, response, asked).await?
        } else {
            let whole: Whole = response
                .json()
                .await
                .map_err(|error| OpenAiError::Malformed(format!("no transcript: {error}")))?;
            metrics::stt_first_token(&self.labels, asked.elapsed());
            whole.text
        };
        metrics::stt_transcribed(&self.labels, asked.elapsed());
        Ok(text.trim().to_owned())
    }

    async fn streamed(
        &self,
        call: &CallContext,
        utterance: UtteranceId,
        response: reqwest::Response,
        asked: Instant,
    ) -> Result<String, OpenAiError> {
        let mut events = response.bytes_stream().eventsource();
        let mut text = String::new();
        while let Some(event) = next_piece(&mut events).await {
            let data = event?.data;
            if data == "[DONE]" {
                break;
            }
            let event: Streamed =
                serde_json::from_str(&data).map_err(|error| OpenAiError::Malformed(format!("no event: {error}")))?;
            match event {
                Streamed::Delta { delta } => {
                    if text.is_empty() {
                        metrics::stt_first_token(&self.labels, asked.elapsed());
                    }
                    text.push_str(&delta);
                    let interim = SttEvent::Interim(text.trim().to_owned());
                    if call.events.send(Input::Stt(utterance, interim)).await.is_err() {
                        break;
                    }
                }
                Streamed::Done { text: whole } => return Ok(whole),
                Streamed::Other => {}
            }
        }
        Err(OpenAiError::Malformed("a transcript without an end".to_owned()))
    }
}

#[derive(Deserialize)]
struct Whole {
    text: String,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Streamed {
    #[serde(rename = "transcript.text.delta")]
    Delta { delta: String },
    #[serde(rename = "transcript.text.done")]
    Done { text: String },
    #[serde(other)]
    Other,
}

/// A mono 16-bit WAV file in memory (RIFF, PCM).
fn wav(samples: &[i16]) -> Vec<u8> {
    let data = pcm::to_s16le(samples);
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(44 + data.len());
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(RECOGNITION_RATE_HZ.to_le_bytes());
    file.extend((RECOGNITION_RATE_HZ * 2).to_le_bytes());
    file.extend(2_u16.to_le_bytes());
    file.extend(16_u16.to_le_bytes());
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    file
}
