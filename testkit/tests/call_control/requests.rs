//! What each provider is asked.

use std::time::SystemTime;

use carriers::{CarrierError, Dial, Origin, Provider, TransferSeal};
use serde_json::json;
use service_kit::config::Secret;
use voxray_testkit::carriers::Asked;

use crate::support::{CALL, NUMBER, outbound, provider};

fn hangs_up() -> impl Iterator<Item = Provider> {
    Provider::ALL.into_iter().filter(|provider| provider.hangs_up())
}

#[tokio::test]
async fn every_provider_that_can_ends_the_call_it_is_told() {
    for name in hangs_up() {
        let (server, carriers) = provider(name, &[]).await;
        carriers.hang_up(name.name(), CALL).await.unwrap();
        let asked = server.request(0).await.unwrap().asked;
        assert_eq!(asked, Asked::HangUp { call: CALL.to_owned() }, "{name:?}");
    }
}

#[tokio::test]
async fn a_call_that_has_ended_already_is_ended_successfully_but_cannot_be_transferred() {
    for name in hangs_up() {
        let (server, carriers) = provider(name, &[]).await;
        server.end_call(CALL);
        carriers.hang_up(name.name(), CALL).await.unwrap();
        let transfer = carriers.transfer(name.name(), CALL, NUMBER, None).await;
        assert!(
            matches!(transfer, Err(CarrierError::NotFound)),
            "{name:?}: {transfer:?}"
        );
    }
}

#[tokio::test]
async fn a_call_is_transferred_to_the_number_that_is_named() {
    for name in [Provider::Twilio, Provider::Telnyx, Provider::Vonage] {
        let (server, carriers) = provider(name, &[]).await;
        carriers.transfer(name.name(), CALL, NUMBER, None).await.unwrap();
        let to = if name == Provider::Vonage {
            "14155550100"
        } else {
            NUMBER
        };
        let expected = Asked::Transfer {
            call: CALL.to_owned(),
            to: to.to_owned(),
        };
        assert_eq!(server.request(0).await.unwrap().asked, expected, "{name:?}");
    }
}

#[tokio::test]
async fn plivo_is_given_a_url_of_ours_that_hides_the_number_from_everyone_else() {
    let (server, carriers) = provider(Provider::Plivo, &[("service_token", "deployment")]).await;
    carriers.transfer("plivo", CALL, NUMBER, None).await.unwrap();
    let Asked::Transfer { to, .. } = server.request(0).await.unwrap().asked else {
        panic!("no transfer");
    };
    let sealed = to
        .strip_prefix("https://voice.example.com/telephony/plivo/transfer/")
        .unwrap();
    assert!(!sealed.contains("4155550100"));
    let opened: Option<Dial> = TransferSeal::new(&Secret::new("deployment")).open(sealed, SystemTime::now());
    assert_eq!(opened.map(|dial| dial.to).as_deref(), Some(NUMBER));
}

