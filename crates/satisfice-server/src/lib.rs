//! The Open Inference Protocol v2, from the socket to an [`Engine`] and back.
//!
//! Three layers, each knowing only the ones below it:
//!
//! - [`http`] and [`grpc`]: two thin transports. Routes, headers, status codes.
//! - [`service`]: which model answers, admission, deadlines, panics. Knows no transport.
//! - [`protocol`]: messages to and from bytes. Knows no transport either; [`protocol::client`] is
//!   the other end of the same codec.
//!
//! ```
//! use satisfice_server::{Admission, Models, Service};
//!
//! let models = Models::new(); // .insert("papers", 1, engine) for each model
//! let service = Service::new(models, Admission::default());
//! assert!(service.find("papers", None).is_err());
//! ```
//!
//! [`Engine`]: satisfice_core::Engine

#![forbid(unsafe_code)]

pub mod access;
mod clip;
pub mod config;
mod connection;
mod edge;
mod exchange;
mod front;
pub mod grpc;
pub mod http;
mod inflate;
mod limits;
mod observe;
pub mod protocol;
mod repository;
mod server;
pub mod service;
mod tls;

pub use access::{Access, Role};
pub use connection::raise_open_files;
pub use front::{Front, Listener};
pub use http::{Routes, serve};
pub use limits::Limits;
pub use observe::{Observer, Record, Stage, TraceError};
pub use repository::{
    LoadedVersions, Loader, Models, ModelsError, VersionPolicy, VersionPolicyError, example,
    warm_up,
};
pub use server::{Bound, Server, SetupError};
pub use service::{Admission, Service, Settings, SpareTime};
pub use tls::{Tls, TlsError};
