//! The console page's files, and the routes that only it needs.

use axum::body::Body;
use axum::http::Request;
use session_store::NodeLatency;

use crate::support::{Node, Plane, Switch};

#[tokio::test]
async fn the_page_brings_rules_that_let_nothing_else_run() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    for (path, kind) in [
        ("/console/", "text/html"),
        ("/console/style.css", "text/css"),
        ("/console/talk/worklets.js", "text/javascript"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let file = plane.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        let header = |name: &str| file.headers[name].to_str().unwrap();
        assert!(header("content-type").starts_with(kind), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert!(header("content-security-policy").contains("script-src 'self';"));
    }
    plane.get("/console/nothing.js").await.error(404, "NOT_FOUND");
    plane.get("/console/../Cargo.toml").await.error(404, "NOT_FOUND");
    assert_eq!(plane.get("/console").await.headers["location"], "/console/");
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_sent_again() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    let first = plane.get("/console/main.js").await;
    let request = |tag: &str| {
        let request = Request::get("/console/main.js").header("if-none-match", tag);
        request.body(Body::empty()).unwrap()
    };

    let again = plane.send(request(first.headers["etag"].to_str().unwrap())).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    assert_eq!(plane.send(request("\"another\"")).await.text, first.text);
}

#[tokio::test]
async fn nodes_are_listed_by_name_with_their_load_and_how_quick_they_are() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let second = Node::start(&store, "n2").await;
    let _first = Node::start(&store, "n1").await;
    let latency = NodeLatency {
        window_secs: 300,
        turns: 12,
        turn_p50_ms: 712,
        turn_p95_ms: 905,
        turn_p99_ms: 1290,
        frame_late_p99_us: 1_400,
    };
    second
        .report(&store, |record| {
            record.draining = true;
            record.latency = Some(latency);
        })
        .await;

    for path in ["/nodes", "/api/v1/nodes"] {
        let nodes = plane.get(path).await.json()["data"]["nodes"].take();
        assert_eq!((&nodes[0]["node"], &nodes[1]["node"]), (&"n1".into(), &"n2".into()));
        assert_eq!(nodes[1]["draining"], true);
        assert_eq!(nodes[1]["latency"]["turnP95Ms"], 905);
        assert_eq!(nodes[1]["latency"]["frameLateP99Ms"], 1.4);
        assert!(
            nodes[0].get("latency").is_none(),
            "one of an older release says nothing of it"
        );
        assert!(
            nodes[0].get("controlUrl").is_none(),
            "addresses inside the deployment stay there"
        );
    }
}
