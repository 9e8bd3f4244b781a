//! Webhooks are their provider's, fresh, and come once; anything else is refused and counted.

use axum::body::Body;
use axum::http::Request;
use axum::http::request::Builder;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{Node, Plane, Switch, encoded, unix_now};

const BODY: &str = "CallSid=id-1&CallUUID=id-1&From=%2B15550001111&To=%2B15552223333";

fn hmac(key: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn telnyx_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn telnyx_public_key() -> String {
    STANDARD.encode(telnyx_key().public_key())
}

fn post(path: &str) -> Builder {
    Request::post(path)
        .header("host", "voice.example.com")
        .header("content-type", "application/x-www-form-urlencoded")
}

/// A webhook as the provider signs it at a time given in Unix seconds; `serial` makes its nonce.
fn signed(provider: &str, at: u64, serial: u32) -> Request<Body> {
    let request = match provider {
        "telnyx" => {
            let signature = telnyx_key().sign(format!("{at}|{BODY}").as_bytes());
            // Telnyx signs body and time: two requests of one second are the same.
            post("/telephony/telnyx")
                .header("telnyx-timestamp", at)
                .header("telnyx-signature-ed25519", STANDARD.encode(signature))
        }
        "plivo" => {
            let text = "http://voice.example.com/telephony/plivo?\
                        CallSidid-1CallUUIDid-1From+15550001111To+15552223333";
            let signature = STANDARD.encode(hmac("plivo-token", &format!("{text}.{serial}")));
            post("/telephony/plivo")
                .header("x-plivo-signature-v3-nonce", serial)
                .header("x-plivo-signature-v3", signature)
        }
        "vonage" => {
            let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
            let hash = hex::encode(Sha256::digest(BODY));
            let claims = json!({"iat": at, "jti": serial.to_string(), "iss": "Vonage", "payload_hash": hash});
            let token = format!("{}.{}", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims));
            let signature = URL_SAFE_NO_PAD.encode(hmac("vonage-secret", &token));
            post("/telephony/vonage").header("authorization", format!("Bearer {token}.{signature}"))
        }
        _ => post("/telephony/exotel?secret=exotel-secret"),
    };
    request.body(Body::from(BODY)).unwrap()
}

async fn plane(store: &std::sync::Arc<Switch>, more: &[(&str, &str)]) -> Plane {
    let key = telnyx_public_key();
    let secrets = [
        ("telnyx.public_key", key.as_str()),
        ("api_keys.plivo", "plivo-token"),
        ("api_keys.vonage", "vonage-secret"),
        ("exotel.webhook_secret", "exotel-secret"),
    ];
    Plane::start(store, &[&secrets, more].concat()).await
}

async fn count(plane: &Plane, provider: &str, outcome: &str) -> u64 {
    let text = plane.get("/metrics").await.text;
    let name = format!("telephony_webhooks_total{{outcome=\"{outcome}\",provider=\"{provider}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name}")).parse().unwrap()
}

#[tokio::test]
async fn what_a_provider_signed_is_taken_once_and_a_replay_reserves_nothing() {
    for provider in ["telnyx", "plivo", "vonage"] {
        let store = Switch::new();
        let plane = plane(&store, &[]).await;
        let node = Node::start(&store, "n1").await;
        let now = unix_now();
        let replayed = count(&plane, provider, "replayed").await;

        let first = plane.send(signed(provider, now, 1)).await;
        assert_eq!(first.status, 200, "{provider}: {}", first.text);
        let again = plane.send(signed(provider, now, 1)).await;
        let message = again.error(403, "FORBIDDEN");

        assert!(message.contains("received before"), "{provider}: {message}");
        assert_eq!(node.created().len(), 1, "{provider}");
        assert!(count(&plane, provider, "replayed").await > replayed, "{provider}");
        assert_eq!(plane.send(signed(provider, now + 1, 2)).await.status, 200, "{provider}");
    }
}

#[tokio::test]
async fn a_replay_is_refused_by_every_instance() {
    let store = Switch::new();
    let (first, second) = (plane(&store, &[]).await, plane(&store, &[]).await);
    let _node = Node::start(&store, "n1").await;
    let now = unix_now();

    assert_eq!(first.send(signed("vonage", now, 1)).await.status, 200);
    second.send(signed("vonage", now, 1)).await.error(403, "FORBIDDEN");
}

#[tokio::test]
async fn what_was_signed_long_ago_or_by_a_clock_ahead_is_refused_as_expired() {
    let store = Switch::new();
    let plane = plane(&store, &[]).await;
    let _node = Node::start(&store, "n1").await;
    let now = unix_now();
    for provider in ["telnyx", "vonage"] {
        let before = count(&plane, provider, "expired").await;
        for at in [now - 3600, now + 3600] {
            plane.send(signed(provider, at, 1)).await.error(403, "FORBIDDEN");
        }
        assert!(count(&plane, provider, "expired").await >= before + 2, "{provider}");
    }
}

