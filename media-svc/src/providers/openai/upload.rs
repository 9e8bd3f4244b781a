//! An utterance as a file: mono 16 kHz WAV, no longer than an upload may be.

use std::time::Duration;

use bytes::Bytes;
use media_core::audio::{RECOGNITION_RATE_HZ, pcm};

use super::error::OpenAiError;

/// The API takes files of 25 MB; a little is left for the rest of the form.
const LARGEST_FILE: usize = 25_000_000 - 10_000;
const HEADER: usize = 44;
/// The API refuses audio shorter than 0.1 s, which no word is.
const SHORTEST: usize = RECOGNITION_RATE_HZ as usize / 10 * 2;
/// What an utterance holds beside the turn: pre-roll, and the silence that ends it.
const AROUND_A_TURN: Duration = Duration::from_secs(30);

/// The longest turn that fits into one upload.
pub(super) fn longest_utterance() -> Duration {
    let seconds = (LARGEST_FILE - HEADER) / 2 / RECOGNITION_RATE_HZ as usize;
    Duration::from_secs(seconds as u64).saturating_sub(AROUND_A_TURN)
}

/// Audio of one utterance so far.
#[derive(Default)]
pub(super) struct Upload {
    data: Vec<u8>,
    too_long: bool,
}

impl Upload {
    /// More audio; what does not fit is not kept.
    pub(super) fn push(&mut self, samples: &[i16]) {
        self.too_long |= HEADER + self.data.len() + samples.len() * 2 > LARGEST_FILE;
        if !self.too_long {
            self.data.extend(pcm::to_s16le(samples));
        }
    }

    /// Nothing that could be a word.
    pub(super) fn is_too_short(&self) -> bool {
        self.data.len() < SHORTEST
    }

    /// RIFF, PCM, 16 bit.
    ///
    /// # Errors
    /// [`OpenAiError::TooLong`].
    pub(super) fn into_wav(self) -> Result<Bytes, OpenAiError> {
        let length = u32::try_from(self.data.len()).ok().filter(|_| !self.too_long);
        let length = length.ok_or(OpenAiError::TooLong)?;
        let mut file = Vec::with_capacity(HEADER + self.data.len());
        file.extend(b"RIFF");
        file.extend((36 + length).to_le_bytes());
        file.extend(b"WAVEfmt ");
        file.extend(16_u32.to_le_bytes());
        file.extend(1_u16.to_le_bytes());
        file.extend(1_u16.to_le_bytes());
        file.extend(RECOGNITION_RATE_HZ.to_le_bytes());
        file.extend((RECOGNITION_RATE_HZ * 2).to_le_bytes());
        file.extend(2_u16.to_le_bytes());
        file.extend(16_u16.to_le_bytes());
        file.extend(b"data");
        file.extend(length.to_le_bytes());
        file.extend(self.data);
        Ok(file.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_utterance_longer_than_an_upload_is_refused_and_not_kept_in_memory() {
        let mut upload = Upload::default();
        let minute = vec![0; 60 * RECOGNITION_RATE_HZ as usize];
        for _ in 0..13 {
            upload.push(&minute);
        }
        assert!(longest_utterance() >= Duration::from_secs(12 * 60));
        assert!(upload.data.len() <= LARGEST_FILE);
        let before = upload.data.len();
        upload.push(&minute);
        assert_eq!(upload.data.len(), before);
        assert!(matches!(upload.into_wav(), Err(OpenAiError::TooLong)));
    }
}
