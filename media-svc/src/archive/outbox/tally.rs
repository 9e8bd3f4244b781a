//! What the events of one session add up to: needed to end a session whose call cannot do it any more.

use sha2::{Digest, Sha256};
use voxray_proto::archive::SessionEnded;
use voxray_proto::archive::event::Body;

/// Bytes of one sample of one channel.
const SAMPLE_BYTES: u64 = 2;

/// Frames and turns so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    /// Channels, from `SessionStarted` or concluded from the positions of two chunks.
    channels: Option<u64>,
    /// First frame and length in bytes of the newest chunk.
    newest: Option<(u64, u64)>,
    turns: u32,
}

impl Tally {
    /// Takes one more event into account; events come in order.
    pub(super) fn note(&mut self, body: &Body) {
        match body {
            Body::Started(started) => {
                self.channels = started
                    .recording
                    .as_ref()
                    .map(|format| u64::from(format.channels).max(1));
            }
            Body::Turn(turn) => self.turns = self.turns.max(turn.seq.saturating_add(1)),
            Body::Audio(chunk) => {
                if let (None, Some((first, bytes))) = (self.channels, self.newest) {
                    let frames = chunk.first_frame.saturating_sub(first).saturating_mul(SAMPLE_BYTES);
                    self.channels = bytes.checked_div(frames).filter(|channels| *channels > 0);
                }
                self.newest = Some((chunk.first_frame, chunk.pcm.len() as u64));
            }
            Body::Ended(_) => {}
        }
    }

    /// Whether the session has audio.
    pub(super) fn is_recorded(&self) -> bool {
        self.channels.is_some() || self.newest.is_some()
    }

    /// Frames up to the end of the newest chunk, as far as they are known.
    pub(super) fn total_frames(&self) -> u64 {
        let Some((first, bytes)) = self.newest else {
            return 0;
        };
        first.saturating_add(self.channels.map_or(0, |channels| bytes / (channels * SAMPLE_BYTES)))
    }

    /// The end of a session that nobody ended.
    pub(super) fn ended(&self, reason: &str, ended_at_unix_ms: u64, pcm_sha256: Vec<u8>) -> SessionEnded {
        SessionEnded {
            ended_at_unix_ms,
            reason: reason.to_owned(),
            total_frames: self.total_frames(),
            pcm_sha256,
            turns: self.turns,
        }
    }
}

/// The SHA-256 of a recording, as long as its chunks come without a gap.
#[derive(Default)]
pub(super) struct PcmHash {
    channels: Option<u64>,
    next_frame: u64,
    broken: bool,
    hasher: Sha256,
}

impl PcmHash {
    /// Takes one more event into account.
    pub(super) fn note(&mut self, body: &Body) {
        match body {
            Body::Started(started) => {
                self.channels = started
                    .recording
                    .as_ref()
                    .map(|format| u64::from(format.channels).max(1));
            }
            Body::Audio(chunk) => match self.channels {
                Some(channels) if chunk.first_frame == self.next_frame => {
                    self.hasher.update(&chunk.pcm);
                    self.next_frame += chunk.pcm.len() as u64 / (channels * SAMPLE_BYTES);
                }
                Some(_) | None => self.broken = true,
            },
            Body::Turn(_) | Body::Ended(_) => {}
        }
    }

    /// The hash; empty when the session is not recorded or audio is missing.
    pub(super) fn finish(self) -> Vec<u8> {
        if self.broken || self.channels.is_none() {
            Vec::new()
        } else {
            self.hasher.finalize().to_vec()
        }
    }
}
