//! What every Voxray service is made of: configuration, telemetry, metrics, health, HTTP conventions,
//! internal gRPC trust, shutdown, supervised tasks, ids and tokens.

pub mod config;
pub mod exit;
pub mod grpc;
pub mod health;
pub mod http;
pub mod ids;
pub mod metrics;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod token;
