//! What the session store has to be told once it answers again: without it, sessions that ended while it was away would be
//! listed, and count for their tenants, until they expire.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service_kit::tasks::TaskScope;
use session_store::{Store, StoreError};
use tokio::sync::Notify;

use crate::call::registry::Calls;

/// Most that is kept: more sessions than any node carries in the minutes that a store is away. When full, the oldest is
/// dropped; what it is about expires by itself.
const MOST: usize = 4_096;
/// How often a store that does not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be said of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// It is over.
    Leave,
    /// It is not this node's.
    Release,
}

/// What the store could not be told yet, in order.
pub struct Overdue {
    list: Arc<List>,
}

#[derive(Default)]
struct List {
    waiting: Mutex<VecDeque<(Arc<str>, Duty)>>,
    added: Notify,
}

impl Overdue {
    /// Nothing yet. What is added is told by a task of `scope`, unless the session is here again by then.
    pub fn new(store: Arc<dyn Store>, node_id: Arc<str>, calls: Calls, scope: &TaskScope) -> Self {
        let list = Arc::<List>::default();
        let telling = Arc::clone(&list).tell(move |session_id: Arc<str>, duty| {
            let (store, node_id, calls) = (Arc::clone(&store), Arc::clone(&node_id), calls.clone());
            async move {
                // A client that has come back meanwhile has made the session anew.
                if calls.knows(&session_id) {
                    return Ok(());
                }
                match duty {
                    Duty::Leave => store.leave_session(&session_id, &node_id).await,
                    Duty::Release => store.release_session(&session_id, &node_id).await,
                }
            }
        });
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("overdue in the session store", async move {
            tokio::select! {
                () = cancelled => {}
                () = telling => {}
            }
        });
        Self { list }
    }

    /// Tells this later.
    pub fn push(&self, session_id: Arc<str>, duty: Duty) {
        self.list.push(session_id, duty);
    }
}

impl List {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Arc<str>, Duty)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, session_id: Arc<str>, duty: Duty) {
        let mut waiting = self.lock();
        if waiting.len() == MOST {
            waiting.pop_front();
        }
        waiting.push_back((session_id, duty));
        drop(waiting);
        self.added.notify_one();
    }

    fn first(&self) -> Option<(Arc<str>, Duty)> {
        self.lock().front().cloned()
    }

    async fn tell<Say, Said>(self: Arc<Self>, say: Say)
    where
        Say: Fn(Arc<str>, Duty) -> Said,
        Said: Future<Output = Result<(), StoreError>>,
    {
        loop {
            while let Some((session_id, duty)) = self.first() {
                if let Err(error) = say(Arc::clone(&session_id), duty).await {
                    tracing::debug!(%session_id, %error, "the session store is still away");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                // Unless it was dropped meanwhile, for want of room.
                let mut waiting = self.lock();
                if waiting.front().is_some_and(|(first, _)| *first == session_id) {
                    waiting.pop_front();
                }
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_store_that_was_away_missed_is_told_as_soon_as_it_is_back() {
        const BACK: Duration = Duration::from_secs(100);
        let list = Arc::<List>::default();
        let (told, mut hears) = mpsc::channel(8);
        let began = Instant::now();
        let telling = Arc::clone(&list).tell(move |session_id, duty| {
            let told = told.clone();
            async move {
                if began.elapsed() < BACK {
                    return Err(StoreError("away".to_owned()));
                }
                told.send((session_id, duty)).await.unwrap();
                Ok(())
            }
        });
        let scope = TaskScope::root("test");
        let _telling = scope.spawn_owned("overdue", telling);

        list.push("first".into(), Duty::Leave);
        list.push("second".into(), Duty::Release);

        assert_eq!(hears.recv().await, Some(("first".into(), Duty::Leave)));
        assert_eq!(hears.recv().await, Some(("second".into(), Duty::Release)));
        assert!(began.elapsed() < BACK + Duration::from_secs(5), "{:?}", began.elapsed());
        list.push("later".into(), Duty::Leave);
        assert_eq!(hears.recv().await, Some(("later".into(), Duty::Leave)));
    }

    #[test]
    fn of_more_than_there_is_room_for_the_latest_are_told() {
        let list = List::default();
        for n in 0..=MOST {
            list.push(n.to_string().into(), Duty::Leave);
        }
        assert_eq!(list.first(), Some(("1".into(), Duty::Leave)));
        assert_eq!(list.lock().len(), MOST);
    }
}
