//! From the tensors of a request to new nodes with their edges.

pub(crate) mod features;

use crate::{Direction, Directions, GraphError, NewNodes, Plan, RequestLimits, UnknownPlan};
use satisfice_core::{
    ByteStrings, Cores, InferRequest, STEPS, Tensor, TensorData,
    parameters::{EDGE_DIRECTION, NODE_IDS, PLAN},
};
use satisfice_store::{GraphStore, NodeIdKind, NodeIds, live::Snapshot};
use std::{borrow::Cow, ops::Range};

/// Stored nodes whose answers are asked for.
pub(crate) const STORED_IDS: &str = "stored_ids";

/// The plan that a request names.
pub(crate) fn plan(request: &InferRequest) -> Result<Option<Plan>, GraphError> {
    let plan = PLAN.text(&request.parameters)?;
    plan.map(str::parse)
        .transpose()
        .map_err(|error: UnknownPlan| GraphError::request(PLAN.code, error.to_string()))
}

/// Whether the request names stored nodes by position, whatever ids they have.
fn by_position(request: &InferRequest) -> Result<bool, GraphError> {
    Ok(NODE_IDS.text(&request.parameters)? == Some("position"))
}

/// The stored nodes that a request may name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownNodes<'a> {
    pub ids: NodeIds<'a>,
    /// Number of positions.
    pub positions: usize,
    /// What a living graph is now.
    pub live: Option<&'a Snapshot>,
}

impl<'a> KnownNodes<'a> {
    /// Of a store, or of what a living graph that began as it is now.
    pub(crate) fn new(store: &'a GraphStore, live: Option<&'a Snapshot>) -> Self {
        Self {
            ids: store.ids(),
            positions: live.map_or(store.nodes(), Snapshot::nodes),
            live,
        }
    }

    /// Whether nodes lie at all positions.
    fn are_all_there(self) -> bool {
        self.live
            .is_none_or(|live| live.live_nodes() == live.nodes())
    }

    /// Whether a node lies there.
    fn is_there(self, position: u32) -> bool {
        (position as usize) < self.positions
            && self.live.is_none_or(|live| !live.is_deleted(position))
    }

    fn position_of_int(self, id: i64) -> Option<u32> {
        match self.live {
            None => self.ids.position_of_int(id),
            Some(live) => live.position_of_int(id),
        }
    }

    fn position_of_str(self, id: &[u8]) -> Option<u32> {
        match self.live {
            None => self.ids.position_of_str(id),
            Some(live) => live.position_of_text(std::str::from_utf8(id).ok()?),
        }
    }

    /// Checks that no edge leads to the position of a node that was deleted.
    pub(crate) fn check(self, batch: &NewNodes<'_>) -> Result<(), GraphError> {
        if self.are_all_there() {
            return Ok(());
        }
        let is_deleted = |&node: &u32| (node as usize) < self.positions && !self.is_there(node);
        match batch.edge_node.iter().position(is_deleted) {
            None => Ok(()),
            Some(edge) => Err(GraphError::request(
                "unknown_node",
                format!(
                    "edge {edge} names stored node {}, which was deleted",
                    batch.edge_node[edge]
                ),
            )),
        }
    }
}

/// Reads requests for one graph.
pub(crate) struct Decoder<'a> {
    pub nodes: KnownNodes<'a>,
    pub undirected: bool,
    pub features: usize,
    pub limits: RequestLimits,
}

