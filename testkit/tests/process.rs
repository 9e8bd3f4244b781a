//! What tests rely on when they run other programs.

use std::path::PathBuf;
use std::time::Duration;

use voxray_testkit::process::{Process, Spec};

const LIMIT: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Spec {
    Spec::new("script", "/bin/sh").args(["-c", script])
}

fn exists(pid: &str) -> bool {
    // A zombie still has a folder; only something alive has a command line.
    std::fs::read(PathBuf::from("/proc").join(pid).join("cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_program_that_ends_before_it_is_ready_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::spawn(
        shell("echo the bucket is missing >&2; exit 3"),
        &folder.path().join("log"),
    )
    .unwrap();

    let error = process
        .wait_until_ready(LIMIT, || async { anyhow::bail!("not yet") })
        .await
        .unwrap_err();

    let text = format!("{error:#}");
    assert!(
        text.contains("exit status: 3") && text.contains("the bucket is missing"),
        "{text}"
    );
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec::new("ghost", "/nowhere/ghost");

    let error = spec.run(&folder.path().join("log")).await.unwrap_err();

    assert!(error.to_string().contains("/nowhere/ghost"), "{error}");
}

#[tokio::test]
async fn dropping_a_process_takes_its_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let process = Process::spawn(shell("sleep 1000 & echo $!; wait"), &log).unwrap();
    let child = || async {
        let text = std::fs::read_to_string(&log)?;
        anyhow::ensure!(text.ends_with('\n'), "nothing said yet");
        Ok(())
    };
    process.wait_until_ready(LIMIT, child).await.unwrap();
    let child = std::fs::read_to_string(&log).unwrap().trim().to_owned();
    let parent = process.pid().to_string();

    drop(process);

    assert!(!exists(&parent));
    // The kernel ends the child asynchronously; it was signalled before `drop` returned.
    while exists(&child) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_process_that_is_asked_to_end_does_so_in_its_own_way() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let process = Process::spawn(shell(script), &log).unwrap();
    let ready = || async {
        anyhow::ensure!(std::fs::read_to_string(&log)?.starts_with("ready\n"), "not ready");
        Ok(())
    };
    process.wait_until_ready(LIMIT, ready).await.unwrap();

    process.terminate().unwrap();
    let status = process.wait().await.unwrap();

    assert!(status.success());
    assert_eq!(process.log_tail(), "ready\nbye");
    process.terminate().unwrap();
}
