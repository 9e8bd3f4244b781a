//! Moonshine tiny (English): an encoder-decoder over raw audio, run by hand on ONNX Runtime.
//!
//! Model and architecture: "Moonshine: Speech Recognition for Live Transcription and Voice Commands"
//! (arXiv 2410.15608). Decoding is greedy; keys and values of past steps are handed from step to step.

mod clean;
mod tokenizer;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::Allocator;
use ort::session::{InMemorySession, Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorRef};

use super::models::ModelPaths;
pub use clean::without_loops;
use tokenizer::Tokenizer;

/// Token every transcript starts from.
const START_TOKEN: i64 = 1;
/// Token that ends a transcript.
const END_TOKEN: i64 = 2;
/// Layers of the decoder, each with keys and values for itself and for the encoder's output.
const LAYERS: usize = 6;
/// Attention heads of a layer.
const HEADS: usize = 8;
/// Width of a head.
const HEAD_WIDTH: usize = 36;
/// Nobody speaks more tokens in a second; a decoder that goes on is looping.
const MAX_TOKENS_PER_SECOND: f32 = 6.5;
/// Allowed even for the shortest clip: "yes." is three tokens.
const MIN_TOKENS: usize = 8;
/// The first convolution needs this much: 64 ms.
const MIN_SAMPLES: usize = 1_024;

/// What can go wrong with the model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source} — `voxray models fetch` repairs the models", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token table is damaged.
    #[error("tokenizer.bin is damaged — `voxray models fetch` repairs the models")]
    Tokenizer,
    /// ONNX Runtime's library does not load.
    #[error("ONNX Runtime does not load from {}: {reason} — `voxray models fetch` repairs the models", path.display())]
    Runtime {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// ONNX Runtime refused a model.
    #[error("{model} does not load: {reason} — `voxray models fetch` repairs the models")]
    Load {
        /// Which model.
        model: &'static str,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// ONNX Runtime failed while running.
    #[error("speech recognition failed: {0}")]
    Run(String),
}

/// The bytes of the models, read once and shared by the sessions of all threads.
pub struct ModelBytes {
    encoder: Vec<u8>,
    decoder: Vec<u8>,
    tokenizer: Tokenizer,
    environment: Environment,
}

impl ModelBytes {
    /// Reads the models and loads ONNX Runtime into the process. Blocks for about 50 ms.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn read(paths: &ModelPaths) -> Result<Self, ModelError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| ModelError::Read {
                path: path.to_path_buf(),
                source,
            })
        };
        Ok(Self {
            encoder: read(&paths.encoder)?,
            decoder: read(&paths.decoder)?,
            tokenizer: Tokenizer::parse(&read(&paths.tokenizer)?)?,
            environment: runtime(&paths.onnxruntime)?,
        })
    }
}

/// The one ONNX Runtime environment of the process, loaded from `library` on first use.
fn runtime(library: &Path) -> Result<Environment, ModelError> {
    static RUNTIME: Mutex<Option<Environment>> = Mutex::new(None);
    let mut slot = RUNTIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(environment) = &*slot {
        return Ok(environment.clone());
    }
    let failed = |reason: String| ModelError::Runtime {
        path: library.to_path_buf(),
        reason,
    };
    let environment = ort::init_from(library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("voxray")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    environment.set_log_level(LogLevel::Error);
    *slot = Some(environment.clone());
    Ok(environment)
}

/// A transcript and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// Text as the model wrote it, with punctuation; loops cut.
    pub text: String,
    /// Geometric mean of the probabilities of its tokens, 0–1: how sure the model was.
    pub confidence: f32,
    /// From the start of decoding to the first token.
    pub first_token: Duration,
    /// Time spent altogether.
    pub took: Duration,
}

/// The sessions of one thread.
pub struct Moonshine<'m> {
    encoder: InMemorySession<'m>,
    decoder: InMemorySession<'m>,
    tokenizer: &'m Tokenizer,
}

impl<'m> Moonshine<'m> {
    /// Makes sessions with one thread each. Blocks for 50–100 ms.
    ///
    /// # Errors
    /// When ONNX Runtime refuses a model.
    pub fn load(bytes: &'m ModelBytes) -> Result<Self, ModelError> {
        Ok(Self {
            encoder: session(&bytes.environment, "encoder_model.ort", &bytes.encoder)?,
            decoder: session(&bytes.environment, "decoder_model_merged.ort", &bytes.decoder)?,
            tokenizer: &bytes.tokenizer,
        })
    }

