//! What every Voxray service is made of: configuration, telemetry, metrics, health, HTTP conventions,
//! internal gRPC trust, shutdown, supervised tasks, ids, tokens and signatures.

pub mod config;
pub mod exit;
pub mod grpc;
pub mod health;
pub mod http;
pub mod ids;
pub mod metrics;
pub mod networks;
pub mod phone;
pub mod shutdown;
pub mod signatures;
pub mod tasks;
pub mod telemetry;
pub mod token;
pub mod trace;