#[tokio::test]
async fn every_provider_is_told_how_long_to_ring_and_where_to_say_what_came_of_it() {
    let origin = Origin {
        session_id: "session-1".to_owned(),
        call_id: CALL.to_owned(),
        token: "secret-token".to_owned(),
    };
    // A host name may be given as a URL.
    let reachable = [
        ("proxy_host", "https://voice.example.com/"),
        ("telephony.transfer_ring_secs", "25"),
        ("service_token", "deployment"),
    ];
    for name in Provider::ALL.into_iter().filter(|provider| provider.transfers()) {
        let (server, carriers) = provider(name, &reachable).await;
        carriers
            .transfer(name.name(), CALL, NUMBER, Some(&origin))
            .await
            .unwrap();
        let request = server.request(0).await.unwrap();
        let seal = TransferSeal::new(&Secret::new("deployment"));
        let (url, ring) = match name {
            Provider::Twilio => {
                let twiml = request.field("Twiml");
                assert!(twiml.contains(r#"<Dial timeout="25" action="#), "{twiml}");
                let (_, rest) = twiml.split_once("action=\"").unwrap();
                (rest.split_once('"').unwrap().0.to_owned(), json!(25))
            }
            Provider::Telnyx => (
                request.text("/webhook_url").to_owned(),
                request.json["timeout_secs"].clone(),
            ),
            Provider::Plivo => {
                let (_, sealed) = request.text("/aleg_url").rsplit_once('/').unwrap();
                let dial: Dial = seal.open(sealed, SystemTime::now()).unwrap();
                (dial.report_to.unwrap(), json!(25))
            }
            Provider::Vonage => {
                let connect = &request.json["destination"]["ncco"][0];
                assert_eq!(connect["eventType"], "synchronous");
                (
                    connect["eventUrl"][0].as_str().unwrap().to_owned(),
                    connect["timeout"].clone(),
                )
            }
            Provider::Exotel => panic!("it has no transfers"),
        };
        assert_eq!(ring, 25, "{name:?}");
        assert!(!url.contains("secret-token"), "{url}");
        let sealed = url
            .strip_prefix(&format!(
                "https://voice.example.com/telephony/{}/transferred/",
                name.name()
            ))
            .unwrap();
        assert_eq!(seal.open(sealed, SystemTime::now()).as_ref(), Some(&origin), "{name:?}");
    }
}

#[tokio::test]
async fn digits_are_sent_where_the_provider_can() {
    for name in Provider::ALL {
        let (server, carriers) = provider(name, &[]).await;
        let sent = carriers.send_dtmf(name.name(), CALL, "12*#").await;
        if name.sends_dtmf() {
            sent.unwrap();
            let expected = Asked::SendDtmf {
                call: CALL.to_owned(),
                digits: "12*#".to_owned(),
            };
            assert_eq!(server.request(0).await.unwrap().asked, expected, "{name:?}");
        } else {
            assert!(
                matches!(sent, Err(CarrierError::NotSupported { .. })),
                "{name:?}: {sent:?}"
            );
            assert!(server.requests().is_empty());
        }
    }
}

#[tokio::test]
async fn every_provider_places_a_call_and_names_it() {
    for name in Provider::ALL {
        let (server, carriers) = provider(name, &[]).await;
        let call = carriers.place_call(name.name(), &outbound(name)).await.unwrap();
        assert_eq!(call.call_id, format!("{}-call-1", name.name()));
        let bare = name == Provider::Vonage;
        let number = |plus: &str| {
            if bare {
                plus.trim_start_matches('+').to_owned()
            } else {
                plus.to_owned()
            }
        };
        let expected = Asked::Place {
            to: number(NUMBER),
            from: number("+14155550199"),
        };
        assert_eq!(server.request(0).await.unwrap().asked, expected, "{name:?}");
    }
}

#[tokio::test]
async fn answering_machines_are_listened_for_in_each_provider_s_own_way() {
    let status = "https://voice.example.com/status";
    let (twilio, carriers) = provider(Provider::Twilio, &[]).await;
    carriers
        .place_call("twilio", &outbound(Provider::Twilio))
        .await
        .unwrap();
    let asked = twilio.request(0).await.unwrap();
    assert_eq!(asked.field("MachineDetection"), "DetectMessageEnd");
    assert_eq!(asked.field("AsyncAmdStatusCallback"), status);
    assert!(
        asked
            .field("Twiml")
            .contains(r#"<Stream url="wss://media.example.com/t?a&amp;b"/>"#)
    );

    let (telnyx, carriers) = provider(Provider::Telnyx, &[]).await;
    carriers
        .place_call("telnyx", &outbound(Provider::Telnyx))
        .await
        .unwrap();
    let asked = telnyx.request(0).await.unwrap();
    assert_eq!(asked.text("/answering_machine_detection"), "detect_beep");
    assert_eq!(asked.text("/webhook_url"), status);

    let (plivo, carriers) = provider(Provider::Plivo, &[]).await;
    carriers.place_call("plivo", &outbound(Provider::Plivo)).await.unwrap();
    let asked = plivo.request(0).await.unwrap();
    assert_eq!(asked.text("/machine_detection_url"), status);

    let (vonage, carriers) = provider(Provider::Vonage, &[]).await;
    carriers
        .place_call("vonage", &outbound(Provider::Vonage))
        .await
        .unwrap();
    let asked = vonage.request(0).await.unwrap();
    // The others hold the stream back until it is known who has answered.
    assert_eq!(asked.text("/advanced_machine_detection/mode"), "default");
}

#[tokio::test]
async fn an_answer_that_the_provider_does_not_know_is_refused_before_anything_is_sent() {
    for (name, other) in [
        (Provider::Plivo, Provider::Twilio),
        (Provider::Telnyx, Provider::Plivo),
        (Provider::Exotel, Provider::Vonage),
        (Provider::Twilio, Provider::Exotel),
    ] {
        let (server, carriers) = provider(name, &[]).await;
        let refused = carriers.place_call(name.name(), &outbound(other)).await;
        assert!(
            matches!(refused, Err(CarrierError::NotSupported { .. })),
            "{name:?}: {refused:?}"
        );
        assert!(server.requests().is_empty());
    }
}
