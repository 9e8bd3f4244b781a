//! The logic of one conversation: turns, barge-in, playout, what was heard, tool rounds.
//!
//! `Conversation::handle_input(now, input)` then `poll_output()` until `None`; call `handle_input(now, Input::Tick)`
//! when `poll_deadline()` has passed.

mod io;

pub use io::*;
