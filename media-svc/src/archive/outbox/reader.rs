//! Reading events back from disk, in the order written, a little at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use voxray_proto::archive::Event;
use voxray_proto::archive::event::Body;

use super::record::{self, Parsed};
use super::{Shared, segment_path};

/// Bytes read at once: bounds the memory of a reader, and is some 8 s of one recorded call.
const WINDOW: usize = 256 << 10;
/// How often a segment that cannot be read now is tried before what follows it is sent: it is tried about once a second, and
/// events wait for it that long. A disk that is in trouble, or a process that is out of file descriptors, may be over it by then.
const MAX_FAILURES: u32 = 60;

/// A position in the outbox. Reads files: call it where blocking is allowed.
pub struct Reader {
    shared: Arc<Shared>,
    segment: u64,
    offset: u64,
    file: Option<File>,
    /// Failures in a row at this position.
    failures: u32,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            segment: 0,
            offset: 0,
            file: None,
            failures: 0,
        }
    }

    /// Whether the last [`read`](Self::read) ended at something that may be readable a little later, whether or not more is
    /// written meanwhile.
    pub fn is_held_up(&self) -> bool {
        self.failures > 0
    }

    /// The next events that are not durable, some 256 KiB at most. Empty: everything flushed so far has been read, or the
    /// disk [holds this up](Self::is_held_up).
    ///
    /// What is damaged, or cannot be read for about a minute, is reported and passed over; it stays on disk and is looked at
    /// again by the next reader, and at the next start, which sets aside what is damaged.
    pub fn read(&mut self) -> Vec<Event> {
        loop {
            let next = self.shared.lock().index.readable(self.segment);
            let Some((segment, readable, complete)) = next else {
                return Vec::new();
            };
            if segment != self.segment {
                self.go_to(segment);
            }
            self.offset = self.offset.max(record::MAGIC.len() as u64);
            if self.offset >= readable {
                if !complete {
                    return Vec::new();
                }
                self.go_to(segment + 1);
                continue;
            }
            match self.read_window(readable) {
                Ok(events) => {
                    self.failures = 0;
                    let events = self.without_durable(events);
                    if !events.is_empty() {
                        return events;
                    }
                }
                // Deleted between the question and the answer: everything in it is durable.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.go_to(segment + 1),
                Err(error) if !is_damage(&error) && self.failures < MAX_FAILURES => {
                    if self.failures == 0 {
                        let path = segment_path(&self.shared.dir, segment);
                        tracing::warn!(file = %path.display(), offset = self.offset, %error,
                            "the outbox cannot be read here now; it is tried again every second, and what follows waits");
                    }
                    self.failures += 1;
                    self.file = None;
                    return Vec::new();
                }
                Err(error) => {
                    let path = segment_path(&self.shared.dir, segment);
                    tracing::error!(file = %path.display(), offset = self.offset, %error,
                        "the outbox cannot be read here; the rest of this file is passed over: check the disk and \
                         restart this node, which reads it again and sets aside what is damaged");
                    self.go_to(segment + 1);
                }
            }
        }
    }

    fn go_to(&mut self, segment: u64) {
        self.segment = segment;
        self.offset = 0;
        self.file = None;
        self.failures = 0;
    }

    fn read_window(&mut self, readable: u64) -> io::Result<Vec<Event>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(segment_path(&self.shared.dir, self.segment))?),
        };
        let available = readable - self.offset;
        let mut wanted = (WINDOW as u64).min(available);
        loop {
            let mut window = vec![0; usize::try_from(wanted).unwrap_or(WINDOW)];
            file.read_exact_at(&mut window, self.offset)?;
            let (events, used, stop) = parse_all(&window);
            if !events.is_empty() {
                self.offset += used as u64;
                return Ok(events);
            }
            match stop {
                Parsed::Incomplete(needed) if needed as u64 > wanted && needed as u64 <= available => {
                    wanted = needed as u64;
                }
                Parsed::Incomplete(_) | Parsed::Damaged | Parsed::Event(..) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "damaged record"));
                }
            }
        }
    }

    /// Leaves out what is durable, and says with each event up to where that is: another archiver goes on there. Audio of a
    /// session whose start is lost is passed by: no archiver can make a recording of it, and the rest is not to wait for that.
    fn without_durable(&self, mut events: Vec<Event>) -> Vec<Event> {
        let state = self.shared.lock();
        events.retain_mut(|event| {
            let Some(session) = state.index.session(&event.session_id) else {
                return true;
            };
            // What is no longer on disk was durable, even if the file of watermarks is lost.
            let gone = session.first().map_or(0, |first| first.saturating_sub(1));
            event.durable = session.durable.max(gone);
            if session.start_lost && matches!(event.body, Some(Body::Audio(_))) {
                event.body = None;
            }
            event.sequence > session.durable
        });
        events
    }
}

/// Whether bytes are not what was written, or fewer: reading them again does not help.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// All whole records at the beginning of `bytes`, how many bytes they take, and what stands behind them.
pub(super) fn parse_all(bytes: &[u8]) -> (Vec<Event>, usize, Parsed) {
    let mut events = Vec::new();
    let mut used = 0;
    loop {
        match record::parse(bytes.get(used..).unwrap_or_default()) {
            Parsed::Event(event, length) => {
                events.push(*event);
                used += length;
            }
            stop @ (Parsed::Incomplete(_) | Parsed::Damaged) => return (events, used, stop),
        }
    }
}
