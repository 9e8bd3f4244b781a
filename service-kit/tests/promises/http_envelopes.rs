//! Every answer has the envelope of http-api.md, whoever wrote it.

use std::time::Duration;

use crate::common::{Server, answer, config};
use axum::Router;
use axum::extract::{Query, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::http::{ApiError, ApiJson, Data, FieldError, RequestId, TwoAudiences};

#[derive(Debug, Deserialize, Serialize)]
struct Candidate {
    sdp_mid: String,
    index: u16,
}

#[derive(Debug, Deserialize)]
struct Page {
    #[expect(dead_code, reason = "only its rejection is looked at")]
    limit: u32,
}

fn failure(kind: &str) -> ApiError {
    match kind {
        "bad" => ApiError::BadRequest("not so".to_owned()),
        "key" => ApiError::Unauthorized("who are you".to_owned()),
        "forbidden" => ApiError::Forbidden("not you".to_owned()),
        "missing" => ApiError::NotFound("no such session".to_owned()),
        "conflict" => ApiError::Conflict("already there".to_owned()),
        "invalid" => ApiError::Validation {
            message: "two fields are wrong".to_owned(),
            details: vec![
                FieldError::new("sdp", "is empty"),
                FieldError::new("type", "is not offer"),
            ],
        },
        "limited" => ApiError::RateLimited {
            retry_after: Duration::from_millis(1500),
        },
        "down" => ApiError::unavailable("no media node"),
        _ => ApiError::internal("the password is hunter2"),
    }
}

fn server() -> Server {
    let router = Router::new()
        .route("/ok", get(|| async { Data(json!({ "a": 1 })) }))
        .route(
            "/both",
            get(|| async { (StatusCode::CREATED, TwoAudiences(json!({ "sessionId": "s" }))) }),
        )
        .route("/id", get(|id: RequestId| async move { Data(json!(id.0)) }))
        .route(
            "/start",
            get(|| async { failure("down") }).post(|| async { failure("conflict") }),
        )
        .route("/sessions/{id}/api/offer", post(|| async { failure("missing") }))
        .route("/api/v1/start", get(|| async { failure("down") }))
        .route(
            "/fail/{kind}",
            get(|axum::extract::Path(kind): axum::extract::Path<String>| async move { failure(&kind) }),
        )
        .route("/panic", get(|| async { panic!("on purpose") as Response }))
        .route("/page", get(|_: Query<Page>| async {}))
        .route("/socket", get(|_: WebSocketUpgrade| async {}))
        .route(
            "/xml",
            get(|| async { (StatusCode::FORBIDDEN, [("content-type", "text/xml")], "<Response/>") }),
        )
        .route(
            "/json",
            post(|ApiJson(list): ApiJson<Vec<Candidate>>| async move { Data(list) }),
        )
        .route(
            "/maybe",
            post(|body: Option<ApiJson<Value>>| async move { Data(body.map(|ApiJson(value)| value)) }),
        )
        .route("/foreign", post(|body: axum::Json<Value>| async move { Data(body.0) }));
    Server::start(router, &config(&[("max_request_body_bytes", "100")]), &[])
}

#[tokio::test]
async fn a_success_carries_data_and_the_request_id() {
    let server = server();
    let response = server.get("/ok").header("X-Request-ID", "mine-1").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body, json!({ "data": { "a": 1 }, "meta": { "requestId": "mine-1" } }));
}

#[tokio::test]
async fn one_object_serves_both_audiences() {
    let server = server();
    let (status, body) = answer(server.get("/both").header("X-Request-ID", "r")).await;
    assert_eq!(status, 201);
    assert_eq!(
        body,
        json!({ "sessionId": "s", "data": { "sessionId": "s" }, "meta": { "requestId": "r" } })
    );
}

#[tokio::test]
async fn an_id_that_is_not_sane_is_replaced() {
    let server = server();
    for bad in ["", "two words", "\u{7f}", &"x".repeat(129), "é"] {
        let mut request = server.get("/id");
        if let Ok(value) = reqwest::header::HeaderValue::from_bytes(bad.as_bytes()) {
            request = request.header("X-Request-ID", value);
        }
        let response = request.send().await.unwrap();
        let echoed = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        assert_eq!(echoed.len(), 36, "{bad:?} gave {echoed:?}");
        assert_eq!(body["data"], json!(echoed));
    }
}

#[tokio::test]
async fn each_row_of_the_error_table_is_answered_as_written() {
    let server = server();
    let rows = [
        ("bad", 400, "BAD_REQUEST"),
        ("key", 401, "UNAUTHORIZED"),
        ("forbidden", 403, "FORBIDDEN"),
        ("missing", 404, "NOT_FOUND"),
        ("conflict", 409, "CONFLICT"),
        ("invalid", 422, "VALIDATION_ERROR"),
        ("limited", 429, "RATE_LIMIT_EXCEEDED"),
        ("bug", 500, "INTERNAL_ERROR"),
        ("down", 503, "SERVICE_UNAVAILABLE"),
    ];
    for (kind, status, code) in rows {
        let response = server.get(&format!("/fail/{kind}")).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let retry_after = response.headers().get("retry-after").cloned();
        assert_eq!(retry_after.is_some(), [429, 503].contains(&status), "{kind}");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], code);
        assert_eq!(body["error"]["requestId"], json!(id));
        assert!(
            body["error"]["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
        assert_eq!(body["error"].get("details").is_some(), kind == "invalid");
        assert_eq!(body.get("detail"), None);
    }
}

