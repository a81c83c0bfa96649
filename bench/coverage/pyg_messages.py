"""Models of PyTorch Geometric whose message passing is written by hand, as tutorials have it."""

from __future__ import annotations

from typing import Any

import torch
import torch_geometric.nn as g
from torch import Tensor, nn
from torch.nn import functional as f
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import (
    add_remaining_self_loops,
    add_self_loops,
    degree,
    remove_self_loops,
    scatter,
    softmax,
)

from measure import CLASSES, FEATURES, Model
from pyg_nets import HIDDEN, Net


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))


class Two(nn.Module):
    """Two layers of a kind with an activation between them."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.one = kind(FEATURES, HIDDEN, **options)
        self.two = kind(HIDDEN, CLASSES, **options)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        x = f.dropout(self.one(x, edge_index).relu(), p=0.5, training=self.training)
        return self.two(x, edge_index)


class TutorialGcn(g.MessagePassing):
    """Self-loops added, a map, norms of degrees, a sum."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="add")
        self.lin = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        edge_index, _ = add_self_loops(edge_index, num_nodes=x.size(0))
        x = self.lin(x)
        row, col = edge_index
        roots = degree(col, x.size(0), dtype=x.dtype).pow(-0.5)
        roots[roots == float("inf")] = 0
        return self.propagate(edge_index, x=x, norm=roots[row] * roots[col]) + self.bias

    def message(self, x_j: Tensor, norm: Tensor) -> Tensor:
        return norm.view(-1, 1) * x_j


class NormGcn(g.MessagePassing):
    """The same by the library's own `gcn_norm`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="add")
        self.lin = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        edge_index, weight = gcn_norm(edge_index, None, x.size(0), dtype=x.dtype)
        return self.propagate(edge_index, x=self.lin(x), weight=weight)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight.unsqueeze(-1) * x_j


class Edge(g.MessagePassing):
    """A network of both ends, and its largest values."""

    def __init__(self, inputs: int, outputs: int, aggr: str = "max") -> None:
        super().__init__(aggr=aggr)
        self.mlp = mlp(2 * inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.propagate(edge_index, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.mlp(torch.cat([x_i, x_j - x_i], dim=1))


class Sage(g.MessagePassing):
    """The mean of sources beside a map of the node's own."""

    def __init__(self, inputs: int, outputs: int, aggr: str = "mean") -> None:
        super().__init__(aggr=aggr)
        self.near, self.own = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        out = self.propagate(edge_index, x=(x, x), size=(x.size(0), x.size(0)))
        return f.normalize(self.near(out) + self.own(x), p=2.0, dim=-1)


