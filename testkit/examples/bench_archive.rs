//! How much an archiver takes: turns a second into PostgreSQL and MiB a second into S3, with its CPU time and memory,
//! beside `psql \copy` of the same rows and `aws s3 cp` of the same bytes, in the same run and on the same servers.
//!
//! `make bench-archive`, or `scripts/bench-archive.sh CALLS MIB_A_CALL TURNS_A_CALL`.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measures")]

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use service_kit::config::Secret;
use service_kit::grpc::AttachToken;
use service_kit::tasks::TaskScope;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use voxray_proto::archive::archive_service_client::ArchiveServiceClient;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{
    AudioChunk, Event, Hello, IngestRequest, RecordingFormat, SessionEnded, SessionStarted, Turn, ingest_request,
    ingest_response,
};
use voxray_testkit::stack::Stack;
use voxray_testkit::usage::{children_cpu_secs, cpu_secs, peak_mib};

/// Stereo, 16 bits.
const FRAME_BYTES: usize = 4;
/// Audio of one event: 200 ms of a phone call, as a node sends it.
const CHUNK_BYTES: usize = 1_600 * FRAME_BYTES;
/// Requests between this program and the stream: full = the archiver holds it back.
const QUEUE: usize = 64;
/// Something hangs when nothing is acknowledged for this long.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked how much memory another program takes: what it adds in its last moment is not seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const MIB: f64 = 1_048_576.0;

/// What is archived.
struct Size {
    calls: usize,
    audio_bytes: usize,
    turns: u32,
}

/// One way of getting it done.
struct Measured {
    took: Duration,
    cpu_secs: f64,
    peak_mib: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let numbers = std::env::args().skip(1).map(|number| number.parse::<usize>());
    let numbers = numbers
        .collect::<Result<Vec<_>, _>>()
        .context("arguments: CALLS MIB_A_CALL TURNS_A_CALL")?;
    let number = |place: usize, usual| numbers.get(place).copied().unwrap_or(usual);
    let size = Size {
        calls: number(0, 50),
        audio_bytes: (number(1, 8) << 20) / CHUNK_BYTES * CHUNK_BYTES,
        turns: u32::try_from(number(2, 400))?,
    };
    let stack = Stack::builder().signaling(0).media(0).archivers(1).start().await?;
    let archiver = stack.archiver.first().context("no archiver")?.process()?.pid();
    let relays = stack.relays.as_ref().context("no relays")?;
    // Both ways to S3 have the same hop.
    println!(
        "{} calls, {:.1} MiB and {} turns each",
        size.calls,
        size.audio_bytes as f64 / MIB,
        size.turns
    );

    let ingest = format!("http://{}", relays.archive.address());
    let turns = send(&stack, &ingest, archiver, &size, false).await?;
    let copied = psql_copy(&stack, &size)?;
    let rows = size.calls as f64 * f64::from(size.turns);
    report("turns", "turns/s", rows, &turns, "psql \\copy", &copied);

    let audio = send(&stack, &ingest, archiver, &size, true).await?;
    let uploaded = aws_cp(&stack, &relays.s3.address().to_string(), &size).await?;
    let mib = size.calls as f64 * size.audio_bytes as f64 / MIB;
    report("audio", "MiB/s", mib, &audio, "aws s3 cp", &uploaded);
    stack.stop(PATIENCE).await
}

fn report(what: &str, unit: &str, amount: f64, ours: &Measured, other: &str, theirs: &Measured) {
    let line = |name: &str, measured: &Measured| {
        let rate = amount / measured.took.as_secs_f64();
        let (took, cpu, peak) = (measured.took.as_secs_f64(), measured.cpu_secs, measured.peak_mib);
        println!(
            "{what}: {name:<11} {rate:>8.0} {unit} in {took:.2} s, {cpu:.2} s of CPU, {peak:.0} MiB resident at most"
        );
        rate
    };
    let ratio = line("archiver", ours) / line(other, theirs);
    println!(
        "{what}: the archiver does {ratio:.2} times the {unit} of {other}, with {:.2} times its CPU",
        ours.cpu_secs / theirs.cpu_secs.max(0.01)
    );
}

/// Sends all calls on one stream, as one node, and waits until all of it is durable.
async fn send(stack: &Stack, url: &str, archiver: u32, size: &Size, recorded: bool) -> anyhow::Result<Measured> {
    let channel = Channel::from_shared(url.to_owned())?.connect().await?;
    let token = AttachToken::new(&Secret::new(stack.service_token.clone()));
    let (requests, queue) = mpsc::channel(QUEUE);
    let scope = TaskScope::root("bench");
    let calls: Vec<Vec<Event>> = (0..size.calls).map(|call| call_events(call, size, recorded)).collect();
    let mut waiting: HashMap<String, u64> = calls
        .iter()
        .filter_map(|events| events.last())
        .map(|end| (end.session_id.clone(), end.sequence))
        .collect();
    let (cpu, began) = (cpu_secs(archiver)?, Instant::now());
    scope.spawn("node", async move {
        let hello = ingest_request::Message::Hello(Hello {
            node_id: format!("bench-{recorded}"),
        });
        let longest = calls.iter().map(Vec::len).max().unwrap_or_default();
        let mut message = Some(hello);
        // Calls run side by side.
        for place in 0..longest {
            for call in &calls {
                let event = call.get(place).cloned().map(ingest_request::Message::Event);
                for message in [message.take(), event].into_iter().flatten() {
                    let message = Some(message);
                    if requests.send(IngestRequest { message }).await.is_err() {
                        return;
                    }
                }
            }
        }
        // The stream stays open for what is still to be acknowledged.
        requests.closed().await;
    });
    let mut client = ArchiveServiceClient::new(InterceptedService::new(channel, token));
    let mut answers = client.ingest(ReceiverStream::new(queue)).await?.into_inner();
    while !waiting.is_empty() {
        let answer = tokio::time::timeout(PATIENCE, answers.message())
            .await
            .context("the archiver hangs")??;
        let Some(answer) = answer else {
            bail!("the archiver closed the stream")
        };
        if let Some(ingest_response::Message::Durable(ack)) = answer.message
            && waiting.get(&ack.session_id).is_some_and(|last| ack.sequence >= *last)
        {
            waiting.remove(&ack.session_id);
        }
    }
    let measured = Measured {
        took: began.elapsed(),
        cpu_secs: cpu_secs(archiver)? - cpu,
        peak_mib: peak_mib(archiver)?,
    };
    scope.cancel();
    Ok(measured)
}

