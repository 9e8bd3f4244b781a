//! A socket that comes to a node which has neither its call nor a slot for it.
//!
//! Behind one address for all nodes a balancer knows nothing of calls: the socket of a new call may reach a node that
//! drains or is full although another one keeps its slot, and when the network cuts a phone stream, the provider's new
//! socket may reach any node. That node looks up who has the session that the token names, or keeps its slot, opens the
//! same path there, and passes every message on, both ways, until one side ends.
//!
//! - The other node decides, as for any other socket, and a token is used up there: a phone stream's counts again only
//!   while the stream is cut (`telephony::held`). A refusal is the answer here too, before the upgrade.
//! - Nowhere else is passed on to: the token has to be one that this deployment signed, its session has to be connected
//!   or reserved in the session store, on a node that is registered there.
//! - A store that has lost everything knows neither that the token was used nor who has the session. Its owner says so
//!   again within two heartbeats: meanwhile the socket waits ([`RECLAIM_WITHIN`]), instead of beginning a second call.
//! - What was passed on once carries [`RELAYED`] and is not passed on again. Nobody gains anything by sending that header.
//! - A node takes no slot for a socket that it only passes on: the call counts where it is. The socket counts in
//!   `http_active_connections` of both nodes.
//! - At most one message is on its way in each direction. Whoever does not read holds the other side up, and is given up
//!   when it does not read for [`Timeouts::stuck`](crate::transport::Timeouts).

mod join;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use service_kit::config::MediaTransport;
use service_kit::http::{ActiveConnection, ApiError, LiveRoute};
use service_kit::token::Claims;
use session_store::{NODE_HEARTBEAT, SessionState, StoreError, patiently};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Gate;
use super::admission::{NotAdmitted, store_away};
use super::reader::{self, MAX_MESSAGE_BYTES, READ_BUFFER_BYTES};
use crate::call::registry::Refusal;
use crate::metrics::PHONE_STREAM_CUTS;
use join::join;

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

/// A request for a socket.
pub struct Asked {
    /// As it came.
    pub uri: Uri,
    /// As they came.
    pub headers: HeaderMap,
    /// Which kind of socket.
    pub transport: MediaTransport,
}

impl Asked {
    /// Another node has passed it on.
    pub fn is_relayed(&self) -> bool {
        self.headers.contains_key(RELAYED)
    }

    fn route(&self) -> LiveRoute {
        match self.transport {
            MediaTransport::Telephony => LiveRoute::TelephonyWs,
            MediaTransport::WebSocket => LiveRoute::Ws,
            MediaTransport::WebRtc => LiveRoute::WebRtc,
        }
    }

    /// How long nothing may come. A phone stream's silence is for the node that has its call to judge: it asks for no sign
    /// of life. A client's sign of life ends here, where its pings are answered.
    fn silence(&self, gate: &Gate) -> Duration {
        match self.transport {
            MediaTransport::Telephony => Duration::MAX,
            MediaTransport::WebSocket | MediaTransport::WebRtc => gate.timeouts.silence,
        }
    }
}

/// The node that has the session of a socket, or keeps its slot.
pub struct Owner {
    session_id: String,
    node_id: String,
    /// Its call has begun.
    connected: bool,
    /// Base URL of its sockets.
    url: String,
}

