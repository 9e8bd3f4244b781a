//! A stream that comes back to a node which has not got its call.
//!
//! Behind one address for all nodes a balancer knows nothing of calls: when the network cuts a socket, the provider's new
//! one may reach any node. That node looks up who has the session that the token names, opens the same path there, and
//! passes every message on, both ways, until one side ends.
//!
//! - The owner decides, as for any other socket: the token counts again only while its stream is cut ([`super::held`]). Its
//!   refusal is the provider's answer, before the upgrade.
//! - Nowhere else is passed on to: the token has to be one that this deployment signed, its session has to be connected in
//!   the session store, on a node that is registered there.
//! - A store that has lost everything knows neither that the token was used nor who has the session. Its owner says so
//!   again within two heartbeats: meanwhile the stream waits ([`RECLAIM_WITHIN`]), instead of beginning a second call.
//! - What was passed on once carries [`RELAYED`] and is not passed on again. Nobody gains anything by sending that header.
//! - A node takes no slot for a stream that it only passes on: the call counts where it is. The socket counts in
//!   `http_active_connections` of both nodes.
//! - At most one message is on its way in each direction. Whoever does not read holds the other side up, and is given up
//!   when it does not read for [`Timeouts::stuck`](crate::transport::Timeouts).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use service_kit::http::{ActiveConnection, ApiError, LiveRoute};
use service_kit::token::Claims;
use session_store::{NODE_HEARTBEAT, SessionState, StoreError};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, protocol};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::metrics::PHONE_STREAM_CUTS;
use crate::transport::Gate;
use crate::transport::reader::{self, MAX_MESSAGE_BYTES, READ_BUFFER_BYTES, Received};
use crate::transport::writer::{CLOSE_TIMEOUT, Closing};

/// On a request that another node passes on.
pub const RELAYED: HeaderName = HeaderName::from_static("x-voxray-relayed");

/// A node that does not take the connection within this time does not answer: the call waits 10 s for its stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A node that has lost its entries in the store has written them again after two heartbeats, if it lives.
const RECLAIM_WITHIN: Duration = NODE_HEARTBEAT.saturating_mul(2).saturating_add(Duration::from_secs(1));
/// Between the claim and the session's record there is one request.
const LISTED_WITHIN: Duration = Duration::from_secs(1);
/// How often is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Room for one message and a few answers to pings; what does not fit breaks the connection.
const WRITE_BUFFER_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

type OwnerSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The node that has the call of a stream.
pub struct Owner {
    session_id: String,
    node_id: String,
    /// Base URL of its sockets.
    url: String,
}

