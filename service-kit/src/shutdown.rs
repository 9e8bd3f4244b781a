//! Ordered shutdown: a first signal asks politely, a second one hurries.

use tokio_util::sync::CancellationToken;

/// Two stages that every service watches: `drain` (finish what runs) and `hurry` (stop now).
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// A signal has asked once.
    asked: CancellationToken,
    drain: CancellationToken,
    hurry: CancellationToken,
}

impl Shutdown {
    /// Not yet asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to drain; asked twice, hurries.
    pub fn request(&self) {
        if self.asked.is_cancelled() {
            self.hurry.cancel();
        }
        self.asked.cancel();
        self.drain.cancel();
    }

    /// Asks to drain without counting as a request: one that comes after it does not hurry yet. What stops containers
    /// may ask for the drain first and send SIGTERM next, and means no hurry by it.
    pub fn begin(&self) {
        self.drain.cancel();
    }

    /// Stops without waiting for calls.
    pub fn hurry_now(&self) {
        self.drain.cancel();
        self.hurry.cancel();
    }

    /// Resolves when draining has been asked for.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Whether draining has been asked for.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves at the second request.
    pub async fn hurried(&self) {
        self.hurry.cancelled().await;
    }

    /// Feeds SIGTERM and SIGINT into this shutdown for as long as the future is polled.
    pub async fn listen_to_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(again = self.is_draining(), "shutdown asked for");
            self.request();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_first_request_drains_and_the_second_hurries() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_draining());

        shutdown.request();
        shutdown.draining().await;
        assert!(shutdown.hurried().now_or_never().is_none());

        shutdown.request();
        shutdown.hurried().await;
    }

    #[tokio::test]
    async fn a_signal_after_a_drain_that_was_asked_for_otherwise_is_the_first_one() {
        let shutdown = Shutdown::new();
        shutdown.begin();
        shutdown.begin();
        shutdown.request();
        assert!(shutdown.hurried().now_or_never().is_none());

        shutdown.request();
        shutdown.hurried().await;
    }

    #[tokio::test]
    async fn hurrying_drains_too() {
        let shutdown = Shutdown::new();
        shutdown.clone().hurry_now();
        assert!(shutdown.is_draining());
        shutdown.hurried().await;
    }
}
