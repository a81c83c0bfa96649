use crate::node_ids::NODES_MAX;

/// What a living graph takes before it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Operations of one write.
    pub operations_max: usize,
    /// Bytes of one write in the log.
    pub write_bytes_max: usize,
    /// Writes that may wait for the disk.
    pub waiting_max: usize,
    /// Bytes of these, unless it is one.
    pub waiting_bytes_max: usize,
    /// Bytes of the log; from there on writes are refused until the graph is compacted.
    pub log_bytes_max: u64,
    /// Bytes of patches in memory; from there on writes are refused until the graph is compacted.
    pub patch_bytes_max: u64,
    /// Request ids that are remembered: the last ones.
    pub request_ids_max: usize,
    /// Sources whose offsets are remembered, for ever.
    pub sources_max: usize,
    /// Positions of nodes, those of deleted ones among them.
    pub nodes_max: usize,
}

/// Bytes of a request id or of a source's name.
pub(super) const NAME_BYTES_MAX: usize = 256;

/// Bytes of a node's id.
pub(super) const ID_BYTES_MAX: usize = 65_536;

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations_max: 1 << 20,
            write_bytes_max: 256 << 20,
            waiting_max: 1024,
            waiting_bytes_max: 512 << 20,
            log_bytes_max: 16 << 30,
            patch_bytes_max: 4 << 30,
            request_ids_max: 1 << 16,
            sources_max: 4096,
            nodes_max: NODES_MAX,
        }
    }
}