/// Why a stream is not passed on.
#[derive(Debug, thiserror::Error)]
pub enum NotPassedOn {
    /// The owner has answered, and does not take the stream.
    #[error("the node that has this call does not take the stream (HTTP {0})")]
    Refused(StatusCode),
    /// The owner's address is none.
    #[error("{url:?} is no address of a media node (media_advertise_url)")]
    BadAddress {
        /// What the node has registered.
        url: String,
    },
    /// The owner cannot be reached, or takes no connection.
    #[error("the media node that has this call cannot be reached")]
    Unreachable(#[source] Box<tungstenite::Error>),
    /// The owner took too long.
    #[error("the media node that has this call did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// The node that has the session of this token, when it is another one.
///
/// # Errors
/// The session store does not answer.
pub async fn owner(gate: &Gate, claims: &Claims) -> Result<Option<Owner>, StoreError> {
    let Some(session) = gate.store.session(&claims.session_id).await? else {
        return Ok(None);
    };
    let node_id = match session.state {
        SessionState::Connected => session.node_id.filter(|node| **node != *gate.node_id),
        SessionState::Created | SessionState::Reserved | SessionState::Ending => None,
    };
    let Some(node_id) = node_id else { return Ok(None) };
    let nodes = gate.store.nodes().await?;
    let node = nodes.into_iter().find(|node| node.node_id == node_id);
    Ok(node.map(|node| Owner {
        session_id: session.session_id,
        node_id,
        url: node.public_url,
    }))
}

/// The node that has the session of a token which looks as good as new, if the store has just lost what it knew of both.
///
/// # Errors
/// The session store does not answer.
pub async fn owner_after_loss(gate: &Gate, claims: &Claims) -> Result<Option<Owner>, StoreError> {
    let restored = *gate.store_restores.borrow();
    let lately = restored.is_some_and(|at| at.elapsed() < RECLAIM_WITHIN);
    // What was reserved here may have been connected elsewhere: it is no sign of the contrary.
    if !lately && (gate.store.session(&claims.session_id).await?.is_some() || is_known(gate).await?) {
        return Ok(None);
    }
    wait_for_owner(gate, claims, RECLAIM_WITHIN).await
}

/// The node that has claimed the session of this token.
///
/// # Errors
/// The session store does not answer.
pub async fn owner_of_claimed(gate: &Gate, claims: &Claims) -> Result<Option<Owner>, StoreError> {
    wait_for_owner(gate, claims, LISTED_WITHIN).await
}

async fn wait_for_owner(gate: &Gate, claims: &Claims, within: Duration) -> Result<Option<Owner>, StoreError> {
    let until = Instant::now() + within;
    loop {
        let found = owner(gate, claims).await?;
        if found.is_some() || Instant::now() >= until {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the store knows this node; one that does not has lost everything, and this node has not noticed yet.
async fn is_known(gate: &Gate) -> Result<bool, StoreError> {
    let nodes = gate.store.nodes().await?;
    Ok(nodes.iter().any(|node| node.node_id == *gate.node_id))
}

/// Opens the same path at the owner, then takes the provider's socket and joins the two.
///
/// # Errors
/// The owner does not take it: the provider is to be told before the upgrade.
pub async fn pass_on(
    gate: Arc<Gate>,
    owner: Owner,
    uri: &Uri,
    upgrade: WebSocketUpgrade,
) -> Result<Response, NotPassedOn> {
    let socket = match tokio::time::timeout(CONNECT_TIMEOUT, open(&owner.url, uri)).await {
        Ok(socket) => socket?,
        Err(_) => return Err(NotPassedOn::TimedOut),
    };
    PHONE_STREAM_CUTS.with_label_values(&["passed_on"]).inc();
    tracing::info!(
        session_id = owner.session_id,
        owner = owner.node_id,
        "a phone stream came back to this node after a cut and is passed on to the one that has its call"
    );
    Ok(
        reader::limited(upgrade, gate.config.pipeline).on_upgrade(async move |provider| {
            let scope = gate.scope.child("phone relay");
            let ends = scope.token();
            scope.spawn("phone relay", async move {
                let _open = ActiveConnection::open(LiveRoute::TelephonyWs);
                let _counted = gate.relays.count();
                tokio::select! {
                    () = ends.cancelled() => {}
                    () = join(provider, socket, gate.timeouts.stuck) => {}
                }
                tracing::info!(session_id = owner.session_id, "a phone stream is no longer passed on");
            });
        }),
    )
}

async fn open(url: &str, uri: &Uri) -> Result<OwnerSocket, NotPassedOn> {
    let bad_address = || NotPassedOn::BadAddress { url: url.to_owned() };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let address = format!("{}{path}", socket_scheme(url.trim_end_matches('/')));
    let mut request = address.into_client_request().map_err(|_| bad_address())?;
    request.headers_mut().insert(RELAYED, HeaderValue::from_static("1"));
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES);
    let opened = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
    opened.map(|(socket, _)| socket).map_err(|error| match error {
        tungstenite::Error::Http(answer) => NotPassedOn::Refused(answer.status()),
        tungstenite::Error::Url(_) => bad_address(),
        other => NotPassedOn::Unreachable(Box::new(other)),
    })
}

/// What the provider is answered when the owner does not take the stream: the owner's word, and `refused` where that
/// speaks of the token.
pub fn refusal(status: StatusCode, refused: ApiError) -> ApiError {
    let message = NotPassedOn::Refused(status).to_string();
    match status {
        StatusCode::CONFLICT => ApiError::Conflict(message),
        StatusCode::NOT_FOUND => ApiError::NotFound(message),
        status if status.is_server_error() => ApiError::unavailable(message),
        _ => refused,
    }
}

/// An address may be registered as `https://` as well.
fn socket_scheme(url: &str) -> String {
    match url.strip_prefix("http") {
        Some(rest) => format!("ws{rest}"),
        None => url.to_owned(),
    }
}

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
async fn join(provider: WebSocket, owner: OwnerSocket, stuck: Duration) {
    let (mut to_provider, mut from_provider) = provider.split();
    let (mut to_owner, mut from_owner) = owner.split();
    let end = tokio::select! {
        end = towards_owner(&mut from_provider, &mut to_owner, stuck) => end,
        end = towards_provider(&mut from_owner, &mut to_provider, stuck) => end,
    };
    let (frame, broken) = match end {
        End::Closed(frame) => (frame, false),
        End::Refused(reason) => (Some(reason.clone().into()), reason.is_broken()),
        End::Cut => return,
    };
    let closing = async {
        // The side that has closed has its answer already, and this one is not sent.
        let _ = to_owner
            .send(tungstenite::Message::Close(frame.clone().map(for_owner)))
            .await;
        let _ = to_provider.send(Message::Close(frame)).await;
        let drain_owner = async { while let Some(Ok(_)) = from_owner.next().await {} };
        tokio::join!(reader::linger(&mut from_provider, broken), drain_owner);
    };
    // Whoever does not close is closed.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

/// Passes on what the provider says; asks the owner for a sign of life meanwhile.
async fn towards_owner(
    provider: &mut SplitStream<WebSocket>,
    owner: &mut SplitSink<OwnerSocket, tungstenite::Message>,
    stuck: Duration,
) -> End {
    let mut ask = tokio::time::interval(stuck / 3);
    ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            _ = ask.tick() => tungstenite::Message::Ping(bytes::Bytes::new()),
            message = provider.next() => match message {
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
            },
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
            tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) | tungstenite::Message::Frame(_) => continue,
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

/// How many streams are passed on here: a node that drains waits for them as for its own calls.
#[derive(Debug, Default)]
pub struct Relays(watch::Sender<usize>);

impl Relays {
    fn count(&self) -> Counted<'_> {
        self.0.send_modify(|relays| *relays += 1);
        Counted(self)
    }

    /// Resolves when there is none.
    pub async fn wait_empty(&self) {
        // The sender lives in `self`: the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|relays| *relays == 0).await;
    }
}

struct Counted<'a>(&'a Relays);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|relays| *relays = relays.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_node_waits_until_it_passes_nothing_on_any_more() {
        let relays = Relays::default();
        relays.wait_empty().await;
        let (one, another) = (relays.count(), relays.count());
        let mut empty = std::pin::pin!(relays.wait_empty());
        assert_eq!(poll!(&mut empty), Poll::Pending);
        drop(one);
        assert_eq!(poll!(&mut empty), Poll::Pending);
        drop(another);
        assert_eq!(poll!(&mut empty), Poll::Ready(()));
    }

    #[tokio::test]
    async fn an_owner_that_answers_no_is_not_called_unreachable() {
        for status in ["403 Forbidden", "409 Conflict", "503 Service Unavailable"] {
            let owner = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("ws://{}", owner.local_addr().unwrap());
            let answering = async {
                let (mut socket, _) = owner.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = socket.read(&mut request).await.unwrap();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
                socket
            };
            let path = Uri::from_static("/telephony/ws/token");
            let (opened, _open) = tokio::join!(open(&url, &path), answering);
            let Err(NotPassedOn::Refused(refused)) = opened else {
                panic!("{status} is no refusal");
            };
            assert!(status.starts_with(refused.as_str()), "{status}: {refused}");
        }
    }

    #[test]
    fn an_address_may_be_registered_by_any_of_its_schemes() {
        for (registered, opened) in [
            ("ws://10.0.0.7:8080", "ws://10.0.0.7:8080"),
            ("http://10.0.0.7:8080", "ws://10.0.0.7:8080"),
            ("https://media-1.example.com", "wss://media-1.example.com"),
            ("wss://media-1.example.com", "wss://media-1.example.com"),
        ] {
            assert_eq!(socket_scheme(registered), opened);
        }
    }
}
