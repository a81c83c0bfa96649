"""Models in the manner of DGL's examples and of what people publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dgl
import dgl.nn as d
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as f

import dgl_random
from dgl_joins import JOINED
from dgl_messages import MESSAGES
from dgl_nets import (
    H,
    LinkModel,
    Mlp,
    Net,
    OfBlocks,
    OfNodeData,
    Pooled,
    Table,
    Typed,
    Weighed,
    allowing,
    blocks,
    chain,
    conv,
    deep,
    drop,
    encode,
    gat,
    gcn2,
    gcnii,
    gin,
    heads,
    heads_viewed,
    jumping,
    loops,
    of_blocks,
    of_node_data,
    own_messages,
    residual,
)
from measure import CLASSES, FEATURES, STORED, Model, features, graphs, random_models
from satisfice import export_dgl


def _graph(edges: np.ndarray, nodes: int) -> Any:
    source, target = torch.from_numpy(edges)
    return dgl.graph((source, target), num_nodes=nodes)


def export(module: Any, path: Path, **options: Any) -> None:
    """Exports a module with the stored graph."""
    graph = _graph(graphs()[0], STORED)
    graph.ndata["feat"] = torch.from_numpy(features()[:STORED])
    export_dgl(module, graph, path, undirected=False, **options)


def answers(model: Model, module: Any) -> np.ndarray:
    """The module's own answers for the new nodes, on the graph with them in it."""
    stored, new = graphs()
    edges = np.concatenate([stored, new, new[::-1]], axis=1)
    x = torch.from_numpy(features())
    graph = _graph(edges, len(x))
    graph.ndata["feat"] = x
    call = model.call or (lambda net, graph, x: net(graph, x))
    answer: Tensor = model.answer(call(module, graph, x))[STORED:]
    return answer.reshape(len(answer), -1).numpy()


