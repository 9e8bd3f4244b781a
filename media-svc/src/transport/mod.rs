//! Sockets that carry calls.
