//! What the archiver promises, a file per behaviour. One program: each links everything.

#[path = "../common/mod.rs"]
mod common;
mod damaged_recording;
mod delivery;
mod failures;
mod formats;
mod lost_events;
mod lost_nodes;
mod parts;
mod peer_tls;
mod refusals;
mod retention;
mod two_archivers;
mod unknown_events;
