"""Models of PyTorch Geometric whose levels are joined."""

from __future__ import annotations

import torch
import torch_geometric.nn as g
from torch import nn

from joins import (
    branches,
    dagnn,
    deep_branches,
    dense_net,
    far_skip,
    gated,
    geniepath,
    gprgnn,
    gru_update,
    h2gcn,
    heads_by_hand,
    initial_everywhere,
    late_appnp,
    late_gcnii,
    level_attention,
    lstm_over_levels,
    maxout,
    pre_norm,
    relu6,
    scalar_gate,
    sign,
    sliced,
    squeeze_excite,
    two_towers,
    unet,
)
from measure import CLASSES, FEATURES, Model
from pyg_nets import HIDDEN, Net

H = HIDDEN

JOINED = [
    Model(
        "gate of channels",
        lambda: Net(
            gated,
            gate=nn.Linear(FEATURES, H),
            conv=g.GCNConv(FEATURES, H),
            lin=nn.Linear(FEATURES, H),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "gate of rows",
        lambda: Net(
            scalar_gate,
            enc=nn.Linear(FEATURES, H),
            convs=[g.SAGEConv(H, H), g.GATConv(H, 4, heads=3)],
            gates=[nn.Linear(2 * H, 1), nn.Linear(2 * H, 1)],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    *(
        Model(
            f"pre-norm {name}",
            lambda make=make: Net(
                pre_norm,
                enc=nn.Linear(FEATURES, H),
                convs=[make() for _ in range(3)],
                norms=[nn.LayerNorm(H), nn.BatchNorm1d(H), nn.LayerNorm(H)],
                out=nn.Linear(H, CLASSES),
            ),
        )
        for name, make in {
            "gcn": lambda: g.GCNConv(H, H),
            "sage": lambda: g.SAGEConv(H, H),
            "gat": lambda: g.GATConv(H, 4, heads=3),
            "gen": lambda: g.GENConv(H, H, learn_t=True),
        }.items()
    ),
    *(
        Model(
            f"dense net {name}",
            lambda kind=kind: Net(
                dense_net,
                convs=[kind(FEATURES, 8), kind(FEATURES + 8, 6), kind(FEATURES + 14, 4)],
                out=nn.Linear(FEATURES + 18, CLASSES),
            ),
        )
        for name, kind in {"gcn": g.GCNConv, "sage": g.SAGEConv, "graphconv": g.GraphConv}.items()
    ),
    Model(
        "far skip",
        lambda: Net(
            far_skip,
            a=g.GCNConv(FEATURES, H),
            b=g.SAGEConv(H, 7),
            c=g.GCNConv(7, H),
            d=g.GCNConv(H, CLASSES),
            skip=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "branches of unequal widths",
        lambda: Net(
            branches,
            a=g.GCNConv(FEATURES, H),
            b=g.GATConv(FEATURES, 4, heads=2),
            out=nn.Linear(H + 8 + FEATURES, CLASSES),
        ),
    ),
    Model(
        "deep branches",
        lambda: Net(
            deep_branches,
            a=g.GCNConv(FEATURES, H),
            b=g.SAGEConv(FEATURES, 9, aggr="max"),
            c=g.GCNConv(H, CLASSES),
            d=g.SAGEConv(9, CLASSES),
        ),
    ),
    Model(
        "two towers",
        lambda: Net(
            two_towers,
            a=g.SAGEConv(FEATURES, H),
            b=g.SAGEConv(H, CLASSES),
            mlp=nn.Sequential(nn.Linear(FEATURES, H), nn.ReLU(), nn.Linear(H, CLASSES)),
        ),
    ),
    Model(
        "attention over levels",
        lambda: Net(
            level_attention,
            lin=nn.Linear(FEATURES, H),
            convs=[g.GCNConv(H, H), g.GCNConv(H, H)],
            score=nn.Linear(H, 1),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "dagnn",
        lambda: Net(
            dagnn,
            lin=nn.Linear(FEATURES, CLASSES),
            step=g.SimpleConv("mean"),
            score=nn.Linear(CLASSES, 1),
        ),
    ),
    Model(
        "gprgnn",
        lambda: Net(
            gprgnn,
            a=nn.Linear(FEATURES, H),
            b=nn.Linear(H, CLASSES),
            gamma=nn.Parameter(torch.tensor([0.4, 0.3, 0.2, 0.1])),
            step=g.LGConv(),
        ),
    ),
    Model(
        "sign",
        lambda: Net(
            sign,
            step=g.SimpleConv("mean"),
            lins=[nn.Linear(FEATURES, H) for _ in range(3)],
            out=nn.Linear(3 * H, CLASSES),
        ),
    ),
    Model(
        "h2gcn",
        lambda: Net(
            h2gcn,
            enc=nn.Linear(FEATURES, 4),
            mean=g.SimpleConv("mean"),
            out=nn.Linear(4 + 8 + 16, CLASSES),
        ),
    ),
    Model(
        "geniepath",
        lambda: Net(
            geniepath,
            lin1=nn.Linear(FEATURES, H),
            convs=[g.GATConv(H, H), g.GATConv(H, H)],
            lstms=[nn.LSTM(H, H, 1, bias=False), nn.LSTM(H, H, 1, bias=False)],
            lin2=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "lstm over levels",
        lambda: Net(
            lstm_over_levels,
            convs=[g.GCNConv(FEATURES, H), g.GCNConv(H, H), g.GCNConv(H, H)],
            lstm=nn.LSTM(H, 7, batch_first=True),
            out=nn.Linear(7, CLASSES),
        ),
    ),
    Model(
        "gru update",
        lambda: Net(
            gru_update,
            enc=nn.Linear(FEATURES, H),
            conv=g.GraphConv(H, H, aggr="mean"),
            gru=nn.GRUCell(H, H),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "gated linear units",
        lambda: Net(sliced, a=g.GCNConv(FEATURES, 2 * H), b=g.GCNConv(H, CLASSES)),
    ),
    Model(
        "heads by hand",
        lambda: Net(heads_by_hand, a=g.SAGEConv(FEATURES, H), b=g.SAGEConv(4, CLASSES)),
    ),
    Model(
        "squeeze and excite",
        lambda: Net(
            squeeze_excite,
            a=g.GCNConv(FEATURES, H),
            down=nn.Linear(H, 4),
            up=nn.Linear(4, H),
            b=g.GCNConv(H, CLASSES),
        ),
    ),
    Model(
        "features in every layer",
        lambda: Net(
            initial_everywhere,
            convs=[g.SAGEConv(2 * FEATURES, H), g.SAGEConv(H + FEATURES, H)],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "u-net",
        lambda: Net(
            unet,
            a=g.GCNConv(FEATURES, H),
            b=g.GCNConv(H, 6),
            c=g.GCNConv(6, H),
            d=g.GCNConv(2 * H, CLASSES),
        ),
    ),
    Model(
        "gcnii after a layer",
        lambda: Net(
            late_gcnii,
            a=g.GCNConv(FEATURES, H),
            convs=[
                g.GCN2Conv(H, 0.1, 0.5, 1),
                g.GCN2Conv(H, 0.2, 0.5, 2, shared_weights=False),
            ],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "appnp after a layer",
        lambda: Net(late_appnp, a=g.SAGEConv(FEATURES, CLASSES), p=g.APPNP(2, 0.2)),
    ),
    Model(
        "maxout of layers",
        lambda: Net(maxout, convs=[g.GCNConv(FEATURES, CLASSES), g.SAGEConv(FEATURES, CLASSES)]),
    ),
    Model("clamped", lambda: Net(relu6, a=g.GCNConv(FEATURES, H), b=g.GCNConv(H, CLASSES))),
    Model(
        "mixhop twice",
        lambda: Net(
            lambda n, x, e: n.b(n.a(x, e).relu(), e),
            a=g.MixHopConv(FEATURES, H),
            b=g.MixHopConv(3 * H, CLASSES),
        ),
    ),
    Model(
        "tag twice",
        lambda: Net(
            lambda n, x, e: n.b(n.a(x, e).relu(), e),
            a=g.TAGConv(FEATURES, H, K=2),
            b=g.TAGConv(H, CLASSES, K=1),
        ),
    ),
]