impl Decoder<'_> {
    /// The new nodes of the request.
    pub(crate) fn new_nodes<'r>(
        &self,
        request: &'r InferRequest,
    ) -> Result<NewNodes<'r>, GraphError> {
        let (x, queries) = self.x(required(request, "x", "FP32 [queries, features]")?)?;
        let hint =
            "INT64 [2, edges], or BYTES where ids are strings; [2, 0] for nodes without edges";
        let edge_index = required(request, "edge_index", hint)?;
        let by_position = by_position(request)?;
        let directions = self.directions(request)?;
        let count = self.edge_count(edge_index, directions.as_ref())?;
        let (edge_query, edge_node) = self.edges(edge_index, count, by_position, &request.cores)?;
        let query_edges = match request.input("query_edge_index") {
            Some(tensor) => query_edges(tensor, self.limits)?,
            None => Vec::new(),
        };
        Ok(NewNodes {
            x,
            queries,
            edge_query: edge_query.into(),
            edge_node: edge_node.into(),
            directions: match directions {
                Some(Directions::Each(each)) => each.into(),
                Some(all) => all,
                // Without edges there is nothing to point.
                None => Directions::All(Direction::Both),
            },
            query_edges: query_edges.into(),
        })
    }

    /// The stored nodes whose answers are asked for, in order; nothing where the request asks for none.
    pub(crate) fn stored(&self, request: &InferRequest) -> Result<Vec<u32>, GraphError> {
        let Some(tensor) = request.input(STORED_IDS) else {
            return Ok(Vec::new());
        };
        let [count] = *tensor.shape() else {
            return Err(wrong_shape(STORED_IDS, tensor, "[nodes]"));
        };
        if count > self.limits.queries_max {
            return Err(GraphError::TooLarge {
                what: "stored nodes in one request",
                found: count,
                limit: self.limits.queries_max,
            });
        }
        let data = tensor.data();
        if !matches!(
            data,
            TensorData::Bytes(_) | TensorData::Int64(_) | TensorData::Int32(_)
        ) {
            return Err(wrong_datatype(STORED_IDS, tensor, "INT64, INT32 or BYTES"));
        }
        let kind = self.kind(by_position(request)?);
        let place = |at| format!("`{STORED_IDS}`: element {at}");
        (0..count)
            .map(|at| self.node(data, at, kind, || place(at)))
            .collect()
    }

    /// What the ids of stored nodes are.
    fn kind(&self, by_position: bool) -> NodeIdKind {
        match by_position {
            true => NodeIdKind::Position,
            false => self.nodes.ids.kind(),
        }
    }

    fn x<'r>(&self, tensor: &'r Tensor) -> Result<(Cow<'r, [f32]>, usize), GraphError> {
        let [queries, width] = *tensor.shape() else {
            return Err(wrong_shape("x", tensor, "[queries, features]"));
        };
        if width != self.features {
            return Err(GraphError::request(
                "wrong_feature_width",
                format!(
                    "`x` has shape [{queries}, {width}], but the model reads features of width {}",
                    self.features
                ),
            ));
        }
        Ok((features::single(tensor)?, queries))
    }

    /// Which way each edge points, or all of them; nothing where the request does not say.
    fn directions(&self, request: &InferRequest) -> Result<Option<Directions>, GraphError> {
        const WORDS: &str =
            "0 or `both`, 1 or `in` (stored to query), 2 or `out` (query to stored)";
        let wrong = |message: String| {
            GraphError::request_hint(
                "unknown_direction",
                message,
                format!("directions are {WORDS}"),
            )
        };
        if let Some(tensor) = request.input("edge_direction") {
            let TensorData::Uint8(codes) = tensor.data() else {
                return Err(wrong_datatype("edge_direction", tensor, "UINT8"));
            };
            let direction = |(edge, &code): (usize, &u8)| {
                Direction::from_code(code)
                    .ok_or_else(|| wrong(format!("`edge_direction`: edge {edge} has {code}")))
            };
            let each: Result<_, _> = codes.iter().enumerate().map(direction).collect();
            return Ok(Some(Directions::Each(each?)));
        }
        match EDGE_DIRECTION.text(&request.parameters)? {
            Some("in") => Ok(Some(Directions::All(Direction::In))),
            Some("out") => Ok(Some(Directions::All(Direction::Out))),
            Some(_) => Ok(Some(Directions::All(Direction::Both))),
            None if self.undirected => Ok(Some(Directions::All(Direction::Both))),
            None => Ok(None),
        }
    }

    /// The number of edges, each of which has a direction.
    fn edge_count(
        &self,
        tensor: &Tensor,
        directions: Option<&Directions>,
    ) -> Result<usize, GraphError> {
        let count = edge_count("edge_index", tensor, self.limits)?;
        match directions {
            Some(Directions::Each(each)) if each.len() != count => Err(GraphError::request(
                "wrong_shape",
                format!(
                    "`edge_direction` has {} values for {count} edges",
                    each.len()
                ),
            )),
            None if count > 0 => Err(GraphError::request_hint(
                "direction_missing",
                "the graph is directed, but the edges of the request have no direction",
                "send the input `edge_direction`, or the parameter `edge_direction` = `in`, \
                 `out` or `both`",
            )),
            _ => Ok(count),
        }
    }

    /// The query and the stored node of each of `count` edges.
    fn edges(
        &self,
        tensor: &Tensor,
        count: usize,
        by_position: bool,
        cores: &Cores,
    ) -> Result<(Vec<u32>, Vec<u32>), GraphError> {
        let kind = self.kind(by_position);
        let data = tensor.data();
        // Numbers that need no looking up are taken as they are, many at a time.
        let plain = kind != NodeIdKind::Int64 && self.nodes.are_all_there();
        let read = |edges: Range<usize>, into: (&mut Vec<u32>, &mut Vec<u32>)| match data {
            TensorData::Int64(values) if plain => self.plain(values, (count, edges), into),
            TensorData::Int32(values) if plain => self.plain(values, (count, edges), into),
            _ => false,
        };
        let query_of = |edge: usize| match data {
            TensorData::Bytes(strings) => parse_query(edge, strings),
            data => query_index("edge_index", edge, integer(data, edge)),
        };
        if !matches!(
            data,
            TensorData::Bytes(_) | TensorData::Int64(_) | TensorData::Int32(_)
        ) {
            return Err(wrong_datatype(
                "edge_index",
                tensor,
                "INT64, INT32 or BYTES",
            ));
        }
        let (mut queries, mut nodes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for start in (0..count).step_by(STEPS) {
            cores.pass()?;
            let edges = start..count.min(start + STEPS);
            if read(edges.clone(), (&mut queries, &mut nodes)) {
                continue;
            }
            for edge in edges {
                let place = || format!("`edge_index`: edge {edge}");
                nodes.push(self.node(data, count + edge, kind, place)?);
                queries.push(query_of(edge)?);
            }
        }
        Ok((queries, nodes))
    }

    /// Takes the queries and nodes of some of `count` edges as they are, unless one is no query's or node's position: which
    /// one is to be found out.
    fn plain<T: Copy + Into<i64>>(
        &self,
        values: &[T],
        (count, edges): (usize, Range<usize>),
        (of_queries, of_nodes): (&mut Vec<u32>, &mut Vec<u32>),
    ) -> bool {
        let within = |values: &[T], end: u64| {
            let below = |value: &T| ((*value).into() as u64) < end;
            values.iter().fold(true, |all, value| all & below(value))
        };
        let queries = &values[edges.clone()];
        let nodes = &values[count + edges.start..count + edges.end];
        let fit = within(queries, 1 << u32::BITS) && within(nodes, self.nodes.positions as u64);
        if fit {
            let position = |&value: &T| value.into() as u32;
            of_queries.extend(queries.iter().map(position));
            of_nodes.extend(nodes.iter().map(position));
        }
        fit
    }

    /// The position of the stored node that element `at` names; `place` says where that is.
    fn node(
        &self,
        data: &TensorData,
        at: usize,
        kind: NodeIdKind,
        place: impl FnOnce() -> String,
    ) -> Result<u32, GraphError> {
        let found = match data {
            TensorData::Bytes(strings) => {
                self.position_of_text(strings.get(at).unwrap_or_default(), kind)
            }
            data => {
                let id = integer(data, at);
                match kind {
                    NodeIdKind::Int64 => self.nodes.position_of_int(id),
                    NodeIdKind::Position | NodeIdKind::String => u32::try_from(id)
                        .ok()
                        .filter(|&position| self.nodes.is_there(position)),
                }
            }
        };
        found.ok_or_else(|| {
            let name = match data {
                TensorData::Bytes(strings) => {
                    String::from_utf8_lossy(strings.get(at).unwrap_or_default()).into_owned()
                }
                data => integer(data, at).to_string(),
            };
            let name: String = name.chars().take(80).collect();
            GraphError::request_hint(
                "unknown_node",
                format!(
                    "{} names node `{name}`, which the graph does not have",
                    place()
                ),
                match kind {
                    NodeIdKind::String => {
                        "nodes are named by their string ids (BYTES), or by position (INT64)"
                    }
                    NodeIdKind::Int64 => "nodes are named by their own ids, not by position",
                    NodeIdKind::Position => "nodes are named by position, from 0",
                },
            )
        })
    }

    fn position_of_text(&self, id: &[u8], kind: NodeIdKind) -> Option<u32> {
        let nodes = self.nodes;
        match kind {
            NodeIdKind::String => nodes.position_of_str(id),
            NodeIdKind::Int64 => nodes.position_of_int(parse(id)?),
            NodeIdKind::Position => parse(id).filter(|&position: &u32| nodes.is_there(position)),
        }
    }
}

