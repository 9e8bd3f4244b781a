//! What a recording that is being made takes of the node's memory. In a process of its own: others would be counted too.

use std::path::Path;

use super::tests::{PRE_ROLL, call, open};
use super::*;
use crate::archive::ArchiveSink;

/// Set in the process that is measured.
const INSIDE: &str = "VOXRAY_TEST_RECORDING_MEMORY";
/// Recordings at the same time; their number makes the rest of the process small beside them.
const RECORDINGS: usize = 48;
/// Before this, a process grows for reasons of its own.
const WARM_UP: usize = 8;
const LIMIT_KIB: u64 = 256;
/// Longer than what a call holds in memory.
const LENGTH: Duration = Duration::from_secs(8);
const PACKET: Duration = Duration::from_millis(20);

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Calls in which both speak all the time; with `mute` nothing of it may leave the node yet.
fn talk(outbox: &crate::archive::Outbox, names: &str, count: usize, mute: Option<Duration>) -> Vec<CallRecord> {
    let mut calls: Vec<CallRecord> = (0..count)
        .map(|number| {
            let session = outbox.open(&format!("{names}-{number}")).unwrap();
            CallRecord::start(call(Some(Channels::Stereo), mute), Some(session)).unwrap()
        })
        .collect();
    for call in &mut calls {
        call.utterance_begins(UtteranceId(1), Duration::ZERO);
    }
    let mut now = Time::ZERO;
    while now < LENGTH {
        now += PACKET;
        for call in &mut calls {
            call.caller(now, &[1_000; 160]);
            call.agent(now, Duration::from_millis(300), &[2_000; 160]);
        }
    }
    calls
}

#[test]
fn a_recording_that_is_being_made_takes_less_than_256_kib_of_memory() {
    let Some(dir) = std::env::var_os(INSIDE) else {
        let dir = tempfile::tempdir().unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "call::record::memory_tests::a_recording_that_is_being_made_takes_less_than_256_kib_of_memory",
                "--nocapture",
            ])
            .env(INSIDE, dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{said}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{errors}");
        return;
    };
    let outbox = open(Path::new(&dir));
    for (what, mute) in [("recorded", None), ("recorded and held back", Some(PRE_ROLL))] {
        let _warm = talk(&outbox, &format!("warm-{what}"), WARM_UP, mute);
        let before = resident_kib();
        let _calls = talk(&outbox, what, RECORDINGS, mute);
        let each = resident_kib().saturating_sub(before) / RECORDINGS as u64;
        println!("a call that is {what}: {each} KiB");
        assert!(each < LIMIT_KIB, "{each} KiB a call that is {what}");
    }
}
