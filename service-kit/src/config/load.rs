//! Loading: file, environment, flags; all problems at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Config;

/// Which defaults apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Everything in one process: recording to a local folder and transcripts to SQLite are on.
    SingleProcess,
    /// One service of a deployment: the specification's defaults.
    Service,
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
    /// Dotted key, or the file's path.
    pub key: String,
    /// Value (secrets masked), what is allowed, the nearest known key.
    pub message: String,
}

/// Every problem found.
#[derive(Debug)]
pub struct ConfigError {
    /// In file order, then environment, then flags.
    pub problems: Vec<Problem>,
}

/// Reads, merges and checks everything.
pub fn load(_sources: &Sources, _profile: Profile) -> Result<Loaded, ConfigError> {
    Err(ConfigError { problems: Vec::new() })
}
