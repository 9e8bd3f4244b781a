//! One session as the archiver knows it: what has arrived, in which order, and what is to be done with it. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use time::OffsetDateTime;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{SessionEnded, SessionStarted, Turn};

use super::entry::{self, Entry};
use crate::metrics::{Kind, KindCounts};
use crate::recordings::{Facts, Format, Live, Recordings};
use crate::transcripts::{Latency, Row, Timing};

/// Longest session id, bytes: it is part of file names and keys.
const MAX_SESSION_ID_BYTES: usize = 128;
/// No call was recorded before this year.
const FIRST_YEAR: i32 = 2020;
/// Highest sample rate that is believed, in hertz.
const MAX_SAMPLE_RATE_HZ: u32 = 192_000;

/// Events of one session that may wait for an earlier one. A node sends in order, so this only grows when the earlier
/// one is lost; past it the session is set aside.
const MAX_PENDING_EVENTS: usize = 4096;
/// The same for the audio among them, in bytes: four of the largest messages.
const MAX_PENDING_BYTES: usize = 4 * 1024 * 1024;

/// What one session is to the archiver.
#[derive(Debug, Default)]
pub struct Session {
    /// Every event up to and including this one was applied.
    pub received: u64,
    /// The node says that everything up to here was acknowledged durable to it.
    pub claimed: u64,
    /// Events that came before an earlier one; `None` = nothing that this release knows.
    pub pending: BTreeMap<u64, Option<Body>>,
    /// Audio in [`pending`](Self::pending), bytes.
    pending_bytes: usize,
    /// First pending event for which the missing ones were looked for already.
    pub looked_up: u64,
    /// Too much waits behind a gap: only the event that is missing is taken, and what follows it.
    pub set_aside: bool,
    /// An end that was not the last event to come.
    early_end: Option<SessionEnded>,
    /// The last stream of its node that brought something of it.
    pub stream: u64,
    /// Where it stands.
    pub stage: Stage,
}

/// Where a session stands.
#[derive(Debug, Default)]
pub enum Stage {
    /// Its first event has not arrived.
    #[default]
    AwaitingStart,
    /// Events are applied as they come.
    Open(Open),
    /// All of it is here, and being stored.
    Storing,
    /// Something in it cannot be right. Nothing is acknowledged until it is sent again from its first event.
    Refused,
}

/// A session that runs.
#[derive(Debug)]
pub struct Open {
    /// Its recording, when it has one.
    pub recording: Option<Arc<Live>>,
    /// Applied since the last audio.
    pub counts: KindCounts,
    /// The node said that it has lost some of the audio.
    pub damaged: bool,
    /// Audio of events up to this one is stored, by an archiver that may not have written their rows.
    pub stored: u64,
    /// Its recording is stored with this length, as SQL says. Nothing of it is acknowledged before the end proves it.
    pub noted_bytes: Option<u64>,
    /// The trace of its call, or empty.
    pub traceparent: String,
}

/// What applying events asks for, in this order: samples to spools, rows to SQL, ends.
#[derive(Debug, Default)]
pub struct Work {
    /// Samples and where they go.
    pub audio: Vec<Samples>,
    /// What goes to SQL, and the events it comes from.
    pub entries: Vec<(u64, Entry)>,
    /// Sessions that have ended.
    pub ends: Vec<(String, SessionEnded)>,
}

/// Samples of one recording.
#[derive(Debug)]
pub struct Samples {
    /// Where they go.
    pub live: Arc<Live>,
    /// The event they come from.
    pub sequence: u64,
    /// Events applied since the last samples of this recording, this one among them.
    pub counts: KindCounts,
    /// The node has lost some of the audio, here or before.
    pub damaged: bool,
    /// The first frame of them, when there may be frames missing before it.
    pub behind_loss: Option<u64>,
    /// The samples.
    pub pcm: Bytes,
}

/// Why a session is refused. Its events stay with the node.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Something comes before `SessionStarted`, or another one later.
    #[error("an event is out of place: SessionStarted must come first and once")]
    OutOfPlace,
    /// Nonsense in the recording format.
    #[error("the recording format is not usable (1 or 2 channels, 1 to 192000 Hz; ogg: 8, 12, 16, 24 or 48 kHz)")]
    Format,
    /// Recording is on at the node and off here.
    #[error("the session is recorded, but recording.enable is false in the archiver: use the same configuration")]
    RecordingIsOff,
    /// Audio in a session that said it is not recorded.
    #[error("audio in a session without a recording format")]
    UnexpectedAudio,
    /// A turn number SQL cannot hold.
    #[error("the number of a turn is too large")]
    TurnNumber,
    /// Something after the end.
    #[error("an event after SessionEnded")]
    AfterEnd,
}

