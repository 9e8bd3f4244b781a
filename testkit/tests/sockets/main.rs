//! What callers' sockets promise to whoever opens one, clients and attackers alike: one process, scripted providers.

mod admission;
mod client;
mod hostile_client;
mod hostile_stream;
mod http;
mod support;
