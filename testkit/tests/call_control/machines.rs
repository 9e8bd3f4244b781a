//! An outbound call that a machine answers: the provider's word goes from the control plane to the node that has the call.

use carriers::Provider;
use media_core::wire::telephony::Provider as WireProvider;
use serde_json::json;
use voxray_testkit::carriers::Asked;
use voxray_testkit::scripted::Script;
use voxray_testkit::wait::eventually;

use crate::server::{LIMIT, Phone, Server};
use crate::support::{NUMBER, between};

const FROM: &str = "+14155550199";
/// What the provider calls its first call.
const PLACED: &str = "twilio-call-1";
const MESSAGE: &str = "Please call us back.";
/// 20 characters at 50 ms, in samples.
const MESSAGE_SAMPLES: usize = 20 * 400;

#[tokio::test]
async fn a_machine_that_the_provider_reports_before_the_stream_begins_is_left_a_message() {
    let settings = [
        ("proxy_host", "voice.example.com"),
        ("telephony.verify_signatures", "false"),
        ("outbound.voicemail_message", MESSAGE),
    ];
    let server = Server::start_at(Provider::Twilio, Script::new(), &settings).await;
    let wanted = json!({"provider": "twilio", "to": NUMBER, "from": FROM});
    let (status, placed) = server.post("/calls", wanted).await;
    assert_eq!(
        (status, placed["data"]["callId"].as_str()),
        (201, Some(PLACED)),
        "{placed}"
    );
    let asked = server.carrier.request(0).await.unwrap();
    let path = |field| asked.field(field).strip_prefix("https://voice.example.com").unwrap();
    let (answer, report) = (path("Url"), path("AsyncAmdStatusCallback"));
    let (status, twiml) = server.webhook(answer, &[("CallSid", PLACED)]).await;
    assert_eq!(status, 200, "{twiml}");
    let stream = between(&twiml, "<Stream url=\"", "\"");

    let beep = [("CallSid", PLACED), ("AnsweredBy", "machine_end_beep")];
    assert_eq!(server.webhook(report, &beep).await.0, 204);
    let mut phone = Phone::open_for(WireProvider::Twilio, &server.socket(stream), PLACED).await;

    let heard = phone.hears(|_| false).await;
    assert!(heard.len() >= MESSAGE_SAMPLES, "{} samples", heard.len());
    server.is_idle().await;
    let hang_up = Asked::HangUp {
        call: PLACED.to_owned(),
    };
    eventually("the provider is told", LIMIT, || async {
        Ok(server.asked().contains(&hang_up).then_some(()))
    })
    .await
    .unwrap();
    server.stop().await;
}
