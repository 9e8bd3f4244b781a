//! A media node with its agent, and steps of more and more calls on it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use voxray_testkit::metrics::Metrics;
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};
use voxray_testkit::service::{Role, Service};
use voxray_testkit::stack::Stack;
use voxray_testkit::usage::{cpu_secs, machine_cpu_secs, resident_mib};

use crate::callers::{Callers, Count, Far};

/// How long the scripted agent speaks in each turn.
pub const ANSWER: Duration = Duration::from_secs(3);
/// A node loads its models right after it has said that it is ready.
const LOADING: Duration = Duration::from_secs(5);
/// Longest for a process to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// When callers and process take more than this part of all processors, what is measured is the machine.
const FULL: f64 = 0.9;
/// A node whose frames leave later than this is overloaded (docs/operations.md).
const LATE_SECS: f64 = 0.03;
/// Callers who are later than this do not speak at the pace of speech.
const LATEST_CALLERS_MS: f64 = 50.0;
/// With more than this taken by others, lateness is theirs, in processors.
const DISTURBED: f64 = 0.2;
const LATENESS: &str = "voxray_frame_lateness_seconds";
const TURNS: &str = "voxray_turn_latency_seconds";
const ANSWERED: &str = "voxray_turn_latency_seconds_count{stage=\"total\"}";

/// How many calls, and how long each step takes.
pub struct Plan {
    pub steps: &'static [usize],
    /// From the last new call until the measurement begins.
    pub settle: Duration,
    pub window: Duration,
}

/// What processors did in a window, in processors.
pub struct Measured {
    /// The process that is measured.
    pub cores: f64,
    /// This one.
    pub callers: f64,
    /// All processes of the machine.
    pub machine: f64,
}

impl Measured {
    /// What everybody else took.
    pub fn others(&self) -> f64 {
        (self.machine - self.cores - self.callers).max(0.0)
    }

    /// Why more calls would say nothing about the process.
    pub fn is_over(&self, heard: &Count) -> Option<&'static str> {
        let all = std::thread::available_parallelism().map_or(1.0, |all| all.get() as f64);
        if self.cores + self.callers > FULL * all {
            Some("the machine is full")
        } else if heard.late_p99_ms() > LATEST_CALLERS_MS {
            Some("the callers are late themselves")
        } else {
            None
        }
    }
}

/// Times at one moment.
struct Times {
    at: Instant,
    process: f64,
    own: f64,
    machine: f64,
}

impl Times {
    fn now(pid: u32) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            process: cpu_secs(pid)?,
            own: cpu_secs(std::process::id())?,
            machine: machine_cpu_secs()?,
        })
    }

    fn until(&self, later: &Self) -> anyhow::Result<Measured> {
        let seconds = later.at.duration_since(self.at).as_secs_f64();
        Ok(Measured {
            cores: (later.process - self.process) / seconds,
            callers: (later.own - self.own) / seconds,
            machine: (later.machine - self.machine) / seconds,
        })
    }
}

/// One step against any process. The answers of its window are left in the callers' tally.
pub async fn measure_bare(
    plan: &Plan,
    callers: &mut Callers,
    calls: usize,
    pid: u32,
) -> anyhow::Result<(Measured, Count)> {
    eprintln!("{calls} calls …");
    callers.grow(calls).await;
    tokio::time::sleep(plan.settle).await;
    callers.tally.take_answers();
    let (before, heard) = (Times::now(pid)?, callers.tally.count());
    tokio::time::sleep(plan.window).await;
    let measured = before.until(&Times::now(pid)?)?;
    Ok((measured, callers.tally.count().since(&heard)))
}

/// A deployment with one media node.
pub struct Node {
    stack: Stack,
    _agent: OpenAiServer,
}

impl Node {
    /// Local speech, or scripted providers; archived, or not.
    pub async fn start(local: bool, archived: bool) -> anyhow::Result<Self> {
        eprintln!("starting a node …");
        let agent = agent().await?;
        let archived = archived.to_string();
        let mut builder = Stack::builder()
            .signaling(0)
            .media(1)
            .operators()
            .env("VOXRAY_LOG_LEVEL", "warn")
            .env("VOXRAY_RECORDING_ENABLE", &archived)
            .env("VOXRAY_TRANSCRIPTS_ENABLE", &archived)
            // Nobody is turned away: it is for the benchmark to say how many are too many.
            .env_for(Role::Media, "VOXRAY_MEDIA_MAX_SESSIONS", "100000");
        if !local {
            builder = builder
                .env_for(Role::Media, "VOXRAY_PROVIDER", "openai")
                .env_for(Role::Media, "VOXRAY_OPENAI_BASE_URL", agent.base_url())
                .env_for(Role::Media, "OPENAI_API_KEY", "bench")
                .env_for(Role::Media, "VOXRAY_GREETING", "");
        }
        let stack = builder.start().await?;
        if local {
            // What they take belongs to the idle node.
            tokio::time::sleep(LOADING).await;
        }
        Ok(Self { stack, _agent: agent })
    }

