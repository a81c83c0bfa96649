use std::sync::Arc;

/// Nodes of a chunk, and chunks of a page.
const FAN: usize = 64;

type Chunk<T> = [Option<Arc<T>>; FAN];
type Page<T> = [Option<Arc<Chunk<T>>>; FAN];

/// Something at some of the nodes, in a table that is cheap to copy: a copy shares all that is not written thereafter.
#[derive(Debug)]
pub struct NodeTable<T: ?Sized> {
    pages: Vec<Option<Arc<Page<T>>>>,
}

impl<T: ?Sized> Default for NodeTable<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: ?Sized> Clone for NodeTable<T> {
    fn clone(&self) -> Self {
        Self {
            pages: self.pages.clone(),
        }
    }
}

impl<T: ?Sized> NodeTable<T> {
    /// What is there at a node.
    #[inline]
    pub fn get(&self, node: u32) -> Option<&T> {
        let node = node as usize;
        let page = self.pages.get(node / (FAN * FAN))?.as_ref()?;
        let chunk = page[node / FAN % FAN].as_ref()?;
        chunk[node % FAN].as_deref()
    }

    /// Puts something at a node, and returns what was there.
    pub fn set(&mut self, node: u32, value: Arc<T>) -> Option<Arc<T>> {
        let node = node as usize;
        let page = node / (FAN * FAN);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Arc::new([const { None }; FAN]));
        let chunk = Arc::make_mut(page)[node / FAN % FAN]
            .get_or_insert_with(|| Arc::new([const { None }; FAN]));
        Arc::make_mut(chunk)[node % FAN].replace(value)
    }

    /// Whether there is nothing at any node.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}
