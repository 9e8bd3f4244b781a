//! A call's sound on its way into the archive.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media_core::Time;
use media_core::audio::FRAME_MS;
use media_core::audio::resample::{Resampler, UnsupportedRate};
use media_core::mute::Mute;
use media_core::recorder::{Channels, MIN_CHUNK, Playing, RecordedChunk, Recorder, Sides};
use voxray_proto::archive::AudioChunk;

use super::hold::{Hold, Taken};
use crate::archive::ArchiveSession;
use crate::call::TransportTraits;

/// Most frames given out at once from what was held: a second at 8 kHz, a quarter of a millisecond of work.
const MOST_FRAMES: u64 = 8 << 10;
/// Length of a frame of the agent.
const FRAME: Duration = Duration::from_millis(FRAME_MS as u64);

/// Both sides of a call, recorded.
pub(super) struct Sound {
    recorder: Recorder,
    caller: Resampler,
    agent: Resampler,
    playing: Playing,
    /// Samples of a frame of the agent, as recorded.
    frame_samples: u64,
    /// Present when something may have to be silenced.
    muted: Option<Muted>,
}

struct Muted {
    mute: Mute,
    hold: Hold,
    shortest: u64,
}

impl Sound {
    pub(super) fn new(transport: TransportTraits, channels: Channels) -> Result<Self, UnsupportedRate> {
        let rate = transport.recording_rate_hz;
        Ok(Self {
            recorder: Recorder::new(rate, channels),
            caller: Resampler::new(transport.input_rate_hz, rate)?,
            agent: Resampler::new(transport.output_rate_hz, rate)?,
            playing: Playing::default(),
            frame_samples: u64::from(rate * FRAME_MS / 1_000),
            muted: None,
        })
    }

    /// Gives nothing out before it is known whether it must be silent.
    pub(super) fn mute(&mut self, mute: Mute, session: Arc<dyn ArchiveSession>, rate_hz: u32) {
        self.muted = Some(Muted {
            mute,
            hold: Hold::new(session),
            shortest: u64::from(rate_hz) * u64::try_from(MIN_CHUNK.as_millis()).unwrap_or(0) / 1_000,
        });
    }

    /// Who decides what must be silent.
    pub(super) fn muting(&mut self) -> Option<&mut Mute> {
        self.muted.as_mut().map(|muted| &mut muted.mute)
    }

    /// Caller audio that arrived now.
    pub(super) fn caller(&mut self, now: Time, samples: &[i16]) {
        let samples = self.caller.process(samples);
        self.recorder.caller(now, &samples);
        if let Some(muted) = &mut self.muted {
            muted.mute.heard(now, self.recorder.caller_samples());
        }
    }

    /// A frame of agent audio that was sent now to a far end that is late by `delay`.
    pub(super) fn agent(&mut self, now: Time, delay: Duration, frame: &[i16]) {
        let heard_at = self.playing.sent(now, FRAME, delay);
        let samples = self.agent.process(frame);
        self.recorder.agent(heard_at, &samples);
    }

    /// Samples of the agent so far.
    pub(super) fn spoken(&self) -> u64 {
        self.recorder.agent_samples()
    }

    /// The far end dropped what it had not played: the last `unheard` frames were not heard.
    pub(super) fn agent_cut(&mut self, now: Time, unheard: u64) {
        self.recorder.agent_cut(unheard * self.frame_samples);
        self.playing.cleared(now);
    }

    /// What may be archived now; call again until `None`, or at the next frame: what was held long would hold the call up.
    pub(super) fn next(&mut self, now: Time) -> Option<AudioChunk> {
        let Some(muted) = &mut self.muted else {
            return self.recorder.take_chunk(now).map(chunk);
        };
        while let Some(sides) = self.recorder.take_sides(now) {
            muted.push(&sides);
        }
        let frames = muted.mute.settled(now).saturating_sub(muted.mute.given());
        if frames < muted.shortest.max(1) {
            return None;
        }
        let (first_frame, taken) = muted.take(frames)?;
        Some(mixed(&mut self.recorder, first_frame, taken))
    }

    /// Everything left, up to the end of the call; call again until `None`. What was not heard of the agent has been
    /// taken back by then: a far end that was quicker than before still has heard all that is left.
    pub(super) fn last(&mut self, now: Time) -> Option<AudioChunk> {
        let now = now.max(self.recorder.agent_end());
        let Some(muted) = &mut self.muted else {
            return self.recorder.finish(now).map(chunk);
        };
        while let Some(sides) = self.recorder.finish_sides(now) {
            muted.push(&sides);
        }
        muted.mute.close(self.recorder.agent_samples());
        let frames = muted.mute.settled(now).saturating_sub(muted.mute.given());
        let (first_frame, taken) = muted.take(frames)?;
        Some(mixed(&mut self.recorder, first_frame, taken))
    }

    /// Frames and hash of everything given out.
    pub(super) fn totals(&self) -> (u64, Vec<u8>) {
        (self.recorder.total_frames(), self.recorder.sha256().to_vec())
    }
}

impl Muted {
    fn push(&mut self, sides: &Sides) {
        self.mute.push(sides);
        self.hold.push(&sides.caller.samples, &sides.agent.samples);
    }

    /// At most so many of the frames that are settled, silenced.
    fn take(&mut self, frames: u64) -> Option<(u64, Taken)> {
        let first_frame = self.mute.given();
        let most = usize::try_from(frames.min(MOST_FRAMES)).ok()?;
        let mut taken = self.hold.take(most)?;
        match &mut taken {
            Taken::Audio { caller, agent } => self.mute.apply(first_frame, caller, agent),
            Taken::Lost(frames) => self.mute.skip(*frames as u64),
        }
        Some((first_frame, taken))
    }
}

fn mixed(recorder: &mut Recorder, first_frame: u64, taken: Taken) -> AudioChunk {
    match taken {
        Taken::Audio { caller, agent } => chunk(recorder.mix(first_frame, &caller, &agent)),
        // How the archive is told of audio that is lost.
        Taken::Lost(_) => AudioChunk::default(),
    }
}

fn chunk(chunk: RecordedChunk) -> AudioChunk {
    AudioChunk {
        first_frame: chunk.first_frame,
        pcm: Bytes::from(chunk.pcm),
    }
}
