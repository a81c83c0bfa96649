"""Models of DGL whose levels are joined, and layers that are seen less often."""

from __future__ import annotations

from typing import Any

import dgl.nn as d
import torch
from torch import Tensor, nn

import joins
from dgl_nets import H, Net, conv
from measure import CLASSES, FEATURES, Model


class Layer(nn.Module):
    """A layer that reads rows first, whose heads are side by side."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, g: Any) -> Tensor:
        made = self.inner(g, x)
        return made.flatten(1) if made.dim() == 3 else made


def net(how: Any, **parts: Any) -> Net:
    """A model that joins its levels so."""
    return Net(lambda n, g, x: how(n, x, g), **parts)


def gcn(inputs: int, outputs: int, **options: Any) -> nn.Module:
    return Layer(conv(inputs, outputs, **options))


def sage(inputs: int, outputs: int, kind: str = "mean") -> nn.Module:
    return Layer(d.SAGEConv(inputs, outputs, kind))


def gat(inputs: int, outputs: int, heads: int) -> nn.Module:
    return Layer(d.GATConv(inputs, outputs, heads, allow_zero_in_degree=True))


def dot(inputs: int, outputs: int, heads: int) -> nn.Module:
    return Layer(d.DotGatConv(inputs, outputs, heads, allow_zero_in_degree=True))


def mean(width: int) -> nn.Module:
    return Layer(
        d.GraphConv(width, width, norm="right", weight=False, bias=False, allow_zero_in_degree=True)
    )


def linears(*widths: int) -> list[nn.Module]:
    return [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]


JOINED = [
    Model(
        "gate of channels",
        lambda: net(
            joins.gated,
            gate=nn.Linear(FEATURES, H),
            conv=gcn(FEATURES, H),
            lin=nn.Linear(FEATURES, H),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "gate of rows",
        lambda: net(
            joins.scalar_gate,
            enc=nn.Linear(FEATURES, H),
            convs=[sage(H, H), gat(H, 4, 3)],
            gates=[nn.Linear(2 * H, 1), nn.Linear(2 * H, 1)],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    *(
        Model(
            f"pre-norm {name}",
            lambda make=make: net(
                joins.pre_norm,
                enc=nn.Linear(FEATURES, H),
                convs=[make() for _ in range(3)],
                norms=[nn.LayerNorm(H), nn.BatchNorm1d(H), nn.LayerNorm(H)],
                out=nn.Linear(H, CLASSES),
            ),
        )
        for name, make in {
            "gcn": lambda: gcn(H, H),
            "sage": lambda: sage(H, H, "pool"),
            "gat": lambda: gat(H, 4, 3),
            "dot": lambda: dot(H, 4, 3),
        }.items()
    ),
    *(
        Model(
            f"dense net {name}",
            lambda kind=kind: net(
                joins.dense_net,
                convs=[kind(FEATURES, 8), kind(FEATURES + 8, 6), kind(FEATURES + 14, 4)],
                out=nn.Linear(FEATURES + 18, CLASSES),
            ),
        )
        for name, kind in {"gcn": gcn, "sage": sage}.items()
    ),
    Model(
        "far skip",
        lambda: net(
            joins.far_skip,
            a=gcn(FEATURES, H),
            b=sage(H, 7),
            c=gcn(7, H),
            d=gcn(H, CLASSES),
            skip=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "branches of unequal widths",
        lambda: net(
            joins.branches,
            a=gcn(FEATURES, H),
            b=gat(FEATURES, 4, 2),
            out=nn.Linear(H + 8 + FEATURES, CLASSES),
        ),
    ),
    Model(
        "deep branches",
        lambda: net(
            joins.deep_branches,
            a=gcn(FEATURES, H, norm="right"),
            b=sage(FEATURES, 9, "pool"),
            c=gcn(H, CLASSES),
            d=sage(9, CLASSES),
        ),
    ),
    Model(
        "attention over levels",
        lambda: net(
            joins.level_attention,
            lin=nn.Linear(FEATURES, H),
            convs=[gcn(H, H), gcn(H, H)],
            score=nn.Linear(H, 1),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "dagnn",
        lambda: net(
            joins.dagnn,
            lin=nn.Linear(FEATURES, CLASSES),
            step=mean(CLASSES),
            score=nn.Linear(CLASSES, 1),
        ),
    ),
    Model(
        "gprgnn",
        lambda: net(
            joins.gprgnn,
            a=nn.Linear(FEATURES, H),
            b=nn.Linear(H, CLASSES),
            gamma=nn.Parameter(torch.tensor([0.4, 0.3, 0.2, 0.1])),
            step=mean(CLASSES),
        ),
    ),
    Model(
        "sign",
        lambda: net(
            joins.sign,
            step=mean(FEATURES),
            lins=[nn.Linear(FEATURES, H) for _ in range(3)],
            out=nn.Linear(3 * H, CLASSES),
        ),
    ),
    Model(
        "lstm over levels",
        lambda: net(
            joins.lstm_over_levels,
            convs=[gcn(FEATURES, H), gcn(H, H), gcn(H, H)],
            lstm=nn.LSTM(H, 7, batch_first=True),
            out=nn.Linear(7, CLASSES),
        ),
    ),
    Model(
        "geniepath",
        lambda: net(
            joins.geniepath,
            lin1=nn.Linear(FEATURES, H),
            convs=[gat(H, H, 1), gat(H, H, 1)],
            lstms=[nn.LSTM(H, H, 1, bias=False), nn.LSTM(H, H, 1, bias=False)],
            lin2=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "gru update",
        lambda: net(
            joins.gru_update,
            enc=nn.Linear(FEATURES, H),
            conv=sage(H, H),
            gru=nn.GRUCell(H, H),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "gated linear units",
        lambda: net(joins.sliced, a=gcn(FEATURES, 2 * H), b=gcn(H, CLASSES)),
    ),
    Model(
        "squeeze and excite",
        lambda: net(
            joins.squeeze_excite,
            a=gcn(FEATURES, H),
            down=nn.Linear(H, 4),
            up=nn.Linear(4, H),
            b=gcn(H, CLASSES),
        ),
    ),
    Model(
        "features in every layer",
        lambda: net(
            joins.initial_everywhere,
            convs=[sage(2 * FEATURES, H), sage(H + FEATURES, H)],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "u-net",
        lambda: net(
            joins.unet,
            a=gcn(FEATURES, H),
            b=gcn(H, 6),
            c=gcn(6, H),
            d=gcn(2 * H, CLASSES),
        ),
    ),
    Model(
        "maxout of layers",
        lambda: net(joins.maxout, convs=[gcn(FEATURES, CLASSES), sage(FEATURES, CLASSES)]),
    ),
    Model("clamped", lambda: net(joins.relu6, a=gcn(FEATURES, H), b=gcn(H, CLASSES))),
    Model(
        "gcnii after a layer",
        lambda: Net(
            _late_gcnii,
            a=conv(FEATURES, H),
            convs=[
                d.GCN2Conv(H, layer=1, alpha=0.2, lambda_=0.5, allow_zero_in_degree=True),
                d.GCN2Conv(
                    H, layer=2, alpha=0.1, project_initial_features=False, allow_zero_in_degree=True
                ),
            ],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "tag twice",
        lambda: Net(
            lambda n, g, x: n.b(g, n.a(g, x).relu()),
            a=d.TAGConv(FEATURES, H, k=2),
            b=d.TAGConv(H, CLASSES, k=1),
        ),
    ),
    Model(
        "ChebConv",
        lambda: Net(
            lambda n, g, x: n.b(g, n.a(g, x)),
            a=d.ChebConv(FEATURES, H, 3),
            b=d.ChebConv(H, CLASSES, 2, activation=None),
        ),
    ),
    Model(
        "ChebConv of a given eigenvalue",
        lambda: Net(lambda n, g, x: n.a(g, x, [1.7]), a=d.ChebConv(FEATURES, CLASSES, 3)),
    ),
    Model(
        "AGNNConv",
        lambda: Net(
            lambda n, g, x: n.out(n.b(g, n.a(g, n.lin(x).relu()))),
            lin=nn.Linear(FEATURES, H),
            a=d.AGNNConv(0.9, True, True),
            b=d.AGNNConv(1.2, False, True),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "GatedGraphConv",
        lambda: Net(
            lambda n, g, x: n.out(n.c(g, x)),
            c=d.GatedGraphConv(FEATURES, FEATURES + 2, 3, 1),
            out=nn.Linear(FEATURES + 2, CLASSES),
        ),
    ),
    Model(
        "DotGatConv",
        lambda: Net(
            lambda n, g, x: n.b(g, n.a(g, x).flatten(1).relu()).mean(1),
            a=d.DotGatConv(FEATURES, 4, 3, allow_zero_in_degree=True),
            b=d.DotGatConv(12, CLASSES, 2, allow_zero_in_degree=True),
        ),
    ),
    Model(
        "graphstorm of bare parameters",
        lambda: Net(
            _bare,
            weight=nn.Parameter(torch.randn(FEATURES, H)),
            conv=d.SAGEConv(H, H, "mean"),
            out=nn.Parameter(torch.randn(H, CLASSES)),
        ),
    ),
]


def _late_gcnii(n: Any, g: Any, x: Tensor) -> Tensor:
    x = first = n.a(g, x).relu()
    for layer in n.convs:
        x = layer(g, x, first).relu()
    return n.out(x)


def _bare(n: Any, g: Any, x: Tensor) -> Tensor:
    return n.conv(g, (x @ n.weight).relu()) @ n.out
