//! How long the end of a call may take.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use media_core::conversation::LAST_TEXT_WAIT;
use tokio::time::Instant;

/// From the moment one side ends a call, what is left of its socket is given up after this. The caller's last words are
/// waited for at the same time, and no longer ([`LAST_TEXT_WAIT`]); nothing that a provider is asked by REST is waited for.
/// So the session, its task and its socket are gone within 2 s, whatever the far end does.
pub const END_WITHIN: Duration = Duration::from_millis(1_500);

const _: () = assert!(LAST_TEXT_WAIT.as_millis() <= END_WITHIN.as_millis());

/// When the end began. Clones share it: the first to know says so, and all have the same time left.
#[derive(Debug, Clone, Default)]
pub struct End(Arc<OnceLock<Instant>>);

impl End {
    /// It begins, unless it has begun already; until when everything has to be gone.
    pub fn begin(&self) -> Instant {
        *self.0.get_or_init(Instant::now) + END_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_is_later_to_know_has_no_more_time() {
        let end = End::default();
        let socket = end.clone();
        let until = end.begin();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(socket.begin(), until);
        assert_eq!(until - Instant::now(), END_WITHIN - Duration::from_secs(1));
    }
}
