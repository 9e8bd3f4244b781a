//! What happens to the folder before anything new is written: whole records are kept, damage is set aside, sessions that
//! were cut off are found.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use voxray_proto::archive::event::Body;
use voxray_proto::archive::{AudioChunk, Event, SessionEnded, SessionStarted};

use super::age::{self, AgeClock};
use super::aside;
use super::index::Index;
use super::reader::parse_all;
use super::record::{self, Parsed};
use super::tally::{PcmHash, Tally};
use super::watermarks::{self, Watermarks};
use super::{segment_path, unix_ms};

/// Reason of sessions that the last process did not end.
const REASON_RESTARTED: &str = "node_restarted";
/// Damage of an ordinary crash.
const TORN: &str = "it ends within a record";

/// What the folder held.
pub(super) struct Recovered {
    pub index: Index,
    pub next_segment: u64,
    /// The clock that the index has its times by.
    pub ages: AgeClock,
    /// Sessions without an end, and the end they are to get.
    pub cut_off: Vec<(Arc<str>, SessionEnded)>,
}

/// A segment file as found.
struct Scan {
    segment: u64,
    /// Bytes that are whole records.
    good: u64,
    /// First and last sequence of each session in it.
    spans: HashMap<Arc<str>, (u64, u64)>,
    modified: SystemTime,
    damage: Option<&'static str>,
}

/// What all segments together say of a session.
#[derive(Default)]
struct Found {
    tally: Tally,
    ended: bool,
    start_lost: bool,
}

/// Reads the folder and makes it whole.
pub(super) fn recover(dir: &Path) -> io::Result<Recovered> {
    let mut sessions = HashMap::new();
    let mut scans = Vec::new();
    let segments = segment_numbers(dir)?;
    let next_segment = segments.last().map_or(1, |last| last + 1);
    for segment in segments {
        scans.push(scan(dir, segment, &mut sessions)?);
    }
    let watermarks = watermarks::read(dir);
    let damaged: Vec<u64> = scans.iter().filter(|s| s.damage.is_some()).map(|s| s.segment).collect();
    if !damaged.is_empty() {
        let mut lost = missing_events(&scans, &damaged, &watermarks);
        for scan in scans.iter_mut().filter(|scan| scan.damage.is_some()) {
            repair(
                dir,
                scan,
                &lost.remove(&scan.segment).unwrap_or_default(),
                &mut sessions,
            )?;
        }
    }
    let (kept, bytes) = aside::forget_old(dir)?;
    if kept > 0 {
        tracing::warn!(folder = %dir.display(), files = kept, bytes,
            "there is what was set aside of damaged outbox files (NUMBER.damaged-at-OFFSET); it may hold what callers said, and is deleted after 30 days");
    }
    let ages = AgeClock::start();
    let index = build_index(&scans, sessions, &watermarks.known);
    let cut_off = cut_off(dir, &index, &scans);
    Ok(Recovered {
        index,
        next_segment,
        ages,
        cut_off,
    })
}

fn segment_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        segments.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    segments.sort_unstable();
    Ok(segments)
}

fn scan(dir: &Path, segment: u64, sessions: &mut HashMap<Arc<str>, Found>) -> io::Result<Scan> {
    let path = segment_path(dir, segment);
    let bytes = std::fs::read(&path)?;
    let modified = std::fs::metadata(&path)?
        .modified()
        .unwrap_or_else(|_| SystemTime::now());
    let mut scan = Scan {
        segment,
        good: 0,
        spans: HashMap::new(),
        modified,
        damage: None,
    };
    let Some(records) = bytes.strip_prefix(record::MAGIC) else {
        // A file is made and then begun: a crash in between leaves an empty one.
        let torn = record::MAGIC.starts_with(&bytes);
        scan.damage = Some(if torn {
            TORN
        } else {
            "it does not begin like an outbox file of this version"
        });
        return Ok(scan);
    };
    let (events, used, stop) = parse_all(records);
    scan.good = (record::MAGIC.len() + used) as u64;
    scan.damage = match stop {
        _ if used == records.len() => None,
        Parsed::Incomplete(_) => Some(TORN),
        Parsed::Damaged | Parsed::Event(..) => Some("a checksum does not match"),
    };
    for event in events {
        let session_id: Arc<str> = event.session_id.as_str().into();
        let found = sessions.entry(Arc::clone(&session_id)).or_default();
        if let Some(body) = &event.body {
            found.tally.note(body);
            found.ended |= matches!(body, Body::Ended(_));
            found.start_lost |= is_lost_start(body);
        }
        let span = scan.spans.entry(session_id).or_insert((event.sequence, event.sequence));
        span.1 = span.1.max(event.sequence);
    }
    Ok(scan)
}

