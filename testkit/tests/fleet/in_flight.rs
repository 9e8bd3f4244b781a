//! A signaling service that is stopped while it is answering.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use voxray_testkit::service::{Role, Service};
use voxray_testkit::wait::eventually;

use crate::load;

const LIMIT: Duration = Duration::from_secs(90);
/// A request may take longer than anything here is waited for.
const REQUEST_SECS: &str = "600";
const BODY: &str = r#"{"transport":"websocket"}"#;

/// A `POST /start` whose body has not come to its end.
struct Unfinished(TcpStream);

impl Unfinished {
    async fn send(service: &Service) -> Self {
        let mut socket = TcpStream::connect(address(service)).await.unwrap();
        let (begin, _) = BODY.split_at(BODY.len() / 2);
        let request = format!(
            "POST /start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{begin}",
            BODY.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        Self(socket)
    }

    /// Sends the rest: the answer.
    async fn finish(mut self) -> String {
        let (_, rest) = BODY.split_at(BODY.len() / 2);
        self.0.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn address(service: &Service) -> String {
    service.url().trim_start_matches("http://").to_owned()
}

/// Asks it to stop, and waits until nobody gets in any more.
async fn stop_listening(service: &Service) {
    service.terminate().unwrap();
    let address = address(service);
    let refuses = eventually("nobody to be let in", LIMIT, || async {
        Ok(TcpStream::connect(&address).await.is_err().then_some(()))
    });
    refuses.await.unwrap();
}

async fn ends_well(service: &Service) {
    let status = tokio::time::timeout(LIMIT, service.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{}: {status}", service.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signaling_service_finishes_what_it_is_answering_unless_it_is_hurried() {
    let agent = load::agent().await;
    let mut builder = load::builder(&agent).signaling(2);
    for key in ["VOXRAY_LIMITS_BODY_TIMEOUT_SECS", "VOXRAY_LIMITS_REQUEST_TIMEOUT_SECS"] {
        builder = builder.env_for(Role::Signaling, key, REQUEST_SECS);
    }
    let stack = load::start(builder).await;
    let [patient, hurried] = [&stack.signaling[0], &stack.signaling[1]];
    let (asked, abandoned) = (Unfinished::send(patient).await, Unfinished::send(hurried).await);

    stop_listening(patient).await;
    stop_listening(hurried).await;

    for service in [patient, hurried] {
        let ended = service.process().unwrap().exited().unwrap();
        assert!(ended.is_none(), "{} waits for its request: {ended:?}", service.name());
    }
    let answer = asked.finish().await;
    assert!(
        answer.starts_with("HTTP/1.1 201") && answer.contains("wsUrl"),
        "{answer}"
    );
    ends_well(patient).await;
    hurried.terminate().unwrap();
    ends_well(hurried).await;
    drop(abandoned);
    // Stopped, the node would wait for the client who was announced.
    drop(stack);
}
