//! Webhooks as the phone providers' own libraries sign them, and answer documents as those libraries would write them.
//!
//! `testkit/references/webhooks.py` drives the libraries; nothing here computes a signature.

use std::process::Stdio;

use media_svc::transport::Timeouts;
use reqwest::Method;
use serde_json::{Value, json};
use service_kit::config::{Config, Secret, Secrets};
use tokio::io::AsyncWriteExt;
use voxray_testkit::scripted::Script;
use voxray_testkit::servers::tools::{tools_folder, workspace_root};

use crate::support::Server;

/// What the providers call, wherever the server is bound.
const PUBLIC: &str = "https://voice.example.com";
const TWILIO: &str = "twilio-auth-token";
const PLIVO: &str = "plivo-auth-token";
const VONAGE: &str = "a vonage signature secret of some length";
/// Seed of the Telnyx key pair.
const TELNYX: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

/// Lets the libraries do these jobs.
async fn references(jobs: &[Value]) -> Vec<Value> {
    let libraries = tools_folder().join("lib");
    assert!(
        libraries.join("plivo").is_dir(),
        "the libraries are missing: run `make tools`"
    );
    let mut python = tokio::process::Command::new("python3")
        .arg("-I")
        .arg(workspace_root().join("testkit/references/webhooks.py"))
        .arg(&libraries)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(json!(jobs).to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let done = python.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let results: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(results.len(), jobs.len());
    results
}

async fn server(change: impl FnOnce(&mut Config)) -> Server {
    let key = references(&[json!({"do": "telnyx_public_key", "secret": TELNYX})]).await;
    let key = service_kit::signatures::telnyx::public_key(key[0].as_str().unwrap()).unwrap();
    Server::start_with(Script::new(), Timeouts::default(), |config| {
        let keys = [("twilio", TWILIO), ("plivo", PLIVO), ("vonage", VONAGE)];
        let keys = keys.map(|(name, key)| (name.to_owned(), Secret::new(key)));
        config.secrets = Secrets::new(keys.into(), Vec::new()).into();
        config.telephony.telnyx_public_key = Some(key);
        config.telephony.proxy_host = Some("voice.example.com".to_owned());
        config.media.max_sessions = 100;
        change(config);
    })
    .await
}

/// A webhook, and the job that signs it.
struct Webhook {
    name: &'static str,
    method: Method,
    path: String,
    kind: &'static str,
    body: String,
    job: Value,
    /// Whether it is expected to be taken: when it is, a change of a byte must not be.
    taken: bool,
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

fn object(fields: &[(&str, &str)]) -> Value {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

const FORM: &str = "application/x-www-form-urlencoded";
const FIELDS: [(&str, &str); 6] = [
    ("CallSid", "CA1"),
    ("CallUUID", "4a4b-11"),
    ("From", "+15550001111"),
    ("To", "+15552223333"),
    ("CallerName", "Zoë & Søn, \"Ltd\"=?"),
    ("Digits", ""),
];

fn twilio(path: &str) -> Webhook {
    Webhook {
        name: "twilio",
        method: Method::POST,
        path: path.to_owned(),
        kind: FORM,
        body: form(&FIELDS),
        job: json!({"do": "twilio_sign", "secret": TWILIO, "url": format!("{PUBLIC}{path}"), "form": object(&FIELDS)}),
        taken: true,
    }
}

fn plivo(method: Method, path: &str, nonce: &str) -> Webhook {
    let is_post = method == Method::POST;
    let fields: &[_] = if is_post { &FIELDS } else { &[] };
    Webhook {
        name: "plivo",
        job: json!({"do": "plivo_sign", "secret": PLIVO, "url": format!("{PUBLIC}{path}"), "nonce": nonce,
            "method": method.as_str(), "form": object(fields)}),
        method,
        path: path.to_owned(),
        kind: if is_post { FORM } else { "" },
        body: form(fields),
        taken: true,
    }
}

fn telnyx(age: i64) -> Webhook {
    let body = form(&FIELDS);
    let taken = age.abs() < 300;
    Webhook {
        name: "telnyx",
        method: Method::POST,
        path: "/telephony/telnyx".to_owned(),
        kind: FORM,
        job: json!({"do": "telnyx_sign", "secret": TELNYX, "timestamp": now().saturating_add_signed(-age),
            "body": body, "fresh": taken}),
        body,
        taken,
    }
}

fn vonage(age: i64, jti: &str) -> Webhook {
    use sha2::Digest;
    let body = json!({"uuid": "u-1", "from": "15550001111", "to": "15552223333"}).to_string();
    let claims = json!({"iat": now().saturating_add_signed(-age), "jti": jti, "iss": "Vonage",
        "payload_hash": hex::encode(sha2::Sha256::digest(&body)), "api_key": "a1b2c3d", "application_id": "app"});
    Webhook {
        name: "vonage",
        method: Method::POST,
        path: "/telephony/vonage?plan=gold".to_owned(),
        kind: "application/json",
        body,
        job: json!({"do": "vonage_sign", "secret": VONAGE, "claims": claims, "fresh": age.abs() < 300}),
        taken: age.abs() < 300,
    }
}

async fn send(server: &Server, webhook: &Webhook, body: &str, headers: &Value) -> (u16, String) {
    let url = format!("{}{}", server.base, webhook.path);
    let mut request = server.http.request(webhook.method.clone(), url);
    if webhook.method == Method::POST {
        request = request.header("content-type", webhook.kind).body(body.to_owned());
    }
    for (name, value) in headers.as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_providers_own_libraries_sign_is_taken_and_what_is_changed_old_or_repeated_is_not() {
    let server = server(|_| {}).await;
    let webhooks = [
        twilio("/telephony/twilio"),
        twilio("/api/v1/telephony/twilio?plan=gold&name=Zo%C3%AB+%22Z%22"),
        plivo(Method::POST, "/telephony/plivo", "n1"),
        plivo(Method::POST, "/telephony/plivo?plan=gold&a=b%20c", "n2"),
        plivo(
            Method::GET,
            "/telephony/plivo?To=2&From=1&plan=gold&CallUUID=4a4b",
            "n3",
        ),
        telnyx(0),
        telnyx(200),
        telnyx(400),
        telnyx(-400),
        vonage(0, "j1"),
        vonage(200, "j2"),
        vonage(400, "j3"),
        vonage(-400, "j4"),
    ];
    let jobs: Vec<_> = webhooks.iter().map(|webhook| webhook.job.clone()).collect();
    let signatures = references(&jobs).await;

    for (number, (webhook, headers)) in webhooks.iter().zip(&signatures).enumerate() {
        let case = format!("{number}: {} {} {}", webhook.name, webhook.method, webhook.path);
        if webhook.method == Method::POST {
            let changed = webhook.body.replace("0001111", "0009999");
            assert_ne!(changed, webhook.body);
            let (status, text) = send(&server, webhook, &changed, headers).await;
            assert_eq!(status, 403, "{case}, changed: {text}");
        }
        let expected = if webhook.taken { 200 } else { 403 };
        let (status, text) = send(&server, webhook, &webhook.body, headers).await;
        assert_eq!(status, expected, "{case}: {text}");
        let (status, text) = send(&server, webhook, &webhook.body, headers).await;
        // Twilio signs neither a time nor a nonce.
        let again = if webhook.name == "twilio" { 200 } else { 403 };
        assert_eq!(status, again, "{case}, again: {text}");
    }
    // Slots that wait for a stream would hold the server up.
    server.end_all_sessions().await;
    server.stop().await;
}

/// The stream's URL, wherever the document has it.
fn stream_of(document: &str) -> String {
    let from = document
        .find("wss://")
        .unwrap_or_else(|| panic!("no stream in {document}"));
    document[from..].split(['"', '<']).next().unwrap().to_owned()
}

/// Where the provider asks what is next when the stream has ended.
fn next_of(document: &str) -> String {
    let from = document
        .find(PUBLIC)
        .unwrap_or_else(|| panic!("nobody to ask in {document}"));
    let next = document[from..].split(['"', '<']).next().unwrap().to_owned();
    assert!(next.contains("/stream/"), "{next}");
    next
}

fn open(config: &mut Config) {
    config.telephony.verify_signatures = false;
}

async fn answer(server: &Server, provider: &str, query: &str) -> String {
    let request = server.http.post(format!("{}/telephony/{provider}{query}", server.base));
    let fields = [
        ("CallSid", "CA1"),
        ("CallUUID", "CA1"),
        ("uuid", "CA1"),
        ("to", "15552223333"),
    ];
    let answer = request
        .header("content-type", FORM)
        .body(form(&fields))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{provider}");
    answer.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_that_connect_a_call_are_what_the_providers_own_libraries_write() {
    let server = server(open).await;
    let query = "?plan=gold&name=Zo%C3%AB+%22%3C%26%3E%22";
    let parameters = json!([["plan", "gold"], ["name", "Zoë \"<&>\""]]);
    let texml = json!({"bidirectionalMode": "rtp", "codec": "PCMU", "bidirectionalCodec": "PCMU"});
    let [twilio, telnyx, plivo, vonage] = [
        answer(&server, "twilio", query).await,
        answer(&server, "telnyx", query).await,
        answer(&server, "plivo", query).await,
        answer(&server, "vonage", query).await,
    ];

    let results = references(&[
        json!({"do": "twilio_connect", "document": twilio, "stream": stream_of(&twilio), "parameters": parameters,
            "connect": {"action": next_of(&twilio)}}),
        json!({"do": "twilio_connect", "document": telnyx, "stream": stream_of(&telnyx), "parameters": parameters,
            "attributes": texml, "next": next_of(&telnyx)}),
        json!({"do": "plivo_connect", "document": plivo, "stream": stream_of(&plivo), "headers": "plan=gold",
            "next": next_of(&plivo)}),
        json!({"do": "vonage_read", "document": vonage}),
    ])
    .await;

    assert_eq!(
        results[..3],
        [json!(true), json!(true), json!(true)],
        "{twilio}\n{telnyx}\n{plivo}"
    );
    assert_eq!(results[3], serde_json::from_str::<Value>(&vonage).unwrap());
    // Slots that wait for a stream would hold the server up.
    server.end_all_sessions().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_are_the_documents_for_a_call_that_nobody_takes() {
    const SAY: &str = "All lines are busy: \"please\" <hold> & try again.";
    const QUEUE: &str = "https://queue.example.com/?a=1&b=2";
    for redirect in [None, Some(QUEUE)] {
        let server = server(|config| {
            open(config);
            config.telephony.busy_message = SAY.to_owned();
            config.telephony.busy_redirect_url = redirect.map(str::to_owned);
            config.media.transports = vec![service_kit::config::MediaTransport::WebSocket];
        })
        .await;
        let (key, words) = redirect.map_or(("say", SAY), |url| ("redirect", url));
        let mut jobs = Vec::new();
        for (provider, job) in [
            ("twilio", "twilio_busy"),
            ("telnyx", "twilio_busy"),
            ("plivo", "plivo_busy"),
        ] {
            jobs.push(json!({"do": job, "document": answer(&server, provider, "").await, key: words}));
        }
        let vonage = answer(&server, "vonage", "").await;
        jobs.push(json!({"do": "vonage_read", "document": vonage}));

        let results = references(&jobs).await;

        assert_eq!(results[..3], [json!(true), json!(true), json!(true)], "{jobs:#?}");
        assert_eq!(results[3], serde_json::from_str::<Value>(&vonage).unwrap());
        // Slots that wait for a stream would hold the server up.
        server.end_all_sessions().await;
        server.stop().await;
    }
}
