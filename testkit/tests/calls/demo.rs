//! `voxray demo`, as somebody runs it who has just built it.

use std::time::Duration;

use voxray_testkit::environment::hide_settings;
use voxray_testkit::process::{Process, Spec};
use voxray_testkit::stack::voxray_binary;

/// The call takes three quarters of a minute; a machine that is busy with other tests is slower to start.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test]
async fn the_demo_is_understood_and_answered_and_shows_how() {
    let folder = tempfile::tempdir().unwrap();
    let (out, log) = (folder.path().join("out"), folder.path().join("demo.log"));
    let spec = Spec::new("demo", voxray_binary().unwrap())
        .folder(folder.path())
        .args(["demo", "--out"])
        .arg(&out);

    let process = Process::spawn(hide_settings(spec, false), &log).unwrap();
    let status = tokio::time::timeout(LIMIT, process.wait()).await.unwrap().unwrap();

    let said = std::fs::read_to_string(&log).unwrap();
    println!("{said}");
    assert!(status.success(), "{status}");
    assert!(said.lines().any(|line| line.starts_with("passed: ")));
    let timings = said
        .lines()
        .filter(|line| line.contains("end of speech → turn over"))
        .count();
    assert!(timings >= 5, "{timings} answers were timed");
    let rows: Vec<&str> = said
        .lines()
        .skip_while(|line| !line.starts_with("transcript rows, read back from SQLite"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .collect();
    for role in ["user", "assistant"] {
        let of_role = rows
            .iter()
            .filter(|row| row.split_whitespace().nth(1) == Some(role))
            .count();
        assert!(of_role >= 5, "{of_role} rows of {role}: {rows:#?}");
    }
    let recording = said
        .lines()
        .find_map(|line| line.strip_prefix("recording (left caller, right agent): "))
        .unwrap();
    assert!(hound::WavReader::open(recording).unwrap().duration() > 8_000 * 20);
    assert!(out.join("heard-by-the-caller.wav").is_file());
}
