"""Cases of PyTorch Geometric."""

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
    APPNP,
    GAT,
    GCN,
    GIN,
    BatchNorm,
    GATConv,
    GCN2Conv,
    GCNConv,
    GraphConv,
    GraphSAGE,
    SAGEConv,
)
from torch_geometric.nn.models.basic_gnn import BasicGNN

from graphs import CLASSES, FEATURES, StoredGraph
from models import Case
from plans import Steps
from satisfice import export_pyg

HIDDEN = 8


def cases() -> list[Case]:
    """All cases, each of which runs on a directed and on an undirected graph."""
    return [
        _basic("gcn_2_layers", GCN),
        _basic("gcn_3_layers", GCN, layers=3),
        _basic("gcn_1_layer", GCN, layers=1),
        _basic("gcn_improved", GCN, improved=True),
        _basic("gcn_without_self_loops", GCN, add_self_loops=False),
        _basic("gcn_without_bias", GCN, bias=False),
        _basic("sage_mean", GraphSAGE),
        _basic("sage_mean_3_layers", GraphSAGE, layers=3),
        _basic("sage_max", GraphSAGE, aggr="max"),
        _basic("sage_sum", GraphSAGE, aggr="sum"),
        _basic("sage_project_normalize", GraphSAGE, project=True, normalize=True),
        _basic("sage_without_root_weight", GraphSAGE, root_weight=False),
        _basic("gat", GAT, heads=4),
        _basic("gat_3_layers", GAT, layers=3, heads=4),
        _basic("gat_residual", GAT, heads=4, residual=True),
        _basic("gat_without_self_loops", GAT, heads=2, add_self_loops=False),
        _basic("gatv2", GAT, heads=4, v2=True),
        _basic("gatv2_shared_weights", GAT, heads=4, v2=True, share_weights=True),
        _basic("gin_batch_norm", GIN, norm="batch_norm", train_eps=True),
        _basic("gin_plain", GIN),
        _basic("batch_norm", GCN, layers=3, norm="batch_norm"),
        _basic("layer_norm", GraphSAGE, layers=3, norm="layer_norm", norm_kwargs={"mode": "node"}),
        _basic("activation_first", GraphSAGE, layers=3, norm="batch_norm", act_first=True),
        _basic("elu", GAT, heads=2, act="elu"),
        _basic("leaky_relu", GCN, act="leaky_relu", act_kwargs={"negative_slope": 0.1}),
        _basic("gelu", GraphSAGE, act="gelu"),
        _basic("silu", GCN, act="silu"),
        _basic("jumping_cat", GraphSAGE, layers=3, jk="cat"),
        _basic("jumping_max", GCN, layers=3, jk="max"),
        _basic("jumping_lstm", GraphSAGE, layers=3, jk="lstm"),
        _basic("jumping_last", GCN, layers=3, jk="last", norm="batch_norm"),
        _basic("embeddings", GraphSAGE, layers=2, out=None),
        _gcnii("gcn2_shared_weights", shared_weights=True),
        _gcnii("gcn2_own_weights", shared_weights=False),
        Case("pyg_residual_stack", ResidualStack, _residual_steps, _export_residual),
        Case("pyg_gcn_given_weights", GivenWeights, _stack_steps, _export_given_weights),
        Case("pyg_skips_joined", Skips, _skips_steps, _export),
        Case("pyg_appnp", Steady, _steady_steps, _export),
    ]


def _basic(
    name: str, kind: type[BasicGNN], layers: int = 2, out: int | None = CLASSES, **options: Any
) -> Case:
    make = partial(kind, FEATURES, HIDDEN, layers, out_channels=out, dropout=0.3, **options)
    output = "logits" if out else "embeddings"
    return Case(f"pyg_{name}", make, _basic_steps, partial(_export, output=output))


def _gcnii(name: str, shared_weights: bool) -> Case:
    return Case(f"pyg_{name}", partial(Gcnii, shared_weights), _gcnii_steps, _export)


def _data(graph: StoredGraph) -> Data:
    return Data(
        x=torch.from_numpy(graph.x),
        edge_index=torch.from_numpy(graph.edges),
        y=torch.from_numpy(graph.y),
    )


def _export(model: nn.Module, graph: StoredGraph, path: Path, **options: Any) -> None:
    export_pyg(model, _data(graph), path, **options)


def _graph(edges: np.ndarray, nodes: int) -> Tensor:
    return torch.from_numpy(edges)


def _same(rows: Tensor) -> Tensor:
    return rows


def _last(levels: list[Tensor]) -> Tensor:
    return levels[-1]


def _basic_steps(model: Any) -> Steps:
    def layer(index: int, rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        rows = model.convs[index](rows, edges)
        if index == model.num_layers - 1 and model.jk_mode is None:
            return rows
        norm = model.norms[index]
        return norm(model.act(rows)) if model.act_first else model.act(norm(rows))

    def finish(levels: list[Tensor]) -> Tensor:
        rows = model.jk(levels) if hasattr(model, "jk") else levels[-1]
        return model.lin(rows) if hasattr(model, "lin") else rows

    layers = [partial(layer, index) for index in range(model.num_layers)]
    return Steps(_graph, _same, layers, finish, model)


class Gcnii(nn.Module):
    """GCNII with four layers."""

    def __init__(self, shared_weights: bool) -> None:
        super().__init__()
        self.lins = nn.ModuleList([nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)])
        self.convs = nn.ModuleList(
            GCN2Conv(HIDDEN, alpha=0.1, theta=0.5, layer=i + 1, shared_weights=shared_weights)
            for i in range(4)
        )

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        rows = initial = self.lins[0](x).relu()
        for conv in self.convs:
            rows = conv(rows, initial, edges).relu()
        return self.lins[1](rows)


