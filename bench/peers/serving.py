"""A stored graph, held-out queries, and the computation graphs of query batches.

Both frameworks answer from the same computation graphs, which are built here with vectorised numpy and
scipy, gathers of many rows with torch: their own loaders have no way to attach new nodes to a graph but to
build the whole graph anew.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from safetensors import safe_open
from safetensors.numpy import load_file


@dataclass
class Layer:
    """In-edges of the rows that a layer computes, in compressed sparse rows.

    `sources` rows are read, the first of which are the `targets` themselves; columns are positions
    among the sources. `weights` are None where each edge counts the same. A GCN's self-loops are
    `self_weights`, those of attention are edges like others.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    weights: torch.Tensor | None
    targets: int
    sources: int
    self_weights: torch.Tensor | None


@dataclass
class ComputationGraph:
    """What a model needs to answer a batch: the features of the first layer's sources, and layers."""

    x: torch.Tensor
    layers: list[Layer]


class Batch:
    """Some consecutive queries with their edges to stored nodes and each other, both directions.

    Queries are numbered after the stored nodes.
    """

    def __init__(self, graph: StoredGraph, queries: Queries, start: int, stop: int) -> None:
        self.size = stop - start
        self.labels = queries.y[start:stop]
        self.x = np.asarray(queries.x[start:stop], np.float32)
        nodes = graph.nodes
        query, stored = queries.edges_of(start, stop)
        source, target = queries.between(start, stop)
        keep = source != target
        source, target = source[keep] + nodes, target[keep] + nodes
        query = query + nodes
        rows = np.concatenate([query, stored, source, target])
        columns = np.concatenate([stored, query, target, source])
        total = nodes + self.size
        ones = np.ones(len(rows), np.float32)
        edges = scipy.sparse.coo_matrix((ones, (rows, columns)), shape=(total, total)).tocsr()
        edges.sum_duplicates()
        edges.data[:] = 1
        self.edges = edges
        """[nodes + size, nodes + size]: in-edges that the batch adds, by target."""
        degrees = np.zeros(total, np.int64)
        degrees[:nodes] = graph.degrees
        self.degrees = degrees + np.diff(edges.indptr)


