//! New nodes as a caller's arrays have them: borrowed where they can be.

use super::Direction;
use satisfice_store::QuerySlice;
use std::borrow::Cow;

/// New nodes with their edges, as a caller gives them one by one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attachment {
    /// Features, `[queries, features]`, row-major.
    pub x: Vec<f32>,
    /// Number of queries.
    pub queries: usize,
    /// Edges between queries and stored nodes: (query, position of the stored node, direction).
    pub edges: Vec<(u32, u32, Direction)>,
    /// Directed edges between queries: (source, target).
    pub query_edges: Vec<(u32, u32)>,
}

/// New nodes with their edges, an array for each thing that is known of them.
#[derive(Debug, Clone)]
pub struct NewNodes<'a> {
    /// Features, `[queries, features]`, row-major.
    pub x: Cow<'a, [f32]>,
    /// Number of queries.
    pub queries: usize,
    /// The query of each edge between a query and a stored node.
    pub edge_query: Cow<'a, [u32]>,
    /// The position of the stored node of each such edge; as many.
    pub edge_node: Cow<'a, [u32]>,
    /// Which way those edges point.
    pub directions: Directions,
    /// Directed edges between queries: (source, target).
    pub query_edges: Cow<'a, [(u32, u32)]>,
}

/// Which way the edges of a batch point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directions {
    /// All the same way.
    All(Direction),
    /// Each its own.
    Each(Vec<Direction>),
}

impl From<Vec<Direction>> for Directions {
    fn from(each: Vec<Direction>) -> Self {
        let both = each.iter().all(|&direction| direction == Direction::Both);
        if both {
            Self::All(Direction::Both)
        } else {
            Self::Each(each)
        }
    }
}

impl From<Attachment> for NewNodes<'_> {
    fn from(attachment: Attachment) -> Self {
        let edges = &attachment.edges;
        let directions: Vec<Direction> = edges.iter().map(|edge| edge.2).collect();
        Self {
            edge_query: edges.iter().map(|edge| edge.0).collect(),
            edge_node: edges.iter().map(|edge| edge.1).collect(),
            directions: directions.into(),
            x: attachment.x.into(),
            queries: attachment.queries,
            query_edges: attachment.query_edges.into(),
        }
    }
}

impl<'a> From<&'a QuerySlice> for NewNodes<'a> {
    /// Held-out queries; edges without a direction hold both ways.
    fn from(slice: &'a QuerySlice) -> Self {
        // The file's codes were checked when it was opened.
        let direction = |&code: &u8| Direction::from_code(code).unwrap_or(Direction::Both);
        let directions = slice.edge_direction.as_deref();
        Self {
            x: (&slice.x).into(),
            queries: slice.queries(),
            edge_query: (&slice.edge_query).into(),
            edge_node: (&slice.edge_node).into(),
            directions: match directions {
                Some(codes) => codes.iter().map(direction).collect::<Vec<_>>().into(),
                None => Directions::All(Direction::Both),
            },
            query_edges: (&slice.query_edges).into(),
        }
    }
}

impl From<&QuerySlice> for Attachment {
    /// As [`NewNodes`].
    fn from(slice: &QuerySlice) -> Self {
        let nodes = NewNodes::from(slice);
        let pairs = nodes.edge_query.iter().zip(&*nodes.edge_node).enumerate();
        Self {
            x: slice.x.clone(),
            queries: nodes.queries,
            edges: pairs
                .map(|(edge, (&query, &node))| (query, node, nodes.directions.of(edge)))
                .collect(),
            query_edges: slice.query_edges.clone(),
        }
    }
}

impl Directions {
    /// That of an edge.
    pub fn of(&self, edge: usize) -> Direction {
        match self {
            Self::All(direction) => *direction,
            Self::Each(each) => each[edge],
        }
    }

    /// Whether every edge goes both ways.
    pub(super) fn both(&self) -> bool {
        *self == Self::All(Direction::Both)
    }
}
