//! What a call leaves behind: its turns and its sound, as archive events.

mod hold;
mod sound;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use media_core::Time;
use media_core::audio::resample::UnsupportedRate;
use media_core::conversation::{EndReason, Notice, Role, SttEvent, TurnRecord, UtteranceId};
use media_core::mute::Mute;
use media_core::recorder::Channels;
use media_core::redact::{Redactor, Unfinished};
use media_core::text::join;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{RecordingFormat, SessionEnded, SessionStarted, Turn, TurnTiming};

use self::sound::Sound;
use super::TransportTraits;
use crate::archive::ArchiveSession;

/// Writes one call into the archive. A write that fails is logged and counted; the call goes on.
pub struct CallRecord {
    session_id: Arc<str>,
    archive: Option<Arc<dyn ArchiveSession>>,
    sound: Option<Sound>,
    redactor: Option<Arc<Redactor>>,
    unfinished: Unfinished,
    /// The agent's sentences of this turn, as far as they have begun.
    saying: String,
    started: SystemTime,
    turns: u32,
    failed: bool,
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
    /// Present when what is taken out of turns is to be silent in the recording too: how far back an utterance may begin.
    pub mute: Option<Duration>,
}

impl CallRecord {
    /// Opens the record; without an archive nothing is kept.
    pub fn start(call: RecordedCall<'_>, archive: Option<Arc<dyn ArchiveSession>>) -> Result<Self, UnsupportedRate> {
        let rate = call.transport.recording_rate_hz;
        let channels = call.channels.filter(|_| archive.is_some());
        let mut sound = match channels {
            Some(channels) => Some(Sound::new(call.transport, channels)?),
            None => None,
        };
        if let (Some(sound), Some(archive), Some(redactor), Some(longest_pre_roll)) =
            (&mut sound, &archive, &call.redactor, call.mute)
        {
            let mute = Mute::new(rate, Arc::clone(redactor), longest_pre_roll);
            sound.mute(mute, Arc::clone(archive), rate);
        }
        let started = SystemTime::now();
        let mut record = Self {
            session_id: call.session_id,
            archive,
            sound,
            redactor: call.redactor,
            unfinished: Unfinished::default(),
            saying: String::new(),
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
            sound.caller(now, samples);
        }
        self.take_chunks(now);
    }

    /// A frame of agent audio that was sent now, to a far end that plays it `delay` after everything sent before it.
    pub fn agent(&mut self, now: Time, delay: Duration, frame: &[i16]) {
        if let Some(sound) = self.sound.as_mut() {
            sound.agent(now, delay, frame);
        }
        self.take_chunks(now);
    }

    /// The far end dropped what it had not played: the last `unheard` frames were not heard.
    pub fn agent_cut(&mut self, now: Time, unheard: u64) {
        if let Some(sound) = self.sound.as_mut() {
            sound.agent_cut(now, unheard);
        }
    }

    /// Recognition begins to listen to what the caller says after `position` of audio.
    pub fn utterance_begins(&mut self, utterance: UtteranceId, position: Duration) {
        if let Some(mute) = self.muting() {
            mute.utterance_begins(utterance, position);
        }
    }

    /// The utterance is complete.
    pub fn utterance_ends(&mut self, utterance: UtteranceId) {
        if let Some(mute) = self.muting() {
            mute.utterance_ends(utterance);
        }
    }

    /// Nobody waits for the text of an utterance any more.
    pub fn utterance_lost(&mut self, utterance: UtteranceId) {
        if let Some(mute) = self.muting() {
            mute.utterance_lost(utterance);
        }
    }

    /// What recognition says, before the conversation hears of it.
    pub fn recognised(&mut self, utterance: UtteranceId, event: &SttEvent) {
        if let Some(mute) = self.muting() {
            mute.recognised(utterance, event);
        }
    }

    /// A key was pressed, before the conversation hears of it.
    pub fn key(&mut self, now: Time, key: char) {
        if let Some(mute) = self.muting() {
            mute.key(now, key);
        }
    }

    /// What the conversation lets know.
    pub fn noticed(&mut self, notice: &Notice) {
        match notice {
            Notice::Speaking { text, .. } if self.redactor.is_some() => self.saying = join(&self.saying, text.trim()),
            Notice::AgentStoppedSpeaking => self.saying.clear(),
            _ => {}
        }
        let Some(sound) = self.sound.as_mut() else { return };
        let spoken = sound.spoken();
        if let Some(mute) = sound.muting() {
            mute.noticed(notice, spoken);
        }
    }

    /// A finished turn.
    pub fn turn(&mut self, turn: TurnRecord) {
        self.turns = turn.seq + 1;
        let text = match self.redactor.clone() {
            Some(redactor) => {
                let found = match turn.role {
                    Role::User => redactor.find_in_turn(&mut self.unfinished, &turn.text),
                    Role::Assistant => redactor.find_in_beginning(&self.saying, &turn.text),
                };
                if let Some(mute) = self.muting() {
                    mute.turn(&turn, &found.ranges());
                }
                found.taken_out_of(&turn.text).into_owned()
            }
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
            while let Some(chunk) = sound.last(now) {
                self.append(Body::Audio(chunk));
            }
            (total_frames, pcm_sha256) = sound.totals();
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

    /// Whether audio is held back, so that [`Self::finish`] may take long: call it where blocking is allowed.
    pub fn holds_audio(&mut self) -> bool {
        self.muting().is_some()
    }

    fn muting(&mut self) -> Option<&mut Mute> {
        self.sound.as_mut().and_then(Sound::muting)
    }

    fn take_chunks(&mut self, now: Time) {
        while let Some(chunk) = self.sound.as_mut().and_then(|sound| sound.next(now)) {
            self.append(Body::Audio(chunk));
            if self.holds_audio() {
                break;
            }
        }
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
mod memory_tests;
#[cfg(test)]
mod tests;
