//! The speech engine of a process: recognition and synthesis threads that all calls share.
//!
//! Threads are plain threads, not async workers: one decode takes 50–200 ms. Every thread has its own sessions, so
//! nothing is locked while it works; models load when the first job comes, and an idle process stays small.

mod queue;
mod worker;

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::models::ModelPaths;
use super::moonshine::ModelError;
pub use super::tts::SpeechStream;
use super::tts::{Synthesis, Voice};
use super::utterance::Utterance;
use queue::{Job, Queue};
use worker::Models;

/// What the engine reports.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpeechError {
    /// The models do not load or do not run.
    #[error("{0}")]
    Model(#[source] Arc<ModelError>),
    /// Synthesis failed.
    #[error("speech synthesis failed: {0}")]
    Synthesis(String),
    /// More work waits than the machine can do in time.
    #[error("all speech threads are busy; allow fewer calls on this node, or give it more cores (speech_threads)")]
    Busy,
    /// The job was cancelled, or made way for a more urgent one.
    #[error("the speech job was cancelled")]
    Cancelled,
    /// The listener did not take the audio.
    #[error("the call did not take its audio in time")]
    Slow,
    /// A bug in a speech library; the thread starts over.
    #[error("a speech thread failed and was restarted")]
    Panicked,
    /// A thread cannot be started.
    #[error("a speech thread cannot be started: {0}")]
    Thread(#[source] Arc<std::io::Error>),
    /// The engine is shutting down.
    #[error("the speech engine has stopped")]
    Stopped,
}

impl SpeechError {
    pub(super) fn model(error: ModelError) -> Self {
        Self::Model(Arc::new(error))
    }

    /// Label of the `*_errors_total` metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Model(_) => "model",
            Self::Synthesis(_) => "synthesis",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::Slow => "slow",
            Self::Panicked => "panic",
            Self::Thread(_) => "thread",
            Self::Stopped => "stopped",
        }
    }
}

/// How urgent a recognition job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The caller has stopped and waits: first in, first out.
    Final,
    /// Text while the caller speaks: only on a free thread, abandoned when a final job needs it.
    Interim,
}

/// What was said in one piece of audio.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    /// Text with punctuation; may be empty.
    pub text: String,
    /// How sure the model was, 0–1.
    pub confidence: f32,
    /// From the start of decoding to the first token.
    pub first_token: Duration,
    /// Time the thread worked on it.
    pub took: Duration,
}

/// A recognition job. Dropping it cancels the job.
#[derive(Debug)]
pub struct Ticket {
    reply: oneshot::Receiver<Result<Recognised, SpeechError>>,
    cancelled: Arc<AtomicBool>,
}

impl Ticket {
    /// Waits for the answer. Cancel-safe: may be called again when it was dropped before it resolved.
    ///
    /// # Errors
    /// Why there is no text.
    pub async fn wait(&mut self) -> Result<Recognised, SpeechError> {
        (&mut self.reply).await.unwrap_or(Err(SpeechError::Stopped))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Recognition and synthesis for all calls of the process.
pub struct SpeechEngine {
    queue: Arc<Queue>,
    synthesis: Synthesis,
    threads: Vec<JoinHandle<()>>,
}

impl SpeechEngine {
    /// Starts the threads; no model is loaded before the first job. `threads` is `media.speech_threads`: the number
    /// of recognition threads, 0 = one a core. Half as many (at least one) synthesise, which costs a fraction.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(models: ModelPaths, threads: usize) -> Result<Self, SpeechError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            given => given,
        };
        let queue = Arc::new(Queue::new(threads));
        let models = Arc::new(Models::new(models));
        let mut engine = Self {
            queue: Arc::clone(&queue),
            synthesis: Synthesis::new(threads.div_ceil(2))?,
            threads: Vec::with_capacity(threads),
        };
        for number in 0..threads {
            let (queue, models) = (Arc::clone(&queue), Arc::clone(&models));
            let thread = std::thread::Builder::new()
                .name(format!("stt-{number}"))
                .spawn(move || worker::run(&queue, &models))
                .map_err(|error| SpeechError::Thread(Arc::new(error)))?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }

    /// Loads models and a voice so that the first caller does not wait for it: about 0.2 s for every thread, all at
    /// once.
    ///
    /// # Errors
    /// When the models are damaged.
    pub async fn warm_up(&self, voice: Voice) -> Result<(), SpeechError> {
        // As many jobs as threads; each takes long enough (loading) that every thread gets one.
        let silence = vec![0; media_core::audio::RECOGNITION_RATE_HZ as usize / 4];
        let tickets: Vec<_> = (0..self.queue.workers())
            .map(|_| self.recognise(silence.clone(), Priority::Final))
            .collect::<Result<_, _>>()?;
        for mut ticket in tickets {
            ticket.wait().await?;
        }
        let mut speech = self.synthesise("Hello.".to_owned(), voice)?;
        while let Some(chunk) = speech.next().await {
            chunk?;
        }
        Ok(())
    }

    /// Transcribes one piece of mono 16 kHz audio as it is: at most [`utterance::MAX_PIECE`](super::utterance::MAX_PIECE)
    /// of speech without much silence around it, as [`Utterance`] cuts it.
    ///
    /// # Errors
    /// [`SpeechError::Busy`] when the queue is full, or no thread is free for an interim job.
    pub fn recognise(&self, audio: Vec<i16>, priority: Priority) -> Result<Ticket, SpeechError> {
        let (sender, reply) = oneshot::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        self.queue.push(Job {
            audio,
            cancelled: Arc::clone(&cancelled),
            reply: sender,
            priority,
        })?;
        Ok(Ticket { reply, cancelled })
    }

    /// Transcribes a whole recording, mono 16 kHz, of any length and with any silence in it. Empty when nobody
    /// speaks.
    ///
    /// # Errors
    /// As [`recognise`](Self::recognise).
    pub async fn transcribe(&self, audio: &[i16]) -> Result<String, SpeechError> {
        let mut utterance = Utterance::new();
        utterance.push(audio);
        let mut texts = Vec::new();
        for piece in utterance.pieces(true) {
            let mut ticket = self.recognise(utterance.audio(&piece).to_vec(), Priority::Final)?;
            texts.push(piece.credible(&ticket.wait().await?));
        }
        Ok(super::utterance::join(&texts))
    }

    /// Speaks a piece of text. Audio is mono 16 kHz and comes in chunks while it is made.
    ///
    /// # Errors
    /// [`SpeechError::Busy`] when too many pieces wait.
    pub fn synthesise(&self, text: String, voice: Voice) -> Result<SpeechStream, SpeechError> {
        self.synthesis.speak(text, voice)
    }

    /// Recognition jobs that wait for a thread.
    pub fn queue_depth(&self) -> usize {
        self.queue.depth()
    }
}

impl Drop for SpeechEngine {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked was reported where it happened.
            drop(thread.join());
        }
    }
}
