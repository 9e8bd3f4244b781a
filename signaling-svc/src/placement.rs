//! Which media nodes to ask for a new session, and in which order. A pure function: the nodes' own refusal decides.

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

/// Nodes that can take one more session of `transport`, best first.
///
/// Draining and full nodes, and those that do not serve the transport, are left out. The order comes from the power of
/// two choices: two of the remaining nodes are drawn with `random`, the one with more free slots goes first, and so on.
/// Load reports are up to two seconds old; drawing keeps a burst of calls from all landing on the one node that looked
/// emptiest.
pub fn candidates<'a>(
    nodes: &'a [NodeRecord],
    transport: &'static str,
    mut random: impl FnMut() -> u64,
) -> Result<Vec<&'a NodeRecord>, NoNode> {
    let serving: Vec<_> = nodes
        .iter()
        .filter(|node| node.transports.iter().any(|served| served == transport))
        .collect();
    if serving.is_empty() {
        return Err(NoNode::NotServed(transport));
    }
    let mut remaining: Vec<_> = serving.into_iter().filter(|node| accepts(node)).collect();
    if remaining.is_empty() {
        return Err(NoNode::NoRoom(transport));
    }
    let mut ordered = Vec::with_capacity(remaining.len());
    while !remaining.is_empty() {
        let first = draw(random(), remaining.len());
        let second = draw(random(), remaining.len());
        let better = if free_at(&remaining, second) > free_at(&remaining, first) {
            second
        } else {
            first
        };
        ordered.push(remaining.swap_remove(better));
    }
    Ok(ordered)
}

/// Whether a node takes new sessions: it has a free slot and is not draining.
pub fn accepts(node: &NodeRecord) -> bool {
    !node.draining && free_slots(node) > 0
}

fn free_slots(node: &NodeRecord) -> u32 {
    node.capacity.saturating_sub(node.sessions)
}

fn free_at(nodes: &[&NodeRecord], index: usize) -> u32 {
    nodes.get(index).map_or(0, |node| free_slots(node))
}

/// An index below `len`, which is at least 1. The bias of the remainder is one in 2^58 for any real fleet.
fn draw(random: u64, len: usize) -> usize {
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    usize::try_from(random % len).unwrap_or(0)
}

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
        }
    }

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

    /// What, nodes, numbers drawn, expected order.
    type Case = (
        &'static str,
        Vec<NodeRecord>,
        &'static [u64],
        Result<Vec<&'static str>, NoNode>,
    );

    #[test]
    fn candidates_follow_the_table() {
        let not_served = Err(NoNode::NotServed("telephony"));
        let no_room = Err(NoNode::NoRoom("telephony"));
        let cases: Vec<Case> = vec![
            ("no nodes", vec![], &[], not_served.clone()),
            ("only another transport", vec![serving("w", "webrtc")], &[], not_served),
            ("only draining", vec![draining("d")], &[], no_room.clone()),
            ("only full", vec![node("f", 10, 10)], &[], no_room.clone()),
            ("overfull", vec![node("f", 12, 10)], &[], no_room.clone()),
            ("no capacity", vec![node("z", 0, 0)], &[], no_room),
            ("one", vec![node("a", 9, 10)], &[], Ok(vec!["a"])),
            (
                "unfit ones are left out",
                vec![draining("d"), node("f", 1, 1), serving("w", "webrtc"), node("a", 0, 1)],
                &[],
                Ok(vec!["a"]),
            ),
            (
                "of two drawn, more free slots goes first",
                vec![node("a", 5, 10), node("b", 2, 10)],
                &[0, 1],
                Ok(vec!["b", "a"]),
            ),
            (
                "whichever is drawn first",
                vec![node("a", 5, 10), node("b", 2, 10)],
                &[1, 0],
                Ok(vec!["b", "a"]),
            ),
            (
                "free slots count, not sessions",
                vec![node("small", 0, 2), node("big", 10, 50)],
                &[0, 1],
                Ok(vec!["big", "small"]),
            ),
            (
                "a tie goes to the one drawn first",
                vec![node("a", 0, 10), node("b", 0, 10)],
                &[1, 0],
                Ok(vec!["b", "a"]),
            ),
            (
                "the emptiest is not chosen when it is not drawn",
                vec![node("a", 5, 10), node("b", 4, 10), node("empty", 0, 10)],
                &[0, 1, 0, 1],
                Ok(vec!["b", "empty", "a"]),
            ),
        ];
        for (what, nodes, numbers, expected) in cases {
            let ids = candidates(&nodes, "telephony", played(numbers))
                .map(|order| order.into_iter().map(|node| node.node_id.as_str()).collect::<Vec<_>>());
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
            let order = candidates(&nodes, "telephony", || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            });
            let mut ids: Vec<_> = order.unwrap_or_default().iter().map(|node| node.node_id.clone()).collect();
            ids.sort();
            let expected: Vec<_> = nodes.iter().filter(|node| accepts(node)).map(|node| node.node_id.clone()).collect();
            prop_assert_eq!(ids, expected);
        }
    }

    #[test]
    fn a_burst_spreads_over_the_fleet_though_no_load_report_arrives_meanwhile() {
        let nodes: Vec<_> = (0..4).map(|n| node(&format!("n{n}"), n, 100)).collect();
        let mut firsts = std::collections::BTreeMap::new();
        for a in 0..4 {
            for b in 0..4 {
                let order = candidates(&nodes, "telephony", played(&[a, b])).unwrap();
                *firsts.entry(order[0].node_id.clone()).or_insert(0) += 1;
            }
        }
        // All 16 draws of two: the emptiest gets 7 of them, the fullest 1.
        assert_eq!(firsts.into_values().collect::<Vec<_>>(), [7, 5, 3, 1]);
    }
}
