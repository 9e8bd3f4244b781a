//! What a conversation promises, a file per behaviour, in virtual time. One program: each links everything.

mod barge_in;
mod clients;
mod ending;
mod failures;
mod harness;
mod heard;
mod joined_turns;
mod keys;
mod line_cut;
mod playout;
mod promises;
mod recorded;
mod recorder;
mod recorder_hour;
mod screening;
mod tools;
mod transfers;
mod turns;
