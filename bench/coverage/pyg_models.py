"""Models in the manner of PyTorch Geometric's examples and of what people publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_geometric.nn as g
from torch import Tensor, nn
from torch.nn import functional as f
from torch_geometric.data import Data

import pyg_random
import pyg_random_messages
from measure import CLASSES, FEATURES, STORED, Model, features, graphs, random_models
from pyg_joins import JOINED
from pyg_layers import LAYERS
from pyg_messages import MESSAGES
from pyg_nets import (
    HIDDEN,
    LinkModel,
    Mlp,
    Net,
    OfData,
    Pooled,
    Relational,
    Table,
    Tutorial,
    Typed,
    Variational,
    attention_too,
    bare,
    by_degree,
    chain,
    dense,
    dgi,
    encode,
    encoder,
    gcnii,
    jumping,
    l2,
    light,
    mixhop,
    norms,
    of,
    of_data,
    ogb,
    pairnorm,
    ppi,
    recurrent,
    residual,
    run_once,
    saint,
    scattered,
    sizes,
    stacked,
    weighed_once,
)
from satisfice import export_pyg


def export(module: Any, path: Path, **options: Any) -> None:
    """Exports a module with the stored graph."""
    stored, _ = graphs()
    x = torch.from_numpy(features()[:STORED])
    data = Data(x=x, edge_index=torch.from_numpy(stored))
    export_pyg(module, data, path, undirected=False, **options)


def answers(model: Model, module: Any) -> np.ndarray:
    """The module's own answers for the new nodes, on the graph with them in it."""
    stored, new = graphs()
    edges = torch.from_numpy(np.concatenate([stored, new, new[::-1]], axis=1))
    x = torch.from_numpy(features())
    call = model.call or (lambda net, rows, index: net(rows, index))
    answer: Tensor = model.answer(call(module, x, edges))[STORED:]
    answer = answer.reshape(len(answer), -1)
    return answer.numpy()


H = HIDDEN
TWO = sizes(H)
THREE = sizes(H, H)

