//! Rows of the stored nodes, as they are kept, and rows that a living graph has renewed since.

use satisfice_kernels::Rows;
use satisfice_store::live::NodeTable;

/// Renewed rows by node.
pub(crate) type RowPatches = NodeTable<[f32]>;

/// A table of one row a stored node: as it is at rest, and the rows renewed since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    rows: Rows<'a>,
    /// Only where there is a row among them.
    patches: Option<&'a RowPatches>,
}

impl<'a> From<Rows<'a>> for Stored<'a> {
    fn from(rows: Rows<'a>) -> Self {
        Self {
            rows,
            patches: None,
        }
    }
}

impl<'a> Stored<'a> {
    pub(crate) fn new(rows: Rows<'a>, patches: &'a RowPatches) -> Self {
        Self {
            rows,
            patches: (!patches.is_empty()).then_some(patches),
        }
    }

    /// Values per row.
    pub(crate) fn width(&self) -> usize {
        self.rows.width()
    }

    /// Bytes per row at rest.
    pub(crate) fn row_bytes(&self) -> usize {
        self.rows.row_bytes()
    }

    /// The rows at rest.
    pub(crate) fn at_rest(&self) -> Rows<'a> {
        self.rows
    }

    /// The row of a node where it was renewed.
    pub(crate) fn renewed(&self, node: u32) -> Option<&'a [f32]> {
        self.patches?.get(node)
    }

    /// Whether there is a row of the node.
    pub(crate) fn has(&self, node: u32) -> bool {
        (node as usize) < self.rows.len() || self.renewed(node).is_some()
    }

    /// Asks for the cache lines of a row that will be read soon.
    pub(crate) fn prefetch(&self, node: u32) {
        self.rows.prefetch(node as usize);
    }

    /// Writes the row of a node to `out`, `[width]`, as f32.
    ///
    /// # Panics
    /// When there is no such row, or `out` has another width.
    pub(crate) fn read(&self, node: u32, out: &mut [f32]) {
        match self.renewed(node) {
            Some(row) => out.copy_from_slice(row),
            None => self.rows.read(node as usize, out),
        }
    }

    /// Gives `add` the rows of `ids`, in order, as tables with the ids and the factors of their rows: those at rest as
    /// many as lie side by side in the list, renewed ones one by one.
    pub(crate) fn each(
        &self,
        ids: &[u32],
        scales: Option<&[f32]>,
        mut add: impl FnMut(Rows<'_>, &[u32], Option<&[f32]>),
    ) {
        if self.patches.is_none() {
            return add(self.rows, ids, scales);
        }
        let mut first = 0;
        for (at, &id) in ids.iter().enumerate() {
            let Some(row) = self.renewed(id) else {
                continue;
            };
            if first < at {
                add(self.rows, &ids[first..at], scales);
            }
            let scale = scales.map(|scales| [scales[id as usize]]);
            let scale = scale.as_ref().map(|scale| &scale[..]);
            add(Rows::f32(row, self.width()), &[0], scale);
            first = at + 1;
        }
        if first < ids.len() {
            add(self.rows, &ids[first..], scales);
        }
    }
}
