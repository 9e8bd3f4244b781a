//! Recordings in a local folder.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use service_kit::exit::{self, Fatal};
use sha2::{Digest, Sha256};

use super::wav::HEADER_BYTES;
use super::{Readable, Recording, Stored};

/// Buffer for hashing a file, bytes.
const READ_BUFFER: usize = 64 * 1024;

/// A folder that holds recordings under their object keys.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: PathBuf,
}

impl FolderStore {
    /// Makes the folder when missing and proves that it can be written.
    pub async fn open(root: &Path) -> Result<Self, Fatal> {
        let store = Self { root: root.to_owned() };
        blocking({
            let root = store.root.clone();
            move || {
                std::fs::create_dir_all(&root)?;
                let probe = root.join(".voxray-write-test");
                std::fs::write(&probe, b"")?;
                std::fs::remove_file(&probe)
            }
        })
        .await
        .map_err(|error| {
            Fatal::new(
                exit::CANNOT_CREATE,
                format!("cannot write the recordings folder {}: {error}", root.display()),
                "make it writable for this user, or set recording.folder or recording.bucket to another place",
            )
        })?;
        Ok(store)
    }

    /// Writes beside the final name, flushes, renames: a reader sees all of it or nothing.
    pub async fn store(&self, recording: &Recording) -> io::Result<Stored> {
        let target = self.root.join(&recording.key);
        let recording = recording.clone();
        blocking(move || store(&recording, &target)).await
    }

    /// Opens a recording; `None` when there is none.
    pub async fn read(&self, key: &str) -> io::Result<Option<Readable>> {
        let path = self.root.join(key);
        blocking(move || {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let facts = file.metadata()?;
            Ok(Some(Readable::File {
                bytes: facts.len(),
                modified: facts.modified()?,
                file: file.into(),
            }))
        })
        .await
    }

    /// Deletes a recording and what is left of an attempt to write it.
    pub async fn delete(&self, key: &str) -> io::Result<()> {
        let target = self.root.join(key);
        blocking(move || {
            for file in [part_of(&target)?, target] {
                match std::fs::remove_file(file) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await
    }
}

/// The name under which a file is written before it gets its own.
fn part_of(target: &Path) -> io::Result<PathBuf> {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    Ok(folder.join(format!(".{}.part", name.to_string_lossy())))
}

fn store(recording: &Recording, target: &Path) -> io::Result<Stored> {
    if is_there(recording, target)? {
        return Ok(Stored::AlreadyThere);
    }
    let part = part_of(target)?;
    let folder = target.parent().ok_or(io::ErrorKind::InvalidFilename)?;
    std::fs::create_dir_all(folder)?;
    let written = (|| {
        let mut from = File::open(&recording.file)?;
        let mut to = File::create(&part)?;
        io::copy(&mut from, &mut to)?;
        to.sync_all()?;
        std::fs::rename(&part, target)?;
        // The name itself lives in the folder.
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.map(|()| Stored::Written)
}

fn is_there(recording: &Recording, target: &Path) -> io::Result<bool> {
    let mut file = match File::open(target) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let there = file.metadata()?.len();
    if !recording.complete {
        return Ok(there >= recording.bytes);
    }
    if there != recording.bytes {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hex::encode(hasher.finalize()) == recording.pcm_sha256)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(io::Error::other(error)),
    }
}
