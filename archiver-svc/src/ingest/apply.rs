//! Applying a batch of events: samples to spool files, turns to SQL in one transaction, ended recordings to uploaders.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use service_kit::shutdown::Shutdown;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{Event, SessionEnded};

use super::batch;
use super::nodes::{Delivery, FinishedSessions, Node};
use super::session::{self, Open, Samples, Session, SharedSpool, Stage, Work};
use crate::backoff::Backoff;
use crate::metrics::{self, DUPLICATES, EVENTS_RECEIVED, Kind, SET_ASIDE, Waiting};
use crate::recordings::{self, Finished, Job, Recording, SpoolDir, UploadQueue, chain};
use crate::transcripts::{Batch, TranscriptStore};

/// Everything events are applied with.
pub struct Archive {
    /// Transcript rows; `None` when transcripts are off.
    pub transcripts: Option<Arc<dyn TranscriptStore>>,
    /// Recordings in the making; `None` when recording is off.
    pub spools: Option<Arc<SpoolDir>>,
    /// Recordings waiting for an uploader.
    pub queue: Arc<UploadQueue>,
    /// `recording.base_path`
    pub base_path: String,
    /// Sessions that are durable to their end.
    pub finished: Arc<FinishedSessions>,
    /// When draining, what fails is left to the nodes, which send it again to another archiver.
    pub shutdown: Shutdown,
}

/// Why a batch was not applied to its end. What was not acknowledged is sent again by the node.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Stopped {
    /// This archiver ends.
    #[error("this archiver is shutting down: connect to another one")]
    ShuttingDown,
}

impl Archive {
    /// Applies events of one node in sequence order and acknowledges them.
    pub async fn apply(
        &self,
        node: &Arc<Node>,
        sessions: &mut HashMap<String, Session>,
        batch: Vec<Event>,
    ) -> Result<(), Stopped> {
        for stored in node.take_stored() {
            sessions.remove(&stored);
        }
        let touched = self.arrive(node, sessions, batch);
        let mut work = Work::default();
        for id in &touched {
            let Some(session) = sessions.get_mut(id) else { continue };
            self.look_up_missing(id, session).await;
            if let Err(refusal) = session.advance(id, self.spools.as_ref(), &mut work) {
                tracing::error!(session_id = id, node_id = node.id, %refusal, "session refused; its events stay with the node");
            }
        }
        self.spool(work.audio).await?;
        self.write(batch::of(&self.base_path, work.starts, work.rows, &work.ends))
            .await?;
        for id in &touched {
            if let Some(session) = sessions.get_mut(id) {
                acknowledge(node, &self.finished, id, session);
            }
        }
        for (id, ended) in work.ends {
            self.end(node, sessions, &id, &ended).await?;
        }
        Ok(())
    }

    /// Stores what a dead node left of its recordings. Nobody is told; if the node comes back, it sends all of it
    /// again, and the whole recording replaces this one.
    pub async fn close_dead(&self, node: &Arc<Node>) {
        let sessions = std::mem::take(&mut *node.sessions.lock().await);
        for (id, session) in sessions {
            let Stage::Open(Open {
                started_at,
                recording: Some(spool),
                ..
            }) = session.stage
            else {
                continue;
            };
            let empty = spool.lock().unwrap_or_else(PoisonError::into_inner).pcm_bytes() == 0;
            if empty || self.finished.last(&id).is_some() {
                continue;
            }
            tracing::warn!(
                session_id = id,
                node_id = node.id,
                "node is gone; storing what it sent of this recording"
            );
            if let Ok(file) = self.finish(&spool, 0).await {
                let _ = self
                    .enqueue(self.recording(&id, started_at, &file, false), file, None)
                    .await;
            }
        }
    }

    /// Sorts a batch into its sessions and returns those it touched.
    fn arrive(&self, node: &Node, sessions: &mut HashMap<String, Session>, batch: Vec<Event>) -> Vec<String> {
        let mut touched: Vec<String> = Vec::new();
        for event in batch {
            let Event {
                session_id: id,
                sequence,
                body,
            } = event;
            if !session::is_session_id(&id) || sequence == 0 {
                tracing::error!(
                    node_id = node.id,
                    "an event without a usable session id or sequence is not archived"
                );
                continue;
            }
            let kind = session::kind(body.as_ref());
            EVENTS_RECEIVED.with_label_values(&[kind.label()]).inc();
            if body.is_none() {
                tracing::debug!(
                    session_id = id,
                    node_id = node.id,
                    "an event with nothing in it that this archiver knows; it is passed over"
                );
            }
            if self.is_finished(node, &id, sequence, kind) {
                continue;
            }
            let session = sessions.entry(id.clone()).or_default();
            if matches!(session.stage, Stage::Refused) {
                if sequence != 1 {
                    continue;
                }
                *session = Session::default();
            }
            if session.set_aside && sequence != session.received + 1 {
                // The node keeps it, and is not to wait for more.
                node.acks.received(&id, sequence);
                continue;
            }
            session.set_aside = false;
            if !session.arrive(sequence, body) {
                DUPLICATES.with_label_values(&[kind.label()]).inc();
            }
            if session.waits_for_too_long() {
                let missing = session.received + 1;
                node.acks.received(&id, session.set_aside());
                metrics::bump(&SET_ASIDE);
                tracing::error!(
                    session_id = id,
                    node_id = node.id,
                    missing,
                    "a session is set aside: its node does not send this event, nor anything that could be stored \
                     without it; the rest of the session stays in the node's outbox: check the disk of that node"
                );
            }
            if !touched.contains(&id) {
                touched.push(id);
            }
        }
        touched
    }

