"""Reference answers of the plans `exact`, `pe` and `recompute`, in plain numpy and PyTorch.

Every plan runs the framework's own layers on the whole graph with the queries attached, so that
degrees and normalisation are those after attachment; the plans differ in which rows of a level are
then kept and which are replaced by the stale ones of the stored graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class Steps:
    """A model cut into steps.

    `layers` take rows of the level below, rows before the first layer and the graph; `finish` takes
    the rows of all layers.
    """

    graph: Callable[[np.ndarray, int], Any]
    input: Callable[[Tensor], Tensor]
    layers: list[Callable[[Tensor, Tensor, Any], Tensor]]
    finish: Callable[[list[Tensor]], Tensor]
    forward: Callable[[Tensor, Any], Tensor]


@dataclass
class Attachment:
    """Queries with their edges, all as directed pairs of query and stored node or of queries."""

    x: np.ndarray
    into_query: np.ndarray
    """[2, E]: query, stored node."""
    into_stored: np.ndarray
    """[2, E]: query, stored node."""
    between: np.ndarray
    """[2, P]: source query, target query."""


@dataclass
class Answers:
    """Reference answers [queries, outputs], and what led to them."""

    exact: np.ndarray
    pe: np.ndarray
    recompute: np.ndarray
    recompute_ids: np.ndarray
    stored_levels: list[np.ndarray]


@torch.no_grad()
def answers(
    steps: Steps, edges: np.ndarray, x: np.ndarray, attached: Attachment, budget: float
) -> Answers:
    """The answers of all plans on a stored graph of `edges` [2, E] and features `x` [N, F]."""
    nodes, rows = len(x), len(x) + len(attached.x)
    stored = steps.graph(edges, nodes)
    levels = _levels(steps, torch.from_numpy(x), stored)[:-1]
    both = torch.from_numpy(np.concatenate([x, attached.x]))
    graph = steps.graph(_attach(edges, attached, nodes), rows)
    exact = steps.finish(_levels(steps, both, graph))[nodes:]
    torch.testing.assert_close(exact, steps.forward(both, graph)[nodes:])
    chosen = most_changed(edges, attached, nodes, budget)
    return Answers(
        exact=exact.numpy(),
        pe=_with_stale(steps, both, graph, nodes, levels, np.empty(0, np.int64)),
        recompute=_with_stale(steps, both, graph, nodes, levels, chosen),
        recompute_ids=chosen,
        stored_levels=[level.numpy() for level in levels],
    )


def most_changed(edges: np.ndarray, attached: Attachment, nodes: int, budget: float) -> np.ndarray:
    """The share `budget` of the stored nodes with an edge to a query, by n / (n + d), ties by id.

    n = edges from the batch into the node, d = its in-degree in the stored graph without
    self-loops; 0 / 0 counts as 0. Ascending.
    """
    candidates = np.unique(attached.into_query[1])
    new = np.bincount(attached.into_stored[1], minlength=nodes)[candidates]
    targets = edges[1][edges[0] != edges[1]]
    old = np.bincount(targets, minlength=nodes)[candidates]
    score = np.where(new > 0, new / np.maximum(new + old, 1), 0.0)
    count = int(np.floor(budget * len(candidates) + 0.5))
    return np.sort(candidates[np.lexsort((candidates, -score))[:count]])


def _attach(edges: np.ndarray, attached: Attachment, nodes: int) -> np.ndarray:
    query_in, stored_in = attached.into_query
    query_out, stored_out = attached.into_stored
    return np.concatenate(
        [
            edges,
            np.stack([stored_in, query_in + nodes]),
            np.stack([query_out + nodes, stored_out]),
            attached.between + nodes,
        ],
        axis=1,
    )


def _levels(steps: Steps, x: Tensor, graph: Any) -> list[Tensor]:
    """Rows of levels 1 .. K."""
    initial = steps.input(x)
    rows, levels = initial, []
    for layer in steps.layers:
        rows = layer(rows, initial, graph)
        levels.append(rows)
    return levels


def _with_stale(
    steps: Steps, x: Tensor, graph: Any, nodes: int, stale: list[Tensor], fresh: np.ndarray
) -> np.ndarray:
    """The answer when only the queries and the `fresh` ones of the `nodes` are computed anew."""
    is_stale = torch.ones(nodes, dtype=torch.bool)
    is_stale[torch.from_numpy(fresh)] = False
    initial = steps.input(x)
    rows, levels = initial, []
    for index, layer in enumerate(steps.layers):
        rows = layer(rows, initial, graph).clone()
        levels.append(rows[nodes:])
        if index < len(stale):
            rows[:nodes][is_stale] = stale[index][is_stale]
    return steps.finish(levels).numpy()
