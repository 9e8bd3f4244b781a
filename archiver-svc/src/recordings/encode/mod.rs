//! File formats: WAV as it is, FLAC and Ogg Opus encoded from the WAV file when the call has ended.

mod flac;
mod opus;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use service_kit::config::AudioFormat;

use super::assembly::Finished;
use super::objects::ObjectError;
use super::spool::SpoolFile;
use super::wav::{Format, HEADER_BYTES};

/// Why samples were not encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A file could not be read or written.
    #[error("cannot read the samples or write the encoded file")]
    File(#[from] io::Error),
    /// The FLAC encoder refused.
    #[error("FLAC: {0}")]
    Flac(String),
    /// The Opus encoder refused.
    #[error("Opus: {0}")]
    Opus(String),
}

/// Whether recordings of this shape can be stored in a format. Opus knows five sample rates; FLAC counts in 20 bits.
pub fn can_encode(format: AudioFormat, shape: Format) -> bool {
    match format {
        AudioFormat::Wav => true,
        AudioFormat::Flac => shape.sample_rate_hz < 1 << 20,
        AudioFormat::Ogg => opus::RATES_HZ.contains(&shape.sample_rate_hz),
    }
}

/// MIME type of a format.
pub(super) fn content_type(format: AudioFormat) -> &'static str {
    match format {
        AudioFormat::Wav => "audio/wav",
        AudioFormat::Flac => "audio/flac",
        AudioFormat::Ogg => "audio/ogg",
    }
}

/// Encodes a finished WAV file. Takes about a second for an hour of call: blocking.
pub(super) fn encode(from: &Finished, format: AudioFormat, session_id: &str) -> Result<Arc<SpoolFile>, ObjectError> {
    let encode = match format {
        AudioFormat::Wav => return Ok(Arc::clone(&from.file)),
        AudioFormat::Flac => flac::encode,
        AudioFormat::Ogg => opus::encode,
    };
    let to = from.file.sibling(session_id);
    let samples = Samples::open(from)?;
    encode(samples, File::create(to.path())?).map_err(ObjectError::Encode)?;
    Ok(Arc::new(to))
}

/// The samples of a WAV file, a block at a time.
#[derive(Debug)]
pub(super) struct Samples {
    reader: io::Take<BufReader<File>>,
    /// Their shape.
    pub format: Format,
    /// How many frames there are.
    pub frames: u64,
    bytes: Vec<u8>,
}

impl Samples {
    fn open(from: &Finished) -> io::Result<Self> {
        let mut file = File::open(from.file.path())?;
        file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
        Ok(Self {
            reader: BufReader::new(file).take(from.frames * from.format.frame_bytes()),
            format: from.format,
            frames: from.frames,
            bytes: Vec::new(),
        })
    }

    /// At most this many frames, interleaved; fewer only at the end.
    fn read(&mut self, frames: usize) -> io::Result<Vec<i16>> {
        let channels = usize::from(self.format.channels);
        self.bytes.clear();
        let wanted = (frames * channels * 2) as u64;
        (&mut self.reader).take(wanted).read_to_end(&mut self.bytes)?;
        let pairs = self.bytes.chunks_exact(2);
        Ok(pairs
            .filter_map(|pair| Some(i16::from_le_bytes(pair.try_into().ok()?)))
            .collect())
    }
}

#[cfg(test)]
mod tests;
