//! Audio of text dialects: base64 of little-endian samples.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::audio::pcm::{self, OddLength};
use crate::audio::resample::{Resampler, UnsupportedRate};

/// Why audio cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AudioProblem {
    /// Not base64.
    #[error("the audio is not base64: {0}")]
    NotBase64(#[source] base64::DecodeError),
    /// Half a sample is left over.
    #[error("the audio is not s16le: {0}")]
    Samples(#[source] OddLength),
    /// Neither mono nor stereo.
    #[error("audio with {0} channels: send one or two")]
    Channels(u32),
    /// A rate nobody uses.
    #[error(transparent)]
    Rate(UnsupportedRate),
}

/// Audio as it stands in a JSON message.
#[derive(Debug, Clone, Copy)]
pub struct EncodedAudio<'a> {
    /// s16le samples, side by side when there are two channels.
    pub base64: &'a str,
    /// One or two.
    pub channels: u32,
}

impl EncodedAudio<'_> {
    /// Mono samples; stereo is mixed down.
    ///
    /// # Errors
    /// [`AudioProblem`], but for the rate.
    pub fn samples(&self) -> Result<Vec<i16>, AudioProblem> {
        let bytes = BASE64.decode(self.base64).map_err(AudioProblem::NotBase64)?;
        let samples = pcm::from_s16le(&bytes).map_err(AudioProblem::Samples)?;
        match self.channels {
            1 => Ok(samples),
            2 if samples.len() % 2 == 0 => Ok(pcm::stereo_to_mono(&samples)),
            2 => Err(AudioProblem::Samples(OddLength { bytes: bytes.len() })),
            channels => Err(AudioProblem::Channels(channels)),
        }
    }
}

/// Base64 of these samples.
pub fn encode(samples: &[i16]) -> String {
    BASE64.encode(pcm::to_s16le(samples))
}

/// Brings a client's audio to the rate of its call. A change of rate begins a new stream.
#[derive(Debug)]
pub struct AudioIn {
    rate_hz: u32,
    resampler: Option<(u32, Resampler)>,
}

impl AudioIn {
    /// For a call that hears at this rate, in hertz.
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            resampler: None,
        }
    }

    /// The samples at the call's rate.
    ///
    /// # Errors
    /// [`AudioProblem::Rate`]
    pub fn convert(&mut self, samples: Vec<i16>, rate_hz: u32) -> Result<Vec<i16>, AudioProblem> {
        if rate_hz == self.rate_hz {
            return Ok(samples);
        }
        if let Some((_, resampler)) = self.resampler.as_mut().filter(|(known, _)| *known == rate_hz) {
            return Ok(resampler.process(&samples));
        }
        let mut resampler = Resampler::new(rate_hz, self.rate_hz).map_err(AudioProblem::Rate)?;
        let converted = resampler.process(&samples);
        self.resampler = Some((rate_hz, resampler));
        Ok(converted)
    }
}
