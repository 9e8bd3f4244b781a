//! Recordings of people, and steps of a caller.

use std::path::{Path, PathBuf};
use std::time::Duration;

use voxray::caller::Step;
use voxray::wav;

/// One recording of `testdata/speech`.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Clip {
    pub file: String,
    /// A read sentence of a book; else playing cards called out.
    pub read: bool,
    pub text: String,
}

impl Clip {
    pub fn say(&self) -> Step {
        Step::Say {
            text: self.text.clone(),
            samples: wav::read_file(&folder().join(&self.file)).unwrap(),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/speech")
}

/// All ten of them.
pub fn all() -> Vec<Clip> {
    let clips: Vec<Clip> = serde_json::from_slice(&std::fs::read(folder().join("transcripts.json")).unwrap()).unwrap();
    assert_eq!(clips.len(), 10);
    clips
}

pub fn named(file: &str) -> Clip {
    all().into_iter().find(|clip| clip.file == file).unwrap()
}

/// Waits until the agent has answered and finished. A busy machine may hold a sentence up: 1.5 s of quiet are none.
pub fn answer() -> Step {
    Step::WaitForAnswer {
        quiet: Duration::from_millis(1_500),
        timeout: Duration::from_secs(60),
    }
}