fn call_events(call: usize, size: &Size, recorded: bool) -> Vec<Event> {
    let kind = if recorded { "audio" } else { "turns" };
    let session_id = format!("bench-{kind}-{call:05}");
    let started_at_unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let mut bodies = vec![Body::Started(SessionStarted {
        traceparent: String::new(),
        started_at_unix_ms,
        node_id: "bench".to_owned(),
        transport: "telephony".to_owned(),
        provider: "twilio".to_owned(),
        recording: recorded.then_some(RecordingFormat {
            sample_rate_hz: 8_000,
            channels: 2,
        }),
    })];
    let mut ended = SessionEnded {
        ended_at_unix_ms: started_at_unix_ms,
        reason: "caller_hung_up".to_owned(),
        ..SessionEnded::default()
    };
    if recorded {
        let pcm = bytes::Bytes::from(audio(call, size.audio_bytes));
        ended.pcm_sha256 = Sha256::digest(&pcm).to_vec();
        ended.total_frames = (pcm.len() / FRAME_BYTES) as u64;
        bodies.extend((0..pcm.len()).step_by(CHUNK_BYTES).map(|from| {
            Body::Audio(AudioChunk {
                first_frame: (from / FRAME_BYTES) as u64,
                pcm: pcm.slice(from..from + CHUNK_BYTES),
            })
        }));
    } else {
        ended.turns = size.turns;
        bodies.extend((0..size.turns).map(|seq| {
            Body::Turn(Turn {
                seq,
                role: role(seq).to_owned(),
                text: text(call, seq),
                created_at_unix_ms: started_at_unix_ms + u64::from(seq),
                ..Turn::default()
            })
        }));
    }
    bodies.push(Body::Ended(ended));
    let event = |(sequence, body)| Event {
        session_id: session_id.clone(),
        sequence,
        body: Some(body),
        ..Event::default()
    };
    (1..).zip(bodies).map(event).collect()
}

/// Noise: nothing on the way may profit from its being alike.
fn audio(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = seed as u64 * 2 + 1;
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        // An xorshift generator is enough to be incompressible.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

fn role(seq: u32) -> &'static str {
    if seq.is_multiple_of(2) { "assistant" } else { "user" }
}

fn text(call: usize, seq: u32) -> String {
    format!("This is what was said in turn {seq} of call {call}, about as long as people speak on the phone.")
}

fn psql_copy(stack: &Stack, size: &Size) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.csv");
    let mut rows = String::new();
    for call in 0..size.calls {
        for seq in 0..size.turns {
            let (role, text) = (role(seq), text(call, seq));
            rows += &format!("copy-{call:05},{role},\"{text}\",{seq},2026-03-04 05:06:07+00\n");
        }
    }
    std::fs::write(&file, rows)?;
    // The same table, with the same key.
    let make = "CREATE TABLE bench_copy (LIKE call_transcripts INCLUDING ALL)";
    run("psql", &[&stack.transcripts_dsn, "-q", "-c", make], &[])?;
    let copy = format!(
        "\\copy bench_copy (session_id, role, text, seq, created_at) FROM '{}' CSV",
        file.display()
    );
    run("psql", &[&stack.transcripts_dsn, "-q", "-c", &copy], &[])
}

async fn aws_cp(stack: &Stack, address: &str, size: &Size) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir()?;
    for call in 0..size.calls {
        std::fs::write(
            folder.path().join(format!("{call:05}.wav")),
            audio(call, size.audio_bytes),
        )?;
    }
    stack.s3.create_bucket("bench").await?;
    let from = folder.path().display().to_string();
    let endpoint = format!("http://{address}");
    let env = [
        ("AWS_ACCESS_KEY_ID", stack.s3.access_key()),
        ("AWS_SECRET_ACCESS_KEY", stack.s3.secret_key()),
        ("AWS_DEFAULT_REGION", stack.s3.region()),
    ];
    let arguments = [
        "s3",
        "cp",
        "--quiet",
        "--recursive",
        &from,
        "s3://bench/",
        "--endpoint-url",
        &endpoint,
    ];
    run("aws", &arguments, &env)
}

fn run(program: &str, arguments: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Measured> {
    let (cpu, began) = (children_cpu_secs()?, Instant::now());
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .envs(env.iter().copied())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let (pid, (stop, stopped)) = (child.id(), std::sync::mpsc::channel::<()>());
    let watching = std::thread::spawn(move || {
        let mut peak = 0.0_f64;
        while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_INTERVAL) {
            // One that has ended has none.
            peak = peak.max(peak_mib(pid).unwrap_or(0.0));
        }
        peak
    });
    let status = child.wait()?;
    let took = began.elapsed();
    drop(stop);
    let peak_mib = watching
        .join()
        .map_err(|_| anyhow::anyhow!("nobody watched {program}"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(Measured {
        took,
        cpu_secs: children_cpu_secs()? - cpu,
        peak_mib,
    })
}
