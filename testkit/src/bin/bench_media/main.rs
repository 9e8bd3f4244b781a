//! How many calls a media node carries: a real `voxray media` process under a growing number of calls at the pace of
//! speech, with its CPU time, memory and lateness, beside the least that any server would need for the same messages.
//!
//! `make bench-media`; `BENCH_MEDIA="--quick"`, or names of scenes: `phone`, `client`, `archive`, `local`, and
//! `pipecat`, which is only measured when it is named: it is a download of 150 MB.
//!
//! Hearing, thinking and speaking are scripted OpenAI-compatible servers in this process, except in `local`. This process,
//! Redis, and in `archive` PostgreSQL and S3 run on the same processors: what callers, archiver and all others took is
//! printed beside what the node took, in processors. CPU time is right on a machine with other work too, lateness is not.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints what it measures and how far it is"
)]

mod callers;
mod pipecat;
mod scene;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{bail, ensure};

use callers::{Callers, Far, PERIOD};
use scene::{ANSWER, Node, Plan, Scene};
use wire::Wire;

/// With `--quick`.
const QUICK: Plan = Plan {
    steps: &[5, 20],
    settle: PERIOD,
    window: PERIOD,
};
const PHONE: Plan = Plan {
    steps: &[10, 25, 50, 100, 150, 200, 300, 400],
    settle: PERIOD,
    window: Duration::from_secs(16),
};
const ONE_STEP: Plan = Plan {
    steps: &[50, 100],
    ..PHONE
};
/// Local models: recognition alone takes a second of a processor for a few seconds of speech.
const LOCAL: Plan = Plan {
    steps: &[1, 2, 4, 8, 12, 16],
    ..PHONE
};
const LOCAL_QUICK: Plan = Plan {
    steps: &[1, 2],
    ..QUICK
};

const SCENES: [&str; 4] = ["phone", "client", "archive", "local"];
/// Another server, for comparison.
const PIPECAT: &str = "pipecat";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, port, speaks] = arguments.as_slice()
        && argument == wire::ARGUMENT
    {
        return wire::serve(port, speaks).await;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let mut named: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "--quick")
        .collect();
    if let Some(unknown) = named.iter().find(|name| **name != PIPECAT && !SCENES.contains(name)) {
        bail!("there is no scene {unknown}: --quick, {}, {PIPECAT}", SCENES.join(", "));
    }
    if named.is_empty() {
        named = SCENES.to_vec();
    }
    let has = |name| named.contains(&name);
    let processors = std::thread::available_parallelism()?;
    println!("{processors} processors, each caller speaks 3 s of 8 s and is answered with {ANSWER:?} of speech");

    if has("phone") {
        let plan = if quick { QUICK } else { PHONE };
        let wire = bare_wire(&plan).await?;
        phone(&plan, &wire).await?;
    }
    if has("client") {
        let scene = Scene::new("client sockets (pipecat's frames, 16 kHz in, 24 kHz out), nothing archived");
        let node = Node::start(false, false).await?;
        let far = Far::Client {
            url: format!("{}/ws", node.ws_url()?),
        };
        scene
            .run(if quick { &QUICK } else { &ONE_STEP }, &node, far, &BTreeMap::new())
            .await?;
        node.stop().await?;
    }
    if has("archive") {
        let scene = Scene::new("phone calls, recorded and transcribed (archiver, PostgreSQL and S3 on this machine)");
        let node = Node::start(false, true).await?;
        let far = node.phone()?;
        scene
            .run(if quick { &QUICK } else { &ONE_STEP }, &node, far, &BTreeMap::new())
            .await?;
        node.stop().await?;
    }
    if has("local") {
        let scene = Scene::new("phone calls, everything on the node (earshot, Moonshine, Pico), nothing archived");
        let node = Node::start(true, false).await?;
        let far = node.phone()?;
        scene
            .run(if quick { &LOCAL_QUICK } else { &LOCAL }, &node, far, &BTreeMap::new())
            .await?;
        node.stop().await?;
    }
    if has(PIPECAT) {
        pipecat::compare(quick).await?;
    }
    Ok(())
}

/// Phone calls, as cheap as they are when nothing is archived.
async fn phone(plan: &Plan, wire: &BTreeMap<usize, f64>) -> anyhow::Result<()> {
    let scene = Scene::new("phone calls (Twilio), nothing archived");
    let node = Node::start(false, false).await?;
    let far = node.phone()?;
    scene.run(plan, &node, far, wire).await?;
    node.stop().await
}

/// Processors that the bare server takes for each number of callers.
async fn bare_wire(plan: &Plan) -> anyhow::Result<BTreeMap<usize, f64>> {
    println!("\nthe wire alone: reads and decodes what phone callers send, sends audio back at the pace of speech");
    let wire = Wire::start(ANSWER).await?;
    let mut callers = Callers::new(Far::Wire { url: wire.url.clone() })?;
    let mut cores = BTreeMap::new();
    for &calls in plan.steps {
        let (measured, heard) = scene::measure_bare(plan, &mut callers, calls, wire.process.pid()).await?;
        ensure!(heard.lost == 0, "{} calls were lost", heard.lost);
        println!(
            "{calls:>6} calls: {:.3} processors, {:.2} ms of CPU a call and second; callers {:.2} processors, late p99 < {:.0} ms; others {:.2} processors",
            measured.cores,
            measured.cores * 1_000.0 / calls as f64,
            measured.callers,
            heard.late_p99_ms(),
            measured.others(),
        );
        cores.insert(calls, measured.cores);
        if let Some(why) = measured.is_over(&heard) {
            println!("        {why}");
            break;
        }
    }
    callers.leave().await;
    Ok(cores)
}
