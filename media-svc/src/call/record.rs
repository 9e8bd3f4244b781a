//! What a call leaves behind: its turns and its sound, as archive events.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use media_core::Time;
use media_core::audio::FRAME_MS;
use media_core::audio::resample::{Resampler, UnsupportedRate};
use media_core::conversation::{EndReason, TurnRecord};
use media_core::recorder::{Channels, RecordedChunk, Recorder};
use media_core::redact::Redactor;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{AudioChunk, RecordingFormat, SessionEnded, SessionStarted, Turn, TurnTiming};

use super::TransportTraits;
use crate::archive::ArchiveSession;

/// Writes one call into the archive. A write that fails is logged and counted; the call goes on.
pub struct CallRecord {
    session_id: Arc<str>,
    archive: Option<Arc<dyn ArchiveSession>>,
    sound: Option<Sound>,
    redactor: Option<Arc<Redactor>>,
    started: SystemTime,
    turns: u32,
    failed: bool,
}

struct Sound {
    recorder: Recorder,
    caller: Resampler,
    agent: Resampler,
    /// When the far end will have played everything sent so far.
    agent_until: Time,
}

/// Who and what is recorded.
pub struct RecordedCall<'a> {
    /// Session.
    pub session_id: Arc<str>,
    /// This node.
    pub node_id: &'a str,
    /// Transport.
    pub transport: TransportTraits,
    /// Telephony provider, or empty.
    pub provider: &'a str,
    /// The call's trace, or empty.
    pub traceparent: String,
    /// Present when sound is recorded.
    pub channels: Option<Channels>,
    /// Takes out of turns what must not be kept; the conversation itself goes on with what was said.
    pub redactor: Option<Arc<Redactor>>,
}

impl CallRecord {
    /// Opens the record; without an archive nothing is kept.
    pub fn start(call: RecordedCall<'_>, archive: Option<Arc<dyn ArchiveSession>>) -> Result<Self, UnsupportedRate> {
        let rate = call.transport.recording_rate_hz;
        let channels = call.channels.filter(|_| archive.is_some());
        let sound = match channels {
            Some(channels) => Some(Sound {
                recorder: Recorder::new(rate, channels),
                caller: Resampler::new(call.transport.input_rate_hz, rate)?,
                agent: Resampler::new(call.transport.output_rate_hz, rate)?,
                agent_until: Time::ZERO,
            }),
            None => None,
        };
        let started = SystemTime::now();
        let mut record = Self {
            session_id: call.session_id,
            archive,
            sound,
            redactor: call.redactor,
            started,
            turns: 0,
            failed: false,
        };
        record.append(Body::Started(SessionStarted {
            started_at_unix_ms: unix_ms(started),
            node_id: call.node_id.to_owned(),
            transport: call.transport.name.to_owned(),
            provider: call.provider.to_owned(),
            traceparent: call.traceparent,
            recording: channels.map(|channels| RecordingFormat {
                sample_rate_hz: rate,
                channels: channels.count(),
            }),
        }));
        Ok(record)
    }

    /// Caller audio that arrived now.
    pub fn caller(&mut self, now: Time, samples: &[i16]) {
        if let Some(sound) = self.sound.as_mut() {
            let samples = sound.caller.process(samples);
            sound.recorder.caller(now, &samples);
        }
        self.take_chunks(now);
    }

    /// A frame of agent audio that was sent now and is heard after everything sent before it.
    pub fn agent(&mut self, now: Time, frame: &[i16]) {
        if let Some(sound) = self.sound.as_mut() {
            let heard_at = sound.agent_until.max(now);
            sound.agent_until = heard_at + Duration::from_millis(u64::from(FRAME_MS));
            let samples = sound.agent.process(frame);
            sound.recorder.agent(heard_at, &samples);
        }
        self.take_chunks(now);
    }

    /// The far end dropped what it had not played.
    pub fn agent_cut(&mut self, now: Time) {
        if let Some(sound) = self.sound.as_mut() {
            sound.recorder.agent_cut(now);
            sound.agent_until = now;
        }
    }

