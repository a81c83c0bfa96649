"""Cases of DGL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dgl
import numpy as np
import torch
from dgl import function as fn
from dgl.nn import (
    AGNNConv,
    APPNPConv,
    ChebConv,
    DotGatConv,
    GATConv,
    GATv2Conv,
    GCN2Conv,
    GINConv,
    GraphConv,
    SAGEConv,
    SGConv,
)
from torch import Tensor, nn
from torch.nn import functional

from graphs import CLASSES, FEATURES, StoredGraph
from models import Case
from plans import Steps
from satisfice import export_dgl

HIDDEN = 8
HEADS = 4

Widths = tuple[int, int]


def cases() -> list[Case]:
    """All cases, each of which runs on a directed and on an undirected graph."""
    graph_conv = partial(GraphConv, allow_zero_in_degree=True)
    sage_normed = [
        SAGEConv(FEATURES, HIDDEN, "mean", activation=functional.relu, norm=nn.LayerNorm(HIDDEN)),
        SAGEConv(HIDDEN, CLASSES, "mean"),
    ]
    return [
        *(
            _stack(f"graph_conv_{norm}", partial(graph_conv, norm=norm))
            for norm in ("both", "right", "left", "none")
        ),
        _stack("graph_conv_both_3_layers", graph_conv, layers=3),
        _stack("graph_conv_self_loops", graph_conv, self_loops=True),
        _stack("graph_conv_own_activation", partial(graph_conv, norm="right"), own_activation=True),
        *(
            _stack(f"sage_{kind}", partial(SAGEConv, aggregator_type=kind))
            for kind in ("mean", "pool", "gcn")
        ),
        _stack("sage_gcn_self_loops", partial(SAGEConv, aggregator_type="gcn"), self_loops=True),
        Case("dgl_sage_own_norm", lambda: Stack(sage_normed, None), _steps, _export),
        _attention("gat", GATConv),
        _attention("gat_residual", GATConv, residual=True),
        _attention("gat_without_bias", GATConv, bias=False, residual=True),
        _attention("gat_self_loops", GATConv, self_loops=True),
        _attention("gatv2", GATv2Conv),
        _attention("gatv2_residual", GATv2Conv, residual=True),
        _attention("gatv2_shared_weights", GATv2Conv, share_weights=True),
        *(_gin(kind) for kind in ("sum", "mean", "max")),
        Case("dgl_gcn2_shared_weights", partial(Gcnii, True), _gcnii_steps, _export_gcnii),
        Case("dgl_gcn2_own_weights", partial(Gcnii, False), _gcnii_steps, _export_gcnii),
        Case("dgl_appnp", Steady, _steady_steps, _export_recorded),
        Case("dgl_sgc", Hops, _hops_steps, _export_recorded),
        Case("dgl_dot_gated", DotGated, _dot_steps, _export_recorded),
        Case("dgl_agnn_cheb", CosineCheb, _cosine_steps, _export_recorded),
    ]


class Stack(nn.Module):
    """Layers with an activation between them; hidden heads are concatenated, the last averaged."""

    def __init__(
        self, convs: list[nn.Module], activation: Callable[[Tensor], Tensor] | None
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.activation = activation

    def step(self, index: int, rows: Tensor, _: Tensor, graph: Any) -> Tensor:
        is_last = index == len(self.convs) - 1
        rows = self.convs[index](graph, rows)
        if rows.dim() == 3:
            rows = rows.mean(1) if is_last else rows.flatten(1)
        return rows if is_last or self.activation is None else self.activation(rows)

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        for index in range(len(self.convs)):
            x = self.step(index, x, x, graph)
        return x


def _widths(layers: int) -> list[Widths]:
    ends = [FEATURES, *[HIDDEN] * (layers - 1), CLASSES]
    return list(zip(ends, ends[1:]))


def _stack(
    name: str,
    conv: Callable[..., nn.Module],
    layers: int = 2,
    own_activation: bool = False,
    self_loops: bool = False,
) -> Case:
    def make() -> Stack:
        options = {"activation": functional.relu} if own_activation else {}
        *hidden, last = _widths(layers)
        convs = [conv(*widths, **options) for widths in hidden]
        return Stack([*convs, conv(*last)], None if own_activation else torch.relu)

    return Case(f"dgl_{name}", make, _steps, _export, self_loops)


def _attention(name: str, conv: type[nn.Module], self_loops: bool = False, **options: Any) -> Case:
    def make() -> Stack:
        make_conv = partial(conv, num_heads=HEADS, allow_zero_in_degree=True, **options)
        width = HIDDEN // HEADS
        convs = [make_conv(FEATURES, width), make_conv(HIDDEN, width), make_conv(HIDDEN, CLASSES)]
        return Stack(convs, functional.elu)

    return Case(f"dgl_{name}", make, _steps, _export, self_loops)


def _gin(aggregator: str) -> Case:
    def make() -> Stack:
        mlps = [
            nn.Sequential(
                nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out)
            )
            for inputs, out in _widths(2)
        ]
        return Stack([GINConv(mlp, aggregator, learn_eps=True) for mlp in mlps], torch.relu)

    return Case(f"dgl_gin_{aggregator}", make, _steps, _export)


def _graph(edges: np.ndarray, nodes: int) -> Any:
    source, target = torch.from_numpy(edges)
    return dgl.graph((source, target), num_nodes=nodes)


def _dgl_graph(graph: StoredGraph) -> Any:
    made = _graph(graph.edges, len(graph.x))
    made.ndata["feat"] = torch.from_numpy(graph.x)
    made.ndata["label"] = torch.from_numpy(graph.y)
    return made


def _steps(model: Stack) -> Steps:
    layers: list[Callable[..., Tensor]] = [partial(model.step, i) for i in range(len(model.convs))]
    return Steps(_graph, lambda x: x, layers, lambda levels: levels[-1], model)


def _export(model: Stack, graph: StoredGraph, path: Path) -> None:
    export_dgl(model, _dgl_graph(graph), path, activation=model.activation)


class Gcnii(nn.Module):
    """GCNII with four layers."""

    def __init__(self, shared_weights: bool) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, HIDDEN)
        self.convs = nn.ModuleList(
            GCN2Conv(
                HIDDEN,
                layer=i + 1,
                alpha=0.1,
                lambda_=0.5,
                activation=functional.relu,
                project_initial_features=shared_weights,
                allow_zero_in_degree=True,
            )
            for i in range(4)
        )
        self.decoder = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        rows = initial = self.encoder(x).relu()
        for conv in self.convs:
            rows = conv(graph, rows, initial)
        return self.decoder(rows)


def _gcnii_steps(model: Gcnii) -> Steps:
    def step(conv: nn.Module, rows: Tensor, initial: Tensor, graph: Any) -> Tensor:
        return conv(graph, rows, initial)

    return Steps(
        _graph,
        lambda x: model.encoder(x).relu(),
        [partial(step, conv) for conv in model.convs],
        lambda levels: model.decoder(levels[-1]),
        model,
    )


def _export_gcnii(model: Gcnii, graph: StoredGraph, path: Path) -> None:
    export_dgl(model, _dgl_graph(graph), path, input=[model.encoder, "relu"], head=[model.decoder])


class Steady(nn.Module):
    """APPNP: a perceptron, then steps of personalised PageRank; read without hints."""

    def __init__(self) -> None:
        super().__init__()
        self.lins = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
        )
        self.steps, self.one = APPNPConv(3, 0.2), APPNPConv(1, 0.0)

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        return self.steps(graph, self.lins(x))


def _steady_steps(model: Steady) -> Steps:
    def step(rows: Tensor, initial: Tensor, graph: Any) -> Tensor:
        return 0.8 * model.one(graph, rows) + 0.2 * initial

    return Steps(_graph, model.lins, [step] * 3, lambda levels: levels[-1], model)


class Hops(nn.Module):
    """SGC: hops without weights, then one linear map; read without hints."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SGConv(FEATURES, CLASSES, k=2, allow_zero_in_degree=True)

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        return self.conv(graph, x)


