//! Ten thousand calls in one process: nothing of a call is left when it has ended. And what streams cost that bring
//! anything but calls.
//!
//! A program of its own, because it counts every byte that the process holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod hostile;
mod memory;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carriers::Provider;
use futures_util::{SinkExt, StreamExt};
use media_core::wire::far_end::FromServer;
use media_core::wire::telephony::{Channels, Codec, MediaFormat, Provider as WireProvider, Start};
use media_core::wire::twilio::far_end::{FarEnd, connected};
use service_kit::config::{Profile, Sources, load};
use service_kit::token::{Claims, TokenSigner};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;
use voxray::single::SingleProcess;
use voxray_testkit::carriers::CarrierServer;
use voxray_testkit::heap::held;
use voxray_testkit::scripted::{Answer, Script};
use voxray_testkit::wait::eventually;

use memory::{open_files, resident_kb};

/// Calls in all, and between two looks.
const CALLS: usize = 10_000;
const BATCH: usize = 1_000;
/// Calls at the same time.
const AT_ONCE: usize = 32;
/// Every so many calls, the agent ends it, and the provider is told.
const ENDED_BY_AGENT: usize = 10;
/// What may be left over: 100 bytes a call would be 900 kB after the first thousand calls.
const MARGIN_BYTES: isize = 768 * 1024;
/// Sockets that may be about to be closed.
const MARGIN_FILES: usize = 8;
const LIMIT: Duration = Duration::from_secs(20);

/// Bytes belong to the process: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn server(twilio: &CarrierServer, folder: &std::path::Path) -> SingleProcess {
    let own = [
        ("host", "127.0.0.1"),
        ("port", "0"),
        ("greeting", ""),
        ("data_dir", folder.to_str().unwrap()),
        ("media.max_sessions", "200"),
        ("log_level", "error"),
        // What is archived is counted elsewhere: here it is the calls themselves.
        ("recording.enable", "false"),
        ("transcripts.enable", "false"),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let sources = Sources {
        flags: twilio.settings().into_iter().chain(own).collect(),
        ..Sources::default()
    };
    let config = load(&sources, Profile::SingleProcess).unwrap().config;
    let script = Script::new().answers(Answer::say("").and_call("end_call"));
    SingleProcess::start(&config, Some(script.providers())).await.unwrap()
}

/// Opens one stream of this call.
fn token(process: &SingleProcess, call_sid: &str) -> String {
    let claims = Claims {
        session_id: service_kit::ids::session_id(),
        transport: "telephony".to_owned(),
        provider: "twilio".to_owned(),
        call_id: call_sid.to_owned(),
        // Used tokens are remembered for as long as they are valid: a real deployment forgets them in time, too.
        expires_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3,
        body_json: String::new(),
    };
    TokenSigner::new(process.config().links.service_token.clone()).sign(&claims)
}

/// How a stream of this call begins.
fn far_end(call_sid: String) -> FarEnd {
    FarEnd::new(Start {
        provider: WireProvider::Twilio,
        stream_id: "MZ1".to_owned(),
        call_id: call_sid,
        account_id: None,
        parameters: [].into(),
        format: MediaFormat {
            codec: Codec::Ulaw,
            rate_hz: 8_000,
        },
        channels: Channels::Caller,
    })
}

/// One call from its first message to its end; how long the end took, where the caller hung up.
async fn call(process: &SingleProcess, number: usize) -> Option<Duration> {
    let call_sid = format!("CA{number}");
    let token = token(process, &call_sid);
    let url = format!("{}/telephony/ws/{token}", process.base_url().replacen("http", "ws", 1));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut far_end = far_end(call_sid);
    let mut send = vec![connected(), far_end.start()];
    send.extend((0..5).map(|frame| far_end.media(frame * 20, &[0xff; 160])));
    if number.is_multiple_of(ENDED_BY_AGENT) {
        send.push(far_end.dtmf('#'));
    } else {
        send.push(far_end.stop());
    }
    for text in send {
        socket.send(Message::text(text)).await.unwrap();
    }
    let hung_up = Instant::now();
    let ending = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message
                && let FromServer::Mark(name) = far_end.read(&text).unwrap()
            {
                let _ = socket.send(Message::text(far_end.mark(&name))).await;
            }
        }
    };
    tokio::time::timeout(LIMIT, ending).await.unwrap();
    (!number.is_multiple_of(ENDED_BY_AGENT)).then(|| hung_up.elapsed())
}

async fn is_idle(process: &SingleProcess) {
    let idle = eventually("no session is left", LIMIT, || async {
        Ok((process.media().sessions() == 0).then_some(()))
    });
    idle.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_leave_nothing_behind() {
    let _alone = ALONE.lock().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let twilio = CarrierServer::start(Provider::Twilio).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let process = server(&twilio, folder.path()).await;
    let started = Instant::now();
    let (mut told, mut first, mut last) = (0, 0, 0);
    let mut files = 0;
    for batch in 0..CALLS / BATCH {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let calls = futures_util::stream::iter(numbers).map(|number| call(&process, number));
        let ends: Vec<Option<Duration>> = calls.buffer_unordered(AT_ONCE).collect().await;
        let longest = ends.into_iter().flatten().max().unwrap_or_default();
        is_idle(&process).await;
        let expected = BATCH / ENDED_BY_AGENT;
        let all = eventually("the provider was told", LIMIT, || async {
            Ok((twilio.requests().len() >= expected).then_some(()))
        });
        all.await.unwrap();
        told += twilio.requests().len();
        twilio.forget();
        last = held();
        if batch == 0 {
            first = last;
            files = open_files();
        }
        println!(
            "{:>6} calls, {:>5.1} s: {:>6} kB held, {:>6} kB resident, {:>3} files and sockets open; longest from hang-up to closed: {:>4} ms",
            (batch + 1) * BATCH,
            started.elapsed().as_secs_f32(),
            last / 1024,
            resident_kb(),
            open_files(),
            longest.as_millis(),
        );
    }
    assert_eq!(
        told,
        CALLS / ENDED_BY_AGENT,
        "calls that the agent ended are ended at the provider, once each"
    );
    // Used tokens are remembered for a few seconds, and there are more of them the faster the machine is. Writing a
    // later one frees those that have expired.
    let settled = eventually("the memory of used tokens to be freed", LIMIT, || async {
        call(&process, 1).await;
        is_idle(&process).await;
        Ok((held() - first < MARGIN_BYTES).then_some(()))
    });
    let settled = settled.await;
    let held = held();
    println!("in the end: {:>6} kB held", held / 1024);
    assert!(
        settled.is_ok(),
        "{first} bytes after the first thousand calls, {last} after the last, {held} in the end"
    );
    let closed = eventually("sockets to be closed", LIMIT, || async {
        Ok((open_files() <= files + MARGIN_FILES).then_some(()))
    });
    closed.await.unwrap();
    tokio::time::timeout(LIMIT, process.stop()).await.unwrap();
}
