//! Closed loops: each connection sends its next request when the last one was answered.
//!
//! Requests are encoded once, and of an answer no more is read than where it ends, so that the clients
//! are not what is measured.

mod grpc;
mod http;
mod measured;
mod soak;

pub use grpc::{GrpcRequest, grpc};
pub use http::{HttpRequest, Reply, http, read_reply};
pub(crate) use http::{connect, exchange};
pub use measured::{Load, Measured};
pub use soak::{Soak, SoakReport, soak};
