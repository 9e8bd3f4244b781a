//! What the archiver has safe of each session, kept beside the segments.
//!
//! Only saves work: without the file, or with an old one, a restarted node sends more again than it had to. It is
//! written like a segment, an event without a body for each session; a damaged end of it is ignored.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use voxray_proto::archive::Event;

use super::reader::parse_all;
use super::record;

const NAME: &str = "watermarks";
const NEW_NAME: &str = "watermarks.tmp";

/// Puts a new file in place of the old one. `flush`: it must survive a power loss, because segments go next.
pub(super) fn write(dir: &Path, watermarks: &[(String, u64)], flush: bool) -> io::Result<()> {
    let mut bytes = record::MAGIC.to_vec();
    let mut buffer = Vec::new();
    for (session_id, sequence) in watermarks {
        let event = Event {
            session_id: session_id.clone(),
            sequence: *sequence,
            body: None,
            durable: 0,
        };
        if record::encode(&event, &mut buffer).is_some() {
            bytes.extend_from_slice(&buffer);
        }
    }
    let mut file = File::create(dir.join(NEW_NAME))?;
    file.write_all(&bytes)?;
    if flush {
        file.sync_data()?;
    }
    std::fs::rename(dir.join(NEW_NAME), dir.join(NAME))?;
    if flush {
        // The new name as well.
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// What the file told.
pub(super) struct Watermarks {
    /// Up to where the archiver had each session safe.
    pub known: HashMap<String, u64>,
    /// It could be read to its end: of a session that is not in it the archiver had nothing.
    pub whole: bool,
}

/// What can be read of it. Where nothing was ever acknowledged there is none.
pub(super) fn read(dir: &Path) -> Watermarks {
    let bytes = match std::fs::read(dir.join(NAME)) {
        Err(error) if error.kind() == ErrorKind::NotFound => record::MAGIC.to_vec(),
        bytes => bytes.unwrap_or_default(),
    };
    let records = bytes.strip_prefix(record::MAGIC);
    let (events, used, _) = parse_all(records.unwrap_or_default());
    let known = events.into_iter().map(|event| (event.session_id, event.sequence));
    Watermarks {
        known: known.collect(),
        whole: records.is_some_and(|records| records.len() == used),
    }
}
