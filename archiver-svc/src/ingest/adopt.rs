//! Sessions that another archiver began: what it has made durable the node has forgotten, so they go on in the middle.

use std::sync::Arc;

use super::apply::{Archive, Stopped};
use super::entry::{Entry, Recorded};
use super::ledger::Ledger;
use super::nodes::Node;
use super::session::{Open, Session, Stage, Work};
use crate::backoff::Backoff;
use crate::metrics::{self, KindCounts};
use crate::recordings::{End, Job, Live, Manifest, ObjectError, Recordings, Task, chain};
use crate::transcripts::SessionRow;

/// Why a session without a manifest has no audio that is wanted.
enum Unwanted {
    /// It was erased.
    Erased,
    /// All of its recording is stored, with this length, if SQL is right: its manifest has been cleared up since.
    Stored(u64),
}

impl Unwanted {
    fn of(known: &SessionRow) -> Option<Self> {
        if known.erased {
            return Some(Self::Erased);
        }
        known.ended_at.and(known.recording_bytes).map(Self::Stored)
    }
}

impl Archive {
    /// Finds out where a session goes on of which another archiver has made durable what does not come here: for a recorded
    /// one the store says it, for others the node. While the store is away this holds the node's stream back.
    pub(super) async fn look_up_missing(
        &self,
        node: &Node,
        id: &str,
        session: &mut Session,
        work: &mut Work,
    ) -> Result<(), Stopped> {
        self.look_up_point(node, id, session, work).await?;
        self.look_up_audio(node, id, session).await
    }

    async fn look_up_point(
        &self,
        node: &Node,
        id: &str,
        session: &mut Session,
        work: &mut Work,
    ) -> Result<(), Stopped> {
        let first = match session.pending.first_key_value() {
            Some((first, _)) if *first > session.received + 1 => *first,
            _ => return Ok(()),
        };
        let is_elsewhere = match session.stage {
            Stage::AwaitingStart => session.received == 0,
            // The node was there in between, and has come back.
            Stage::Open(_) => session.claimed + 1 >= first,
            Stage::Storing | Stage::Refused => false,
        };
        if !is_elsewhere || session.looked_up == first {
            return Ok(());
        }
        session.looked_up = first;
        if let Some(recordings) = &self.recordings
            && let Some((manifest, etag)) = self.manifest(node, recordings, id).await?
        {
            self.resume(node, id, session, work, recordings, (manifest, etag));
        } else if session.claimed + 1 >= first && (!session.is_recorded() || self.unwanted(node, id).await?.is_some()) {
            session.adopt(first, go_on(None, 0, false));
            node.open_ledger(id, Ledger::resumed(first - 1, None));
        }
        Ok(())
    }

    /// Finds out about audio of a session that goes on without a recording: none of it may be wanted.
    async fn look_up_audio(&self, node: &Node, id: &str, session: &mut Session) -> Result<(), Stopped> {
        let Some(first) = session.unexpected_audio() else {
            return Ok(());
        };
        match self.unwanted(node, id).await? {
            Some(Unwanted::Erased) => session.pass_audio_by(None),
            Some(Unwanted::Stored(bytes)) => {
                session.pass_audio_by(Some(bytes));
                node.settle(id, |ledger| ledger.audio_waits_from(first));
            }
            None => {}
        }
        Ok(())
    }

    /// Why no audio is wanted of a session that has no manifest. While the database is away this holds the node's stream back.
    async fn unwanted(&self, node: &Node, id: &str) -> Result<Option<Unwanted>, Stopped> {
        let Some(transcripts) = &self.transcripts else {
            return Ok(None);
        };
        let mut backoff = Backoff::default();
        loop {
            let error = match metrics::query(transcripts.session(id)).await {
                Ok(known) => return Ok(known.as_ref().and_then(Unwanted::of)),
                Err(error) => error,
            };
            let what = "cannot ask the database about a session";
            self.pause(node, &mut backoff, what, &error).await?;
        }
    }

    fn resume(
        &self,
        node: &Node,
        id: &str,
        session: &mut Session,
        work: &mut Work,
        recordings: &Recordings,
        (manifest, etag): (Manifest, String),
    ) {
        let first = session.looked_up;
        if let (Some(last), Some(object)) = (manifest.ended(), &manifest.object) {
            // All audio is stored; acknowledgements were lost, and perhaps rows, and the note of where it is. It goes
            // the way of the rows: nothing more is acknowledged before it is written.
            let note = Entry::Recorded(Recorded {
                session_id: id.to_owned(),
                key: manifest.key.clone(),
                bytes: object.bytes,
                completes: None,
            });
            work.entries.push((first, note));
            session.adopt(first, go_on(None, last, false));
            node.open_ledger(id, Ledger::resumed(first - 1, None));
            return;
        }
        let (durable, damaged) = (manifest.point.sequence, manifest.point.damaged);
        if durable < first - 1 {
            tracing::error!(
                session_id = id,
                node_id = node.id,
                durable,
                first,
                "a node goes on with a recording behind what is stored of it; its events stay with the node: do all \
                 archivers use the same bucket and recording.base_path?"
            );
            return;
        }
        let Some(live) = recordings.resume(manifest, etag) else {
            tracing::error!(
                session_id = id,
                "the manifest of a recording makes no sense; its events stay with the node"
            );
            return;
        };
        tracing::info!(
            session_id = id,
            node_id = node.id,
            durable,
            "going on with a recording that another archiver began"
        );
        session.adopt(first, go_on(Some(live), durable, damaged));
        node.open_ledger(id, Ledger::resumed(first - 1, Some(durable)));
    }

