//! Placement at a scale and for a time that no test with real nodes has. Prints what it measures (`--nocapture`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use session_store::{MemoryStore, NODE_HEARTBEAT, NODE_TTL, NodeRecord, Store};

use super::{Wanted, candidates};

const WANTED: Wanted<'static> = Wanted {
    transport: "telephony",
    zone: None,
};
const SECOND: u64 = 1_000_000;

/// Numbers that look random and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed, in microseconds.
    fn after(&mut self, mean_secs: f64) -> u64 {
        (-(1.0 - self.fraction()).ln() * mean_secs * SECOND as f64) as u64
    }
}

fn report(n: usize, sessions: u32, capacity: u32) -> NodeRecord {
    NodeRecord {
        node_id: format!("n{n:04}"),
        control_url: String::new(),
        public_url: String::new(),
        capacity,
        sessions,
        draining: false,
        transports: vec!["telephony".to_owned()],
        version: String::new(),
        zone: None,
        placed: 0,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Heartbeat(usize),
    Ends { node: usize, life: u32 },
    Dies(usize),
    Restarts(usize),
    Arrives,
    Burst,
    Look,
}

/// What is true of a node, beside what it has reported.
struct Node {
    sessions: u32,
    /// A node that has died and come back has none of the calls it had.
    life: u32,
    alive: bool,
    reported: u64,
}

#[derive(Default)]
struct Outcome {
    calls: u32,
    refused: u32,
    unreachable: u32,
    lost: u32,
    /// Of every look: fullest node over the mean, and standard deviation over the mean.
    fullest: Vec<f64>,
    spread: Vec<f64>,
}

const NODES: usize = 1_000;
const CAPACITY: u32 = 50;
const CALLS: u32 = 100_000;
/// Calls a second; with their mean length they need 30 of every node's 50 slots.
const RATE: f64 = 100.0;
const LENGTH_SECS: f64 = 300.0;

/// A fleet in virtual time: `reports` is what the store has, `nodes` what is so.
struct Fleet {
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    nodes: Vec<Node>,
    reports: Vec<NodeRecord>,
    dice: Dice,
    outcome: Outcome,
}

impl Fleet {
    fn new() -> Self {
        let mut fleet = Self {
            now: 0,
            events: BinaryHeap::new(),
            nodes: Vec::new(),
            reports: Vec::new(),
            dice: Dice(1),
            outcome: Outcome::default(),
        };
        for n in 0..NODES {
            fleet.nodes.push(Node {
                sessions: 0,
                life: 0,
                alive: true,
                reported: 0,
            });
            fleet.reports.push(report(n, 0, CAPACITY));
            let first = fleet.dice.roll() % micros(NODE_HEARTBEAT);
            fleet.at(first, Event::Heartbeat(n));
        }
        fleet.at(0, Event::Arrives);
        for n in 0..15 {
            fleet.at((n * 60 + 30) * SECOND, Event::Burst);
        }
        for n in 0..40 {
            let node = (fleet.dice.roll() % NODES as u64) as usize;
            fleet.at((n * 23 + 100) * SECOND, Event::Dies(node));
        }
        for n in 30..95 {
            fleet.at(n * 10 * SECOND, Event::Look);
        }
        fleet
    }

    fn at(&mut self, when: u64, event: Event) {
        self.events.push(Reverse((when, event)));
    }

    fn run(mut self) -> Outcome {
        while let Some(Reverse((now, event))) = self.events.pop() {
            self.now = now;
            match event {
                Event::Arrives if self.outcome.calls < CALLS => {
                    self.place();
                    let next = now + self.dice.after(1.0 / RATE);
                    self.at(next, Event::Arrives);
                }
                // All calls have come; the looks are over by then.
                Event::Arrives => break,
                Event::Burst => (0..500).for_each(|_| self.place()),
                Event::Heartbeat(n) => self.heartbeat(n),
                Event::Ends { node, life } => {
                    let node = &mut self.nodes[node];
                    if node.life == life {
                        node.sessions -= 1;
                    }
                }
                Event::Dies(n) => {
                    let node = &mut self.nodes[n];
                    if node.alive {
                        node.alive = false;
                        node.life += 1;
                        self.outcome.lost += std::mem::take(&mut node.sessions);
                        self.at(now + 45 * SECOND, Event::Restarts(n));
                    }
                }
                Event::Restarts(n) => {
                    self.nodes[n].alive = true;
                    self.at(now, Event::Heartbeat(n));
                }
                Event::Look => self.look(),
            }
        }
        self.outcome
    }

    fn heartbeat(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.alive {
            node.reported = self.now;
            let report = &mut self.reports[n];
            (report.sessions, report.placed, report.draining) = (node.sessions, 0, false);
            self.at(self.now + micros(NODE_HEARTBEAT), Event::Heartbeat(n));
        } else {
            // Nobody reports; after a while nobody lists it. Draining is as good as gone here.
            let silent_for = self.now - node.reported;
            if silent_for >= micros(NODE_TTL) {
                self.reports[n].draining = true;
            } else {
                let gone = node.reported + micros(NODE_TTL);
                self.at(gone, Event::Heartbeat(n));
            }
        }
    }

    fn place(&mut self) {
        self.outcome.calls += 1;
        let dice = &mut self.dice;
        let mut taken = None;
        for candidate in candidates(&self.reports, WANTED, || dice.roll()).into_iter().flatten() {
            let n: usize = candidate.node.node_id.trim_start_matches('n').parse().unwrap();
            let node = &self.nodes[n];
            if !node.alive {
                self.outcome.unreachable += 1;
            } else if node.sessions < CAPACITY {
                taken = Some(n);
                break;
            }
        }
        let Some(n) = taken else {
            self.outcome.refused += 1;
            return;
        };
        self.reports[n].placed += 1;
        self.nodes[n].sessions += 1;
        let life = self.nodes[n].life;
        let ends = self.now + self.dice.after(LENGTH_SECS);
        self.at(ends, Event::Ends { node: n, life });
    }

    fn look(&mut self) {
        let loads: Vec<f64> = self
            .nodes
            .iter()
            .filter(|node| node.alive)
            .map(|node| f64::from(node.sessions))
            .collect();
        let mean = loads.iter().sum::<f64>() / loads.len() as f64;
        let variance = loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / loads.len() as f64;
        self.outcome
            .fullest
            .push(loads.iter().copied().fold(0.0, f64::max) / mean);
        self.outcome.spread.push(variance.sqrt() / mean);
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    duration.as_micros() as u64
}

#[test]
fn a_thousand_nodes_stay_even_under_a_hundred_thousand_calls_while_some_die() {
    let outcome = Fleet::new().run();

    let (fullest, spread) = (worst(&outcome.fullest), worst(&outcome.spread));
    println!(
        "{NODES} nodes of {CAPACITY}, {} calls: {} refused, {} asked of dead nodes, {} lost with their node; \
         worst of {} looks: fullest node {fullest:.2} times the mean, standard deviation {:.1} % of the mean",
        outcome.calls,
        outcome.refused,
        outcome.unreachable,
        outcome.lost,
        outcome.fullest.len(),
        spread * 100.0,
    );
    assert_eq!(outcome.refused, 0, "there was always room");
    assert!(fullest < 1.35, "{fullest}");
    assert!(spread < 0.2, "{spread}");
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// How the nodes fill when two instances place 500 sessions at the same time, all of them inside one heartbeat: each
/// session reads the nodes, and others place before it has chosen.
async fn burst(with_tickets: bool) -> Vec<u32> {
    const NODES: usize = 10;
    const CAPACITY: u32 = 60;
    let store = MemoryStore::new();
    for n in 0..NODES {
        // One has just come, the others are half full: to a stale eye it is the best for all.
        let sessions = if n == 0 { 0 } else { 10 };
        store.heartbeat(&report(n, sessions, CAPACITY)).await.unwrap();
    }
    let placed = std::sync::Mutex::new(vec![0_u32; NODES]);
    let instance = async |number: u64| {
        let sessions = (0..250).map(async |session: u64| {
            let mut dice = Dice(number << 32 | session);
            let nodes = store.nodes().await.unwrap();
            let nodes: Vec<_> = nodes
                .into_iter()
                .map(|node| NodeRecord {
                    placed: if with_tickets { node.placed } else { 0 },
                    ..node
                })
                .collect();
            // The other instance, and this one's other requests, go on.
            for _ in 0..dice.roll() % 4 {
                tokio::task::yield_now().await;
            }
            for candidate in candidates(&nodes, WANTED, || dice.roll()).unwrap() {
                let id = &candidate.node.node_id;
                if !with_tickets || store.place(id, &format!("{number}-{session}")).await.unwrap() {
                    let n: usize = id.trim_start_matches('n').parse().unwrap();
                    placed.lock().unwrap()[n] += 1;
                    return;
                }
            }
            panic!("nobody has room");
        });
        futures_util::future::join_all(sessions).await;
    };
    tokio::join!(instance(1), instance(2));
    placed.into_inner().unwrap()
}

#[tokio::test]
async fn two_instances_that_place_five_hundred_sessions_inside_one_heartbeat_do_not_pile_up() {
    let with = burst(true).await;
    let without = burst(false).await;

    let loads = |placed: &[u32]| {
        let total = |(n, placed): (usize, &u32)| placed + if n == 0 { 0 } else { 10 };
        placed.iter().enumerate().map(total).collect::<Vec<_>>()
    };
    let (with, without) = (loads(&with), loads(&without));
    println!("500 sessions in one heartbeat, 10 nodes of 60 slots, 90 of them taken before: {with:?}");
    println!("the same with what was reported alone: {without:?}");
    assert_eq!(with.iter().sum::<u32>(), 590);
    assert!(with.iter().all(|load| *load <= 60), "{with:?}");
    let overfull = without.iter().filter(|load| **load > 60).count();
    assert!(overfull > 0, "{without:?}");
}
