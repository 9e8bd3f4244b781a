//! `GET /sessions/{id}/recording`: a redirect to the object store, or the file itself with ranges, so that a player can
//! seek.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LOCATION, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use service_kit::http::ApiError;
use tonic::Streaming;
use voxray_proto::archive::get_recording_response::Message;
use voxray_proto::archive::{ByteRange, GetRecordingRequest, GetRecordingResponse, RecordingInfo};

use super::shape::SessionId;
use crate::app::App;
use crate::archive::api_error;

/// A recording is personal: nothing between us and the client keeps it.
const NO_STORE: HeaderValue = HeaderValue::from_static("private, no-store");

/// Gives the recording of a call: `302` to a URL of the object store that works for five minutes, or the file. One range
/// of bytes is honoured; of several, all of the file is sent. `HEAD` gives type and length in both cases, without a redirect: the
/// URL is signed for `GET` alone.
#[utoipa::path(get, path = "/sessions/{id}/recording", tag = "archive",
    params(("id" = String, Path, description = "Session id"),
        ("Range" = Option<String>, Header, description = "`bytes=0-1023`, `bytes=1024-`, `bytes=-1024`")),
    responses((status = 200, description = "The recording", content_type = "audio/wav"),
        (status = 206, description = "The part asked for", content_type = "audio/wav"),
        (status = 302, description = "`Location` is where the recording is"),
        (status = 404, description = "Unknown to the archive, erased, not recorded or not stored yet"),
        (status = 409, description = "No archive: transcripts.enable or recording.enable is false, or archiver_url is not set"),
        (status = 416, description = "The range lies outside of the recording"),
        (status = 503, description = "The archive does not answer")))]
pub async fn recording(
    State(app): State<Arc<App>>,
    SessionId(session_id): SessionId,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let request = GetRecordingRequest {
        session_id,
        range: text(RANGE).and_then(parse_range),
        if_range: text(IF_RANGE).unwrap_or_default().to_owned(),
    };
    let mut messages = app.archive.recording(request).await?;
    let first = messages.message().await.map_err(|status| api_error(&status))?;
    match first.and_then(|first| first.message) {
        // Archivers of earlier releases do not say how long it is.
        Some(Message::Info(info)) if method == Method::HEAD && !info.url.is_empty() && info.total_bytes > 0 => {
            described(&info)
        }
        Some(Message::Info(info)) => answer(info, messages),
        Some(Message::Data(_)) | None => Err(ApiError::unavailable("the archive does not answer")),
    }
}

/// What is in the object store, in headers.
fn described(info: &RecordingInfo) -> Result<Response, ApiError> {
    let mut response = StatusCode::OK.into_response();
    set(&mut response, CONTENT_TYPE, &info.content_type)?;
    set(&mut response, CONTENT_LENGTH, &info.total_bytes.to_string())?;
    set(&mut response, ACCEPT_RANGES, "bytes")?;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

fn answer(info: RecordingInfo, messages: Streaming<GetRecordingResponse>) -> Result<Response, ApiError> {
    let mut response = if !info.url.is_empty() {
        let mut response = StatusCode::FOUND.into_response();
        set(&mut response, LOCATION, &info.url)?;
        response
    } else if info.unsatisfiable {
        let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
        set(&mut response, CONTENT_RANGE, &format!("bytes */{}", info.total_bytes))?;
        response
    } else {
        let mut response = Body::from_stream(data(messages)).into_response();
        if info.partial {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = (info.offset + info.length).saturating_sub(1);
            let range = format!("bytes {}-{last}/{}", info.offset, info.total_bytes);
            set(&mut response, CONTENT_RANGE, &range)?;
        }
        set(&mut response, CONTENT_TYPE, &info.content_type)?;
        set(&mut response, CONTENT_LENGTH, &info.length.to_string())?;
        set(&mut response, ETAG, &info.etag)?;
        set(&mut response, ACCEPT_RANGES, "bytes")?;
        response
    };
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

fn set(response: &mut Response, name: HeaderName, value: &str) -> Result<(), ApiError> {
    let value = HeaderValue::from_str(value).map_err(ApiError::internal)?;
    response.headers_mut().insert(name, value);
    Ok(())
}

/// The bytes as they come; what the client does not take is not asked for. An error breaks the answer off, which a
/// client sees by its length.
fn data(messages: Streaming<GetRecordingResponse>) -> impl futures_util::Stream<Item = Result<Bytes, tonic::Status>> {
    stream::try_unfold(messages, |mut messages| async move {
        match messages.message().await?.and_then(|next| next.message) {
            Some(Message::Data(data)) => Ok(Some((data, messages))),
            Some(Message::Info(_)) | None => Ok(None),
        }
    })
}

/// One range of bytes (RFC 9110, section 14.1.2); `None` for several and for what is none, which are passed over.
fn parse_range(header: &str) -> Option<ByteRange> {
    let (unit, range) = header.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<u64>().map(Some).map_err(drop),
        _ => Err(()),
    };
    let (first, last) = (number(first).ok()?, number(last).ok()?);
    let is_one = first.or(last).is_some() && first.zip(last).is_none_or(|(first, last)| first <= last);
    (unit.trim().eq_ignore_ascii_case("bytes") && is_one).then_some(ByteRange { first, last })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_range_is_understood_and_everything_else_passed_over() {
        let of = |header| parse_range(header).map(|range| (range.first, range.last));
        assert_eq!(of("bytes=0-499"), Some((Some(0), Some(499))));
        assert_eq!(of("bytes=500-"), Some((Some(500), None)));
        assert_eq!(of("Bytes=-500"), Some((None, Some(500))));
        for other in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,4-5",
            "items=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_a_range_or_none(header in "(bytes|Bytes| bytes ?)?=?[0-9 +,-]{0,40}|.{0,40}") {
            if let Some(range) = parse_range(&header) {
                prop_assert!(range.first.or(range.last).is_some());
                prop_assert!(range.first.zip(range.last).is_none_or(|(first, last)| first <= last));
            }
        }

        #[test]
        fn a_range_survives(first: u64, length: u32) {
            let last = first.saturating_add(length.into());
            let range = parse_range(&format!("bytes={first}-{last}")).unwrap();
            prop_assert_eq!((range.first, range.last), (Some(first), Some(last)));
        }
    }
}