    /// Whether an event belongs to a session that is durable to its end; then it is answered.
    fn is_finished(&self, node: &Node, id: &str, sequence: u64, kind: Kind) -> bool {
        let Some(last) = self.finished.last(id) else {
            return false;
        };
        if sequence <= last {
            DUPLICATES.with_label_values(&[kind.label()]).inc();
            node.acks.received(id, last);
            node.acks.durable(id, last);
            return true;
        }
        if kind == Kind::Unknown && sequence == last + 1 {
            self.finished.extend(id, sequence);
            node.acks.received(id, sequence);
            node.acks.durable(id, sequence);
            return true;
        }
        false
    }

    /// A session whose first events never come may have been served by another archiver, which made them durable:
    /// the node has forgotten them. That is so only for sessions without a recording (recorded ones become durable
    /// as a whole), whose events are one start, one event a turn, one end; the proof are the rows of all earlier turns.
    async fn look_up_missing(&self, id: &str, session: &mut Session) {
        let first = match session.pending.first_key_value() {
            Some((first, _)) if session.received == 0 && *first > 1 => *first,
            _ => return,
        };
        let earlier_turns = match session.pending.get(&first) {
            Some(Some(Body::Turn(turn))) => turn.seq,
            Some(Some(Body::Ended(ended))) if is_unrecorded(ended) => ended.turns,
            Some(Some(Body::Ended(_) | Body::Started(_) | Body::Audio(_)) | None) | None => return,
        };
        let Some(store) = &self.transcripts else {
            // Nothing of such a session is kept; only its end proves that it is one.
            let run = session
                .pending
                .iter()
                .zip(first..)
                .take_while(|((at, _), expected)| *at == expected);
            if run
                .into_iter()
                .any(|((_, body), _)| matches!(body, Some(Body::Ended(ended)) if is_unrecorded(ended)))
            {
                session.adopt(first - 1);
            }
            return;
        };
        if earlier_turns == 0 || u64::from(earlier_turns) + 2 != first || session.looked_up == first {
            return;
        }
        let Ok(seq) = i32::try_from(earlier_turns) else { return };
        match metrics::query(store.turns_before(id, seq)).await {
            Ok(turns) if turns == u64::from(earlier_turns) => session.adopt(first - 1),
            Ok(_) => session.looked_up = first,
            // It is looked for again with the next event.
            Err(_) => {}
        }
    }

