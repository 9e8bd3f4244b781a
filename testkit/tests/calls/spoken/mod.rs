//! The whole server in this process, with local speech, SQLite and a folder.

mod answering;
mod ending;
mod interrupting;
mod recording;
mod script;
mod serializers;
mod understanding;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use media_svc::speech::{SpeechEngine, Voice};
use service_kit::config::{self, Profile, Sources};
use tempfile::TempDir;
use voxray::caller::{CallReport, Step};
use voxray::single::SingleProcess;
use voxray::wav;
use voxray_testkit::wait::eventually;

use crate::api::{self, LIMIT};
use crate::recording::{Stereo, speech};
use crate::rows::{self, Row};

/// A server as `voxray serve` runs it, on a free port and with everything kept in one folder.
struct Server {
    process: SingleProcess,
    folder: TempDir,
}

/// A call, and what the archive has of it.
struct Archived {
    report: CallReport,
    rows: Vec<Row>,
    recording: Stereo,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings other than the default ones.
    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags = [
            ("host", "127.0.0.1"),
            ("port", "0"),
            ("data_dir", folder.path().to_str().unwrap()),
        ];
        let flags: BTreeMap<String, String> = flags
            .iter()
            .chain(settings)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let sources = Sources {
            flags,
            working_dir: folder.path().to_owned(),
            ..Sources::default()
        };
        let loaded = config::load(&sources, Profile::SingleProcess).unwrap();
        let process = SingleProcess::start(&loaded.config, None).await.unwrap();
        Self { process, folder }
    }

    fn url(&self) -> String {
        self.process.base_url()
    }

    fn speech(&self) -> &Arc<SpeechEngine> {
        self.process.media().speech().unwrap()
    }

    /// Places a call and waits until the archive has all of it.
    async fn call(&self, steps: Vec<Step>) -> Archived {
        let (report, session) = api::place(&self.url(), &self.url(), steps).await;
        let name = format!("{}.wav", session.session_id);
        // Rows are committed before the recording is stored.
        let wav = eventually("the recording", LIMIT, || async {
            let Some(path) = find(self.folder.path(), &name) else {
                return Ok(None);
            };
            Ok(Some(std::fs::read(path)?))
        });
        let recording = Stereo::read(&wav.await.unwrap());
        let store = self.process.archiver().transcripts().unwrap();
        let rows: Vec<Row> = store
            .rows(&session.session_id)
            .await
            .unwrap()
            .into_iter()
            .map(|row| Row {
                seq: row.seq,
                role: row.role,
                text: row.text,
                created_at: row.created_at,
            })
            .collect();
        rows::assert_in_order(&rows);
        Archived {
            report,
            rows,
            recording,
        }
    }

    /// Something said by a synthetic caller.
    async fn say(&self, text: &str) -> Step {
        let mut stream = self.speech().synthesise(text.to_owned(), Voice::EnUs).unwrap();
        let mut samples = Vec::new();
        while let Some(chunk) = stream.next().await {
            samples.extend(chunk.unwrap());
        }
        Step::Say {
            text: text.to_owned(),
            samples: wav::resample(&samples, 16_000, wav::TELEPHONE_HZ).unwrap(),
        }
    }

    /// What somebody else understands of telephone audio, stretch by stretch.
    async fn understand(&self, heard: &[i16]) -> String {
        let mut texts = Vec::new();
        for (from, to) in speech(heard) {
            // Soft beginnings and ends are quieter than what counts as speech.
            let around = from.saturating_sub(1_600)..(to + 1_600).min(heard.len());
            let audio = wav::resample(&heard[around], wav::TELEPHONE_HZ, 16_000).unwrap();
            texts.push(self.speech().transcribe(&audio).await.unwrap());
        }
        texts.join(" ")
    }

    async fn stop(self) {
        self.process.stop().await;
    }
}

impl Archived {
    fn said_by(&self, role: &str) -> Vec<&str> {
        rows::texts(&self.rows, role)
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name)
        } else {
            path.file_name().is_some_and(|found| found == name).then_some(path)
        }
    })
}
