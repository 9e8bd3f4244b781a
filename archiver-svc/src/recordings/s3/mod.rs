//! Recordings in a bucket.

mod multipart;
mod object;
mod read;
mod request;

use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, RequestChecksumCalculation};
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_http_client::tls;
use service_kit::config::{S3, S3Encryption};
use service_kit::exit::{self, Fatal};

use super::Readable;
use super::manifest::Part;
use super::objects::{
    Condition, CopiedPart, Head, Listed, ListedUpload, NewObject, ObjectError, Objects, Piece, Upload, chain,
};

use super::read::URL_TTL;

/// Length of a part: S3's least, so that audio is durable soon. 10 000 parts are 48 GiB, a WAV file ends at 4.
const PART_BYTES: u64 = 5 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One request with up to [`PART_BYTES`]: 45 kB/s is the slowest uplink that gets through.
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
    encryption: Option<ServerSideEncryption>,
    kms_key_id: Option<String>,
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
                // Every body is sent with a SHA-256 that was computed before; trailing checksums of the SDK would only
                // be refused by some S3-compatible stores.
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
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
            encryption: match config.encryption {
                S3Encryption::None => None,
                S3Encryption::Aes256 => Some(ServerSideEncryption::Aes256),
                S3Encryption::Kms => Some(ServerSideEncryption::AwsKms),
            },
            kms_key_id: config.kms_key_id.clone(),
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
}

#[async_trait]
impl Objects for S3Store {
    fn part_bytes(&self) -> u64 {
        PART_BYTES
    }

    async fn head(&self, key: &str) -> Result<Option<Head>, ObjectError> {
        self.head_object(key).await
    }

    async fn put_file(
        &self,
        object: &NewObject,
        piece: Piece<'_>,
        condition: &Condition,
    ) -> Result<String, ObjectError> {
        let body = request::body(piece).await?;
        let put = self.put_object(object, body, piece.sha256, condition).await;
        request::explain_digest(put, piece).await
    }

    async fn put_bytes(&self, key: &str, bytes: Vec<u8>, condition: &Condition) -> Result<String, ObjectError> {
        use sha2::Digest as _;
        let sha256 = sha2::Sha256::digest(&bytes).into();
        let object = NewObject {
            key: key.to_owned(),
            content_type: "application/json",
            ..NewObject::default()
        };
        self.put_object(&object, bytes.into(), sha256, condition).await
    }

    async fn get_bytes(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, ObjectError> {
        self.get_object(key).await
    }

    async fn get_to_file(&self, key: &str, file: &Path) -> Result<(), ObjectError> {
        self.download(key, file).await
    }

    async fn read(&self, key: &str) -> Result<Option<Readable>, ObjectError> {
        Ok(Some(Readable::Url(self.presign(key, URL_TTL).await?)))
    }

    async fn erase(&self, key: &str) -> Result<(), ObjectError> {
        self.delete_versions(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.delete_object(key).await
    }

    async fn create_upload(&self, object: &NewObject) -> Result<String, ObjectError> {
        self.create_multipart_upload(object).await
    }

    async fn put_part(&self, upload: Upload<'_>, number: u32, piece: Piece<'_>) -> Result<String, ObjectError> {
        let put = self.upload_part(upload, number, piece).await;
        request::explain_digest(put, piece).await
    }

    async fn copy_part(&self, upload: Upload<'_>, number: u32, part: CopiedPart<'_>) -> Result<String, ObjectError> {
        self.upload_part_copy(upload, number, part).await
    }

    async fn complete(
        &self,
        upload: Upload<'_>,
        parts: &[Part],
        _bytes: u64,
        condition: &Condition,
    ) -> Result<String, ObjectError> {
        self.complete_multipart_upload(upload, parts, condition).await
    }

    async fn abort(&self, upload: Upload<'_>) -> Result<(), ObjectError> {
        self.abort_multipart_upload(upload).await
    }

    async fn tag(&self, key: &str, tags: &[(String, String)]) -> Result<(), ObjectError> {
        self.put_object_tagging(key, tags).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        self.list_objects(prefix).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, ObjectError> {
        self.list_multipart_uploads(prefix).await
    }
}

/// A date of the SDK; nonsense becomes now, so that nothing is taken for old.
fn date(at: Option<&aws_sdk_s3::primitives::DateTime>) -> SystemTime {
    at.and_then(|at| SystemTime::try_from(*at).ok())
        .unwrap_or_else(SystemTime::now)
}
