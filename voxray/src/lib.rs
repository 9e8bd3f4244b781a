//! The `voxray` command as a library: run everything or one service, place a call, show a demo.

pub mod admin;
pub mod caller;
pub mod cli;
pub mod commands;
pub mod demo;
pub mod ollama;
pub mod services;
pub mod settings;
pub mod single;
pub mod wav;
pub mod words;
