//! The server from outside, through real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod admission;
mod client;
mod compression;
mod connections;
mod engines;
mod grpc;
mod grpc_streams;
mod infer;
mod openapi;
mod properties;
mod refusals;
mod repository;
mod routes;
mod settings;
mod statistics;
mod tls;
mod traces;
