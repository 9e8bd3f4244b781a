//! What the tests and `make stack` are made of: real servers and real service processes on free loopback ports.

pub mod api;
pub mod browser;
pub mod carriers;
pub mod environment;
pub mod heap;
pub mod metrics;
pub mod narrow;
pub mod nat;
pub mod openai;
pub mod ports;
pub mod process;
pub mod relay;
pub mod scripted;
pub mod servers;
pub mod service;
pub mod stack;
pub mod usage;
pub mod wait;
pub mod webrtc_client;
