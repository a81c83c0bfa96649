use super::FrontTable;
use crate::{Error, StrategyProfile};
use std::sync::Arc;

/// Tables that are kept at once.
const TABLES_MAX: usize = 16;

/// Inputs of the smallest table.
const INPUTS_MIN: usize = 8;

/// Tables for the sets of strategies that jobs' tensors suffice for, each built when first asked for,
/// and as large as the jobs that it is asked for: time to build grows with more than the square of the inputs.
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
    /// A cache without tables, which are to have fronts of at most `inputs_max` inputs.
    pub fn new(strategies: Vec<StrategyProfile>, inputs_max: usize) -> Self {
        Self {
            strategies,
            inputs_max,
            tables: Vec::new(),
        }
    }

    /// A table over the strategies at the positions `available` that has the front of `inputs` inputs,
    /// or the largest one. Building one takes as long as [`FrontTable::new`]; later calls for as many
    /// inputs only look it up.
    ///
    /// # Errors
    /// As for [`FrontTable::new`].
    pub fn table(&mut self, available: &[usize], inputs: usize) -> Result<Arc<FrontTable>, Error> {
        let found = self.tables.iter().position(|(of, _)| of == available);
        let known = found.map(|at| self.tables.remove(at));
        let inputs = inputs.min(self.inputs_max);
        let entry = match known {
            Some((of, table)) if table.inputs_max() >= inputs => (of, table),
            _ => {
                // By doublings, so that few are built on the way to the largest.
                let inputs = inputs.next_power_of_two().max(INPUTS_MIN);
                let inputs = inputs.min(self.inputs_max);
                let table = FrontTable::new(&self.strategies, available, inputs)?;
                if self.tables.len() == TABLES_MAX {
                    self.tables.remove(0);
                }
                (available.to_vec(), Arc::new(table))
            }
        };
        let table = Arc::clone(&entry.1);
        self.tables.push(entry);
        Ok(table)
    }
}
