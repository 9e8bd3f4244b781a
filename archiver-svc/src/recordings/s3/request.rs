//! What all requests have in common: bodies, conditions, checksums, and errors with names.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::time::Instant;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, Length};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::metrics::{S3_ERRORS, S3_REQUEST};
use crate::recordings::blocking;
use crate::recordings::folder::each_block;
use crate::recordings::objects::{Condition, ObjectError, Piece};

/// Pieces in which a file is read while it is sent: this is what an upload needs in memory.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A piece of a file, read while it is sent.
pub async fn body(piece: Piece<'_>) -> Result<ByteStream, ObjectError> {
    ByteStream::read_from()
        .path(piece.file)
        .offset(piece.from)
        .length(Length::Exact(piece.length))
        .buffer_size(READ_BUFFER_BYTES)
        .build()
        .await
        .map_err(|error| ObjectError::File(std::io::Error::other(error)))
}

/// As `x-amz-checksum-sha256` wants it.
pub fn checksum(sha256: &[u8]) -> String {
    STANDARD.encode(sha256)
}

/// `If-Match` and `If-None-Match`.
pub fn condition(condition: &Condition) -> (Option<String>, Option<String>) {
    match condition {
        Condition::IsFirst => (None, Some("*".to_owned())),
        Condition::Replaces(etag) => (Some(etag.clone()), None),
    }
}

/// Counts a request.
pub fn observe(operation: &'static str, started: Instant) {
    S3_REQUEST
        .with_label_values(&[operation])
        .observe(started.elapsed().as_secs_f64());
}

/// Counts a request and gives its error a name.
pub fn outcome<T, E>(
    operation: &'static str,
    started: Instant,
    answer: Result<T, SdkError<E>>,
) -> Result<T, ObjectError>
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    observe(operation, started);
    answer.map_err(|error| {
        let kind = match &error {
            SdkError::TimeoutError(_) => "timeout",
            SdkError::DispatchFailure(failure) if failure.is_timeout() => "timeout",
            SdkError::DispatchFailure(_) => "connection",
            SdkError::ResponseError(_) => "response",
            SdkError::ServiceError(service) => match service.raw().status().as_u16() {
                403 => "access_denied",
                404 => "not_found",
                // 409: two conditional writes at the same moment, or an object deleted meanwhile.
                409 | 412 => "precondition",
                429 | 503 => "throttled",
                // 200: it began to answer before it failed.
                200..300 | 500.. => "server",
                _ => "client",
            },
            _ => "other",
        };
        S3_ERRORS.with_label_values(&[operation, kind]).inc();
        let is_bad_digest = matches!(error.code(), Some("BadDigest" | "XAmzContentChecksumMismatch"));
        let is_gone = error.code() == Some("NoSuchUpload");
        match kind {
            "precondition" => ObjectError::Conflict { operation },
            _ if is_gone => ObjectError::UploadGone { operation },
            _ if is_bad_digest => ObjectError::Digest { operation },
            _ => ObjectError::S3 {
                operation,
                source: Box::new(error),
            },
        }
    })
}

/// Finds out why a store says that bytes are not what they were said to be: they have changed on our disk, and sending
/// them again is in vain, or on their way, and it is not.
pub async fn explain_digest(put: Result<String, ObjectError>, piece: Piece<'_>) -> Result<String, ObjectError> {
    let Err(ObjectError::Digest { operation }) = put else {
        return put;
    };
    let (file, from, length) = (piece.file.to_owned(), piece.from, piece.length);
    let on_disk = blocking(move || {
        let mut file = File::open(file)?;
        file.seek(SeekFrom::Start(from))?;
        let mut hasher = Sha256::new();
        each_block(&mut file, length, |block| {
            hasher.update(block);
            Ok(())
        })?;
        Ok(hasher.finalize())
    });
    if on_disk.await?[..] == piece.sha256 {
        Err(ObjectError::Digest { operation })
    } else {
        Err(ObjectError::Damaged("sending to S3"))
    }
}

/// Whether an answer says that there is nothing under the key.
pub fn is_missing<T, E>(answer: &Result<T, SdkError<E>>) -> bool {
    matches!(answer, Err(SdkError::ServiceError(service)) if service.raw().status().as_u16() == 404)
}

/// Whether the same request may be answered differently a little later. A server that fails with 500 whenever it is asked
/// for something it does not have would be asked for ever.
pub fn may_pass<E>(error: &SdkError<E>) -> bool {
    let status = error.raw_response().map(|response| response.status().as_u16());
    status.is_none_or(|status| matches!(status, 408 | 409 | 429 | 502..=504))
}