fn audio_bytes(body: Option<&Body>) -> usize {
    match body {
        Some(Body::Audio(audio)) => audio.pcm.len(),
        Some(Body::Started(_) | Body::Turn(_) | Body::Ended(_)) | None => 0,
    }
}

/// Kind of an event's body.
pub fn kind(body: Option<&Body>) -> Kind {
    match body {
        Some(Body::Started(_)) => Kind::Started,
        Some(Body::Turn(_)) => Kind::Turn,
        Some(Body::Audio(_)) => Kind::Audio,
        Some(Body::Ended(_)) => Kind::Ended,
        None => Kind::Unknown,
    }
}

/// Whether an id can be part of a file name and of an object key as it is.
pub fn is_session_id(id: &str) -> bool {
    id.len() <= MAX_SESSION_ID_BYTES
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Milliseconds since 1970 as a date. What cannot be one, or is that of a clock that was never set, is taken for now:
/// retention would erase such a call at once.
pub fn date(unix_ms: u64) -> OffsetDateTime {
    let told = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok();
    told.filter(|told| told.year() >= FIRST_YEAR).unwrap_or_else(|| {
        let now = OffsetDateTime::now_utc();
        now.replace_millisecond(now.millisecond()).unwrap_or(now)
    })
}

impl Session {
    /// Takes note of an event. `false`: it was here before.
    pub fn arrive(&mut self, sequence: u64, body: Option<Body>) -> bool {
        if let (Stage::Open(open), Some(Body::Ended(ended)), true) = (&mut self.stage, &body, sequence <= self.received)
        {
            // It was no end when it came first: the node has lost the end of this session and made a new one. What
            // came in between is here, and nothing will follow.
            open.damaged = true;
            self.early_end = Some(ended.clone());
            return true;
        }
        if sequence <= self.received || self.pending.contains_key(&sequence) {
            return false;
        }
        self.pending_bytes += audio_bytes(body.as_ref());
        self.pending.insert(sequence, body);
        true
    }

    /// Whether an event follows what another archiver has made durable and this one has not received: the node was there in
    /// between.
    pub fn follows_elsewhere(&self, sequence: u64, durable: u64) -> bool {
        durable > self.received && sequence <= durable + 1
    }

    /// Whether a recording of it grows here.
    pub fn is_recorded(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.recording.is_some())
    }

    /// The first event with audio that waits, in a session that goes on here without a recording.
    pub fn unexpected_audio(&self) -> Option<u64> {
        let Stage::Open(open) = &self.stage else { return None };
        if open.recording.is_some() || open.stored == u64::MAX {
            return None;
        }
        let mut audio = self
            .pending
            .iter()
            .filter(|(_, body)| matches!(body, Some(Body::Audio(_))));
        audio
            .next()
            .map(|(sequence, _)| *sequence)
            .filter(|first| *first > open.stored)
    }

    /// No audio of this session is wanted: it was erased, or, with a length, stored to its end.
    pub fn pass_audio_by(&mut self, noted_bytes: Option<u64>) {
        if let Stage::Open(open) = &mut self.stage {
            (open.stored, open.noted_bytes) = (u64::MAX, noted_bytes);
        }
    }

    /// Whether more waits behind a gap than this archiver keeps in memory.
    pub fn waits_for_too_long(&self) -> bool {
        let too_much = self.pending.len() > MAX_PENDING_EVENTS || self.pending_bytes > MAX_PENDING_BYTES;
        too_much && !self.pending.contains_key(&(self.received + 1))
    }

    /// Gives up what waits behind a gap, and returns the last sequence of it. Nothing applied is given up: when the
    /// missing event does come, the session goes on from there.
    pub fn set_aside(&mut self) -> u64 {
        self.set_aside = true;
        self.pending_bytes = 0;
        let last = std::mem::take(&mut self.pending).into_keys().next_back();
        last.unwrap_or(self.received)
    }

    /// Applies everything that has no gap before it. `recordings` is `None` when recording is off here.
    pub fn advance(&mut self, id: &str, recordings: Option<&Recordings>, work: &mut Work) -> Result<(), Refusal> {
        while let Some(body) = self.pending.remove(&(self.received + 1)) {
            self.pending_bytes -= audio_bytes(body.as_ref());
            let applied = self.apply(id, body, recordings, work);
            if let Err(refusal) = applied {
                self.refuse();
                return Err(refusal);
            }
            self.received += 1;
        }
        if let Some(ended) = self.early_end.take() {
            work.entries.push((self.received, Entry::End(entry::end(id, &ended))));
            work.ends.push((id.to_owned(), ended));
        }
        Ok(())
    }

    /// Forgets what has arrived; only a start over from the first event is taken from now on.
    pub fn refuse(&mut self) {
        *self = Self {
            stage: Stage::Refused,
            ..Self::default()
        };
    }

    /// Goes on with the first event that has arrived: the node has forgotten those before it, because they are durable.
    pub fn adopt(&mut self, first: u64, open: Open) {
        self.received = first - 1;
        self.stage = Stage::Open(open);
    }

    fn apply(
        &mut self,
        id: &str,
        body: Option<Body>,
        recordings: Option<&Recordings>,
        work: &mut Work,
    ) -> Result<(), Refusal> {
        let Some(body) = body else {
            // A newer node's, or one that a node has lost: there is nothing to store, wherever it stands.
            match &mut self.stage {
                Stage::Open(open) => open.counts.add(Kind::Unknown),
                Stage::Storing | Stage::AwaitingStart | Stage::Refused => {}
            }
            return Ok(());
        };
        let open = match &mut self.stage {
            Stage::AwaitingStart => {
                let Body::Started(started) = body else {
                    return Err(Refusal::OutOfPlace);
                };
                let open = start(id, &started, recordings)?;
                let key = open.recording.as_ref().map(|live| live.key.clone());
                work.entries.push((1, Entry::Start(entry::start(id, started, key))));
                self.stage = Stage::Open(open);
                return Ok(());
            }
            Stage::Open(open) => open,
            Stage::Storing => return Err(Refusal::AfterEnd),
            Stage::Refused => return Err(Refusal::OutOfPlace),
        };
        open.counts.add(kind(Some(&body)));
        let sequence = self.received + 1;
        match body {
            Body::Started(_) => return Err(Refusal::OutOfPlace),
            Body::Turn(turn) => work.entries.push((sequence, Entry::Row(row(id, turn)?))),
            Body::Audio(_) if sequence <= open.stored => {}
            Body::Audio(audio) => {
                let live = open.recording.as_ref().ok_or(Refusal::UnexpectedAudio)?;
                // Recorders make no chunks without samples: this one stands for a chunk that the node has lost.
                open.damaged |= audio.pcm.is_empty();
                work.audio.push(Samples {
                    live: Arc::clone(live),
                    sequence,
                    counts: std::mem::take(&mut open.counts),
                    damaged: open.damaged,
                    behind_loss: (open.damaged && !audio.pcm.is_empty()).then_some(audio.first_frame),
                    pcm: audio.pcm,
                });
            }
            Body::Ended(ended) => {
                work.entries.push((sequence, Entry::End(entry::end(id, &ended))));
                work.ends.push((id.to_owned(), ended));
            }
        }
        Ok(())
    }
}

