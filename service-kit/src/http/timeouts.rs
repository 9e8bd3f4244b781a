//! Requests that take too long: bodies that do not arrive, routes that do not answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONNECTION;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::error::ApiError;
use super::layers::{is_handshake, route_of};
use super::metrics::record_timeout;

/// Gives up on a route that takes too long.
pub(super) async fn limit_time(State(RouteTime(timeout)): State<RouteTime>, request: Request, next: Next) -> Response {
    // A socket is open for as long as its call; any other request that merely asks for an upgrade is not.
    if is_handshake(&request) {
        return next.run(request).await;
    }
    let method = request.method().clone();
    let route = route_of(&request);
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            record_timeout(&method, &route);
            tracing::warn!(%method, %route, "a request took too long and was given up");
            ApiError::unavailable("the request took too long").into_response()
        }
    }
}

/// Answers 408 when the body has not arrived in time: a client that sends a byte now and then holds nothing for long.
pub(super) async fn limit_upload(
    State(UploadTime(timeout)): State<UploadTime>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let method = request.method().clone();
    let route = route_of(&request);
    let late = Arc::new(AtomicBool::new(false));
    let deadline = Instant::now() + timeout;
    let noted = Arc::clone(&late);
    let request = request.map(|body| {
        Body::new(Timed {
            body,
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
            late: noted,
        })
    });
    let response = next.run(request).await;
    if !late.load(Ordering::Relaxed) {
        return response;
    }
    record_timeout(&method, &route);
    let mut response = ApiError::RequestTimeout.into_response();
    // The rest of the body may still be on its way.
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// For [`limit_time`].
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteTime(pub(super) Duration);

/// For [`limit_upload`].
#[derive(Debug, Clone, Copy)]
pub(super) struct UploadTime(pub(super) Duration);

/// A body that fails when it has not ended by its deadline.
struct Timed {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    late: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
#[error("the request body did not arrive in time (limits.body_timeout_secs)")]
struct TooSlow;

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.late.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(axum::Error::new(TooSlow))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
