//! Objects that come in parts (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>).

use std::time::Instant;

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};

use super::object::{metadata, tagging, url_encoded};
use super::request::{body, checksum, condition, outcome};
use super::{S3Store, date};
use crate::recordings::manifest::Part;
use crate::recordings::objects::{Condition, CopiedPart, ListedUpload, NewObject, ObjectError, Piece, Upload};

impl S3Store {
    pub(super) async fn create_multipart_upload(&self, object: &NewObject) -> Result<String, ObjectError> {
        let started = Instant::now();
        let answer = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&object.key)
            .content_type(object.content_type)
            // The parts carry SHA-256; S3 refuses them unless the upload was opened with it.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_metadata(metadata(object))
            .set_tagging(tagging(&object.tags))
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .send()
            .await;
        outcome("create_multipart_upload", started, answer)?
            .upload_id
            .ok_or(ObjectError::Answer("create_multipart_upload"))
    }

    pub(super) async fn upload_part(
        &self,
        upload: Upload<'_>,
        number: u32,
        piece: Piece<'_>,
    ) -> Result<String, ObjectError> {
        let body = body(piece).await?;
        let started = Instant::now();
        let answer = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(upload.key)
            .upload_id(upload.id)
            .part_number(part_number(number))
            .checksum_sha256(checksum(&piece.sha256))
            .body(body)
            .send()
            .await;
        outcome("upload_part", started, answer)?
            .e_tag
            .ok_or(ObjectError::Answer("upload_part"))
    }

    pub(super) async fn upload_part_copy(
        &self,
        upload: Upload<'_>,
        number: u32,
        part: CopiedPart<'_>,
    ) -> Result<String, ObjectError> {
        let last = (part.from + part.length).saturating_sub(1);
        let started = Instant::now();
        let answer = self
            .client
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(upload.key)
            .upload_id(upload.id)
            .part_number(part_number(number))
            .copy_source(format!("{}/{}", self.bucket, url_encoded(upload.key, b"-_.~/")))
            .copy_source_range(format!("bytes={}-{last}", part.from))
            .copy_source_if_match(part.etag)
            .send()
            .await;
        outcome("upload_part_copy", started, answer)?
            .copy_part_result
            .and_then(|copied| copied.e_tag)
            .ok_or(ObjectError::Answer("upload_part_copy"))
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        upload: Upload<'_>,
        parts: &[Part],
        only_if: &Condition,
    ) -> Result<String, ObjectError> {
        let parts = (1..).zip(parts).map(|(number, part)| {
            CompletedPart::builder()
                .part_number(part_number(number))
                .e_tag(&part.etag)
                .set_checksum_sha256(hex::decode(&part.sha256).ok().map(|sha256| checksum(&sha256)))
                .build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let (if_match, if_none_match) = condition(only_if);
        let started = Instant::now();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(upload.key)
            .upload_id(upload.id)
            .multipart_upload(parts)
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .send()
            .await;
        outcome("complete_multipart_upload", started, answer)?
            .e_tag
            .ok_or(ObjectError::Answer("complete_multipart_upload"))
    }

    pub(super) async fn abort_multipart_upload(&self, upload: Upload<'_>) -> Result<(), ObjectError> {
        let started = Instant::now();
        let request = self.client.abort_multipart_upload().bucket(&self.bucket);
        let answer = request.key(upload.key).upload_id(upload.id).send().await;
        match outcome("abort_multipart_upload", started, answer) {
            Ok(_) | Err(ObjectError::UploadGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn list_multipart_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, ObjectError> {
        let mut listed = Vec::new();
        let (mut after_key, mut after_id) = (None, None);
        loop {
            let started = Instant::now();
            let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
            let answer = request
                .set_key_marker(after_key.take())
                .set_upload_id_marker(after_id.take())
                .send()
                .await;
            let page = outcome("list_multipart_uploads", started, answer)?;
            listed.extend(page.uploads().iter().filter_map(|upload| {
                Some(ListedUpload {
                    key: upload.key()?.to_owned(),
                    id: upload.upload_id()?.to_owned(),
                    begun: date(upload.initiated()),
                })
            }));
            if !page.is_truncated.unwrap_or(false) || page.next_key_marker.is_none() {
                return Ok(listed);
            }
            (after_key, after_id) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }
}

fn part_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
