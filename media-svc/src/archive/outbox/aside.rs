//! What was set aside of damaged files. It is kept for whoever looks into the damage, and not for ever: it may hold what
//! callers said, and no erasure reaches it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is older goes.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often that is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
const INFIX: &str = ".damaged-at-";

/// Where what follows the first `offset` bytes of a segment is put.
pub(super) fn path(dir: &Path, segment: u64, offset: u64) -> PathBuf {
    dir.join(format!("{segment:016}{INFIX}{offset}"))
}

/// Deletes what is old, and returns how many files and bytes there still are.
pub(super) fn forget_old(dir: &Path) -> io::Result<(usize, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().contains(INFIX) {
            continue;
        }
        let metadata = entry.metadata()?;
        let age = SystemTime::now()
            .duration_since(metadata.modified()?)
            .unwrap_or_default();
        if age > KEPT_FOR {
            std::fs::remove_file(entry.path())?;
            tracing::info!(file = %entry.path().display(), days = age.as_secs() / (24 * 60 * 60),
                "what was set aside of a damaged outbox file is deleted: nobody has needed it");
        } else {
            files += 1;
            bytes += metadata.len();
        }
    }
    Ok((files, bytes))
}
