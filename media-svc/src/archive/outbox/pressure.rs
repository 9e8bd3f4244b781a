//! What the outbox does without room: refuse new sessions and say why, keep what is small until it can be written, and
//! leave a mark where audio is lost.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use voxray_proto::archive::AudioChunk;
use voxray_proto::archive::event::Body;

use super::{ArchiveError, OPEN_RESERVE, SMALL_LIMIT_FRACTION, Shared, State, invalid};
use crate::metrics::{OUTBOX_LOST_EVENTS, OUTBOX_REFUSES};

/// Free space on the disk below which new sessions are refused, so that running ones have the rest: 40 s of 50 calls. Of
/// a small disk, an eighth.
const DISK_RESERVE: u64 = 64 << 20;
/// Most bytes of turns that wait in memory for a disk that takes nothing. Beyond it turns are lost, ends never.
const OWED_BYTES: usize = 16 << 20;
/// What a waiting event takes beside its text.
const OWED_OVERHEAD: usize = 256;
/// What is written to see whether the disk takes something again: more than a file system keeps for itself.
const PROBE_BYTES: usize = 64 << 10;
const PROBE_NAME: &str = "probe";

/// What there is to remember of a lack of room.
#[derive(Default)]
pub(super) struct Pressure {
    /// What the disk said to a write that failed, and of how many bytes that was.
    failing: Option<(String, usize)>,
    /// Turns, ends and marks of lost audio that the disk did not take, in order.
    owed: VecDeque<(Arc<str>, Body)>,
    owed_bytes: usize,
    /// Whether new sessions are refused, as told to operators.
    told: bool,
}

impl Pressure {
    /// Whether somebody has to look after this.
    pub(super) fn is_on(&self) -> bool {
        self.told || self.failing.is_some() || !self.owed.is_empty()
    }

    /// Whether the end of this session waits to be written.
    pub(super) fn owes_end(&self, session_id: &str) -> bool {
        let mut owed = self.owed.iter();
        owed.any(|(id, body)| **id == *session_id && matches!(body, Body::Ended(_)))
    }

    /// Whether anything of this session waits to be written.
    pub(super) fn owes(&self, session_id: &str) -> bool {
        self.owed_of(session_id) > 0
    }

    fn owed_of(&self, session_id: &str) -> u64 {
        self.owed.iter().filter(|(id, _)| **id == *session_id).count() as u64
    }

    fn owe(&mut self, session_id: &Arc<str>, body: Body) -> Result<(), ()> {
        let bytes = size(&body);
        if self.owed_bytes + bytes > OWED_BYTES && !matches!(body, Body::Ended(_)) {
            return Err(());
        }
        self.owed_bytes += bytes;
        self.owed.push_back((Arc::clone(session_id), body));
        Ok(())
    }
}

fn size(body: &Body) -> usize {
    let text = match body {
        Body::Turn(turn) => turn.encoded_len(),
        Body::Started(_) | Body::Audio(_) | Body::Ended(_) => 0,
    };
    text + OWED_OVERHEAD
}

impl Shared {
    /// Appends an event, or does what can be done without room. Returns the sequence it has or will get.
    pub(super) fn append_or_owe(
        &self,
        state: &mut State,
        session_id: &Arc<str>,
        body: Body,
    ) -> Result<u64, ArchiveError> {
        let ended = state.index.session(session_id).is_some_and(|session| session.ended);
        if ended || state.pressure.owes_end(session_id) {
            return Err(invalid("the session has ended: nothing can follow"));
        }
        // What waits goes first: sequences follow the order in which things happened.
        let paid = self.pay(state);
        let error = match paid {
            Ok(()) if !self.has_room(state, &body) => {
                let (used, limit) = (state.used(), self.limit);
                self.lose_audio(state, session_id);
                return Err(ArchiveError::Full { used, limit });
            }
            Ok(()) => match self.write_event(state, session_id, &body) {
                Err(ArchiveError::Io(error)) => error,
                outcome @ (Ok(_)
                | Err(ArchiveError::Full { .. } | ArchiveError::Disk { .. } | ArchiveError::NoEvent(_))) => {
                    return outcome;
                }
            },
            Err(error) => error,
        };
        if matches!(body, Body::Audio(_)) {
            self.lose_audio(state, session_id);
            return Err(ArchiveError::Io(error));
        }
        let last = state.index.session(session_id).map_or(0, |session| session.last);
        let kind = kind(&body);
        match state.pressure.owe(session_id, body) {
            Ok(()) => Ok(last + state.pressure.owed_of(session_id)),
            Err(()) => {
                lost(kind);
                Err(ArchiveError::Io(error))
            }
        }
    }

