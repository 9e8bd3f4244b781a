//! HTTP conventions of every service: envelopes, errors, request ids, authentication, CORS, metrics, health routes,
//! listeners.
//!
//! A service builds a plain [`axum::Router`] (state applied) from its own routes and hands it to [`Listeners::serve`],
//! together with what only operators may use; health routes and conventions are added there. Two services that share
//! a port merge their routers first. Handlers return [`Data`] or [`ApiError`]; what axum itself refuses comes out in the
//! same envelope.

mod arrivals;
mod auth;
mod connections;
mod envelope;
mod error;
mod json;
mod layers;
mod listeners;
mod metrics;
mod operational;
mod origin;
mod server;
mod timeouts;
mod tls;

pub(crate) use connections::slots;
pub(crate) use metrics::record_refused;

pub use auth::{check_api_key, presented_api_key, requester};
pub use envelope::{Data, RequestId, TwoAudiences, current_request_id};
pub use error::{ApiError, FieldError};
pub use json::ApiJson;
pub use layers::apply_conventions;
pub use listeners::{Listeners, Routes};
pub use metrics::{ActiveConnection, LiveRoute};
pub use operational::operational_routes;
pub use origin::{check_origin, check_page};
pub use server::{bind, bind_address, serve, serve_public};
