//! The server from outside, through real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod client;
mod connections;
mod engines;
mod infer;
mod properties;
mod refusals;
mod routes;
