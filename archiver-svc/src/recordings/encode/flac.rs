//! FLAC (RFC 9639), a block at a time: memory does not grow with the recording.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr, Stream};
use flacenc::encode_fixed_size_frame;
use flacenc::error::Verify as _;
use flacenc::source::{Context, Fill as _, FrameBuf};

use super::{EncodeError, Samples};

/// Frames of one block: the reference encoder's default.
const BLOCK: usize = 4096;
const BITS_PER_SAMPLE: usize = 16;

/// Encodes all samples. The header knows lengths and the MD5 of the samples only at the end and is written again then.
pub fn encode(mut samples: Samples, file: File) -> Result<(), EncodeError> {
    let config = flacenc::config::Encoder::default()
        .into_verified()
        .map_err(|(_, error)| EncodeError::Flac(error.to_string()))?;
    let channels = usize::from(samples.format.channels);
    let rate = usize::try_from(samples.format.sample_rate_hz).unwrap_or(usize::MAX);
    let mut stream = Stream::new(rate, channels, BITS_PER_SAMPLE).map_err(refused)?;
    let mut to = BufWriter::new(file);
    to.write_all(&bytes(&stream)?)?;
    let mut block = FrameBuf::with_size(channels, BLOCK).map_err(refused)?;
    let mut context = Context::new(BITS_PER_SAMPLE, channels);
    let mut number = 0;
    loop {
        let read: Vec<i32> = samples.read(BLOCK)?.into_iter().map(i32::from).collect();
        if read.is_empty() {
            break;
        }
        context.fill_interleaved(&read).map_err(refused)?;
        block.fill_interleaved(&read).map_err(refused)?;
        let frame = encode_fixed_size_frame(&config, &block, number, stream.stream_info()).map_err(refused)?;
        stream.stream_info_mut().update_frame_info(&frame);
        to.write_all(&bytes(&frame)?)?;
        number += 1;
    }
    let info = stream.stream_info_mut();
    // The last block may be shorter: it does not count (RFC 9639, 8.2).
    info.set_block_sizes(BLOCK, BLOCK).map_err(refused)?;
    info.set_total_samples(context.total_samples());
    info.set_md5_digest(&context.md5_digest());
    to.seek(SeekFrom::Start(0))?;
    to.write_all(&bytes(&stream)?)?;
    Ok(to.flush()?)
}

fn bytes(part: &impl BitRepr) -> Result<Vec<u8>, EncodeError> {
    let mut sink = ByteSink::new();
    part.write(&mut sink).map_err(refused)?;
    Ok(sink.into_inner())
}

fn refused(error: impl std::fmt::Display) -> EncodeError {
    EncodeError::Flac(error.to_string())
}
