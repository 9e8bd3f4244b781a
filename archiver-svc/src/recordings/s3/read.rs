//! URLs to objects, and deleting them for good.

use std::time::{Duration, Instant};

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

    /// Deletes an object with all its versions.
    pub(super) async fn delete_versions(&self, key: &str) -> Result<(), ObjectError> {
        let versions = self.versions(key).await;
        // Without versions there is nothing that a plain delete would leave. On a versioned bucket it would only hide
        // the object, or leave a marker of one that never was; so there each version goes by its name.
        if versions.is_empty() {
            let is_there = self.list_objects(key).await?.iter().any(|object| object.key == key);
            return if is_there {
                self.delete_version(key, None).await
            } else {
                Ok(())
            };
        }
        for version in versions {
            self.delete_version(key, Some(version)).await?;
        }
        Ok(())
    }

    async fn delete_version(&self, key: &str, version: Option<String>) -> Result<(), ObjectError> {
        let started = Instant::now();
        let answer = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .set_version_id(version)
            .send()
            .await;
        outcome("delete_object", started, answer).map(drop)
    }

    /// Names of all versions and delete markers of a key; none on a bucket that was never versioned.
    async fn versions(&self, key: &str) -> Vec<String> {
        let started = Instant::now();
        let answer = self
            .client
            .list_object_versions()
            .bucket(&self.bucket)
            .prefix(key)
            .send()
            .await;
        let list = match outcome("list_object_versions", started, answer) {
            Ok(list) => list,
            Err(error) => {
                // Not every store has versions, and not every key may list them.
                tracing::warn!(
                    error = super::chain(&error),
                    "versions of a recording cannot be listed; if the bucket is versioned, older ones stay: allow \
                     s3:ListBucketVersions and s3:DeleteObjectVersion"
                );
                return Vec::new();
            }
        };
        let versions = list.versions().iter().map(|one| (one.key(), one.version_id()));
        let markers = list.delete_markers().iter().map(|one| (one.key(), one.version_id()));
        versions
            .chain(markers)
            .filter(|(of, _)| *of == Some(key))
            .filter_map(|(_, version)| version)
            .filter(|version| !version.is_empty() && *version != "null")
            .map(str::to_owned)
            .collect()
    }
}
