//! What phone providers send and want to be answered.

pub mod signature;
pub mod twiml;

/// Name of the provider in paths, records and configuration.
pub const TWILIO: &str = "twilio";