pub(crate) fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn required<'a>(
    request: &'a InferRequest,
    name: &str,
    what: &str,
) -> Result<&'a Tensor, GraphError> {
    request.input(name).ok_or_else(|| {
        GraphError::request_hint(
            "missing_input",
            format!("input `{name}` is missing"),
            format!("`{name}` is {what}"),
        )
    })
}

pub(crate) fn wrong_shape(name: &str, tensor: &Tensor, wanted: &str) -> GraphError {
    GraphError::request(
        "wrong_shape",
        format!(
            "`{name}` has shape {:?}, but it is {wanted}",
            tensor.shape()
        ),
    )
}

pub(crate) fn wrong_datatype(name: &str, tensor: &Tensor, wanted: &str) -> GraphError {
    GraphError::request_hint(
        "wrong_datatype",
        format!(
            "`{name}` has datatype {}, but it is {wanted}",
            tensor.datatype()
        ),
        format!("send `{name}` as {wanted}"),
    )
}

/// Edges of a `[2, edges]` tensor, within the limit.
fn edge_count(name: &str, tensor: &Tensor, limits: RequestLimits) -> Result<usize, GraphError> {
    let [2, count] = *tensor.shape() else {
        return Err(wrong_shape(name, tensor, "[2, edges]"));
    };
    if count > limits.edges_max {
        return Err(GraphError::TooLarge {
            what: "edges in one request",
            found: count,
            limit: limits.edges_max,
        });
    }
    Ok(count)
}

