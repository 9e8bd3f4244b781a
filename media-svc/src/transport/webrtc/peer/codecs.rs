//! What is spoken, in the library's terms.

use media_core::rtp::AudioCodec;
use webrtc::api::media_engine::{
    MIME_TYPE_OPUS, MIME_TYPE_PCMA, MIME_TYPE_PCMU, MIME_TYPE_TELEPHONE_EVENT, MIME_TYPE_VP8, MediaEngine,
};
use webrtc::rtp_transceiver::rtp_codec::{RTCRtpCodecCapability, RTCRtpCodecParameters, RTPCodecType};

/// One codec and telephone keys: a client cannot send what the receiver does not expect.
pub fn media_engine(codec: AudioCodec) -> Result<MediaEngine, webrtc::Error> {
    let mut media = MediaEngine::default();
    let number = match codec {
        AudioCodec::Opus => 111,
        AudioCodec::Pcmu => 0,
        AudioCodec::Pcma => 8,
    };
    let audio = RTCRtpCodecParameters {
        capability: capability(codec),
        payload_type: number,
        ..RTCRtpCodecParameters::default()
    };
    media.register_codec(audio, RTPCodecType::Audio)?;
    let keys = codec_parameters(MIME_TYPE_TELEPHONE_EVENT, codec.clock_hz(), 0, 110);
    media.register_codec(keys, RTPCodecType::Audio)?;
    // Video is answered, and inactive: for that it needs a codec that every client has.
    media.register_codec(codec_parameters(MIME_TYPE_VP8, 90_000, 0, 96), RTPCodecType::Video)?;
    Ok(media)
}

/// A codec as the library names it.
pub fn capability(codec: AudioCodec) -> RTCRtpCodecCapability {
    let (mime_type, channels) = match codec {
        // Always two in SDP, whatever is sent (RFC 7587, section 7).
        AudioCodec::Opus => (MIME_TYPE_OPUS, 2),
        AudioCodec::Pcmu => (MIME_TYPE_PCMU, 0),
        AudioCodec::Pcma => (MIME_TYPE_PCMA, 0),
    };
    codec_parameters(mime_type, codec.clock_hz(), channels, 0).capability
}

/// Without parameters: what the client asks for is answered as it was asked.
fn codec_parameters(mime_type: &str, clock_rate: u32, channels: u16, payload_type: u8) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        capability: RTCRtpCodecCapability {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            ..RTCRtpCodecCapability::default()
        },
        payload_type,
        ..RTCRtpCodecParameters::default()
    }
}