    /// A finished turn.
    pub fn turn(&mut self, turn: TurnRecord) {
        self.turns = turn.seq + 1;
        let text = match &self.redactor {
            Some(redactor) => redactor.redact(&turn.text).into_owned(),
            None => turn.text,
        };
        let body = Body::Turn(Turn {
            seq: turn.seq,
            role: turn.role.as_str().to_owned(),
            text,
            created_at_unix_ms: unix_ms(self.started + turn.started_at),
            interrupted: turn.interrupted,
            started_ms: Some(millis(turn.started_at)),
            ended_ms: Some(millis(turn.ended_at)),
            timing: turn.timing.map(|timing| TurnTiming {
                endpoint_ms: short_millis(timing.endpoint),
                transcript_ms: short_millis(timing.transcript),
                first_token_ms: short_millis(timing.first_token),
                first_audio_ms: short_millis(timing.first_audio),
            }),
        });
        self.append(body);
    }

    /// Closes the record.
    pub fn finish(mut self, now: Time, reason: &EndReason) {
        let mut total_frames = 0;
        let mut pcm_sha256 = Vec::new();
        if let Some(mut sound) = self.sound.take() {
            while let Some(chunk) = sound.recorder.finish(now) {
                self.append_audio(chunk);
            }
            total_frames = sound.recorder.total_frames();
            pcm_sha256 = sound.recorder.sha256().to_vec();
        }
        let ended = SessionEnded {
            ended_at_unix_ms: unix_ms(self.started + now),
            reason: reason.as_str().to_owned(),
            total_frames,
            pcm_sha256,
            turns: self.turns,
        };
        if self.archive.is_some() {
            let sha256 = hex::encode(&ended.pcm_sha256);
            tracing::info!(session_id = %self.session_id, turns = ended.turns, frames = total_frames, sha256, "call recorded");
        }
        self.append(Body::Ended(ended));
    }

    fn take_chunks(&mut self, now: Time) {
        while let Some(chunk) = self.sound.as_mut().and_then(|sound| sound.recorder.take_chunk(now)) {
            self.append_audio(chunk);
        }
    }

    fn append_audio(&mut self, chunk: RecordedChunk) {
        self.append(Body::Audio(AudioChunk {
            first_frame: chunk.first_frame,
            pcm: Bytes::from(chunk.pcm),
        }));
    }

    fn append(&mut self, body: Body) {
        let Some(archive) = &self.archive else { return };
        if let Err(error) = archive.append(body) {
            // Once a call: the outbox itself reports and counts every refusal.
            if !std::mem::replace(&mut self.failed, true) {
                tracing::error!(session_id = %self.session_id, %error, "this call is no longer fully recorded");
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn short_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use media_core::conversation::Role;
    use media_core::redact::Kind;

    use super::*;
    use crate::archive::ArchiveError;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Body>>);

    impl ArchiveSession for Kept {
        fn append(&self, body: Body) -> Result<u64, ArchiveError> {
            let mut kept = self.0.lock().unwrap();
            kept.push(body);
            Ok(kept.len() as u64)
        }
    }

    #[test]
    fn what_is_redacted_never_reaches_the_archive() {
        let kept = Arc::new(Kept::default());
        let call = RecordedCall {
            traceparent: String::new(),
            session_id: "s".into(),
            node_id: "n",
            transport: TransportTraits {
                name: "telephony",
                input_rate_hz: 8_000,
                output_rate_hz: 8_000,
                recording_rate_hz: 8_000,
                echoes_marks: true,
                playout_lead: Duration::from_millis(200),
            },
            provider: "",
            channels: None,
            redactor: Redactor::new(vec![Kind::Card], Vec::new()).map(Arc::new),
        };
        let mut record = CallRecord::start(call, Some(kept.clone())).unwrap();
        for (seq, role, text) in [
            (0, Role::User, "It is 4111 1111 1111 1111."),
            (
                1,
                Role::Assistant,
                "So four one one one one one one one one one one one one one one one?",
            ),
        ] {
            record.turn(TurnRecord {
                seq,
                role,
                text: text.to_owned(),
                started_at: Duration::ZERO,
                ended_at: Duration::ZERO,
                interrupted: false,
                timing: None,
            });
        }
        let kept = kept.0.lock().unwrap();
        let texts = kept.iter().filter_map(|body| match body {
            Body::Turn(turn) => Some(turn.text.as_str()),
            Body::Started(_) | Body::Audio(_) | Body::Ended(_) => None,
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["It is [card].", "So [card]?"]);
    }
}
