//! Sources of a configuration, built step by step.

use std::path::PathBuf;

use service_kit::config::{ConfigError, Loaded, Problem, Profile, Sources, load};

use super::pairs;

/// A working folder with a `config.json`, an environment and flags.
pub struct Given {
    pub folder: tempfile::TempDir,
    pub sources: Sources,
}

impl Given {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources {
            working_dir: folder.path().to_owned(),
            ..Sources::default()
        };
        Self { folder, sources }
    }

    pub fn file(self, text: &str) -> Self {
        std::fs::write(self.folder.path().join("config.json"), text).unwrap();
        self
    }

    pub fn env(mut self, items: &[(&str, &str)]) -> Self {
        self.sources.env.extend(pairs(items));
        self
    }

    pub fn flags(mut self, items: &[(&str, &str)]) -> Self {
        self.sources.flags.extend(pairs(items));
        self
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources, Profile::SingleProcess)
    }

    pub fn problems(&self) -> Vec<Problem> {
        self.load().unwrap_err().problems
    }

    /// The only problem, as `key: message`.
    pub fn problem(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        format!("{}: {}", problems[0].key, problems[0].message)
    }
}

pub fn source_of(loaded: &Loaded, key: &str) -> String {
    loaded
        .effective
        .iter()
        .find(|(name, _, _)| name == key)
        .unwrap()
        .2
        .clone()
}

pub fn shown(loaded: &Loaded, key: &str) -> String {
    loaded
        .effective
        .iter()
        .find(|(name, _, _)| name == key)
        .unwrap()
        .1
        .clone()
}
