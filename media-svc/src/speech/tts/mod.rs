//! Local synthesis: a few threads with Pico voices that all calls share.

mod pico;
mod text;
mod voice;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::engine::SpeechError;
use pico::{Ended, Pico};
pub use voice::{UnknownVoice, Voice};

/// Segments that may wait, over all calls. When full, synthesis is seconds behind: further texts fail with
/// [`SpeechError::Busy`].
const SEGMENTS: usize = 256;
/// Chunks (64 ms each) between a thread and its call: 65 s, more than any segment takes. When full anyway the call has
/// stalled: the thread waits [`STALLED`] and then gives the segment up with [`SpeechError::Slow`], as it serves others.
const CHUNKS: usize = 1_024;
/// How long a thread waits for a call that takes no audio.
const STALLED: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One segment to speak.
struct Job {
    text: String,
    voice: Voice,
    audio: mpsc::Sender<Result<Vec<i16>, SpeechError>>,
}

/// The synthesis threads.
pub struct Synthesis {
    jobs: Option<std::sync::mpsc::SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Synthesis {
    /// Starts the threads; a voice loads on a thread when it is first asked for.
    pub fn new(threads: usize) -> Result<Self, SpeechError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(SEGMENTS);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut synthesis = Self {
            jobs: Some(sender),
            threads: Vec::with_capacity(threads),
        };
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new()
                .name(format!("tts-{number}"))
                .spawn(move || run(&receiver))
                .map_err(|error| SpeechError::Thread(Arc::new(error)))?;
            synthesis.threads.push(thread);
        }
        Ok(synthesis)
    }

    /// Queues the first segment of a text.
    pub fn speak(&self, text: String, voice: Voice) -> Result<SpeechStream, SpeechError> {
        let jobs = self.jobs.clone().ok_or(SpeechError::Stopped)?;
        let segments = text::segments(&text::speakable(&text));
        let mut stream = SpeechStream {
            jobs,
            voice,
            segments: segments.into_iter(),
            audio: None,
        };
        stream.next_segment()?;
        Ok(stream)
    }
}

impl Drop for Synthesis {
    fn drop(&mut self) {
        // Streams hold senders of their own: a thread ends when the last of them is gone, and nobody waits for it.
        self.jobs = None;
        self.threads.clear();
    }
}

/// Audio of one text while it is made. Dropping it stops the synthesis at the next chunk.
pub struct SpeechStream {
    jobs: std::sync::mpsc::SyncSender<Job>,
    voice: Voice,
    segments: std::vec::IntoIter<String>,
    audio: Option<mpsc::Receiver<Result<Vec<i16>, SpeechError>>>,
}

impl SpeechStream {
    /// The next chunk, mono 16 kHz, at most 64 ms; `None` when all is said. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Vec<i16>, SpeechError>> {
        loop {
            let audio = self.audio.as_mut()?;
            match audio.recv().await {
                Some(Ok(chunk)) => return Some(Ok(chunk)),
                Some(Err(error)) => {
                    self.audio = None;
                    return Some(Err(error));
                }
                None => {
                    if let Err(error) = self.next_segment() {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    fn next_segment(&mut self) -> Result<(), SpeechError> {
        self.audio = None;
        let Some(text) = self.segments.next() else {
            return Ok(());
        };
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let job = Job {
            text,
            voice: self.voice,
            audio: sender,
        };
        self.jobs.try_send(job).map_err(|error| match error {
            std::sync::mpsc::TrySendError::Full(_) => SpeechError::Busy,
            std::sync::mpsc::TrySendError::Disconnected(_) => SpeechError::Stopped,
        })?;
        self.audio = Some(receiver);
        Ok(())
    }
}

/// Serves segments until every sender is gone.
fn run(jobs: &Mutex<std::sync::mpsc::Receiver<Job>>) {
    let mut voices: HashMap<Voice, Pico> = HashMap::new();
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return;
        };
        if job.audio.is_closed() {
            continue;
        }
        // Taken out: only a voice that has said everything goes back, any other is loaded afresh.
        let loaded = voices.remove(&job.voice);
        let outcome = catch_unwind(AssertUnwindSafe(|| speak(loaded, &job)));
        match outcome.unwrap_or(Err(SpeechError::Panicked)) {
            Ok(Some(voice)) => {
                voices.insert(job.voice, voice);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, voice = job.voice.as_str(), "speech synthesis failed");
                // The call may be gone.
                drop(job.audio.try_send(Err(error)));
            }
        }
    }
}

/// Speaks one segment and gives the voice back when it can be used again.
fn speak(loaded: Option<Pico>, job: &Job) -> Result<Option<Pico>, SpeechError> {
    let mut pico = match loaded {
        Some(pico) => pico,
        None => Pico::load(job.voice).map_err(SpeechError::Synthesis)?,
    };
    let mut slow = false;
    let ended = pico
        .speak(&job.text, |chunk| match hand_over(&job.audio, chunk) {
            HandedOver::Taken => true,
            HandedOver::Gone => false,
            HandedOver::Stalled => {
                slow = true;
                false
            }
        })
        .map_err(SpeechError::Synthesis)?;
    match ended {
        Ended::Complete => Ok(Some(pico)),
        Ended::Early if slow => Err(SpeechError::Slow),
        Ended::Early => Ok(None),
    }
}

enum HandedOver {
    Taken,
    Gone,
    Stalled,
}

fn hand_over(audio: &mpsc::Sender<Result<Vec<i16>, SpeechError>>, chunk: Vec<i16>) -> HandedOver {
    let started = Instant::now();
    let mut chunk = Ok(chunk);
    loop {
        match audio.try_send(chunk) {
            Ok(()) => return HandedOver::Taken,
            Err(TrySendError::Closed(_)) => return HandedOver::Gone,
            Err(TrySendError::Full(_)) if started.elapsed() > STALLED => return HandedOver::Stalled,
            Err(TrySendError::Full(back)) => {
                chunk = back;
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}

#[cfg(test)]
mod tests;
