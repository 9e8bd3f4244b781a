//! Applying a batch of events: samples to files in the making, turns to the queue of their rows, ended recordings and
//! whole parts to uploaders.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use service_kit::shutdown::Shutdown;
use service_kit::trace::{Parent, Side, Span};
use voxray_proto::archive::{Event, SessionEnded};

use super::entry::Entry;
use super::ledger::Ledger;
use super::nodes::{Delivery, Fate, FinishedSessions, Node};
use super::session::{self, Samples, Session, Stage, Work};
use crate::backoff::Backoff;
use crate::metrics::{self, DUPLICATES, EVENTS_RECEIVED, Kind, SET_ASIDE};
use crate::recordings::{End, Finished, HEADER_BYTES, Job, Live, Recordings, Task, UploadQueue, chain};
use crate::register::Register;
use crate::transcripts::TranscriptStore;

/// Everything events are applied with.
pub struct Archive {
    /// Transcript rows; `None` when transcripts are off.
    pub transcripts: Option<Arc<dyn TranscriptStore>>,
    /// Recordings; `None` when recording is off.
    pub recordings: Option<Recordings>,
    /// Where what is stored is noted.
    pub register: Register,
    /// Recordings waiting for an uploader.
    pub queue: Arc<UploadQueue>,
    /// Names this archiver among all that use the same store.
    pub id: String,
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
    /// The node has connected again.
    #[error("another stream of this node has taken over")]
    TakenOver,
    /// The stream has reached its age.
    #[error("this stream is old: connect again, here or to another archiver")]
    Old,
    /// Something that arrived is no good.
    #[error("something of a session was damaged on its way to the store: send again what is not durable")]
    SendAgain,
}

impl Archive {
    /// Applies events of one node in sequence order and acknowledges them.
    pub async fn apply(
        &self,
        node: &Arc<Node>,
        sessions: &mut HashMap<String, Session>,
        batch: Vec<Event>,
    ) -> Result<(), Stopped> {
        for (id, fate) in node.take_fates() {
            match fate {
                Fate::Stored | Fate::BeginsAgain => drop(sessions.remove(&id)),
                Fate::Refused => {
                    if let Some(session) = sessions.get_mut(&id) {
                        session.refuse();
                    }
                }
            }
        }
        let touched = self.arrive(node, sessions, batch);
        let mut work = Work::default();
        for id in &touched {
            let Some(session) = sessions.get_mut(id) else { continue };
            self.look_up_missing(node, id, session, &mut work).await?;
            let is_new = matches!(session.stage, Stage::AwaitingStart);
            if let Err(refusal) = session.advance(id, self.recordings.as_ref(), &mut work) {
                node.drop_ledger(id);
                tracing::error!(session_id = id, node_id = node.id, %refusal, "session refused; its events stay with the node");
            } else if let (true, Stage::Open(open)) = (is_new, &session.stage) {
                let trace = Span::within("archive", Side::Server, &Parent::from_traceparent(&open.traceparent));
                trace.set("voxray.session_id", id.clone());
                let ledger = Ledger::resumed(0, open.recording.is_some().then_some(0));
                node.open_ledger(id, ledger.traced(trace));
            }
        }
        let growing = self.spool(node, work.audio).await?;
        self.acknowledge(node, sessions, &touched, &work.entries);
        if self.transcripts.is_some() {
            for (sequence, entry) in work.entries {
                self.unless_given_up(node, node.rows.push(sequence, entry)).await?;
            }
        }
        for (live, id) in growing {
            if live.wants_uploader() {
                self.enqueue(&live, Task::Parts, node, id).await?;
            }
        }
        for (id, ended) in work.ends {
            self.end(node, sessions, &id, &ended).await?;
        }
        Ok(())
    }

