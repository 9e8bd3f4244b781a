//! Nodes that come, go and come back.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn ids(nodes: &[Arc<Node>]) -> Vec<&str> {
    nodes.iter().map(|node| node.id.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_drain_finds_nodes_that_were_gone_before_it_and_none_that_it_sends_away() {
    let nodes = Nodes::new(Duration::from_secs(30), Arc::default());
    drop(nodes.attach("gone"));
    let (stays, _again) = (nodes.attach("stays"), nodes.attach("again"));
    drop(nodes.attach("again"));
    tokio::time::sleep(RECONNECT).await;
    drop(nodes.attach("late"));

    nodes.note_drain();
    drop(stays);
    tokio::time::sleep(Duration::from_secs(10)).await;

    assert_eq!(ids(&nodes.take_dead()), Vec::<&str>::new());
    assert_eq!(ids(&nodes.take_gone()), ["gone"]);
    assert_eq!(ids(&nodes.take_gone()), Vec::<&str>::new());
}

/// Nodes connect through a balancer, again as soon as their stream has ended, to whichever archivers there are.
#[tokio::test(start_paused = true)]
async fn an_archiver_that_is_added_has_its_share_of_the_nodes_within_an_hour() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let archivers = [(); 2].map(|()| {
        let nodes = Nodes::new(Duration::from_secs(30), Arc::default());
        let max_age = MaxAge::new(nodes.dead_after).with_lag(|| Duration::ZERO);
        Nodes { max_age, ..nodes }
    });
    let (running, connections) = (AtomicUsize::new(1), AtomicUsize::new(0));
    let live = async |number: usize| -> () {
        loop {
            let at = connections.fetch_add(1, Ordering::Relaxed) % running.load(Ordering::Relaxed);
            let attachment = archivers[at].attach(&format!("node-{number}"));
            assert_eq!(attachment.ends().await, Stopped::Old);
        }
    };
    let attached = |at: usize| {
        let nodes = archivers[at].lock();
        nodes.values().filter(|node| node.lock().streams > 0).count()
    };
    let look = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((attached(0), attached(1)), (16, 0));
        running.store(2, Ordering::Relaxed);
        tokio::time::sleep(HOUR).await;
        assert_eq!(attached(0) + attached(1), 16);
        assert!((7..=9).contains(&attached(1)), "{}", attached(1));
    };
    tokio::select! {
        _ = futures_util::future::join_all((0..16).map(live)) => {}
        () = look => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_stream_is_held_back_is_gone_when_it_has_closed_it_and_not_dead_before_all_of_it_is_applied() {
    let nodes = Nodes::new(Duration::from_secs(30), Arc::default());
    let (lost, held_back) = (nodes.attach("lost"), nodes.attach("held back"));

    lost.disconnected();
    tokio::time::sleep(Duration::from_secs(30)).await;
    nodes.note_drain();

    assert!(lost.node.is_gone() && !held_back.node.is_gone());
    assert_eq!(ids(&nodes.take_dead()), Vec::<&str>::new());
    drop(lost);
    assert_eq!(ids(&nodes.take_dead()), ["lost"]);
}
