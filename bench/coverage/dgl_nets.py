"""How the models of DGL run: what is between their layers."""

from __future__ import annotations

from typing import Any

import dgl
import dgl.nn as d
import torch
from dgl import function as fn
from torch import Tensor, nn
from torch.nn import functional as f

from measure import CLASSES, FEATURES, STORED, Parts

H = 12


class Net(Parts):
    """`forward(g, features)`."""

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


def conv(inputs: int, outputs: int, **options: Any) -> nn.Module:
    return d.GraphConv(inputs, outputs, allow_zero_in_degree=True, **options)


def gcn2(index: int) -> nn.Module:
    return d.GCN2Conv(H, layer=index + 1, alpha=0.2, lambda_=0.5, allow_zero_in_degree=True)


def gat(inputs: int, outputs: int, count: int, **options: Any) -> nn.Module:
    return d.GATConv(inputs, outputs, count, allow_zero_in_degree=True, **options)


def drop() -> nn.Module:
    return nn.Dropout(0.5)


def allowing(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if hasattr(module, "_allow_zero_in_degree"):
            module._allow_zero_in_degree = True
    return net
