//! pipecat beside a media node: the same callers, the same scripted agent, the same silence at the end of a turn.

use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;
use voxray_testkit::openai::OpenAiServer;
use voxray_testkit::ports::free_port;
use voxray_testkit::process::{Process, Spec};
use voxray_testkit::servers::tools::workspace_root;
use voxray_testkit::usage::resident_mib;

use crate::callers::{Callers, Far, PERIOD};
use crate::scene::{ANSWER, Node, Plan, agent, measure_bare};

/// Where `scripts/bench-media.sh` has put pipecat.
const PACKAGES: &str = "BENCH_PIPECAT";
/// Python reads some hundred modules.
const START: Duration = Duration::from_secs(60);
/// Up to what one process of asyncio can do.
const PLAN: Plan = Plan {
    steps: &[5, 10, 20, 30],
    settle: PERIOD,
    window: Duration::from_secs(24),
};
const QUICK: Plan = Plan {
    steps: &[5, 10],
    settle: PERIOD,
    window: PERIOD,
};

/// One process that answers phone calls.
struct Side<'a> {
    name: &'a str,
    pid: u32,
    far: Far,
}

struct Pipecat {
    process: Process,
    url: String,
    _agent: OpenAiServer,
    _folder: tempfile::TempDir,
}

impl Pipecat {
    async fn start() -> anyhow::Result<Self> {
        let packages =
            std::env::var_os(PACKAGES).context("pipecat is not there: run `make bench-media BENCH_MEDIA=pipecat`")?;
        let (port, folder, agent) = (free_port()?, tempfile::tempdir()?, agent().await?);
        let spec = Spec::new("pipecat", "python3")
            .arg("-B")
            .arg(workspace_root().join("testkit/peers/pipecat_agent.py"))
            .args([port.to_string(), agent.base_url()])
            .env("PYTHONPATH", packages);
        let process = Process::spawn(spec, &folder.path().join("pipecat.log"))?;
        let listens = || async { Ok(TcpStream::connect(("127.0.0.1", port)).await.map(drop)?) };
        process.wait_until_ready(START, listens).await?;
        Ok(Self {
            process,
            url: format!("ws://127.0.0.1:{port}/"),
            _agent: agent,
            _folder: folder,
        })
    }
}

/// Measures both, one after the other, and prints what one takes of the other.
pub async fn compare(quick: bool) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { PLAN };
    let node = Node::start(false, false).await?;
    let ours = Side {
        name: "Voxray, a media node",
        pid: node.pid()?,
        far: node.phone()?,
    };
    let ours = ours.run(&plan).await?;
    node.stop().await?;
    let pipecat = Pipecat::start().await?;
    let theirs = Side {
        name: "pipecat, one process",
        pid: pipecat.process.pid(),
        far: Far::Wire {
            url: pipecat.url.clone(),
        },
    };
    let theirs = theirs.run(&plan).await?;
    for ((calls, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        println!(
            "{calls:>6} calls: pipecat takes {:.1} times the CPU time of a media node",
            theirs / ours
        );
    }
    Ok(())
}

impl Side<'_> {
    /// Goes through the steps; processors by number of calls.
    async fn run(self, plan: &Plan) -> anyhow::Result<Vec<(usize, f64)>> {
        let idle_mib = resident_mib(self.pid)?;
        println!(
            "\n{}: phone calls (Twilio), nothing archived; {idle_mib:.0} MiB before the first call",
            self.name
        );
        println!(" calls  processors  ms/call·s  MiB/call  answers of  heard of s  answer p50   p99  lost");
        let mut callers = Callers::new(self.far)?;
        let mut cores = Vec::new();
        for &calls in plan.steps {
            let (measured, seen) = measure_bare(plan, &mut callers, calls, self.pid).await?;
            let answers = callers.tally.take_answers();
            let at = |share: f64| {
                answers
                    .get((answers.len() as f64 * share) as usize)
                    .copied()
                    .unwrap_or_default()
            };
            println!(
                "{calls:>6} {:>11.2} {:>10.2} {:>9.2} {:>7} {:>2} {:>8.0} {:>3} {:>8} ms {:>5} {:>5}",
                measured.cores,
                measured.cores * 1_000.0 / calls as f64,
                (resident_mib(self.pid)? - idle_mib) / calls as f64,
                answers.len(),
                seen.said,
                seen.heard_ms as f64 / 1_000.0,
                seen.said * ANSWER.as_secs(),
                at(0.5),
                at(0.99),
                seen.lost,
            );
            cores.push((calls, measured.cores));
            if let Some(why) = measured.is_over(&seen) {
                println!("        {why}");
                break;
            }
        }
        callers.leave().await;
        Ok(cores)
    }
}
