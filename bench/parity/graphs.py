"""Small random graphs with the shapes that break things, and queries attached to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plans import Attachment

FEATURES = 7
CLASSES = 5
QUERIES = 9


@dataclass
class StoredGraph:
    """A graph without its queries."""

    edges: np.ndarray
    x: np.ndarray
    y: np.ndarray
    undirected: bool


def stored_graph(rng: np.random.Generator, undirected: bool, self_loops: bool) -> StoredGraph:
    """A graph with hubs and isolated nodes; directed ones have self-loops and duplicates too.

    `self_loops`: every node has one, as after DGL's `add_self_loop`.
    """
    nodes = int(rng.integers(60, 90))
    connected = rng.permutation(nodes)[: nodes - 6]
    popularity = 1.0 / np.arange(1, len(connected) + 1) ** 0.6
    popularity /= popularity.sum()
    count = 3 * nodes
    edges = np.stack([rng.choice(connected, count), rng.choice(connected, count, p=popularity)])
    without_loops = edges[:, edges[0] != edges[1]]
    if undirected:
        edges = np.unique(np.concatenate([without_loops, without_loops[::-1]], axis=1), axis=1)
    else:
        loops = np.repeat(rng.choice(connected, 5, replace=False), [1, 1, 1, 2, 3])
        duplicates = without_loops[:, rng.integers(0, without_loops.shape[1], 12)]
        edges = np.concatenate([without_loops, duplicates, np.stack([loops, loops])], axis=1)
    if self_loops:
        every = np.arange(nodes)
        edges = np.concatenate([edges[:, edges[0] != edges[1]], np.stack([every, every])], axis=1)
    x = rng.standard_normal((nodes, FEATURES)).astype(np.float32)
    y = rng.integers(-1, CLASSES, nodes)
    return StoredGraph(edges.astype(np.int64), x, y, undirected)


def attachment(rng: np.random.Generator, graph: StoredGraph) -> Attachment:
    """Queries of every kind: no edge at all, only in, only out, both ways, doubled."""
    x = rng.standard_normal((QUERIES, FEATURES)).astype(np.float32)
    if graph.undirected:
        return _undirected_attachment(rng, graph, x)
    nodes = len(graph.x)
    into_query = _pairs(
        rng, range(1, QUERIES - 1), nodes
    )  # Query 0 has no edge; the last, none in.
    into_stored = _pairs(rng, range(2, QUERIES), nodes)  # Query 1 has none out.
    returned = into_query[:, rng.integers(0, into_query.shape[1], 5)]
    into_query = np.concatenate([into_query, into_query[:, :3]], axis=1)
    into_stored = np.concatenate([into_stored, into_stored[:, :3], returned], axis=1)
    between = np.array([[2, 3, 3, 4, 5, 6], [3, 2, 4, 5, 5, 8]])  # One loop: 5 -> 5.
    between = np.concatenate([between, between[:, :1]], axis=1)
    return Attachment(x, into_query, into_stored, between)


def _undirected_attachment(
    rng: np.random.Generator, graph: StoredGraph, x: np.ndarray
) -> Attachment:
    pairs = np.unique(_pairs(rng, range(1, QUERIES), len(graph.x)), axis=1)
    between = np.array([[2, 3, 4, 6], [3, 4, 5, 8]])
    between = np.concatenate([between, between[::-1]], axis=1)
    return Attachment(x, pairs, pairs.copy(), between)


def _pairs(rng: np.random.Generator, queries: range, nodes: int) -> np.ndarray:
    """One to five edges a query."""
    counts = rng.integers(1, 6, len(queries))
    query = np.repeat(np.array(queries), counts)
    return np.stack([query, rng.integers(0, nodes, len(query))])
