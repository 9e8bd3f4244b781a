//! How much and how long: short for `make test`, long for `make chaos`.

use std::time::Duration;

/// Calls take the whole machine, so tests take turns with them; what comes of the calls is looked at while the next ones
/// begin.
pub static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn number(name: &str, usual: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// Calls at the same time (`VOXRAY_FAULTS_CALLS`).
pub fn calls() -> usize {
    usize::try_from(number("VOXRAY_FAULTS_CALLS", 50)).unwrap()
}

/// How long a fault lasts (`VOXRAY_FAULTS_SECS`).
pub fn fault() -> Duration {
    Duration::from_secs(number("VOXRAY_FAULTS_SECS", 5))
}

/// How often an archiver is killed (`VOXRAY_FAULTS_KILLS`).
pub fn kills() -> u32 {
    u32::try_from(number("VOXRAY_FAULTS_KILLS", 4)).unwrap()
}

/// Over how long the kills are spread (`VOXRAY_FAULTS_KILL_SECS`).
pub fn kill_time() -> Duration {
    Duration::from_secs(number("VOXRAY_FAULTS_KILL_SECS", 16))
}

/// How long a fleet is replaced, again and again; none for once (`VOXRAY_FLEET_SECS`).
#[allow(dead_code, reason = "the tests of fleets use it")]
pub fn rolling() -> Duration {
    Duration::from_secs(number("VOXRAY_FLEET_SECS", 0))
}

/// Callers at a time of a fleet that is replaced (`VOXRAY_FLEET_CALLS`).
#[allow(dead_code, reason = "the tests of fleets use it")]
pub fn fleet_calls() -> usize {
    usize::try_from(number("VOXRAY_FLEET_CALLS", 60)).unwrap()
}

/// Whether faults last so long that what callers notice of them can be told from what else this machine does.
pub fn is_long() -> bool {
    fault() >= Duration::from_secs(60)
}

/// Within this everything is archived again after a fault (`VOXRAY_FAULTS_CATCH_UP_SECS`).
pub fn catch_up() -> Duration {
    Duration::from_secs(number("VOXRAY_FAULTS_CATCH_UP_SECS", 60))
}

/// Longest until something happens that is waited for before or beside a fault, on a machine that does much else.
pub fn patience() -> Duration {
    Duration::from_secs(90)
}
