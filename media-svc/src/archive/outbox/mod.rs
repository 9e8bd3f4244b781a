//! The outbox: archive events on this node's disk, from the moment they exist until the archiver has them safe.
//!
//! An append-only log in segments of 8 MiB, one file each. What it promises:
//! - An event whose `append` returned is with the operating system: `kill -9` of this process loses none.
//! - Power loss loses the last 100 ms of what was written and what came during one flush: files are flushed (`fdatasync`)
//!   every 100 ms by one thread, and the next flush waits for the one before. That is at most 200 ms on a disk that flushes within
//!   100 ms, and more on a slower one: `outbox_flush_seconds` says how long it takes. Only flushed events are sent, so the
//!   archiver never knows of an event that this disk has forgotten; unless flushing fails, which is reported: then they are sent
//!   all the same, since an archive that has them is worth more than one that waits.
//! - A segment is deleted when every event in it is durable in the archive, in whatever order sessions get there.
//! - It can be opened after a crash at any byte: what is whole is kept, a damaged tail is moved aside and reported.
//! - What may not be an event yet (audio that may have to be silenced) counts as space in use, but lies in files without a
//!   name: it is gone with the process.
//! - Sessions that a crash cut off are ended with reason `node_restarted`.
//! - At `outbox.max_bytes`, and when the disk is full, new sessions are refused; running ones may use what is kept for them.
//!   What they cannot write then is lost if it is audio (silence in a recording that is marked incomplete), and waits in
//!   memory if it is a turn or an end. Nobody needs to restart anything when there is room again.
//!
//! Crates that were looked at (late 2026) and why none is used: `okaywal` 0.3 calls its format unstable and frees
//! space by checkpoints of a whole prefix; `commitlog` 0.2 truncates by offset only and knows no damage but at the end;
//! `yaque` 0.6 is one queue acknowledged in order; `walcraft` 0.3 deletes the oldest data when it is full; `wal-db` 1.0 truncates
//! a prefix or a suffix; `sled` is a whole tree database in beta. The need here, freeing by session in any order, is
//! bookkeeping above the log: files and checksums are the smaller half.

mod age;
mod aside;
mod index;
mod pressure;
mod reader;
mod record;
mod recovery;
mod scratch;
mod sync;
mod tally;
#[cfg(test)]
mod tests;
mod watermarks;

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use service_kit::exit::{self, Fatal};
use tokio::sync::watch;
use voxray_proto::archive::Event;
use voxray_proto::archive::event::Body;

use super::{ArchiveError, ArchiveSession, ArchiveSink};
use age::AgeClock;
use index::Index;
use pressure::Pressure;
pub use reader::Reader;
pub use scratch::Scratch;

/// Size of a segment: some 4 minutes of one recorded phone call, and small enough that space comes back soon.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Most space that must be left for a new session, so that it does not hit the limit at once.
const OPEN_RESERVE: u64 = 8 << 20;
/// Most space beyond the limit that running sessions may use.
const HEAD_ROOM: u64 = 16 << 20;
/// Reserve and head-room are this fraction of a small limit.
const SMALL_LIMIT_FRACTION: u64 = 8;
/// Most that a chunk of audio takes beside its samples: checksum, session id, positions.
const RECORD_OVERHEAD: u64 = 256;
/// Reason of a session whose call ended without saying so (its task panicked).
const REASON_ABANDONED: &str = "call_failed";

/// The outbox of a node. One process per folder.
pub struct Outbox {
    shared: Arc<Shared>,
    sync_thread: Option<std::thread::JoinHandle<()>>,
}

/// How far the outbox is; changes are what [`Outbox::progress`] reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rounds of flushing done by this process: after each there may be more to read.
    pub flushes: u64,
    /// Events that the archiver does not have safe.
    pub undurable_events: u64,
}