class SagePool(g.MessagePassing):
    """Mapped sources and the node itself, joined in `update`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="max")
        self.lin = nn.Linear(inputs, outputs)
        self.join = nn.Linear(inputs + outputs, outputs, bias=False)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        edge_index, _ = remove_self_loops(edge_index)
        edge_index, _ = add_self_loops(edge_index, num_nodes=x.size(0))
        return self.propagate(edge_index, x=x)

    def message(self, x_j: Tensor) -> Tensor:
        return self.lin(x_j).relu()

    def update(self, aggr_out: Tensor, x: Tensor) -> Tensor:
        return self.join(torch.cat([aggr_out, x], dim=1)).relu()


class Gat(g.MessagePassing):
    """Attention of two heads, by a sum of both ends' scores or of a score of their sum."""

    def __init__(self, inputs: int, outputs: int, joint: bool = False, mean: bool = False) -> None:
        super().__init__(node_dim=0, aggr="add")
        self.joint, self.mean, self.heads = joint, mean, 2
        self.width = outputs if mean else -(-outputs // 2)
        self.lin = nn.Linear(inputs, self.heads * self.width, bias=False)
        self.att_l = nn.Parameter(torch.randn(1, self.heads, self.width))
        self.att_r = nn.Parameter(torch.randn(1, self.heads, self.width))
        self.out = nn.Linear(self.width * (1 if mean else self.heads), outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        edge_index, _ = add_remaining_self_loops(edge_index, num_nodes=x.size(0))
        x = self.lin(x).view(-1, self.heads, self.width)
        scores = (x * self.att_l).sum(-1), (x * self.att_r).sum(dim=-1)
        out = self.propagate(edge_index, x=x, alpha=scores)
        out = out.mean(dim=1) if self.mean else out.view(-1, self.heads * self.width)
        return self.out(out)

    def message(
        self,
        x_i: Tensor,
        x_j: Tensor,
        alpha_i: Tensor,
        alpha_j: Tensor,
        index: Tensor,
        ptr: Tensor | None,
        size_i: int | None,
    ) -> Tensor:
        if self.joint:
            alpha = (f.leaky_relu(x_i + x_j, 0.2) * self.att_l).sum(dim=-1)
        else:
            alpha = f.leaky_relu(alpha_j + alpha_i, 0.2)
        alpha = softmax(alpha, index, ptr, size_i)
        return x_j * f.dropout(alpha, p=0.5, training=self.training).unsqueeze(-1)


class GatOfBoth(g.MessagePassing):
    """One head whose score is a map of both ends side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="add")
        self.lin, self.att = nn.Linear(inputs, outputs), nn.Linear(2 * outputs, 1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.propagate(edge_index, x=self.lin(x))

    def message(self, x_i: Tensor, x_j: Tensor, index: Tensor) -> Tensor:
        scores = f.leaky_relu(self.att(torch.cat([x_i, x_j], dim=-1)))
        return softmax(scores, index) * x_j


class Gin(g.MessagePassing):
    """A sum of activated sources, and a network of it and the node."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="add")
        self.mlp, self.eps = mlp(inputs, outputs), nn.Parameter(torch.tensor([0.3]))

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.mlp((1 + self.eps) * x + self.propagate(edge_index, x=x))

    def message(self, x_j: Tensor) -> Tensor:
        return x_j.relu()


class Gated(g.MessagePassing):
    """A gate of both ends times what the source sends."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="mean")
        self.gate, self.value = nn.Linear(2 * inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.propagate(edge_index, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(torch.cat((x_i, x_j), -1))) * self.value(x_j)


class Several(g.MessagePassing):
    """Four reductions of the library's side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr=["mean", "max", "min", "std"])
        self.lin = nn.Linear(4 * inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.lin(self.propagate(edge_index, x=x))


class Aggregated(g.MessagePassing):
    """An `aggregate` of one's own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin = nn.Linear(2 * inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.lin(self.propagate(edge_index, x=x))

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int | None) -> Tensor:
        total = scatter(inputs, index, 0, dim_size, reduce="sum")
        return torch.cat([total, scatter(inputs, index, 0, dim_size, reduce="min")], dim=1)


class Indexed(nn.Module):
    """No layer at all: rows by index, sums by index, and a number of sources."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        source, target = edge_index
        total = torch.zeros_like(x).index_add_(0, target, x[source])
        count = torch.zeros(x.size(0)).index_add_(0, target, torch.ones(target.size(0)))
        return self.lin(total / count.clamp(min=1).unsqueeze(-1))


class IndexedSoftmax(nn.Module):
    """A softmax by exponentials and their sums."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin, self.one, self.two = (
            nn.Linear(*w) for w in ((inputs, outputs), *[(outputs, 1)] * 2)
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        source, target = edge_index
        h = self.lin(x)
        raised = f.leaky_relu(self.one(h)[source] + self.two(h)[target]).exp()
        total = torch.zeros(x.size(0), 1).index_add_(0, target, raised)
        shares = raised / (total[target] + 1e-16)
        return torch.zeros_like(h).index_add_(0, target, shares * h[source])


class Roots(nn.Module):
    """Rows scaled by roots of degrees before and after a sum."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        source, target = edge_index
        roots = degree(target, x.size(0)).clamp(min=1).pow(-0.5).unsqueeze(1)
        h = self.lin(x) * roots
        return torch.zeros_like(h).index_add_(0, target, h[source]) * roots


class Reversed(g.MessagePassing):
    """Messages along the edges' other direction."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(flow="target_to_source")
        self.lin = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.lin(self.propagate(edge_index, x=x))


class Positions(g.MessagePassing):
    """Positions of both ends, as of a point cloud."""

    def __init__(self) -> None:
        super().__init__(aggr="max")
        self.mlp = mlp(FEATURES + 3, CLASSES)

    def forward(self, x: Tensor, pos: Tensor, edge_index: Tensor) -> Any:
        return self.propagate(edge_index, x=x, pos=pos)

    def message(self, x_j: Tensor, pos_i: Tensor, pos_j: Tensor) -> Tensor:
        return self.mlp(torch.cat([x_j, pos_j - pos_i], dim=-1))


class OfEdges(g.MessagePassing):
    """Features of edges in the message."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="add")
        self.lin = nn.Linear(inputs + 3, outputs)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Any:
        return self.propagate(edge_index, x=x, edge_attr=edge_attr)

    def message(self, x_j: Tensor, edge_attr: Tensor) -> Tensor:
        return self.lin(torch.cat([x_j, edge_attr], dim=-1))


class OutDegrees(nn.Module):
    """Rows scaled by the number of edges out of a node."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = g.SAGEConv(FEATURES, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.conv(x, edge_index) * degree(edge_index[0], x.size(0)).view(-1, 1)


def _frequency(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    initial = x = net.enc(x).relu()
    return net.out(net.two(net.one(x, initial, edges), initial, edges))


_PNA = {
    "aggregators": ["mean", "min", "max", "std"],
    "scalers": ["identity", "amplification", "attenuation"],
    "deg": torch.tensor([0, 4, 5, 3, 2, 1]),
}

MESSAGES = [
    *(
        Model(f"by hand {name}", lambda kind=kind, options=options: Two(kind, **options))
        for name, kind, options in [
            ("gcn", TutorialGcn, {}),
            ("gcn_norm", NormGcn, {}),
            ("edge max", Edge, {}),
            ("edge sum", Edge, {"aggr": "add"}),
            ("edge mean", Edge, {"aggr": "mean"}),
            ("sage", Sage, {}),
            ("sage max", Sage, {"aggr": "max"}),
            ("sage pool", SagePool, {}),
            ("gat", Gat, {}),
            ("gat mean", Gat, {"mean": True}),
            ("gatv2", Gat, {"joint": True}),
            ("gat of both", GatOfBoth, {}),
            ("gin", Gin, {}),
            ("gated", Gated, {}),
            ("several", Several, {}),
            ("aggregate", Aggregated, {}),
            ("index", Indexed, {}),
            ("index softmax", IndexedSoftmax, {}),
            ("roots", Roots, {}),
            ("EdgeConv", lambda i, o: g.EdgeConv(mlp(2 * i, o)), {}),
            ("FeaStConv", g.FeaStConv, {"heads": 2}),
            ("GeneralConv", g.GeneralConv, {}),
            ("PNAConv", g.PNAConv, _PNA),
        ]
    ),
    Model(
        "by hand PNAConv towers",
        lambda: Net(
            lambda n, x, e: n.out(n.c(n.lin(x), e)),
            lin=nn.Linear(FEATURES, HIDDEN),
            c=g.PNAConv(HIDDEN, HIDDEN, towers=2, **_PNA),
            out=nn.Linear(HIDDEN, CLASSES),
        ),
    ),
    Model(
        "by hand EGConv",
        lambda: Net(
            lambda n, x, e: n.out(n.c(x, e)),
            c=g.EGConv(FEATURES, HIDDEN, num_heads=2, num_bases=2),
            out=nn.Linear(HIDDEN, CLASSES),
        ),
    ),
    Model(
        "by hand EGConv several",
        lambda: Net(
            lambda n, x, e: n.out(n.c(x, e)),
            c=g.EGConv(FEATURES, HIDDEN, ["sum", "max", "symnorm"], num_heads=2, num_bases=2),
            out=nn.Linear(HIDDEN, CLASSES),
        ),
    ),
    Model(
        "by hand FAConv",
        lambda: Net(
            _frequency,
            enc=nn.Linear(FEATURES, HIDDEN),
            one=g.FAConv(HIDDEN, 0.1),
            two=g.FAConv(HIDDEN, 0.1),
            out=nn.Linear(HIDDEN, CLASSES),
        ),
    ),
    Model("by hand reversed", lambda: Two(Reversed), "Reverse the edges", local=False),
    Model("by hand positions", Positions, "takes `pos`", local=False),
    Model(
        "by hand edge_attr",
        lambda: OfEdges(FEATURES, CLASSES),
        "edge_attr",
        local=False,
    ),
    Model("by hand out-degrees", OutDegrees, "number of edges out of a node", local=False),
]
