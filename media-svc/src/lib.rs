//! The media plane: calls over telephony sockets and client WebSockets, one task a call.

pub mod archive;
pub mod call;
pub mod control;
pub mod metrics;
pub mod node;
pub mod providers;
pub mod speech;
pub mod transport;
