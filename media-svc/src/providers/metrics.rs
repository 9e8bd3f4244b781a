//! What providers measure. All are labelled with provider and model.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prometheus::{HistogramVec, IntCounterVec};
use service_kit::metrics::{counter_vec, histogram_vec};

use super::Labels;

const LABELS: &[&str] = &["provider", "model"];
const ERROR_LABELS: &[&str] = &["provider", "model", "error_type"];

static STT_FIRST_TOKEN: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "stt_time_to_first_token_seconds",
        "From the first audio of an utterance to its first text, interim or final.",
        LABELS,
    )
});
static STT_TRANSCRIPTION: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "stt_transcription_latency_seconds",
        "From the end of an utterance to its final text.",
        LABELS,
    )
});
static STT_ERRORS: LazyLock<IntCounterVec> =
    LazyLock::new(|| counter_vec("stt_errors_total", "Utterances without a transcript.", ERROR_LABELS));
static TTS_FIRST_CHUNK: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "tts_time_to_first_audio_chunk_seconds",
        "From the request for a piece of speech to its first audio.",
        LABELS,
    )
});
static TTS_SYNTHESIS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "tts_synthesis_latency_seconds",
        "From the request for a piece of speech to its last audio.",
        LABELS,
    )
});
static TTS_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "tts_errors_total",
        "Pieces of speech that were not made in full.",
        ERROR_LABELS,
    )
});

static LLM_FIRST_TOKEN: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "llm_time_to_first_token_seconds",
        "From the request for a reply to its first text.",
        LABELS,
    )
});
static LLM_GENERATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "llm_generation_latency_seconds",
        "From the request for a reply to its end.",
        LABELS,
    )
});
static LLM_INTER_TOKEN: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "llm_inter_token_latency_seconds",
        "From one piece of a reply to the next.",
        LABELS,
    )
});
static LLM_ERRORS: LazyLock<IntCounterVec> =
    LazyLock::new(|| counter_vec("llm_errors_total", "Replies that were not made in full.", ERROR_LABELS));
static STT_RETRIES: LazyLock<IntCounterVec> =
    LazyLock::new(|| counter_vec("stt_retries_total", "Recognition requests tried again.", LABELS));
static LLM_RETRIES: LazyLock<IntCounterVec> =
    LazyLock::new(|| counter_vec("llm_retries_total", "Reply requests tried again.", LABELS));
static TTS_RETRIES: LazyLock<IntCounterVec> =
    LazyLock::new(|| counter_vec("tts_retries_total", "Speech requests tried again.", LABELS));

static STT_LAG: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "stt_streaming_lag_seconds",
        "From the newest audio that a piece of interim text covers to that text.",
        LABELS,
    )
});
static TTS_LAG: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "tts_streaming_lag_seconds",
        "How much later than playback needs it a piece of audio arrives; 0 when it is in time.",
        LABELS,
    )
});
static STT_FALLBACKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "stt_fallback_total",
        "Utterances given to the next provider of fallback.stt.",
        LABELS,
    )
});
static LLM_FALLBACKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "llm_fallback_total",
        "Replies asked of the next provider of fallback.llm.",
        LABELS,
    )
});
static TTS_FALLBACKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "tts_fallback_total",
        "Pieces of speech asked of the next provider of fallback.tts.",
        LABELS,
    )
});

/// Makes what the three stages count exist at 0, so that a rate can be taken from the first event on; successes too, which
/// are counted by how long they took: what part of all requests fails is known also where none has ever succeeded.
/// Fallback providers are refused by the configuration of this release: those counters stay there.
pub fn declare(stt: &Labels, llm: &Labels, tts: &Labels) {
    let stages = [
        (stt, &STT_RETRIES, &STT_FALLBACKS, &STT_ERRORS, &STT_TRANSCRIPTION),
        (llm, &LLM_RETRIES, &LLM_FALLBACKS, &LLM_ERRORS, &LLM_GENERATION),
        (tts, &TTS_RETRIES, &TTS_FALLBACKS, &TTS_ERRORS, &TTS_SYNTHESIS),
    ];
    for (labels, retries, fallbacks, errors, successes) in stages {
        let of = [labels.provider, labels.model.as_str()];
        for counter in [retries, fallbacks] {
            counter.with_label_values(&of);
        }
        successes.with_label_values(&of);
        errors.with_label_values(&[labels.provider, labels.model.as_str(), "timeout"]);
    }
}

