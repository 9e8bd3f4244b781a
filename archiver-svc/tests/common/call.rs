//! A call as a node archives it, and what must come of it.

use archiver_svc::Row;
use sha2::{Digest, Sha256};
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{AudioChunk, Event, RecordingFormat, SessionEnded, SessionStarted, Turn};

/// 2026-03-04 05:06:07 UTC
const START_MS: u64 = 1_772_600_767_000;

/// One call as a node sends it: start, turns between chunks of audio, end.
pub struct Call {
    pub id: String,
    pub events: Vec<Event>,
    pub pcm: Vec<u8>,
    pub turns: u32,
}

impl Call {
    /// A recorded call with this many chunks of `chunk_frames` stereo frames, a turn after each second one.
    pub fn recorded(id: &str, chunks: usize, chunk_frames: usize) -> Self {
        let mut call = Self::begin(id, true);
        for chunk in 0..chunks {
            let seed = chunk * 31 + id.len();
            let pcm: Vec<u8> = (0..chunk_frames * 4).map(|i| (i * 7 + seed) as u8).collect();
            call.audio(&pcm);
            if chunk % 2 == 1 {
                call.turn();
            }
        }
        call.end();
        call
    }

    /// A recorded call with these samples, 200 ms a chunk.
    pub fn of_pcm(id: &str, pcm: &[u8]) -> Self {
        let mut call = Self::begin(id, true);
        for chunk in pcm.chunks(6400) {
            call.audio(chunk);
        }
        call.end();
        call
    }

    /// A recorded call of another shape, 200 ms a chunk.
    pub fn of_shape(id: &str, pcm: &[u8], sample_rate_hz: u32, channels: u32) -> Self {
        let mut call = Self::begin(id, true);
        let frame_bytes = 2 * channels as usize;
        for chunk in pcm.chunks(sample_rate_hz as usize / 5 * frame_bytes) {
            call.audio(chunk);
        }
        call.end();
        for event in &mut call.events {
            match &mut event.body {
                Some(Body::Started(started)) => {
                    started.recording = Some(RecordingFormat {
                        sample_rate_hz,
                        channels,
                    });
                }
                Some(Body::Audio(audio)) => audio.first_frame = audio.first_frame * 4 / frame_bytes as u64,
                Some(Body::Ended(ended)) => ended.total_frames = (pcm.len() / frame_bytes) as u64,
                Some(Body::Turn(_)) | None => {}
            }
        }
        call
    }

    pub fn unrecorded(id: &str, turns: usize) -> Self {
        let mut call = Self::begin(id, false);
        for _ in 0..turns {
            call.turn();
        }
        call.end();
        call
    }

    pub fn last(&self) -> u64 {
        self.events.len() as u64
    }

    /// What a node sends after a reconnect when it knows that this much is durable.
    pub fn behind(&self, durable: u64) -> Vec<Event> {
        let later = self.events.iter().filter(|event| event.sequence > durable).cloned();
        later.map(|event| Event { durable, ..event }).collect()
    }

    /// What the WAV file must be.
    pub fn wav(&self) -> Vec<u8> {
        let mut wav = std::io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut wav, spec).unwrap();
        for sample in self.pcm.chunks_exact(2) {
            writer.write_sample(i16::from_le_bytes([sample[0], sample[1]])).unwrap();
        }
        writer.finalize().unwrap();
        wav.into_inner()
    }

    /// Text of each turn in order.
    pub fn texts(&self) -> Vec<String> {
        let text = |event: &Event| match &event.body {
            Some(Body::Turn(turn)) => Some(turn.text.clone()),
            _ => None,
        };
        self.events.iter().filter_map(text).collect()
    }

    fn begin(id: &str, recorded: bool) -> Self {
        let mut call = Self {
            id: id.to_owned(),
            events: Vec::new(),
            pcm: Vec::new(),
            turns: 0,
        };
        call.push(Body::Started(SessionStarted {
            traceparent: String::new(),
            started_at_unix_ms: START_MS,
            node_id: "node".to_owned(),
            transport: "telephony".to_owned(),
            provider: "twilio".to_owned(),
            recording: recorded.then_some(RecordingFormat {
                sample_rate_hz: 8000,
                channels: 2,
            }),
        }));
        call
    }

    fn audio(&mut self, pcm: &[u8]) {
        let first_frame = (self.pcm.len() / 4) as u64;
        self.pcm.extend_from_slice(pcm);
        self.push(Body::Audio(AudioChunk {
            first_frame,
            pcm: pcm.to_vec().into(),
        }));
    }

    fn turn(&mut self) {
        let seq = self.turns;
        self.turns += 1;
        self.push(Body::Turn(Turn {
            seq,
            role: if seq.is_multiple_of(2) { "assistant" } else { "user" }.to_owned(),
            text: format!("turn {seq} of {}, naïve 'quoted' text", self.id),
            created_at_unix_ms: START_MS + u64::from(seq) * 1500,
            ..Turn::default()
        }));
    }

    fn end(&mut self) {
        let recorded = !self.pcm.is_empty();
        self.push(Body::Ended(SessionEnded {
            ended_at_unix_ms: START_MS + 60_000,
            reason: "caller_hung_up".to_owned(),
            total_frames: (self.pcm.len() / 4) as u64,
            pcm_sha256: if recorded {
                Sha256::digest(&self.pcm).to_vec()
            } else {
                Vec::new()
            },
            turns: self.turns,
        }));
    }

    fn push(&mut self, body: Body) {
        self.events.push(Event {
            session_id: self.id.clone(),
            sequence: self.events.len() as u64 + 1,
            body: Some(body),
            durable: 0,
        });
    }
}

/// Checks that all of a call's turns are in SQL, once each and in order.
pub fn assert_rows(call: &Call, rows: &[Row]) {
    assert_eq!(
        rows.iter().map(|row| row.text.clone()).collect::<Vec<_>>(),
        call.texts()
    );
    for (seq, row) in (0..).zip(rows) {
        assert_eq!(row.seq, seq);
        assert_eq!(row.role, if seq % 2 == 0 { "assistant" } else { "user" });
        let expected_ms = i128::from(START_MS) + i128::from(seq) * 1500;
        assert_eq!(row.created_at.unix_timestamp_nanos(), expected_ms * 1_000_000);
    }
}
