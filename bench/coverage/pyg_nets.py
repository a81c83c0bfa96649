"""How the models of PyTorch Geometric run: what is between their layers."""

from __future__ import annotations

from typing import Any

import torch
import torch_geometric.nn as g
from torch import Tensor, nn
from torch.nn import functional as f
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import degree

from measure import CLASSES, FEATURES, STORED, Parts

HIDDEN = 12


class Net(Parts):
    """`forward(x, edge_index)`."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.run(self, x, edge_index)


class OfData(Net):
    """The same with `forward(data)`, as many examples have it."""

    def forward(self, data: Any) -> Any:  # type: ignore[override]
        return self.run(self, data.x, data.edge_index)


def of_data(net: Any, x: Tensor, edges: Tensor) -> Any:
    return net(Data(x=x, edge_index=edges))


def chain(*convs: nn.Module, act: Any = torch.relu, kind: type[Net] = Net, **more: Any) -> Net:
    """Layers with dropout and an activation between them."""

    def run(net: Net, x: Tensor, edges: Tensor) -> Tensor:
        for i, conv in enumerate(net.convs):
            x = conv(f.dropout(x, 0.6, training=net.training), edges)
            if i < len(net.convs) - 1:
                x = net.norms[i](x) if hasattr(net, "norms") else x
                x = act(x)
        return f.log_softmax(x, dim=1)

    return kind(run, convs=list(convs), **more)


def ppi(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    for conv, lin in zip(net.convs[:-1], net.lins):
        x = f.elu(conv(x, edges) + lin(x))
    return net.convs[-1](x, edges) + net.lins[-1](x)


def ogb(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    for conv, norm in zip(net.convs[:-1], net.norms):
        x = f.dropout(f.relu(norm(conv(x, edges))), p=0.5, training=net.training)
    return net.convs[-1](x, edges)


def gcnii(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = x_0 = net.lins[0](f.dropout(x, 0.5, net.training)).relu()
    for conv in net.convs:
        x = conv(f.dropout(x, 0.5, net.training), x_0, edges).relu()
        x = x + net.residual * 1.0 if isinstance(net.residual, Tensor) else x
    return net.lins[1](x)


def residual(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.enc(x)
    for conv, norm in zip(net.convs, net.norms):
        x = x + f.relu(norm(conv(x, edges)))
    return net.dec(x)


def dense(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    one = f.relu(net.a(x, edges))
    two = f.relu(net.b(one, edges))
    return net.out(torch.cat([x, one, two], dim=-1))


def saint(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x1 = f.dropout(f.relu(net.a(x, edges)), 0.2, training=net.training)
    x2 = f.dropout(f.relu(net.b(x1, edges)), 0.2, training=net.training)
    return net.lin(torch.cat([x1, x2], dim=-1)).log_softmax(dim=-1)


def light(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    total = x = net.lin(x)
    for _ in range(3):
        x = net.conv(x, edges)
        total = total + x
    return total / 4


def mixhop(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    return net.lin(f.relu(net.conv(x, edges)))


def weighed_once(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    index, weight = gcn_norm(edges, None, x.size(0), add_self_loops=True)
    return net.b(net.a(x, index, weight).relu(), index, weight)


def l2(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = f.normalize(net.a(x, edges).relu(), p=2, dim=1)
    return f.normalize(net.b(x, edges), dim=-1)


def jumping(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    xs = []
    for conv in net.convs:
        x = conv(x, edges).relu()
        xs.append(x)
    return net.lin(net.jk(xs))


def stacked(how: str) -> Any:
    def run(net: Any, x: Tensor, edges: Tensor) -> Tensor:
        xs = []
        for conv in net.convs:
            xs.append(x := conv(x, edges).tanh())
        return net.lin(getattr(torch.stack(xs, dim=0), how)(dim=0))

    return run


def bare(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.conv(torch.mm(x, net.weight) + net.bias, edges)
    return f.linear(f.leaky_relu(x * net.scale, 0.2), net.out)


def pairnorm(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    return net.b(net.norm(net.a(x, edges)).relu(), edges)


def attention_too(net: Any, x: Tensor, edges: Tensor) -> Any:
    x, weights = net.conv(x, edges, return_attention_weights=True)
    return net.lin(f.elu(x)), weights


def recurrent(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.lin(x)
    for _ in range(2):
        x = net.conv(x, edges).tanh()
    return net.out(x)


def scattered(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    sent = net.lin(x)[edges[0]]
    return torch.zeros(len(x), sent.shape[1]).index_add(0, edges[1], sent)


def by_degree(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    found = degree(edges[1], len(x)).clamp(min=1).view(-1, 1)
    return net.conv(x, edges) / found


class Tutorial(g.MessagePassing):
    """The GCN of the tutorial on message passing."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="add")
        self.lin = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        norm = degree(edge_index[1], len(x)).clamp(min=1) ** -0.5
        return self.propagate(edge_index, x=self.lin(x), norm=norm.view(-1, 1))

    def message(self, x_j: Tensor, norm_j: Tensor) -> Tensor:
        return norm_j * x_j


