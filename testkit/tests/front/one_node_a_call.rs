//! Whichever way the stream finds its node, one node owns the call and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use sqlx::{Connection, PgConnection, Row as _};
use voxray::caller::{Call, Step};
use voxray_testkit::wait::eventually;

use crate::support::{Fleet, LIMIT};

/// Calls placed through each front.
const CALLS: usize = 300;
/// Calls at the same time: two cores carry them with unoptimised code.
const AT_ONCE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_name_their_node_get_there() {
    let fleet = Fleet::start("/{node}", |builder| builder).await;
    let nodes = carry_calls(&fleet).await;
    assert_eq!(nodes.len(), 3, "every node carries calls: {nodes:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_one_address_the_node_that_gets_the_stream_owns_the_call() {
    // More calls than the nodes hold: a slot kept for a call that went elsewhere must come back.
    let fleet = Fleet::start("", |builder| builder.env("VOXRAY_MEDIA_MAX_SESSIONS", "70")).await;
    let nodes = carry_calls(&fleet).await;
    assert_eq!(nodes.len(), 3, "every node carries calls: {nodes:?}");
    fleet.stop().await;
}

/// Places all calls; each is answered, and archived once by the one node that had it. Answers how many calls each had.
async fn carry_calls(fleet: &Fleet) -> BTreeMap<String, usize> {
    let began = Instant::now();
    let calls = stream::iter(0..CALLS).map(|_| {
        let greeted = Step::WaitForSpeech {
            heard: Duration::from_millis(200),
            timeout: LIMIT,
        };
        let steps = vec![greeted, Step::Silence(Duration::from_millis(400))];
        Call::new(fleet.nginx.url(), steps).place()
    });
    let reports: Result<Vec<_>, _> = calls.buffer_unordered(AT_ONCE).try_collect().await;
    let reports = reports.unwrap_or_else(|error| panic!("{error:?}\n{}", turned_away(fleet)));
    assert_eq!(reports.len(), CALLS);

    eventually("no session to be left", LIMIT, || async {
        Ok((fleet.sessions().await?.is_empty() && fleet.load().await? == 0).then_some(()))
    })
    .await
    .unwrap();
    let keys = eventually("all recordings", LIMIT, || async {
        let keys = fleet.stack.s3.keys(&fleet.stack.bucket, "recordings/").await?;
        let keys: Vec<String> = keys.into_iter().filter(|key| key.ends_with(".wav")).collect();
        Ok((keys.len() >= CALLS).then_some(keys))
    })
    .await
    .unwrap();
    let recorded: BTreeSet<String> = keys.iter().map(|key| session_of(key)).collect();
    assert_eq!((keys.len(), recorded.len()), (CALLS, CALLS), "one recording a call");
    let greetings = greetings(&fleet.stack.transcripts_dsn).await;
    assert_eq!(greetings.len(), CALLS, "every caller was greeted");
    assert!(greetings.values().all(|times| *times == 1), "{greetings:?}");
    assert_eq!(greetings.into_keys().collect::<BTreeSet<_>>(), recorded);
    let nodes = carried(fleet).await;
    // A node whose slots are kept for calls that went elsewhere passes a stream on: two nodes have accepted its socket.
    let led = fleet.stack.media.iter().map(|node| node.led_to_their_slots().unwrap());
    let led: usize = led.sum();
    let took = began.elapsed().as_secs_f32();
    println!("{CALLS} calls, {AT_ONCE} at once, in {took:.1} s; by node: {nodes:?}, {led} passed on");
    assert_eq!(
        nodes.values().sum::<usize>(),
        CALLS + led,
        "no call on two nodes: {nodes:?}"
    );
    nodes
}

/// Why callers were, in the words of the services.
fn turned_away(fleet: &Fleet) -> String {
    let logs = fleet
        .stack
        .signaling
        .iter()
        .map(|service| std::fs::read_to_string(service.log()));
    let logs: String = logs.collect::<Result<_, _>>().unwrap();
    let lines = logs.lines().filter(|line| line.contains("turned away"));
    lines.collect::<Vec<_>>().join("\n")
}

/// `recordings/2026/01/31/{sessionId}.wav`
fn session_of(key: &str) -> String {
    let file = key.rsplit('/').next().unwrap_or_default();
    file.trim_end_matches(".wav").to_owned()
}

/// How often each session was greeted.
async fn greetings(dsn: &str) -> BTreeMap<String, i64> {
    let mut postgres = PgConnection::connect(dsn).await.unwrap();
    let rows = sqlx::query("SELECT session_id, count(*) FROM call_transcripts WHERE role = 'assistant' GROUP BY 1")
        .fetch_all(&mut postgres)
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Streams that each node has accepted.
async fn carried(fleet: &Fleet) -> BTreeMap<String, usize> {
    let mut carried = BTreeMap::new();
    for media in &fleet.stack.media {
        let metrics = fleet.http.get(format!("{}/metrics", media.url())).send().await.unwrap();
        let text = metrics.text().await.unwrap();
        let accepted = text.lines().filter(|line| {
            line.starts_with("http_requests_total{") && line.contains("/telephony/ws") && line.contains("\"101\"")
        });
        let count: f64 = accepted
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        if count > 0.0 {
            carried.insert(media.name().to_owned(), count as usize);
        }
    }
    carried
}
