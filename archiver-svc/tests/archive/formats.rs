//! FLAC and Ogg Opus, read back by decoders.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "panics are how a test fails, in its helpers too"
)]

use std::io::Cursor;

use service_kit::config::AudioFormat;

use crate::common::{Call, Node, Place};

/// Archives one call in a format and returns the file.
async fn archived(format: AudioFormat, call: &Call) -> Vec<u8> {
    let mut place = Place::new();
    place.config.recording.format = format;
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable(&call.id, call.last()).await;
    let file = std::fs::read(place.recording(&call.id).with_extension(format.extension())).unwrap();
    let known = archiver.transcripts.as_ref().unwrap().session(&call.id).await.unwrap();
    assert_eq!(known.unwrap().recording_bytes, Some(file.len() as u64));
    file
}

/// A stereo call of `millis` with a tone on the left and another one on the right.
fn tones(millis: usize) -> Call {
    let tone = |at: usize, hertz: f64| ((at as f64 / 8000.0 * hertz * std::f64::consts::TAU).sin() * 8000.0) as i16;
    let frames = (0..millis * 8).map(|at| [tone(at, 440.0), tone(at, 1000.0)]);
    let pcm: Vec<u8> = frames.flatten().flat_map(i16::to_le_bytes).collect();
    Call::of_pcm("call-1", &pcm)
}

fn samples(call: &Call) -> Vec<i16> {
    let pairs = call.pcm.chunks_exact(2);
    pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[tokio::test]
async fn a_flac_recording_is_the_call_sample_for_sample() {
    for call in [
        Call::recorded("noise", 23, 1111),
        tones(3_333),
        Call::recorded("silent", 0, 0),
    ] {
        let file = archived(AudioFormat::Flac, &call).await;
        let mut reader = claxon::FlacReader::new(Cursor::new(&file)).unwrap();
        let info = reader.streaminfo();
        assert_eq!((info.sample_rate, info.channels, info.bits_per_sample), (8000, 2, 16));
        assert_eq!(info.samples.unwrap_or(0), call.pcm.len() as u64 / 4);
        let decoded: Vec<i16> = reader.samples().map(|sample| sample.unwrap() as i16).collect();
        assert!(decoded == samples(&call), "{}", call.id);
    }
    let tones = tones(3_333);
    assert!(archived(AudioFormat::Flac, &tones).await.len() * 2 < tones.pcm.len());
}

/// Everything an Ogg Opus file says and holds.
struct OggOpus {
    channels: u8,
    pre_skip: usize,
    last_position: u64,
    /// At 48 kHz, interleaved, from the first sample that is to be played.
    samples: Vec<i16>,
    longest_page: u64,
}

fn read_ogg(file: &[u8]) -> OggOpus {
    let mut reader = ogg::PacketReader::new(Cursor::new(file));
    let head = reader.read_packet().unwrap().unwrap();
    assert_eq!(&head.data[..9], b"OpusHead\x01");
    let (channels, pre_skip) = (head.data[9], u16::from_le_bytes([head.data[10], head.data[11]]));
    let tags = reader.read_packet().unwrap().unwrap();
    assert_eq!(&tags.data[..8], b"OpusTags");
    let mut decoder = ropus::Decoder::new(48_000, ropus::Channels::Stereo).unwrap();
    let (mut samples, mut last_position, mut longest_page, mut is_last) = (Vec::new(), 0, 0, false);
    while let Some(packet) = reader.read_packet().unwrap() {
        let mut pcm = vec![0; 5760 * 2];
        let frames = decoder
            .decode(&packet.data, &mut pcm, ropus::DecodeMode::Normal)
            .unwrap();
        samples.extend_from_slice(&pcm[..frames * 2]);
        if packet.last_in_page() {
            let position = packet.absgp_page();
            longest_page = longest_page.max(position - last_position);
            last_position = position;
        }
        is_last = packet.last_in_stream();
    }
    assert!(is_last, "no end of stream");
    samples.drain(..usize::from(pre_skip) * 2);
    samples.truncate((last_position as usize - usize::from(pre_skip)) * 2);
    OggOpus {
        channels,
        pre_skip: usize::from(pre_skip),
        last_position,
        samples,
        longest_page,
    }
}

#[tokio::test]
async fn an_ogg_recording_is_as_long_as_the_call_and_sounds_like_it() {
    let call = tones(3_333);
    let file = read_ogg(&archived(AudioFormat::Ogg, &call).await);

    assert_eq!(file.channels, 2);
    assert_eq!(file.last_position, file.pre_skip as u64 + 3_333 * 48);
    assert!(file.longest_page <= 48_000, "a page of {} samples", file.longest_page);
    let original = samples(&call);
    for side in 0..2 {
        // Compared where the decoded sample stands for an original one; all but the fade-in and the end.
        let pairs = (800..25_000).map(|at| {
            let decoded = f64::from(file.samples[at * 6 * 2 + side]);
            (f64::from(original[at * 2 + side]), decoded)
        });
        let (mut signal, mut noise) = (0.0, 0.0);
        for (original, decoded) in pairs {
            signal += original * original;
            noise += (original - decoded) * (original - decoded);
        }
        let decibels = 10.0 * (signal / noise).log10();
        assert!(decibels > 10.0, "side {side}: {decibels:.1} dB");
    }
}

#[tokio::test]
async fn a_call_without_any_audio_is_an_ogg_file_without_any() {
    let file = read_ogg(&archived(AudioFormat::Ogg, &Call::recorded("silent", 0, 0)).await);
    assert!(file.samples.is_empty());
}

#[tokio::test]
async fn an_encoded_recording_sent_twice_is_written_once() {
    let mut place = Place::new();
    place.config.recording.format = AudioFormat::Ogg;
    let call = tones(500);
    let file = place.recording(&call.id).with_extension("ogg");
    let mut written = Vec::new();
    for _ in 0..2 {
        let archiver = place.start().await;
        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.events).await;
        node.until_durable(&call.id, call.last()).await;
        written.push(std::fs::metadata(&file).unwrap().modified().unwrap());
        archiver.kill().await;
    }
    assert_eq!(written[0], written[1]);
}
