//! Supervised tasks: every task has a parent and a name; a panic ends its own scope, is counted, and nothing else.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt;
use prometheus::IntCounterVec;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

static PANICS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    crate::metrics::counter_vec("voxray_task_panics_total", "Tasks that ended in a panic.", &["task"])
});

/// Puts the panics of a task at zero, so that a rate can be taken from the first one on.
pub(crate) fn declare(task: &str) {
    PANICS.with_label_values(&[task]);
}

/// Counts a panic that was caught and contained.
pub(crate) fn count_panic(task: &str) {
    PANICS.with_label_values(&[task]).inc();
}

/// A node in the tree of tasks. Cancelling it cancels everything below it; joining it waits for everything below it.
#[derive(Clone, Debug)]
pub struct TaskScope {
    name: Arc<str>,
    tracker: TaskTracker,
    /// Trackers of this scope and of every ancestor: a parent's `join` waits for its descendants too.
    ancestors: Arc<[TaskTracker]>,
    cancel: CancellationToken,
    /// What the log lines of every task in here carry.
    span: Span,
}

impl TaskScope {
    /// The root of a service.
    pub fn root(name: &str) -> Self {
        Self {
            name: name.into(),
            tracker: TaskTracker::new(),
            ancestors: Arc::new([]),
            cancel: CancellationToken::new(),
            span: Span::none(),
        }
    }

    /// A scope below this one, cancelled with it.
    pub fn child(&self, name: &str) -> Self {
        let ancestors = self.ancestors.iter().cloned().chain([self.tracker.clone()]).collect();
        Self {
            name: format!("{}/{name}", self.name).into(),
            tracker: TaskTracker::new(),
            ancestors,
            cancel: self.cancel.child_token(),
            span: self.span.clone(),
        }
    }

    /// The same scope, whose tasks (and those of scopes made from it) log within a span.
    #[must_use]
    pub fn in_span(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// What the log lines of this scope's tasks carry.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Starts a named task. It is not stopped by cancellation: it watches [`cancelled`](Self::cancelled) itself.
    /// A panic cancels this scope.
    pub fn spawn<F>(&self, task: &'static str, future: F) -> TaskHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        TaskHandle(self.start(task, future).abort_handle())
    }

    fn start<F>(&self, task: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        declare(task);
        let scope = self.clone();
        // Tokens keep the ancestors' `join` waiting until this task is gone, whichever way it goes.
        let tokens: Vec<_> = self.ancestors.iter().map(TaskTracker::token).collect();
        let run = async move {
            let _tokens = tokens;
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                count_panic(task);
                tracing::error!(scope = %scope.name, task, "task panicked; its scope ends");
                scope.cancel.cancel();
            }
        };
        self.tracker.spawn(run.instrument(self.span.clone()))
    }

    /// Starts a named task that is aborted when the returned guard is dropped.
    #[must_use = "dropping the guard aborts the task"]
    pub fn spawn_owned<F>(&self, task: &'static str, future: F) -> AbortOnDrop
    where
        F: Future<Output = ()> + Send + 'static,
    {
        AbortOnDrop(self.start(task, future))
    }

    /// Resolves when this scope or a parent is cancelled.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether this scope is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The token behind this scope, for APIs that take one.
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Asks everything in this scope to end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until every task of this scope and below has ended. New tasks may still be added while waiting.
    pub async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A running task.
#[derive(Debug)]
pub struct TaskHandle(tokio::task::AbortHandle);

impl TaskHandle {
    /// Stops the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Aborts its task when dropped.
#[derive(Debug)]
pub struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Aborts the task and waits until it has ended: a dropped guard may leave it running up to its next await.
    pub async fn stop(mut self) {
        self.0.abort();
        // Aborted or at its end: a panic was caught inside.
        let _ = (&mut self.0).await;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_scope_and_not_the_parent() {
        let root = TaskScope::root("test");
        let call = root.child("call");
        call.spawn("boom", async { panic!("on purpose") });
        call.cancelled().await;
        assert!(!root.is_cancelled());
        root.join().await;
    }

    #[tokio::test]
    async fn joining_a_parent_waits_for_grandchildren() {
        let root = TaskScope::root("test");
        let (release, wait) = tokio::sync::oneshot::channel::<()>();
        let grandchild = root.child("a").child("b");
        grandchild.spawn("waits", async move {
            let _ = wait.await;
        });
        assert!(root.join().now_or_never().is_none());
        let _ = release.send(());
        root.join().await;
    }

    #[tokio::test]
    async fn dropping_the_guard_stops_the_task() {
        let root = TaskScope::root("test");
        drop(root.spawn_owned("forever", std::future::pending()));
        root.join().await;
    }
}
