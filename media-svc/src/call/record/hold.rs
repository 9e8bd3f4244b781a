//! Audio of both sides that may not be archived yet, oldest first: a little in memory, the rest in scratch files of the
//! outbox.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::archive::{ArchiveSession, Scratch};
use crate::metrics::OUTBOX_LOST_EVENTS;

/// Frames kept in memory: 96 KiB, 3 s at 8 kHz. What is quiet is held for about one second.
const MEMORY_FRAMES: usize = 24 << 10;
/// Bytes of one scratch file: it is given back as soon as it is read, so a call takes about as much disk as it holds.
const SCRATCH_BYTES: u64 = 1 << 20;
/// One sample of each side.
const FRAME_BYTES: usize = 4;

/// The audio.
pub struct Hold {
    session: Arc<dyn ArchiveSession>,
    pieces: VecDeque<Piece>,
    in_memory: usize,
}

/// Consecutive frames, caller before agent.
enum Piece {
    Memory(VecDeque<[i16; 2]>),
    Disk {
        scratch: Scratch,
        frames: usize,
    },
    /// There was no room for them.
    Lost(usize),
}

/// The next frames, taken out.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Both sides.
    Audio {
        /// The caller.
        caller: Vec<i16>,
        /// The agent, of the same length.
        agent: Vec<i16>,
    },
    /// So many frames are lost.
    Lost(usize),
}

impl Hold {
    /// Of a session on whose disk there is room.
    pub fn new(session: Arc<dyn ArchiveSession>) -> Self {
        Self {
            session,
            pieces: VecDeque::new(),
            in_memory: 0,
        }
    }

    /// Adds frames; both sides have as many.
    pub fn push(&mut self, caller: &[i16], agent: &[i16]) {
        let frames = caller.iter().zip(agent).map(|(caller, agent)| [*caller, *agent]);
        let count = frames.len();
        if self.in_memory + count <= MEMORY_FRAMES {
            self.in_memory += count;
            match self.pieces.back_mut() {
                Some(Piece::Memory(held)) => held.extend(frames),
                Some(Piece::Disk { .. } | Piece::Lost(_)) | None => {
                    self.pieces.push_back(Piece::Memory(frames.collect()));
                }
            }
            return;
        }
        let bytes: Vec<u8> = frames.flatten().flat_map(i16::to_le_bytes).collect();
        if !self.write(&bytes, count) {
            OUTBOX_LOST_EVENTS.with_label_values(&["audio"]).inc();
            match self.pieces.back_mut() {
                Some(Piece::Lost(lost)) => *lost += count,
                Some(Piece::Memory(_) | Piece::Disk { .. }) | None => self.pieces.push_back(Piece::Lost(count)),
            }
        }
    }

    fn write(&mut self, bytes: &[u8], count: usize) -> bool {
        if let Some(Piece::Disk { scratch, frames }) = self.pieces.back_mut()
            && scratch.len() < SCRATCH_BYTES
        {
            let written = scratch.write(bytes).is_ok();
            *frames += if written { count } else { 0 };
            return written;
        }
        let Ok(mut scratch) = self.session.scratch() else {
            return false;
        };
        let written = scratch.write(bytes).is_ok();
        if written {
            self.pieces.push_back(Piece::Disk { scratch, frames: count });
        }
        written
    }

    /// The next frames, at most `most`: as many as are known of or as many as are lost in a row. `None`: nothing is held.
    pub fn take(&mut self, most: usize) -> Option<Taken> {
        let (mut caller, mut agent) = (Vec::with_capacity(most), Vec::with_capacity(most));
        while caller.len() < most {
            let wanted = most - caller.len();
            let left = match self.pieces.front_mut() {
                None => break,
                Some(Piece::Lost(_)) if !caller.is_empty() => break,
                Some(Piece::Lost(lost)) => {
                    let taken = wanted.min(*lost);
                    *lost -= taken;
                    if *lost == 0 {
                        self.pieces.pop_front();
                    }
                    return Some(Taken::Lost(taken));
                }
                Some(Piece::Memory(held)) => {
                    let taken = wanted.min(held.len());
                    self.in_memory -= taken;
                    for [left, right] in held.drain(..taken) {
                        caller.push(left);
                        agent.push(right);
                    }
                    held.len()
                }
                Some(Piece::Disk { scratch, frames }) => {
                    let mut bytes = vec![0; wanted.min(*frames) * FRAME_BYTES];
                    if let Err(error) = scratch.read(&mut bytes) {
                        tracing::error!(%error, "audio that was held on the outbox's disk cannot be read back: it is lost");
                        let lost = *frames;
                        self.pieces.pop_front();
                        self.pieces.push_front(Piece::Lost(lost));
                        continue;
                    }
                    let (samples, _) = bytes.as_chunks::<2>();
                    let (both, _) = samples.as_chunks::<2>();
                    for [left, right] in both {
                        caller.push(i16::from_le_bytes(*left));
                        agent.push(i16::from_le_bytes(*right));
                    }
                    *frames -= both.len();
                    *frames
                }
            };
            if left == 0 {
                self.pieces.pop_front();
            }
        }
        (!caller.is_empty()).then_some(Taken::Audio { caller, agent })
    }
}

