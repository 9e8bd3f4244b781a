//! Whole objects: look, put, get, delete, tag, list.

use std::path::Path;
use std::time::Instant;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, Tag, Tagging};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::request::{checksum, condition, is_missing, may_pass, observe, outcome};
use super::{S3Store, date};
use crate::recordings::metadata::PCM_SHA256;
use crate::recordings::objects::{Condition, Head, Listed, NewObject, ObjectError};

impl S3Store {
    pub(super) async fn head_object(&self, key: &str) -> Result<Option<Head>, ObjectError> {
        let started = Instant::now();
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let answer = request.checksum_mode(ChecksumMode::Enabled).send().await;
        if is_missing(&answer) {
            observe("head_object", started);
            return Ok(None);
        }
        let head = outcome("head_object", started, answer)?;
        let is_of_parts = head
            .checksum_sha256
            .as_ref()
            .is_some_and(|checksum| checksum.contains('-'));
        Ok(Some(Head {
            etag: head.e_tag.unwrap_or_default(),
            bytes: head
                .content_length
                .and_then(|length| u64::try_from(length).ok())
                .unwrap_or(0),
            sha256: None,
            parts_sha256: head.checksum_sha256.filter(|_| is_of_parts),
            pcm_sha256: head.metadata.and_then(|mut metadata| metadata.remove(PCM_SHA256)),
        }))
    }

    pub(super) async fn put_object(
        &self,
        object: &NewObject,
        body: ByteStream,
        sha256: [u8; 32],
        only_if: &Condition,
    ) -> Result<String, ObjectError> {
        let (if_match, if_none_match) = condition(only_if);
        let started = Instant::now();
        let answer = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&object.key)
            .content_type(object.content_type)
            .set_metadata(metadata(object))
            .set_tagging(tagging(&object.tags))
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .checksum_sha256(checksum(&sha256))
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .body(body)
            .send()
            .await;
        outcome("put_object", started, answer)?
            .e_tag
            .ok_or(ObjectError::Answer("put_object"))
    }

    pub(super) async fn get_object(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, ObjectError> {
        let started = Instant::now();
        let answer = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        if is_missing(&answer) {
            observe("get_object", started);
            return Ok(None);
        }
        let object = outcome("get_object", started, answer)?;
        let etag = object.e_tag.ok_or(ObjectError::Answer("get_object"))?;
        let bytes = object.body.collect().await.map_err(std::io::Error::other)?;
        Ok(Some((bytes.to_vec(), etag)))
    }

    pub(super) async fn download(&self, key: &str, file: &Path) -> Result<(), ObjectError> {
        let started = Instant::now();
        let answer = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        if is_missing(&answer) {
            observe("get_object", started);
            return Err(ObjectError::Missing { key: key.to_owned() });
        }
        let mut body = outcome("get_object", started, answer)?.body;
        let mut file = tokio::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(file)
            .await?;
        file.rewind().await?;
        while let Some(bytes) = body.try_next().await.map_err(std::io::Error::other)? {
            file.write_all(&bytes).await?;
        }
        file.flush().await?;
        Ok(())
    }

    pub(super) async fn delete_object(&self, key: &str) -> Result<(), ObjectError> {
        let started = Instant::now();
        let answer = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        outcome("delete_object", started, answer).map(drop)
    }

    pub(super) async fn put_object_tagging(&self, key: &str, tags: &[(String, String)]) -> Result<(), ObjectError> {
        let tags = tags
            .iter()
            .filter_map(|(name, value)| Tag::builder().key(name).value(value).build().ok());
        let tagging = Tagging::builder()
            .set_tag_set(Some(tags.collect()))
            .build()
            .map_err(|_| ObjectError::Answer("put_object_tagging"))?;
        let started = Instant::now();
        let request = self.client.put_object_tagging().bucket(&self.bucket).key(key);
        let answer = request.tagging(tagging).send().await;
        let passes = answer.as_ref().err().is_some_and(may_pass);
        match outcome("put_object_tagging", started, answer) {
            Ok(_) => Ok(()),
            Err(error) if passes => Err(ObjectError::S3 {
                operation: "put_object_tagging",
                source: Box::new(error),
            }),
            Err(error) => Err(ObjectError::NotTagged {
                source: Box::new(error),
            }),
        }
    }

    pub(super) async fn list_objects(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let started = Instant::now();
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let answer = request.set_continuation_token(after.take()).send().await;
            let page = outcome("list_objects", started, answer)?;
            listed.extend(page.contents().iter().filter_map(|object| {
                Some(Listed {
                    key: object.key()?.to_owned(),
                    modified: date(object.last_modified()),
                })
            }));
            after = page.next_continuation_token;
            if after.is_none() {
                return Ok(listed);
            }
        }
    }
}

/// Metadata of a new object.
pub(super) fn metadata(object: &NewObject) -> Option<std::collections::HashMap<String, String>> {
    let named = object.metadata.iter();
    (!object.metadata.is_empty()).then(|| named.map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// Tags of a new object, as a query string.
pub(super) fn tagging(tags: &[(String, String)]) -> Option<String> {
    let pairs: Vec<_> = tags
        .iter()
        .map(|(name, value)| format!("{}={}", url_encoded(name, b"-_.~"), url_encoded(value, b"-_.~")))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

/// Percent-encoded, but for letters, digits and these.
pub(super) fn url_encoded(text: &str, plain: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
