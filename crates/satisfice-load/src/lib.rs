//! Load for servers of the Open Inference Protocol, and the servers that it is measured against.
//!
//! Clients are closed loops: each connection sends its next request when the last one was answered.
//! Requests are encoded once, and of an answer no more is read than where it ends, so that the clients
//! are not what is measured.

#![forbid(unsafe_code)]

mod error;
mod grpc;
mod http;
mod identity;
mod limit;
mod measured;
mod soak;

pub use error::LoadError;
pub use grpc::{GrpcRequest, grpc};
pub use http::{HttpRequest, Reply, http, read_reply};
pub use identity::Identity;
pub use limit::echo_server;
pub use measured::{Load, Measured};
pub use soak::{Soak, SoakReport, soak};
