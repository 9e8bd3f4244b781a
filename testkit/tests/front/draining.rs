//! A node that drains stays in a balancer's list for as long as its calls last: an hour of new callers.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use voxray_testkit::wait::eventually;

use crate::coming_back::{Line, clip, open_streams, opened};
use crate::support::{Fleet, LIMIT};

/// A phone stream and a client that come to it are carried by the node that keeps their slots, with tokens that were not
/// used up on the way. Its own calls end as they would have, then nobody is let in any more, and it waits for those whom it
/// passes on.
pub async fn whoever_comes_to_a_node_that_drains_is_led_to_the_slot(fleet: &mut Fleet) {
    let alive = fleet.stack.media.iter().filter(|node| node.process().is_ok());
    let [drains, keeps] = alive.collect::<Vec<_>>().try_into().expect("two nodes are left");
    let own = Line::open_at(fleet, "CA6", Some(&drains.ws_url())).await;
    drains.terminate().unwrap();
    eventually("placement to know that the node drains", LIMIT, || async {
        let nodes = fleet.nodes().await?;
        let known = nodes.iter().any(|node| node.node_id == drains.name() && node.draining);
        Ok(known.then_some(()))
    })
    .await
    .unwrap();

    let mut led = Line::open_at(fleet, "CA7", Some(&drains.ws_url())).await;
    let again = format!("{}{}", drains.ws_url(), led.path);
    assert_eq!(opened(&again, None).await.err(), Some(403), "its token is used up now");
    let mut client = client_at(fleet, &drains.ws_url()).await;
    client.next().await.expect("the greeting").unwrap();
    let mut carriers = Vec::new();
    for session in fleet.sessions().await.unwrap() {
        let node = session["node"].as_str().unwrap().to_owned();
        carriers.push((session["callId"].as_str().unwrap_or_default().to_owned(), node));
    }
    carriers.sort();
    let [at_first, then] = [drains.name(), keeps.name()].map(str::to_owned);
    let expected = [("", &then), ("CA6", &at_first), ("CA7", &then)];
    assert_eq!(carriers, expected.map(|(call, node)| (call.to_owned(), node.clone())));
    client.close(None).await.unwrap();
    without_a_token_they_are_let_in_elsewhere(fleet).await;
    assert_eq!(own.hang_up().await, 1000);

    let address = drains.url().trim_start_matches("http://").to_owned();
    eventually("the node to let nobody in any more", LIMIT, || async {
        Ok(TcpStream::connect(&address).await.is_err().then_some(()))
    })
    .await
    .unwrap();
    led.hear(&clip()).await;
    assert!(drains.process().is_ok(), "it waits for the stream that it passes on");
    assert_eq!(led.hang_up().await, 1000, "the owner's own goodbye");

    let status = tokio::time::timeout(LIMIT, drains.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    let gone = drains.name().to_owned();
    for node in &mut fleet.stack.media {
        if node.name() == gone {
            node.kill9();
        }
    }
    eventually("no socket to be left", LIMIT, || async {
        Ok(open_streams(fleet).await.is_empty().then_some(()))
    })
    .await
    .unwrap();
}

/// Nobody has chosen a node for them: the front asks the next one when one has no room. A Genesys stream comes the same way.
async fn without_a_token_they_are_let_in_elsewhere(fleet: &Fleet) {
    let front = fleet.nginx.url().replacen("http", "ws", 1);
    // More than there are nodes, which are asked in turn.
    for _ in 0..4 {
        let mut client = opened(&format!("{front}/ws?format=json"), None).await.unwrap();
        client.next().await.expect("the greeting").unwrap();
        client.close(None).await.unwrap();
    }
}

/// A client of a new session, at this node.
async fn client_at(fleet: &Fleet, node: &str) -> crate::coming_back::Socket {
    let start = fleet.http.post(format!("{}/start", fleet.nginx.url()));
    let started = start.json(&json!({ "transport": "websocket" })).send().await.unwrap();
    let started: Value = started.error_for_status().unwrap().json().await.unwrap();
    let token = started["token"].as_str().unwrap();
    // The dialect in which a client need not introduce itself.
    opened(&format!("{node}/ws?format=json&token={token}"), None)
        .await
        .unwrap()
}
