//! How long anything of a phone stream is waited for, by the usual times and not shortened ones: in virtual time.

use std::time::Duration;

use media_core::wire::telephony::Provider;
use tokio::time::Instant;
use voxray_testkit::carriers::{Asked, CarrierServer};
use voxray_testkit::scripted::Script;

use crate::virtual_time::{Manners, Node, PROMISED, gone, metric};

const ALL: [Provider; 6] = [
    Provider::Twilio,
    Provider::Telnyx,
    Provider::Plivo,
    Provider::Exotel,
    Provider::Vonage,
    Provider::Genesys,
];

fn protocol_errors() -> u64 {
    metric("voxray_protocol_errors_total{transport=\"telephony\"}")
}

/// Between two moments; the clock goes in milliseconds.
fn is_about(measured: Duration, expected: Duration) -> bool {
    measured >= expected && measured <= expected + Duration::from_millis(50)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_say_within_5_s_whose_it_is_is_closed_with_the_reason() {
    let node = Node::start(Script::new().providers(), &[]).await;
    for provider in ALL {
        let before = protocol_errors();
        let since = Instant::now();
        let mut phone = node.dial(provider).await;

        let closed = phone.closed().await;

        assert_eq!(closed, (1008, "no start message within 5 s".to_owned()), "{provider:?}");
        assert!(is_about(since.elapsed(), Duration::from_secs(5)), "{provider:?}");
        gone(&node.media, Instant::now())
            .await
            .as_promised(&format!("{provider:?}"));
        assert_eq!(protocol_errors(), before + 1, "{provider:?}");
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_silent_for_10_s_is_dead_and_its_provider_is_told() {
    let twilio = CarrierServer::start(carriers::Provider::Twilio).await.unwrap();
    let node = Node::start(Script::new().providers(), &twilio.settings()).await;
    for provider in ALL {
        let before = protocol_errors();
        let since = Instant::now();
        let mut phone = node.call(provider).await;

        let silent = async {
            while node.media.sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            since.elapsed()
        };
        let died = phone.reads(Manners::OnlyReads, silent).await;

        let socket_silence = Duration::from_secs(10);
        assert!(is_about(died, socket_silence), "{provider:?}: {died:?}");
        gone(&node.media, since + socket_silence)
            .await
            .as_promised(&format!("{provider:?}, silent"));
        assert_eq!(protocol_errors(), before + 1, "{provider:?}");
    }
    let asked: Vec<Asked> = twilio.requests().into_iter().map(|request| request.asked).collect();
    let hang_up = Asked::HangUp { call: "CA1".to_owned() };
    assert_eq!(asked, [hang_up], "the one provider that has an account here");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_cut_is_waited_for_10_s_and_then_its_call_is_gone() {
    let node = Node::start(Script::new().providers(), &[]).await;
    for provider in ALL {
        let phone = node.call(provider).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let since = Instant::now();

        drop(phone);
        let gone = gone(&node.media, since).await;

        // Genesys cannot pick up a session.
        let hold = if provider == Provider::Genesys {
            Duration::ZERO
        } else {
            Duration::from_secs(10)
        };
        assert!(is_about(gone.session, hold), "{provider:?}: {gone:?}");
        assert!(gone.socket <= hold + PROMISED, "{provider:?}: {gone:?}");
    }
    node.stop().await;
}
