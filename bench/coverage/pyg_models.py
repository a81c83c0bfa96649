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
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import degree

from measure import CLASSES, FEATURES, STORED, Model, features, graphs
from satisfice import export_pyg

HIDDEN = 12


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


class Net(nn.Module):
    """Modules, and a function that runs them as a model's `forward` would."""

    def __init__(self, run: Any, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, nn.ModuleList(part) if isinstance(part, list) else part)

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


def gated(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    gate = torch.sigmoid(net.gate(x))
    return net.out(gate * net.conv(x, edges) + (1 - gate) * net.lin(x))


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


def _dgi() -> nn.Module:
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


def _of(call: Any) -> Any:
    return lambda _: {"call": call}


def sizes(*between: int) -> list[tuple[int, int]]:
    widths = [FEATURES, *between, CLASSES]
    return list(zip(widths, widths[1:]))


def norms(kind: Any, *widths: int) -> list[nn.Module]:
    return [kind(width) for width in widths]


H = HIDDEN
TWO = sizes(H)
THREE = sizes(H, H)

SERVED = [
    Model("gcn", lambda: chain(*(g.GCNConv(*w) for w in TWO))),
    Model("gcn of data", lambda: chain(*(g.GCNConv(*w) for w in TWO), kind=OfData), call=of_data),
    Model("gcn lazy", lambda: _run_once(chain(g.GCNConv(-1, H), g.GCNConv(-1, CLASSES)))),
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
        hints=_of(lambda n, x, e: n.encoder(x, e)[0]),
        call=encoder,
        answer=lambda a: a[0],
    ),
    Model("dgi", _dgi, hints=_of(encoder), call=encoder),
    Model("link encoder", LinkModel, hints=_of(encode), call=encode),
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
]

REFUSED = [
    Model("rgcn", Relational, "several types of node or edge"),
    Model("hetero", Typed, "several types of node or edge"),
    Model("graph classifier", Pooled, "models of whole graphs"),
    Model("embedding table", Table, "row"),
    Model(
        "pairnorm",
        lambda: Net(pairnorm, a=g.GCNConv(FEATURES, H), norm=g.PairNorm(), b=g.GCNConv(H, CLASSES)),
        "normalises over the whole graph",
    ),
    Model(
        "graphnorm",
        lambda: Net(
            pairnorm, a=g.GCNConv(FEATURES, H), norm=g.GraphNorm(H), b=g.GCNConv(H, CLASSES)
        ),
        "normalises over the whole graph",
    ),
    Model(
        "gated",
        lambda: Net(
            gated,
            gate=nn.Linear(FEATURES, H),
            conv=g.GCNConv(FEATURES, H),
            lin=nn.Linear(FEATURES, H),
            out=nn.Linear(H, CLASSES),
        ),
        "rows are multiplied by rows",
    ),
    Model(
        "mixhop twice",
        lambda: Net(
            lambda n, x, e: n.b(n.a(x, e).relu(), e),
            a=g.MixHopConv(FEATURES, H),
            b=g.MixHopConv(3 * H, CLASSES),
        ),
        "does not read what layer",
    ),
    Model(
        "tutorial",
        lambda: Net(lambda n, x, e: n.c(x, e), c=Tutorial(FEATURES, CLASSES)),
        "layer 'c' is a Tutorial",
    ),
    Model("scattered", lambda: Net(scattered, lin=nn.Linear(FEATURES, CLASSES)), "`index_add`"),
    Model(
        "by degree", lambda: Net(by_degree, conv=g.SAGEConv(FEATURES, CLASSES)), "are combined with"
    ),
    Model(
        "dropout always on",
        lambda: Net(lambda n, x, e: f.dropout(n.c(x, e)), c=g.SAGEConv(FEATURES, CLASSES)),
        "dropout is applied in evaluation mode too",
    ),
    Model(
        "cached",
        lambda: Net(lambda n, x, e: n.c(x, e), c=g.SGConv(FEATURES, CLASSES, K=2, cached=True)),
        "cached",
    ),
    Model(
        "two branches",
        lambda: Net(
            lambda n, x, e: n.a(x, e) + n.b(x, e),
            a=g.GCNConv(FEATURES, CLASSES),
            b=g.GATConv(FEATURES, CLASSES),
        ),
        "does not read what layer",
    ),
    *(
        Model(
            kind,
            lambda kind=kind, options=options: Net(
                lambda n, x, e: n.c(x, e), c=getattr(g, kind)(*options)
            ),
            f"layer 'c' is a {kind}",
        )
        for kind, options in {
            "AGNNConv": (),
            "ARMAConv": (FEATURES, CLASSES),
            "ChebConv": (FEATURES, CLASSES, 3),
            "ClusterGCNConv": (FEATURES, CLASSES),
            "FiLMConv": (FEATURES, CLASSES),
            "GENConv": (FEATURES, CLASSES),
            "LEConv": (FEATURES, CLASSES),
            "ResGatedGraphConv": (FEATURES, CLASSES),
            "SuperGATConv": (FEATURES, CLASSES),
            "TransformerConv": (FEATURES, CLASSES),
            "EdgeConv": (nn.Linear(2 * FEATURES, CLASSES),),
            "GatedGraphConv": (FEATURES, 2),
        }.items()
    ),
]

MODELS = [*SERVED, *REFUSED]


def _run_once(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        net.eval()(torch.randn(4, FEATURES), torch.tensor([[0, 1], [1, 2]]))
    return net
