//! What an object says about itself: metadata always, tags where the configuration asks for them.

use service_kit::config::RecordingTag;

use super::manifest::Facts;
use super::objects::NewObject;

/// Metadata with the hash of the samples, where it is known before the object is made.
pub const PCM_SHA256: &str = "voxray-pcm-sha256";
/// Metadata of a recording that is not the whole call.
const INCOMPLETE: &str = "voxray-incomplete";

/// Most tags of an object (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>).
const MAX_TAGS: usize = 10;

/// What is known about a recording when it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What it is of.
    pub facts: &'a Facts,
    /// Length and hash, when it has ended.
    pub end: Option<KnownEnd>,
}

/// What is known at the end.
#[derive(Debug, Clone, Copy)]
pub struct KnownEnd {
    /// Length in milliseconds.
    pub duration_ms: u64,
    /// SHA-256 of the samples.
    pub pcm_sha256: [u8; 32],
    /// All of the call is there.
    pub complete: bool,
}

/// A recording's object with everything that is known of it.
pub fn describe(key: &str, content_type: &'static str, known: Known<'_>, tags: &[RecordingTag]) -> NewObject {
    let facts = known.facts;
    let mut metadata = vec![
        ("voxray-session", facts.session_id.clone()),
        ("voxray-transport", facts.transport.clone()),
        ("voxray-started-at-ms", facts.started_at_unix_ms.to_string()),
    ];
    if !facts.provider.is_empty() {
        metadata.push(("voxray-provider", facts.provider.clone()));
    }
    if let Some(end) = known.end {
        metadata.push(("voxray-duration-ms", end.duration_ms.to_string()));
        metadata.push((PCM_SHA256, hex::encode(end.pcm_sha256)));
        if !end.complete {
            metadata.push((INCOMPLETE, "true".to_owned()));
        }
    }
    NewObject {
        key: key.to_owned(),
        content_type,
        metadata,
        tags: self::tags(known, tags),
    }
}

/// Tags of an object that was made in parts, when it has ended. Its metadata was given when it began, so that it is not
/// the whole call is a tag, asked for or not.
pub fn last_tags(known: Known<'_>, wanted: &[RecordingTag]) -> Vec<(String, String)> {
    let mut tags = tags(known, wanted);
    if known.end.is_some_and(|end| !end.complete) && !wanted.contains(&RecordingTag::Complete) {
        tags.insert(0, ("complete".to_owned(), "false".to_owned()));
        tags.truncate(MAX_TAGS);
    }
    tags
}

/// Tags that can be given now. Duration and completeness come when the call has ended.
pub fn tags(known: Known<'_>, wanted: &[RecordingTag]) -> Vec<(String, String)> {
    let facts = known.facts;
    let value = |tag: &RecordingTag| match tag {
        RecordingTag::Session => Some(("session".to_owned(), facts.session_id.clone())),
        RecordingTag::Transport => Some(("transport".to_owned(), facts.transport.clone())),
        RecordingTag::Provider => Some(("provider".to_owned(), facts.provider.clone())),
        RecordingTag::Duration => {
            let seconds = known.end?.duration_ms.div_ceil(1000);
            Some(("duration_secs".to_owned(), seconds.to_string()))
        }
        RecordingTag::Complete => Some(("complete".to_owned(), known.end?.complete.to_string())),
        RecordingTag::Fixed(name, value) => Some((name.clone(), value.clone())),
    };
    wanted.iter().filter_map(value).collect()
}
