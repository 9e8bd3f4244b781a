//! Places at which a scripted answer waits for the test.

use tokio_util::sync::CancellationToken;

/// Holds an answer back until it is opened, once and for all.
#[derive(Debug, Clone, Default)]
pub struct Gate(CancellationToken);

/// The answer's side of a [`Gate`].
#[derive(Debug, Clone)]
pub struct Hold(CancellationToken);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// For the answer that waits.
    pub fn hold(&self) -> Hold {
        Hold(self.0.clone())
    }

    /// Lets the answer go on.
    pub fn open(&self) {
        self.0.cancel();
    }
}

impl Hold {
    pub(super) async fn wait(&self) {
        self.0.cancelled().await;
    }
}
