//! What people say, on the timeline of a microphone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use voxray_testkit::servers::tools::workspace_root;

/// What Chromium's microphone plays, and clips are recorded at.
const RATE_HZ: u32 = 16_000;

/// A recording of a person in `testdata/speech`.
#[derive(Debug, serde::Deserialize)]
struct Clip {
    file: String,
    text: String,
}

/// A microphone in the making.
#[derive(Debug, Default)]
pub struct Microphone {
    samples: Vec<i16>,
    texts: Vec<String>,
}

impl Microphone {
    /// Nothing is said for a while.
    pub fn quiet(mut self, time: Duration) -> Self {
        let count = time.as_secs_f64() * f64::from(RATE_HZ);
        self.samples.resize(self.samples.len() + count as usize, 0);
        self
    }

    /// Somebody says this.
    pub fn say(mut self, file: &str) -> Self {
        let folder = workspace_root().join("testdata/speech");
        let clips = std::fs::read(folder.join("transcripts.json")).unwrap();
        let clips: Vec<Clip> = serde_json::from_slice(&clips).unwrap();
        let clip = clips.into_iter().find(|clip| clip.file == file).unwrap();
        let mut wav = hound::WavReader::open(folder.join(file)).unwrap();
        assert_eq!((wav.spec().channels, wav.spec().sample_rate), (1, RATE_HZ));
        self.samples.extend(wav.samples::<i16>().map(Result::unwrap));
        self.texts.push(clip.text);
        self
    }

    /// Words that are said, in order.
    pub fn text(&self) -> String {
        self.texts.join(" ")
    }

    /// From the first sample to the last.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(RATE_HZ)
    }

    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("microphone.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(&path, spec).unwrap();
        for sample in &self.samples {
            wav.write_sample(*sample).unwrap();
        }
        wav.finalize().unwrap();
        path
    }
}
