//! Wire formats: provider messages and client frames to and from typed events.
//!
//! Translation only: nothing here reads a socket, and every parser answers arbitrary input with a value or a typed
//! error. [`telephony`] is the common side of the six phone providers, which have a file each; [`client`] that of the three
//! dialects of client sockets.

pub mod client;
pub mod exotel;
pub mod far_end;
pub mod genesys;
pub mod pipecat;
pub mod plivo;
pub mod rtvi;
pub mod telephony;
pub mod telnyx;
pub mod twilio;
pub mod vonage;
