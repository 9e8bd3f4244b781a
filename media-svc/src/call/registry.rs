//! The live calls of this node and the slots kept for calls about to connect.
//!
//! A slot is taken by [`Calls::reserve`] or [`Calls::connect`], and is free again when its [`Slot`] is dropped, its
//! reservation runs out, or it is ended. All of it is one map behind a lock that is held for microseconds.

mod entry;
mod hold;
mod slot;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use media_core::conversation::{EndReason, Input, Notice};
use service_kit::config::MediaTransport;
use service_kit::tasks::TaskScope;
use service_kit::trace::Parent;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::Instant;

use entry::{Entry, Phase};
pub use hold::Held;
pub use slot::Slot;
pub use types::{
    Arrival, CallState, EndError, Listed, MediaReport, NodeLoad, Refusal, Reservation, SteerError, transport_name,
};

use super::phone::PhoneLine;
use crate::metrics::{DRAINING, SESSIONS_ACTIVE, SESSIONS_CAPACITY, SESSIONS_REJECTED};

/// Sessions per core that a node begins with when `media.max_sessions` is 0 and speech is recognised and made elsewhere: a
/// core carries about four times as many (`make bench-media`), so that providers slower than scripted ones, tools and
/// recordings find room.
pub const SESSIONS_PER_CORE: usize = 40;
/// The same with local speech: at 0.065 of a core a call, where the caller speaks three of eight seconds, they take two
/// thirds of a core, and the rest is for turns that end at the same moment.
pub const LOCAL_SESSIONS_PER_CORE: usize = 10;
/// Life of a reservation that names none.
pub const RESERVATION_TTL: Duration = Duration::from_secs(60);
/// Notices kept for observers (console, demo). When full, the oldest are overwritten: an observer that is too slow is told how
/// many it missed, and no call waits.
pub const NOTICES: usize = 1_024;
/// Longest wait for a call to take the order to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// All calls of a node. Clones share them.
#[derive(Clone)]
pub struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    transports: Vec<MediaTransport>,
    entries: Mutex<HashMap<Arc<str>, Entry>>,
    load: watch::Sender<NodeLoad>,
    reserved: Notify,
    notices: broadcast::Sender<(Arc<str>, Notice)>,
}

impl Calls {
    /// For a node of this capacity (0 = by cores) that serves these transports. The scope carries the task that ends
    /// reservations nobody claims.
    pub fn new(scope: &TaskScope, max_sessions: usize, transports: &[MediaTransport]) -> Self {
        let capacity = if max_sessions == 0 {
            capacity_at_start(false)
        } else {
            max_sessions
        };
        let load = NodeLoad {
            sessions: 0,
            capacity,
            draining_since: None,
        };
        publish_capacity(capacity, transports);
        let shared = Arc::new(Shared {
            transports: transports.to_vec(),
            entries: Mutex::default(),
            load: watch::Sender::new(load),
            reserved: Notify::new(),
            notices: broadcast::Sender::new(NOTICES),
        });
        let expiry = Arc::clone(&shared);
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("reservation-expiry", async move {
            tokio::select! {
                () = cancelled => {}
                () = expiry.expire_reservations() => {}
            }
        });
        Self { shared }
    }

    /// Keeps a slot. A second reservation of the same session replaces the first.
    ///
    /// # Errors
    /// The node is full, drains, does not serve the transport, or has a live call of this session.
    pub fn reserve(&self, reservation: Reservation) -> Result<(), Refusal> {
        let transport = reservation.transport;
        self.counted(transport, || self.shared.reserve(reservation))
    }

    /// Says which trace a reserved session belongs to.
    pub fn set_trace(&self, session_id: &str, trace: Parent) {
        if let Some(entry) = self.shared.lock().get_mut(session_id) {
            entry.trace = trace;
        }
    }