    /// Its process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.media()?.process()?.pid())
    }

    fn media(&self) -> anyhow::Result<&Service> {
        self.stack.media.first().context("no media node")
    }

    /// Where its sockets are.
    pub fn ws_url(&self) -> anyhow::Result<String> {
        Ok(self.media()?.ws_url())
    }

    /// Its phone callers.
    pub fn phone(&self) -> anyhow::Result<Far> {
        Ok(Far::Phone {
            url: format!("{}/telephony/ws", self.ws_url()?),
            secret: self.stack.service_token.clone(),
        })
    }

    /// Ends it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stack.stop(PATIENCE).await
    }
}

/// Hears the same, thinks nothing, and speaks for [`ANSWER`], at once.
pub async fn agent() -> anyhow::Result<OpenAiServer> {
    let agent = OpenAiServer::start().await?;
    agent.otherwise(Endpoint::Transcriptions, Answer::transcript("When are you open?"));
    // One sentence, and so one request for speech.
    agent.otherwise(
        Endpoint::Chat,
        Answer::chat(["We ", "are ", "open ", "until ", "five."]),
    );
    let length_ms = u32::try_from(ANSWER.as_millis())?;
    agent.otherwise(Endpoint::Speech, Answer::speech(&tone(440.0, length_ms)));
    agent.forget_requests();
    Ok(agent)
}

/// One kind of calls.
pub struct Scene {
    name: &'static str,
}

impl Scene {
    pub fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Goes through the steps until frames leave late or the machine is full; `wire` is what the bare server took.
    pub async fn run(&self, plan: &Plan, node: &Node, far: Far, wire: &BTreeMap<usize, f64>) -> anyhow::Result<()> {
        let media = node.media()?;
        let (pid, metrics) = (media.process()?.pid(), media.operators_url());
        let archiver = node.stack.archiver.first().context("no archiver")?.process()?.pid();
        let idle_mib = resident_mib(pid)?;
        println!("\n{}; the idle node has {idle_mib:.0} MiB", self.name);
        println!(
            " calls   node  calls/core  ms/call·s  x wire   late p50   late p99  overhead p50  p99  MiB/call  \
             said  answered  heard s  lost | archiver  callers  late p99  others"
        );
        let mut callers = Callers::new(far)?;
        for &calls in plan.steps {
            eprintln!("{calls} calls …");
            callers.grow(calls).await;
            tokio::time::sleep(plan.settle).await;
            let (before, counted) = (Metrics::of(&metrics).await?, callers.tally.count());
            let (times, archived) = (Times::now(pid)?, cpu_secs(archiver)?);
            tokio::time::sleep(plan.window).await;
            let measured = times.until(&Times::now(pid)?)?;
            let archiver_cores = (cpu_secs(archiver)? - archived) / plan.window.as_secs_f64();
            let (now, seen) = (Metrics::of(&metrics).await?, callers.tally.count().since(&counted));
            let late = |share| now.within(&before, LATENESS, "", share);
            let overhead = |share| now.within(&before, TURNS, "stage=\"overhead\"", share) * 1_000.0;
            let answered = now.get(ANSWERED) - before.get(ANSWERED);
            let wire = wire
                .get(&calls)
                .map_or_else(|| "–".to_owned(), |wire| format!("{:.1}", measured.cores / wire));
            println!(
                "{calls:>6} {:>6.2} {:>11.0} {:>10.2} {wire:>7} {:>7.0} ms {:>7.0} ms {:>10.0} ms {:>4.0} {:>9.2} {:>5} {answered:>9.0} {:>8.0} {:>5} | {archiver_cores:>8.2} {:>8.2} {:>6.0} ms {:>7.2}",
                measured.cores,
                calls as f64 / measured.cores,
                measured.cores * 1_000.0 / calls as f64,
                late(0.5) * 1_000.0,
                late(0.99) * 1_000.0,
                overhead(0.5),
                overhead(0.99),
                (resident_mib(pid)? - idle_mib) / calls as f64,
                seen.said,
                seen.heard_ms as f64 / 1_000.0,
                seen.lost,
                measured.callers,
                seen.late_p99_ms(),
                (measured.others() - archiver_cores).max(0.0),
            );
            let late = (late(0.99) > LATE_SECS && measured.others() < DISTURBED).then_some("frames leave late");
            if let Some(why) = measured.is_over(&seen).or(late) {
                println!("        {why}");
                break;
            }
        }
        callers.leave().await;
        Ok(())
    }
}
