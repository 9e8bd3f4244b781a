//! Speech-to-text by the local engine: interim text while the caller speaks, the final text mostly before it is asked
//! for.
//!
//! The model transcribes whole pieces, so interim text is made by transcribing the growing utterance again. As soon as
//! the caller has been silent for [`utterance::TAIL`](crate::speech::utterance::TAIL) the piece is settled, and its
//! transcript is exactly what the final one would be: the same samples through the same deterministic model. When the
//! utterance then ends without further voice, the text is already there.

mod listening;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Aborted, BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use media_core::conversation::{Input, SttEvent, UtteranceId};
use tokio::sync::mpsc;

use crate::providers::{CallContext, Labels, STT_COMMANDS, SpeechToText, SttCommand, metrics};
use crate::speech::{SpeechEngine, SpeechError};
use listening::{Finishing, Listening};

/// The `local` ear: Moonshine tiny (English) on the engine's threads.
#[derive(Clone)]
pub struct LocalStt {
    engine: Arc<SpeechEngine>,
    labels: Labels,
}

impl LocalStt {
    /// Recognition on this engine.
    pub fn new(engine: Arc<SpeechEngine>) -> Self {
        Self {
            engine,
            labels: Labels {
                provider: "local",
                model: "moonshine-tiny-en".to_owned(),
            },
        }
    }
}

impl SpeechToText for LocalStt {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn start(&self, call: CallContext) -> mpsc::Sender<SttCommand> {
        let (sender, commands) = mpsc::channel(STT_COMMANDS);
        let recogniser = Recogniser {
            provider: self.clone(),
            call: call.clone(),
            current: None,
            finishing: FuturesUnordered::new(),
            aborts: HashMap::new(),
        };
        call.tasks.spawn("local-stt", recogniser.run(commands));
        sender
    }
}

/// Recognition of one call.
struct Recogniser {
    provider: LocalStt,
    call: CallContext,
    /// The utterance that audio is coming for.
    current: Option<Listening>,
    /// Utterances that have ended and wait for their final text; as many as the caller makes pauses within 100 ms.
    finishing: FuturesUnordered<BoxFuture<'static, Result<Finished, Aborted>>>,
    aborts: HashMap<UtteranceId, AbortHandle>,
}

/// An utterance that was transcribed to its end, or not.
struct Finished {
    id: UtteranceId,
    began: Instant,
    ended: Instant,
    has_text_already: bool,
    outcome: Result<String, SpeechError>,
}

/// The far end of the call's queue is gone.
struct CallGone;

impl Recogniser {
    /// Until the commands' sender is gone or the call ends.
    async fn run(mut self, mut commands: mpsc::Receiver<SttCommand>) {
        let scope = self.call.tasks.clone();
        loop {
            let interim = async {
                match &mut self.current {
                    Some(listening) => listening.interim().await,
                    None => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                () = scope.cancelled() => return,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                text = interim => self.report_interim(text).await,
                Some(finished) = self.finishing.next(), if !self.finishing.is_empty() => match finished {
                    Ok(finished) => self.report(finished).await,
                    Err(Aborted) => Ok(()),
                },
            };
            if let Err(CallGone) = step {
                return;
            }
        }
    }

    async fn obey(&mut self, command: SttCommand) -> Result<(), CallGone> {
        match command {
            SttCommand::Begin(id) => self.current = Some(Listening::new(id)),
            SttCommand::Audio(id, samples) => {
                if let Some(listening) = self.current.as_mut().filter(|listening| listening.id() == id) {
                    listening.hear(&samples, &self.provider.engine);
                }
            }
            SttCommand::End(id) => match self.current.take() {
                Some(listening) if listening.id() == id => self.finish(listening),
                other => {
                    self.current = other;
                    metrics::failed(metrics::Stage::Stt, &self.provider.labels, "unknown_utterance");
                    let event = SttEvent::Failed("the utterance was never begun".to_owned());
                    self.send(id, event).await?;
                }
            },
            SttCommand::Cancel(id) => {
                if self.current.as_ref().is_some_and(|listening| listening.id() == id) {
                    self.current = None;
                }
                if let Some(abort) = self.aborts.remove(&id) {
                    abort.abort();
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, listening: Listening) {
        let ended = Instant::now();
        let (id, began, has_text_already) = (listening.id(), listening.began(), listening.has_text());
        let finishing = Finishing::new(listening, &self.provider.engine);
        let engine = Arc::clone(&self.provider.engine);
        let (abort, registration) = AbortHandle::new_pair();
        let finished = async move {
            let outcome = match finishing {
                Ok(finishing) => finishing.text(&engine).await,
                Err(error) => Err(error),
            };
            Finished {
                id,
                began,
                ended,
                has_text_already,
                outcome,
            }
        };
        self.aborts.insert(id, abort);
        self.finishing.push(Abortable::new(finished, registration).boxed());
    }

    async fn report(&mut self, finished: Finished) -> Result<(), CallGone> {
        self.aborts.remove(&finished.id);
        let labels = &self.provider.labels;
        let event = match finished.outcome {
            Ok(text) => {
                metrics::stt_transcribed(labels, finished.ended.elapsed());
                if !finished.has_text_already && !text.is_empty() {
                    metrics::stt_first_token(labels, finished.began.elapsed());
                }
                SttEvent::Final(text)
            }
            Err(error) => {
                tracing::warn!(session_id = %self.call.session_id, %error, "an utterance was not transcribed");
                metrics::failed(metrics::Stage::Stt, labels, error.kind());
                SttEvent::Failed(error.to_string())
            }
        };
        self.send(finished.id, event).await
    }

    async fn report_interim(&mut self, interim: Interim) -> Result<(), CallGone> {
        if let Some(after) = interim.first_after {
            metrics::stt_first_token(&self.provider.labels, after);
        }
        if let Some(lag) = interim.lag {
            metrics::stt_lag(&self.provider.labels, lag);
        }
        match interim.text {
            Some(text) => self.send(interim.id, SttEvent::Interim(text)).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, id: UtteranceId, event: SttEvent) -> Result<(), CallGone> {
        self.call.events.send(Input::Stt(id, event)).await.map_err(|_| CallGone)
    }
}

/// Outcome of an interim job.
struct Interim {
    id: UtteranceId,
    /// The text so far when it has changed.
    text: Option<String>,
    /// Set with the first text of the utterance: time since its first audio.
    first_after: Option<Duration>,
    /// Set with text: time since the newest audio in it.
    lag: Option<Duration>,
}
