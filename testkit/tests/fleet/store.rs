//! What clients and callers notice of a session store that goes away and comes back.

use std::time::{Duration, Instant};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use session_store::switch::RIGHT_AGAIN_WITHIN;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use voxray::caller::CallError;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::load::{self, Load};
use crate::{gauges, scale, truth};

pub const LIMIT: Duration = Duration::from_secs(60);

/// Asks for a session.
pub async fn start(signaling: &str, transport: &str) -> reqwest::Response {
    let request = load::client().post(format!("{signaling}/start"));
    request.json(&json!({"transport": transport})).send().await.unwrap()
}

/// The only client over a WebSocket: it holds one of its key's sessions and says nothing.
pub struct Silent {
    pub session_id: String,
    speaking: SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, Message>,
    hearing: JoinHandle<()>,
}

impl Silent {
    pub async fn connect(signaling: &str) -> Self {
        let started: Value = start(signaling, "websocket").await.json().await.unwrap();
        let text = |key: &str| started[key].as_str().unwrap().to_owned();
        // The dialect in which a client need not introduce itself.
        let url = text("wsUrl").replace("format=protobuf", "format=json");
        let (client, _) = connect_async(format!("{url}&token={}", text("token"))).await.unwrap();
        let (speaking, mut hearing) = client.split();
        // Pings are answered while somebody reads.
        let hearing = tokio::spawn(async move { while let Some(Ok(_)) = hearing.next().await {} });
        let listed = eventually("the client to be listed", LIMIT, || async {
            let body = gauges::get(&format!("{signaling}/sessions")).await?;
            let sessions = body["data"]["sessions"].as_array().cloned().unwrap_or_default();
            let own = sessions
                .iter()
                .find(|session| session["transport"] == "websocket" && session["state"] == "connected");
            Ok(own.and_then(|own| own["sessionId"].as_str().map(str::to_owned)))
        });
        Self {
            session_id: listed.await.unwrap(),
            speaking,
            hearing,
        }
    }

    pub async fn close(mut self) {
        self.speaking.close().await.unwrap();
        self.hung_up().await;
    }

    /// Waits until the other side has closed.
    pub async fn hung_up(self) {
        self.hearing.await.unwrap();
    }
}

/// Readiness says that the store is away, and who asks for a session is told when to come again.
pub async fn assert_refuses(stack: &Stack) {
    let said = eventually("readiness to say so", LIMIT, || async {
        let (status, body) = gauges::ready(&stack.signaling[0]).await?;
        Ok((status == 503).then_some(body))
    });
    let said = said.await.unwrap();
    assert!(said.contains("session store"), "{said}");
    let refused = start(&stack.signaling[0].url(), "websocket").await;
    assert_eq!(refused.status(), 503);
    let retry: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(retry >= 1);
}

/// Waits until new calls are taken and all live ones are listed, of which this is one, and says how long that took since
/// the store is back. The promise is held on a machine that does nothing else (`VOXRAY_FLEET_SECS`); in virtual time it is
/// always. `counted` is asked for what else has to be there.
pub async fn assert_right_again(
    stack: &Stack,
    back: Instant,
    client: &Silent,
    counted: impl AsyncFn() -> anyhow::Result<bool>,
) {
    let ready = eventually("readiness", LIMIT, || async {
        Ok((gauges::ready(&stack.signaling[0]).await?.0 == 200).then(|| back.elapsed()))
    });
    let ready = ready.await.unwrap();
    let all = eventually(
        "every live call to be listed, and counted for its key",
        LIMIT,
        || async {
            let live = gauges::open_calls(stack).await?;
            let listed = load::connected(stack).await;
            let all = listed.len() as f64 >= live && listed.contains_key(&client.session_id) && counted().await?;
            Ok(all.then_some(listed))
        },
    );
    let listed = all.await.unwrap().len();
    let took = back.elapsed();
    println!("the store is back: new calls are taken after {ready:.1?}, {listed} calls are listed after {took:.1?}");
    assert!(
        scale::rolling().is_zero() || took <= RIGHT_AGAIN_WITHIN,
        "promised is {RIGHT_AGAIN_WITHIN:?}"
    );
    let started = start(&stack.signaling[0].url(), "websocket").await;
    assert!(started.status().is_success(), "{}", started.status());
}

/// Nobody whose call had begun has noticed, all of it is archived, and in the end nothing is left.
pub async fn assert_nobody_noticed(stack: &Stack, calls: Load) {
    let placed = calls.stop().await;
    let disturbed: Vec<_> = placed
        .iter()
        .filter_map(|call| call.outcome.as_ref().err())
        .filter(|error| {
            !matches!(
                error,
                CallError::Unreachable { .. }
                    | CallError::Webhook(_)
                    | CallError::Refused(_)
                    | CallError::Connect { .. }
            )
        })
        .collect();
    assert!(disturbed.is_empty(), "calls that had begun: {disturbed:?}");
    truth::assert_archived(stack, scale::catch_up()).await;
    eventually("no session to be left", LIMIT, || async {
        Ok(load::connected(stack).await.is_empty().then_some(()))
    })
    .await
    .unwrap();
}
