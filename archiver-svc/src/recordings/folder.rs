//! Recordings in a local folder, which behaves like a bucket: a reader sees all of an object or nothing, what is
//! acknowledged has been flushed to the disk, and an upload in parts survives the archiver.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use service_kit::exit::{self, Fatal};
use sha2::{Digest, Sha256};

use super::Readable;
use super::manifest::Part;
use super::objects::{
    Condition, CopiedPart, Head, Listed, ListedUpload, NewObject, ObjectError, Objects, Piece, Upload,
};

/// Usual length of a part: half a minute of a phone call is flushed at once.
pub const PART_BYTES: u64 = 1024 * 1024;
/// Buffer for reading and hashing, bytes.
const READ_BUFFER: usize = 64 * 1024;
/// Where uploads in parts are, below the folder.
const UPLOADS: &str = ".uploads";

/// A folder that holds recordings under their object keys.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: PathBuf,
    part_bytes: u64,
    /// Held from looking at a name to changing it.
    names: Arc<Mutex<()>>,
}

/// What is asked of one file, where blocking is allowed.
struct Place {
    root: PathBuf,
    names: Arc<Mutex<()>>,
}

impl FolderStore {
    /// Makes the folder when missing and proves that it can be written.
    pub async fn open(root: &Path, part_bytes: u64) -> Result<Self, Fatal> {
        let store = Self {
            root: root.to_owned(),
            part_bytes,
            names: Arc::default(),
        };
        store
            .run(|place| {
                std::fs::create_dir_all(place.root.join(UPLOADS))?;
                let probe = place.root.join(".voxray-write-test");
                std::fs::write(&probe, b"")?;
                Ok(std::fs::remove_file(&probe)?)
            })
            .await
            .map_err(|error| {
                Fatal::new(
                    exit::CANNOT_CREATE,
                    format!(
                        "cannot write the recordings folder {}: {}",
                        root.display(),
                        super::chain(&error)
                    ),
                    "make it writable for this user, or set recording.folder or recording.bucket to another place",
                )
            })?;
        Ok(store)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let place = Place {
            root: self.root.clone(),
            names: Arc::clone(&self.names),
        };
        match tokio::task::spawn_blocking(move || work(&place)).await {
            Ok(done) => done,
            Err(error) => Err(ObjectError::File(io::Error::other(error))),
        }
    }
}

#[async_trait]
impl Objects for FolderStore {
    fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    async fn head(&self, key: &str) -> Result<Option<Head>, ObjectError> {
        let key = key.to_owned();
        self.run(move |place| place.head(&key)).await
    }

    async fn put_file(
        &self,
        object: &NewObject,
        piece: Piece<'_>,
        condition: &Condition,
    ) -> Result<String, ObjectError> {
        let (key, condition, piece) = (object.key.clone(), condition.clone(), OwnedPiece::of(piece));
        self.run(move |place| place.put(&key, &condition, |to| piece.copy_to(to)))
            .await
    }

    async fn put_bytes(&self, key: &str, bytes: Vec<u8>, condition: &Condition) -> Result<String, ObjectError> {
        let (key, condition) = (key.to_owned(), condition.clone());
        self.run(move |place| place.put(&key, &condition, |to| Ok(to.write_all(&bytes)?)))
            .await
    }

    async fn get_bytes(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, ObjectError> {
        let key = key.to_owned();
        self.run(move |place| {
            let Some(mut file) = place.find(&key)? else {
                return Ok(None);
            };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(Some((bytes, etag(&file)?)))
        })
        .await
    }

    async fn get_to_file(&self, key: &str, file: &Path) -> Result<(), ObjectError> {
        let (key, file) = (key.to_owned(), file.to_owned());
        self.run(move |place| {
            let Some(mut from) = place.find(&key)? else {
                return Err(ObjectError::Missing { key });
            };
            let mut to = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&file)?;
            io::copy(&mut from, &mut to)?;
            Ok(())
        })
        .await
    }

