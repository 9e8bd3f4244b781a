//! How one event lies in a segment file, and how a damaged one is recognised.
//!
//! A segment is [`MAGIC`] and then records. A record is a little-endian `u32` payload length, a little-endian `u32`
//! CRC-32 (IEEE 802.3, by crc32fast) over those four length bytes and the payload, and the payload: one
//! `voxray.archive.v1.Event` as protobuf. The checksum covers the length, so that a flipped length bit cannot
//! make a reader jump to a place that happens to look like a record.

use prost::Message;
use voxray_proto::archive::Event;

/// First bytes of every segment file; the digit is the format version.
pub(super) const MAGIC: &[u8; 8] = b"VOXOUT1\n";
/// Bytes before a payload: length and checksum.
pub(super) const PREFIX: usize = 8;
/// Largest payload, 1 MiB: a quarter of the 4 MiB a gRPC peer accepts by default, and 16 s of 16 kHz stereo.
pub(super) const MAX_PAYLOAD: usize = 1 << 20;

/// Puts one record into `out` (cleared first). `None`: the event is larger than [`MAX_PAYLOAD`] or empty.
pub(super) fn encode(event: &Event, out: &mut Vec<u8>) -> Option<()> {
    let length = event.encoded_len();
    if length == 0 || length > MAX_PAYLOAD {
        return None;
    }
    let length_bytes = u32::try_from(length).ok()?.to_le_bytes();
    out.clear();
    out.extend_from_slice(&length_bytes);
    out.extend_from_slice(&[0; 4]);
    event.encode(out).ok()?;
    let checksum = checksum(length_bytes, out.get(PREFIX..)?);
    out.get_mut(4..PREFIX)?.copy_from_slice(&checksum.to_le_bytes());
    Some(())
}

/// What stands at the beginning of a piece of a segment.
#[derive(Debug)]
pub(super) enum Parsed {
    /// A whole event, and the bytes it took.
    Event(Box<Event>, usize),
    /// The beginning of a record; this many bytes are needed to say more.
    Incomplete(usize),
    /// Not a record.
    Damaged,
}

/// Reads the record at the beginning of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some((length_bytes, rest)) = bytes.split_first_chunk::<4>() else {
        return Parsed::Incomplete(PREFIX);
    };
    let length = u32::from_le_bytes(*length_bytes) as usize;
    if length == 0 || length > MAX_PAYLOAD {
        return Parsed::Damaged;
    }
    let Some((expected, rest)) = rest.split_first_chunk::<4>() else {
        return Parsed::Incomplete(PREFIX + length);
    };
    let Some(payload) = rest.get(..length) else {
        return Parsed::Incomplete(PREFIX + length);
    };
    if checksum(*length_bytes, payload) != u32::from_le_bytes(*expected) {
        return Parsed::Damaged;
    }
    match Event::decode(payload) {
        Ok(event) => Parsed::Event(Box::new(event), PREFIX + length),
        // The bytes are what was written, but not by this program or a compatible one.
        Err(_) => Parsed::Damaged,
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}
