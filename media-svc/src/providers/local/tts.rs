//! Text-to-speech by the local engine.

use std::sync::Arc;
use std::time::Instant;

use media_core::audio::RECOGNITION_RATE_HZ;
use media_core::audio::resample::Resampler;
use media_core::conversation::{Input, SpeechId, TtsEvent};
use service_kit::tasks::AbortOnDrop;

use crate::providers::{CallContext, Labels, SpeechRequest, TextToSpeech, metrics};
use crate::speech::{SpeechEngine, SpeechError, Voice};

/// Rate that Pico makes.
const PICO_RATE_HZ: u32 = RECOGNITION_RATE_HZ;

/// The `local` voice: SVOX Pico on the engine's threads.
#[derive(Clone)]
pub struct LocalTts {
    engine: Arc<SpeechEngine>,
    voice: Voice,
    labels: Labels,
}

impl LocalTts {
    /// Speaks with one voice.
    pub fn new(engine: Arc<SpeechEngine>, voice: Voice) -> Self {
        let labels = Labels {
            provider: "local",
            model: format!("pico-{}", voice.as_str()),
        };
        Self { engine, voice, labels }
    }
}

/// Why a piece ended before its last word.
enum Stopped {
    /// The call is gone; there is nobody to tell.
    CallGone,
    /// What the call is told, and the label of the metric.
    Failed(String, &'static str),
}

impl TextToSpeech for LocalTts {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn speak(&self, call: CallContext, request: SpeechRequest) -> AbortOnDrop {
        let provider = self.clone();
        let tasks = call.tasks.clone();
        tasks.spawn_owned("local-tts", async move {
            let speech = request.speech;
            let event = match provider.stream(&call, request).await {
                Ok(()) => TtsEvent::Done,
                Err(Stopped::CallGone) => return,
                Err(Stopped::Failed(what, kind)) => {
                    metrics::failed(metrics::Stage::Tts, &provider.labels, kind);
                    TtsEvent::Failed(what)
                }
            };
            // A call that is gone wants no event.
            drop(call.events.send(Input::Tts(speech, event)).await);
        })
    }
}

impl LocalTts {
    async fn stream(&self, call: &CallContext, request: SpeechRequest) -> Result<(), Stopped> {
        let asked = Instant::now();
        let mut resampler = Resampler::new(PICO_RATE_HZ, request.sample_rate_hz)
            .map_err(|error| Stopped::Failed(error.to_string(), "sample_rate"))?;
        let mut stream = self.engine.synthesise(request.text, self.voice)?;
        let mut first = true;
        let mut arriving = metrics::Arriving::new(PICO_RATE_HZ);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if std::mem::take(&mut first) {
                metrics::tts_first_chunk(&self.labels, asked.elapsed());
            }
            arriving.arrived(&self.labels, chunk.len());
            send(call, request.speech, resampler.process(&chunk)).await?;
        }
        send(call, request.speech, resampler.flush()).await?;
        metrics::tts_synthesised(&self.labels, asked.elapsed());
        Ok(())
    }
}

async fn send(call: &CallContext, speech: SpeechId, audio: Vec<i16>) -> Result<(), Stopped> {
    if audio.is_empty() {
        return Ok(());
    }
    call.events
        .send(Input::Tts(speech, TtsEvent::Audio(audio)))
        .await
        .map_err(|_| Stopped::CallGone)
}

impl From<SpeechError> for Stopped {
    fn from(error: SpeechError) -> Self {
        let kind = error.kind();
        Self::Failed(error.to_string(), kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::ModelPaths;
    use service_kit::tasks::TaskScope;
    use tokio::sync::mpsc;

    fn provider() -> LocalTts {
        // Synthesis needs no models; none of these files exists.
        let nowhere = std::path::PathBuf::from("/nonexistent");
        let models = ModelPaths {
            encoder: nowhere.clone(),
            decoder: nowhere.clone(),
            tokenizer: nowhere.clone(),
            onnxruntime: nowhere.clone(),
            sample: nowhere,
        };
        LocalTts::new(Arc::new(SpeechEngine::new(models, 1).unwrap()), Voice::EnGb)
    }

    fn call() -> (CallContext, mpsc::Receiver<Input>) {
        let (events, inbox) = mpsc::channel(16);
        (
            CallContext {
                session_id: "s".into(),
                tasks: TaskScope::root("test"),
                events,
            },
            inbox,
        )
    }

    async fn heard(text: &str, rate: u32) -> (usize, TtsEvent) {
        let (call, mut inbox) = call();
        let request = SpeechRequest {
            speech: SpeechId(7),
            text: text.to_owned(),
            sample_rate_hz: rate,
        };
        let _guard = provider().speak(call, request);
        let mut samples = 0;
        loop {
            match inbox.recv().await.unwrap() {
                Input::Tts(SpeechId(7), TtsEvent::Audio(audio)) => samples += audio.len(),
                Input::Tts(SpeechId(7), end) => return (samples, end),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn speech_comes_at_the_rate_of_the_call_and_ends_once() {
        let (wide, end) = heard("Good morning, how can I help?", 16_000).await;
        assert_eq!(end, TtsEvent::Done);
        assert!(wide > 16_000);
        for rate in [8_000, 24_000, 48_000] {
            let (samples, end) = heard("Good morning, how can I help?", rate).await;
            assert_eq!(end, TtsEvent::Done);
            // Pico does not make a sentence the same length every time; another rate would be off by half or more.
            let expected = wide as f64 * f64::from(rate) / 16_000.0;
            assert!(
                (samples as f64 - expected).abs() < expected * 0.3,
                "{samples} at {rate}, wanted {expected}"
            );
        }
    }

    #[tokio::test]
    async fn text_without_words_is_done_without_audio() {
        assert_eq!(heard("\u{1f600}", 8_000).await, (0, TtsEvent::Done));
    }

    #[tokio::test]
    async fn a_rate_that_cannot_be_made_fails_the_piece() {
        let (samples, end) = heard("Hello.", 0).await;
        assert_eq!(samples, 0);
        assert!(matches!(end, TtsEvent::Failed(_)));
    }

    #[tokio::test]
    async fn dropping_the_guard_ends_the_audio() {
        let (call, mut inbox) = call();
        let text = "one two three four five six seven eight nine ten. ".repeat(50);
        let guard = provider().speak(
            call,
            SpeechRequest {
                speech: SpeechId(1),
                text,
                sample_rate_hz: 8_000,
            },
        );
        inbox.recv().await.unwrap();
        drop(guard);
        while let Some(event) = inbox.recv().await {
            assert!(matches!(event, Input::Tts(_, TtsEvent::Audio(_))), "{event:?}");
        }
    }
}
