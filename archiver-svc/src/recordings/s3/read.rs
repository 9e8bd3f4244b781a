//! URLs to objects, and deleting them for good.

use std::time::{Duration, Instant};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;

use super::request::outcome;
use super::{ObjectError, S3Store};

impl S3Store {
    /// A URL to an object that needs no further credentials for this long.
    pub(super) async fn presign(&self, key: &str, ttl: Duration) -> Result<String, ObjectError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ObjectError::S3 {
            operation: "presign",
            source,
        };
        let config = PresigningConfig::expires_in(ttl).map_err(|error| failed(error.into()))?;
        let request = self.signer.get_object().bucket(&self.bucket).key(key);
        let presigned = request.presigned(config).await.map_err(|error| failed(error.into()))?;
        Ok(presigned.uri().to_owned())
    }

    /// Deletes an object with all its versions. When something of it may be left, that is an error.
    pub(super) async fn delete_versions(&self, key: &str) -> Result<(), ObjectError> {
        let Some(versions) = self.versions(key).await? else {
            // Whether there are any shows in the answer: only a versioned bucket puts a marker over what it keeps. It
            // is asked each time, so that an erasure that is tried again does not take its own marker for success.
            return if self.delete_version(key, None).await? {
                Err(ObjectError::VersionsStay { key: key.to_owned() })
            } else {
                Ok(())
            };
        };
        for version in versions {
            self.delete_version(key, Some(version)).await?;
        }
        Ok(())
    }

    /// `true`: what was there has only been hidden by a marker.
    async fn delete_version(&self, key: &str, version: Option<String>) -> Result<bool, ObjectError> {
        let is_plain = version.is_none();
        let started = Instant::now();
        let answer = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .set_version_id(version)
            .send()
            .await;
        let answer = outcome("delete_object", started, answer)?;
        Ok(is_plain && answer.delete_marker() == Some(true))
    }

    /// Names of all versions and delete markers of a key, `null` for one that was stored without versions; `None`: they
    /// cannot be listed here. An error that may pass is one: taken for "none", it would leave them there for good.
    async fn versions(&self, key: &str) -> Result<Option<Vec<String>>, ObjectError> {
        let mut names = Vec::new();
        let (mut after_key, mut after_version) = (None, None);
        loop {
            let started = Instant::now();
            let request = self.client.list_object_versions().bucket(&self.bucket).prefix(key);
            let answer = request
                .set_key_marker(after_key.take())
                .set_version_id_marker(after_version.take())
                .send()
                .await;
            let cannot = answer.as_ref().err().is_some_and(cannot_list);
            let page = match outcome("list_object_versions", started, answer) {
                Ok(page) => page,
                Err(error) if cannot => {
                    tracing::warn!(
                        error = super::chain(&error),
                        "versions of a recording cannot be listed: allow s3:ListBucketVersions and \
                         s3:DeleteObjectVersion"
                    );
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let versions = page.versions().iter().map(|one| (one.key(), one.version_id()));
            let markers = page.delete_markers().iter().map(|one| (one.key(), one.version_id()));
            let of_key = versions.chain(markers).filter(|(of, _)| *of == Some(key));
            // A store without versions may name none.
            let named = of_key.map(|(_, version)| version.filter(|name| !name.is_empty()).unwrap_or("null"));
            names.extend(named.map(str::to_owned));
            // Keys come in order: behind this one, nothing of it follows.
            let is_past = page.next_key_marker().is_none_or(|next| next > key);
            if !page.is_truncated.unwrap_or(false) || is_past {
                return Ok(Some(names));
            }
            (after_key, after_version) = (page.next_key_marker, page.next_version_id_marker);
        }
    }
}

/// Whether a store has no versions, or this key may not list them: both stay as they are.
fn cannot_list<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let is_unknown = matches!(error.code(), Some("NotImplemented" | "MethodNotAllowed"));
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    is_unknown || matches!(status, Some(403 | 405 | 501))
}
