//! Two sockets that are joined: whatever comes on one goes out on the other.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, protocol};

use super::OwnerSocket;
use crate::call::END_WITHIN;
use crate::transport::reader::{self, Received};
use crate::transport::writer::Closing;

/// How the joined sockets end.
enum End {
    /// A side has closed.
    Closed(Option<CloseFrame>),
    /// The provider breaks the limits of a socket.
    Refused(Closing),
    /// A side is gone without a word, and the other one is to notice just that.
    Cut,
}

/// Passes messages on until a side ends, then ends the other one the same way.
pub async fn join(provider: WebSocket, owner: OwnerSocket, stuck: Duration, silence: Duration) {
    let (mut to_provider, mut from_provider) = provider.split();
    let (mut to_owner, mut from_owner) = owner.split();
    let end = tokio::select! {
        end = towards_owner(&mut from_provider, &mut to_owner, stuck, silence) => end,
        end = towards_provider(&mut from_owner, &mut to_provider, stuck) => end,
    };
    let (frame, broken) = match end {
        End::Closed(frame) => (frame, false),
        End::Refused(reason) => (Some(reason.clone().into()), reason.is_broken()),
        End::Cut => return,
    };
    let until = Instant::now() + END_WITHIN;
    let closing = async {
        // The side that has closed has its answer already, and this one is not sent.
        let _ = to_owner
            .send(tungstenite::Message::Close(frame.clone().map(for_owner)))
            .await;
        let _ = to_provider.send(Message::Close(frame)).await;
        let drain_owner = async { while let Some(Ok(_)) = from_owner.next().await {} };
        tokio::join!(reader::linger(&mut from_provider, broken, until), drain_owner);
    };
    // Whoever does not close is closed.
    let _ = tokio::time::timeout_at(until, closing).await;
}

/// Passes on what the provider says; asks the owner for a sign of life meanwhile.
async fn towards_owner(
    provider: &mut SplitStream<WebSocket>,
    owner: &mut SplitSink<OwnerSocket, tungstenite::Message>,
    stuck: Duration,
    silence: Duration,
) -> End {
    let mut ask = tokio::time::interval(stuck / 3);
    ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let quiet = silence.saturating_sub(heard.elapsed());
        let message = tokio::select! {
            () = tokio::time::sleep(quiet) => return End::Cut,
            _ = ask.tick() => tungstenite::Message::Ping(bytes::Bytes::new()),
            message = provider.next() => {
                heard = Instant::now();
                match message {
                Some(Ok(Message::Text(text))) => tungstenite::Message::text(text.as_str()),
                Some(Ok(Message::Binary(bytes))) => tungstenite::Message::Binary(bytes),
                // Signs of life, which the owner wants to see.
                Some(Ok(Message::Ping(payload))) => tungstenite::Message::Ping(payload),
                Some(Ok(Message::Pong(payload))) => tungstenite::Message::Pong(payload),
                Some(Ok(Message::Close(frame))) => return End::Closed(frame),
                Some(Err(error)) => match reader::broken(&error) {
                    Received::Refuse(reason) => return End::Refused(reason),
                    Received::Text(_) | Received::Binary(_) | Received::Gone(_) | Received::Cut => return End::Cut,
                },
                None => return End::Cut,
            }},
        };
        match tokio::time::timeout(stuck, owner.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return End::Cut,
        }
    }
}

/// Passes on what the owner says.
async fn towards_provider(
    owner: &mut SplitStream<OwnerSocket>,
    provider: &mut SplitSink<WebSocket, Message>,
    stuck: Duration,
) -> End {
    loop {
        let message = match tokio::time::timeout(stuck, owner.next()).await {
            Ok(Some(Ok(message))) => message,
            // It does not even answer pings, or its connection is broken.
            Ok(Some(Err(_)) | None) | Err(_) => return End::Cut,
        };
        let message = match message {
            tungstenite::Message::Text(text) => Message::Text(text.as_str().into()),
            tungstenite::Message::Binary(bytes) => Message::Binary(bytes),
            tungstenite::Message::Close(frame) => return End::Closed(frame.map(for_provider)),
            // Asks a client for a sign of life; a provider is never asked.
            tungstenite::Message::Ping(payload) => Message::Ping(payload),
            tungstenite::Message::Pong(_) | tungstenite::Message::Frame(_) => continue,
        };
        match tokio::time::timeout(stuck, provider.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return End::Cut,
        }
    }
}

fn for_owner(frame: CloseFrame) -> protocol::CloseFrame {
    protocol::CloseFrame {
        code: frame.code.into(),
        reason: frame.reason.as_str().into(),
    }
}

fn for_provider(frame: protocol::CloseFrame) -> CloseFrame {
    CloseFrame {
        code: frame.code.into(),
        reason: frame.reason.as_str().into(),
    }
}
