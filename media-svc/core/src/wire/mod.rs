//! Wire formats: provider messages and client frames to and from typed events.
//!
//! Translation only: nothing here reads a socket, and every parser answers arbitrary input with a value or a typed
//! error.

pub mod pipecat;
pub mod rtvi;
pub mod twilio;