#[cfg(test)]
mod tests {
    use service_kit::config;

    use super::*;
    use crate::archive::{ArchiveSink, Outbox};

    /// Longer than memory and some scratch files can take.
    const LONG: usize = 3 * MEMORY_FRAMES + 3 * (1 << 20) / FRAME_BYTES;

    fn outbox(max_bytes: u64) -> (tempfile::TempDir, Outbox) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("outbox");
        let outbox = Outbox::open(&config::Outbox { dir, max_bytes }).unwrap();
        (folder, outbox)
    }

    /// Frames that can be told from each other.
    fn frames(first: usize, count: usize) -> (Vec<i16>, Vec<i16>) {
        let caller: Vec<i16> = (first..first + count).map(|frame| (frame % 30_011) as i16).collect();
        let agent = caller.iter().map(|sample| -sample).collect();
        (caller, agent)
    }

    fn push(hold: &mut Hold, first: usize, count: usize) {
        let (caller, agent) = frames(first, count);
        hold.push(&caller, &agent);
    }

    #[test]
    fn what_is_held_comes_back_as_it_was_and_takes_disk_only_while_it_is_long() {
        let (folder, outbox) = outbox(1 << 30);
        let mut hold = Hold::new(outbox.open("s").unwrap());
        let idle = outbox.used_bytes();
        let (mut pushed, mut taken) = (0, 0);
        // Twice: a call holds, and holds again.
        for _ in 0..2 {
            for _ in 0..LONG / 1_600 {
                push(&mut hold, pushed, 1_600);
                pushed += 1_600;
            }
            assert!(hold.in_memory <= MEMORY_FRAMES);
            assert!(outbox.used_bytes() > idle + 3 * SCRATCH_BYTES);
            while taken < pushed {
                let Some(Taken::Audio { caller, agent }) = hold.take(8_191.min(pushed - taken)) else {
                    panic!("lost at {taken}");
                };
                assert_eq!((caller.clone(), agent), frames(taken, caller.len()));
                taken += caller.len();
                // The call goes on.
                if taken % 3 == 0 && pushed < 3 * LONG {
                    push(&mut hold, pushed, 160);
                    pushed += 160;
                }
            }
            assert_eq!(hold.take(1), None);
            assert_eq!((outbox.used_bytes(), hold.in_memory), (idle, 0));
        }
        let names = std::fs::read_dir(folder.path().join("outbox")).unwrap();
        let names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["lock"], "nothing that is held has a name");
    }

    #[test]
    fn what_the_outbox_has_no_room_for_is_lost_and_the_rest_is_not() {
        let (_folder, outbox) = outbox(1 << 20);
        let mut hold = Hold::new(outbox.open("s").unwrap());
        let mut pushed = 0;
        while pushed < LONG {
            push(&mut hold, pushed, 1_600);
            pushed += 1_600;
        }
        let mut taken = 0;
        let mut lost = 0;
        while let Some(next) = hold.take(8_192) {
            match next {
                Taken::Audio { caller, .. } => {
                    assert_eq!(caller, frames(taken, caller.len()).0);
                    taken += caller.len();
                }
                Taken::Lost(frames) => {
                    lost += frames;
                    taken += frames;
                }
            }
        }
        assert_eq!(taken, pushed);
        assert!(lost > LONG / 2 && lost < pushed - MEMORY_FRAMES, "{lost} of {pushed}");
        push(&mut hold, 0, 1_600);
        assert!(matches!(hold.take(1_600), Some(Taken::Audio { .. })));
    }
}
