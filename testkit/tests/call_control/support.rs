//! A client on a scripted provider.

use carriers::{Answer, Carriers, PlaceCall, Provider};
use service_kit::config::{Config, Profile, Sources, load};
use voxray_testkit::carriers::CarrierServer;

pub const CALL: &str = "call-1";
pub const NUMBER: &str = "+14155550100";

pub fn config(settings: &[(String, String)], more: &[(&str, &str)]) -> Config {
    let more = more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let sources = Sources {
        flags: settings.iter().cloned().chain(more).collect(),
        ..Sources::default()
    };
    load(&sources, Profile::SingleProcess).unwrap().config
}

/// A scripted provider and the client that is configured for it.
pub async fn provider(provider: Provider, more: &[(&str, &str)]) -> (CarrierServer, Carriers) {
    let server = CarrierServer::start(provider).await.unwrap();
    let carriers = Carriers::from_config(&config(&server.settings(), more)).unwrap();
    (server, carriers)
}

pub fn outbound(provider: Provider) -> PlaceCall {
    PlaceCall {
        to: NUMBER.to_owned(),
        from: "+14155550199".to_owned(),
        answer: match provider {
            Provider::Twilio | Provider::Telnyx | Provider::Vonage => {
                Answer::Stream("wss://media.example.com/t?a&b".to_owned())
            }
            Provider::Plivo => Answer::Document("https://voice.example.com/answer".to_owned()),
            Provider::Exotel => Answer::Flow,
        },
        status_url: Some("https://voice.example.com/status".to_owned()),
        machine_detection: true,
        reference: Some("session-1".to_owned()),
    }
}

/// What stands between these two.
pub fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before} in {text}"));
    rest.split_once(after).unwrap().0
}
