//! ICE candidates as they are written (RFC 8839, section 5.1).

use std::net::{IpAddr, SocketAddr};

/// Candidates a client may name for one offer and all that it finds after it. A machine with ten addresses, a STUN and
/// two TURN servers has some forty.
pub const MOST_CANDIDATES: usize = 100;
/// Longest line that is looked at, in bytes.
const LONGEST: usize = 1_024;

/// A line that is no candidate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an ICE candidate: {0:?}")]
pub struct BadCandidate(String);

/// The candidate with its address as ICE knows it inside; `None` for one that media cannot use: TCP, RTCP's own, and
/// names under `.local`, which only their own network can look up (such a client is found by its checks).
///
/// # Errors
/// [`BadCandidate`].
pub fn translated(
    candidate: &str,
    stand_in: impl Fn(SocketAddr) -> SocketAddr,
) -> Result<Option<String>, BadCandidate> {
    let bad = || BadCandidate(candidate.chars().take(64).collect());
    if candidate.len() > LONGEST {
        return Err(bad());
    }
    let value = candidate.trim();
    let value = value.strip_prefix("a=").unwrap_or(value);
    let value = value.strip_prefix("candidate:").unwrap_or(value);
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let &[foundation, component, protocol, priority, address, port, typ, kind, ..] = words.as_slice() else {
        return Err(bad());
    };
    let is_kind = matches!(kind, "host" | "srflx" | "prflx" | "relay");
    if typ != "typ" || !is_kind || priority.parse::<u32>().is_err() || !is_foundation(foundation) {
        return Err(bad());
    }
    let component: u16 = component.parse().map_err(|_| bad())?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    if component != 1 || !protocol.eq_ignore_ascii_case("udp") || port == 0 {
        return Ok(None);
    }
    let Ok(ip) = address.parse::<IpAddr>() else {
        return if is_name(address) { Ok(None) } else { Err(bad()) };
    };
    if ip.is_unspecified() || ip.is_multicast() {
        return Ok(None);
    }
    let inside = stand_in(SocketAddr::new(ip, port));
    let mut line = format!(
        "candidate:{foundation} 1 udp {priority} {} {} typ {kind}",
        inside.ip(),
        inside.port()
    );
    // Where a reflexive or relayed address comes from is required to be said, and used by nobody.
    if kind != "host" {
        line.push_str(" raddr 0.0.0.0 rport 0");
    }
    Ok(Some(line))
}

/// Our own candidates, best first.
pub fn host_lines(addresses: impl Iterator<Item = SocketAddr>) -> Vec<String> {
    // 2^24 times the preference of the kind, 2^8 times that of the address, 256 minus the component (RFC 8445, section
    // 5.1.2.1).
    const HOST: u32 = 126 << 24;
    addresses
        .zip(1_u32..)
        .map(|(address, number)| {
            let priority = HOST + ((65_535 - number.min(65_535)) << 8) + 255;
            let (ip, port) = (address.ip(), address.port());
            format!("candidate:{number} 1 udp {priority} {ip} {port} typ host")
        })
        .collect()
}

fn is_foundation(word: &str) -> bool {
    (1..=32).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte))
}

fn is_name(word: &str) -> bool {
    word.len() <= 255
        && word.contains('.')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Option<String>, BadCandidate> {
        translated(line, |peer| match peer {
            SocketAddr::V4(_) => peer,
            SocketAddr::V6(_) => SocketAddr::new("240.0.0.1".parse().unwrap(), peer.port()),
        })
    }

    #[test]
    fn candidates_of_browsers_and_aiortc_are_understood() {
        // what came, what ICE is told
        let cases = [
            (
                "candidate:842163049 1 udp 1677729535 192.0.2.3 46154 typ srflx raddr 10.0.0.1 rport 46154 generation 0 ufrag x/Yz network-cost 999",
                Some("candidate:842163049 1 udp 1677729535 192.0.2.3 46154 typ srflx raddr 0.0.0.0 rport 0"),
            ),
            (
                "a=candidate:bea54e43 1 UDP 2130706431 2001:db8::1 5000 typ host",
                Some("candidate:bea54e43 1 udp 2130706431 240.0.0.1 5000 typ host"),
            ),
            ("1 1 tcp 1518280447 10.0.0.1 9 typ host tcptype active", None),
            ("candidate:1 2 udp 1 10.0.0.1 5001 typ host", None),
            ("candidate:1 1 udp 1 1b2c.local 5001 typ host generation 0", None),
            ("candidate:1 1 udp 1 0.0.0.0 5001 typ host", None),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), Ok(expected.map(str::to_owned)), "{line}");
        }
    }

    #[test]
    fn what_is_no_candidate_is_refused() {
        let cases = [
            "nonsense",
            "candidate:1 1 udp 1 10.0.0.1 70000 typ host",
            "candidate:1 1 udp -1 10.0.0.1 1 typ host",
            "candidate:1 1 udp 1 10.0.0.1 1 typ guest",
            "candidate:1 1 udp 1 not_an_address 1 typ host",
            "candidate:\" 1 udp 1 10.0.0.1 1 typ host",
        ];
        for line in cases {
            assert!(read(line).is_err(), "{line}");
        }
        assert!(
            read(&format!(
                "candidate:1 1 udp 1 10.0.0.1 1 typ host {}",
                "x ".repeat(1_000)
            ))
            .is_err()
        );
    }

    #[test]
    fn our_own_candidates_can_be_read_and_the_first_is_preferred() {
        let addresses = ["192.0.2.1:5", "[2001:db8::1]:5", "127.0.0.1:5"].map(|address| address.parse().unwrap());
        let lines = host_lines(addresses.into_iter());
        let priorities: Vec<u32> = lines
            .iter()
            .map(|line| line.split(' ').nth(3).unwrap().parse().unwrap())
            .collect();
        assert!(priorities.is_sorted_by(|a, b| a > b), "{lines:?}");
        assert!(
            lines.iter().all(|line| read(line).is_ok_and(|read| read.is_some())),
            "{lines:?}"
        );
    }

    proptest! {
        #[test]
        fn no_line_upsets_it(line: String, words in proptest::collection::vec("[a-z0-9.:]{0,8}", 0..12)) {
            let _ = read(&line);
            let _ = read(&words.join(" "));
        }
    }
}