MODELS = [
    Model(
        "gcn",
        lambda: Net(
            chain,
            layers=[conv(FEATURES, H, activation=f.relu), conv(H, CLASSES)],
            dropout=drop(),
        ),
    ),
    *(
        Model(
            f"gcn {norm}",
            lambda norm=norm: Net(
                chain,
                layers=[conv(FEATURES, H, norm=norm), conv(H, CLASSES, norm=norm)],
                dropout=nn.ReLU(),
            ),
        )
        for norm in ("right", "left", "none")
    ),
    Model(
        "gcn without weight",
        lambda: Net(
            lambda n, g, x: n.b(g, n.lin(n.a(g, x))),
            a=conv(FEATURES, FEATURES, weight=False, bias=False),
            lin=nn.Linear(FEATURES, H),
            b=conv(H, CLASSES),
        ),
    ),
    Model(
        "gcn refusing zero degrees",
        lambda: Net(
            chain,
            layers=[d.GraphConv(FEATURES, H, activation=f.relu), d.GraphConv(H, CLASSES)],
            dropout=drop(),
        ),
        call=lambda net, g, x: allowing(net)(g, x),
    ),
    *(
        Model(
            f"sage {kind}",
            lambda kind=kind: OfBlocks(
                blocks,
                layers=[d.SAGEConv(FEATURES, H, kind), d.SAGEConv(H, CLASSES, kind)],
                dropout=drop(),
            ),
            call=of_blocks,
        )
        for kind in ("mean", "pool", "gcn")
    ),
    Model(
        "sage of node data",
        lambda: OfNodeData(
            chain,
            layers=[d.SAGEConv(FEATURES, H, "mean"), d.SAGEConv(H, CLASSES, "mean")],
            dropout=nn.ELU(),
        ),
        call=of_node_data,
    ),
    Model(
        "sage own norm",
        lambda: Net(
            chain,
            layers=[
                d.SAGEConv(FEATURES, H, "mean", activation=f.relu, norm=nn.BatchNorm1d(H)),
                d.SAGEConv(H, CLASSES, "mean"),
            ],
            dropout=drop(),
        ),
    ),
    Model(
        "gat",
        lambda: Net(
            heads,
            layers=[gat(FEATURES, 4, 3, activation=f.elu), gat(12, CLASSES, 2, residual=True)],
        ),
    ),
    Model("gat viewed", lambda: Net(heads_viewed, a=gat(FEATURES, 4, 3), b=gat(12, CLASSES, 1))),
    Model(
        "gatv2",
        lambda: Net(
            heads,
            layers=[
                d.GATv2Conv(FEATURES, 4, 3, activation=f.elu, allow_zero_in_degree=True),
                d.GATv2Conv(12, CLASSES, 2, allow_zero_in_degree=True, residual=True),
            ],
        ),
    ),
    *(
        Model(
            f"gin {kind}",
            lambda kind=kind: Net(
                gin,
                layers=[d.GINConv(Mlp(FEATURES, H), kind), d.GINConv(Mlp(H, H), kind)],
                norms=[nn.BatchNorm1d(H), nn.BatchNorm1d(H)],
                out=nn.Linear(H, CLASSES),
            ),
        )
        for kind in ("sum", "mean", "max")
    ),
    Model(
        "gcnii",
        lambda: Net(
            gcnii,
            inp=nn.Linear(FEATURES, H),
            layers=[gcn2(i) for i in range(3)],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "appnp",
        lambda: Net(
            lambda n, g, x: n.steps(g, n.b(n.a(x).relu())),
            a=nn.Linear(FEATURES, H),
            b=nn.Linear(H, CLASSES),
            steps=d.APPNPConv(4, 0.1),
        ),
    ),
    Model(
        "sgc",
        lambda: Net(
            lambda n, g, x: n.conv(g, x),
            conv=d.SGConv(FEATURES, CLASSES, k=2, allow_zero_in_degree=True),
        ),
    ),
    Model("tag", lambda: Net(lambda n, g, x: n.conv(g, x), conv=d.TAGConv(FEATURES, CLASSES, k=2))),
    *(
        Model(
            f"jumping {mode}",
            lambda mode=mode: Net(
                jumping,
                layers=[conv(FEATURES, H, activation=f.relu), conv(H, H, activation=f.relu)],
                jump=d.JumpingKnowledge(mode, H, 2),
                out=nn.Linear(2 * H if mode == "cat" else H, CLASSES),
                dropout=drop(),
            ),
        )
        for mode in ("cat", "max", "lstm")
    ),
    Model(
        "residual",
        lambda: Net(
            residual,
            inp=nn.Linear(FEATURES, H),
            layers=[d.SAGEConv(H, H, "mean") for _ in range(3)],
            norms=[nn.LayerNorm(H) for _ in range(3)],
            out=nn.Linear(H, CLASSES),
        ),
    ),
    Model(
        "linear skip",
        lambda: Net(
            deep,
            a=conv(FEATURES, H),
            norm=nn.BatchNorm1d(H),
            b=conv(H, CLASSES),
            skip=nn.Linear(H, CLASSES),
        ),
    ),
    Model("link encoder", LinkModel, hints=lambda _: {"call": encode}, call=encode),
    Model("edge weights", Weighed, "reads edata"),
    Model("hetero", Typed, "several types of node or edge", local=False),
    Model("graph classifier", Pooled, "one row a node", local=False),
    Model("embedding table", Table, "row", local=False),
    Model("own messages", lambda: Net(own_messages, lin=nn.Linear(FEATURES, CLASSES))),
    Model(
        "self-loops inside", lambda: Net(loops, conv=conv(FEATURES, CLASSES)), "reads other edges"
    ),
    Model(
        "sage lstm",
        lambda: Net(lambda n, g, x: n.conv(g, x), conv=d.SAGEConv(FEATURES, CLASSES, "lstm")),
        "aggregates by 'lstm'",
        local=False,
    ),
    Model(
        "TWIRLSConv",
        lambda: Net(lambda n, g, x: n.conv(g, x), conv=d.TWIRLSConv(FEATURES, CLASSES, H, 2)),
    ),
    *JOINED,
    *MESSAGES,
    *random_models(dgl_random.build, 24),
]
