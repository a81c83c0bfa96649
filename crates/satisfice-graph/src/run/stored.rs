//! Rows of the stored nodes, as they are kept, and rows that a living graph has renewed since.

use satisfice_kernels::Rows;
use std::sync::Arc;

/// Nodes of a chunk, and chunks of a page.
const FAN: usize = 64;

type Row = Arc<[f32]>;
type Chunk = [Option<Row>; FAN];
type Page = [Option<Arc<Chunk>>; FAN];

/// Renewed rows by node. A copy shares all that is not written thereafter.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowPatches {
    pages: Vec<Option<Arc<Page>>>,
    rows: usize,
}

impl RowPatches {
    pub(crate) fn get(&self, node: u32) -> Option<&[f32]> {
        let node = node as usize;
        let page = self.pages.get(node / (FAN * FAN))?.as_ref()?;
        let chunk = page[node / FAN % FAN].as_ref()?;
        chunk[node % FAN].as_deref()
    }

    pub(crate) fn set(&mut self, node: u32, row: &[f32]) {
        let node = node as usize;
        let page = node / (FAN * FAN);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Arc::new([const { None }; FAN]));
        let chunk = Arc::make_mut(page)[node / FAN % FAN]
            .get_or_insert_with(|| Arc::new([const { None }; FAN]));
        let place = &mut Arc::make_mut(chunk)[node % FAN];
        self.rows += usize::from(place.is_none());
        *place = Some(row.into());
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

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
            patches: (patches.rows() > 0).then_some(patches),
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