    async fn spool(&self, audio: Vec<Samples>) -> Result<(), Stopped> {
        if audio.is_empty() {
            return Ok(());
        }
        let audio = Arc::new(audio);
        let mut done = 0;
        let mut backoff = Backoff::default();
        loop {
            let work = Arc::clone(&audio);
            let (written, outcome) = blocking(move || append_all(&work, done)).await;
            done += written;
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.pause(&mut backoff, "cannot write the spool folder", &error)
                        .await?
                }
            }
        }
    }

    async fn write(&self, batch: Batch) -> Result<(), Stopped> {
        let Some(store) = self.transcripts.as_ref().filter(|_| !batch.is_empty()) else {
            return Ok(());
        };
        let _waiting = Waiting::begin();
        let mut backoff = Backoff::default();
        loop {
            match metrics::transaction(store.write(&batch)).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.pause(&mut backoff, "cannot write transcript rows", &error).await?;
                }
            }
        }
    }

    async fn end(
        &self,
        node: &Arc<Node>,
        sessions: &mut HashMap<String, Session>,
        id: &str,
        ended: &SessionEnded,
    ) -> Result<(), Stopped> {
        let Some(session) = sessions.get_mut(id) else {
            return Ok(());
        };
        let Stage::Open(open) = &session.stage else {
            return Ok(());
        };
        let (started_at, counts, damaged) = (open.started_at, open.undurable, open.damaged);
        let last = session.received;
        let delivery = Delivery {
            node: Arc::clone(node),
            session_id: id.to_owned(),
            last,
            counts,
            finished: Arc::clone(&self.finished),
        };
        let Some(spool) = open.recording.clone() else {
            sessions.remove(id);
            delivery.confirm();
            return Ok(());
        };
        let file = self
            .finish(&spool, if damaged { ended.total_frames } else { 0 })
            .await?;
        if damaged {
            tracing::error!(
                session_id = id,
                node_id = node.id,
                "a node has lost audio of a recording: it is stored with silence there, as incomplete; check its disk"
            );
        } else if !matches(&file, ended) {
            metrics::bump(&metrics::JOBS_FAILED);
            tracing::error!(
                session_id = id,
                node_id = node.id,
                frames = file.frames,
                frames_expected = ended.total_frames,
                "a recording is not what the node hashed; it is not stored, and stays with the node"
            );
            session.refuse();
            return Ok(());
        }
        session.stage = Stage::Storing;
        let recording = self.recording(id, started_at, &file, !damaged);
        self.enqueue(recording, file, Some(delivery)).await
    }

    /// Completes a recording, with silence behind it when it is shorter than this.
    async fn finish(&self, spool: &SharedSpool, frames: u64) -> Result<Finished, Stopped> {
        let mut backoff = Backoff::default();
        loop {
            let spool = Arc::clone(spool);
            let finish = move || {
                let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
                spool.silence_to(frames)?;
                spool.finish()
            };
            match blocking(finish).await {
                Ok(file) => return Ok(file),
                Err(error) => {
                    self.pause(&mut backoff, "cannot write the spool folder", &error)
                        .await?
                }
            }
        }
    }

    fn recording(&self, id: &str, started_at: time::OffsetDateTime, file: &Finished, complete: bool) -> Recording {
        Recording {
            key: recordings::object_key(&self.base_path, started_at, id),
            file: file.path().to_owned(),
            bytes: file.bytes,
            pcm_sha256: hex::encode(file.pcm_sha256),
            complete,
        }
    }

    /// Waits for a place in the queue: this is what holds a stream back.
    async fn enqueue(&self, recording: Recording, file: Finished, delivery: Option<Delivery>) -> Result<(), Stopped> {
        let job = Job {
            recording,
            _file: Some(file),
            delivery,
            backoff: Backoff::default(),
            _waiting: Waiting::begin(),
        };
        tokio::select! {
            biased;
            () = self.queue.push(job) => Ok(()),
            () = self.shutdown.draining() => Err(Stopped::ShuttingDown),
        }
    }

    async fn pause(
        &self,
        backoff: &mut Backoff,
        what: &'static str,
        error: &(dyn std::error::Error + Send + Sync),
    ) -> Result<(), Stopped> {
        let wait = backoff.next_wait();
        // The first failure and then about one a minute: an outage is seen and does not fill the disk.
        if backoff.failures() % 16 == 1 {
            tracing::warn!(
                error = chain(error),
                failures = backoff.failures(),
                "{what}; trying until it works"
            );
        }
        let draining = async { tokio::time::timeout(wait, self.shutdown.draining()).await.is_ok() };
        if draining.await {
            Err(Stopped::ShuttingDown)
        } else {
            Ok(())
        }
    }
}

/// Acknowledges what has been applied. `received` always; `durable` as far as rows make it so. A start alone is not
/// stored anywhere, so it waits for the first thing that is.
fn acknowledge(node: &Node, finished: &FinishedSessions, id: &str, session: &mut Session) {
    if session.received == 0 {
        return;
    }
    node.acks.received(id, session.received);
    if session.went_on_behind_its_end && finished.extend(id, session.received) {
        node.acks.durable(id, session.received);
    }
    if let Stage::Open(open) = &mut session.stage
        && open.recording.is_none()
        && session.received > 1
    {
        std::mem::take(&mut open.undurable).are_durable();
        session.durable = session.received;
    }
    if session.durable > 0 {
        node.acks.durable(id, session.durable);
    }
}

fn is_unrecorded(ended: &SessionEnded) -> bool {
    ended.total_frames == 0 && ended.pcm_sha256.is_empty()
}

fn matches(file: &Finished, ended: &SessionEnded) -> bool {
    let nothing = file.frames == 0 && ended.pcm_sha256.is_empty();
    file.frames == ended.total_frames && (nothing || ended.pcm_sha256 == file.pcm_sha256)
}

fn append_all(audio: &[Samples], skip: usize) -> (usize, io::Result<()>) {
    let mut written = 0;
    for samples in audio.iter().skip(skip) {
        let mut spool = samples.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = samples.behind_loss.map_or(Ok(()), |frame| spool.silence_to(frame));
        if let Err(error) = silence.and_then(|()| spool.append(&samples.pcm)) {
            return (written, Err(error));
        }
        written += 1;
    }
    (written, Ok(()))
}

/// Runs blocking work; a panic in it is passed on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going down: nothing after this point runs.
        Err(_) => std::future::pending().await,
    }
}

/// How often dead nodes are looked for and the lag is published.
pub const HOUSEKEEPING: Duration = Duration::from_secs(1);
