//! The place where recordings and rows meet: what is stored is noted in SQL, and what was erased stays erased.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::metrics;
use crate::recordings::{ObjectError, ObjectStore, Recording, Stored};
use crate::transcripts::{StoreError, TranscriptStore};

/// Recordings and what SQL knows of them.
#[derive(Clone)]
pub struct Ledger {
    /// `None`: transcripts are off; nothing is noted, and nothing can be erased.
    pub transcripts: Option<Arc<dyn TranscriptStore>>,
    /// `None`: recording is off.
    pub recordings: Option<Arc<ObjectStore>>,
}

/// Why something was not stored or erased. It can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database.
    #[error("the transcript database did not take part")]
    Sql(#[from] StoreError),
    /// The store of recordings.
    #[error("the store of recordings did not take part")]
    Recordings(#[from] ObjectError),
    /// [`Ledger::recordings`] or [`Ledger::transcripts`] is `None`.
    #[error("{0} is false in the archiver's configuration")]
    Off(&'static str),
}

/// What erasing a session removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// Rows.
    pub rows: u64,
    /// A recording, or what there was of it.
    pub recording: bool,
    /// It had been erased before.
    pub again: bool,
}

impl Ledger {
    /// Stores a recording and notes it, unless its session was erased: then it is gone when this returns.
    ///
    /// # Errors
    /// Store or database; doing it again changes nothing that was done.
    pub async fn store(&self, recording: &Recording) -> Result<Stored, LedgerError> {
        let recordings = self.recordings.as_ref().ok_or(LedgerError::Off("recording.enable"))?;
        let Some(transcripts) = &self.transcripts else {
            return Ok(recordings.store(recording).await?);
        };
        let session_id = session_of(&recording.key);
        let known = metrics::query(transcripts.session(session_id)).await?;
        if known.is_some_and(|session| session.erased) {
            tracing::info!(session_id, "the recording of an erased session is not stored");
            recordings.delete(&recording.key).await?;
            return Ok(Stored::AlreadyThere);
        }
        let stored = recordings.store(recording).await?;
        let kept = metrics::transaction(transcripts.recorded(session_id, &recording.key, recording.bytes)).await?;
        if !kept {
            // It was erased in between. Whoever did that may have deleted before the object was there.
            tracing::info!(session_id, "the recording of a session that was just erased is removed");
            recordings.delete(&recording.key).await?;
        }
        Ok(stored)
    }

    /// Removes what there is of a session, and sees to it that nothing more of it is kept. The grave comes first: after
    /// it every upload removes what it stored; before it, an object that is there is seen here.
    ///
    /// # Errors
    /// Store or database; doing it again goes on where this has stopped, and so does housekeeping.
    pub async fn erase(&self, session_id: &str) -> Result<Erased, LedgerError> {
        let transcripts = self
            .transcripts
            .as_ref()
            .ok_or(LedgerError::Off("transcripts.enable"))?;
        let erasure = metrics::transaction(transcripts.erase(session_id, OffsetDateTime::now_utc())).await?;
        if let Some(key) = &erasure.recording_key {
            let recordings = self.recordings.as_ref().ok_or(LedgerError::Off("recording.enable"))?;
            recordings.delete(key).await?;
            metrics::transaction(transcripts.forget_key(session_id)).await?;
        }
        Ok(Erased {
            rows: erasure.rows,
            recording: erasure.recording_key.is_some(),
            again: erasure.again,
        })
    }
}

/// The session whose recording is under this key: the last part without its extension.
fn session_of(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or(key);
    name.rsplit_once('.').map_or(name, |(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_session() {
        assert_eq!(session_of("recordings/2026/03/04/a.b-c.wav"), "a.b-c");
        assert_eq!(session_of("2026/03/04/call-1.flac"), "call-1");
    }
}
