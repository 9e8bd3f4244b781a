//! What providers measure. All are labelled with provider and model.

use std::sync::LazyLock;
use std::time::Duration;

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

/// First text of an utterance, counted from its first audio.
pub fn stt_first_token(labels: &Labels, after: Duration) {
    observe(&STT_FIRST_TOKEN, labels, after);
}

/// Final text of an utterance, counted from its end.
pub fn stt_transcribed(labels: &Labels, after: Duration) {
    observe(&STT_TRANSCRIPTION, labels, after);
}

/// An utterance failed; `kind` is a short fixed word.
pub fn stt_failed(labels: &Labels, kind: &str) {
    STT_ERRORS
        .with_label_values(&[labels.provider, labels.model.as_str(), kind])
        .inc();
}

/// First audio of a piece of speech, counted from the request.
pub fn tts_first_chunk(labels: &Labels, after: Duration) {
    observe(&TTS_FIRST_CHUNK, labels, after);
}

/// All audio of a piece of speech, counted from the request.
pub fn tts_synthesised(labels: &Labels, after: Duration) {
    observe(&TTS_SYNTHESIS, labels, after);
}

/// A piece of speech failed; `kind` is a short fixed word.
pub fn tts_failed(labels: &Labels, kind: &str) {
    TTS_ERRORS
        .with_label_values(&[labels.provider, labels.model.as_str(), kind])
        .inc();
}

fn observe(histogram: &HistogramVec, labels: &Labels, after: Duration) {
    histogram
        .with_label_values(&[labels.provider, labels.model.as_str()])
        .observe(after.as_secs_f64());
}
