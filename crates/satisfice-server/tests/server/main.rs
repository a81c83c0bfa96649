//! The server from outside, through real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod admission;
mod auditing;
mod batching;
mod brief;
mod client;
mod compression;
mod connections;
mod contracts;
mod engines;
mod fake;
mod graphs;
mod grpc;
mod grpc_streams;
mod infer;
mod openapi;
mod parameters;
mod properties;
mod readiness;
mod refusals;
mod repository;
mod routes;
mod settings;
mod sharing;
mod statistics;
mod tls;
mod traces;
mod transport;
