//! A call that the server places: at the provider, to its stream, to its end.

use carriers::Provider;
use media_svc::transport::Timeouts;
use serde_json::{Value, json};
use service_kit::config::{Secret, Secrets};
use voxray_testkit::carriers::{ACCOUNT, Asked, CarrierServer, TOKEN};
use voxray_testkit::scripted::{Answer, Script};

use crate::support::{Server, eventually, far_end, open, send, until};

async fn session(server: &Server, id: &str) -> Value {
    let answer = server.get(&format!("/sessions/{id}")).await;
    answer.json::<Value>().await.unwrap()["data"].clone()
}

async fn post_form(server: &Server, url: &str, fields: &[(&str, &str)]) -> reqwest::Response {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request = server
        .http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    request.body(body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placed_call_rings_is_answered_talks_and_ends_and_all_of_it_can_be_seen() {
    let twilio = CarrierServer::start(Provider::Twilio).await.unwrap();
    let base = twilio.base_url();
    let script = Script::new().answers(Answer::say("Hello."));
    let server = Server::start_with(script, Timeouts::default(), |config| {
        config.agent.base_urls.insert("twilio".to_owned(), base);
        config.telephony.twilio_account_sid = Some(ACCOUNT.to_owned());
        config.telephony.verify_signatures = false;
        config.secrets = Secrets::new([("twilio".to_owned(), Secret::new(TOKEN))].into(), Vec::new()).into();
    })
    .await;

    let wanted = json!({"provider": "twilio", "to": "+15550001111", "from": "+15552223333", "machineDetection": false});
    let answer = server
        .http
        .post(format!("{}/calls", server.base))
        .json(&wanted)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let placed: Value = answer.json().await.unwrap();
    let (id, call_id) = (
        placed["data"]["sessionId"].as_str().unwrap(),
        placed["data"]["callId"].as_str().unwrap(),
    );
    let asked = twilio.request(0).await.unwrap();
    assert_eq!(
        asked.asked,
        Asked::Place {
            to: "+15550001111".to_owned(),
            from: "+15552223333".to_owned(),
        }
    );
    let field = |name: &str| asked.form.iter().find(|(key, _)| key == name).unwrap().1.clone();
    let (answer_url, status_url) = (field("Url"), field("StatusCallback"));

    post_form(&server, &status_url, &[("CallSid", call_id), ("CallStatus", "ringing")]).await;
    let ringing = session(&server, id).await;
    assert_eq!(
        (&ringing["state"], &ringing["call"]["state"]),
        (&json!("reserved"), &json!("ringing"))
    );

    let document = post_form(&server, &answer_url, &[("CallSid", call_id)])
        .await
        .text()
        .await
        .unwrap();
    let from = document.find("ws://").unwrap_or_else(|| panic!("{document}"));
    let mut socket = open(document[from..].split('"').next().unwrap()).await;
    let mut far_end = far_end(call_id);
    send(&mut socket, far_end.start()).await;
    let greeted = until(&mut socket, |text| text.contains(r#""event":"media""#)).await;
    assert!(greeted, "the agent greets whoever answers");
    post_form(
        &server,
        &status_url,
        &[("CallSid", call_id), ("CallStatus", "in-progress")],
    )
    .await;
    let talking = session(&server, id).await;
    assert_eq!(
        (&talking["state"], &talking["call"]["state"]),
        (&json!("connected"), &json!("answered"))
    );

    send(&mut socket, far_end.stop()).await;
    server.is_idle().await;
    post_form(
        &server,
        &status_url,
        &[("CallSid", call_id), ("CallStatus", "completed")],
    )
    .await;
    eventually("the end can be seen", async || {
        let over = session(&server, id).await;
        over["state"] == "ended" && over["call"]["state"] == "completed" && over["callId"] == call_id
    })
    .await;
    server.stop().await;
}
