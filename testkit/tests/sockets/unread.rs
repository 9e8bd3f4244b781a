//! Far ends that neither read nor close while the agent speaks, over real sockets.

use media_core::wire::telephony::Provider;
use tokio_tungstenite::{MaybeTlsStream, client_async};
use voxray_testkit::narrow;
use voxray_testkit::scripted::Script;

use crate::client::{PROTOBUF, client_ready};
use crate::support::{SHORT, Server, Socket as WebSocket, claims, eventually, far_end, send};

/// The agent speaks for longer than any test takes.
fn long_greeting() -> String {
    "And so it goes on and on. ".repeat(200)
}

async fn opened(server: &Server, url: &str) -> WebSocket {
    let connection = narrow::connect(&server.base).await.unwrap();
    client_async(url, MaybeTlsStream::Plain(connection)).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_far_end_neither_reads_nor_closes_ends_with_the_reason_and_is_archived() {
    let server = Server::start_with(Script::new(), SHORT, |config| {
        config.agent.greeting = Some(long_greeting());
    })
    .await;
    let client = claims("websocket");
    let url = server.ws(&format!("{PROTOBUF}&token={}", server.sign(&client)));
    let mut browser = opened(&server, &url).await;
    send(&mut browser, client_ready()).await;
    let (url, phone_call) = server.url_for(Provider::Twilio, "CA1");
    let mut phone = opened(&server, &url).await;
    let mut far_end = far_end("CA1");
    send(&mut phone, media_core::wire::twilio::far_end::connected()).await;
    send(&mut phone, far_end.start()).await;

    for session_id in [client.session_id, phone_call] {
        let (_, recording) = server.archived(&session_id).await;
        let recorded = hound::WavReader::open(recording).unwrap().duration();
        assert!(recorded > 0, "{session_id}");
        let rows = server.process.archiver().transcripts().unwrap();
        let ended = async || {
            let session = rows.session(&session_id).await.unwrap();
            session.filter(|session| session.ended_at.is_some())
        };
        eventually("the end is noted", async || ended().await.is_some()).await;
        assert_eq!(ended().await.unwrap().end_reason, "transport_failed");
    }

    server.is_idle().await;
    drop((browser, phone));
    server.stop().await;
}