/// Why a socket is not passed on.
#[derive(Debug, thiserror::Error)]
pub enum NotPassedOn {
    /// The owner has answered, and does not take the socket.
    #[error("the node that has this session does not take the socket (HTTP {0})")]
    Refused(StatusCode),
    /// The owner's address is none.
    #[error("{url:?} is no address of a media node (media_advertise_url)")]
    BadAddress {
        /// What the node has registered.
        url: String,
    },
    /// The owner cannot be reached, or takes no connection.
    #[error("the media node that has this session cannot be reached")]
    Unreachable(#[source] Box<tungstenite::Error>),
    /// The owner took too long.
    #[error("the media node that has this session did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// The node that has the session of this token, when it is another one.
///
/// # Errors
/// The session store does not answer.
pub async fn owner(gate: &Gate, claims: &Claims) -> Result<Option<Owner>, StoreError> {
    Ok(find(gate, claims).await?.filter(|owner| owner.connected))
}

/// The node that has the session of this token, or keeps a slot for it, when it is another one.
async fn find(gate: &Gate, claims: &Claims) -> Result<Option<Owner>, StoreError> {
    let Some(session) = patiently(|| gate.store.session(&claims.session_id)).await? else {
        return Ok(None);
    };
    let connected = match session.state {
        SessionState::Connected => true,
        SessionState::Reserved => false,
        SessionState::Created | SessionState::Ending => return Ok(None),
    };
    let Some(node_id) = session.node_id.filter(|node| **node != *gate.node_id) else {
        return Ok(None);
    };
    let nodes = patiently(|| gate.store.nodes()).await?;
    let node = nodes.into_iter().find(|node| node.node_id == node_id);
    Ok(node.map(|node| Owner {
        session_id: session.session_id,
        node_id,
        connected,
        url: node.public_url,
    }))
}

/// The node that has the session of a token which looks as good as new, if the store has just lost what it knew of both.
///
/// # Errors
/// The session store does not answer.
pub async fn owner_after_loss(gate: &Gate, claims: &Claims) -> Result<Option<Owner>, StoreError> {
    if !lost_lately(gate, claims).await? {
        return Ok(None);
    }
    wait_for_owner(gate, claims, RECLAIM_WITHIN).await
}

/// Whether the store may have lost what it knew of the session.
async fn lost_lately(gate: &Gate, claims: &Claims) -> Result<bool, StoreError> {
    let restored = *gate.store_restores.borrow();
    let lately = restored.is_some_and(|at| at.elapsed() < RECLAIM_WITHIN);
    // What was reserved here may have been connected elsewhere: it is no sign of the contrary.
    Ok(lately || (patiently(|| gate.store.session(&claims.session_id)).await?.is_none() && !is_known(gate).await?))
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
    let nodes = patiently(|| gate.store.nodes()).await?;
    Ok(nodes.iter().any(|node| node.node_id == *gate.node_id))
}

/// Leads a socket for which this node has no room to the node that keeps its slot. Its token is as good as before.
///
/// # Errors
/// 503 when no other node keeps one, or that one cannot be reached: counted here, and the socket may be opened again.
pub async fn to_its_slot(
    gate: Arc<Gate>,
    claims: &Claims,
    asked: &Asked,
    upgrade: WebSocketUpgrade,
    refusal: Refusal,
) -> Result<Response, ApiError> {
    // From now on: a node that drains must not end while it leads somebody on.
    let _counted = gate.relays.count();
    let keeper = if asked.is_relayed() {
        None
    } else {
        keeper(&gate, claims).await.map_err(store_away)?
    };
    let Some(keeper) = keeper else {
        gate.calls.count_refusal(asked.transport, refusal);
        return Err(NotAdmitted::from(refusal).into());
    };
    let refused = "the node that keeps this session's slot refuses the token: ask the signaling service for a new one";
    onwards(gate, keeper, asked, upgrade, ApiError::Forbidden(refused.to_owned())).await
}

/// The node that keeps the slot. Where the store has just lost it, it is written there again.
async fn keeper(gate: &Gate, claims: &Claims) -> Result<Option<Owner>, StoreError> {
    let until = Instant::now() + RECLAIM_WITHIN;
    loop {
        let found = find(gate, claims).await?;
        if found.is_some() || Instant::now() >= until || !lost_lately(gate, claims).await? {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Passes a socket on to the node that has its session; `refused` is the answer when that does not take it.
///
/// # Errors
/// `refused`, or 503 when that node cannot be reached.
pub async fn onwards(
    gate: Arc<Gate>,
    owner: Owner,
    asked: &Asked,
    upgrade: WebSocketUpgrade,
    refused: ApiError,
) -> Result<Response, ApiError> {
    pass_on(gate, owner, asked, upgrade).await.map_err(|error| match error {
        NotPassedOn::Refused(status) => refusal(status, refused),
        NotPassedOn::BadAddress { .. } | NotPassedOn::Unreachable(_) | NotPassedOn::TimedOut => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "a socket cannot be passed on to the node that has its session: media nodes have to reach each other by media_advertise_url");
            ApiError::unavailable(error.to_string())
        }
    })
}

/// Opens the same path at the owner, then takes the far end's socket and joins the two. The far end is told of a refusal
/// before the upgrade.
async fn pass_on(
    gate: Arc<Gate>,
    owner: Owner,
    asked: &Asked,
    upgrade: WebSocketUpgrade,
) -> Result<Response, NotPassedOn> {
    let counted = gate.relays.count();
    let socket = match tokio::time::timeout(CONNECT_TIMEOUT, open(&owner.url, &asked.uri)).await {
        Ok(socket) => socket?,
        Err(_) => return Err(NotPassedOn::TimedOut),
    };
    let (session_id, media_node) = (&owner.session_id, &owner.node_id);
    if owner.connected {
        PHONE_STREAM_CUTS.with_label_values(&["passed_on"]).inc();
        tracing::info!(
            session_id,
            media_node,
            "a stream came back here after a cut and is passed on to the node that has its call"
        );
    } else {
        tracing::info!(
            session_id,
            media_node,
            "there is no room here: a socket is passed on to the node that keeps its slot"
        );
    }
    let (route, silence) = (asked.route(), asked.silence(&gate));
    Ok(
        reader::limited(upgrade, gate.config.pipeline).on_upgrade(async move |provider| {
            let scope = gate.scope.child("relay");
            let ends = scope.token();
            scope.spawn("relay", async move {
                let _open = ActiveConnection::open(route);
                let _counted = counted;
                tokio::select! {
                    () = ends.cancelled() => {}
                    () = join(provider, socket, gate.timeouts.stuck, silence) => {}
                }
                tracing::info!(session_id = owner.session_id, "a socket is no longer passed on");
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
fn refusal(status: StatusCode, refused: ApiError) -> ApiError {
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

/// How many sockets are passed on here: a node that drains waits for them as for its own calls.
#[derive(Debug, Default)]
pub struct Relays(Arc<watch::Sender<usize>>);

impl Relays {
    fn count(&self) -> Counted {
        self.0.send_modify(|relays| *relays += 1);
        Counted(Arc::clone(&self.0))
    }

    /// Resolves when there is none.
    pub async fn wait_empty(&self) {
        // The sender lives in `self`: the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|relays| *relays == 0).await;
    }
}

struct Counted(Arc<watch::Sender<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|relays| *relays = relays.saturating_sub(1));
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
