//! The place where recordings and rows meet: what is stored is noted in SQL, and what was erased stays erased.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use voxray_proto::archive::SessionStarted;

use crate::recordings::{Facts, ObjectError, RecordingStore, chain};
use crate::transcripts::{Batch, StoreError, TranscriptStore};
use crate::{ingest, metrics};

/// How long the recording of an erased session may take to go before it is left to housekeeping: rows and other recordings
/// wait for it meanwhile.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);

/// Recordings and what SQL knows of them.
#[derive(Clone)]
pub struct Register {
    /// `None`: transcripts are off; nothing is noted, and nothing can be erased.
    pub transcripts: Option<Arc<dyn TranscriptStore>>,
    /// `None`: recording is off.
    pub recordings: Option<Arc<RecordingStore>>,
}

/// Why something was not stored or erased. It can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The database.
    #[error("the transcript database did not take part")]
    Sql(#[from] StoreError),
    /// The store of recordings.
    #[error("the store of recordings did not take part")]
    Recordings(#[from] ObjectError),
    /// [`Register::recordings`] or [`Register::transcripts`] is `None`.
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

impl Register {
    /// Whether a session was erased, so that nothing more of it is to be stored.
    ///
    /// # Errors
    /// The database.
    pub async fn is_erased(&self, session_id: &str) -> Result<bool, StoreError> {
        let Some(transcripts) = &self.transcripts else {
            return Ok(false);
        };
        let known = metrics::query(transcripts.session(session_id)).await?;
        Ok(known.is_some_and(|session| session.erased))
    }

    /// Notes when and how a session began of which a recording is stored.
    ///
    /// # Errors
    /// The database; doing it again changes nothing.
    pub async fn begun(&self, facts: &Facts, key: &str) -> Result<(), StoreError> {
        let Some(transcripts) = &self.transcripts else {
            return Ok(());
        };
        let started = SessionStarted {
            started_at_unix_ms: facts.started_at_unix_ms,
            transport: facts.transport.clone(),
            provider: facts.provider.clone(),
            ..SessionStarted::default()
        };
        let batch = Batch {
            starts: vec![ingest::start(&facts.session_id, started, Some(key.to_owned()))],
            ..Batch::default()
        };
        metrics::transaction(transcripts.write(&batch)).await
    }

    /// Notes that a recording is stored. `false`: its session was erased, and the recording has to go.
    ///
    /// # Errors
    /// The database; doing it again changes nothing.
    pub async fn recorded(&self, session_id: &str, key: &str, bytes: u64) -> Result<bool, StoreError> {
        match &self.transcripts {
            Some(transcripts) => metrics::transaction(transcripts.recorded(session_id, key, bytes)).await,
            None => Ok(true),
        }
    }

    /// Notes that a recording is stored, or removes it when its session was erased meanwhile.
    ///
    /// # Errors
    /// The database; doing it again changes nothing.
    pub async fn note_or_remove(&self, session_id: &str, key: &str, bytes: u64) -> Result<(), StoreError> {
        if self.recorded(session_id, key, bytes).await? {
            return Ok(());
        }
        self.remove(session_id, key).await
    }

    /// Removes the recording of an erased session. That it is there is noted first: what the store does not remove now is
    /// removed by housekeeping, which any archiver does at its start and then every hour, and waited for by nobody.
    ///
    /// # Errors
    /// The database; doing it again changes nothing.
    pub async fn remove(&self, session_id: &str, key: &str) -> Result<(), StoreError> {
        let (Some(transcripts), Some(recordings)) = (&self.transcripts, &self.recordings) else {
            return Ok(());
        };
        tracing::info!(session_id, "the recording of an erased session is not kept");
        metrics::transaction(transcripts.keep_key(session_id, key)).await?;
        let error = match tokio::time::timeout(REMOVE_LIMIT, recordings.erase(session_id, key)).await {
            Ok(Ok(())) => return metrics::transaction(transcripts.forget_key(session_id)).await,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("the store did not answer within {} s", REMOVE_LIMIT.as_secs()),
        };
        tracing::warn!(
            session_id,
            key,
            error,
            "the recording of an erased session cannot be removed now; retention tries it again every hour"
        );
        Ok(())
    }

    /// Removes what there is of a session, and sees to it that nothing more of it is kept. The grave comes first: after
    /// it every upload removes what it stored; before it, an object that is there is seen here.
    ///
    /// # Errors
    /// Store or database; doing it again goes on where this has stopped, and so does housekeeping.
    pub async fn erase(&self, session_id: &str) -> Result<Erased, RegisterError> {
        let transcripts = self
            .transcripts
            .as_ref()
            .ok_or(RegisterError::Off("transcripts.enable"))?;
        let erasure = metrics::transaction(transcripts.erase(session_id, OffsetDateTime::now_utc())).await?;
        if let Some(key) = &erasure.recording_key {
            let recordings = self.recordings.as_ref().ok_or(RegisterError::Off("recording.enable"))?;
            recordings.erase(session_id, key).await?;
            metrics::transaction(transcripts.forget_key(session_id)).await?;
        }
        Ok(Erased {
            rows: erasure.rows,
            recording: erasure.recording_key.is_some(),
            again: erasure.again,
        })
    }
}
