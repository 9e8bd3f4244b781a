//! A TCP relay that can be told to fail: it stands before a real server and does to its connections what networks and
//! overloaded servers do. With several targets it is a balancer that uses the first one that takes connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service_kit::tasks::TaskScope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes passed on at once.
const PIECE: usize = 16 << 10;
/// How long the rest of a refused request is read, so that its sender gets to see the answer.
const LINGER: Duration = Duration::from_millis(500);
/// Answer of an overloaded S3 (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// What is done to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// They are closed as soon as they are open.
    Away,
    /// Every HTTP request is answered 503.
    Unavailable,
    /// Clients are read at this many bytes a second.
    Slow(u64),
    /// They are cut when the client has sent this many bytes.
    CutAfter(u64),
}

/// The relay; its connections end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    scope: TaskScope,
}

#[derive(Debug)]
struct Shared {
    targets: watch::Sender<Vec<SocketAddr>>,
    fault: watch::Sender<Fault>,
    frozen: watch::Sender<()>,
}

impl Relay {
    /// A relay on a free loopback port that passes on to nobody yet.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("no free port for a relay")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            targets: watch::Sender::new(Vec::new()),
            fault: watch::Sender::new(Fault::None),
            frozen: watch::Sender::new(()),
        });
        let scope = TaskScope::root("relay");
        let (connections, relayed, stopped) = (scope.clone(), Arc::clone(&shared), scope.token());
        scope.spawn("relay", async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopped.cancelled() => return,
                };
                if let Ok((client, _)) = accepted {
                    let (relayed, stopped) = (Arc::clone(&relayed), connections.token());
                    connections.spawn("relayed connection", async move {
                        tokio::select! {
                            () = serve(client, &relayed) => {}
                            () = stopped.cancelled() => {}
                        }
                    });
                }
            }
        });
        Ok(Self { address, shared, scope })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom to pass connections on to, the first that answers; open connections stay where they are.
    pub fn set_targets(&self, ports: impl IntoIterator<Item = u16>) {
        let targets = ports.into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into());
        self.shared.targets.send_replace(targets.collect());
    }

    /// Open connections stay open, to client and server, and nothing passes on them any more, as when a firewall has
    /// forgotten them. New ones work.
    pub fn freeze_open_connections(&self) {
        self.shared.frozen.send_replace(());
    }

    /// What to do from now on; open connections are cut.
    pub fn set_fault(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) {
    let mut changes = shared.fault.subscribe();
    let mut frozen = shared.frozen.subscribe();
    let fault = *changes.borrow_and_update();
    let work = async {
        match fault {
            Fault::Away => {}
            Fault::Unavailable => answer_unavailable(&mut client).await,
            Fault::None => pass(&mut client, shared, u64::MAX, None).await,
            Fault::Slow(rate) => pass(&mut client, shared, u64::MAX, Some(rate)).await,
            Fault::CutAfter(bytes) => pass(&mut client, shared, bytes, None).await,
        }
    };
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => return,
        // The senders live as long as this connection's relay.
        _ = changes.changed() => return,
        _ = frozen.changed() => {}
    }
    // Both sides stay open until the fault changes: what holds them is not dropped, and does nothing.
    let _ = changes.changed().await;
}

async fn pass(client: &mut TcpStream, shared: &Shared, limit: u64, rate: Option<u64>) {
    let targets = shared.targets.borrow().clone();
    let mut server = None;
    for target in targets {
        if let Ok(stream) = TcpStream::connect(target).await {
            server = Some(stream);
            break;
        }
    }
    let Some(mut server) = server else { return };
    // Small messages must not wait for acknowledgements twice.
    if client
        .set_nodelay(true)
        .and_then(|()| server.set_nodelay(true))
        .is_err()
    {
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        let mut left = limit;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let read = from_client.read(&mut piece).await.unwrap_or(0);
            let passed = read.min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(bytes) = piece.get(..passed).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if to_server.write_all(bytes).await.is_err() {
                break;
            }
            left -= passed as u64;
            if let Some(rate) = rate {
                tokio::time::sleep(Duration::from_secs_f64(passed as f64 / rate.max(1) as f64)).await;
            }
        }
        // A client that has said all may still wait for the answer.
        let _ = to_server.shutdown().await;
        left > 0
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    tokio::pin!(down);
    tokio::select! {
        whole = up => if whole { down.await },
        () = &mut down => {}
    }
}

async fn answer_unavailable(client: &mut TcpStream) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{SLOW_DOWN}",
        SLOW_DOWN.len()
    );
    let mut piece = vec![0; PIECE];
    if client.read(&mut piece).await.unwrap_or(0) == 0 || client.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    let drain = async { while client.read(&mut piece).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo(scope: &TaskScope) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = scope.clone();
        scope.spawn("echo", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                inner.spawn("echo connection", async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        port
    }

    async fn ask(relay: &Relay, bytes: usize) -> Vec<u8> {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        let mut answer = Vec::new();
        // A relay that cuts may do so while this is written.
        let _ = stream.write_all(&vec![7; bytes]).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn a_relay_passes_on_until_it_is_told_otherwise() {
        let scope = TaskScope::root("test");
        let relay = Relay::start().await.unwrap();
        relay.set_targets([1, echo(&scope).await]);
        assert_eq!(ask(&relay, 50_000).await.len(), 50_000);
        relay.set_fault(Fault::Away);
        assert!(ask(&relay, 10).await.is_empty());
        relay.set_fault(Fault::Unavailable);
        assert!(ask(&relay, 10).await.starts_with(b"HTTP/1.1 503 "));
        relay.set_fault(Fault::CutAfter(20_000));
        assert!(ask(&relay, 50_000).await.len() <= 20_000);
        relay.set_fault(Fault::None);
        assert_eq!(ask(&relay, 50_000).await.len(), 50_000);
        scope.cancel();
    }
}
