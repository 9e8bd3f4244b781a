//! Audio transcriptions: one request an utterance; text is streamed by the models that can.
//!
//! <https://platform.openai.com/docs/api-reference/audio/createTranscription>

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use media_core::conversation::{Input, SttEvent, UtteranceId, Word};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;
use service_kit::config::Config;
use service_kit::exit::{self, Fatal};
use service_kit::tasks::AbortOnDrop;
use tokio::sync::mpsc;

use super::answer::Answer;
use super::client::{OpenAi, patience};
use super::error::{OpenAiError, Problem};
use super::upload::{Upload, longest_utterance};
use crate::providers::metrics::Stage;
use crate::providers::{CallContext, Labels, STT_COMMANDS, SpeechToText, SttCommand, metrics};

const DEFAULT_MODEL: &str = "gpt-4o-mini-transcribe";
/// Models of this family do not stream their text, wherever they run.
const WHISPER: &str = "whisper";

/// A transcription model.
#[derive(Clone)]
pub struct OpenAiStt {
    api: OpenAi,
    labels: Labels,
    language: Option<String>,
    /// Whether it is of use when each word was said, and the model can tell.
    words: bool,
}

/// The utterance that audio arrives for. There is one at a time: the next `Begin` takes its place.
struct Open {
    utterance: UtteranceId,
    began: Instant,
    upload: Upload,
}

/// An utterance on its way to the provider.
struct Spoken {
    utterance: UtteranceId,
    began: Instant,
    ended: Instant,
}

impl OpenAiStt {
    /// The configured model (`stt_model`) and language (`stt_language`).
    ///
    /// # Errors
    /// Turns may get longer than one upload may be.
    pub fn new(api: OpenAi, config: &Config) -> Result<Self, Fatal> {
        let longest = longest_utterance().as_secs_f64();
        if config.turn.max_duration_secs > longest {
            let what = format!(
                "turn_max_duration_secs is {}, but stt_provider openai takes at most {longest} s at once",
                config.turn.max_duration_secs
            );
            return Err(Fatal::new(exit::CONFIG, what, "set turn_max_duration_secs lower"));
        }
        let model = config
            .agent
            .stt_model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        // The others know one format, without times.
        let tells_words = model.to_ascii_lowercase().contains(WHISPER);
        Ok(Self {
            api,
            words: tells_words && config.recording.enable && config.recording.mute_redacted,
            labels: Labels {
                provider: "openai",
                model,
            },
            language: config.agent.stt_language.as_deref().and_then(language),
        })
    }
}

