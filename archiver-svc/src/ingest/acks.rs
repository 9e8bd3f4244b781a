//! Acknowledgements on their way to a node.
//!
//! They are watermarks: a newer one of a session replaces an older one that was not sent yet. So this holds at most
//! two numbers a session, whatever the speed of the node, and nobody ever waits to give an acknowledgement.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use voxray_proto::archive::{Ack, IngestResponse, ingest_response};

/// What one node is still to be told.
#[derive(Debug, Default)]
pub struct Acks {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// The stream that may send now; older ones get nothing any more.
    stream: u64,
    sessions: BTreeMap<String, Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    received: Option<u64>,
    durable: Option<u64>,
}

impl Acks {
    /// Makes the caller the one stream that sends, and returns its number.
    pub fn claim(&self) -> u64 {
        let stream = {
            let mut inner = self.lock();
            inner.stream += 1;
            inner.stream
        };
        self.changed.notify_waiters();
        stream
    }

    /// The one stream that sends.
    pub fn stream(&self) -> u64 {
        self.lock().stream
    }

    /// Everything of this session up to and including `sequence` has arrived.
    pub fn received(&self, session_id: &str, sequence: u64) {
        self.mark(session_id, |marks| marks.received = marks.received.max(Some(sequence)));
    }

    /// Everything of this session up to and including `sequence` is stored.
    pub fn durable(&self, session_id: &str, sequence: u64) {
        self.mark(session_id, |marks| marks.durable = marks.durable.max(Some(sequence)));
    }

    /// The next acknowledgement for this stream, waiting for one; `None` when another stream has taken over.
    pub async fn next(&self, stream: u64) -> Option<IngestResponse> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut inner = self.lock();
                if inner.stream != stream {
                    return None;
                }
                if let Some(response) = inner.take() {
                    return Some(response);
                }
            }
            changed.await;
        }
    }

    fn mark(&self, session_id: &str, set: impl FnOnce(&mut Marks)) {
        {
            let mut inner = self.lock();
            match inner.sessions.get_mut(session_id) {
                Some(marks) => set(marks),
                None => set(inner.sessions.entry(session_id.to_owned()).or_default()),
            }
        }
        self.changed.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self) -> Option<IngestResponse> {
        let mut first = self.sessions.first_entry()?;
        let session_id = first.key().clone();
        let marks = first.get_mut();
        let message = match (marks.received.take(), marks.durable.take()) {
            (Some(sequence), durable) => {
                marks.durable = durable;
                ingest_response::Message::Received(Ack { session_id, sequence })
            }
            (None, Some(sequence)) => ingest_response::Message::Durable(Ack { session_id, sequence }),
            (None, None) => {
                // Kept out by the removal below; nothing to say all the same.
                first.remove();
                return None;
            }
        };
        if marks.received.is_none() && marks.durable.is_none() {
            first.remove();
        }
        Some(IngestResponse { message: Some(message) })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn text(response: Option<IngestResponse>) -> String {
        match response.and_then(|response| response.message) {
            Some(ingest_response::Message::Received(ack)) => format!("received {} {}", ack.session_id, ack.sequence),
            Some(ingest_response::Message::Durable(ack)) => format!("durable {} {}", ack.session_id, ack.sequence),
            None => "over".to_owned(),
        }
    }

    #[tokio::test]
    async fn newer_watermarks_replace_older_ones_that_were_not_sent() {
        let acks = Acks::default();
        let stream = acks.claim();
        acks.received("s", 1);
        acks.received("s", 3);
        acks.durable("s", 2);
        acks.received("s", 2);
        assert_eq!(text(acks.next(stream).await), "received s 3");
        assert_eq!(text(acks.next(stream).await), "durable s 2");
        assert!(acks.next(stream).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_stream_that_was_taken_over_gets_nothing_more() {
        let acks = Acks::default();
        let old = acks.claim();
        let new = acks.claim();
        acks.durable("s", 1);
        assert_eq!(text(acks.next(old).await), "over");
        assert_eq!(text(acks.next(new).await), "durable s 1");
    }
}