    /// Takes the slot of a session that has connected: its reservation's, or a free one. Reservations are honoured while
    /// the node drains. Orders to the call arrive as `input`.
    ///
    /// # Errors
    /// Without a reservation as [`reserve`](Self::reserve); with one only when the session is connected already.
    pub fn connect(&self, arrival: Arrival, input: mpsc::Sender<Input>) -> Result<Slot, Refusal> {
        let transport = arrival.transport;
        let (reservation, trace) = self.counted(transport, || self.shared.connect(&arrival, input))?;
        SESSIONS_ACTIVE.with_label_values(&[transport_name(transport)]).inc();
        Ok(Slot::new(
            Arc::clone(&self.shared),
            arrival.session_id,
            transport,
            reservation,
            trace,
        ))
    }

    /// All calls and reservations, oldest first.
    pub fn list(&self) -> Vec<Listed> {
        let entries = self.shared.current();
        let mut listed: Vec<Listed> = entries.iter().map(|(id, entry)| entry.listed(id)).collect();
        listed.sort_by(|a, b| (a.started_at_unix_ms, &a.session_id).cmp(&(b.started_at_unix_ms, &b.session_id)));
        listed
    }

    /// Asks a call to say `last_words` and end; a reservation is given up at once. Returns when the call has the order.
    ///
    /// # Errors
    /// The session is not here, or its call takes no orders.
    pub async fn end(&self, session_id: &str, reason: EndReason, last_words: Option<String>) -> Result<(), EndError> {
        let Some(input) = self.shared.begin_end(session_id)? else {
            return Ok(());
        };
        let order = Input::EndRequested { reason, last_words };
        match tokio::time::timeout(END_TIMEOUT, input.send(order)).await {
            // A closed channel: the call has just ended by itself.
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => Err(EndError::Stuck),
        }
    }

    /// The way into a live phone call.
    ///
    /// # Errors
    /// There is no such call here, it is no phone call, or its stream has not begun.
    pub fn steer(&self, session_id: &str) -> Result<(mpsc::Sender<Input>, Arc<PhoneLine>), SteerError> {
        let entries = self.shared.current();
        let entry = entries.get(session_id).ok_or(SteerError::NotFound)?;
        if entry.transport != MediaTransport::Telephony {
            return Err(SteerError::NoPhone);
        }
        match &entry.phase {
            Phase::Connected {
                input,
                line: Some(line),
                ..
            } => Ok((input.clone(), Arc::clone(line))),
            Phase::Connected { line: None, .. } | Phase::Reserved { .. } => Err(SteerError::NotBegun),
        }
    }

    /// Whether a session is here, connected or expected.
    pub fn knows(&self, session_id: &str) -> bool {
        self.shared.current().contains_key(session_id)
    }

    /// Sessions that have been reserved for at least this long and are not connected here.
    pub fn waiting_since(&self, age: Duration) -> Vec<Arc<str>> {
        let entries = self.shared.current();
        let waiting = entries.iter().filter(|(_, entry)| match &entry.phase {
            Phase::Reserved {
                since,
                reservation: Some(_),
                ..
            } => since.elapsed() >= age,
            Phase::Reserved { reservation: None, .. } | Phase::Connected { .. } => false,
        });
        waiting.map(|(id, _)| Arc::clone(id)).collect()
    }

    /// What is reserved here, and for how much longer.
    pub fn reservations(&self) -> Vec<(Reservation, Duration)> {
        let now = Instant::now();
        let entries = self.shared.current();
        let reserved = entries.values().filter_map(|entry| match &entry.phase {
            Phase::Reserved {
                expires, reservation, ..
            } => reservation.clone().map(|reservation| (reservation, *expires - now)),
            Phase::Connected { .. } => None,
        });
        reserved.collect()
    }

    /// Says how many sessions the node can carry from now on. Those that are here stay.
    pub fn set_capacity(&self, capacity: usize) {
        self.shared.load.send_if_modified(|load| {
            let before = std::mem::replace(&mut load.capacity, capacity);
            before != capacity
        });
        publish_capacity(capacity, &self.shared.transports);
    }