struct Shared {
    dir: PathBuf,
    limit: u64,
    ages: AgeClock,
    state: Mutex<State>,
    wake_sync: Condvar,
    progress: watch::Sender<Progress>,
    /// Why new sessions are refused.
    refusal: watch::Sender<Option<String>>,
    /// Held as long as anybody can write here.
    _lock: FolderLock,
}

/// Says that the folder is ours.
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being started holds a copy of every open file until it is.
        let _ = self.0.unlock();
    }
}

struct State {
    index: Index,
    active: Option<Active>,
    next_segment: u64,
    record: Vec<u8>,
    /// Bytes in scratch files.
    scratch: u64,
    /// Complete segments that are not flushed yet.
    unflushed: Vec<Active>,
    /// Segments to delete.
    spent: Vec<u64>,
    /// Since when something waits to be flushed or deleted.
    work_since: Option<Instant>,
    watermarks_changed: bool,
    pressure: Pressure,
    flush_now: bool,
    stop: bool,
}

/// The segment being written.
#[derive(Clone)]
struct Active {
    segment: u64,
    file: Arc<File>,
    bytes: u64,
    flushed: u64,
}

impl Outbox {
    /// Opens the outbox in a folder (made if missing), recovers what an earlier process left, and starts flushing.
    ///
    /// # Errors
    /// The folder cannot be written, or another process uses it.
    pub fn open(settings: &service_kit::config::Outbox) -> Result<Self, Fatal> {
        let dir = settings.dir.clone();
        let lock = lock_folder(&dir)?;
        let recovered = recovery::recover(&dir).map_err(|error| unusable(&dir, &error))?;
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            limit: settings.max_bytes,
            ages: recovered.ages,
            state: Mutex::new(State {
                index: recovered.index,
                active: None,
                next_segment: recovered.next_segment,
                record: Vec::new(),
                scratch: 0,
                unflushed: Vec::new(),
                spent: Vec::new(),
                work_since: Some(Instant::now()),
                watermarks_changed: false,
                pressure: Pressure::default(),
                flush_now: false,
                stop: false,
            }),
            wake_sync: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
            refusal: watch::Sender::new(None),
            _lock: lock,
        });
        for (session_id, ended) in recovered.cut_off {
            let sha256 = hex::encode(&ended.pcm_sha256);
            tracing::warn!(%session_id, frames = ended.total_frames, turns = ended.turns, sha256,
                "a session was cut off by the last stop of this node; it is ended in the archive as node_restarted");
            shared
                .append(&session_id, Body::Ended(ended))
                .map_err(|error| unusable(&dir, &error))?;
        }
        shared.collect_spent(&mut shared.lock());
        let thread_shared = Arc::clone(&shared);
        let sync_thread = std::thread::Builder::new()
            .name("outbox-sync".to_owned())
            .spawn(move || sync::run(&thread_shared))
            .map_err(|error| unusable(&dir, &error))?;
        Ok(Self {
            shared,
            sync_thread: Some(sync_thread),
        })
    }

    /// Everything of the session up to and including `sequence` is safe in the archive.
    pub fn acknowledge(&self, session_id: &str, sequence: u64) {
        let mut state = self.shared.lock();
        if state.index.acknowledge(session_id, sequence) {
            state.watermarks_changed = true;
            self.shared.collect_spent(&mut state);
            self.shared.report(&state);
            self.shared.wake_sync.notify_one();
        }
    }

    /// Reads the events that are not durable, in the order in which they were written.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Reports when more can be read, and how much is not durable.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Why new sessions are refused at present, for `/ready`.
    pub fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.shared.refusal.subscribe()
    }

    /// Flushes now instead of within the usual 100 ms.
    pub fn flush_now(&self) {
        self.shared.lock().flush_now = true;
        self.shared.wake_sync.notify_one();
    }

    /// Bytes on disk.
    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().used()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake_sync.notify_one();
        if let Some(thread) = self.sync_thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the outbox's flushing thread panicked");
        }
    }
}

