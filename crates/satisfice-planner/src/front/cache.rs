use super::FrontTable;
use crate::{Error, StrategyProfile};
use std::sync::Arc;

/// Tables that are kept at once.
const TABLES_MAX: usize = 16;

/// Tables for the sets of strategies that jobs' tensors suffice for, each built when first asked for.
///
/// The sixteen used last are kept: three modalities have seven such sets.
#[derive(Debug)]
pub struct FrontCache {
    strategies: Vec<StrategyProfile>,
    inputs_max: usize,
    /// Used last stands last.
    tables: Vec<(Vec<usize>, Arc<FrontTable>)>,
}

impl FrontCache {
    /// A cache without tables.
    pub fn new(strategies: Vec<StrategyProfile>, inputs_max: usize) -> Self {
        Self {
            strategies,
            inputs_max,
            tables: Vec::new(),
        }
    }

    /// The table over the strategies at the positions `available`. Building one takes as long as
    /// [`FrontTable::new`]; later calls only look it up.
    ///
    /// # Errors
    /// As for [`FrontTable::new`].
    pub fn table(&mut self, available: &[usize]) -> Result<Arc<FrontTable>, Error> {
        let found = self.tables.iter().position(|(of, _)| of == available);
        let entry = if let Some(at) = found {
            self.tables.remove(at)
        } else {
            let table = FrontTable::new(&self.strategies, available, self.inputs_max)?;
            if self.tables.len() == TABLES_MAX {
                self.tables.remove(0);
            }
            (available.to_vec(), Arc::new(table))
        };
        let table = Arc::clone(&entry.1);
        self.tables.push(entry);
        Ok(table)
    }
}