    /// Frees the slot of a session that is not going to come here. One that has connected meanwhile stays.
    pub fn give_up_reservation(&self, session_id: &str) {
        let mut entries = self.shared.current();
        let reserved = entries
            .get(session_id)
            .is_some_and(|entry| matches!(entry.phase, Phase::Reserved { .. }));
        if reserved {
            entries.remove(session_id);
            self.shared.count(&entries);
        }
    }

    /// Asks every call to end, all at the same time; gives reservations up.
    pub async fn end_all(&self, reason: &EndReason, last_words: Option<&str>) {
        let sessions = self.list();
        let orders = sessions.iter().map(|listed| async {
            let words = last_words.map(str::to_owned);
            if let Err(error) = self.end(&listed.session_id, reason.clone(), words).await {
                tracing::debug!(session_id = %listed.session_id, %error, "not ended");
            }
        });
        futures_util::future::join_all(orders).await;
    }

    /// Takes no new sessions from now on. Doing it again changes nothing.
    pub fn start_draining(&self) {
        self.shared.load.send_if_modified(|load| {
            let first = load.draining_since.is_none();
            if first {
                load.draining_since = Some(Instant::now());
                DRAINING.set(1);
            }
            first
        });
    }

    /// The present load.
    pub fn load(&self) -> NodeLoad {
        drop(self.shared.current());
        *self.shared.load.borrow()
    }

    /// Reports every change of the load.
    pub fn load_changes(&self) -> watch::Receiver<NodeLoad> {
        self.shared.load.subscribe()
    }

    /// What is served here.
    pub fn transports(&self) -> &[MediaTransport] {
        &self.shared.transports
    }

    /// Resolves when there is no call and no reservation.
    pub async fn wait_empty(&self) {
        // The sender lives in `self.shared`: the wait cannot fail.
        let _ = self.shared.load.subscribe().wait_for(|load| load.sessions == 0).await;
    }

    /// What happens in all calls, for observers. Audio does not go this way.
    pub fn events(&self) -> broadcast::Receiver<(Arc<str>, Notice)> {
        self.shared.notices.subscribe()
    }

    /// Counts a session that was turned away.
    pub fn count_refusal(&self, transport: MediaTransport, refusal: Refusal) {
        let labels = [transport_name(transport), refusal.as_str()];
        SESSIONS_REJECTED.with_label_values(&labels).inc();
    }

    /// Counts a session that was turned away because it could not be recorded.
    pub fn count_unrecordable(&self, transport: MediaTransport) {
        SESSIONS_REJECTED
            .with_label_values(&[transport_name(transport), "not_recordable"])
            .inc();
    }

