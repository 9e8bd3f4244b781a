//! Free loopback ports for processes that cannot be told to listen on port 0.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::bail;

/// Below the range the kernel takes outgoing ports from (32768 on Linux), so that a server that is stopped finds its
/// port still free when it comes back.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Draws before giving up: a machine on which this many random ports are taken has another problem.
const MAX_DRAWS: usize = 1_000;

/// Ports handed out by this process, never twice.
static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port that is free for TCP and UDP on every address at the time of asking.
///
/// Another program may take it before the caller binds it: starters draw again when that happens.
///
/// # Errors
/// When no free port is found.
pub fn free_port() -> anyhow::Result<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..MAX_DRAWS {
        let port = rand::random_range(RANGE);
        if !taken.contains(&port) && is_free(port) {
            taken.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port between {} and {} on this machine", RANGE.start, RANGE.end)
}

fn is_free(port: u16) -> bool {
    let any = (Ipv4Addr::UNSPECIFIED, port);
    let loopback = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(any).is_ok() && TcpListener::bind(loopback).is_ok() && UdpSocket::bind(any).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: HashSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
