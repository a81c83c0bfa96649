//! How much the stored neighbours that a worker owns deserve to be computed anew: the same scores as
//! on one machine, since a node's owner knows all that they are made of.

use super::Run;
use crate::{ClusterError, part::PartView};
use satisfice_graph::{DegreeScale, Policy};
use xxhash_rust::xxh3::xxh3_64;

impl Run<'_> {
    /// Scores of the worker's readers by a policy; `changes` are theirs where the policy looks at them.
    pub(super) fn scores(
        &self,
        policy: Policy,
        changes: Vec<f64>,
    ) -> Result<Vec<f64>, ClusterError> {
        let view = self.desk.part.view()?;
        let readers = || self.job.readers.iter().map(|&(row, _)| row);
        let ratio = |row: u32| self.share_of_new_edges(&view, row);
        let times = |a: Vec<f64>, b: Vec<f64>| a.into_iter().zip(b).map(|(a, b)| a * b).collect();
        Ok(match policy {
            Policy::Ratio => readers().map(ratio).collect(),
            Policy::Reach => times(readers().map(ratio).collect(), self.reach(&view)),
            Policy::Importance => self.reach(&view),
            Policy::Degree => readers()
                .map(|row| f64::from(view.degrees(row).incoming))
                .collect(),
            Policy::Random => readers()
                .map(|row| xxh3_64(&view.nodes[row as usize].to_le_bytes()) as f64)
                .collect(),
            Policy::Oracle => times(changes, self.reach(&view)),
        })
    }

    /// n / (n + d). Source: OMEGA (arXiv 2501.08547).
    fn share_of_new_edges(&self, view: &PartView<'_>, row: u32) -> f64 {
        let new = f64::from(self.job.new_in_edges(row));
        let degrees = view.degrees(row);
        let old = f64::from(degrees.incoming - degrees.loops);
        if new > 0.0 { new / (new + old) } else { 0.0 }
    }

    /// The weights with which the queries read each of the worker's readers, summed.
    fn reach(&self, view: &PartView<'_>) -> Vec<f64> {
        let model = self.desk.part.model();
        let last = model.split_layer(model.layers() - 1);
        let (source, target) = last.scales();
        let shares = source.is_none() && target.is_none() && last.averages();
        let mut reach = vec![0.0; self.job.readers.len()];
        for (query, row) in self.job.stored_into_query.iter() {
            let degrees = self.job.degrees[query as usize];
            let factor = |scale: Option<DegreeScale>, degrees| {
                scale.map_or(1.0, |scale| f64::from(scale.of(degrees)))
            };
            let weight = match shares {
                true => 1.0 / f64::from(degrees.incoming),
                false => factor(source, self.job.attached(view, row)) * factor(target, degrees),
            };
            if let Ok(at) = self.job.readers.binary_search_by_key(&row, |&(row, _)| row) {
                reach[at] += weight;
            }
        }
        reach
    }
}
