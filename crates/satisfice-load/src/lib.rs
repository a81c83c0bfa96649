//! Load for servers of the Open Inference Protocol, and the servers that it is measured against.
//!
//! - [`closed`]: each connection sends its next request when the last one was answered. It shows the most that a
//!   server answers, and what it costs by itself.
//! - [`open`]: jobs arrive when their traffic says so, whether or not earlier ones have been answered. It shows
//!   what users see at a rate that the server does not choose.
//! - [`Identity`] is a model that does nothing, [`echo_server`] and [`grpc_echo_server`]
//!   are servers that do nothing: limits.

#![forbid(unsafe_code)]

pub mod closed;
mod error;
mod identity;
mod limit;
pub mod open;

pub use error::LoadError;
pub use identity::Identity;
pub use limit::{echo_server, grpc_echo_server};
