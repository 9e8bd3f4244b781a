//! Providers that refuse, are busy, or say nothing.

use std::time::Duration;

use carriers::{CarrierError, Carriers, Provider};
use voxray_testkit::carriers::Fault;

use crate::support::{CALL, NUMBER, config, outbound, provider};

/// Short, so that a provider that says nothing costs the test little.
const IMPATIENT: (&str, &str) = ("telephony.request_timeout_secs", "0.2");

const STEERED: [Provider; 4] = [Provider::Twilio, Provider::Telnyx, Provider::Plivo, Provider::Vonage];

#[tokio::test]
async fn wrong_credentials_are_named_and_not_tried_again() {
    for name in [Provider::Twilio, Provider::Telnyx, Provider::Plivo] {
        let key = format!("api_keys.{}", name.name());
        let (server, carriers) = provider(name, &[(&key, "wrong")]).await;
        let error = carriers.hang_up(name.name(), CALL).await.unwrap_err();
        assert!(
            matches!(error, CarrierError::Unauthorized { status: 401, .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(&key), "{error}");
        assert_eq!(server.requests().len(), 1, "{name:?}");
    }
    let (server, carriers) = provider(Provider::Vonage, &[("vonage.application_id", "another")]).await;
    let error = carriers.hang_up("vonage", CALL).await.unwrap_err();
    assert!(error.to_string().contains("vonage.private_key"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_is_not_configured_is_named_and_nothing_is_sent() {
    for (name, key) in [
        ("twilio", "twilio.account_sid"),
        ("telnyx", "api_keys.telnyx"),
        ("plivo", "plivo.auth_id"),
        ("vonage", "vonage.application_id"),
    ] {
        let carriers = Carriers::from_config(&config(&[], &[])).unwrap();
        let error = carriers.hang_up(name, CALL).await.unwrap_err();
        assert!(
            matches!(error, CarrierError::NotConfigured { key: missing, .. } if missing == key),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_is_busy_is_asked_again_when_it_says_so() {
    for name in STEERED {
        let (server, carriers) = provider(name, &[]).await;
        server.fail([Fault::RateLimited(Some(0)), Fault::Status(503)]);
        carriers.hang_up(name.name(), CALL).await.unwrap();
        assert_eq!(server.requests().len(), 3, "{name:?}");
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_a_caller_would() {
    let (server, carriers) = provider(Provider::Twilio, &[]).await;
    server.fail([Fault::RateLimited(Some(60))]);
    let error = carriers.hang_up("twilio", CALL).await.unwrap_err();
    let asked_for = Some(Duration::from_secs(60));
    assert!(
        matches!(error, CarrierError::RateLimited { retry_after } if retry_after == asked_for),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_provider_that_stays_away_is_given_up_after_three_attempts() {
    let (server, carriers) = provider(Provider::Plivo, &[]).await;
    server.fail_always(Some(Fault::Status(502)));
    let error = carriers.hang_up("plivo", CALL).await.unwrap_err();
    assert!(matches!(error, CarrierError::Unavailable { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_hang_up_whose_answer_is_lost_is_sent_again() {
    for name in STEERED {
        let (server, carriers) = provider(name, &[IMPATIENT]).await;
        server.fail([Fault::NoAnswer]);
        carriers.hang_up(name.name(), CALL).await.unwrap();
        assert_eq!(server.requests().len(), 2, "{name:?}");
    }
}

#[tokio::test]
async fn a_later_refusal_says_nothing_of_an_attempt_that_may_have_worked() {
    let (server, carriers) = provider(Provider::Telnyx, &[IMPATIENT]).await;
    server.fail([Fault::NoAnswer, Fault::Status(422)]);
    let error = carriers.transfer("telnyx", CALL, NUMBER, None).await.unwrap_err();
    assert!(matches!(error, CarrierError::TimedOut(_)), "{error:?}");
    assert!(error.may_have_been_done());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_new_call_whose_answer_is_lost_is_never_placed_twice() {
    for name in Provider::ALL {
        let (server, carriers) = provider(name, &[IMPATIENT]).await;
        server.fail([Fault::NoAnswer]);
        let error = carriers.place_call(name.name(), &outbound(name)).await.unwrap_err();
        assert!(matches!(error, CarrierError::TimedOut(_)), "{name:?}: {error:?}");
        server.fail([Fault::Status(500)]);
        let error = carriers.place_call(name.name(), &outbound(name)).await.unwrap_err();
        assert!(matches!(error, CarrierError::Unavailable { .. }), "{name:?}: {error:?}");
        assert_eq!(server.requests().len(), 2, "{name:?}");
    }
}

#[tokio::test]
async fn a_new_call_that_was_surely_not_placed_is_tried_again() {
    let (server, carriers) = provider(Provider::Telnyx, &[]).await;
    server.fail([Fault::RateLimited(None)]);
    carriers
        .place_call("telnyx", &outbound(Provider::Telnyx))
        .await
        .unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_unavailable() {
    let settings = {
        let (server, _) = provider(Provider::Twilio, &[]).await;
        server.settings()
    };
    let carriers = Carriers::from_config(&config(&settings, &[])).unwrap();
    let error = carriers.transfer("twilio", CALL, NUMBER, None).await.unwrap_err();
    assert!(matches!(error, CarrierError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn ids_and_numbers_that_are_none_never_reach_a_provider() {
    let (server, carriers) = provider(Provider::Plivo, &[]).await;
    // An id like this would end every call of the account.
    carriers.hang_up("plivo", "..").await.unwrap();
    carriers.hang_up("plivo", "").await.unwrap();
    assert!(matches!(
        carriers.transfer("plivo", CALL, "call me", None).await,
        Err(CarrierError::Invalid(_))
    ));
    assert!(matches!(
        carriers.send_dtmf("plivo", CALL, "1 2").await,
        Err(CarrierError::Invalid(_))
    ));
    assert!(server.requests().is_empty());
}

#[test]
fn a_private_key_that_is_none_stops_the_start() {
    for key in ["x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        let error = Carriers::from_config(&config(&[], &[("vonage.private_key", key)])).unwrap_err();
        assert!(error.to_string().contains("vonage.private_key"), "{error}");
    }
}
