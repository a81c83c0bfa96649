"""Cases of PyTorch Geometric with row programs around the layers, read without hints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import (
    AGNNConv,
    ARMAConv,
    ChebConv,
    ClusterGCNConv,
    FiLMConv,
    GATConv,
    GCNConv,
    GENConv,
    LEConv,
    ResGatedGraphConv,
    SAGEConv,
    SuperGATConv,
    TransformerConv,
)

from graphs import CLASSES, FEATURES, StoredGraph
from models import Case
from plans import Steps
from satisfice import export_pyg

HIDDEN = 8


def cases() -> list[Case]:
    """All cases, each of which runs on a directed and on an undirected graph."""
    return [
        two("arma", ARMAConv),
        two("cluster_gcn", ClusterGCNConv, diag_lambda=0.5),
        two("cheb", ChebConv, K=2),
        two("film", FiLMConv),
        two("gen_softmax", GENConv, learn_t=True),
        two("gen_max", GENConv, aggr="max"),
        two("le", LEConv),
        two("res_gated", ResGatedGraphConv),
        two("supergat_mx", SuperGATConv, heads=2, concat=False),
        two("supergat_sd", SuperGATConv, heads=2, concat=False, attention_type="SD"),
        two("transformer", TransformerConv, heads=2, concat=False, beta=True),
        Case("pyg_agnn", Cosine, _cosine_steps, _export),
        Case("pyg_dense_gates", DenseGates, _dense_steps, _export),
        Case("pyg_branches", Branches, _branches_steps, _export),
        Case("pyg_pre_norm", PreNorm, _pre_norm_steps, _export),
        Case("pyg_far_skip", FarSkip, _far_skip_steps, _export),
    ]


def _export(model: nn.Module, graph: StoredGraph, path: Path) -> None:
    data = Data(
        x=torch.from_numpy(graph.x),
        edge_index=torch.from_numpy(graph.edges),
        y=torch.from_numpy(graph.y),
    )
    export_pyg(model, data, path)


def _graph(edges: np.ndarray, nodes: int) -> Tensor:
    return torch.from_numpy(edges)


def _same(rows: Tensor) -> Tensor:
    return rows


class Two(nn.Module):
    """Two layers of a kind."""

    def __init__(self, kind: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.one, self.two = kind(FEATURES, HIDDEN, **options), kind(HIDDEN, CLASSES, **options)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.two(self.one(x, edges).tanh(), edges)


def two(name: str, kind: Any, **options: Any) -> Case:
    """A case of two layers of a kind."""

    def steps(model: Two) -> Steps:
        def first(rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
            return model.one(rows, edges).tanh()

        def second(rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
            return model.two(rows, edges)

        return Steps(_graph, _same, [first, second], lambda levels: levels[-1], model)

    return Case(f"pyg_{name}", partial(Two, kind, options), steps, _export)


class Cosine(nn.Module):
    """AGNN: attention by cosines between two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.out = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.one, self.two = AGNNConv(), AGNNConv(add_self_loops=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.out(self.two(self.one(self.enc(x).relu(), edges), edges))


def _cosine_steps(model: Cosine) -> Steps:
    layers = [
        lambda rows, _, edges: model.one(rows, edges),
        lambda rows, _, edges: model.two(rows, edges),
    ]
    return Steps(
        _graph,
        lambda x: model.enc(x).relu(),
        layers,
        lambda levels: model.out(levels[-1]),
        model,
    )


class DenseGates(nn.Module):
    """Every layer reads all levels before it, and a gate chooses between two at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.one = SAGEConv(FEATURES, HIDDEN)
        self.two = GATConv(FEATURES + HIDDEN, HIDDEN // 2, heads=2)
        self.gate, self.out = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def first(self, x: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        return torch.cat([x, self.one(x, edges).relu()], dim=1)

    def second(self, rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        return self.two(rows, edges)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        gate = self.gate(first[:, :FEATURES]).sigmoid()
        return self.out(gate * first[:, FEATURES:] + (1 - gate) * second.tanh())

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        first = self.first(x, x, edges)
        return self.join(first, self.second(first, x, edges))


def _dense_steps(model: DenseGates) -> Steps:
    layers: list[Callable[..., Tensor]] = [model.first, model.second]
    return Steps(_graph, _same, layers, lambda levels: model.join(*levels), model)


class Branches(nn.Module):
    """Two layers side by side, and one above them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = GCNConv(FEATURES, HIDDEN), SAGEConv(FEATURES, HIDDEN, aggr="max")
        self.top = GCNConv(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.top((self.left(x, edges) + self.right(x, edges)).relu(), edges)


def _branches_steps(model: Branches) -> Steps:
    layers = [
        lambda rows, _, edges: model.left(rows, edges),
        lambda rows, x, edges: (rows + model.right(x, edges)).relu(),
        lambda rows, _, edges: model.top(rows, edges),
    ]
    return Steps(_graph, _same, layers, lambda levels: levels[-1], model)


class PreNorm(nn.Module):
    """Residuals around a norm, an activation and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.out = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.convs = nn.ModuleList([GCNConv(HIDDEN, HIDDEN), SAGEConv(HIDDEN, HIDDEN)])
        self.norms = nn.ModuleList([nn.LayerNorm(HIDDEN), nn.BatchNorm1d(HIDDEN)])

    def step(self, index: int, rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        return rows + self.convs[index](self.norms[index](rows).relu(), edges)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        rows = self.enc(x)
        for index in range(2):
            rows = self.step(index, rows, x, edges)
        return self.out(rows)


def _pre_norm_steps(model: PreNorm) -> Steps:
    layers: list[Callable[..., Tensor]] = [partial(model.step, index) for index in range(2)]
    return Steps(_graph, model.enc, layers, lambda levels: model.out(levels[-1]), model)


class FarSkip(nn.Module):
    """A level is added two levels above it; what lies between carries it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = GCNConv(FEATURES, HIDDEN), SAGEConv(HIDDEN, 6)
        self.three, self.four = GATConv(6, HIDDEN), GCNConv(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        first = self.one(x, edges).relu()
        third = self.three(self.two(first, edges).relu(), edges)
        return self.four(third + first, edges)


def _far_skip_steps(model: FarSkip) -> Steps:
    def second(rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        return torch.cat([rows, model.two(rows, edges).relu()], dim=1)

    def third(rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        return model.three(rows[:, HIDDEN:], edges) + rows[:, :HIDDEN]

    layers = [
        lambda rows, _, edges: model.one(rows, edges).relu(),
        second,
        third,
        lambda rows, _, edges: model.four(rows, edges),
    ]
    return Steps(_graph, _same, layers, lambda levels: levels[-1], model)