    async fn manifest(
        &self,
        node: &Node,
        recordings: &Recordings,
        id: &str,
    ) -> Result<Option<(Manifest, String)>, Stopped> {
        let mut backoff = Backoff::default();
        loop {
            match recordings.store.manifest(id).await {
                Ok(found) => return Ok(found),
                Err(error @ ObjectError::Manifest { .. }) => {
                    tracing::error!(session_id = id, error = chain(&error), "a recording cannot go on");
                    return Ok(None);
                }
                Err(error) => {
                    let what = "cannot ask the object store about a recording";
                    self.pause(node, &mut backoff, what, &error).await?
                }
            }
        }
    }

    /// Says in the store that this archiver has the stream of a node now, until it is said or the archiver drains.
    pub async fn claim(&self, node_id: &str) {
        let Some(recordings) = &self.recordings else { return };
        let mut backoff = Backoff::default();
        while let Err(error) = recordings.store.claim_node(node_id, &self.id).await {
            let what = "cannot note in the object store who serves a node";
            let waited = self.pause_until(self.shutdown.draining(), &mut backoff, what, &error);
            if waited.await.is_err() {
                return;
            }
        }
    }

    /// Stores what a dead node left of its recordings. Nobody is told; if the node comes back, it goes on behind what
    /// is durable, and the whole recording replaces this one. Draining does not end this, since nobody else may have it; being
    /// hurried does.
    pub async fn close_dead(&self, node: &Arc<Node>) {
        node.rows.close();
        let sessions = std::mem::take(&mut *node.sessions.lock().await);
        let mut recordings = sessions.into_iter().filter_map(|(id, session)| match session.stage {
            Stage::Open(open) => Some((id, session.received, open.recording?)),
            Stage::AwaitingStart | Stage::Storing | Stage::Refused => None,
        });
        let Some(first) = recordings.next() else { return };
        match self.has_moved(&node.id).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(
                    node_id = node.id,
                    "node went to another archiver, and its sessions with it"
                );
                return;
            }
            Err(stopped) => {
                tracing::error!(node_id = node.id, %stopped, "what a node that is gone sent of its recordings is not stored");
                return;
            }
        }
        for (id, received, live) in std::iter::once(first).chain(recordings) {
            if self.finished.last(&id).is_some() {
                continue;
            }
            metrics::bump(&metrics::LEFT_OPEN);
            if live.assembly().pcm_bytes() == 0 {
                continue;
            }
            tracing::warn!(
                session_id = id,
                node_id = node.id,
                "node is gone; storing what it sent of this recording"
            );
            if self.close(&live, received).await.is_err() {
                tracing::error!(
                    session_id = id,
                    node_id = node.id,
                    "shutting down without what this node sent of a recording and is not stored yet: there was no time left"
                );
            }
        }
    }

    /// Ends a recording of which no more comes, and leaves it to an uploader; tried until this archiver is hurried.
    async fn close(&self, live: &Arc<Live>, received: u64) -> Result<(), Stopped> {
        let file = self.finish(live, received + 1, 0, || self.shutdown.hurried()).await?;
        let end = End {
            file,
            last: None,
            complete: false,
        };
        tokio::select! {
            () = self.queue.push(Job::new(Arc::clone(live), Task::Finish(end), None)) => Ok(()),
            () = self.shutdown.hurried() => Err(Stopped::ShuttingDown),
        }
    }

    async fn has_moved(&self, node_id: &str) -> Result<bool, Stopped> {
        let Some(recordings) = &self.recordings else {
            return Ok(false);
        };
        let mut backoff = Backoff::default();
        loop {
            match recordings.store.has_moved(node_id, &self.id).await {
                Ok(moved) => return Ok(moved),
                Err(error) => {
                    let what = "cannot ask the object store who serves a node";
                    self.pause_until(self.shutdown.hurried(), &mut backoff, what, &error)
                        .await?
                }
            }
        }
    }
}

/// A session in the middle: audio up to `stored` is not wanted again.
fn go_on(recording: Option<Arc<Live>>, stored: u64, damaged: bool) -> Open {
    Open {
        recording,
        counts: KindCounts::default(),
        damaged,
        stored,
        noted_bytes: None,
        traceparent: String::new(),
    }
}

#[cfg(test)]
mod tests;
