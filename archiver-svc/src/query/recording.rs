//! A recording as a stream of messages: what it is, and then its bytes, or where to get them.

use std::time::SystemTime;

use bytes::Bytes;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use voxray_proto::archive::get_recording_response::Message;
use voxray_proto::archive::{ByteRange, GetRecordingRequest, GetRecordingResponse, RecordingInfo};

use crate::recordings::Readable;

/// Bytes of one message.
const CHUNK_BYTES: usize = 64 * 1024;
/// Messages read ahead of the peer. When it is full the file waits: with the peer's flow control this is all that a
/// slow listener takes in memory.
const READ_AHEAD: usize = 4;

type Messages = ReceiverStream<Result<GetRecordingResponse, Status>>;

/// Begins to send a recording that was noted under this key, with this length. The file is read by a task in `scope`, which ends when nobody listens any more, and when
/// the archiver drains: a slow listener does not keep it from going, and goes on elsewhere with a range.
pub fn stream(
    readable: Readable,
    (key, stored_bytes): (&str, u64),
    request: &GetRecordingRequest,
    scope: &TaskScope,
    shutdown: &Shutdown,
) -> Messages {
    let content_type = content_type(key).to_owned();
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    match readable {
        Readable::Url(url) => {
            let info = RecordingInfo {
                content_type,
                total_bytes: stored_bytes,
                url,
                ..RecordingInfo::default()
            };
            // The channel is empty, and somebody listens.
            let _ = sender.try_send(Ok(message(Message::Info(info))));
        }
        Readable::File { file, bytes, modified } => {
            let etag = etag(bytes, modified);
            let range = request
                .range
                .as_ref()
                .filter(|_| request.if_range.is_empty() || request.if_range == etag);
            let part = range.map(|range| resolve(range, bytes));
            let (offset, length) = part.unwrap_or(Some((0, bytes))).unwrap_or((0, 0));
            let info = RecordingInfo {
                content_type,
                total_bytes: bytes,
                etag,
                url: String::new(),
                offset,
                length,
                partial: part.is_some(),
                unsatisfiable: part == Some(None),
            };
            let _ = sender.try_send(Ok(message(Message::Info(info))));
            if length > 0 {
                let shutdown = shutdown.clone();
                scope.spawn("recording read", async move {
                    tokio::select! {
                        () = read(file, offset, length, sender) => {}
                        () = shutdown.draining() => {}
                    }
                });
            }
        }
    }
    ReceiverStream::new(receiver)
}

async fn read(
    mut file: tokio::fs::File,
    offset: u64,
    length: u64,
    sender: mpsc::Sender<Result<GetRecordingResponse, Status>>,
) {
    let failed = |error: std::io::Error| Status::unavailable(format!("the recording cannot be read: {error}"));
    if let Err(error) = file.seek(std::io::SeekFrom::Start(offset)).await {
        let _ = sender.send(Err(failed(error))).await;
        return;
    }
    let mut file = file.take(length);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let next = match (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk).await {
            Ok(0) => return,
            Ok(_) => Ok(message(Message::Data(Bytes::from(chunk)))),
            Err(error) => Err(failed(error)),
        };
        let over = next.is_err();
        if sender.send(next).await.is_err() || over {
            return;
        }
    }
}

fn message(message: Message) -> GetRecordingResponse {
    GetRecordingResponse { message: Some(message) }
}

fn content_type(key: &str) -> &'static str {
    match key.rsplit('.').next() {
        Some("ogg") => "audio/ogg",
        Some("flac") => "audio/flac",
        _ => "audio/wav",
    }
}

/// Names these bytes: a recording is replaced as a whole, by a longer one.
fn etag(bytes: u64, modified: SystemTime) -> String {
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("\"{bytes:x}-{:x}\"", since.as_nanos())
}

/// Offset and length of what was asked for (RFC 9110, section 14.1.2); `None` = nothing of it is there.
fn resolve(range: &ByteRange, bytes: u64) -> Option<(u64, u64)> {
    let (offset, end) = match (range.first, range.last) {
        (Some(first), last) => (first, last.map_or(bytes, |last| last.saturating_add(1).min(bytes))),
        (None, Some(suffix)) => (bytes.saturating_sub(suffix), bytes),
        (None, None) => (0, bytes),
    };
    (offset < end).then(|| (offset, end - offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_rfc_9110_says_they_are() {
        let of = |first, last| resolve(&ByteRange { first, last }, 100);
        assert_eq!(of(Some(0), Some(9)), Some((0, 10)));
        assert_eq!(of(Some(90), None), Some((90, 10)));
        assert_eq!(of(Some(90), Some(u64::MAX)), Some((90, 10)));
        assert_eq!(of(None, Some(30)), Some((70, 30)));
        assert_eq!(of(None, Some(300)), Some((0, 100)));
        for nothing in [(Some(100), None), (Some(5), Some(4)), (None, Some(0))] {
            assert_eq!(of(nothing.0, nothing.1), None, "{nothing:?}");
        }
        let of_nothing = ByteRange {
            first: Some(0),
            last: None,
        };
        assert_eq!(resolve(&of_nothing, 0), None);
    }
}
