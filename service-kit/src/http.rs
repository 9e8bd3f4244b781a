//! HTTP conventions of every service: envelopes, errors, request ids, metrics, health routes, listeners.
