//! What processes have used, as the kernel counts it (proc(5)).

use std::path::Path;

use anyhow::Context;

/// Ticks of `/proc` a second (`sysconf(_SC_CLK_TCK)` is 100 on every Linux).
const TICKS: f64 = 100.0;
const KIB_PER_MIB: f64 = 1_024.0;

/// User and system time of a process in seconds: fields 14 and 15 of its `stat`.
///
/// # Errors
/// There is no such process.
pub fn cpu_secs(pid: u32) -> anyhow::Result<f64> {
    let fields = stat(Path::new(&format!("/proc/{pid}")))?;
    Ok(fields.iter().skip(11).take(2).sum::<f64>() / TICKS)
}

/// The same of this process's children that were waited for: fields 16 and 17.
///
/// # Errors
/// `/proc` cannot be read.
pub fn children_cpu_secs() -> anyhow::Result<f64> {
    Ok(stat(Path::new("/proc/self"))?.iter().skip(13).take(2).sum::<f64>() / TICKS)
}

/// Time in seconds that all processors together spent on anything but waiting: `cpu` of `/proc/stat` without `idle` and
/// `iowait`. On a virtual machine it contains what the host took for itself (`steal`).
///
/// # Errors
/// `/proc` cannot be read.
pub fn machine_cpu_secs() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields = line.split_whitespace().skip(1).take(8);
    let busy = fields.enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    Ok(busy.filter_map(|(_, field)| field.parse::<f64>().ok()).sum::<f64>() / TICKS)
}

/// Resident memory of a process in MiB.
///
/// # Errors
/// There is no such process.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmRSS:")
}

/// The most that it ever was.
///
/// # Errors
/// There is no such process.
pub fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmHWM:")
}

fn status_mib(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("no {name} of process {pid}"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / KIB_PER_MIB)
}

/// Fields of `stat` behind the name, which may hold anything: the first is the state, number 3.
fn stat(process: &Path) -> anyhow::Result<Vec<f64>> {
    let text = std::fs::read_to_string(process.join("stat"))?;
    let (_, fields) = text.rsplit_once(')').context("no name in stat")?;
    Ok(fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let own = std::process::id();
        let (before, machine_before) = (cpu_secs(own).unwrap(), machine_cpu_secs().unwrap());
        let mut sum = 0_u64;
        while cpu_secs(own).unwrap() - before < 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(machine_cpu_secs().unwrap() > machine_before);
        assert!(resident_mib(own).unwrap() > 0.5);
        assert!(peak_mib(own).unwrap() >= resident_mib(own).unwrap() * 0.9);
    }
}
