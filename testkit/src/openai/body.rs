//! The body of an answer as it is played.

use std::collections::VecDeque;

use axum::body::Bytes;
use futures_util::{Stream, stream};

use super::answer::Part;
use super::request::Guard;

/// The connection was cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("cut as scripted")]
pub(super) struct Cut;

/// Plays the parts; the guard learns whether the client stayed until the end.
pub(super) fn stream(parts: Vec<Part>, guard: Guard) -> impl Stream<Item = Result<Bytes, Cut>> + Send {
    let state = Some((VecDeque::from(parts), guard));
    stream::unfold(state, |state| async move {
        let (mut parts, guard) = state?;
        loop {
            match parts.pop_front() {
                Some(Part::Bytes(bytes)) => return Some((Ok(bytes), Some((parts, guard)))),
                Some(Part::Hold(hold)) => hold.wait().await,
                Some(Part::Cut) => {
                    guard.finished();
                    return Some((Err(Cut), None));
                }
                None => {
                    guard.finished();
                    return None;
                }
            }
        }
    })
}