impl ArchiveSink for Outbox {
    fn open(&self, session_id: &str) -> Result<Arc<dyn ArchiveSession>, ArchiveError> {
        let session_id: Arc<str> = session_id.into();
        self.shared.check_room()?;
        let mut state = self.shared.lock();
        if !state.index.open(&session_id) {
            return Err(invalid(
                "a session of this id is in the outbox already: session ids must be unique",
            ));
        }
        Ok(Arc::new(SessionHandle {
            shared: Arc::clone(&self.shared),
            session_id,
        }))
    }

    fn check(&self) -> Result<(), ArchiveError> {
        self.shared.check_room()
    }
}

/// One open session. Dropped without a `SessionEnded`, it writes one itself: the archive must not wait for ever.
struct SessionHandle {
    shared: Arc<Shared>,
    session_id: Arc<str>,
}

impl ArchiveSession for SessionHandle {
    fn append(&self, body: Body) -> Result<u64, ArchiveError> {
        self.shared.append(&self.session_id, body)
    }

    fn scratch(&self) -> Result<Scratch, ArchiveError> {
        Scratch::new(&self.shared)
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        let ended = {
            let mut state = self.shared.lock();
            if state.pressure.owes_end(&self.session_id) {
                return;
            }
            if !state.pressure.owes(&self.session_id) {
                state.index.close_unused(&self.session_id);
            }
            match state.index.session(&self.session_id) {
                Some(session) if !session.ended => {
                    session
                        .tally
                        .ended(REASON_ABANDONED, unix_ms(SystemTime::now()), Vec::new())
                }
                Some(_) | None => return,
            }
        };
        if let Err(error) = self.shared.append(&self.session_id, Body::Ended(ended)) {
            tracing::error!(session_id = %self.session_id, %error, "an abandoned session could not be ended in the outbox");
        }
    }
}

impl State {
    /// Bytes on disk.
    fn used(&self) -> u64 {
        self.index.bytes() + self.scratch
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, session_id: &Arc<str>, body: Body) -> Result<u64, ArchiveError> {
        let mut state = self.lock();
        let appended = self.append_or_owe(&mut state, session_id, body);
        self.report(&state);
        self.request_work(&mut state);
        appended
    }

    /// Whether a running session may still add this. Audio needs room; everything else is a few bytes, and an end leads to space being freed:
    /// it always gets in.
    fn has_room(&self, state: &State, body: &Body) -> bool {
        let Body::Audio(chunk) = body else { return true };
        self.has_room_for(state, chunk.pcm.len() as u64 + RECORD_OVERHEAD)
    }

    /// Whether a running session may use this many bytes more.
    fn has_room_for(&self, state: &State, bytes: u64) -> bool {
        state.used() + bytes <= self.limit + HEAD_ROOM.min(self.limit / SMALL_LIMIT_FRACTION)
    }

    /// Writes one event, the next of its session.
    fn write_event(&self, state: &mut State, session_id: &Arc<str>, body: &Body) -> Result<u64, ArchiveError> {
        let last = state.index.session(session_id).map_or(0, |session| session.last);
        let event = Event {
            session_id: session_id.to_string(),
            sequence: last + 1,
            body: Some(body.clone()),
            durable: 0,
        };
        record::encode(&event, &mut state.record)
            .ok_or_else(|| invalid("the event is larger than 1 MiB: send audio in smaller chunks"))?;
        let bytes = state.record.len();
        let written = self.write_record(state);
        Self::note_write(state, bytes, written.as_ref().err());
        let segment = written.map_err(ArchiveError::Io)?;
        let (sequence, now_ms) = (event.sequence, self.ages.now_ms());
        state
            .index
            .add(segment, session_id, sequence, sequence, bytes as u64, now_ms);
        if let Some(session) = state.index.session_mut(session_id) {
            session.tally.note(body);
            session.gap = matches!(body, Body::Audio(chunk) if chunk.pcm.is_empty())
                || (session.gap && !matches!(body, Body::Audio(_)));
        }
        if matches!(body, Body::Ended(_)) {
            state.index.end(session_id);
        }
        Ok(event.sequence)
    }

