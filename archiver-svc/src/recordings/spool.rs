//! Recordings in the making: one file each on local disk, hashed as it grows.
//!
//! Nothing here is durable. What was not acknowledged is sent again by the nodes, so the folder is emptied at start
//! and files are never flushed to the platter.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use service_kit::exit::{self, Fatal};
use sha2::{Digest, Sha256};

use super::wav::{Format, HEADER_BYTES};

/// Silence in place of lost audio is never longer than this: a nonsensical position must not fill the disk.
const LONGEST_LOSS_SECS: u64 = 3600;
static SILENCE: [u8; 16 * 1024] = [0; 16 * 1024];

/// The locked spool folder.
#[derive(Debug)]
pub struct SpoolDir {
    path: PathBuf,
    next: AtomicU64,
    /// Makes names unique: what an earlier archiver still removes is never ours.
    run: u128,
    /// Held while the archiver runs: a second one in the same folder would delete our files.
    lock: Mutex<Option<File>>,
}

impl SpoolDir {
    /// Makes the folder when missing, locks it and removes what an earlier archiver left.
    pub fn open(path: &Path) -> Result<Arc<Self>, Fatal> {
        let cannot = |error: io::Error| {
            Fatal::new(
                exit::CANNOT_CREATE,
                format!("cannot use the spool folder {}: {error}", path.display()),
                "set archiver.spool_dir to a folder this user can write, with room for the recordings of running calls",
            )
        };
        std::fs::create_dir_all(path).map_err(cannot)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Fatal::new(
                    exit::CANNOT_CREATE,
                    format!("another archiver is using the spool folder {}", path.display()),
                    "give every archiver its own archiver.spool_dir, or stop the other one",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        for entry in std::fs::read_dir(path).map_err(cannot)? {
            let file = entry.map_err(cannot)?.path();
            if file.extension().is_some_and(|extension| extension == "spool") {
                std::fs::remove_file(&file).map_err(cannot)?;
            }
        }
        Ok(Arc::new(Self {
            path: path.to_owned(),
            next: AtomicU64::new(0),
            run: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos()),
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// Lets another archiver use the folder.
    pub fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// A new, empty recording. Its file appears with the first sample.
    pub fn recording(self: &Arc<Self>, session_id: &str, format: Format) -> Spool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Spool {
            path: Arc::new(SpoolFile {
                path: self.path.join(format!("{session_id}-{}-{number}.spool", self.run)),
                _dir: Arc::clone(self),
            }),
            file: None,
            format,
            hasher: Sha256::new(),
            pcm_bytes: 0,
        }
    }
}

/// A file that goes when nobody needs it any more.
#[derive(Debug)]
pub struct SpoolFile {
    path: PathBuf,
    _dir: Arc<SpoolDir>,
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "cannot remove a spool file");
            }
        };
        // Freeing the blocks of a long recording takes milliseconds.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// One recording in the making. Its methods block: call them where blocking is allowed.
#[derive(Debug)]
pub struct Spool {
    path: Arc<SpoolFile>,
    file: Option<File>,
    format: Format,
    hasher: Sha256,
    pcm_bytes: u64,
}

/// A recording that is whole, as a WAV file.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Removes the file when the last clone goes.
    file: Arc<SpoolFile>,
    /// Length with header, bytes.
    pub bytes: u64,
    /// Frames in it.
    pub frames: u64,
    /// SHA-256 of the samples.
    pub pcm_sha256: [u8; 32],
}

impl Finished {
    /// Where the WAV file is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

impl Spool {
    /// Bytes of samples so far.
    pub fn pcm_bytes(&self) -> u64 {
        self.pcm_bytes
    }

    /// Appends samples. After an error the same samples may be appended again: nothing counts twice.
    pub fn append(&mut self, pcm: &[u8]) -> io::Result<()> {
        let end = HEADER_BYTES as u64 + self.pcm_bytes;
        let file = self.open()?;
        let written = file.seek(SeekFrom::Start(end)).and_then(|_| file.write_all(pcm));
        if let Err(error) = written {
            // A full disk may have taken a part; give its room back.
            let _ = file.set_len(end);
            return Err(error);
        }
        self.hasher.update(pcm);
        self.pcm_bytes += pcm.len() as u64;
        Ok(())
    }

    /// Appends silence up to this frame, for audio that is lost: what follows keeps its place in time. Nothing when
    /// that is longer than any loss can be.
    pub fn silence_to(&mut self, frame: u64) -> io::Result<()> {
        let end = frame.saturating_mul(self.format.frame_bytes());
        let missing = end.saturating_sub(self.pcm_bytes);
        let longest = LONGEST_LOSS_SECS * u64::from(self.format.sample_rate_hz) * self.format.frame_bytes();
        if missing > longest {
            return Ok(());
        }
        while self.pcm_bytes < end {
            let block = usize::try_from(end - self.pcm_bytes).unwrap_or(SILENCE.len());
            self.append(SILENCE.get(..block).unwrap_or(&SILENCE))?;
        }
        Ok(())
    }

    /// Completes the header.
    pub fn finish(&mut self) -> io::Result<Finished> {
        let header = self.format.header(self.pcm_bytes);
        let file = self.open()?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header)?;
        Ok(Finished {
            file: Arc::clone(&self.path),
            bytes: HEADER_BYTES as u64 + self.pcm_bytes,
            frames: self.pcm_bytes / self.format.frame_bytes().max(1),
            pcm_sha256: self.hasher.clone().finalize().into(),
        })
    }

    fn open(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::create(&self.path.path)?,
        };
        Ok(self.file.insert(file))
    }
}
