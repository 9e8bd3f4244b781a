//! The least that a server for the same callers can do: it reads Twilio's messages, decodes the audio, and sends audio
//! back for as many seconds of each period as the agent of the benchmark speaks. No agent, no clock but the pacing.

use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use media_core::audio::g711;
use serde::Deserialize;
use service_kit::tasks::TaskScope;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::tungstenite::Message;
use voxray_testkit::ports::free_port;
use voxray_testkit::process::{Process, Spec};

use crate::callers::{PERIOD_TICKS, TICK, place};

/// Has this program be the server, on the port that follows.
pub const ARGUMENT: &str = "--wire-server";
const START: Duration = Duration::from_secs(10);

/// The server as a process of its own.
pub struct Wire {
    pub process: Process,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Wire {
    /// Starts it; `speaks` is how much of a period it sends audio.
    pub async fn start(speaks: Duration) -> anyhow::Result<Self> {
        let (port, folder) = (free_port()?, tempfile::tempdir()?);
        let spec = Spec::new("wire", std::env::current_exe()?).args([
            ARGUMENT,
            &port.to_string(),
            &(speaks.as_millis() / TICK.as_millis()).to_string(),
        ]);
        let process = Process::spawn(spec, &folder.path().join("wire.log"))?;
        let listens = || async { Ok(TcpStream::connect(("127.0.0.1", port)).await.map(drop)?) };
        process.wait_until_ready(START, listens).await?;
        Ok(Self {
            process,
            url: format!("ws://127.0.0.1:{port}/"),
            _folder: folder,
        })
    }
}

/// Serves until it is killed.
pub async fn serve(port: &str, speaks: &str) -> anyhow::Result<()> {
    let speaks = speaks.parse()?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let scope = TaskScope::root("wire");
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        scope.spawn("call", async move {
            // Whoever connects to see whether this listens is no caller.
            let _ = call(stream, number, speaks).await;
        });
    }
    Ok(())
}

#[derive(Deserialize)]
struct Received<'a> {
    event: &'a str,
    media: Option<Media<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    payload: &'a str,
}

async fn call(stream: TcpStream, number: usize, speaks: usize) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut ticks, mut samples) = (0, vec![0; 160]);
    loop {
        tokio::select! {
            _ = clock.tick() => {
                ticks += 1;
                if place(number, ticks) >= PERIOD_TICKS - speaks {
                    let payload = BASE64.encode(g711::encode_ulaw(&samples));
                    let text = format!(r#"{{"event":"media","streamSid":"MZ1","media":{{"payload":"{payload}"}}}}"#);
                    socket.send(Message::text(text)).await?;
                }
            }
            message = socket.next() => {
                let Message::Text(text) = message.context("gone")?? else { continue };
                let received: Received<'_> = serde_json::from_str(&text)?;
                match (received.event, received.media) {
                    ("media", Some(media)) => samples = g711::decode_ulaw(&BASE64.decode(media.payload)?),
                    ("stop", _) => return Ok(socket.close(None).await?),
                    _ => {}
                }
            }
        }
    }
}