/// Sequences that damage has taken out of the beginning or the middle of sessions, by the damaged segment they were in. What
/// damage took off a session's end is not among them: nobody can know of it.
fn missing_events(scans: &[Scan], damaged: &[u64], watermarks: &Watermarks) -> HashMap<u64, Vec<(Arc<str>, u64, u64)>> {
    let mut seen: HashMap<&Arc<str>, (u64, u64)> = HashMap::new();
    let mut missing: HashMap<u64, Vec<(Arc<str>, u64, u64)>> = HashMap::new();
    for scan in scans {
        for (session_id, (first, last)) in &scan.spans {
            let watermark = watermarks.known.get(&**session_id).copied();
            let before = seen.insert(session_id, (scan.segment, *last));
            let (from_segment, known) = match (before, watermark) {
                (Some((segment, last)), watermark) => (segment, last.max(watermark.unwrap_or(0))),
                (None, Some(watermark)) => (0, watermark),
                (None, None) if watermarks.whole => (0, 0),
                // Earlier events may have been durable and deleted long ago.
                (None, None) => continue,
            };
            let culprit = damaged.iter().find(|d| (from_segment..scan.segment).contains(*d));
            if let (Some(culprit), true) = (culprit, *first > known + 1) {
                let gap = (Arc::clone(session_id), known + 1, first - 1);
                missing.entry(*culprit).or_default().push(gap);
            }
        }
    }
    missing
}

/// Moves the damaged tail of a segment aside; on a full disk it is cut off. Events known to be missing get a place-holder:
/// sequences have no gaps, and the archiver is to go on with what follows. It is a chunk without samples in a recording, the
/// start of a session that is not recorded where that is lost, and else has no body, like an event of a kind that a newer node
/// might send.
fn repair(
    dir: &Path,
    scan: &mut Scan,
    lost: &[(Arc<str>, u64, u64)],
    sessions: &mut HashMap<Arc<str>, Found>,
) -> io::Result<()> {
    let path = segment_path(dir, scan.segment);
    let bytes = std::fs::read(&path)?;
    let (good, tail) = bytes
        .split_at_checked(usize::try_from(scan.good).unwrap_or(0))
        .unwrap_or((&[], &bytes));
    let aside = aside::path(dir, scan.segment, scan.good);
    let kept = if good.is_empty() && record::MAGIC.starts_with(tail) {
        "nothing, it was not begun".to_owned()
    } else if write_if_there_is_room(&aside, tail)? {
        aside.display().to_string()
    } else {
        "nothing, the disk is full".to_owned()
    };
    let reason = scan.damage.unwrap_or_default();
    let lost_events: u64 = lost.iter().map(|(_, first, last)| last - first + 1).sum();
    if lost_events == 0 && reason == TORN {
        tracing::warn!(file = %path.display(), offset = scan.good, kept,
            "the last record of an outbox file was not written to its end; it is set aside");
    } else {
        tracing::error!(file = %path.display(), offset = scan.good, reason, lost_events, kept,
            "an outbox file is damaged; what stands before the damage is kept, the rest is set aside and not archived: check this disk");
    }
    let mut whole = if good.is_empty() {
        record::MAGIC.to_vec()
    } else {
        good.to_vec()
    };
    let mut buffer = Vec::new();
    for (session_id, first, last) in lost {
        let found = sessions.entry(Arc::clone(session_id)).or_default();
        if *first == 1 {
            found.start_lost = true;
            tracing::error!(%session_id, lost_events = last,
                "the beginning of a session is lost with it: its turns are archived, its recording cannot be, for nothing tells the format of its audio");
        }
        let recorded = found.tally.is_recorded() && !found.start_lost;
        for sequence in *first..=*last {
            let body = match sequence {
                1 => Some(lost_start(scan.modified)),
                // Most lost events of a recording were chunks: one without samples.
                _ => recorded.then(|| Body::Audio(AudioChunk::default())),
            };
            let event = Event {
                session_id: session_id.to_string(),
                sequence,
                body,
                durable: 0,
            };
            if record::encode(&event, &mut buffer).is_some() {
                whole.extend_from_slice(&buffer);
            }
        }
        let span = scan.spans.entry(Arc::clone(session_id)).or_insert((*first, *last));
        span.1 = span.1.max(*last);
    }
    scan.good = whole.len() as u64;
    let new = path.with_extension("tmp");
    if write_if_there_is_room(&new, &whole)? {
        std::fs::rename(&new, &path)?;
    } else {
        // Cutting makes room; a crash before the place-holders are there leaves a file to be repaired again.
        let file = File::options().write(true).open(&path)?;
        file.set_len(good.len() as u64)?;
        file.write_all_at(whole.get(good.len()..).unwrap_or_default(), good.len() as u64)?;
        file.sync_data()?;
    }
    File::open(dir)?.sync_all()
}

