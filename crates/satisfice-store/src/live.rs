//! The living graph: a store whose nodes and edges change while it is read.
//!
//! [`LiveGraph`] opens a store and takes [`Write`]s; each is one commit, all of it or nothing.
//! What is read is a [`Snapshot`]: it never changes, and a write makes a new one. The store's own
//! files are not touched: a snapshot is those files and, for each node that was changed, a patch.
//! A [`Follower`] is told after each group of commits what has changed.
//!
//! A write is in the log, and the log on the disk, before it is answered or shown; a graph that is
//! opened again is the one that its log says.
//!
//! Invariant: a snapshot answers as a store would into which its graph had been imported.

mod changes;
mod codec;
mod commit;
mod compact;
mod copy;
mod disk;
mod draft;
mod error;
mod follow;
mod frame;
mod graph;
mod ids;
mod limits;
mod log;
mod memory;
mod node_table;
mod operation;
mod out_edges;
mod patches;
#[cfg(test)]
mod power_loss;
mod prepare;
mod queue;
mod recover;
mod resolve;
mod rewrite;
#[cfg(test)]
mod simulated_disk;
mod snapshot;

pub use changes::Changes;
pub use compact::{CompactSummary, compact};
pub use copy::{CopySummary, copy_store};
pub(crate) use disk::Directory;
pub use error::{LiveError, Problem};
pub use follow::Follower;
pub use graph::{LiveGraph, LiveStatus};
pub use limits::Limits;
pub use log::LogReport;
pub(crate) use log::{LIVE, refuse_written, verify_log};
pub use node_table::NodeTable;
pub use operation::{Ack, Applied, NodeId, Operation, SourceOffset, Write};
pub(crate) use rewrite::has_role;
pub use snapshot::Snapshot;
