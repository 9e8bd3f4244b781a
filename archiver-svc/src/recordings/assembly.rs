//! One recording in the making: a WAV file on local disk, hashed as it grows, cut into parts at fixed places.
//!
//! Part `n` is the bytes `(n-1)·P .. n·P` of the finished file, whoever sends them and however often: two archivers that
//! both work on a session store the same bytes. The file is sparse. What an earlier archiver has stored is a hole at
//! its beginning, and what is stored becomes one.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::digest::common::hazmat::SerializableState as _;
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Point};
use super::spool::SpoolFile;
use super::wav::{Format, HEADER_BYTES, UNKNOWN_LENGTH};
use crate::metrics::KindCounts;

/// Silence in place of lost audio is never longer than this: a nonsensical position must not fill the disk.
const LONGEST_LOSS_SECS: u64 = 3600;
static SILENCE: [u8; 16 * 1024] = [0; 16 * 1024];
const HEADER: u64 = HEADER_BYTES as u64;

/// A recording in the making. Its methods block: call them where blocking is allowed.
#[derive(Debug)]
pub struct Assembly {
    path: Arc<SpoolFile>,
    file: Option<File>,
    format: Format,
    /// `None`: the recording is stored at its end only, in a format that has to be encoded.
    part_bytes: Option<u64>,
    /// All samples so far.
    hasher: Sha256,
    pcm_bytes: u64,
    /// The part that is growing: its number from 1, and its bytes so far.
    part: u32,
    part_hasher: Sha256,
    /// Whole parts that are not stored yet.
    whole: VecDeque<WholePart>,
    counts: KindCounts,
    damaged: bool,
    resumed: bool,
}

/// A part that is whole.
#[derive(Debug, Clone)]
pub struct WholePart {
    /// From 1.
    pub number: u32,
    /// SHA-256 of its bytes. That of part 1 counts the header with lengths that are not known.
    pub sha256: [u8; 32],
    /// Where to go on when everything up to the end of this part is stored.
    pub point: Point,
    /// Events that become durable with it.
    pub counts: KindCounts,
}

/// What becomes of a recording at its end.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The WAV file; removed when the last clone goes.
    pub file: Arc<SpoolFile>,
    /// Length with header, bytes.
    pub bytes: u64,
    /// Frames in it.
    pub frames: u64,
    /// SHA-256 of the samples.
    pub pcm_sha256: [u8; 32],
    /// SHA-256 of what stands behind the last whole part.
    pub tail_sha256: [u8; 32],
    /// Shape of the samples.
    pub format: Format,
}

/// Writes the header of a recording of which this many bytes of samples are known.
pub fn write_header(path: &Path, format: Format, pcm_bytes: u64) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(&format.header(pcm_bytes))
}

impl Assembly {
    /// An empty recording. Its file appears with the first sample. Without `part_bytes` there are no parts.
    pub fn new(path: SpoolFile, format: Format, part_bytes: Option<u64>) -> Self {
        Self {
            path: Arc::new(path),
            file: None,
            format,
            part_bytes,
            hasher: Sha256::new(),
            pcm_bytes: 0,
            part: 1,
            part_hasher: Sha256::new_with_prefix(format.header(UNKNOWN_LENGTH)),
            whole: VecDeque::new(),
            counts: KindCounts::default(),
            damaged: false,
            resumed: false,
        }
    }

    /// Goes on behind what another archiver has stored. `None`: the manifest makes no sense.
    pub fn resume(path: SpoolFile, manifest: &Manifest) -> Option<Self> {
        let state = hex::decode(&manifest.point.hash_state).ok()?;
        let hasher = Sha256::deserialize(state.as_slice().try_into().ok()?).ok()?;
        Some(Self {
            part_bytes: Some(manifest.part_bytes),
            hasher,
            pcm_bytes: manifest.point.pcm_bytes,
            part: manifest.parts_stored() + 1,
            part_hasher: Sha256::new(),
            damaged: manifest.point.damaged,
            resumed: true,
            ..Self::new(path, manifest.format, None)
        })
    }

    /// Bytes of samples so far.
    pub fn pcm_bytes(&self) -> u64 {
        self.pcm_bytes
    }

    /// The file.
    pub fn path(&self) -> Arc<SpoolFile> {
        Arc::clone(&self.path)
    }

    /// Another archiver has the beginning.
    pub fn begins_elsewhere(&self) -> bool {
        self.resumed
    }

    /// Shape of the samples.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The node said that it has lost some of the audio.
    pub fn mark_damaged(&mut self) {
        self.damaged = true;
    }

    /// Appends the samples of the event with this sequence, all events before which are applied; `counts` are those that
    /// came since the last call. After an error the same may be appended again: nothing counts twice.
    pub fn append(&mut self, sequence: u64, counts: KindCounts, pcm: &[u8]) -> io::Result<()> {
        let before = self.whole.len();
        let point = self.point(sequence.saturating_sub(1));
        self.write(pcm)?;
        for mut part in self.take_whole(pcm) {
            part.point = point.clone();
            self.whole.push_back(part);
        }
        if let Some(first) = self.whole.get_mut(before) {
            first.counts = std::mem::take(&mut self.counts);
        }
        self.counts.merge(counts);
        Ok(())
    }

