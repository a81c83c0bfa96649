"""Models of PyTorch Geometric with layers that are seen less often, in one layer and in two."""

from __future__ import annotations

from typing import Any

import torch
import torch_geometric.nn as g
from torch import nn

from measure import CLASSES, FEATURES, Model
from pyg_nets import HIDDEN, Net, chain

H = HIDDEN


def _one(conv: Any) -> Any:
    return Net(lambda n, x, e: n.c(x, e), c=conv)


def _two(kind: Any, **options: Any) -> Any:
    return chain(kind(FEATURES, H, **options), kind(H, CLASSES, **options))


LAYERS = [
    *(
        Model(
            f"{kind} {' '.join(f'{name}={value}' for name, value in options.items())}".strip(),
            lambda kind=kind, options=options: _two(getattr(g, kind), **options),
        )
        for kind, options in [
            ("ARMAConv", {}),
            ("ARMAConv", {"num_stacks": 2, "num_layers": 2}),
            ("ARMAConv", {"num_stacks": 3, "num_layers": 2, "shared_weights": True, "act": None}),
            ("ClusterGCNConv", {}),
            ("ClusterGCNConv", {"diag_lambda": 0.7}),
            ("FiLMConv", {}),
            ("FiLMConv", {"act": nn.Tanh(), "aggr": "add"}),
            ("GENConv", {}),
            ("GENConv", {"learn_t": True, "norm": "layer", "num_layers": 3}),
            ("GENConv", {"aggr": "add"}),
            ("GENConv", {"aggr": "max", "bias": True}),
            ("LEConv", {}),
            ("ResGatedGraphConv", {}),
            ("ResGatedGraphConv", {"root_weight": False, "bias": False}),
            ("SuperGATConv", {}),
            ("SuperGATConv", {"attention_type": "SD", "heads": 2, "concat": False}),
            ("SuperGATConv", {"heads": 3, "concat": False, "add_self_loops": False}),
            ("TransformerConv", {}),
            ("TransformerConv", {"heads": 3, "concat": False, "beta": True}),
            ("TransformerConv", {"heads": 2, "concat": False, "root_weight": False}),
            ("SAGEConv", {"aggr": ["mean", "max"]}),
            ("SAGEConv", {"aggr": ["sum", "min", "var"], "project": True}),
            ("SAGEConv", {"aggr": "softmax"}),
            ("GraphConv", {"aggr": "min"}),
        ]
    ),
    *(Model(f"ChebConv K={k}", lambda k=k: _two(g.ChebConv, K=k)) for k in (2, 3)),
    Model(
        "TransformerConv gated heads",
        lambda: chain(
            g.TransformerConv(FEATURES, 4, heads=3, beta=True),
            g.TransformerConv(12, CLASSES, heads=1),
        ),
    ),
    Model(
        "AGNN",
        lambda: Net(
            lambda n, x, e: n.out(n.b(n.a(n.lin(x).relu(), e), e)),
            lin=nn.Linear(FEATURES, H),
            a=g.AGNNConv(),
            b=g.AGNNConv(requires_grad=False, add_self_loops=False),
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "GatedGraphConv",
        lambda: Net(
            lambda n, x, e: n.out(n.c(x, e).relu()),
            c=g.GatedGraphConv(FEATURES + 3, 3),
            out=nn.Linear(FEATURES + 3, CLASSES),
        ),
    ),
    Model("GatedGraphConv mean", lambda: _one(g.GatedGraphConv(FEATURES, 2, aggr="mean"))),
    Model(
        "deeper gcn",
        lambda: Net(
            lambda n, x, e: n.out(n.layers[1](n.layers[0](n.enc(x), e), e)),
            enc=nn.Linear(FEATURES, H),
            layers=[
                g.DeepGCNLayer(
                    g.GENConv(H, H, aggr="softmax", t=1.0, learn_t=True),
                    nn.LayerNorm(H),
                    nn.ReLU(),
                    block=block,
                    dropout=0.1,
                )
                for block in ("res+", "res")
            ],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "jumping of transformers",
        lambda: Net(
            lambda n, x, e: n.out(torch.cat([a := n.a(x, e).relu(), n.b(a, e).relu()], 1)),
            a=g.TransformerConv(FEATURES, H),
            b=g.TransformerConv(H, 7),
            out=nn.Linear(H + 7, CLASSES),
        ),
    ),
]