def _hop(rows: Tensor, _: Tensor, graph: Any) -> Tensor:
    scale = graph.in_degrees().clamp(min=1).float().rsqrt()[:, None]
    with graph.local_scope():
        graph.ndata["h"] = rows * scale
        graph.update_all(fn.copy_u("h", "m"), fn.sum("m", "h"))
        return graph.ndata["h"] * scale


def _hops_steps(model: Hops) -> Steps:
    return Steps(_graph, lambda x: x, [_hop, _hop], lambda levels: model.conv.fc(levels[-1]), model)


def _export_recorded(model: nn.Module, graph: StoredGraph, path: Path) -> None:
    export_dgl(model, _dgl_graph(graph), path)


class DotGated(nn.Module):
    """Attention by products, whose rows are gated by the features; read without hints."""

    def __init__(self) -> None:
        super().__init__()
        self.one = DotGatConv(FEATURES, HIDDEN // 2, 2, allow_zero_in_degree=True)
        self.two = DotGatConv(HIDDEN, CLASSES, 2, allow_zero_in_degree=True)
        self.gate, self.skip = nn.Linear(FEATURES, HIDDEN), nn.Linear(FEATURES, HIDDEN)

    def first(self, x: Tensor, _: Tensor, graph: Any) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.one(graph, x).flatten(1) + (1 - gate) * self.skip(x)

    def second(self, rows: Tensor, _: Tensor, graph: Any) -> Tensor:
        return self.two(graph, rows).mean(1)

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        return self.second(self.first(x, x, graph), x, graph)


def _dot_steps(model: DotGated) -> Steps:
    layers: list[Callable[..., Tensor]] = [model.first, model.second]
    return Steps(_graph, lambda x: x, layers, lambda levels: levels[-1], model)


class CosineCheb(nn.Module):
    """Attention by cosines, then polynomials of the Laplacian; read without hints."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Linear(FEATURES, HIDDEN)
        self.one = AGNNConv(1.5, True, True)
        self.two = ChebConv(HIDDEN, CLASSES, 2, activation=None)

    def forward(self, x: Tensor, graph: Any) -> Tensor:
        return self.two(graph, self.one(graph, self.enc(x).relu()))


def _cosine_steps(model: CosineCheb) -> Steps:
    layers = [
        lambda rows, _, graph: model.one(graph, rows),
        lambda rows, _, graph: model.two(graph, rows),
    ]
    return Steps(_graph, lambda x: model.enc(x).relu(), layers, lambda levels: levels[-1], model)