def _gcnii_steps(model: Any) -> Steps:
    def step(conv: nn.Module, rows: Tensor, initial: Tensor, edges: Tensor) -> Tensor:
        return conv(rows, initial, edges).relu()

    return Steps(
        _graph,
        lambda x: model.lins[0](x).relu(),
        [partial(step, conv) for conv in model.convs],
        lambda levels: model.lins[1](levels[-1]),
        model,
    )


class ResidualStack(nn.Module):
    """A hand-written model: linear, three layers with residuals and norms, linear, tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, HIDDEN)
        self.convs = nn.ModuleList(SAGEConv(HIDDEN, HIDDEN) for _ in range(3))
        self.norms = nn.ModuleList(
            [nn.LayerNorm(HIDDEN), BatchNorm(HIDDEN), nn.BatchNorm1d(HIDDEN)]
        )
        self.decoder = nn.Sequential(
            nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)
        )

    def step(self, index: int, rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        return torch.relu(self.norms[index](self.convs[index](rows, edges))) + rows

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        rows = torch.sigmoid(self.encoder(x))
        for index in range(3):
            rows = self.step(index, rows, rows, edges)
        return self.decoder(rows)


def _residual_steps(model: ResidualStack) -> Steps:
    return Steps(
        _graph,
        lambda x: torch.sigmoid(model.encoder(x)),
        [partial(model.step, index) for index in range(3)],
        lambda levels: model.decoder(levels[-1]),
        model,
    )


def _export_residual(model: ResidualStack, graph: StoredGraph, path: Path) -> None:
    layers = [
        (f"convs.{i}", conv, [norm, torch.relu, "residual"])
        for i, (conv, norm) in enumerate(zip(model.convs, model.norms))
    ]
    _export(
        model,
        graph,
        path,
        layers=layers,
        input=[model.encoder, torch.sigmoid],
        head=[model.decoder],
    )


class GivenWeights(nn.Module):
    """GCN whose caller normalises the edges; symmetric weights with self-loops here."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(FEATURES, HIDDEN), (HIDDEN, CLASSES)]
        self.convs = nn.ModuleList(GCNConv(i, o, normalize=False) for i, o in widths)

    def step(self, index: int, rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        rows = self.convs[index](rows, *_symmetric(edges, len(rows)))
        return rows.relu() if index == 0 else rows

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.step(1, self.step(0, x, x, edges), x, edges)


def _symmetric(edges: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Edges with one self-loop a node, and their weights 1 / sqrt(D_s D_t)."""
    loop = torch.arange(nodes)
    edges = torch.cat([edges[:, edges[0] != edges[1]], torch.stack([loop, loop])], dim=1)
    scale = torch.bincount(edges[1], minlength=nodes).float().rsqrt()
    return edges, scale[edges[0]] * scale[edges[1]]


def _stack_steps(model: Any) -> Steps:
    layers: list[Callable[..., Tensor]] = [partial(model.step, index) for index in range(2)]
    return Steps(_graph, _same, layers, _last, model)


def _export_given_weights(model: nn.Module, graph: StoredGraph, path: Path) -> None:
    _export(model, graph, path, activation="relu", gcn_norm="symmetric")


class Skips(nn.Module):
    """Linear skips, a slope a channel, and layers of unequal widths joined; read without hints."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = GATConv(FEATURES, HIDDEN // 2, heads=2)
        self.skip = nn.Linear(FEATURES, HIDDEN)
        self.act = nn.PReLU(HIDDEN)
        self.sum = GraphConv(HIDDEN, HIDDEN - 2)
        self.out = nn.Linear(2 * HIDDEN - 2, CLASSES)

    def step(self, index: int, rows: Tensor, _: Tensor, edges: Tensor) -> Tensor:
        if index == 0:
            return self.act(self.attention(rows, edges) + self.skip(rows))
        return self.sum(rows, edges).relu()

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        first = self.step(0, x, x, edges)
        return self.out(torch.cat([first, self.step(1, first, x, edges)], dim=1))


def _skips_steps(model: Skips) -> Steps:
    layers = [partial(model.step, index) for index in range(2)]
    return Steps(_graph, _same, layers, lambda rows: model.out(torch.cat(rows, dim=1)), model)


class Steady(nn.Module):
    """APPNP: a perceptron, then steps of personalised PageRank; read without hints."""

    def __init__(self) -> None:
        super().__init__()
        self.lins = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
        )
        self.steps, self.one = APPNP(K=3, alpha=0.2), APPNP(K=1, alpha=0.0)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.steps(self.lins(x), edges)


def _steady_steps(model: Steady) -> Steps:
    def step(rows: Tensor, initial: Tensor, edges: Tensor) -> Tensor:
        return 0.8 * model.one(rows, edges) + 0.2 * initial

    return Steps(_graph, model.lins, [step] * 3, _last, model)
