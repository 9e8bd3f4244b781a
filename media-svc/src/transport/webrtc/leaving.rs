//! Whether a client that is gone has left.

use std::time::Duration;

use tokio::time::Instant;

/// What a client sent before it left, or what was read of it late, may still come for so long.
const LATE: Duration = Duration::from_secs(2);

/// A client that has closed its data channel, or ended its track, is about to close its connection. Some only replace
/// them: what still comes a while later shows that this one is still there.
#[derive(Debug, Default)]
pub struct Leaving {
    since: Option<Instant>,
}

impl Leaving {
    /// The client has closed something.
    pub fn begins(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Something of the client has come.
    pub fn hears(&mut self) {
        self.since = self.since.filter(|since| since.elapsed() < LATE);
    }

    /// The client has opened something.
    pub fn stays(&mut self) {
        self.since = None;
    }

    /// A client that is gone now has left, and is not cut off.
    pub fn is_leaving(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_does_not_keep_a_client_that_leaves_and_what_goes_on_coming_does() {
        let mut client = Leaving::default();
        client.hears();
        assert!(!client.is_leaving());

        client.begins();
        client.hears();
        tokio::time::advance(LATE / 2).await;
        client.hears();
        assert!(client.is_leaving());

        tokio::time::advance(LATE / 2).await;
        client.hears();
        assert!(!client.is_leaving());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_opens_something_again_stays() {
        let mut client = Leaving::default();
        client.begins();
        client.stays();
        assert!(!client.is_leaving());
    }
}
