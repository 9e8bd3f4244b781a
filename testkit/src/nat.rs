//! A 1:1 NAT: what comes to a UDP port of one address is passed on to the same port of another, and back. Packets take
//! their time, as between cities.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use service_kit::tasks::TaskScope;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Largest packet that is passed on.
const PACKET_BYTES: usize = 2_048;
/// Packets under way in one direction of one client: more than ten seconds of audio. When it is full, further ones are
/// lost, as on any network.
const UNDER_WAY: usize = 1_000;

/// The NAT; nothing is passed on any more when it is dropped.
#[derive(Debug)]
pub struct Nat {
    passed: Arc<Passed>,
    scope: TaskScope,
}

#[derive(Debug, Default)]
struct Passed {
    inwards: AtomicU64,
    outwards: AtomicU64,
}

impl Nat {
    /// Passes on what comes to `outside`; each packet is under way for `delay`.
    ///
    /// # Errors
    /// `outside` is taken, or no address of this machine.
    pub async fn start(outside: SocketAddr, inside: SocketAddr, delay: Duration) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(outside).await;
        let socket = Arc::new(socket.with_context(|| format!("cannot receive on UDP {outside}"))?);
        let (scope, passed) = (TaskScope::root("nat"), Arc::<Passed>::default());
        let gate = Gate {
            socket,
            inside,
            delay,
            passed: Arc::clone(&passed),
            scope: scope.clone(),
        };
        let stopped = scope.token();
        scope.spawn("nat", async move {
            tokio::select! {
                () = gate.open() => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { passed, scope })
    }

    /// How many packets have gone in and out.
    pub fn passed(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (count(&self.passed.inwards), count(&self.passed.outwards))
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

type Packet = (Instant, Vec<u8>);

struct Gate {
    socket: Arc<UdpSocket>,
    inside: SocketAddr,
    delay: Duration,
    passed: Arc<Passed>,
    scope: TaskScope,
}

impl Gate {
    /// Receives for ever; every client is known inside by a port of its own.
    async fn open(self) {
        let mut clients: HashMap<SocketAddr, mpsc::Sender<Packet>> = HashMap::new();
        let mut buffer = vec![0; PACKET_BYTES];
        loop {
            let Ok((length, client)) = self.socket.recv_from(&mut buffer).await else {
                continue;
            };
            let lane = match clients.get(&client) {
                Some(lane) => lane.clone(),
                None => match self.lane(client).await {
                    Ok(lane) => clients.entry(client).or_insert(lane).clone(),
                    Err(error) => {
                        tracing::error!(%error, "the NAT has no port left");
                        continue;
                    }
                },
            };
            let packet = buffer.get(..length).unwrap_or_default().to_vec();
            let _ = lane.try_send((Instant::now() + self.delay, packet));
            self.passed.inwards.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn lane(&self, client: SocketAddr) -> anyhow::Result<mpsc::Sender<Packet>> {
        let socket = UdpSocket::bind(SocketAddr::new(self.inside.ip(), 0)).await?;
        socket.connect(self.inside).await?;
        let inside = Arc::new(socket);
        let (inwards, mut arriving) = mpsc::channel::<Packet>(UNDER_WAY);
        let (outwards, mut leaving) = mpsc::channel::<Packet>(UNDER_WAY);
        let (far, outside, delay, passed) = (
            Arc::clone(&inside),
            Arc::clone(&self.socket),
            self.delay,
            Arc::clone(&self.passed),
        );
        let stopped = self.scope.token();
        self.scope.spawn("nat lane", async move {
            let deliver = async {
                while let Some((due, packet)) = arriving.recv().await {
                    tokio::time::sleep_until(due).await;
                    // Nobody there: lost.
                    let _ = inside.send(&packet).await;
                }
            };
            let receive = async {
                let mut buffer = vec![0; PACKET_BYTES];
                loop {
                    if let Ok(length) = far.recv(&mut buffer).await {
                        let packet = buffer.get(..length).unwrap_or_default().to_vec();
                        let _ = outwards.try_send((Instant::now() + delay, packet));
                        passed.outwards.fetch_add(1, Ordering::SeqCst);
                    }
                }
            };
            let reply = async {
                while let Some((due, packet)) = leaving.recv().await {
                    tokio::time::sleep_until(due).await;
                    let _ = outside.send_to(&packet, client).await;
                }
            };
            tokio::select! {
                () = deliver => {}
                () = receive => {}
                () = reply => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(inwards)
    }
}
