//! Starting with something wrong: what the user is told, with which exit status, and what is left on disk.

mod call;
mod configuration;
mod dependencies;
mod folders;
mod models;
mod support;