    /// Appends silence up to this frame, for audio that is lost: what follows keeps its place in time. Nothing when
    /// that is longer than any loss can be.
    pub fn silence_to(&mut self, sequence: u64, frame: u64) -> io::Result<()> {
        let end = frame.saturating_mul(self.format.frame_bytes());
        let missing = end.saturating_sub(self.pcm_bytes);
        let longest = LONGEST_LOSS_SECS * u64::from(self.format.sample_rate_hz) * self.format.frame_bytes();
        if missing > longest {
            return Ok(());
        }
        // One place to go on for all of it: the event behind the loss brings it again.
        let point = self.point(sequence.saturating_sub(1));
        while self.pcm_bytes < end {
            let block = usize::try_from(end - self.pcm_bytes).unwrap_or(SILENCE.len());
            let silence = SILENCE.get(..block).unwrap_or(&SILENCE);
            self.write(silence)?;
            for mut part in self.take_whole(silence) {
                part.point = point.clone();
                self.whole.push_back(part);
            }
        }
        Ok(())
    }

    /// Events that become durable with the end, beside those of parts that are not stored yet.
    pub fn count(&mut self, counts: KindCounts) {
        self.counts.merge(counts);
    }

    /// Events that no part has made durable.
    pub fn take_counts(&mut self) -> KindCounts {
        let mut counts = std::mem::take(&mut self.counts);
        for part in &mut self.whole {
            counts.merge(std::mem::take(&mut part.counts));
        }
        counts
    }

    /// The oldest whole part that is not stored.
    pub fn whole_part(&self) -> Option<WholePart> {
        self.whole.front().cloned()
    }

    /// Parts up to this one are stored: their room on disk is given back, but for the first, which is needed again.
    pub fn stored(&mut self, number: u32) {
        self.whole.retain(|part| part.number > number);
        let (Some(part_bytes), Some(file)) = (self.part_bytes, &self.file) else {
            return;
        };
        let length = part_bytes.saturating_mul(u64::from(number.saturating_sub(1)));
        if length > 0 {
            let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            // Not every file system can; then the room comes back when the call has ended.
            let _ = rustix::fs::fallocate(file, flags, part_bytes, length);
        }
    }

    /// The parts hold this much of the beginning: nothing of it has to be stored again.
    pub fn skip_to(&mut self, parts: u32) {
        self.whole.retain(|part| part.number > parts);
    }

    /// The recording as it is. The header in the file is written by who sends it: it differs between a part and a whole.
    pub fn finish(&mut self) -> io::Result<Finished> {
        self.open()?;
        Ok(Finished {
            file: Arc::clone(&self.path),
            bytes: HEADER + self.pcm_bytes,
            frames: self.pcm_bytes / self.format.frame_bytes().max(1),
            pcm_sha256: self.hasher.clone().finalize().into(),
            tail_sha256: self.part_hasher.clone().finalize().into(),
            format: self.format,
        })
    }

    fn point(&self, sequence: u64) -> Point {
        Point {
            sequence,
            pcm_bytes: self.pcm_bytes,
            hash_state: hex::encode(self.hasher.serialize()),
            damaged: self.damaged,
        }
    }

    fn write(&mut self, pcm: &[u8]) -> io::Result<()> {
        let end = HEADER + self.pcm_bytes;
        let file = self.open()?;
        let written = file.seek(SeekFrom::Start(end)).and_then(|_| file.write_all(pcm));
        if let Err(error) = written {
            // A full disk may have taken a part; give its room back.
            let _ = file.set_len(end);
            return Err(error);
        }
        Ok(())
    }

    /// Counts bytes that were written, and returns the parts that are whole by them.
    fn take_whole(&mut self, mut pcm: &[u8]) -> Vec<WholePart> {
        self.hasher.update(pcm);
        let mut position = HEADER + self.pcm_bytes;
        self.pcm_bytes += pcm.len() as u64;
        let mut whole = Vec::new();
        let Some(part_bytes) = self.part_bytes else {
            return whole;
        };
        // What another archiver has stored comes again when an event spans two parts.
        let stored = part_bytes.saturating_mul(u64::from(self.part - 1));
        let again = usize::try_from(stored.saturating_sub(position)).unwrap_or(usize::MAX);
        let skipped = again.min(pcm.len());
        position += skipped as u64;
        pcm = pcm.get(skipped..).unwrap_or_default();
        while !pcm.is_empty() {
            let room = part_bytes.saturating_mul(u64::from(self.part)).saturating_sub(position);
            let Some((here, rest)) = usize::try_from(room).ok().and_then(|room| pcm.split_at_checked(room)) else {
                self.part_hasher.update(pcm);
                return whole;
            };
            self.part_hasher.update(here);
            whole.push(WholePart {
                number: self.part,
                sha256: self.part_hasher.finalize_reset().into(),
                point: Point::default(),
                counts: KindCounts::default(),
            });
            self.part += 1;
            position += here.len() as u64;
            pcm = rest;
        }
        whole
    }

    fn open(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = OpenOptions::new()
                    .create(true)
                    .truncate(true)
                    .write(true)
                    .open(self.path.path())?;
                file.write_all(&self.format.header(UNKNOWN_LENGTH))?;
                file
            }
        };
        Ok(self.file.insert(file))
    }
}
