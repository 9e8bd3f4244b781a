//! Loading: file, environment, flags; all problems at once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::sources::{Merged, merge};
use super::{Config, build};
use crate::exit::{self, Fatal};

/// Which defaults apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Everything in one process: recording to a local folder and transcripts to SQLite are on.
    SingleProcess,
    /// One service of a deployment: the specification's defaults.
    Service,
    /// The archiver of a deployment, which alone needs to know where transcripts are written.
    Archiver,
}

/// Where values come from. Tests build it by hand; `main` fills it from the process.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`, which must exist when given.
    pub file: Option<PathBuf>,
    /// Environment, name to value.
    pub env: BTreeMap<String, String>,
    /// Flags by dotted key.
    pub flags: BTreeMap<String, String>,
    /// Folder in which `./config.json` is looked for.
    pub working_dir: PathBuf,
}

impl Sources {
    /// This process's environment and working folder, with `--config` and the flags of the command line (dotted key to
    /// value). Variables that are not UTF-8 are left out.
    pub fn from_process(file: Option<PathBuf>, flags: BTreeMap<String, String>) -> Self {
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self {
            file,
            env: env.collect(),
            flags,
            working_dir: PathBuf::from("."),
        }
    }
}

/// A configuration and where every value came from.
#[derive(Debug)]
pub struct Loaded {
    /// The typed configuration.
    pub config: Config,
    /// Key, shown value (secrets masked), source (`default`, `file PATH`, `env NAME`, `flag`).
    pub effective: Vec<(String, String, String)>,
    /// Things that work but deserve a look.
    pub warnings: Vec<String>,
}

/// One wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, the name of an environment variable, or the file's path.
    pub key: String,
    /// Value (secrets masked), what is allowed, the nearest known key.
    pub message: String,
}

impl Problem {
    /// Makes one.
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

/// Every problem found.
#[derive(Debug)]
pub struct ConfigError {
    /// File, then environment, then flags, then what does not go together.
    pub problems: Vec<Problem>,
    /// A file that was named is missing or cannot be read: exit status 66 instead of 64.
    pub unreadable_file: bool,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {count} {noun}:")?;
        for problem in &self.problems {
            write!(f, "\n  {}: {}", problem.key, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for Fatal {
    fn from(error: ConfigError) -> Self {
        if error.unreadable_file {
            Self::new(
                exit::NO_INPUT,
                error.to_string(),
                "name a file that exists and can be read, or leave the option out to use the defaults",
            )
        } else {
            Self::new(
                exit::CONFIG,
                error.to_string(),
                "correct these in the file, environment or flags named; docs/configuration.md lists every key",
            )
        }
    }
}

/// Reads, merges and checks everything: file (`--config`, else `VOXRAY_CONFIG`, else `./config.json` if it is there),
/// then environment, then flags.
///
/// # Errors
/// Every problem there is, at once.
pub fn load(sources: &Sources, profile: Profile) -> Result<Loaded, ConfigError> {
    let mut merged = merge(sources, profile);
    let config = build::build(&mut merged, profile);
    let Merged {
        values,
        problems,
        warnings,
        unreadable_file,
        ..
    } = merged;
    if !problems.is_empty() {
        return Err(ConfigError {
            problems,
            unreadable_file,
        });
    }
    Ok(Loaded {
        config,
        effective: values.effective(),
        warnings,
    })
}

/// Reads `api_keys.*` and `server_api_key` again (from the file and from `…_FILE`s) into the running configuration, and
/// gives back the `log_level` that is written there now: what SIGHUP does. Nothing else changes, and nothing at all
/// when a problem is found.
///
/// # Errors
/// Problems with those keys or with the file as a whole.
pub fn reload(sources: &Sources, config: &Config) -> Result<tracing::Level, ConfigError> {
    let merged = merge(sources, Profile::Service);
    let problems: Vec<_> = merged
        .problems
        .iter()
        .filter(|problem| merged.whole_file_failed || is_reloaded(&problem.key))
        .cloned()
        .collect();
    if !problems.is_empty() {
        return Err(ConfigError {
            problems,
            unreadable_file: merged.unreadable_file,
        });
    }
    let (api_keys, server_api_keys) = build::reloadable(&merged.values);
    config.secrets.replace(api_keys, server_api_keys);
    Ok(build::log_level(&merged.values))
}

fn is_reloaded(key: &str) -> bool {
    key == "server_api_key" || key == "log_level" || key.starts_with("api_keys.")
}