    /// Transcribes mono 16 kHz audio in −1…1. `stop` is asked before every token; when it says so the work is
    /// abandoned and the answer is `None`.
    ///
    /// # Errors
    /// When ONNX Runtime fails.
    pub fn transcribe(&mut self, audio: &[f32], stop: impl Fn() -> bool) -> Result<Option<Transcript>, ModelError> {
        let started = Instant::now();
        let mut padded = Vec::new();
        let audio = if audio.len() < MIN_SAMPLES {
            padded.extend_from_slice(audio);
            padded.resize(MIN_SAMPLES, 0.0);
            padded.as_slice()
        } else {
            audio
        };
        let seconds = audio.len() as f32 / media_core::audio::RECOGNITION_RATE_HZ as f32;
        let most = ((seconds * MAX_TOKENS_PER_SECOND) as usize).max(MIN_TOKENS);

        let mask = vec![1i64; audio.len()];
        let shape = [1, audio.len()];
        let mut encoded = self.encoder.run(vec![
            named("input_values", view(shape, audio)?),
            named("attention_mask", view(shape, &mask)?),
        ])?;
        let hidden = encoded
            .remove("last_hidden_state")
            .ok_or_else(|| missing("last_hidden_state"))?;

        let mut caches = Caches::empty()?;
        let mut tokens = vec![START_TOKEN];
        let mut first_token = None;
        let mut log_probability = 0.0;
        let mut steps = 0.0;
        while tokens.len() <= most {
            if stop() {
                return Ok(None);
            }
            let last = [*tokens.last().unwrap_or(&START_TOKEN)];
            let begun = [first_token.is_some()];
            let mut inputs = vec![
                named("input_ids", view([1, 1], &last)?),
                named("encoder_hidden_states", &hidden),
                // One entry a sample: the decoder takes every 384th, which is one a frame of the encoder.
                named("encoder_attention_mask", view(shape, &mask)?),
                named("use_cache_branch", view([1], &begun)?),
            ];
            inputs.extend(caches.inputs());
            let mut outputs = self.decoder.run(inputs)?;
            let logits = outputs.remove("logits").ok_or_else(|| missing("logits"))?;
            let (token, probability) = best(logits.try_extract_tensor::<f32>()?.1);
            log_probability += probability.ln();
            steps += 1.0;
            caches = caches.next(|name| outputs.remove(name), first_token.is_none())?;
            first_token.get_or_insert_with(|| started.elapsed());
            if token == END_TOKEN {
                break;
            }
            tokens.push(token);
        }
        Ok(Some(Transcript {
            text: without_loops(&self.tokenizer.decode(tokens.get(1..).unwrap_or_default())),
            confidence: f32::exp(log_probability / f32::max(steps, 1.0)),
            first_token: first_token.unwrap_or_default(),
            took: started.elapsed(),
        }))
    }
}

/// Keys and values of past steps.
struct Caches {
    /// Name, value; those of the encoder are set by the first step and stay.
    values: Vec<(Cow<'static, str>, DynValue)>,
}

impl Caches {
    fn empty() -> Result<Self, ModelError> {
        let allocator = Allocator::default();
        let mut values = Vec::with_capacity(LAYERS * 4);
        for layer in 0..LAYERS {
            for part in ["decoder.key", "decoder.value", "encoder.key", "encoder.value"] {
                let empty = Tensor::<f32>::new(&allocator, [1usize, HEADS, 0, HEAD_WIDTH])?;
                values.push((Cow::Owned(format!("{layer}.{part}")), empty.into_dyn()));
            }
        }
        Ok(Self { values })
    }

    fn inputs(&self) -> impl Iterator<Item = (Cow<'static, str>, SessionInputValue<'_>)> {
        self.values
            .iter()
            .map(|(name, value)| (Cow::Owned(format!("past_key_values.{name}")), value.into()))
    }

    fn next(self, mut take: impl FnMut(String) -> Option<DynValue>, first: bool) -> Result<Self, ModelError> {
        let mut values = Vec::with_capacity(self.values.len());
        for (name, value) in self.values {
            let value = if first || name.contains("decoder") {
                take(format!("present.{name}")).ok_or_else(|| missing(&name))?
            } else {
                value
            };
            values.push((name, value));
        }
        Ok(Self { values })
    }
}

fn session<'m>(env: &Environment, model: &'static str, bytes: &'m [u8]) -> Result<InMemorySession<'m>, ModelError> {
    let failed = |reason: String| ModelError::Load { model, reason };
    Session::builder(env)
        .map_err(|error| failed(error.to_string()))?
        .with_intra_threads(1)
        .map_err(|error| failed(error.to_string()))?
        .with_inter_threads(1)
        .map_err(|error| failed(error.to_string()))?
        .commit_from_memory_directly(bytes)
        .map_err(|error| failed(error.to_string()))
}

fn named<'v>(
    name: &'static str,
    value: impl Into<SessionInputValue<'v>>,
) -> (Cow<'static, str>, SessionInputValue<'v>) {
    (Cow::Borrowed(name), value.into())
}

fn view<'d, T, const N: usize>(shape: [usize; N], data: &'d [T]) -> Result<TensorRef<'d, T>, ModelError>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    Ok(TensorRef::from_array_view((shape, data))?)
}

/// The likeliest token and its probability (softmax).
fn best(logits: &[f32]) -> (i64, f32) {
    let mut best = (END_TOKEN, f32::NEG_INFINITY);
    for (token, &score) in (0i64..).zip(logits) {
        if score > best.1 {
            best = (token, score);
        }
    }
    let all: f32 = logits.iter().map(|score| (score - best.1).exp()).sum();
    (best.0, 1.0 / all.max(1.0))
}

fn missing(name: &str) -> ModelError {
    ModelError::Run(format!("the model has no output {name}"))
}

impl From<ort::Error> for ModelError {
    fn from(error: ort::Error) -> Self {
        Self::Run(error.to_string())
    }
}
