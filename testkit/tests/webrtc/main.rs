//! WebRTC as clients use it: the `webrtc` crate as the client, two signaling services and a media node behind one
//! store, providers that say what a test tells them to.

mod bad_input;
mod client;
mod measures;
mod plane;
mod returning;
mod signalling;
mod speaking;