    /// Sorts a batch into its sessions and returns those it touched.
    fn arrive(&self, node: &Node, sessions: &mut HashMap<String, Session>, batch: Vec<Event>) -> Vec<String> {
        let mut touched: Vec<String> = Vec::new();
        let (stream, mut was_elsewhere) = (node.acks.stream(), false);
        for event in batch {
            let Event {
                session_id: id,
                sequence,
                body,
                durable,
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
            session.stream = stream;
            let follows_elsewhere = session.follows_elsewhere(sequence, durable);
            was_elsewhere |= follows_elsewhere;
            if session.set_aside && sequence != session.received + 1 && !follows_elsewhere {
                // The node keeps it, and is not to wait for more.
                node.acks.received(&id, sequence);
                continue;
            }
            session.set_aside = false;
            session.claimed = session.claimed.max(durable);
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
        if was_elsewhere {
            forget_what_is_older(node, sessions, stream);
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

    /// Answers that events have arrived, and notes which of their rows are still to be written.
    fn acknowledge(
        &self,
        node: &Node,
        sessions: &HashMap<String, Session>,
        touched: &[String],
        entries: &[(u64, Entry)],
    ) {
        for id in touched {
            let Some(session) = sessions.get(id).filter(|session| session.received > 0) else {
                continue;
            };
            node.acks.received(id, session.received);
            let written = self.transcripts.is_some();
            let entries = entries.iter().filter(|(_, entry)| written && entry.session_id() == id);
            node.settle(id, |ledger| {
                ledger.applied(session.received, entries.map(|(sequence, _)| *sequence));
            });
        }
    }

    /// Appends samples, and returns the recordings that have grown.
    async fn spool(&self, node: &Node, audio: Vec<Samples>) -> Result<Vec<(Arc<Live>, String)>, Stopped> {
        let mut growing: Vec<(Arc<Live>, String)> = Vec::new();
        for samples in &audio {
            if !growing.iter().any(|(live, _)| Arc::ptr_eq(live, &samples.live)) {
                growing.push((Arc::clone(&samples.live), samples.live.facts.session_id.clone()));
            }
        }
        if audio.is_empty() {
            return Ok(growing);
        }
        let audio = Arc::new(audio);
        let mut done = 0;
        let mut backoff = Backoff::default();
        loop {
            let work = Arc::clone(&audio);
            let (written, outcome) = blocking(move || append_all(&work, done)).await;
            done += written;
            match outcome {
                Ok(()) => return Ok(growing),
                Err(error) => {
                    self.pause(node, &mut backoff, "cannot write the spool folder", &error)
                        .await?
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
        let (counts, damaged) = (open.counts, open.damaged);
        if open
            .noted_bytes
            .is_some_and(|bytes| !is_length(bytes, ended.total_frames))
        {
            tracing::error!(
                session_id = id,
                node_id = node.id,
                stored_bytes = open.noted_bytes,
                frames_expected = ended.total_frames,
                "the recording that is stored of a session is not all of it; what is missing of it stays with its node"
            );
            session.refuse();
            node.drop_ledger(id);
            return Ok(());
        }
        let Some(live) = open.recording.clone() else {
            session.stage = Stage::Storing;
            node.settle(id, |ledger| {
                ledger.count(counts);
                ledger.ended();
            });
            return Ok(());
        };
        // A node that was cut off cannot hash what it has sent away already; it knows how long it was.
        let is_hashed = !ended.pcm_sha256.is_empty() || ended.total_frames == 0;
        let fill = if damaged || !is_hashed { ended.total_frames } else { 0 };
        let sequence = session.received;
        let before = live.assembly().pcm_bytes();
        let file = self.finish(&live, sequence, fill, || self.given_up(node)).await?;
        let filled = live.assembly().pcm_bytes() != before;
        if damaged || filled {
            tracing::error!(
                session_id = id,
                node_id = node.id,
                "a node has lost audio of a recording: it is stored with silence there, as incomplete; check its disk"
            );
        } else if is_hashed && !matches(&file, ended) {
            metrics::bump(&metrics::JOBS_FAILED);
            tracing::error!(
                session_id = id,
                node_id = node.id,
                frames = file.frames,
                frames_expected = ended.total_frames,
                "a recording is not what the node hashed; it is not stored, and the node is asked to send it again"
            );
            // The stream that brought it ends behind this batch.
            node.begin_again(id);
            return Ok(());
        }
        live.assembly().count(counts);
        session.stage = Stage::Storing;
        let end = End {
            file,
            last: Some(sequence),
            complete: !damaged && !filled,
        };
        self.enqueue(&live, Task::Finish(end), node, id.to_owned()).await
    }

    /// Completes a recording, with silence behind it when it is shorter than this. What fails is tried until `stop`.
    pub(super) async fn finish<F: Future<Output = ()>>(
        &self,
        live: &Arc<Live>,
        sequence: u64,
        frames: u64,
        stop: impl Fn() -> F,
    ) -> Result<Finished, Stopped> {
        let mut backoff = Backoff::default();
        loop {
            let live = Arc::clone(live);
            let finish = move || {
                let mut assembly = live.assembly();
                assembly.silence_to(sequence, frames)?;
                assembly.finish()
            };
            match blocking(finish).await {
                Ok(file) => return Ok(file),
                Err(error) => {
                    self.pause_until(stop(), &mut backoff, "cannot write the spool folder", &error)
                        .await?
                }
            }
        }
    }

    /// Waits for a place in the queue: this is what holds a stream back.
    async fn enqueue(&self, live: &Arc<Live>, task: Task, node: &Arc<Node>, session_id: String) -> Result<(), Stopped> {
        let job = Job::new(Arc::clone(live), task, Some(Delivery::new(node, session_id)));
        self.unless_given_up(node, self.queue.push(job)).await
    }

    async fn unless_given_up(&self, node: &Node, waits: impl Future<Output = ()>) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = waits => Ok(()),
            () = self.given_up(node) => Err(Stopped::ShuttingDown),
        }
    }

    /// Resolves when nothing is waited for any more in the name of a node. Draining is enough where it sends again to another
    /// archiver; what a node sent that is gone is nowhere else, and only being hurried ends the work on it.
    pub(super) async fn given_up(&self, node: &Node) {
        self.shutdown.draining().await;
        if node.is_gone() {
            self.shutdown.hurried().await;
        }
    }

    /// Waits before something is tried again in the name of a node.
    pub(super) async fn pause(
        &self,
        node: &Node,
        backoff: &mut Backoff,
        what: &'static str,
        error: &(dyn std::error::Error + Send + Sync),
    ) -> Result<(), Stopped> {
        self.pause_until(self.given_up(node), backoff, what, error).await
    }

    /// [`pause`](Self::pause), ended by something else.
    pub(super) async fn pause_until(
        &self,
        stop: impl Future<Output = ()>,
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
        match tokio::time::timeout(wait, stop).await {
            Ok(()) => Err(Stopped::ShuttingDown),
            Err(_) => Ok(()),
        }
    }
}

/// The node was with another archiver before this stream: of what it has not brought again, it may have brought the end
/// there. What it does bring later comes from the first event that is not durable, as to an archiver that has just started.
fn forget_what_is_older(node: &Node, sessions: &mut HashMap<String, Session>, stream: u64) {
    sessions.retain(|id, session| {
        let is_kept = session.stream == stream || matches!(session.stage, Stage::Storing | Stage::Refused);
        if !is_kept {
            node.drop_ledger(id);
        }
        is_kept
    });
}

fn matches(file: &Finished, ended: &SessionEnded) -> bool {
    let nothing = file.frames == 0 && ended.pcm_sha256.is_empty();
    file.frames == ended.total_frames && (nothing || ended.pcm_sha256 == file.pcm_sha256)
}

/// Whether a WAV file of this length holds so many frames, of one channel or two.
fn is_length(bytes: u64, frames: u64) -> bool {
    let samples = bytes.saturating_sub(HEADER_BYTES as u64);
    [2, 4]
        .map(|frame_bytes| frames.saturating_mul(frame_bytes))
        .contains(&samples)
}

fn append_all(audio: &[Samples], skip: usize) -> (usize, io::Result<()>) {
    let mut written = 0;
    for samples in audio.iter().skip(skip) {
        let mut assembly = samples.live.assembly();
        if samples.damaged {
            assembly.mark_damaged();
        }
        let behind_loss = samples.behind_loss;
        let silence = behind_loss.map_or(Ok(()), |frame| assembly.silence_to(samples.sequence, frame));
        let appended = silence.and_then(|()| assembly.append(samples.sequence, samples.counts, &samples.pcm));
        if let Err(error) = appended {
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
