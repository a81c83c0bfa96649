//! What an engine is to the server.
//!
//! A request is a list of named [`Tensor`]s and [`Parameters`]; an [`Engine`] answers it with
//! named tensors and parameters, or with a typed [`Error`]. Graphs that engines read may be written to
//! ([`WritableGraph`]). This crate does no I/O, knows no
//! async runtime and no wire format. The cores that an answer may be computed on ([`Cores`]) come with the request.
//!
//! ```
//! use satisfice_core::{Tensor, TensorData};
//!
//! let tensor = Tensor::new(vec![2, 3], TensorData::Fp32(vec![0.0; 6])).unwrap();
//! assert_eq!(tensor.datatype().name(), "FP32");
//! ```

mod batching;
mod engine;
mod error;
mod graph;
mod offer;
mod parameter;
pub mod parameters;
mod tensor;
mod version_dir;

pub use batching::{BatchOutputs, Batching, Job, Part, PartOutputs, Strategy};
pub use engine::{
    Engine, EngineMetric, InferRequest, InferResponse, ModelMetadata, NamedTensor, Readiness,
    TensorSpec,
};
pub use error::{Error, ErrorKind};
pub use graph::{ApplyRequest, ApplyResponse, GraphStatus, WritableGraph};
pub use offer::{Measure, Offer, Quality};
pub use parameter::{Parameter, Parameters};
pub use satisfice_cores::{Cores, STEPS, Stopped, Usage};
pub use tensor::{ByteStrings, DataType, ShapeMismatch, Tensor, TensorData};
pub use version_dir::VersionDir;