    /// Puts `state.record` at the end of the active segment, starting a new one when it is full.
    fn write_record(&self, state: &mut State) -> io::Result<u64> {
        let bytes = state.record.len() as u64;
        if state
            .active
            .as_ref()
            .is_some_and(|active| active.bytes + bytes > SEGMENT_BYTES)
        {
            self.seal_active(state);
        }
        let active = match &mut state.active {
            Some(active) => active,
            none => {
                let active = create_segment(&self.dir, state.next_segment)?;
                state.next_segment += 1;
                state.index.add_segment(active.segment, active.bytes);
                none.insert(active)
            }
        };
        if let Err(error) = active.file.write_all_at(&state.record, active.bytes) {
            // Half a record may be there now. The next one is written over it; a crash before that is a damaged tail.
            if let Err(error) = active.file.set_len(active.bytes) {
                tracing::warn!(%error, "cannot cut half a record off the outbox");
            }
            return Err(error);
        }
        active.bytes += bytes;
        Ok(active.segment)
    }

    fn seal_active(&self, state: &mut State) {
        if let Some(active) = state.active.take() {
            state.index.seal(active.segment);
            state.unflushed.push(active);
        }
    }

    /// Hands segments that nobody needs to the flushing thread for deletion. An active one is closed for it: an idle
    /// node keeps nothing.
    fn collect_spent(&self, state: &mut State) {
        if state
            .active
            .as_ref()
            .is_some_and(|active| state.index.is_spent(active.segment))
        {
            self.seal_active(state);
        }
        let spent = state.index.take_spent();
        if !spent.is_empty() {
            state.unflushed.retain(|written| !spent.contains(&written.segment));
            state.spent.extend(spent);
            self.request_work(state);
        }
    }

    fn request_work(&self, state: &mut State) {
        if state.work_since.is_none() {
            state.work_since = Some(Instant::now());
            self.wake_sync.notify_one();
        }
    }

    fn report(&self, state: &State) {
        self.progress.send_if_modified(|progress| {
            let before = std::mem::replace(&mut progress.undurable_events, state.index.undurable());
            before != progress.undurable_events
        });
    }
}

fn create_segment(dir: &Path, segment: u64) -> io::Result<Active> {
    let path = segment_path(dir, segment);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    if let Err(error) = file.write_all_at(record::MAGIC, 0) {
        // Without this the next attempt would find the file in its way.
        std::fs::remove_file(&path)?;
        return Err(error);
    }
    Ok(Active {
        segment,
        file: Arc::new(file),
        bytes: record::MAGIC.len() as u64,
        flushed: 0,
    })
}

fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016}.seg"))
}

fn lock_folder(dir: &Path) -> Result<FolderLock, Fatal> {
    std::fs::create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("lock"))
        .map_err(|error| unusable(dir, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(FolderLock(lock)),
        Err(TryLockError::WouldBlock) => Err(Fatal::new(
            exit::CANNOT_CREATE,
            format!("the outbox folder {} is in use by another process", dir.display()),
            "stop the other media node, or give this one its own folder with outbox.dir (VOXRAY_OUTBOX_DIR)",
        )),
        Err(TryLockError::Error(error)) => Err(unusable(dir, &error)),
    }
}

fn unusable(dir: &Path, error: &dyn std::error::Error) -> Fatal {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Fatal::new(
        exit::CANNOT_CREATE,
        format!("the outbox folder {} cannot be used: {error}{cause}", dir.display()),
        "check that the folder exists on a disk with space and that this user may write it, or set outbox.dir (VOXRAY_OUTBOX_DIR)",
    )
}

fn invalid(message: &'static str) -> ArchiveError {
    ArchiveError::NoEvent(message)
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
