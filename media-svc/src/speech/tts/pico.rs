//! SVOX Pico: a small synthesiser with fixed memory, in C. One voice lives on one thread.

use std::io::Write;

use ttspico::{Engine, EngineStatus, System};

use super::Voice;

/// Memory of one voice. Resources take up to 1.5 MB, the engine about 0.9 MB; the rest is never touched and costs
/// nothing. Pico reads memory that it has not written, and speaks a sixth faster or slower for it: a block of more than
/// 32 MiB always comes from the system as fresh zeros (`mallopt(3)`, `M_MMAP_THRESHOLD`), a smaller one may be used.
const MEMORY_BYTES: usize = 33 * 1024 * 1024;
/// Pico copies paths into 512 bytes without looking at their length.
const MAX_PATH_BYTES: usize = 500;
/// Slightly slower than Pico's own pace: on the telephone a third fewer words are misheard (by our own recogniser, at
/// 100, 95, 90, 85 and 80 %).
const SPEED_PERCENT: u32 = 95;
/// Samples taken at once: 64 ms, a compromise between first audio and messages.
pub const CHUNK_SAMPLES: usize = 1_024;
/// Most audio one segment may give: ten times what a person would need. Beyond it Pico is stuck.
const MAX_SAMPLES: usize = 16_000 * 200;

/// A loaded voice.
pub struct Pico {
    engine: Engine,
}

impl Pico {
    /// Loads a voice; takes 2–4 ms. Pico reads files only, and only when they end in `.bin`: the embedded bytes pass
    /// through a temporary one.
    ///
    /// # Errors
    /// In words, when there is no temporary folder or Pico refuses.
    pub fn load(voice: Voice) -> Result<Self, String> {
        let words = |error: ttspico::PicoError| error.to_string();
        let system = System::new(MEMORY_BYTES).map_err(words)?;
        let definition = System::create_voice(system.clone(), "voice").map_err(words)?;
        for bytes in [voice.analysis(), voice.signal()] {
            let mut file = tempfile::Builder::new()
                .suffix(".bin")
                .tempfile()
                .map_err(no_temporary_file)?;
            file.write_all(bytes)
                .and_then(|()| file.flush())
                .map_err(no_temporary_file)?;
            let path = file.path().to_str().filter(|path| path.len() < MAX_PATH_BYTES);
            let path = path.ok_or("the path of the temporary folder is too long or not UTF-8; set TMPDIR")?;
            let resource = System::load_resource(system.clone(), path).map_err(words)?;
            definition.borrow_mut().add_resource(resource).map_err(words)?;
        }
        #[expect(
            unsafe_code,
            reason = "unsafe only because the voice needs a text-analysis and a signal resource: both were added above"
        )]
        // SAFETY: both resources of the voice were added above, or this line is not reached.
        let engine = unsafe { ttspico::Voice::create_engine(definition) }.map_err(words)?;
        Ok(Self { engine })
    }

    /// Speaks a segment of speakable text. `take` gets mono 16 kHz chunks and says whether to go on. On an error or
    /// an early end the voice holds unsaid text and must be loaded again.
    ///
    /// # Errors
    /// In words.
    pub fn speak(&mut self, segment: &str, mut take: impl FnMut(Vec<i16>) -> bool) -> Result<Ended, String> {
        // Speakable text has no `<`: it cannot end the instruction. Pico speaks what it has when it sees the zero.
        let text = format!("<speed level=\"{SPEED_PERCENT}\">{segment}</speed> \0");
        let mut unsaid = text.as_bytes();
        let mut buffer = [0i16; CHUNK_SAMPLES];
        let mut chunk = Vec::new();
        let mut total = 0;
        loop {
            let put = if unsaid.is_empty() {
                0
            } else {
                self.engine.put_text(unsaid).map_err(|error| error.to_string())?
            };
            unsaid = unsaid.get(put..).unwrap_or_default();
            loop {
                let (made, status) = self
                    .engine
                    .get_data(&mut buffer[..])
                    .map_err(|error| error.to_string())?;
                chunk.extend_from_slice(buffer.get(..made).unwrap_or_default());
                total += made;
                if chunk.len() >= CHUNK_SAMPLES && !take(std::mem::take(&mut chunk)) {
                    return Ok(Ended::Early);
                }
                if total > MAX_SAMPLES {
                    return Err("the synthesiser does not come to an end".to_owned());
                }
                if status == EngineStatus::Idle {
                    break;
                }
            }
            if unsaid.is_empty() {
                break;
            }
            if put == 0 {
                return Err("the synthesiser takes no more text".to_owned());
            }
        }
        if !chunk.is_empty() && !take(chunk) {
            return Ok(Ended::Early);
        }
        Ok(Ended::Complete)
    }
}

/// How speaking a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of it was said.
    Complete,
    /// Nobody listened any more.
    Early,
}

fn no_temporary_file(error: std::io::Error) -> String {
    format!("the voice cannot be written to a temporary file: {error}; set TMPDIR to a folder that can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_speaks_at_the_same_pace_whenever_it_is_loaded() {
        let lengths = [0_u8, 90, 165].map(|dirt| {
            // Twice: the first one teaches the allocator to keep blocks of this size.
            for _ in 0..2 {
                drop(std::hint::black_box(vec![dirt | 1; 4 * 1024 * 1024]));
            }
            let mut samples = 0;
            let mut pico = Pico::load(Voice::EnUs).unwrap();
            pico.speak("Good morning, how can I help?", |chunk| {
                samples += chunk.len();
                true
            })
            .unwrap();
            samples
        });
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }
}