#[tokio::test]
async fn details_name_every_field() {
    let server = server();
    let (_, body) = answer(server.get("/fail/invalid")).await;
    let details = json!([{ "field": "sdp", "message": "is empty" }, { "field": "type", "message": "is not offer" }]);
    assert_eq!(body["error"]["details"], details);
}

#[tokio::test]
async fn retry_after_is_whole_seconds_rounded_up() {
    let server = server();
    let response = server.get("/fail/limited").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "2");
}

#[tokio::test]
async fn an_internal_error_tells_nothing() {
    let server = server();
    let text = server.get("/fail/bug").send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_server_lives() {
    let server = server();
    let (status, body) = answer(server.get("/panic")).await;
    assert_eq!((status, &body["error"]["code"]), (500, &json!("INTERNAL_ERROR")));
    assert!(!body.to_string().contains("on purpose"));
    assert_eq!(answer(server.get("/ok")).await.0, 200);
}

#[tokio::test]
async fn pipecat_routes_carry_detail_and_versioned_ones_do_not() {
    let server = server();
    let (_, body) = answer(server.get("/start")).await;
    assert_eq!(body["detail"], "no media node");
    let (_, body) = answer(server.post("/sessions/1/api/offer")).await;
    assert_eq!(body["detail"], body["error"]["message"]);
    let (_, body) = answer(server.get("/api/v1/start")).await;
    assert_eq!(body.get("detail"), None);
}

#[tokio::test]
async fn an_unknown_route_is_a_404_in_the_envelope() {
    let server = server();
    let (status, body) = answer(server.get("/nowhere")).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn a_wrong_method_is_a_405_with_code_bad_request() {
    let server = server();
    let response = server.post("/ok").send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert!(response.headers()["allow"].to_str().unwrap().contains("GET"));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "BAD_REQUEST");
}

#[tokio::test]
async fn a_body_announced_too_large_is_a_413_with_code_bad_request() {
    let server = server();
    let (status, body) = answer(server.post("/json").body("x".repeat(101))).await;
    assert_eq!((status, &body["error"]["code"]), (413, &json!("BAD_REQUEST")));
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_a_413_too() {
    let server = server();
    for path in ["/json", "/foreign"] {
        let chunks = futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("[1,2,3,4,5,6]")));
        let request = server.post(path).header("content-type", "application/json");
        let (status, body) = answer(request.body(reqwest::Body::wrap_stream(chunks))).await;
        assert_eq!((status, &body["error"]["code"]), (413, &json!("BAD_REQUEST")), "{path}");
    }
}

#[tokio::test]
async fn a_body_at_the_limit_passes() {
    let server = server();
    let text = format!("[{}]", " ".repeat(98));
    assert_eq!(answer(server.post("/json").body(text)).await.0, 200);
}

#[tokio::test]
async fn junk_instead_of_json_is_a_400_that_says_where() {
    let server = server();
    for junk in ["{", "nonsense", "[] []", "", "  ", "\u{0}"] {
        let (status, body) = answer(server.post("/json").body(junk)).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("BAD_REQUEST")),
            "{junk:?}: {body}"
        );
    }
    let (_, body) = answer(server.post("/json").body("[\n nonsense]")).await;
    assert!(body["error"]["message"].as_str().unwrap().contains("line 2"), "{body}");
}

#[tokio::test]
async fn json_of_another_shape_is_a_422_naming_the_field() {
    let server = server();
    let text = r#"[{"sdp_mid":"0","index":1},{"sdp_mid":"0","index":"x"}]"#;
    let (status, body) = answer(server.post("/json").body(text)).await;
    assert_eq!((status, &body["error"]["code"]), (422, &json!("VALIDATION_ERROR")));
    assert_eq!(body["error"]["details"][0]["field"], "[1].index");
}

#[tokio::test]
async fn an_optional_body_may_be_empty_but_not_junk() {
    let server = server();
    assert_eq!(answer(server.post("/maybe")).await.1["data"], Value::Null);
    assert_eq!(answer(server.post("/maybe").body("{}")).await.1["data"], json!({}));
    assert_eq!(answer(server.post("/maybe").body("{")).await.0, 400);
}

#[tokio::test]
async fn what_axum_refuses_itself_is_in_the_envelope() {
    let server = server();
    let (status, body) = answer(server.get("/page?limit=x")).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("BAD_REQUEST")));
    let (status, body) = answer(server.get("/socket")).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("BAD_REQUEST")));
    let (status, body) = answer(
        server
            .post("/foreign")
            .header("content-type", "application/json")
            .body("{"),
    )
    .await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("BAD_REQUEST")));
}

#[tokio::test]
async fn an_answer_with_its_own_content_type_is_left_alone() {
    let server = server();
    let response = server.get("/xml").send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(response.text().await.unwrap(), "<Response/>");
}