class Queries:
    """Held-out queries of a file."""

    def __init__(self, path: Path) -> None:
        tensors = load_file(path)
        self.x, self.y = tensors["x"], tensors["y"]
        order = np.argsort(tensors["edge_index"][0], kind="stable")
        self._query, self._stored = (row[order].astype(np.int64) for row in tensors["edge_index"])
        between = tensors.get("query_edge_index", np.zeros((2, 0), np.int64)).astype(np.int64)
        self._between = between[:, np.argsort(between[0], kind="stable")]

    def __len__(self) -> int:
        return len(self.x)

    def edges_of(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(query, stored node) of every edge, queries counted from `start`."""
        low, high = np.searchsorted(self._query, [start, stop])
        return self._query[low:high] - start, self._stored[low:high]

    def between(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, target) of every edge inside the batch, counted from `start`."""
        low, high = np.searchsorted(self._between[0], [start, stop])
        source, target = self._between[:, low:high]
        inside = (target >= start) & (target < stop)
        return source[inside] - start, target[inside] - start


class StoredGraph:
    """A graph store, all of it in memory, features as float32."""

    def __init__(self, store: Path) -> None:
        with safe_open(store / "topology.safetensors", "np") as file:
            self.indptr = file.get_tensor("indptr").astype(np.int64)
            self.indices = file.get_tensor("indices").view(np.int32)
        self.nodes = len(self.indptr) - 1
        self.degrees = np.diff(self.indptr)
        edges = np.ones(len(self.indices), np.int8), self.indices, self.indptr.astype(np.int32)
        self._rows = scipy.sparse.csr_matrix(edges, shape=(self.nodes, self.nodes), copy=False)
        with safe_open(store / "features.safetensors", "np") as file:
            self.x = file.get_tensor("x").astype(np.float32)

    def full(self, batch: Batch, layers: list[dict[str, Any]]) -> ComputationGraph:
        """Every node within as many hops of the queries as there are layers, with all its in-edges."""
        targets = self.nodes + np.arange(batch.size)
        hops = []
        for _ in layers:
            indptr, indices = self._all_edges(batch, targets)
            hops.append((targets, indptr, indices, None))
            targets = self._with_sources(targets, indices, batch)
        return self._computation_graph(batch, layers, hops, targets)

    def sampled(
        self, batch: Batch, layers: list[dict[str, Any]], fanouts: list[int], rng: np.random.Generator
    ) -> ComputationGraph:
        """As many in-edges a node as the fanouts say, the queries' own first, without replacement."""
        targets = self.nodes + np.arange(batch.size)
        hops = []
        for fanout in fanouts:
            indptr, indices = self._some_edges(batch, targets, fanout, rng)
            hops.append((targets, indptr, indices, fanout))
            targets = self._with_sources(targets, indices, batch)
        return self._computation_graph(batch, layers, hops, targets)

    def _all_edges(self, batch: Batch, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stored = targets[targets < self.nodes]
        old, new = self._rows[stored], batch.edges[targets]
        old_ends = np.concatenate([np.zeros(len(targets) - len(stored), np.int32), old.indptr])
        if len(old_ends) != len(targets) + 1:
            raise ValueError("queries stand before stored nodes among the targets")
        indptr = old_ends + new.indptr
        indices = np.empty(indptr[-1], np.int32)
        new_degrees = np.diff(new.indptr)
        at = np.arange(len(new.indices)) + np.repeat(old_ends[:-1], new_degrees)
        is_new = np.zeros(len(indices), bool)
        is_new[at] = True
        indices[at] = new.indices
        indices[~is_new] = old.indices
        return indptr, indices

    def _some_edges(
        self, batch: Batch, targets: np.ndarray, fanout: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Floyd's sampling without replacement, for all targets at once."""
        degrees = batch.degrees[targets]
        counts = np.minimum(degrees, fanout)
        picks = np.full((len(targets), fanout), -1, np.int64)
        every = degrees <= fanout
        picks[every] = np.arange(fanout)
        many = np.flatnonzero(~every)
        for column in range(fanout):
            upper = degrees[many] - fanout + column
            drawn = (rng.random(len(many)) * (upper + 1)).astype(np.int64)
            taken = (picks[many, :column] == drawn[:, None]).any(1)
            picks[many, column] = np.where(taken, upper, drawn)
        valid = np.arange(fanout) < counts[:, None]
        place, target = picks[valid], np.repeat(np.arange(len(targets)), counts)
        node = targets[target]
        stored_degree = np.where(node < self.nodes, self.degrees[np.minimum(node, self.nodes - 1)], 0)
        is_old = place < stored_degree
        indices = np.empty(len(place), np.int32)
        indices[is_old] = self.indices[self.indptr[node[is_old]] + place[is_old]]
        new = ~is_old
        indices[new] = batch.edges.indices[
            batch.edges.indptr[node[new]] + place[new] - stored_degree[new]
        ]
        return np.concatenate([[0], np.cumsum(counts)]), indices

    def _with_sources(
        self, targets: np.ndarray, indices: np.ndarray, batch: Batch
    ) -> np.ndarray:
        """The targets, and after them all other sources: queries first, all of which are targets."""
        seen = np.zeros(self.nodes + batch.size, bool)
        seen[indices] = True
        seen[targets] = False
        return np.concatenate([targets, np.flatnonzero(seen)])

    def _computation_graph(
        self, batch: Batch, layers: list[dict[str, Any]], hops: list[Any], inputs: np.ndarray
    ) -> ComputationGraph:
        position = np.zeros(self.nodes + batch.size, np.int32)
        position[inputs] = np.arange(len(inputs), dtype=np.int32)
        position = torch.from_numpy(position)
        built = []
        sources = len(inputs)
        for layer, (targets, indptr, indices, fanout) in zip(layers, reversed(hops)):
            weights, self_weights = None, None
            indices = torch.from_numpy(indices)
            if layer["type"] == "gcn":
                weights, self_weights = _symmetric(batch.degrees, targets, indptr, indices, fanout)
            columns = position.index_select(0, indices)
            indptr = torch.from_numpy(indptr.astype(np.int32))
            if layer["type"] == "gat" and layer.get("self_loops", False):
                indptr, columns = _with_self_loops(indptr, columns)
            built.append(Layer(indptr, columns, weights, len(targets), sources, self_weights))
            sources = len(targets)
        x = torch.empty(len(inputs), self.x.shape[1])
        x[: batch.size] = torch.from_numpy(batch.x)
        stored = torch.from_numpy(inputs[batch.size :])
        torch.index_select(torch.from_numpy(self.x), 0, stored, out=x[batch.size :])
        return ComputationGraph(x, built)


def _symmetric(
    degrees: np.ndarray,
    targets: np.ndarray,
    indptr: np.ndarray,
    indices: torch.Tensor,
    fanout: int | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of GCN by the degrees with the batch attached, and of the self-loops.

    Of sampled edges each stands for as many as it was drawn from, in the sum of the weights.
    """
    scale = ((degrees + 1.0) ** -0.5).astype(np.float32)
    counts = np.diff(indptr)
    at_target = scale[targets]
    if fanout is not None:
        at_target = at_target * (degrees[targets] / np.maximum(counts, 1)).astype(np.float32)
    weights = torch.from_numpy(scale).index_select(0, indices)
    weights *= torch.from_numpy(np.repeat(at_target, counts))
    return weights, torch.from_numpy(scale[targets] ** 2)


def _with_self_loops(
    indptr: torch.Tensor, indices: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """An edge of every target to itself, first in its row."""
    own = torch.arange(len(indptr), dtype=torch.int32)
    ends = indptr + own
    at = ends[:-1].long()
    columns = torch.empty(len(indices) + len(at), dtype=torch.int32)
    is_old = torch.ones(len(columns), dtype=torch.bool)
    is_old[at] = False
    columns[at] = own[:-1]
    columns[is_old] = indices
    return ends, columns


def read_sidecar(model: Path) -> tuple[dict[str, Any], Path]:
    """`model.toml`, and the place of the graph store."""
    sidecar = tomllib.loads((model / "model.toml").read_text())
    return sidecar, model / sidecar["graph"]


def read_weights(model: Path) -> dict[str, np.ndarray]:
    """The state dict of the highest version."""
    versions = [path for path in model.iterdir() if path.name.isdigit()]
    return load_file(max(versions, key=lambda path: int(path.name)) / "weights.safetensors")
