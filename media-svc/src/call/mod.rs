//! One task a call: the driver around the conversation, and the registry of live calls.

pub mod registry;
