//! Recordings in a bucket: one PUT when small, a multipart upload when not, always streamed from the spool file.

mod read;

use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError, Length};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_http_client::tls;
use service_kit::config::S3;
use service_kit::exit::{self, Fatal};

use super::{Recording, Stored, chain};
use crate::metrics::{S3_ERRORS, S3_REQUEST};

/// Largest recording sent in one request, and the size of a part above that. S3 allows 10 000 parts: 78 GiB.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Pieces in which a file is read while it is sent: this is what an upload needs in memory.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Object metadata with the hash of the samples: tells whether a recording is there already.
const HASH_METADATA: &str = "voxray-pcm-sha256";
/// Object metadata of a recording whose node died before the call ended.
const INCOMPLETE_METADATA: &str = "voxray-incomplete";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One request with up to [`PART_BYTES`]: 70 kB/s is the slowest uplink that gets through.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// The look at the bucket at start.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// One bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    /// Signs URLs for clients, who may reach the store by another name.
    signer: Client,
    bucket: String,
}

/// Why S3 did not take a recording.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// A request failed.
    #[error("{operation} failed")]
    Request {
        /// The S3 operation.
        operation: &'static str,
        /// What the SDK says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The spool file could not be read.
    #[error("cannot read the spool file")]
    File(#[source] ByteStreamError),
    /// An answer without a field that S3 always sends.
    #[error("{0} answered without an upload id")]
    Answer(&'static str),
}

impl S3Store {
    /// A client of this bucket, which must exist and let us in.
    pub async fn open(config: &S3, bucket: &str, credentials: Option<Credentials>) -> Result<Self, Fatal> {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts)
            // Uploaders retry by themselves, and count each failure.
            .retry_config(RetryConfig::disabled());
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials);
        }
        if !config.region.is_empty() {
            loader = loader.region(Region::new(config.region.clone()));
        }
        if let Some(endpoint) = &config.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let client = Client::from_conf(
            aws_sdk_s3::config::Builder::from(&shared)
                .force_path_style(config.force_path_style)
                .build(),
        );
        let signer = match &config.public_endpoint {
            Some(endpoint) => Client::from_conf(client.config().to_builder().endpoint_url(endpoint).build()),
            None => client.clone(),
        };
        let store = Self {
            client,
            signer,
            bucket: bucket.to_owned(),
        };
        store.check(config).await?;
        Ok(store)
    }

    async fn check(&self, config: &S3) -> Result<(), Fatal> {
        let place = config.endpoint.as_deref().unwrap_or("AWS");
        let bucket = &self.bucket;
        let asked = tokio::time::timeout(CHECK_TIMEOUT, self.client.head_bucket().bucket(bucket).send());
        let Ok(answer) = asked.await else {
            return Err(Fatal::new(
                exit::UNAVAILABLE,
                format!("S3 at {place} did not answer within {} s", CHECK_TIMEOUT.as_secs()),
                "check s3.endpoint and the network between this machine and S3",
            ));
        };
        let Err(error) = answer else { return Ok(()) };
        Err(match error.raw_response().map(|response| response.status().as_u16()) {
            Some(404) => Fatal::new(
                exit::UNAVAILABLE,
                format!("the bucket {bucket:?} does not exist at {place}"),
                format!("create it (aws s3 mb s3://{bucket}), or set recording.bucket to one that exists"),
            ),
            Some(status) => Fatal::new(
                exit::UNAVAILABLE,
                format!("S3 at {place} refused access to the bucket {bucket:?} with status {status}"),
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the role of this machine), s3.region, and that \
                 they may read and write this bucket",
            ),
            None => {
                let why = chain(&error);
                if why.to_lowercase().contains("credentials") {
                    Fatal::new(
                        exit::CONFIG,
                        format!("no credentials for S3 were found: {why}"),
                        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile or role of the AWS \
                         standard chain",
                    )
                } else {
                    Fatal::new(
                        exit::UNAVAILABLE,
                        format!("S3 at {place} cannot be reached: {why}"),
                        "check that s3.endpoint is right and that the server runs",
                    )
                }
            }
        })
    }

    /// Stores a recording unless the same, or for an incomplete one a longer, is there.
    pub async fn store(&self, recording: &Recording) -> Result<Stored, S3Error> {
        let there = self.head(&recording.key).await?;
        if there.as_ref().is_some_and(|head| is_enough(head, recording)) {
            return Ok(Stored::AlreadyThere);
        }
        // What is incomplete must not replace what another archiver stores at this moment.
        let condition = if recording.complete {
            Condition::None
        } else {
            match there.and_then(|head| head.e_tag) {
                Some(etag) => Condition::Replaces(etag),
                None => Condition::IsFirst,
            }
        };
        if recording.bytes <= PART_BYTES {
            self.put(recording, condition).await?;
        } else {
            self.multipart(recording, condition).await?;
        }
        Ok(Stored::Written)
    }

    async fn head(&self, key: &str) -> Result<Option<HeadObjectOutput>, S3Error> {
        let started = Instant::now();
        let answer = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        match answer {
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 404) => {
                observe("head_object", started);
                Ok(None)
            }
            answer => outcome("head_object", started, answer).map(Some),
        }
    }

    async fn put(&self, recording: &Recording, condition: Condition) -> Result<(), S3Error> {
        let body = piece(recording, 0, recording.bytes).await?;
        let (if_match, if_none_match) = condition.headers();
        let started = Instant::now();
        let answer = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&recording.key)
            .content_type("audio/wav")
            .set_metadata(Some(metadata(recording)))
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .body(body)
            .send()
            .await;
        outcome("put_object", started, answer).map(drop)
    }

    async fn multipart(&self, recording: &Recording, condition: Condition) -> Result<(), S3Error> {
        let started = Instant::now();
        let answer = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&recording.key)
            .content_type("audio/wav")
            // The parts carry CRC32; S3 refuses them unless the upload was opened with it.
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .set_metadata(Some(metadata(recording)))
            .send()
            .await;
        let upload_id = outcome("create_multipart_upload", started, answer)?
            .upload_id
            .ok_or(S3Error::Answer("create_multipart_upload"))?;
        let sent = self.parts(recording, &upload_id, condition).await;
        if sent.is_err() {
            // Parts of an upload that is given up cost money until they are aborted.
            let started = Instant::now();
            let answer = self
                .client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(&recording.key)
                .upload_id(&upload_id)
                .send()
                .await;
            if let Err(error) = outcome("abort_multipart_upload", started, answer) {
                tracing::debug!(error = chain(&error), "cannot abort a multipart upload");
            }
        }
        sent
    }

    async fn parts(&self, recording: &Recording, upload_id: &str, condition: Condition) -> Result<(), S3Error> {
        let mut parts = Vec::new();
        let mut offset = 0;
        let mut number = 0;
        while offset < recording.bytes {
            let length = PART_BYTES.min(recording.bytes - offset);
            number += 1;
            let body = piece(recording, offset, length).await?;
            let started = Instant::now();
            let answer = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(&recording.key)
                .upload_id(upload_id)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Crc32)
                .body(body)
                .send()
                .await;
            let part = outcome("upload_part", started, answer)?;
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(part.e_tag)
                    .set_checksum_crc32(part.checksum_crc32)
                    .build(),
            );
            offset += length;
        }
        let (if_match, if_none_match) = condition.headers();
        let started = Instant::now();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&recording.key)
            .upload_id(upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .send()
            .await;
        outcome("complete_multipart_upload", started, answer).map(drop)
    }
}

