"""Models in the manner of DGL's examples and of what people publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dgl
import dgl.nn as d
import numpy as np
import torch
from dgl import function as fn
from torch import Tensor, nn
from torch.nn import functional as f

from measure import CLASSES, FEATURES, STORED, Model, features, graphs
from satisfice import export_dgl

H = 12


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


class Net(nn.Module):
    """Modules, and a function that runs them as a model's `forward` would."""

    def __init__(self, run: Any, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, nn.ModuleList(part) if isinstance(part, list) else part)

    def forward(self, g: Any, features: Tensor) -> Any:
        return self.run(self, g, features)


class OfBlocks(Net):
    """`forward(blocks, x)`, as minibatch training has it."""

    def forward(self, blocks: Any, x: Tensor) -> Any:  # type: ignore[override]
        return self.run(self, blocks, x)


class OfNodeData(Net):
    """`forward(g)`."""

    def forward(self, g: Any) -> Any:  # type: ignore[override]
        return self.run(self, g, g.ndata["feat"])


def of_blocks(net: Any, graph: Any, x: Tensor) -> Any:
    return net([graph] * 4, x)


def of_node_data(net: Any, graph: Any, _: Tensor) -> Any:
    return net(graph)


def chain(net: Any, g: Any, x: Tensor) -> Tensor:
    for i, layer in enumerate(net.layers):
        if i:
            x = net.dropout(x)
        x = layer(g, x)
    return x


def blocks(net: Any, mfgs: Any, x: Tensor) -> Tensor:
    for i, (layer, block) in enumerate(zip(net.layers, mfgs)):
        target = x[: block.num_dst_nodes()]
        x = layer(block, (x, target))
        if i < len(net.layers) - 1:
            x = net.dropout(f.relu(x))
    return x


def heads(net: Any, g: Any, x: Tensor) -> Tensor:
    for i, layer in enumerate(net.layers):
        x = layer(g, x)
        x = x.mean(1) if i == len(net.layers) - 1 else x.flatten(1)
    return x


def heads_viewed(net: Any, g: Any, x: Tensor) -> Tensor:
    x = f.elu(net.a(g, x).view(len(x), -1))
    return net.b(g, x).squeeze(1)


def gin(net: Any, g: Any, x: Tensor) -> Tensor:
    for layer, norm in zip(net.layers, net.norms):
        x = f.relu(norm(layer(g, x)))
    return net.out(x)


def gcnii(net: Any, g: Any, x: Tensor) -> Tensor:
    x = first = net.inp(x).relu()
    for layer in net.layers:
        x = f.relu(layer(g, x, first))
    return net.out(x)


def jumping(net: Any, g: Any, x: Tensor) -> Tensor:
    levels = []
    for layer in net.layers:
        x = net.dropout(layer(g, x))
        levels.append(x)
    return net.out(net.jump(levels))


def residual(net: Any, g: Any, x: Tensor) -> Tensor:
    x = net.inp(x)
    for layer, norm in zip(net.layers, net.norms):
        x = x + f.relu(norm(layer(g, x)))
    return net.out(x)


def deep(net: Any, g: Any, x: Tensor) -> Tensor:
    x = net.a(g, x)
    x = f.leaky_relu(net.norm(x), 0.1)
    return torch.log_softmax(net.b(g, x) + net.skip(x), dim=-1)


def own_messages(net: Any, g: Any, x: Tensor) -> Tensor:
    with g.local_scope():
        g.ndata["h"] = net.lin(x)
        g.update_all(fn.copy_u("h", "m"), fn.mean("m", "h"))
        return g.ndata["h"]


def loops(net: Any, g: Any, x: Tensor) -> Tensor:
    return net.conv(dgl.add_self_loop(g), x)


class Mlp(nn.Module):
    """A perceptron of one's own, as the GIN example has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(inputs, H), nn.Linear(H, outputs)])
        self.batch_norm = nn.BatchNorm1d(H)

    def forward(self, x: Tensor) -> Tensor:
        return self.linears[1](f.relu(self.batch_norm(self.linears[0](x))))


class Weighed(nn.Module):
    """Reads weights of edges."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = d.GraphConv(FEATURES, CLASSES, allow_zero_in_degree=True)

    def forward(self, g: Any, x: Tensor) -> Tensor:
        return self.conv(g, x, edge_weight=g.edata["weight"])


