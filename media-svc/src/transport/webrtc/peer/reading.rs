//! What is read of a peer, each in a task of its own.

use std::sync::Arc;

use bytes::Bytes;
use media_core::rtp::Packet;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use webrtc::data_channel::RTCDataChannel;
use webrtc::data_channel::data_channel_message::DataChannelMessage;
use webrtc::rtp_transceiver::rtp_receiver::RTCRtpReceiver;
use webrtc::rtp_transceiver::rtp_sender::RTCRtpSender;
use webrtc::track::track_remote::TrackRemote;

use super::{Chat, PeerEvent};

/// Largest packet of a client.
const PACKET_BYTES: usize = 1_500;

/// Listens on a data channel.
pub fn listen(channel: Arc<RTCDataChannel>, events: &mpsc::Sender<PeerEvent>) {
    let texts = events.clone();
    channel.on_message(Box::new(move |message: DataChannelMessage| {
        let texts = texts.clone();
        Box::pin(async move {
            // Binary messages mean nothing here.
            if let Some(text) = message
                .is_string
                .then(|| String::from_utf8_lossy(&message.data).into_owned())
            {
                let _ = texts.send(PeerEvent::Message(text)).await;
            }
        })
    }));
    let (opened, chat) = (events.clone(), Chat(Arc::clone(&channel)));
    channel.on_open(Box::new(move || {
        Box::pin(async move {
            let _ = opened.send(PeerEvent::ChatOpened(chat)).await;
        })
    }));
    let closed = events.clone();
    channel.on_close(Box::new(move || {
        let closed = closed.clone();
        Box::pin(async move {
            let _ = closed.send(PeerEvent::ChatClosed).await;
        })
    }));
}

/// Reads a track until it ends.
pub async fn read_track(track: Arc<TrackRemote>, events: mpsc::Sender<PeerEvent>, stop: CancellationToken) {
    let mut buffer = vec![0; PACKET_BYTES];
    loop {
        let read = tokio::select! {
            () = stop.cancelled() => return,
            read = track.read(&mut buffer) => read,
        };
        let packet = match read {
            Ok((packet, _)) => packet,
            // A payload type that was not negotiated: what follows may be.
            Err(webrtc::Error::ErrCodecNotFound) => continue,
            Err(_) => {
                let _ = events.send(PeerEvent::TrackEnded).await;
                return;
            }
        };
        let packet = Packet {
            payload_type: packet.header.payload_type,
            sequence: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            payload: Bytes::copy_from_slice(&packet.payload),
        };
        if events.send(PeerEvent::Packet(packet)).await.is_err() {
            return;
        }
    }
}

/// The library works on the reports it hands out: they have to be read.
pub async fn read_reports(sender: Arc<RTCRtpSender>, stop: CancellationToken) {
    let reading = async { while sender.read_rtcp().await.is_ok() {} };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reading => {}
    }
}

/// The same of the reports of a client's own audio.
pub async fn read_sender_reports(receiver: Arc<RTCRtpReceiver>, stop: CancellationToken) {
    let reading = async { while receiver.read_rtcp().await.is_ok() {} };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reading => {}
    }
}
