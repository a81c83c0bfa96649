//! The Open Inference Protocol v2, from the socket to an [`Engine`] and back.
//!
//! Three layers, each knowing only the one below it:
//!
//! - [`http`]: routes, headers, status codes, connections.
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

mod clip;
pub mod http;
pub mod protocol;
mod repository;
pub mod service;

pub use http::{Limits, router, serve};
pub use repository::{Models, ModelsError};
pub use service::{Admission, Service};
