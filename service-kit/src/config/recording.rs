//! How and where calls are recorded: what the words of the configuration mean.

use super::sources::{Merged, Values};

/// S3 takes so many tags on one object.
const MAX_TAGS: usize = 10;

/// File format of recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioFormat {
    /// 16-bit PCM
    Wav,
    /// FLAC
    Flac,
    /// Opus in Ogg
    Ogg,
}

impl AudioFormat {
    /// Last part of a file name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
            Self::Ogg => "ogg",
        }
    }
}

/// One tag of a stored recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingTag {
    /// `session`
    Session,
    /// `transport`
    Transport,
    /// `provider`
    Provider,
    /// `duration_secs`, rounded up
    Duration,
    /// `complete`: `true`, or `false` for what a node left that went away
    Complete,
    /// Any other name with the same value on every recording.
    Fixed(String, String),
}

/// Server-side encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Encryption {
    /// As the bucket says.
    None,
    /// Keys of S3.
    Aes256,
    /// Keys of KMS.
    Kms,
}

/// Checks what has to go together, and returns the tags.
pub(super) fn check(merged: &mut Merged) -> Vec<RecordingTag> {
    let base_path = merged.values.word("recording.base_path");
    if base_path.contains('\\') || base_path.split('/').any(|part| part == "..") {
        merged.problem(
            "recording.base_path",
            format!("{base_path:?} is not allowed; allowed: a path without .. and \\"),
        );
    }
    let key = "s3.kms_key_id";
    if merged.values.is_set(key) && merged.values.word("s3.sse") != "aws:kms" && !merged.is_broken("s3.sse") {
        merged.problem(key, "is only used with s3.sse aws:kms; set that, or remove the key id");
    }
    let key = "recording.mute_redacted";
    if merged.values.flag(key) && !redacts(&merged.values) {
        let message = "needs transcripts.redact or transcripts.redact_patterns: without them nothing is redacted, and \
                       nothing would be muted";
        merged.problem(key, message);
    }
    tags(merged)
}

/// Whether anything is taken out of transcripts.
pub(super) fn redacts(v: &Values) -> bool {
    let keys = ["transcripts.redact", "transcripts.redact_patterns"];
    keys.iter().any(|key| !v.list(key).is_empty())
}

fn tags(merged: &mut Merged) -> Vec<RecordingTag> {
    let words = merged.values.list("recording.tags");
    if words.len() > MAX_TAGS {
        merged.problem(
            "recording.tags",
            format!("{} tags; allowed: at most {MAX_TAGS}", words.len()),
        );
    }
    let mut tags = Vec::new();
    for word in words {
        match tag(&word) {
            Some(tag) => tags.push(tag),
            None => merged.problem(
                "recording.tags",
                format!(
                    "{word:?} is not allowed; allowed: session, transport, provider, duration, complete, or name=value \
                     with at most 128 and 256 characters of letters, digits, spaces and + - = . _ : / @"
                ),
            ),
        }
    }
    tags
}

fn tag(word: &str) -> Option<RecordingTag> {
    let is_plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " +-=._:/@".contains(c));
    match word {
        "session" => Some(RecordingTag::Session),
        "transport" => Some(RecordingTag::Transport),
        "provider" => Some(RecordingTag::Provider),
        "duration" => Some(RecordingTag::Duration),
        "complete" => Some(RecordingTag::Complete),
        word => {
            let (name, value) = word.split_once('=')?;
            let is_usable = !name.is_empty() && name.chars().count() <= 128 && value.chars().count() <= 256;
            (is_usable && is_plain(name) && is_plain(value))
                .then(|| RecordingTag::Fixed(name.to_owned(), value.to_owned()))
        }
    }
}

/// `recording.format`
pub(super) fn format(v: &Values) -> AudioFormat {
    match v.word("recording.format").as_str() {
        "flac" => AudioFormat::Flac,
        "ogg" => AudioFormat::Ogg,
        _ => AudioFormat::Wav,
    }
}

/// `s3.sse`
pub(super) fn encryption(v: &Values) -> S3Encryption {
    match v.word("s3.sse").as_str() {
        "AES256" => S3Encryption::Aes256,
        "aws:kms" => S3Encryption::Kms,
        _ => S3Encryption::None,
    }
}