/// What a provider does in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Recognition.
    Stt,
    /// Replies.
    Llm,
    /// Speech.
    Tts,
}

/// A request failed for good; `kind` is a short fixed word.
pub fn failed(stage: Stage, labels: &Labels, kind: &str) {
    let errors = match stage {
        Stage::Stt => &STT_ERRORS,
        Stage::Llm => &LLM_ERRORS,
        Stage::Tts => &TTS_ERRORS,
    };
    errors
        .with_label_values(&[labels.provider, labels.model.as_str(), kind])
        .inc();
}

/// A request is tried again.
pub fn retried(stage: Stage, labels: &Labels) {
    let retries = match stage {
        Stage::Stt => &STT_RETRIES,
        Stage::Llm => &LLM_RETRIES,
        Stage::Tts => &TTS_RETRIES,
    };
    retries
        .with_label_values(&[labels.provider, labels.model.as_str()])
        .inc();
}

/// First text of a reply, counted from the request.
pub fn llm_first_token(labels: &Labels, after: Duration) {
    observe(&LLM_FIRST_TOKEN, labels, after);
}

/// Another piece of a reply, counted from the one before.
pub fn llm_inter_token(labels: &Labels, after: Duration) {
    observe(&LLM_INTER_TOKEN, labels, after);
}

/// A whole reply, counted from the request.
pub fn llm_generated(labels: &Labels, after: Duration) {
    observe(&LLM_GENERATION, labels, after);
}

/// First text of an utterance, counted from its first audio.
pub fn stt_first_token(labels: &Labels, after: Duration) {
    observe(&STT_FIRST_TOKEN, labels, after);
}

/// Final text of an utterance, counted from its end.
pub fn stt_transcribed(labels: &Labels, after: Duration) {
    observe(&STT_TRANSCRIPTION, labels, after);
}

/// Interim text of an utterance, counted from the newest audio in it.
pub fn stt_lag(labels: &Labels, after: Duration) {
    observe(&STT_LAG, labels, after);
}

/// A piece of speech as it arrives, against the clock of whoever plays it.
pub struct Arriving {
    rate_hz: u32,
    first: Option<Instant>,
    samples: u64,
}

impl Arriving {
    /// Audio of this rate.
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: rate_hz.max(1),
            first: None,
            samples: 0,
        }
    }

    /// So many samples have arrived: those before them have been playing since the first did.
    pub fn arrived(&mut self, labels: &Labels, samples: usize) {
        let playing_for = self.first.get_or_insert_with(Instant::now).elapsed();
        let held = Duration::from_secs_f64(self.samples as f64 / f64::from(self.rate_hz));
        observe(&TTS_LAG, labels, playing_for.saturating_sub(held));
        self.samples += samples as u64;
    }
}

/// First audio of a piece of speech, counted from the request.
pub fn tts_first_chunk(labels: &Labels, after: Duration) {
    observe(&TTS_FIRST_CHUNK, labels, after);
}

/// All audio of a piece of speech, counted from the request.
pub fn tts_synthesised(labels: &Labels, after: Duration) {
    observe(&TTS_SYNTHESIS, labels, after);
}

fn observe(histogram: &HistogramVec, labels: &Labels, after: Duration) {
    histogram
        .with_label_values(&[labels.provider, labels.model.as_str()])
        .observe(after.as_secs_f64());
}