    fn counted<T>(
        &self,
        transport: MediaTransport,
        attempt: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        attempt().inspect_err(|refusal| self.count_refusal(transport, *refusal))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries without reservations that have run out.
    fn current(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        let mut entries = self.lock();
        let now = Instant::now();
        let before = entries.len();
        entries.retain(|_, entry| match &entry.phase {
            Phase::Reserved { expires, .. } => *expires > now,
            Phase::Connected { .. } => true,
        });
        if entries.len() < before {
            tracing::debug!(count = before - entries.len(), "reservations ran out");
            self.count(&entries);
        }
        entries
    }

    /// Publishes the number of entries; called under the lock so that numbers come in order.
    fn count(&self, entries: &HashMap<Arc<str>, Entry>) {
        self.load.send_if_modified(|load| {
            let before = std::mem::replace(&mut load.sessions, entries.len());
            before != load.sessions
        });
    }

    fn admit(&self, transport: MediaTransport, entries: &HashMap<Arc<str>, Entry>) -> Result<(), Refusal> {
        let (capacity, draining) = {
            let load = self.load.borrow();
            (load.capacity, load.is_draining())
        };
        if !self.transports.contains(&transport) {
            Err(Refusal::TransportNotServed(transport))
        } else if draining {
            Err(Refusal::Draining)
        } else if entries.len() >= capacity {
            Err(Refusal::Full { capacity })
        } else {
            Ok(())
        }
    }

    fn reserve(&self, reservation: Reservation) -> Result<(), Refusal> {
        let mut entries = self.current();
        match entries.get(&reservation.session_id).map(|entry| &entry.phase) {
            Some(Phase::Connected { .. }) => return Err(Refusal::AlreadyConnected),
            Some(Phase::Reserved { .. }) => {}
            None => self.admit(reservation.transport, &entries)?,
        }
        let entry = Entry {
            transport: reservation.transport,
            provider: reservation.provider.clone(),
            started_at_unix_ms: unix_ms(),
            media: None,
            trace: Parent::default(),
            phase: Phase::Reserved {
                since: Instant::now(),
                expires: Instant::now() + reservation.ttl,
                reservation: Some(reservation.clone()),
            },
        };
        entries.insert(reservation.session_id, entry);
        self.count(&entries);
        self.reserved.notify_one();
        Ok(())
    }

    fn connect(&self, arrival: &Arrival, input: mpsc::Sender<Input>) -> Result<(Option<Reservation>, Parent), Refusal> {
        let mut entries = self.current();
        let reservation = match entries.get(&arrival.session_id).map(|entry| &entry.phase) {
            Some(Phase::Connected { .. }) => return Err(Refusal::AlreadyConnected),
            // A reservation is for what was asked: it is no way around `media.transports`.
            Some(Phase::Reserved { reservation, .. }) if self.transports.contains(&arrival.transport) => {
                reservation.clone()
            }
            Some(Phase::Reserved { .. }) | None => {
                self.admit(arrival.transport, &entries)?;
                None
            }
        };
        let reserved = entries.get(&arrival.session_id);
        let trace = reserved.map(|entry| entry.trace.clone()).unwrap_or_default();
        let entry = Entry {
            transport: arrival.transport,
            provider: arrival.provider.clone(),
            started_at_unix_ms: unix_ms(),
            media: None,
            trace: trace.clone(),
            phase: Phase::Connected {
                input,
                line: None,
                ending: false,
            },
        };
        entries.insert(Arc::clone(&arrival.session_id), entry);
        self.count(&entries);
        Ok((reservation, trace))
    }

    /// The channel to the call that is to end; `None` when it was a reservation, which is gone now.
    fn begin_end(&self, session_id: &str) -> Result<Option<mpsc::Sender<Input>>, EndError> {
        let mut entries = self.current();
        match entries.get_mut(session_id).map(|entry| &mut entry.phase) {
            None => Err(EndError::NotFound),
            Some(Phase::Connected { input, ending, .. }) => {
                *ending = true;
                Ok(Some(input.clone()))
            }
            Some(Phase::Reserved { .. }) => {
                entries.remove(session_id);
                self.count(&entries);
                Ok(None)
            }
        }
    }

    async fn expire_reservations(&self) {
        loop {
            let next = self.current().values().filter_map(Entry::expires).min();
            match next {
                None => self.reserved.notified().await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.reserved.notified() => {}
                },
            }
        }
    }
}

fn publish_capacity(capacity: usize, transports: &[MediaTransport]) {
    let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
    for transport in transports {
        SESSIONS_CAPACITY
            .with_label_values(&[transport_name(*transport)])
            .set(capacity);
    }
}

/// What a node begins with when `media.max_sessions` is 0.
pub fn capacity_at_start(local_speech: bool) -> usize {
    let per_core = if local_speech {
        LOCAL_SESSIONS_PER_CORE
    } else {
        SESSIONS_PER_CORE
    };
    per_core * std::thread::available_parallelism().map_or(1, usize::from)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
