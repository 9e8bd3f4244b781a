//! The disk of the outbox is full: calls that cannot be recorded are refused, the others go on.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use voxray::caller::{Call, CallError, Step};
use voxray_testkit::service::{Role, Service};
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::gauges::{self, Metrics};
use crate::load::{self, Load};
use crate::{scale, truth};

const PATIENCE: Duration = Duration::from_secs(90);
/// Size of the node's disk, enough for what fifty calls have on the way.
const DISK: &str = "192m";

/// A disk of its own for the node: a `tmpfs` in a mount namespace that ends with the process. Where the kernel allows that
/// to nobody, a limit on the size of files stands for it.
enum SmallDisk {
    Mounted { seen_from_here: PathBuf },
    Limited { pid: u32 },
}

/// Commands that run a node on a small disk.
fn on_small_disk(folder: &Path) -> (bool, Vec<String>) {
    let namespace: &[&str] = if rustix::process::geteuid().is_root() {
        &["unshare", "--mount"]
    } else {
        &["unshare", "--mount", "--map-root-user"]
    };
    let mount = format!("mount -t tmpfs -o size={DISK} tmpfs '{}'", folder.display());
    let tried = std::process::Command::new(namespace[0])
        .args(&namespace[1..])
        .args(["sh", "-c", &mount])
        .output();
    if tried.is_ok_and(|output| output.status.success()) {
        let command = namespace.iter().map(|word| (*word).to_owned());
        let script = format!("{mount} && exec \"$0\" \"$@\"");
        return (
            true,
            command.chain(["sh".to_owned(), "-c".to_owned(), script]).collect(),
        );
    }
    println!("this kernel lets nobody mount: a file-size limit stands for the full disk");
    (false, ["env", "--ignore-signal=XFSZ"].map(str::to_owned).to_vec())
}

impl SmallDisk {
    fn of(node: &Service, folder: &Path, mounted: bool) -> Self {
        let pid = node.process().unwrap().pid();
        if !mounted {
            return Self::Limited { pid };
        }
        let below_root = folder.strip_prefix("/").unwrap();
        let seen_from_here = Path::new(&format!("/proc/{pid}/root")).join(below_root);
        Self::Mounted { seen_from_here }
    }

    /// Takes all that is left.
    fn fill(&self) {
        match self {
            Self::Mounted { seen_from_here } => {
                let mut ballast = File::create(seen_from_here.join("ballast")).unwrap();
                let mut piece = vec![0; 1 << 20];
                loop {
                    match ballast.write_all(&piece) {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::StorageFull && piece.len() > 1 => {
                            piece.truncate(piece.len() / 2)
                        }
                        Err(error) if error.kind() == ErrorKind::StorageFull => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            Self::Limited { pid } => limit(*pid, "60000"),
        }
    }

    fn free(&self) {
        match self {
            Self::Mounted { seen_from_here } => std::fs::remove_file(seen_from_here.join("ballast")).unwrap(),
            Self::Limited { pid } => limit(*pid, "unlimited"),
        }
    }
}

fn limit(pid: u32, bytes: &str) {
    let set = std::process::Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")])
        .status();
    assert!(set.unwrap().success());
}

async fn refuses(stack: &Stack, wanted: f64) {
    let seen = eventually("the gauge to show it", PATIENCE, || async {
        let metrics = Metrics::of(&stack.media[0].url()).await?;
        Ok((metrics.get("outbox_refuses_calls{reason=\"disk\"}") == wanted).then_some(()))
    });
    seen.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_new_calls_with_the_reason_and_running_ones_go_on() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let folder = tempfile::tempdir().unwrap();
    let (mounted, command) = on_small_disk(folder.path());
    let builder = load::builder(&agent).run_by(Role::Media, command).env_for(
        Role::Media,
        "VOXRAY_OUTBOX_DIR",
        folder.path().join("outbox").display().to_string(),
    );
    let stack = load::start(builder).await;
    let node = &stack.media[0];
    let disk = SmallDisk::of(node, folder.path(), mounted);
    let calls = Load::start(&stack).await;
    let running = load::connected(&stack).await;

    disk.fill();
    refuses(&stack, 1.0).await;
    let (status, why) = gauges::ready(node).await.unwrap();
    assert_eq!(status, 503);
    assert!(why.contains("outbox") && why.contains("disk"), "{why}");
    assert_eq!(truth::logged(node, "new recorded calls are refused").len(), 1);
    let call = Call::new(stack.signaling[0].url(), vec![Step::answer()]);
    let refused = call.place().await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Refused(said) if said.contains("cannot take your call")),
        "{refused}"
    );
    let told = truth::logged(&stack.signaling[0], "a phone call was turned away");
    assert!(
        told.iter().any(|line| line["error"]
            .as_str()
            .unwrap_or_default()
            .contains("the disk of the outbox")),
        "{told:?}"
    );
    tokio::time::sleep(scale::fault()).await;

    disk.free();
    refuses(&stack, 0.0).await;
    assert_eq!(gauges::ready(node).await.unwrap().0, 200);
    assert_eq!(truth::logged(node, "the outbox takes new calls again").len(), 1);
    let call = Call::new(stack.signaling[0].url(), vec![Step::answer()]);
    call.place().await.expect("calls are taken again, without a restart");

    let placed = calls.stop().await;
    drop(turn);
    let refused = placed
        .iter()
        .filter(|placed| matches!(placed.outcome, Err(CallError::Refused(_))))
        .count();
    for placed in &placed {
        let went_on = matches!(placed.outcome, Ok(()) | Err(CallError::Refused(_)));
        assert!(went_on, "{placed:?}: a call that has begun goes on");
    }
    let archived = truth::assert_archived(&stack, scale::catch_up()).await;
    println!(
        "{} running when the disk filled up, {} calls refused, {} of {} recordings incomplete, {} turns all there",
        running.len(),
        refused,
        archived.incomplete.len(),
        archived.calls,
        archived.turns
    );
    assert!(!archived.incomplete.is_empty(), "nothing was lost on a full disk?");
    let lost = Metrics::of(&node.url()).await.unwrap();
    assert!(lost.get("outbox_lost_events_total{kind=\"audio\"}") > 0.0);
    assert_eq!(lost.get("outbox_lost_events_total{kind=\"turn\"}"), 0.0);
}