    async fn read(&self, key: &str) -> Result<Option<Readable>, ObjectError> {
        let key = key.to_owned();
        self.run(move |place| {
            let Some(file) = place.find(&key)? else {
                return Ok(None);
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

    /// A folder has no versions.
    async fn erase(&self, key: &str) -> Result<(), ObjectError> {
        self.delete(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let key = key.to_owned();
        self.run(move |place| Ok(unless_missing(std::fs::remove_file(place.root.join(&key)))?))
            .await
    }

    async fn create_upload(&self, object: &NewObject) -> Result<String, ObjectError> {
        let key = object.key.clone();
        self.run(move |place| {
            let id = upload_id(&key);
            File::create_new(place.upload(&id))?;
            // The manifest will speak of it.
            File::open(place.root.join(UPLOADS))?.sync_all()?;
            Ok(id)
        })
        .await
    }

    async fn put_part(&self, upload: Upload<'_>, number: u32, piece: Piece<'_>) -> Result<String, ObjectError> {
        let (id, piece, at) = (upload.id.to_owned(), OwnedPiece::of(piece), self.position(number));
        self.run(move |place| {
            let mut file = place.open_upload(&id, "put_part")?;
            file.seek(SeekFrom::Start(at))?;
            piece.copy_to(&mut file)?;
            file.sync_data()?;
            Ok(String::new())
        })
        .await
    }

    async fn copy_part(&self, upload: Upload<'_>, number: u32, part: CopiedPart<'_>) -> Result<String, ObjectError> {
        let (id, key, at) = (upload.id.to_owned(), upload.key.to_owned(), self.position(number));
        let (from, length, expected) = (part.from, part.length, part.etag.to_owned());
        self.run(move |place| {
            let mut source = place.find(&key)?.ok_or(conflict("copy_part"))?;
            if etag(&source)? != expected {
                return Err(conflict("copy_part"));
            }
            source.seek(SeekFrom::Start(from))?;
            let mut file = place.open_upload(&id, "copy_part")?;
            file.seek(SeekFrom::Start(at))?;
            io::copy(&mut source.take(length), &mut file)?;
            file.sync_data()?;
            Ok(String::new())
        })
        .await
    }

    async fn complete(
        &self,
        upload: Upload<'_>,
        _parts: &[Part],
        bytes: u64,
        condition: &Condition,
    ) -> Result<String, ObjectError> {
        let (id, key, condition) = (upload.id.to_owned(), upload.key.to_owned(), condition.clone());
        self.run(move |place| {
            let file = place.open_upload(&id, "complete")?;
            file.set_len(bytes)?;
            file.sync_all()?;
            place.rename(&place.upload(&id), &key, &condition)?;
            etag(&file)
        })
        .await
    }

    async fn abort(&self, upload: Upload<'_>) -> Result<(), ObjectError> {
        let id = upload.id.to_owned();
        self.run(move |place| Ok(unless_missing(std::fs::remove_file(place.upload(&id)))?))
            .await
    }

    /// A folder has no tags.
    async fn tag(&self, _key: &str, _tags: &[(String, String)]) -> Result<(), ObjectError> {
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        let prefix = prefix.to_owned();
        self.run(move |place| {
            let listed = entries(&place.root.join(&prefix))?.into_iter();
            let listed = listed.map(|(name, modified)| Listed {
                key: format!("{prefix}{name}"),
                modified,
            });
            Ok(listed.collect())
        })
        .await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, ObjectError> {
        let prefix = prefix.to_owned();
        self.run(move |place| {
            let listed = entries(&place.root.join(UPLOADS))?.into_iter();
            let listed = listed.filter_map(|(id, begun)| {
                let key = id.rsplit_once('.')?.0.replace('%', "/");
                key.starts_with(&prefix).then_some(ListedUpload { key, id, begun })
            });
            Ok(listed.collect())
        })
        .await
    }
}

impl FolderStore {
    fn position(&self, number: u32) -> u64 {
        self.part_bytes.saturating_mul(u64::from(number.saturating_sub(1)))
    }
}

impl Place {
    fn upload(&self, id: &str) -> PathBuf {
        self.root.join(UPLOADS).join(id)
    }

    fn open_upload(&self, id: &str, operation: &'static str) -> Result<File, ObjectError> {
        match OpenOptions::new().write(true).open(self.upload(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ObjectError::UploadGone { operation }),
            opened => Ok(opened?),
        }
    }

    fn find(&self, key: &str) -> io::Result<Option<File>> {
        match File::open(self.root.join(key)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn head(&self, key: &str) -> Result<Option<Head>, ObjectError> {
        let Some(mut file) = self.find(key)? else {
            return Ok(None);
        };
        let mut hasher = Sha256::new();
        each_block(&mut file, u64::MAX, |block| {
            hasher.update(block);
            Ok(())
        })?;
        Ok(Some(Head {
            etag: etag(&file)?,
            bytes: file.metadata()?.len(),
            sha256: Some(hex::encode(hasher.finalize())),
            ..Head::default()
        }))
    }

    /// Writes among the uploads, where it is cleared up after a crash, flushes, renames.
    fn put(
        &self,
        key: &str,
        condition: &Condition,
        write: impl FnOnce(&mut File) -> Result<(), ObjectError>,
    ) -> Result<String, ObjectError> {
        let part = self.upload(&upload_id(key));
        let mut file = File::create_new(&part)?;
        let written = write(&mut file)
            .and_then(|()| Ok(file.sync_all()?))
            .and_then(|()| self.rename(&part, key, condition));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
        etag(&file)
    }

    fn rename(&self, from: &Path, key: &str, condition: &Condition) -> Result<(), ObjectError> {
        let target = self.root.join(key);
        let folder = target.parent().unwrap_or(&self.root);
        create_folders(folder)?;
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.find(key)?.map(|file| etag(&file)).transpose()?;
        match (condition, there) {
            (Condition::IsFirst, None) => {}
            (Condition::Replaces(expected), Some(there)) if *expected == there => {}
            (Condition::IsFirst, Some(_)) | (Condition::Replaces(_), _) => return Err(conflict("rename")),
        }
        std::fs::rename(from, &target)?;
        // The name itself lives in the folder.
        Ok(File::open(folder)?.sync_all()?)
    }
}

/// A [`Piece`] that can go to another thread.
struct OwnedPiece {
    file: PathBuf,
    from: u64,
    length: u64,
    sha256: [u8; 32],
}

impl OwnedPiece {
    fn of(piece: Piece<'_>) -> Self {
        Self {
            file: piece.file.to_owned(),
            from: piece.from,
            length: piece.length,
            sha256: piece.sha256,
        }
    }

    fn copy_to(&self, to: &mut File) -> Result<(), ObjectError> {
        let mut from = File::open(&self.file)?;
        from.seek(SeekFrom::Start(self.from))?;
        let mut hasher = Sha256::new();
        each_block(&mut from, self.length, |block| {
            hasher.update(block);
            to.write_all(block)
        })?;
        if hasher.finalize()[..] == self.sha256 {
            Ok(())
        } else {
            Err(ObjectError::Damaged("copying to the recordings folder"))
        }
    }
}

/// Reads at most `length` bytes, a block at a time.
pub fn each_block(from: &mut File, length: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER];
    let mut from = from.take(length);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        take(buffer.get(..count).unwrap_or_default())?;
    }
}

/// Makes a folder and those above it that are missing, and flushes the names of the new ones: a file that is flushed in
/// a folder that is not would be gone with it.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(above) = folder.parent() else { return Ok(()) };
    create_folders(above)?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    File::open(above)?.sync_all()
}

fn entries(folder: &Path) -> io::Result<Vec<(String, SystemTime)>> {
    let found = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        // Gone between the list and the look: somebody is quicker.
        let Ok(about) = entry.metadata() else { continue };
        if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
            entries.push((name, about.modified()?));
        }
    }
    Ok(entries)
}

/// A name that no other archiver uses, and that says what it is of.
fn upload_id(key: &str) -> String {
    format!("{}.{}", key.replace('/', "%"), uuid::Uuid::new_v4().simple())
}

/// Changes when a file is replaced: it is never written in place under its final name.
fn etag(file: &File) -> Result<String, ObjectError> {
    let about = file.metadata()?;
    Ok(format!(
        "{:x}-{:x}-{:x}{:09x}",
        about.ino(),
        about.len(),
        about.mtime(),
        about.mtime_nsec()
    ))
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn conflict(operation: &'static str) -> ObjectError {
    ObjectError::Conflict { operation }
}