class Mlp(nn.Module):
    """A perceptron of one's own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, outputs)
        self.norm = nn.BatchNorm1d(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(f.relu(self.norm(self.one(x))))


class Typed(nn.Module):
    """A model of two edge types."""

    def __init__(self) -> None:
        super().__init__()
        kinds = [("node", "a", "node"), ("node", "b", "node")]
        self.conv = g.HeteroConv({kind: g.SAGEConv(FEATURES, CLASSES) for kind in kinds})

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
        return self.conv(x_dict, edge_index_dict)["node"]


class Relational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = g.RGCNConv(FEATURES, CLASSES, num_relations=3)

    def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        return self.conv(x, edge_index, edge_type)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lin = g.GINConv(Mlp(FEATURES, HIDDEN)), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.lin(g.global_add_pool(self.conv(x, edge_index), batch))


class Table(nn.Module):
    """A learned row for every stored node."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(STORED, FEATURES)
        self.conv = g.LGConv()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(self.emb.weight, edge_index)


class Variational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = g.GCNConv(FEATURES, HIDDEN)
        self.mu, self.logstd = g.GCNConv(HIDDEN, CLASSES), g.GCNConv(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        x = self.base(x, edge_index).relu()
        return self.mu(x, edge_index), self.logstd(x, edge_index)


class LinkModel(nn.Module):
    """An encoder with a decoder of pairs, which is not served."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = g.SAGEConv(FEATURES, HIDDEN), g.SAGEConv(HIDDEN, CLASSES)
        self.decoder = nn.Linear(2 * CLASSES, 1)

    def encode(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.b(self.a(x, edge_index).relu(), edge_index)

    def forward(self, x: Tensor, edge_index: Tensor, pairs: Tensor) -> Tensor:
        z = self.encode(x, edge_index)
        return self.decoder(torch.cat([z[pairs[0]], z[pairs[1]]], dim=1))


def dgi() -> nn.Module:
    encoder = Net(
        lambda n, x, e: n.act(n.conv(x, e)),
        conv=g.GCNConv(FEATURES, CLASSES),
        act=nn.PReLU(CLASSES),
    )
    return g.DeepGraphInfomax(
        CLASSES,
        encoder,
        lambda z, *_: z.mean(0).sigmoid(),
        lambda x, e: (x[torch.randperm(len(x))], e),
    )


def encode(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    return net.encode(x, edges)


def encoder(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    return net.encoder(x, edges)


def of(call: Any) -> Any:
    return lambda _: {"call": call}


def sizes(*between: int) -> list[tuple[int, int]]:
    widths = [FEATURES, *between, CLASSES]
    return list(zip(widths, widths[1:]))


def norms(kind: Any, *widths: int) -> list[nn.Module]:
    return [kind(width) for width in widths]


def run_once(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        net.eval()(torch.randn(4, FEATURES), torch.tensor([[0, 1], [1, 2]]))
    return net