SERVED = [
    Model("gcn", lambda: chain(*(g.GCNConv(*w) for w in TWO))),
    Model("gcn of data", lambda: chain(*(g.GCNConv(*w) for w in TWO), kind=OfData), call=of_data),
    Model("gcn lazy", lambda: run_once(chain(g.GCNConv(-1, H), g.GCNConv(-1, CLASSES)))),
    Model(
        "gcn ogb",
        lambda: Net(ogb, convs=[g.GCNConv(*w) for w in THREE], norms=norms(nn.BatchNorm1d, H, H)),
    ),
    Model("gcn class", lambda: g.GCN(FEATURES, H, 2, CLASSES, norm="batch_norm", jk="cat")),
    Model("gcn prelu", lambda: g.GCN(FEATURES, H, 2, CLASSES, act="prelu")),
    Model(
        "gcn weighed by itself",
        lambda: Net(
            weighed_once,
            a=g.GCNConv(FEATURES, H, normalize=False),
            b=g.GCNConv(H, CLASSES, normalize=False),
        ),
    ),
    Model(
        "gcn skip",
        lambda: Net(
            lambda n, x, e: n.b((n.a(x, e) + n.s(x)).relu(), e),
            a=g.GCNConv(FEATURES, H),
            b=g.GCNConv(H, CLASSES),
            s=nn.Linear(FEATURES, H),
        ),
    ),
    Model(
        "gcn residual",
        lambda: Net(
            residual,
            enc=nn.Linear(FEATURES, H),
            convs=[g.GCNConv(H, H) for _ in range(3)],
            norms=norms(nn.LayerNorm, H, H, H),
            dec=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "gcn shared",
        lambda: Net(
            recurrent, lin=nn.Linear(FEATURES, H), conv=g.GCNConv(H, H), out=nn.Linear(H, CLASSES)
        ),
    ),
    Model(
        "gcn bare parameters",
        lambda: Net(
            bare,
            conv=g.GCNConv(H, H),
            weight=nn.Parameter(torch.randn(FEATURES, H)),
            bias=nn.Parameter(torch.randn(H)),
            scale=nn.Parameter(torch.ones(H)),
            out=nn.Parameter(torch.randn(CLASSES, H)),
        ),
    ),
    Model("sage reddit", lambda: chain(*(g.SAGEConv(*w) for w in TWO))),
    Model(
        "sage ogb",
        lambda: Net(ogb, convs=[g.SAGEConv(*w) for w in THREE], norms=norms(nn.BatchNorm1d, H, H)),
    ),
    Model(
        "sage normalised",
        lambda: Net(l2, a=g.SAGEConv(FEATURES, H, normalize=True), b=g.SAGEConv(H, CLASSES)),
    ),
    Model(
        "sage class",
        lambda: g.GraphSAGE(
            FEATURES, H, 3, CLASSES, norm="layer_norm", norm_kwargs={"mode": "node"}
        ),
    ),
    Model(
        "sage max project", lambda: chain(*(g.SAGEConv(*w, aggr="max", project=True) for w in TWO))
    ),
    Model(
        "sage cluster-gcn",
        lambda: chain(g.SAGEConv(FEATURES, H), g.SAGEConv(H, CLASSES), act=f.elu),
    ),
    Model(
        "gat",
        lambda: chain(
            g.GATConv(FEATURES, 4, heads=3),
            g.GATConv(12, CLASSES, heads=1, concat=False),
            act=f.elu,
        ),
    ),
    Model(
        "gat ppi",
        lambda: Net(
            ppi,
            convs=[g.GATConv(FEATURES, 4, heads=3), g.GATConv(12, CLASSES, heads=2, concat=False)],
            lins=[nn.Linear(FEATURES, 12), nn.Linear(12, CLASSES)],
        ),
    ),
    Model("gat class", lambda: g.GAT(FEATURES, H, 2, CLASSES, heads=2, v2=True)),
    Model(
        "gatv2 residual",
        lambda: chain(
            g.GATv2Conv(FEATURES, 4, heads=3, residual=True),
            g.GATv2Conv(12, CLASSES, residual=True),
            act=f.elu,
        ),
    ),
    Model(
        "gin",
        lambda: Net(
            ogb,
            convs=[g.GINConv(Mlp(FEATURES, H)), g.GINConv(Mlp(H, CLASSES), train_eps=True)],
            norms=norms(nn.BatchNorm1d, H),
        ),
    ),
    Model("gin class", lambda: g.GIN(FEATURES, H, 2, CLASSES, norm="batch_norm", jk="max")),
    Model("graphconv", lambda: chain(*(g.GraphConv(*w, aggr="mean") for w in TWO))),
    Model(
        "graphconv saint",
        lambda: Net(
            saint, a=g.GraphConv(FEATURES, H), b=g.GraphConv(H, H), lin=nn.Linear(2 * H, CLASSES)
        ),
    ),
    Model(
        "gcnii",
        lambda: Net(
            gcnii,
            residual=0,
            convs=[g.GCN2Conv(H, 0.1, 0.5, i + 1) for i in range(4)],
            lins=[nn.Linear(FEATURES, H), nn.Linear(H, CLASSES)],
        ),
    ),
    Model(
        "appnp",
        lambda: Net(
            lambda n, x, e: n.p(n.b(n.a(x).relu()), e).log_softmax(1),
            a=nn.Linear(FEATURES, H),
            b=nn.Linear(H, CLASSES),
            p=g.APPNP(4, 0.1),
        ),
    ),
    Model("sgc", lambda: Net(lambda n, x, e: n.c(x, e), c=g.SGConv(FEATURES, CLASSES, K=2))),
    Model("tag", lambda: Net(lambda n, x, e: n.c(x, e), c=g.TAGConv(FEATURES, CLASSES, K=3))),
    Model(
        "mixhop",
        lambda: Net(mixhop, conv=g.MixHopConv(FEATURES, H), lin=nn.Linear(3 * H, CLASSES)),
    ),
    Model(
        "ssgc",
        lambda: Net(lambda n, x, e: n.c(x, e), c=g.SSGConv(FEATURES, CLASSES, alpha=0.1, K=3)),
    ),
    Model("light", lambda: Net(light, lin=nn.Linear(FEATURES, CLASSES), conv=g.LGConv())),
    Model(
        "simple",
        lambda: Net(
            lambda n, x, e: n.l(n.c(n.c(x, e), e)),
            c=g.SimpleConv("mean"),
            l=nn.Linear(FEATURES, CLASSES),
        ),
    ),
    Model(
        "dense skips",
        lambda: Net(
            dense,
            a=g.GCNConv(FEATURES, H),
            b=g.GCNConv(H, 8),
            out=nn.Linear(FEATURES + H + 8, CLASSES),
        ),
    ),
    *(
        Model(
            f"jumping {mode}",
            lambda mode=mode: Net(
                jumping,
                convs=[g.GCNConv(FEATURES, H), g.SAGEConv(H, H)],
                jk=g.JumpingKnowledge(mode, H, 2),
                lin=nn.Linear(2 * H if mode == "cat" else H, CLASSES),
            ),
        )
        for mode in ("cat", "max", "lstm")
    ),
    *(
        Model(
            f"stacked {how}",
            lambda how=how: Net(
                stacked(how),
                convs=[g.GCNConv(FEATURES, H), g.GCNConv(H, H)],
                lin=nn.Linear(H, CLASSES),
            ),
        )
        for how in ("mean", "sum")
    ),
    Model(
        "sequential",
        lambda: g.Sequential(
            "x, edge_index",
            [
                (g.GCNConv(FEATURES, H), "x, edge_index -> x"),
                nn.ReLU(inplace=True),
                (g.GCNConv(H, H), "x, edge_index -> x"),
                nn.ReLU(inplace=True),
                nn.Linear(H, CLASSES),
            ],
        ),
    ),
    Model("gae", lambda: g.GAE(chain(*(g.GCNConv(*w) for w in TWO)))),
    Model(
        "vgae",
        lambda: g.VGAE(Variational()),
        hints=of(lambda n, x, e: n.encoder(x, e)[0]),
        call=encoder,
        answer=lambda a: a[0],
    ),
    Model("dgi", dgi, hints=of(encoder), call=encoder),
    Model("link encoder", LinkModel, hints=of(encode), call=encode),
    Model(
        "attention returned",
        lambda: Net(attention_too, conv=g.GATConv(FEATURES, 4, heads=2), lin=nn.Linear(8, CLASSES)),
        answer=lambda a: a[0],
    ),
    Model(
        "one value",
        lambda: Net(
            lambda n, x, e: n.b(n.a(x, e).relu(), e).squeeze(-1),
            a=g.SAGEConv(FEATURES, H),
            b=g.SAGEConv(H, 1),
        ),
    ),
    Model(
        "compiled", lambda: torch.compile(chain(*(g.SAGEConv(*w) for w in TWO)), backend="eager")
    ),
    Model(
        "two branches",
        lambda: Net(
            lambda n, x, e: n.a(x, e) + n.b(x, e),
            a=g.GCNConv(FEATURES, CLASSES),
            b=g.GATConv(FEATURES, CLASSES),
        ),
    ),
    Model("tutorial", lambda: Net(lambda n, x, e: n.c(x, e), c=Tutorial(FEATURES, CLASSES))),
    Model("scattered", lambda: Net(scattered, lin=nn.Linear(FEATURES, CLASSES))),
    Model("by degree", lambda: Net(by_degree, conv=g.SAGEConv(FEATURES, CLASSES))),
]

REFUSED = [
    Model("rgcn", Relational, "several types of node or edge", local=False),
    Model("hetero", Typed, "several types of node or edge", local=False),
    Model("graph classifier", Pooled, "models of whole graphs", local=False),
    Model("embedding table", Table, "row", local=False),
    Model(
        "pairnorm",
        lambda: Net(pairnorm, a=g.GCNConv(FEATURES, H), norm=g.PairNorm(), b=g.GCNConv(H, CLASSES)),
        "normalises over the whole graph",
        local=False,
    ),
    Model(
        "graphnorm",
        lambda: Net(
            pairnorm, a=g.GCNConv(FEATURES, H), norm=g.GraphNorm(H), b=g.GCNConv(H, CLASSES)
        ),
        "normalises over the whole graph",
        local=False,
    ),
    Model(
        "dropout always on",
        lambda: Net(lambda n, x, e: f.dropout(n.c(x, e)), c=g.SAGEConv(FEATURES, CLASSES)),
        "dropout is applied in evaluation mode too",
        local=False,
    ),
    Model(
        "cached",
        lambda: Net(lambda n, x, e: n.c(x, e), c=g.SGConv(FEATURES, CLASSES, K=2, cached=True)),
        "cached",
        local=False,
    ),
    Model(
        "DirGNNConv",
        lambda: Net(lambda n, x, e: n.c(x, e), c=g.DirGNNConv(g.SAGEConv(FEATURES, CLASSES))),
        "reads other edges",
    ),
]

MODELS = [
    *SERVED,
    *JOINED,
    *LAYERS,
    *MESSAGES,
    *REFUSED,
    *random_models(pyg_random.build, 24),
    *random_models(pyg_random_messages.build, 24, "random messages"),
]
