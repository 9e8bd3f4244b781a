//! Waiting for something to happen elsewhere: a deadline, never an assumed duration.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Looks again and again until `condition` gives something.
///
/// # Errors
/// When looking fails, or when nothing was there until `limit` was over; the message then says `what` was awaited.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut condition: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Option<T>>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = condition().await? {
            return Ok(found);
        }
        if started.elapsed() > limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_is_found() {
        let mut looks = 0;
        let found = eventually("the third look", Duration::from_secs(1), || {
            looks += 1;
            let found = (looks == 3).then_some(looks);
            async move { Ok(found) }
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_never_comes_is_named() {
        let error = eventually("godot", Duration::ZERO, || async { Ok(None::<()>) })
            .await
            .unwrap_err();
        assert!(error.to_string().contains("godot"), "{error}");
    }
}
