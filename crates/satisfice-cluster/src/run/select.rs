//! Which stored nodes a plan computes anew: chosen by all workers together, the same as on one machine.

use super::{ByOwner, Run};
use crate::{
    ClusterError,
    slab::{SlabReader, SlabWriter},
};
use satisfice_graph::{Plan, Policy};

impl Run<'_> {
    /// For each layer but the last: the nodes to compute anew, by owner.
    pub(super) async fn select(&self) -> Result<Vec<ByOwner>, ClusterError> {
        let inner = self.desk.part.model().layers() - 1;
        if inner == 0 {
            return Ok(Vec::new());
        }
        match self.job.head.plan {
            Plan::Precomputed => Ok(vec![vec![Vec::new(); self.post.workers]; inner]),
            Plan::Recompute { budget, policy } => {
                let chosen = self.highest(budget, policy).await?;
                Ok(vec![chosen; inner])
            }
            Plan::Exact => self.changed(inner).await,
            Plan::Refresh => {
                let rows: Vec<u32> = self.job.readers.iter().map(|&(row, _)| row).collect();
                Ok(vec![self.share(&rows).await?; inner])
            }
        }
    }

    /// The share `budget` of the batch's stored neighbours with the highest scores; ties by position.
    async fn highest(&self, budget: f64, policy: Policy) -> Result<ByOwner, ClusterError> {
        let candidates = self.job.head.candidates;
        let count = ((budget * candidates as f64 + 0.5).floor() as usize).min(candidates);
        let changes = match policy {
            Policy::Oracle => self.changes().await?,
            _ => Vec::new(),
        };
        let scores = self.scores(policy, changes)?;
        let view = self.desk.part.view()?;
        let rows = self.job.readers.iter().map(|&(row, _)| row as usize);
        let mut own: Vec<(f64, u32)> = scores
            .into_iter()
            .zip(rows.map(|row| view.nodes[row]))
            .collect();
        // No more than all that are chosen can be chosen of one worker's.
        keep_highest(&mut own, count);
        let mut writer = SlabWriter::default();
        writer.u32s(&own.iter().map(|&(_, node)| node).collect::<Vec<_>>());
        writer.f64s(&own.iter().map(|&(score, _)| score).collect::<Vec<_>>());
        let received = self.post.all_gather(writer.finish()).await;
        let mut all = Vec::new();
        let mut chosen = vec![Vec::new(); self.post.workers];
        for (worker, message) in received.iter().enumerate() {
            let mut reader = SlabReader::new(message, worker);
            let (nodes, scores) = (reader.u32s()?, reader.f64s()?);
            let owned = |node: &u32| view.owners.get(*node as usize) == Some(&(worker as u8));
            reader.check(nodes.len() == scores.len() && nodes.iter().all(owned))?;
            all.extend(scores.iter().copied().zip(nodes.iter().copied()));
        }
        keep_highest(&mut all, count);
        all.sort_unstable_by_key(|&(_, node)| node);
        for (_, node) in all {
            chosen[view.owners[node as usize] as usize].push(node);
        }
        Ok(chosen)
    }

    /// By how much the last stored value of each of the worker's readers changes when all of the
    /// batch's are computed anew.
    async fn changes(&self) -> Result<Vec<f64>, ClusterError> {
        let inner = self.desk.part.model().layers() - 1;
        let rows: Vec<u32> = self.job.readers.iter().map(|&(row, _)| row).collect();
        let all = self.share(&rows).await?;
        let (values, _) = self.layers(inner, &vec![all; inner]).await?;
        let stored = self.desk.part.level(inner)?;
        let mut old = vec![0.0; stored.width()];
        let new = values.values.chunks_exact(stored.width());
        let new = new.skip(self.job.owned.len());
        let change = |(&row, new): (&u32, &[f32])| {
            stored.read(row as usize, &mut old);
            let squares = new.iter().zip(&old).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        Ok(rows.iter().zip(new).map(change).collect())
    }

    /// Tells all workers of some rows, ascending; returns everybody's nodes.
    async fn share(&self, rows: &[u32]) -> Result<ByOwner, ClusterError> {
        let view = self.desk.part.view()?;
        let nodes: Vec<u32> = rows.iter().map(|&row| view.nodes[row as usize]).collect();
        let mut writer = SlabWriter::default();
        writer.u32s(&nodes);
        let received = self.post.all_gather(writer.finish()).await;
        let mut all = Vec::with_capacity(received.len());
        for (worker, message) in received.iter().enumerate() {
            let mut reader = SlabReader::new(message, worker);
            let nodes = reader.u32s()?;
            let owned = |node: &u32| view.owners.get(*node as usize) == Some(&(worker as u8));
            reader.check(nodes.is_sorted_by(|a, b| a < b) && nodes.iter().all(owned))?;
            all.push(nodes.into_owned());
        }
        Ok(all)
    }

    /// Tells the owners of some nodes; returns the worker's rows that it is told of, ascending.
    async fn tell_owners(&self, nodes: Vec<u32>) -> Result<Vec<u32>, ClusterError> {
        let view = self.desk.part.view()?;
        let mut of_owner = vec![Vec::new(); self.post.workers];
        for node in nodes {
            of_owner[view.owners[node as usize] as usize].push(node);
        }
        let message = |mut nodes: Vec<u32>| {
            nodes.sort_unstable();
            nodes.dedup();
            let mut writer = SlabWriter::default();
            writer.u32s(&nodes);
            writer.finish()
        };
        let messages = of_owner.into_iter().map(message).collect();
        let received = self.post.all_to_all(messages).await;
        let mut rows = Vec::new();
        for (worker, message) in received.iter().enumerate() {
            let mut reader = SlabReader::new(message, worker);
            let nodes = reader.u32s()?;
            let of_node = |&node: &u32| view.row(node);
            let told: Vec<u32> = nodes.iter().filter_map(of_node).collect();
            reader.check(told.len() == nodes.len())?;
            rows.extend(told);
        }
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    /// For each layer l of 1 .. `inner`: the nodes whose value both differs from the stored one and is
    /// read on the way to a query.
    async fn changed(&self, inner: usize) -> Result<Vec<ByOwner>, ClusterError> {
        let first = self.first_changed(inner).await?;
        let part = &self.desk.part;
        let changes_by = |row: u32, layer: usize| {
            let at = usize::from(first[row as usize]);
            at != 0 && at <= layer
        };
        let mut fresh = vec![Vec::new(); inner];
        let mut above: ByOwner = vec![Vec::new(); self.post.workers];
        for layer in (1..=inner).rev() {
            let view = part.view()?;
            let own_above = above[self.post.worker].iter();
            let mut read: Vec<u32> = self.job.readers.iter().map(|&(row, _)| row).collect();
            read.extend(own_above.filter_map(|&node| view.row(node)));
            let targets = above.iter().flatten();
            read.extend(targets.flat_map(|&node| view.sources(node)));
            read.sort_unstable();
            read.dedup();
            read.retain(|&row| changes_by(row, layer));
            above = self.share(&read).await?;
            fresh[layer - 1].clone_from(&above);
        }
        Ok(fresh)
    }

    /// For each row: the first of the layers 1 .. `inner` after which its value differs; 0 = none.
    ///
    /// It differs after layer 1 when it has new in-edges or a source whose factor changed, and one layer
    /// after a source of its does.
    async fn first_changed(&self, inner: usize) -> Result<Vec<u8>, ClusterError> {
        let part = &self.desk.part;
        let effects = part.model().degree_effects();
        let mut first = vec![0_u8; part.view()?.nodes.len()];
        let mut frontier: Vec<u32> = self.job.touched.iter().map(|&(row, _)| row).collect();
        if effects.out_degree_at_target {
            frontier.extend(self.job.readers.iter().map(|&(row, _)| row));
        }
        if effects.in_degree_at_source || effects.out_degree_at_source {
            let mut rescaled = Vec::new();
            if effects.in_degree_at_source {
                rescaled.extend(self.job.touched.iter().map(|&(row, _)| row));
            }
            if effects.out_degree_at_source {
                rescaled.extend(self.job.readers.iter().map(|&(row, _)| row));
            }
            frontier.extend(self.tell_owners(self.targets_of(&rescaled)?).await?);
        }
        for layer in 1..=inner {
            frontier.retain(|&row| first[row as usize] == 0);
            // Beyond 255 layers every node counts as changed at the last, which is never wrong.
            let mark = u8::try_from(layer).unwrap_or(u8::MAX);
            for &row in &frontier {
                first[row as usize] = mark;
            }
            frontier.sort_unstable();
            frontier.dedup();
            if layer < inner {
                frontier = self.tell_owners(self.targets_of(&frontier)?).await?;
            }
        }
        Ok(first)
    }

    /// Nodes that some rows have stored edges to.
    fn targets_of(&self, rows: &[u32]) -> Result<Vec<u32>, ClusterError> {
        let view = self.desk.part.view()?;
        let targets = rows.iter().flat_map(|&row| view.out_targets(row));
        Ok(targets.copied().collect())
    }
}

/// Keeps the `count` highest scores; of equal ones those of the lower nodes.
fn keep_highest(scored: &mut Vec<(f64, u32)>, count: usize) {
    if count > 0 && count < scored.len() {
        scored.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
    scored.truncate(count);
}
