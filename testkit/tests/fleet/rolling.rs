//! A new release: every process of the fleet is replaced, one after the other, while calls come and go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use voxray::caller::CallError;
use voxray_testkit::ports::free_port;
use voxray_testkit::servers::Nginx;
use voxray_testkit::service::{Role, Service};

use crate::load::{self, Load};
use crate::{scale, truth};

/// A process has this long to let its calls end.
const GOES_WITHIN: Duration = Duration::from_secs(120);

/// Asks a process to end, waits until it has, and starts it again.
async fn replace(service: &mut Service) {
    let began = Instant::now();
    service
        .stop(GOES_WITHIN)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    let drained = began.elapsed();
    service.start().await.unwrap_or_else(|error| panic!("{error:?}"));
    println!(
        "{}: gone after {drained:.1?}, ready after {:.1?}",
        service.name(),
        began.elapsed()
    );
}

/// Half of the callers' streams name the node that placement has chosen; the others come to one address for all nodes, and
/// so to the node that drains as well. A stream that is refused is a lost call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_replaced_process_by_process_drops_no_call() {
    let _turn = scale::TURN.lock().await;
    let callers = scale::fleet_calls();
    // Once each for `make test`; again and again until this is over with the variable.
    let lasts = scale::rolling();
    let agent = load::agent().await;
    let port = free_port().unwrap();
    let builder = load::builder(&agent)
        .signaling(2)
        .media(3)
        .archivers(2)
        .env("VOXRAY_MEDIA_PUBLIC_URL", format!("ws://127.0.0.1:{port}/{{node}}"));
    let mut stack = load::start(builder).await;
    let nginx = Nginx::start(port, &stack.signaling, &stack.media).await.unwrap();
    let calls = Load::of_brief_calls(&nginx.url(), &stack, callers).await;

    let began = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || began.elapsed() < lasts {
        // Kinds take turns: what one leaves behind has settled before the next of it goes.
        for n in 0..3 {
            for role in [Role::Signaling, Role::Media, Role::Archiver] {
                let services = match role {
                    Role::Signaling => &mut stack.signaling,
                    Role::Media => &mut stack.media,
                    Role::Archiver => &mut stack.archiver,
                };
                if let Some(service) = services.get_mut(n) {
                    replace(service).await;
                }
            }
        }
        rounds += 1;
    }
    let rolled = began.elapsed();

    let placed = calls.stop().await;
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    for error in placed.iter().filter_map(|call| call.outcome.as_ref().err()) {
        *failed.entry(error.to_string()).or_default() += 1;
    }
    let refused = placed
        .iter()
        .filter(|call| matches!(call.outcome, Err(CallError::Connect { .. })));
    let led: usize = stack.media.iter().map(|node| node.led_to_their_slots().unwrap()).sum();
    let refused = refused.count();
    println!(
        "{callers} callers, {} calls, {rounds} round(s) of 7 processes in {rolled:.0?}; {refused} streams refused, {led} led from a node that drained to the one with their slot; failed: {failed:?}",
        placed.len(),
    );
    let whole = load::assert_undisturbed(&placed);
    assert_eq!((whole, refused), (placed.len(), 0), "calls failed: {failed:?}");
    // Nobody has called twice for one call: what a provider would not do is no success here.
    assert_eq!(placed.iter().map(|call| call.retries).sum::<usize>(), 0);
    assert!(led > 0, "no stream came to a node that drained");
    truth::assert_whole(&stack, whole, scale::catch_up()).await;
}