/// The API wants ISO 639-1: the first part of a BCP 47 tag.
fn language(tag: &str) -> Option<String> {
    let first = tag.split(['-', '_']).next()?.trim();
    (!first.is_empty()).then(|| first.to_ascii_lowercase())
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
        let mut open: Option<Open> = None;
        let mut requests: HashMap<UtteranceId, AbortOnDrop> = HashMap::new();
        while let Some(command) = commands.recv().await {
            match command {
                SttCommand::Begin(utterance) => {
                    open = Some(Open {
                        utterance,
                        began: Instant::now(),
                        upload: Upload::default(),
                    });
                    // Finished requests are let go with the next utterance; there are one or two at most.
                    requests.retain(|_, request| !request.is_finished());
                }
                SttCommand::Audio(utterance, samples) => {
                    if let Some(open) = open.as_mut().filter(|open| open.utterance == utterance) {
                        open.upload.push(&samples);
                    }
                }
                SttCommand::End(utterance) => {
                    let Some(ended) = open.take_if(|open| open.utterance == utterance) else {
                        let unknown = SttEvent::Failed("the beginning of the utterance is missing".to_owned());
                        // A call that is gone wants no event.
                        let _ = call.events.send(Input::Stt(utterance, unknown)).await;
                        continue;
                    };
                    let (provider, call) = (self.clone(), call.clone());
                    let tasks = call.tasks.clone();
                    let request = tasks.spawn_owned("openai transcription", async move {
                        provider.transcribe(&call, ended).await;
                    });
                    requests.insert(utterance, request);
                }
                SttCommand::Cancel(utterance) => {
                    open.take_if(|open| open.utterance == utterance);
                    requests.remove(&utterance);
                }
            }
        }
    }

    async fn transcribe(&self, call: &CallContext, open: Open) {
        let utterance = open.utterance;
        let spoken = Spoken {
            utterance,
            began: open.began,
            ended: Instant::now(),
        };
        // The conversation waits for the end of the transcript, not for its next piece.
        let limit = patience(Stage::Stt);
        let text = tokio::time::timeout(limit, self.request(call, &spoken, open.upload)).await;
        let event = match text.unwrap_or(Err(OpenAiError::TimedOut(limit))) {
            Ok(Transcript { text, words }) => {
                metrics::stt_transcribed(&self.labels, spoken.ended.elapsed());
                if let Some(words) = words {
                    // The next event says whether the call is gone.
                    let _ = call.events.send(Input::Stt(utterance, SttEvent::Words(words))).await;
                }
                SttEvent::Final(text.trim().to_owned())
            }
            Err(error) => {
                metrics::failed(Stage::Stt, &self.labels, error.kind());
                SttEvent::Failed(error.to_string())
            }
        };
        // A call that is gone wants no event.
        let _ = call.events.send(Input::Stt(utterance, event)).await;
    }

    async fn request(&self, call: &CallContext, spoken: &Spoken, upload: Upload) -> Result<Transcript, OpenAiError> {
        if upload.is_too_short() {
            return Ok(Transcript::default());
        }
        let file = upload.into_wav()?;
        let form = || {
            // Attempts share the bytes.
            let length = file.len() as u64;
            let wav = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("audio/wav"))]);
            let part = Part::stream_with_length(Body::from(file.clone()), length);
            let mut form = Form::new()
                .part("file", part.file_name("utterance.wav").headers(wav))
                .text("model", self.labels.model.clone())
                .text("response_format", if self.words { "verbose_json" } else { "json" });
            if self.words {
                form = form.text("timestamp_granularities[]", "word");
            }
            if let Some(language) = &self.language {
                form = form.text("language", language.clone());
            }
            if !self.labels.model.to_ascii_lowercase().contains(WHISPER) {
                form = form.text("stream", "true");
            }
            form
        };
        let fill = |http: RequestBuilder| http.multipart(form());
        let answer = self
            .api
            .post("/audio/transcriptions", Stage::Stt, &self.labels, fill)
            .await?;
        // Compatible servers may ignore `stream` and answer one document.
        if answer.content_type() == "text/event-stream" {
            let text = self.streamed(call, spoken, answer).await?;
            return Ok(Transcript { text, words: None });
        }
        let whole: Whole = serde_json::from_slice(&answer.whole().await?)
            .map_err(|error| OpenAiError::Malformed(format!("no transcript: {error}")))?;
        if !whole.text.trim().is_empty() {
            metrics::stt_first_token(&self.labels, spoken.began.elapsed());
        }
        // A transcript is one, also where its words are not what was asked for.
        let words = whole.words.filter(|_| self.words);
        let words = words.and_then(|words| serde_json::from_value::<Vec<SpokenWord>>(words).ok());
        Ok(Transcript {
            text: whole.text,
            words: words.and_then(|words| words.into_iter().map(SpokenWord::checked).collect()),
        })
    }

    async fn streamed(&self, call: &CallContext, spoken: &Spoken, answer: Answer) -> Result<String, OpenAiError> {
        let mut events = answer.events();
        let mut text = String::new();
        while let Some(event) = events.next().await {
            let data = event?;
            if data.trim() == "[DONE]" {
                break;
            }
            let event: Streamed =
                serde_json::from_str(&data).map_err(|error| OpenAiError::Malformed(format!("no event: {error}")))?;
            if let Some(error) = event.error {
                return Err(OpenAiError::Reported(Problem::described(&error).message));
            }
            match (event.kind.as_deref(), event.delta, event.text) {
                (Some("transcript.text.delta"), Some(delta), _) => {
                    if text.is_empty() {
                        metrics::stt_first_token(&self.labels, spoken.began.elapsed());
                    }
                    // All of the utterance was uploaded before the first text.
                    metrics::stt_lag(&self.labels, spoken.ended.elapsed());
                    text.push_str(&delta);
                    let interim = SttEvent::Interim(text.trim().to_owned());
                    if call.events.send(Input::Stt(spoken.utterance, interim)).await.is_err() {
                        return Ok(text);
                    }
                }
                (Some("transcript.text.done"), _, Some(whole)) => {
                    if text.is_empty() && !whole.trim().is_empty() {
                        metrics::stt_first_token(&self.labels, spoken.began.elapsed());
                    }
                    return Ok(whole);
                }
                // Events of later versions of the API.
                (_, _, _) => {}
            }
        }
        Err(OpenAiError::Malformed("a transcript without an end".to_owned()))
    }
}

/// What was understood.
#[derive(Default)]
struct Transcript {
    text: String,
    words: Option<Vec<Word>>,
}

/// `json`, or with words `verbose_json`.
#[derive(Deserialize)]
struct Whole {
    text: String,
    words: Option<Value>,
}

/// Times are in seconds from the beginning of the upload.
#[derive(Deserialize)]
struct SpokenWord {
    word: String,
    start: f64,
    end: f64,
}

impl SpokenWord {
    /// `None` when these are no times.
    fn checked(self) -> Option<Word> {
        Some(Word {
            text: self.word,
            from: Duration::try_from_secs_f64(self.start).ok()?,
            to: Duration::try_from_secs_f64(self.end).ok()?,
        })
    }
}

#[derive(Deserialize)]
struct Streamed {
    #[serde(rename = "type")]
    kind: Option<String>,
    delta: Option<String>,
    text: Option<String>,
    error: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_tag_is_told_by_its_first_part() {
        for tag in ["en", "en-US", "EN_gb", " en-Latn-US"] {
            assert_eq!(language(tag).as_deref(), Some("en"), "{tag}");
        }
        assert_eq!(language(""), None);
    }
}
