//! Graphs at rest.
//!
//! A graph store is a directory of safetensors files with a manifest that holds the counts and a
//! checksum of every tensor. [`import`] makes one of a graph export, of tables or of NumPy arrays;
//! [`GraphStore`] maps one into memory; [`verify`] checks every byte of one. [`Queries`] reads
//! held-out queries, [`generate`] makes a synthetic graph with such queries, [`TensorFile`] and [`TensorWriter`] any safetensors file.
//!
//! Invariant: whatever is wrong with a file, the answer is a [`StoreError`] that names the file and
//! the place, never a panic; and an import that fails leaves nothing behind.
//!
//! ```
//! # fn main() -> Result<(), satisfice_store::StoreError> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let (edges, nodes, out) = (
//! #     dir.path().join("edges.csv"), dir.path().join("nodes.csv"), dir.path().join("graph"),
//! # );
//! # std::fs::write(&edges, "source,target\nbash,libc\n").unwrap();
//! # std::fs::write(&nodes, "id,x\nbash,0.5\nlibc,1.5\n").unwrap();
//! use satisfice_store::{Check, GraphStore, ImportOptions, NoProgress, Source, Tables, import};
//!
//! let source = Source::Tables(Tables { edges, nodes, ..Tables::default() });
//! import(&source, &ImportOptions::default(), &out, &NoProgress)?;
//! let store = GraphStore::open(&out, Check::Checksums)?;
//! let libc = store.ids().position_of_str(b"libc");
//! assert_eq!(libc, Some(1));
//! assert_eq!(store.topology().in_neighbors(1), [0]);
//! # Ok(())
//! # }
//! ```

#[cfg(target_endian = "big")]
compile_error!("files at rest are little-endian and are mapped, not converted");

mod checksum;
mod error;
mod graph_store;
mod import;
pub mod live;
mod manifest;
mod node_ids;
mod parallel;
mod progress;
mod queries;
mod record;
mod synthetic;
mod tensor_file;
mod tensor_writer;
mod topology;
mod verify;

pub use error::{Place, StoreError};
pub use graph_store::{Check, GraphStore, NodeIdTable};
pub use import::{FeatureDType, ImportOptions, ImportSummary, Source, Tables, import};
pub use manifest::{Duplicates, Manifest};
pub use node_ids::{NodeId, NodeIdKind, NodeIds};
pub use progress::{NoProgress, Progress};
pub use queries::{Queries, QueryEdge, QuerySlice};
pub use record::FileRecord;
pub use safetensors::Dtype as DType;
pub use synthetic::{SyntheticSpec, SyntheticSummary, generate};
pub use tensor_file::{Element, TensorFile};
pub use tensor_writer::{TensorSpec, TensorWriter};
pub use topology::Topology;
pub use verify::{VerifyReport, verify};