fn query_edges(tensor: &Tensor, limits: RequestLimits) -> Result<Vec<(u32, u32)>, GraphError> {
    const NAME: &str = "query_edge_index";
    let count = edge_count(NAME, tensor, limits)?;
    if !matches!(tensor.data(), TensorData::Int64(_) | TensorData::Int32(_)) {
        return Err(wrong_datatype(NAME, tensor, "INT64 or INT32"));
    }
    (0..count)
        .map(|edge| {
            let source = query_index(NAME, edge, integer(tensor.data(), edge))?;
            let target = query_index(NAME, edge, integer(tensor.data(), count + edge))?;
            Ok((source, target))
        })
        .collect()
}

/// Element `at` of an integer tensor; -1, which is no index, of any other.
pub(crate) fn integer(data: &TensorData, at: usize) -> i64 {
    match data {
        TensorData::Int64(values) => values[at],
        TensorData::Int32(values) => i64::from(values[at]),
        _ => -1,
    }
}

fn query_index(name: &str, edge: usize, index: i64) -> Result<u32, GraphError> {
    u32::try_from(index).map_err(|_| {
        GraphError::request(
            "edge_out_of_range",
            format!("`{name}`: edge {edge} names query {index}"),
        )
    })
}

fn parse_query(edge: usize, strings: &ByteStrings) -> Result<u32, GraphError> {
    let text = strings.get(edge).unwrap_or_default();
    parse(text).ok_or_else(|| {
        GraphError::request_hint(
            "edge_out_of_range",
            format!(
                "`edge_index`: edge {edge} names query `{}`",
                String::from_utf8_lossy(text)
                    .chars()
                    .take(80)
                    .collect::<String>()
            ),
            "row 0 of a BYTES `edge_index` holds query indices as decimal text",
        )
    })
}
