//! What a stream costs that brings what no provider sends: bounded memory while it lasts, bounded time, nothing afterwards.
//!
//! The far ends write bytes that exist anyway, so that what is counted is the server's.

use std::time::{Duration, Instant};

use media_core::wire::twilio::far_end::connected;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use voxray::single::SingleProcess;
use voxray_testkit::carriers::CarrierServer;
use voxray_testkit::heap;

use super::{ALONE, LIMIT, MARGIN_BYTES, far_end, held, is_idle, server, token};

/// Streams at the same time.
const AT_ONCE: usize = 16;
/// Messages of a storm: a client may send faster than any telephone.
const STORM: usize = 5_000;
/// What one stream may cost at its worst, its call and a message of the largest size included.
const MOST_BYTES_A_STREAM: isize = 1024 * 1024;

const MEGABYTE: usize = 1 << 20;
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTINUED: u8 = 0;
const LAST: u8 = 0x80;

/// What a stream brings once it has begun.
#[derive(Debug, Clone, Copy)]
enum Bad {
    OneLargeMessage,
    OneLargeMessageInPieces,
    Messages(&'static str),
}

const BAD: [(&str, Bad); 6] = [
    ("a message of 1 MB", Bad::OneLargeMessage),
    ("a message of 1 MB in pieces of 16 kB", Bad::OneLargeMessageInPieces),
    ("a storm of junk", Bad::Messages("hello")),
    (
        "a storm of audio that is not base64",
        Bad::Messages(r#"{"event":"media","streamSid":"MZ1","media":{"payload":"!!"}}"#),
    ),
    (
        "a storm of keys",
        Bad::Messages(r#"{"event":"dtmf","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"1"}}"#),
    ),
    (
        "a storm of starts",
        Bad::Messages(r#"{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"CA1"}}"#),
    ),
];

/// A client that breaks what a WebSocket library would not let it break.
struct Raw(TcpStream);

impl Raw {
    async fn open(process: &SingleProcess, call_sid: &str) -> Self {
        let base = process.base_url();
        let host = base.trim_start_matches("http://");
        let path = format!("/telephony/ws/{}", token(process, call_sid));
        let mut socket = TcpStream::connect(host).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(socket.read_u8().await.unwrap());
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        Self(socket)
    }

    /// RFC 6455, section 5.2, with a mask that changes nothing; an error when the server has closed.
    async fn header(&mut self, first: u8, length: usize) -> std::io::Result<()> {
        let mut header = [0; 14];
        header[0] = first;
        header[1] = 0x80 | 127;
        header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
        self.0.write_all(&header).await
    }

    async fn text(&mut self, text: &str) -> std::io::Result<()> {
        self.header(LAST | TEXT, text.len()).await?;
        self.0.write_all(text.as_bytes()).await
    }

    async fn brings(&mut self, bad: Bad) -> std::io::Result<()> {
        match bad {
            Bad::OneLargeMessage => {
                self.header(LAST | BINARY, MEGABYTE).await?;
                for _ in 0..MEGABYTE / ZEROS.len() {
                    self.0.write_all(&ZEROS).await?;
                }
            }
            Bad::OneLargeMessageInPieces => {
                for piece in 0..MEGABYTE / ZEROS.len() {
                    let kind = if piece == 0 { BINARY } else { CONTINUED };
                    self.header(kind, ZEROS.len()).await?;
                    self.0.write_all(&ZEROS).await?;
                }
            }
            Bad::Messages(text) => {
                for _ in 0..STORM {
                    self.text(text).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads until nothing comes any more; the bytes are looked at by nobody.
    async fn is_closed(&mut self) {
        let mut nothing = [0; 4096];
        while self.0.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
    }
}

/// How long the server took to be rid of it, from the first bad byte on.
async fn stream(process: &SingleProcess, bad: Bad) -> Duration {
    let mut raw = Raw::open(process, "CA1").await;
    raw.text(&connected()).await.unwrap();
    raw.text(&far_end("CA1".to_owned()).start()).await.unwrap();
    let began = Instant::now();
    let ending = async {
        // A server that closes while it is being written to is what is wanted.
        let _ = raw.brings(bad).await;
        raw.is_closed().await;
    };
    tokio::time::timeout(LIMIT, ending).await.unwrap();
    began.elapsed()
}

/// As many streams at once, until the server is rid of them; the longest.
async fn together(process: &SingleProcess, bad: Bad) -> Duration {
    let streams = (0..AT_ONCE).map(|_| stream(process, bad));
    let took = futures_util::future::join_all(streams).await;
    is_idle(process).await;
    took.into_iter().max().unwrap_or_default()
}

fn protocol_errors() -> f64 {
    let text = service_kit::metrics::render();
    let counter = "voxray_protocol_errors_total{transport=\"telephony\"}";
    let line = text.lines().find(|line| line.starts_with(counter));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_provider_sends_costs_bounded_memory_and_time_and_is_counted() {
    let _alone = ALONE.lock().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let twilio = CarrierServer::start(carriers::Provider::Twilio).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let process = server(&twilio, folder.path()).await;
    // Before it is measured: what is allocated for ever, by so many at once, is not what a stream costs.
    together(&process, Bad::Messages("hello")).await;
    for (case, bad) in BAD {
        let (before, errors) = (held(), protocol_errors());
        heap::forget_peak();

        let longest = together(&process, bad).await;

        let each = (heap::peak() - before) / AT_ONCE.cast_signed();
        println!(
            "{case}: at most {} kB a stream, gone after {} ms at most, {} kB more afterwards",
            each / 1024,
            longest.as_millis(),
            (held() - before) / 1024,
        );
        assert!(each < MOST_BYTES_A_STREAM, "{case}: {each} bytes a stream");
        assert!(protocol_errors() >= errors + AT_ONCE as f64, "{case}: each is counted");
        assert!(
            held() - before < MARGIN_BYTES,
            "{case}: {before} before, {} after",
            held()
        );
    }
    tokio::time::timeout(LIMIT, process.stop()).await.unwrap();
}
