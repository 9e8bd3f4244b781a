//! WebRTC as clients use it: the `webrtc` crate as the client, two signaling services and a media node behind one store,
//! providers that say what a test tells them to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests, whose peers go on while they do something else"
)]

mod bad_input;
mod measures;
mod networks;
mod plane;
mod returning;
mod signalling;
mod speaking;
