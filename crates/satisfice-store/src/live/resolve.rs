//! From ids to positions: everything for which a write may be refused is found here, before anything
//! is changed.

use super::{Limits, LiveError, NodeId, Operation, Problem, draft::Draft};
use crate::NodeIdKind;
use std::{collections::HashMap, sync::Arc};

/// An operation that can be done.
#[derive(Debug)]
pub(super) enum Effect {
    Insert {
        node: u32,
        id: NodeId,
        x: Arc<[f32]>,
        label: Option<i32>,
    },
    Replace {
        node: u32,
        x: Option<Arc<[f32]>>,
        label: Option<i32>,
    },
    DeleteNode(u32),
    PutEdge(u32, u32),
    DeleteEdge(u32, u32),
}

/// The effects of `operations` on the graph that `draft` is.
pub(super) fn resolve(
    operations: &[Operation],
    draft: &Draft,
    limits: &Limits,
) -> Result<Vec<Effect>, LiveError> {
    let mut resolver = Resolver {
        draft,
        kind: draft.id_kind(),
        nodes: draft.nodes(),
        nodes_max: limits.nodes_max,
        own: HashMap::new(),
    };
    let mut effects = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        let effect = resolver
            .effect(operation)
            .map_err(|problem| LiveError::Operation {
                index,
                operation: operation.to_string(),
                problem,
            })?;
        effects.push(effect);
    }
    Ok(effects)
}

struct Resolver<'a> {
    draft: &'a Draft,
    kind: NodeIdKind,
    nodes: usize,
    nodes_max: usize,
    /// Ids that this write has put or deleted so far, and their positions.
    own: HashMap<NodeId, Option<u32>>,
}

impl Resolver<'_> {
    fn effect(&mut self, operation: &Operation) -> Result<Effect, Problem> {
        Ok(match operation {
            Operation::PutNode { id, x, label } => return self.put(id, x.as_deref(), *label),
            Operation::DeleteNode { id } => {
                let node = self.find(id)?;
                self.own.insert(id.clone(), None);
                Effect::DeleteNode(node)
            }
            Operation::PutEdge { source, target } => {
                Effect::PutEdge(self.find(source)?, self.find(target)?)
            }
            Operation::DeleteEdge { source, target } => {
                Effect::DeleteEdge(self.find(source)?, self.find(target)?)
            }
        })
    }

    fn put(
        &mut self,
        id: &NodeId,
        x: Option<&[f32]>,
        label: Option<i32>,
    ) -> Result<Effect, Problem> {
        let x = x.map(Arc::from);
        if let Some(node) = self.position(id) {
            return match (&x, label) {
                (None, None) => Err(Problem::Nothing),
                _ => Ok(Effect::Replace { node, x, label }),
            };
        }
        let node = self.free_position(id)?;
        let x = x.ok_or(Problem::NoFeatures)?;
        self.nodes = self.nodes.max(node as usize + 1);
        self.own.insert(id.clone(), Some(node));
        Ok(Effect::Insert {
            node,
            id: id.clone(),
            x,
            label,
        })
    }

    /// Where a new node goes.
    fn free_position(&self, id: &NodeId) -> Result<u32, Problem> {
        let node = match (self.kind, id) {
            (NodeIdKind::Position, &NodeId::Int(id)) => usize::try_from(id)
                .ok()
                .filter(|&node| node <= self.nodes)
                .ok_or(Problem::Position {
                    id,
                    next: self.nodes,
                })?,
            _ => self.nodes,
        };
        if node >= self.nodes_max {
            return Err(Problem::TooManyNodes(self.nodes));
        }
        Ok(node as u32)
    }

    fn find(&self, id: &NodeId) -> Result<u32, Problem> {
        self.position(id)
            .ok_or_else(|| Problem::UnknownNode(id.to_string()))
    }

    fn position(&self, id: &NodeId) -> Option<u32> {
        match self.own.get(id) {
            Some(&node) => node,
            None => self.draft.position_of(id),
        }
    }
}
