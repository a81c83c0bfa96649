use satisfice_core::Error;
use std::{io, net::SocketAddr};

/// Why load could not be made. None of these is about an answer: refused and failed requests are
/// results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The server is not there, or has gone. A retry may help.
    #[error("{address}: {source}")]
    Io {
        /// The server.
        address: SocketAddr,
        /// What happened.
        source: io::Error,
    },
    /// The connection ended before the answer did. A retry may help.
    #[error("the connection ended before the answer did: {0}")]
    Broken(#[source] io::Error),
    /// The server's answer is no HTTP/1.1 with a length. A retry is of no use.
    #[error("the answer is no HTTP/1.1 with a Content-Length: `{head}`")]
    NotHttp {
        /// The beginning of the answer.
        head: String,
    },
    /// The gRPC connection could not be made. A retry may help.
    #[error("{address}: {source}")]
    Grpc {
        /// The server.
        address: SocketAddr,
        /// What happened.
        source: tonic::transport::Error,
    },
    /// The address is none. The caller's mistake.
    #[error("`{url}` is no address of a model: {reason}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The traffic asked for cannot be drawn. The caller's mistake.
    #[error("traffic: {0}")]
    Traffic(String),
    /// The inputs are not of one length, or have no labels. The caller's mistake.
    #[error("inputs: {0}")]
    Inputs(String),
    /// A request cannot be written. The caller's mistake.
    #[error("a request cannot be encoded: {0}")]
    Request(#[from] Error),
    /// A task of the load stopped before its end: a defect, or the runtime is shutting down.
    #[error("a task that sends jobs stopped")]
    Stopped,
}
