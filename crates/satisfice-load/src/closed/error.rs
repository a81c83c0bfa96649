use std::{io, net::SocketAddr};

/// Load that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server is not there, or has gone. A retry may help.
    #[error("{address}: {source}")]
    Io {
        /// The server.
        address: SocketAddr,
        /// What happened.
        source: io::Error,
    },
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
    /// The request cannot be encoded: a bug of this crate's user.
    #[error("{0}")]
    Request(#[from] satisfice_core::Error),
}
