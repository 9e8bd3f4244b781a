//! Speech: raw PCM at 24 kHz, played while it arrives.
//!
//! <https://platform.openai.com/docs/api-reference/audio/createSpeech>

use std::time::Instant;

use media_core::audio::pcm;
use media_core::audio::resample::Resampler;
use media_core::conversation::{Input, TtsEvent};
use serde_json::json;
use service_kit::config::Config;
use service_kit::tasks::AbortOnDrop;

use super::client::OpenAi;
use super::error::OpenAiError;
use crate::providers::metrics::Stage;
use crate::providers::{CallContext, Labels, SpeechRequest, TextToSpeech, metrics};

const DEFAULT_MODEL: &str = "gpt-4o-mini-tts";
const DEFAULT_VOICE: &str = "alloy";
/// Rate of `response_format: pcm`.
const PCM_RATE_HZ: u32 = 24_000;

/// A speech model and a voice.
#[derive(Clone)]
pub struct OpenAiTts {
    api: OpenAi,
    labels: Labels,
    voice: String,
}

impl OpenAiTts {
    /// The configured model (`tts_model`) and voice (`tts_voice`).
    pub fn new(api: OpenAi, config: &Config) -> Self {
        let model = config
            .agent
            .tts_model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        let voice = config
            .agent
            .tts_voice
            .clone()
            .unwrap_or_else(|| DEFAULT_VOICE.to_owned());
        Self {
            api,
            labels: Labels {
                provider: "openai",
                model,
            },
            voice,
        }
    }
}

impl TextToSpeech for OpenAiTts {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn speak(&self, call: CallContext, request: SpeechRequest) -> AbortOnDrop {
        let provider = self.clone();
        let tasks = call.tasks.clone();
        tasks.spawn_owned("openai tts", async move {
            let speech = request.speech;
            let last = match provider.stream(&call, request).await {
                Ok(()) => TtsEvent::Done,
                Err(error) => {
                    metrics::failed(Stage::Tts, &provider.labels, error.kind());
                    TtsEvent::Failed(error.to_string())
                }
            };
            // A call that is gone wants no event.
            let _ = call.events.send(Input::Tts(speech, last)).await;
        })
    }
}

impl OpenAiTts {
    async fn stream(&self, call: &CallContext, request: SpeechRequest) -> Result<(), OpenAiError> {
        let asked = Instant::now();
        let mut resampler = Resampler::new(PCM_RATE_HZ, request.sample_rate_hz)
            .map_err(|error| OpenAiError::Malformed(error.to_string()))?;
        let body = json!({
            "model": self.labels.model,
            "voice": self.voice,
            "input": request.text,
            "response_format": "pcm",
        });
        let mut answer = self
            .api
            .post("/audio/speech", Stage::Tts, &self.labels, |http| http.json(&body))
            .await?;
        let content_type = answer.content_type();
        if !may_be_pcm(&content_type) {
            let what = format!("{content_type} where raw PCM was asked for: it does not support response_format pcm");
            return Err(OpenAiError::Malformed(what));
        }
        // A sample may be cut in two between pieces.
        let mut bytes = Vec::new();
        let mut first = true;
        let mut arriving = metrics::Arriving::new(PCM_RATE_HZ);
        while let Some(piece) = answer.piece().await? {
            bytes.extend_from_slice(&piece);
            let odd = bytes.len() % 2;
            let rest = bytes.split_off(bytes.len() - odd);
            let whole = std::mem::replace(&mut bytes, rest);
            let samples = pcm::from_s16le(&whole).map_err(|error| OpenAiError::Malformed(error.to_string()))?;
            if samples.is_empty() {
                continue;
            }
            if std::mem::take(&mut first) {
                metrics::tts_first_chunk(&self.labels, asked.elapsed());
            }
            arriving.arrived(&self.labels, samples.len());
            let audio = TtsEvent::Audio(resampler.process(&samples));
            if call.events.send(Input::Tts(request.speech, audio)).await.is_err() {
                return Ok(());
            }
        }
        if first {
            return Err(OpenAiError::Malformed("no audio".to_owned()));
        }
        let tail = resampler.flush();
        if !tail.is_empty()
            && call
                .events
                .send(Input::Tts(request.speech, TtsEvent::Audio(tail)))
                .await
                .is_err()
        {
            return Ok(());
        }
        metrics::tts_synthesised(&self.labels, asked.elapsed());
        Ok(())
    }
}

/// Servers label raw samples in several ways; text and packaged audio, played as samples, would be noise.
fn may_be_pcm(content_type: &str) -> bool {
    match content_type.split_once('/') {
        None => true,
        Some(("audio", format)) => matches!(format, "pcm" | "l16" | "x-pcm" | "raw" | "x-raw"),
        Some((_, kind)) => kind == "octet-stream" || kind == "binary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_samples_is_played() {
        for kind in ["", "audio/pcm", "audio/l16", "application/octet-stream"] {
            assert!(may_be_pcm(kind), "{kind}");
        }
        for kind in ["audio/mpeg", "audio/wav", "application/json", "text/html"] {
            assert!(!may_be_pcm(kind), "{kind}");
        }
    }
}