fn start(id: &str, started: &SessionStarted, recordings: Option<&Recordings>) -> Result<Open, Refusal> {
    let recording = match &started.recording {
        None => None,
        Some(format) => {
            let recordings = recordings.ok_or(Refusal::RecordingIsOff)?;
            let channels = u16::try_from(format.channels)
                .ok()
                .filter(|channels| matches!(channels, 1 | 2));
            let rate = Some(format.sample_rate_hz).filter(|rate| (1..=MAX_SAMPLE_RATE_HZ).contains(rate));
            let (Some(channels), Some(sample_rate_hz)) = (channels, rate) else {
                return Err(Refusal::Format);
            };
            let format = Format {
                sample_rate_hz,
                channels,
            };
            let facts = Facts {
                session_id: id.to_owned(),
                transport: started.transport.clone(),
                provider: started.provider.clone(),
                started_at_unix_ms: started.started_at_unix_ms,
            };
            Some(recordings.begin(facts, format).ok_or(Refusal::Format)?)
        }
    };
    let mut counts = KindCounts::default();
    counts.add(Kind::Started);
    Ok(Open {
        recording,
        counts,
        damaged: false,
        stored: 0,
        noted_bytes: None,
        traceparent: started.traceparent.clone(),
    })
}

fn row(id: &str, turn: Turn) -> Result<Row, Refusal> {
    // PostgreSQL has no NUL in TEXT; such a row would be refused for ever.
    let clean = |text: String| {
        if text.contains('\0') {
            text.replace('\0', "\u{fffd}")
        } else {
            text
        }
    };
    let interrupted = (turn.role == "assistant").then_some(turn.interrupted);
    Ok(Row {
        session_id: id.to_owned(),
        role: clean(turn.role),
        text: clean(turn.text),
        seq: i32::try_from(turn.seq).map_err(|_| Refusal::TurnNumber)?,
        created_at: date(turn.created_at_unix_ms),
        interrupted,
        timing: turn.started_ms.zip(turn.ended_ms).map(|(start_ms, end_ms)| Timing {
            start_ms,
            end_ms,
            latency: turn.timing.map(|timing| Latency {
                endpoint_ms: timing.endpoint_ms,
                transcript_ms: timing.transcript_ms,
                first_token_ms: timing.first_token_ms,
                first_audio_ms: timing.first_audio_ms,
            }),
        }),
    })
}

#[cfg(test)]
mod tests;
