//! Runs the real command in an empty folder with an empty environment.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use voxray_testkit::stack::voxray_binary;

/// Stands for every password and key of these tests: no message may show it.
pub const SECRET: &str = "hunter2-do-not-show";

/// The longest run fetches 56 MB.
const LIMIT: Duration = Duration::from_secs(120);

pub struct Outcome {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

pub struct Voxray {
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl Voxray {
    /// An empty folder, and the developer's speech models.
    pub fn new() -> Self {
        let mut env = vec![("VOXRAY_HOST".to_owned(), "127.0.0.1".to_owned())];
        for name in ["PATH", "HOME", "VOXRAY_MODELS"] {
            env.extend(std::env::var(name).map(|value| (name.to_owned(), value)));
        }
        let folder = tempfile::tempdir().unwrap();
        Self { folder, env }
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env
            .push((name.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs to the end; a server that starts after all is killed and fails the test.
    pub async fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(voxray_binary().unwrap());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output())
            .await
            .unwrap_or_else(|_| panic!("{arguments:?} does not end"))
            .unwrap();
        let outcome = Outcome {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        for text in [&outcome.stdout, &outcome.stderr] {
            assert!(!text.contains(SECRET), "a secret is shown: {text}");
            assert!(!text.contains("panicked"), "{text}");
        }
        outcome
    }

    /// Runs, and fails as promised: this exit status, these words, and what to do.
    pub async fn fails(&self, arguments: &[&str], status: u8, says: &[&str]) -> String {
        let outcome = self.run(arguments).await;
        let text = outcome.stderr;
        assert_eq!(outcome.status, i32::from(status), "{arguments:?}: {text}");
        for words in says {
            assert!(text.contains(words), "{arguments:?} does not say {words:?}: {text}");
        }
        assert!(text.contains("what to do: "), "{arguments:?}: {text}");
        text
    }

    /// What is in the folder, by name.
    pub fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
