//! Which media nodes to ask for a new session, and in which order. A pure function: what the store counts as placed and
//! the nodes' own refusal decide.

use session_store::NodeRecord;

/// Why no node can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoNode {
    /// No node that is alive serves this transport.
    #[error("no media node accepts {0} sessions")]
    NotServed(&'static str),
    /// The nodes that serve it are all full or draining.
    #[error("no media node accepts {0} sessions: all of them are full or draining")]
    NoRoom(&'static str),
}

/// What a session needs of its node.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `telephony`, `websocket`, `webrtc`.
    pub transport: &'static str,
    /// Zone whose nodes come first.
    pub zone: Option<&'a str>,
}

/// A node to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its last report.
    pub node: &'a NodeRecord,
    /// Whether it has a slot by its report and what was placed since. Otherwise it may still have one: what was placed
    /// may have been given back, or be in the report already.
    pub has_slot: bool,
}

/// Nodes that may take one more session, best first, drawn as they are asked for: nodes with free slots in the wanted
/// zone, those elsewhere, and last those that have room by their own report only.
///
/// Draining and full nodes, and those that do not serve the transport, are left out. Within each of the three the order
/// comes from the power of two choices: two of the nodes that remain are drawn with `random`, and the one with more free
/// slots goes first. That keeps instances that choose at the same moment from all choosing the one node that looks
/// emptiest.
pub fn candidates<'a, R: FnMut() -> u64>(
    nodes: &'a [NodeRecord],
    wanted: Wanted<'_>,
    random: R,
) -> Result<Candidates<'a, R>, NoNode> {
    let mut tiers = [const { Vec::new() }; 3];
    let [near, far, by_report] = &mut tiers;
    let mut served = false;
    for node in nodes {
        if !node.transports.iter().any(|served| served == wanted.transport) {
            continue;
        }
        served = true;
        if !node.has_room() {
            continue;
        }
        let is_near = wanted.zone.is_none() || wanted.zone == node.zone.as_deref();
        match (node.free_slots(), is_near) {
            (0, _) => by_report.push(node),
            (_, true) => near.push(node),
            (_, false) => far.push(node),
        }
    }
    if !served {
        return Err(NoNode::NotServed(wanted.transport));
    }
    if tiers.iter().all(Vec::is_empty) {
        return Err(NoNode::NoRoom(wanted.transport));
    }
    Ok(Candidates { tiers, random })
}

/// See [`candidates`].
#[derive(Debug)]
pub struct Candidates<'a, R> {
    tiers: [Vec<&'a NodeRecord>; 3],
    random: R,
}

impl<'a, R: FnMut() -> u64> Iterator for Candidates<'a, R> {
    type Item = Candidate<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let tier = self.tiers.iter_mut().find(|tier| !tier.is_empty())?;
        let first = draw((self.random)(), tier.len());
        let second = another((self.random)(), first, tier.len());
        let better = if free_at(tier, second) > free_at(tier, first) {
            second
        } else {
            first
        };
        let node = tier.swap_remove(better);
        Some(Candidate {
            node,
            has_slot: node.free_slots() > 0,
        })
    }
}

fn free_at(nodes: &[&NodeRecord], index: usize) -> u32 {
    nodes.get(index).map_or(0, |node| node.free_slots())
}

/// An index below `len`, which is at least 1. The bias of the remainder is one in 2^58 for any real fleet.
fn draw(random: u64, len: usize) -> usize {
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    usize::try_from(random % len).unwrap_or(0)
}

