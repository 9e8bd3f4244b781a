//! Retention: what is older than `archive.retention_days` is erased, hourly.

use std::time::Duration;

use service_kit::shutdown::Shutdown;
use time::OffsetDateTime;

use crate::metrics;
use crate::recordings::chain;
use crate::register::{Register, RegisterError};

/// Sessions looked up at once.
const BATCH: u32 = 200;
/// Rows deleted at once: what a database does not get done with in time is given back, and would be each hour again.
const ROWS: u32 = 10_000;

/// Erases what is too old (`days` = 0: nothing is) and completes erasures that could not be completed, at once and then
/// every `interval`, until draining. Any number of archivers may do this at the same time: erasing twice changes
/// nothing.
pub async fn keep_retention(register: Register, days: u32, interval: Duration, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(interval);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shutdown.draining() => return,
        }
        let run = async {
            if let Err(error) = run(&register, days).await {
                tracing::warn!(
                    error = chain(&error),
                    "retention is not complete; it goes on at its next turn"
                );
            }
        };
        tokio::select! {
            () = run => {}
            () = shutdown.draining() => return,
        }
    }
}

async fn run(register: &Register, days: u32) -> Result<(), RegisterError> {
    let Some(transcripts) = &register.transcripts else {
        return Ok(());
    };
    let before = (days > 0).then(|| OffsetDateTime::now_utc() - Duration::from_secs(u64::from(days) * 24 * 3600));
    let mut first_error = None;
    // What cannot be erased now is still found at the next turn; it must not hide what comes behind it.
    let mut after = String::new();
    loop {
        let found = metrics::long_query(transcripts.to_erase(before, &after, BATCH)).await?;
        for session_id in &found {
            match register.erase(session_id).await {
                Ok(erased) => {
                    tracing::info!(
                        target: "audit",
                        session_id,
                        rows = erased.rows,
                        recording = erased.recording,
                        again = erased.again,
                        retention_days = days,
                        "session erased by age, or an earlier erasure completed"
                    );
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match found.into_iter().next_back() {
            Some(last) => after = last,
            None => break,
        }
    }
    if let Some(before) = before {
        loop {
            let rows = metrics::long_transaction(transcripts.delete_rows_before(before, ROWS)).await?;
            if rows > 0 {
                tracing::info!(target: "audit", rows, retention_days = days, "rows without a session erased by age");
            }
            if rows < u64::from(ROWS) {
                break;
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}
