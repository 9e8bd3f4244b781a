//! `make stack`: the three services on Redis, PostgreSQL and S3, without containers, until Ctrl-C.

use std::io::Write;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use voxray_testkit::stack::{Stack, StackBuilder, voxray_binary};

/// Calls that still run at Ctrl-C get this long; Ctrl-C again ends them at once.
const DRAIN_SECS: u64 = 20;

/// Time to flush what is left after the calls.
const FLUSH: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    say("Starting Redis, PostgreSQL, S3, two signaling services, two media nodes and an archiver.")?;
    let builder = StackBuilder::new()
        .inherit_settings()
        // The console draws turns of it.
        .env("VOXRAY_TRANSCRIPTS_EXTENDED", "true")
        .env("VOXRAY_MEDIA_DRAIN_TIMEOUT_SECS", DRAIN_SECS.to_string());
    let stack = tokio::select! {
        stack = builder.start() => stack?,
        () = asked(&mut interrupt, &mut terminate) => return say("Stopped before everything was up."),
    };
    describe(&stack)?;
    let ended = tokio::select! {
        () = asked(&mut interrupt, &mut terminate) => None,
        error = stack.unexpected_end() => Some(error),
    };
    say("Stopping; Ctrl-C again to stop at once.")?;
    let stopped = tokio::select! {
        stopped = stack.stop(Duration::from_secs(DRAIN_SECS) + FLUSH) => stopped,
        () = asked(&mut interrupt, &mut terminate) => Ok(()),
    };
    match ended {
        Some(error) => Err(error),
        None => stopped.and_then(|()| say("Everything is stopped.")),
    }
}

fn describe(stack: &Stack) -> anyhow::Result<()> {
    let mut text = String::from("\n");
    for service in stack.services() {
        text += &format!("{:<13} {}\n", service.name(), service.url());
    }
    text += &format!("{:<13} {}\n", "redis", stack.redis.url());
    text += &format!("{:<13} {}\n", "postgres", stack.transcripts_dsn);
    text += &format!("{:<13} {}, bucket {}", "s3", stack.s3.endpoint(), stack.bucket);
    text += &format!(", key id {}, secret {}\n", stack.s3.access_key(), stack.s3.secret_key());
    text += &format!("{:<13} {}\n", "logs", stack.folder().join("*.log").display());
    if let Some(signaling) = stack.signaling.first() {
        let voxray = voxray_binary()?;
        text += &format!(
            "\nPlace a call:  {} call --url {} FILE.wav\n",
            voxray.display(),
            signaling.url()
        );
    }
    say(&format!("{text}Stop all of it: Ctrl-C"))
}

async fn asked(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