/// What must hold of the object under the key for the write to happen
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>).
#[derive(Debug)]
enum Condition {
    /// Nothing.
    None,
    /// There is none.
    IsFirst,
    /// It is the one with this ETag.
    Replaces(String),
}

impl Condition {
    /// `If-Match` and `If-None-Match`.
    fn headers(self) -> (Option<String>, Option<String>) {
        match self {
            Self::None => (None, None),
            Self::IsFirst => (None, Some("*".to_owned())),
            Self::Replaces(etag) => (Some(etag), None),
        }
    }
}

fn is_enough(head: &HeadObjectOutput, recording: &Recording) -> bool {
    let bytes = head
        .content_length
        .and_then(|length| u64::try_from(length).ok())
        .unwrap_or(0);
    if !recording.complete {
        return bytes >= recording.bytes;
    }
    let hash = head.metadata.as_ref().and_then(|metadata| metadata.get(HASH_METADATA));
    bytes == recording.bytes && hash == Some(&recording.pcm_sha256)
}

fn metadata(recording: &Recording) -> std::collections::HashMap<String, String> {
    let mut metadata = std::collections::HashMap::from([(HASH_METADATA.to_owned(), recording.pcm_sha256.clone())]);
    if !recording.complete {
        metadata.insert(INCOMPLETE_METADATA.to_owned(), "true".to_owned());
    }
    metadata
}

async fn piece(recording: &Recording, offset: u64, length: u64) -> Result<ByteStream, S3Error> {
    ByteStream::read_from()
        .path(&recording.file)
        .offset(offset)
        .length(Length::Exact(length))
        .buffer_size(READ_BUFFER_BYTES)
        .build()
        .await
        .map_err(S3Error::File)
}

fn observe(operation: &'static str, started: Instant) {
    S3_REQUEST
        .with_label_values(&[operation])
        .observe(started.elapsed().as_secs_f64());
}

/// Counts a request and gives its error a name.
fn outcome<T, E>(operation: &'static str, started: Instant, answer: Result<T, SdkError<E>>) -> Result<T, S3Error>
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
                412 => "precondition",
                429 | 503 => "throttled",
                500.. => "server",
                _ => "client",
            },
            _ => "other",
        };
        S3_ERRORS.with_label_values(&[operation, kind]).inc();
        S3Error::Request {
            operation,
            source: Box::new(error),
        }
    })
}