class LinkModel(nn.Module):
    """An encoder with a predictor of pairs, which is not served."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = d.SAGEConv(FEATURES, H, "mean"), d.SAGEConv(H, CLASSES, "mean")
        self.predictor = nn.Linear(CLASSES, 1)

    def encode(self, g: Any, x: Tensor) -> Tensor:
        return self.b(g, self.a(g, x).relu())

    def forward(self, pair_graph: Any, neg_graph: Any, g: Any, x: Tensor) -> Tensor:
        return self.predictor(self.encode(g, x))


def encode(net: Any, graph: Any, x: Tensor) -> Any:
    return net.encode(graph, x)


class Typed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = d.HeteroGraphConv({"likes": d.GraphConv(FEATURES, CLASSES)})

    def forward(self, g: Any, inputs: Any) -> Any:
        return self.conv(g, inputs)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = d.SAGEConv(FEATURES, H, "mean")
        self.pool, self.lin = d.AvgPooling(), nn.Linear(H, CLASSES)

    def forward(self, g: Any, h: Tensor) -> Tensor:
        return self.lin(self.pool(g, self.conv(g, h)))


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(STORED, FEATURES)
        self.conv = d.SAGEConv(FEATURES, CLASSES, "mean")

    def forward(self, g: Any, x: Tensor) -> Tensor:
        return self.conv(g, self.emb(g.nodes()))


def _conv(inputs: int, outputs: int, **options: Any) -> nn.Module:
    return d.GraphConv(inputs, outputs, allow_zero_in_degree=True, **options)


def _gcn2(index: int) -> nn.Module:
    return d.GCN2Conv(H, layer=index + 1, alpha=0.2, lambda_=0.5, allow_zero_in_degree=True)


def _gat(inputs: int, outputs: int, count: int, **options: Any) -> nn.Module:
    return d.GATConv(inputs, outputs, count, allow_zero_in_degree=True, **options)


def _drop() -> nn.Module:
    return nn.Dropout(0.5)


MODELS = [
    Model(
        "gcn",
        lambda: Net(
            chain,
            layers=[_conv(FEATURES, H, activation=f.relu), _conv(H, CLASSES)],
            dropout=_drop(),
        ),
    ),
    *(
        Model(
            f"gcn {norm}",
            lambda norm=norm: Net(
                chain,
                layers=[_conv(FEATURES, H, norm=norm), _conv(H, CLASSES, norm=norm)],
                dropout=nn.ReLU(),
            ),
        )
        for norm in ("right", "left", "none")
    ),
    Model(
        "gcn without weight",
        lambda: Net(
            lambda n, g, x: n.b(g, n.lin(n.a(g, x))),
            a=_conv(FEATURES, FEATURES, weight=False, bias=False),
            lin=nn.Linear(FEATURES, H),
            b=_conv(H, CLASSES),
        ),
    ),
    Model(
        "gcn refusing zero degrees",
        lambda: Net(
            chain,
            layers=[d.GraphConv(FEATURES, H, activation=f.relu), d.GraphConv(H, CLASSES)],
            dropout=_drop(),
        ),
        call=lambda net, g, x: _allowing(net)(g, x),
    ),
    *(
        Model(
            f"sage {kind}",
            lambda kind=kind: OfBlocks(
                blocks,
                layers=[d.SAGEConv(FEATURES, H, kind), d.SAGEConv(H, CLASSES, kind)],
                dropout=_drop(),
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
            dropout=_drop(),
        ),
    ),
    Model(
        "gat",
        lambda: Net(
            heads,
            layers=[_gat(FEATURES, 4, 3, activation=f.elu), _gat(12, CLASSES, 2, residual=True)],
        ),
    ),
    Model("gat viewed", lambda: Net(heads_viewed, a=_gat(FEATURES, 4, 3), b=_gat(12, CLASSES, 1))),
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
            layers=[_gcn2(i) for i in range(3)],
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
                layers=[_conv(FEATURES, H, activation=f.relu), _conv(H, H, activation=f.relu)],
                jump=d.JumpingKnowledge(mode, H, 2),
                out=nn.Linear(2 * H if mode == "cat" else H, CLASSES),
                dropout=_drop(),
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
            a=_conv(FEATURES, H),
            norm=nn.BatchNorm1d(H),
            b=_conv(H, CLASSES),
            skip=nn.Linear(H, CLASSES),
        ),
    ),
    Model("link encoder", LinkModel, hints=lambda _: {"call": encode}, call=encode),
    Model("edge weights", Weighed, "reads edata"),
    Model("hetero", Typed, "several types of node or edge"),
    Model("graph classifier", Pooled, "one row a node"),
    Model("embedding table", Table, "row"),
    Model("own messages", lambda: Net(own_messages, lin=nn.Linear(FEATURES, CLASSES)), "row"),
    Model(
        "self-loops inside", lambda: Net(loops, conv=_conv(FEATURES, CLASSES)), "reads other edges"
    ),
    Model(
        "sage lstm",
        lambda: Net(lambda n, g, x: n.conv(g, x), conv=d.SAGEConv(FEATURES, CLASSES, "lstm")),
        "aggregates by 'lstm'",
    ),
    *(
        Model(
            kind,
            lambda kind=kind, options=options: Net(
                lambda n, g, x: n.conv(g, x).flatten(1), conv=getattr(d, kind)(*options)
            ),
            f"is a {kind}",
        )
        for kind, options in {
            "ChebConv": (FEATURES, CLASSES, 2),
            "AGNNConv": (1.0, True, True),
            "GatedGraphConv": (FEATURES, FEATURES, 2, 1),
            "DotGatConv": (FEATURES, CLASSES, 1),
            "TWIRLSConv": (FEATURES, CLASSES, H, 2),
        }.items()
    ),
]


def _allowing(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if hasattr(module, "_allow_zero_in_degree"):
            module._allow_zero_in_degree = True
    return net