    /// Puts a mark where audio is missing, one for as much as is missing in a row: without it the archive would wait for a
    /// recording that fits the node's hash, and would never get it.
    fn lose_audio(&self, state: &mut State, session_id: &Arc<str>) {
        lost("audio");
        let Some(session) = state.index.session_mut(session_id) else {
            return;
        };
        if std::mem::replace(&mut session.gap, true) {
            return;
        }
        let mark = Body::Audio(AudioChunk::default());
        let waits = !state.pressure.owed.is_empty();
        if (waits || self.write_event(state, session_id, &mark).is_err())
            && state.pressure.owe(session_id, mark).is_err()
        {
            lost("mark");
        }
    }

    /// Writes what waits.
    pub(super) fn pay(&self, state: &mut State) -> io::Result<()> {
        while let Some((session_id, body)) = state.pressure.owed.pop_front() {
            match self.write_event(state, &session_id, &body) {
                Ok(_) => state.pressure.owed_bytes = state.pressure.owed_bytes.saturating_sub(size(&body)),
                Err(ArchiveError::Io(error)) => {
                    state.pressure.owed.push_front((session_id, body));
                    return Err(error);
                }
                Err(error @ (ArchiveError::Full { .. } | ArchiveError::Disk { .. } | ArchiveError::NoEvent(_))) => {
                    tracing::error!(%session_id, %error, "an event that waited for the disk is lost");
                    lost(kind(&body));
                }
            }
        }
        Ok(())
    }

    /// Notes whether the disk has taken this many bytes. That it takes a few says nothing about more.
    pub(super) fn note_write(state: &mut State, bytes: usize, error: Option<&io::Error>) {
        let failing = &mut state.pressure.failing;
        let most = failing.as_ref().map_or(0, |(_, most)| *most);
        match error {
            Some(error) => *failing = Some((error.to_string(), most.max(bytes))),
            None if bytes >= most => *failing = None,
            None => {}
        }
    }

    /// Why no session can be opened now, and tells operators when that changes.
    pub(super) fn check_room(&self) -> Result<(), ArchiveError> {
        let free = free_space(&self.dir);
        let mut state = self.lock();
        let refusal = self.refusal(&state, free);
        self.tell(&mut state, refusal.as_ref());
        refusal.map_or(Ok(()), Err)
    }

    fn refusal(&self, state: &State, free: Option<(u64, u64)>) -> Option<ArchiveError> {
        if let Some((why, _)) = &state.pressure.failing {
            return Some(ArchiveError::Disk { why: why.clone() });
        }
        let (used, limit) = (state.used(), self.limit);
        if used + OPEN_RESERVE.min(limit / SMALL_LIMIT_FRACTION) > limit {
            return Some(ArchiveError::Full { used, limit });
        }
        let (free, reserve) = free.filter(|(free, reserve)| free < reserve)?;
        let why = format!("{free} bytes are free, {reserve} are kept for running calls");
        Some(ArchiveError::Disk { why })
    }

    fn tell(&self, state: &mut State, refusal: Option<&ArchiveError>) {
        let disk = matches!(refusal, Some(ArchiveError::Disk { .. }));
        let reasons = [("limit", refusal.is_some() && !disk), ("disk", disk)];
        for (reason, is_it) in reasons {
            OUTBOX_REFUSES.with_label_values(&[reason]).set(i64::from(is_it));
        }
        let told = std::mem::replace(&mut state.pressure.told, refusal.is_some());
        match refusal {
            Some(error) if !told => {
                tracing::error!(%error, folder = %self.dir.display(),
                    "new recorded calls are refused; running calls go on");
                self.wake_sync.notify_one();
            }
            None if told => tracing::info!("the outbox takes new calls again"),
            Some(_) | None => {}
        }
        self.refusal.send_if_modified(|shown| {
            // The reason's numbers change all the time; whether there is one is what counts.
            let changed = shown.is_some() != refusal.is_some();
            if changed {
                *shown = refusal.map(ToString::to_string);
            }
            changed
        });
    }

    /// Looks after a lack of room; called about once a second while there is one.
    pub(super) fn relieve(&self) {
        let (failing, owed) = {
            let state = self.lock();
            (state.pressure.failing.is_some(), !state.pressure.owed.is_empty())
        };
        if owed {
            // What the disk says is kept in the state.
            let _ = self.pay(&mut self.lock());
        }
        if failing && probe(&self.dir).is_ok() {
            Self::note_write(&mut self.lock(), usize::MAX, None);
        }
        // Told, and no news for this caller.
        let _ = self.check_room();
    }
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Started(_) => "started",
        Body::Turn(_) => "turn",
        Body::Audio(_) => "audio",
        Body::Ended(_) => "ended",
    }
}

fn lost(kind: &str) {
    OUTBOX_LOST_EVENTS.with_label_values(&[kind]).inc();
}

/// Bytes free for this user on the disk of a folder, and how many of them are not for new sessions. `None`: the system
/// does not say.
fn free_space(dir: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    let reserve = DISK_RESERVE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / SMALL_LIMIT_FRACTION);
    Some((disk.f_bavail.saturating_mul(disk.f_frsize), reserve))
}

fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(PROBE_NAME);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0; PROBE_BYTES])?;
        file.sync_data()
    });
    written.and(std::fs::remove_file(&path))
}