/// Stands for the start of a session that is lost: it began before its file was last written to.
fn lost_start(before: SystemTime) -> Body {
    Body::Started(SessionStarted {
        started_at_unix_ms: unix_ms(before),
        ..SessionStarted::default()
    })
}

/// Whether this is what [`lost_start`] made: nodes have names.
fn is_lost_start(body: &Body) -> bool {
    matches!(body, Body::Started(started) if started.node_id.is_empty() && started.recording.is_none())
}

/// Writes a new file; `false`: the disk is full, and there is none.
fn write_if_there_is_room(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_data()
    });
    let Err(error) = written else { return Ok(true) };
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(false),
            }
        }
        _ => Err(error),
    }
}

fn build_index(scans: &[Scan], sessions: HashMap<Arc<str>, Found>, watermarks: &HashMap<String, u64>) -> Index {
    let mut index = Index::default();
    for scan in scans {
        let written = age::before_beginning(scan.modified);
        index.add_segment(scan.segment, scan.good);
        for (session_id, (first, last)) in &scan.spans {
            index.add(scan.segment, session_id, *first, *last, 0, written);
        }
        index.seal(scan.segment);
        index.set_readable(scan.segment, scan.good);
    }
    for (session_id, found) in sessions {
        if let Some(session) = index.session_mut(&session_id) {
            session.tally = found.tally;
            session.start_lost = found.start_lost;
        }
        if found.ended {
            index.end(&session_id);
        }
    }
    for (session_id, sequence) in watermarks {
        index.restore_watermark(session_id, *sequence);
    }
    index
}

/// Sessions that are not ended. Their recordings are hashed where all audio is still here.
fn cut_off(dir: &Path, index: &Index, scans: &[Scan]) -> Vec<(Arc<str>, SessionEnded)> {
    let open: Vec<&Arc<str>> = index.sessions().filter(|(_, s)| !s.ended).map(|(id, _)| id).collect();
    let whole = open
        .iter()
        .filter(|id| index.session(id).and_then(|s| s.first()) == Some(1));
    let mut hashes: HashMap<&str, PcmHash> = whole.map(|id| (&***id, PcmHash::default())).collect();
    hash_audio(dir, index, &mut hashes);
    let modified: BTreeMap<u64, u64> = scans.iter().map(|s| (s.segment, unix_ms(s.modified))).collect();
    open.into_iter()
        .filter_map(|session_id| {
            let session = index.session(session_id)?;
            let last_segment = session.segments().last().copied()?;
            let ended_at = modified.get(&last_segment).copied().unwrap_or_default();
            let hash = hashes.remove(&**session_id).map(PcmHash::finish).unwrap_or_default();
            let ended = session.tally.ended(REASON_RESTARTED, ended_at, hash);
            Some((Arc::clone(session_id), ended))
        })
        .collect()
}

fn hash_audio(dir: &Path, index: &Index, hashes: &mut HashMap<&str, PcmHash>) {
    let sessions = hashes.keys().filter_map(|id| index.session(id));
    let segments: HashSet<u64> = sessions.flat_map(super::index::Session::segments).collect();
    let mut segments: Vec<u64> = segments.into_iter().collect();
    segments.sort_unstable();
    for segment in segments {
        let Ok(bytes) = std::fs::read(segment_path(dir, segment)) else {
            hashes.clear();
            return;
        };
        let (events, _, _) = parse_all(bytes.strip_prefix(record::MAGIC).unwrap_or_default());
        for event in events {
            if let (Some(hash), Some(body)) = (hashes.get_mut(event.session_id.as_str()), &event.body) {
                hash.note(body);
            }
        }
    }
}
