//! Asking again, for somebody who cannot.

use std::time::Duration;

use tokio::time::Instant;

use crate::StoreError;

/// How long a socket waits for a store that does not answer: a provider opens its stream once, gives it some seconds to
/// be taken, and hangs up on a refusal. A request that can be sent again is better served by an error.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before the next question.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks until the store answers, for [`PATIENCE`]. The operation has to mean the same when it is done twice: an answer may
/// have been lost on its way.
///
/// # Errors
/// The last one, when the store has not answered by then.
pub async fn patiently<T, F>(mut operation: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        match operation().await {
            Err(error) if Instant::now() < until => {
                tracing::debug!(%error, "the store does not answer; asking again");
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::switch::Switch;
    use crate::{MemoryStore, Store};

    const TTL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_for_a_moment_keeps_nobody_out() {
        let store = Switch::new();
        store.switch(false);
        let asked = patiently(|| store.claim_session("call", "node", TTL));
        let back = async {
            tokio::time::sleep(PATIENCE - PAUSE * 2).await;
            store.switch(true);
        };

        let (asked, ()) = tokio::join!(asked, back);

        asked.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_stays_away_is_an_error_in_the_end() {
        let store = Switch::new();
        store.switch(false);
        let began = Instant::now();

        let asked = patiently(|| store.claim_session("call", "node", TTL)).await;

        asked.unwrap_err();
        assert!(began.elapsed() <= PATIENCE + PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_whose_first_answer_was_lost_is_used_by_the_same_socket() {
        let store = MemoryStore::new();
        let times = AtomicU32::new(0);
        let answers = async || {
            let first = store.use_token("token", "socket", TTL).await?;
            match times.fetch_add(1, Ordering::SeqCst) {
                0 => Err(StoreError("lost on its way".to_owned())),
                _ => Ok(first),
            }
        };

        assert!(patiently(answers).await.unwrap());
        assert!(!store.use_token("token", "another socket", TTL).await.unwrap());
    }
}
