//! The folder of recordings in the making: one file each, gone when nobody needs it any more.
//!
//! Nothing here is durable. What was not acknowledged is sent again by the nodes, so the folder is emptied at start
//! and files are never flushed to the platter.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use service_kit::exit::{self, Fatal};

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

    /// A place for a new file of this session. Nothing is made yet.
    pub fn file(self: &Arc<Self>, session_id: &str) -> SpoolFile {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        SpoolFile {
            path: self.path.join(format!("{session_id}-{}-{number}.spool", self.run)),
            dir: Arc::clone(self),
        }
    }
}

/// A file that goes when nobody needs it any more.
#[derive(Debug)]
pub struct SpoolFile {
    path: PathBuf,
    dir: Arc<SpoolDir>,
}

impl SpoolFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another one of the same session in the same folder.
    pub fn sibling(&self, session_id: &str) -> Self {
        self.dir.file(session_id)
    }
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
