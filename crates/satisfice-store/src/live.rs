//! The living graph: a store whose nodes and edges change while it is read.
//!
//! [`LiveGraph`] opens a store and takes [`Write`]s; each is one commit, all of it or nothing.
//! What is read is a [`Snapshot`]: it never changes, and a write makes a new one. The store's own
//! files are not touched: a snapshot is those files and, for each node that was changed, a patch.
//! A [`Follower`] is told after each group of commits what has changed.
//!
//! Invariant: a snapshot answers as a store would into which its graph had been imported.

mod changes;
#[expect(dead_code, reason = "half of it reads the log")]
mod codec;
mod commit;
mod draft;
mod error;
mod follow;
mod graph;
mod ids;
mod limits;
mod memory;
mod operation;
mod out_edges;
mod patches;
mod prepare;
mod queue;
mod resolve;
mod snapshot;

pub use changes::Changes;
pub use error::{LiveError, Problem};
pub use follow::Follower;
pub use graph::{LiveGraph, LiveStatus};
pub use limits::Limits;
pub use operation::{Ack, Applied, NodeId, Operation, SourceOffset, Write};
pub use snapshot::Snapshot;
