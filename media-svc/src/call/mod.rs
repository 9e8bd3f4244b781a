//! One task a call: the driver around the conversation, and the registry of live calls.

mod away;
mod driver;
mod ear;
mod end;
mod line;
pub mod phone;
mod record;
pub mod registry;
mod settings;
mod tools;
mod watch;

#[cfg(test)]
mod barge_in_tests;
#[cfg(test)]
mod screening_tests;

pub use away::{Away, WayBack};
pub use driver::{CallSetup, run};
pub use end::{END_WITHIN, End};
pub use line::{
    CALLER_COMMANDS, CallerCommand, CallerEvent, CallerEvents, CallerLink, PipelineInput, TransportLink,
    TransportTraits, link, wished,
};
pub use settings::conversation_settings;