#[tokio::test]
async fn forged_and_unsigned_webhooks_are_refused() {
    let store = Switch::new();
    let plane = plane(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    for (provider, header) in [
        ("telnyx", "telnyx-signature-ed25519"),
        ("plivo", "x-plivo-signature-v3"),
        ("vonage", "authorization"),
    ] {
        let (missing, wrong) = (
            count(&plane, provider, "missing").await,
            count(&plane, provider, "wrong").await,
        );
        let mut unsigned = signed(provider, unix_now(), 1);
        unsigned.headers_mut().remove(header);
        plane.send(unsigned).await.error(403, "FORBIDDEN");
        let mut changed = signed(provider, unix_now(), 1);
        *changed.body_mut() = Body::from(BODY.replace("1111", "9999"));
        plane.send(changed).await.error(403, "FORBIDDEN");
        assert!(count(&plane, provider, "missing").await > missing, "{provider}");
        assert!(count(&plane, provider, "wrong").await > wrong, "{provider}");
    }
    for path in [
        "/telephony/exotel",
        "/telephony/exotel?secret=guess",
        "/telephony/exotel?secret=",
    ] {
        let request = post(path).body(Body::from(BODY)).unwrap();
        plane.send(request).await.error(403, "FORBIDDEN");
    }
    assert!(node.created().is_empty(), "a refused webhook reserves nothing");
}

#[tokio::test]
async fn exotels_secret_opens_and_stays_out_of_everything_else() {
    let store = Switch::new();
    let plane = plane(&store, &[]).await;
    let node = Node::start(&store, "n1").await;

    let answer = plane.send(signed("exotel", 0, 0)).await;

    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains("exotel-secret"), "{}", answer.text);
    assert!(!node.created()[0].body_json.contains("exotel-secret"));
}

#[tokio::test]
async fn vonages_get_is_vouched_for_by_its_query() {
    let store = Switch::new();
    let plane = plane(&store, &[]).await;
    let _node = Node::start(&store, "n1").await;
    let get = |hashed: &str, jti: &str| {
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let claims = json!({"iat": unix_now(), "jti": jti, "payload_hash": hex::encode(Sha256::digest(hashed))});
        let token = format!("{}.{}", part(json!({"alg": "HS256"})), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(hmac("vonage-secret", &token));
        Request::get(format!(
            "/telephony/vonage?uuid=id-1&from={}&plan=a%20b",
            encoded("1555")
        ))
        .header("authorization", format!("Bearer {token}.{signature}"))
        .body(Body::empty())
        .unwrap()
    };

    let answer = plane
        .send(get(r#"{"uuid":"id-1","from":"1555","plan":"a b"}"#, "a"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let other = get(r#"{"uuid":"id-2","from":"1555","plan":"a b"}"#, "b");
    plane.send(other).await.error(403, "FORBIDDEN");
}

#[tokio::test]
async fn without_a_secret_or_when_that_was_asked_for_nothing_is_checked_and_that_is_counted() {
    let store = Switch::new();
    let open = Plane::start(&store, &[]).await;
    let told = plane(&store, &[("telephony.verify_signatures", "false")]).await;
    let _node = Node::start(&store, "n1").await;
    for provider in ["telnyx", "plivo", "vonage", "exotel"] {
        let before = count(&open, provider, "unchecked").await;
        for plane in [&open, &told] {
            let request = post(&format!("/telephony/{provider}")).body(Body::from(BODY)).unwrap();
            assert_eq!(plane.send(request).await.status, 200, "{provider}");
        }
        assert!(count(&open, provider, "unchecked").await >= before + 2, "{provider}");
    }
}

#[tokio::test]
async fn while_the_store_is_away_callers_hear_an_apology_and_no_replay_slips_through() {
    let store = Switch::new();
    let plane = plane(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    store.switch(false);

    let answer = plane.send(signed("telnyx", unix_now(), 1)).await;

    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("<Say>We are sorry,"), "{}", answer.text);
    assert!(node.created().is_empty());
}

#[tokio::test]
async fn plivo_behind_a_trusted_proxy_signs_the_public_url() {
    let store = Switch::new();
    let plane = plane(&store, &[("proxy_host", "voice.example.com")]).await;
    let _node = Node::start(&store, "n1").await;
    // Signed for http, called by https.
    plane.send(signed("plivo", 0, 1)).await.error(403, "FORBIDDEN");

    let text = "https://voice.example.com/telephony/plivo?plan=gold.CallUUIDid-1";
    let request = post("/telephony/plivo?plan=gold")
        .header("x-plivo-signature-v3-nonce", "n")
        .header(
            "x-plivo-signature-ma-v3",
            STANDARD.encode(hmac("plivo-token", &format!("{text}.n"))),
        )
        .body(Body::from("CallUUID=id-1"))
        .unwrap();
    assert_eq!(plane.send(request).await.status, 200);
}
