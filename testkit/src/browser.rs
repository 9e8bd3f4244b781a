//! Runs scripts that drive clients which are not ours: those of `testkit/browser` in Node, with Chromium, and those of
//! `testkit/peers` in Python. A script gets its arguments as JSON and a folder, and writes what it found out to
//! `result.json` there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::environment::hide_settings;
use crate::process::{Process, Spec};
use crate::servers::tools;

/// A running script. Dropping it kills it and its process group; Chromium, which has a group of its own, ends with the
/// script that started it.
#[derive(Debug)]
pub struct Script {
    name: String,
    process: Process,
    folder: TempDir,
}

impl Script {
    /// Starts `testkit/browser/{script}` in Node with these arguments, and `executable`, which is Chromium's.
    ///
    /// # Errors
    /// When Node, Chromium or the packages are missing, or it does not start.
    pub fn start(script: &str, args: &Value) -> anyhow::Result<Self> {
        let mut args = args.clone();
        if let Some(args) = args.as_object_mut() {
            args.insert("executable".to_owned(), tools::chromium()?.display().to_string().into());
        }
        let spec = Spec::new(script, tools::node()?)
            .arg(scripts().join(script))
            .env("NODE_PATH", tools::node_modules()?);
        Self::spawn(spec, &args)
    }

    /// Starts `testkit/peers/{script}` in Python with these arguments.
    ///
    /// # Errors
    /// When the packages are missing, or it does not start.
    pub fn start_python(script: &str, args: &Value) -> anyhow::Result<Self> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let spec = Spec::new(script, "python3")
            .arg("-B")
            .arg(peers.join(script))
            .env("PYTHONPATH", tools::python_packages()?)
            .env("PYTHONUNBUFFERED", "1");
        Self::spawn(spec, args)
    }

    fn spawn(spec: Spec, args: &Value) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("voxray-script-").tempdir()?;
        let name = spec.name.clone();
        let spec = spec
            .arg(args.to_string())
            .arg(folder.path())
            .folder(folder.path())
            // Profiles of a browser that was killed go with the folder.
            .env("TMPDIR", folder.path())
            .env("HOME", folder.path());
        let process = Process::spawn(hide_settings(spec, false), &folder.path().join("script.log"))?;
        Ok(Self { name, process, folder })
    }

    /// Where its files are, until this value is dropped. It may write there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// Waits until it has ended, and answers its result.
    ///
    /// # Errors
    /// When it fails or takes longer than `limit`; the message ends with everything it printed.
    pub async fn result(&self, limit: Duration) -> anyhow::Result<Value> {
        let Ok(status) = tokio::time::timeout(limit, self.process.wait()).await else {
            bail!("{} takes longer than {limit:?}; it said:\n{}", self.name, self.output());
        };
        let status = status?;
        if !status.success() {
            bail!("{} ended with {status}; it said:\n{}", self.name, self.output());
        }
        let result = std::fs::read(self.folder().join("result.json")).context("there is no result.json")?;
        serde_json::from_slice(&result).with_context(|| format!("{} wrote no JSON", self.name))
    }
}

/// Where the scripts, pages and snippets are.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser")
}
