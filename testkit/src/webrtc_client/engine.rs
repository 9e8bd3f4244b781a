//! What the library is set up with.

use std::sync::Arc;
use std::time::Duration;

use media_core::rtp::AudioCodec;
use tokio::net::UdpSocket;
use webrtc::api::media_engine::{
    MIME_TYPE_OPUS, MIME_TYPE_PCMA, MIME_TYPE_PCMU, MIME_TYPE_TELEPHONE_EVENT, MIME_TYPE_VP8, MediaEngine,
};
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::udp_mux::{UDPMuxDefault, UDPMuxParams};
use webrtc::ice::udp_network::UDPNetwork;
use webrtc::rtp_transceiver::rtp_codec::{RTCRtpCodecCapability, RTCRtpCodecParameters, RTPCodecType};

use super::cable::{Cable, Plugged};
use super::{KEYS_TYPE, Kind};

/// Longer than any test: a client that hears nothing waits, so that tests decide what is too long.
const PATIENCE: Duration = Duration::from_secs(60);
const KEEPALIVE: Duration = Duration::from_millis(200);

/// The client's network.
///
/// # Errors
/// There is no socket at its address.
pub async fn settings(kind: Kind, cable: &Arc<Cable>) -> anyhow::Result<SettingEngine> {
    let mut settings = SettingEngine::default();
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    settings.set_include_loopback_candidate(true);
    settings.set_ip_filter(Box::new(move |ip| ip == kind.address));
    settings.set_ice_timeouts(Some(PATIENCE), Some(PATIENCE), Some(KEEPALIVE));
    if kind.cable {
        let plugged = Plugged {
            socket: UdpSocket::bind((kind.address, 0)).await?,
            cable: Arc::clone(cable),
        };
        settings.set_udp_network(UDPNetwork::Muxed(UDPMuxDefault::new(UDPMuxParams::new(plugged))));
    }
    Ok(settings)
}

/// What it offers to speak.
pub fn audio_codec(codec: AudioCodec) -> RTCRtpCodecParameters {
    let (mime, channels, number, format) = match codec {
        AudioCodec::Opus => (MIME_TYPE_OPUS, 2, 111, "minptime=10;useinbandfec=1"),
        AudioCodec::Pcmu => (MIME_TYPE_PCMU, 0, 0, ""),
        AudioCodec::Pcma => (MIME_TYPE_PCMA, 0, 8, ""),
    };
    parameters(mime, codec.clock_hz(), channels, number, format)
}

/// Everything it offers: this codec, keys, and video that nobody sends.
///
/// # Errors
/// The library does not know the codec.
pub fn media_engine(audio: &RTCRtpCodecParameters) -> anyhow::Result<MediaEngine> {
    let mut media = MediaEngine::default();
    media.register_codec(audio.clone(), RTPCodecType::Audio)?;
    let keys = parameters(
        MIME_TYPE_TELEPHONE_EVENT,
        audio.capability.clock_rate,
        0,
        KEYS_TYPE,
        "0-16",
    );
    media.register_codec(keys, RTPCodecType::Audio)?;
    media.register_codec(parameters(MIME_TYPE_VP8, 90_000, 0, 96, ""), RTPCodecType::Video)?;
    Ok(media)
}

fn parameters(mime: &str, clock_rate: u32, channels: u16, payload_type: u8, format: &str) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        capability: RTCRtpCodecCapability {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: format.to_owned(),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
        ..RTCRtpCodecParameters::default()
    }
}