/// An index below `len` other than `first`, where there is one: drawn twice, the busier of two nodes would be taken every
/// fourth time.
fn another(random: u64, first: usize, len: usize) -> usize {
    match len {
        0 | 1 => first,
        _ => (first + 1 + draw(random, len - 1)) % len,
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(id: &str, sessions: u32, capacity: u32) -> NodeRecord {
        NodeRecord {
            node_id: id.to_owned(),
            control_url: format!("http://{id}:9090"),
            public_url: format!("ws://{id}:8080"),
            capacity,
            sessions,
            draining: false,
            transports: vec!["telephony".to_owned(), "websocket".to_owned()],
            version: "0.1.0".to_owned(),
            latency: None,
            zone: None,
            placed: 0,
        }
    }

    fn zoned(id: &str, zone: &str, sessions: u32) -> NodeRecord {
        NodeRecord {
            zone: Some(zone.to_owned()),
            ..node(id, sessions, 10)
        }
    }

    fn placed_on(id: &str, sessions: u32, placed: u32) -> NodeRecord {
        NodeRecord {
            placed,
            ..node(id, sessions, 10)
        }
    }

    const PHONE: Wanted<'static> = Wanted {
        transport: "telephony",
        zone: Some("here"),
    };
    const ANYWHERE: Wanted<'static> = Wanted { zone: None, ..PHONE };

    fn draining(id: &str) -> NodeRecord {
        NodeRecord {
            draining: true,
            ..node(id, 0, 10)
        }
    }

    fn serving(id: &str, transport: &str) -> NodeRecord {
        NodeRecord {
            transports: vec![transport.to_owned()],
            ..node(id, 0, 10)
        }
    }

    /// Plays the given numbers, then zeros.
    fn played(numbers: &[u64]) -> impl FnMut() -> u64 {
        let mut numbers = numbers.iter().copied();
        move || numbers.next().unwrap_or(0)
    }

    /// What, nodes, wanted, numbers drawn, expected order.
    type Case = (
        &'static str,
        Vec<NodeRecord>,
        Wanted<'static>,
        &'static [u64],
        Result<Vec<&'static str>, NoNode>,
    );

    #[test]
    fn candidates_follow_the_table() {
        let not_served = Err(NoNode::NotServed("telephony"));
        let no_room = Err(NoNode::NoRoom("telephony"));
        let cases: Vec<Case> = vec![
            ("no nodes", vec![], ANYWHERE, &[], not_served.clone()),
            (
                "only another transport",
                vec![serving("w", "webrtc")],
                ANYWHERE,
                &[],
                not_served,
            ),
            ("only draining", vec![draining("d")], ANYWHERE, &[], no_room.clone()),
            ("only full", vec![node("f", 10, 10)], ANYWHERE, &[], no_room.clone()),
            ("overfull", vec![node("f", 12, 10)], ANYWHERE, &[], no_room.clone()),
            ("no capacity", vec![node("z", 0, 0)], ANYWHERE, &[], no_room),
            ("one", vec![node("a", 9, 10)], ANYWHERE, &[], Ok(vec!["a"])),
            (
                "unfit ones are left out",
                vec![draining("d"), node("f", 1, 1), serving("w", "webrtc"), node("a", 0, 1)],
                ANYWHERE,
                &[],
                Ok(vec!["a"]),
            ),
            (
                "of two drawn, more free slots goes first",
                vec![node("a", 5, 10), node("b", 2, 10)],
                ANYWHERE,
                &[0, 1],
                Ok(vec!["b", "a"]),
            ),
            (
                "whichever is drawn first",
                vec![node("a", 5, 10), node("b", 2, 10)],
                ANYWHERE,
                &[1, 0],
                Ok(vec!["b", "a"]),
            ),
            (
                "free slots count, not sessions",
                vec![node("small", 0, 2), node("big", 10, 50)],
                ANYWHERE,
                &[0, 1],
                Ok(vec!["big", "small"]),
            ),
            (
                "a tie goes to the one drawn first",
                vec![node("a", 0, 10), node("b", 0, 10)],
                ANYWHERE,
                &[1, 0],
                Ok(vec!["b", "a"]),
            ),
            (
                "the emptiest is not chosen when it is not drawn",
                vec![node("a", 5, 10), node("b", 4, 10), node("empty", 0, 10)],
                ANYWHERE,
                &[0, 0],
                Ok(vec!["b", "empty", "a"]),
            ),
            (
                "what was placed since the report takes slots",
                vec![placed_on("a", 2, 5), node("b", 6, 10)],
                ANYWHERE,
                &[0, 1],
                Ok(vec!["b", "a"]),
            ),
            (
                "a node whose slots are all taken since its report comes last, and is asked",
                vec![placed_on("taken", 2, 8), node("a", 9, 10)],
                ANYWHERE,
                &[0, 1],
                Ok(vec!["a", "taken"]),
            ),
            (
                "the own zone comes first, however full",
                vec![zoned("far", "there", 0), zoned("near", "here", 9)],
                PHONE,
                &[0, 1],
                Ok(vec!["near", "far"]),
            ),
            (
                "another zone before none at all",
                vec![
                    zoned("far", "there", 0),
                    zoned("near", "here", 10),
                    node("unzoned", 0, 10),
                ],
                PHONE,
                &[0, 0],
                Ok(vec!["far", "unzoned"]),
            ),
            (
                "a free slot elsewhere before a taken one here",
                vec![
                    zoned("far", "there", 9),
                    NodeRecord {
                        placed: 1,
                        ..zoned("near", "here", 9)
                    },
                ],
                PHONE,
                &[],
                Ok(vec!["far", "near"]),
            ),
            (
                "zones that nobody prefers are alike",
                vec![zoned("a", "there", 5), zoned("b", "here", 6)],
                ANYWHERE,
                &[0, 1],
                Ok(vec!["a", "b"]),
            ),
        ];
        for (what, nodes, wanted, numbers, expected) in cases {
            let ids = candidates(&nodes, wanted, played(numbers)).map(|order| {
                order
                    .map(|candidate| candidate.node.node_id.as_str())
                    .collect::<Vec<_>>()
            });
            assert_eq!(ids, expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn every_node_that_accepts_is_a_candidate_exactly_once(
            loads in proptest::collection::vec((0u32..5, 0u32..5, any::<bool>()), 1..12),
            seed in any::<u64>(),
        ) {
            let nodes: Vec<_> = loads
                .iter()
                .enumerate()
                .map(|(n, (sessions, capacity, draining))| NodeRecord {
                    draining: *draining,
                    ..node(&format!("n{n:02}"), *sessions, *capacity)
                })
                .collect();
            let mut state = seed;
            let order = candidates(&nodes, ANYWHERE, || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            });
            let mut ids: Vec<_> = order.into_iter().flatten().map(|candidate| candidate.node.node_id.clone()).collect();
            ids.sort();
            let expected: Vec<_> = nodes.iter().filter(|node| node.has_room()).map(|node| node.node_id.clone()).collect();
            prop_assert_eq!(ids, expected);
        }
    }

    #[test]
    fn a_burst_spreads_over_the_fleet_though_no_load_report_arrives_meanwhile() {
        let nodes: Vec<_> = (0..4).map(|n| node(&format!("n{n}"), n, 100)).collect();
        let mut firsts = std::collections::BTreeMap::new();
        for a in 0..4 {
            for b in 0..3 {
                let draws = [a, b];
                let mut order = candidates(&nodes, ANYWHERE, played(&draws)).unwrap();
                *firsts.entry(order.next().unwrap().node.node_id.clone()).or_insert(0) += 1;
            }
        }
        // All 12 draws of two: the emptiest gets 6 of them, the fullest none.
        assert_eq!(firsts.into_values().collect::<Vec<_>>(), [6, 4, 2]);
    }
}
