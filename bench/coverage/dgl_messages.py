"""Models of DGL whose message passing is written by hand, as its guide and tutorials have it."""

from __future__ import annotations

from typing import Any

import dgl.nn as d
import torch
from dgl import function as fn
from dgl.nn.functional import edge_softmax
from torch import Tensor, nn
from torch.nn import functional as f

from dgl_nets import H
from measure import CLASSES, FEATURES, Model


class Two(nn.Module):
    """Two layers of a kind with an activation between them."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.one, self.two = kind(FEATURES, H, **options), kind(H, CLASSES, **options)

    def forward(self, g: Any, x: Tensor) -> Any:
        return self.two(g, self.one(g, x).relu())


class Sage(nn.Module):
    """Built-in functions: what sources send, reduced, beside the node's own."""

    def __init__(self, inputs: int, outputs: int, reduce: str = "mean") -> None:
        super().__init__()
        self.linear, self.reduce = nn.Linear(inputs * 2, outputs), getattr(fn, reduce)

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            g.ndata["h"] = h
            g.update_all(message_func=fn.copy_u("h", "m"), reduce_func=self.reduce("m", "h_N"))
            return self.linear(torch.cat([h, g.ndata["h_N"]], dim=1))


class WeightedSage(nn.Module):
    """A weight of each edge, which edges of new nodes do not have."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs * 2, outputs)

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            g.ndata["h"] = h
            g.edata["w"] = torch.rand(g.num_edges(), 1)
            g.update_all(fn.u_mul_e("h", "w", "m"), fn.mean("m", "h_N"))
            return self.linear(torch.cat([h, g.ndata["h_N"]], dim=1))


class Functions(nn.Module):
    """User-defined functions of both ends, and of a mailbox."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def send(self, edges: Any) -> dict[str, Tensor]:
        return {"m": (self.source(edges.src["h"]) + self.target(edges.dst["h"])).tanh()}

    def take(self, nodes: Any) -> dict[str, Tensor]:
        mail = nodes.mailbox["m"]
        return {"h": mail.mean(1) + torch.max(mail, dim=1)[0] - mail.min(1).values}

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            g.ndata["h"] = h
            g.update_all(self.send, self.take)
            return g.ndata["h"]


class Applied(nn.Module):
    """A reduce function that reads the node, which is not called where there is no mail."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin = nn.Linear(inputs, outputs)

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            g.ndata["h"] = h
            g.update_all(
                fn.copy_u("h", "m"),
                lambda nodes: {"h": nodes.mailbox["m"].sum(1) - nodes.data["h"]},
                lambda nodes: {"h": self.lin(nodes.data["h"]).relu()},
            )
            return g.ndata["h"]


class GatOfFunctions(nn.Module):
    """The tutorial's attention: scores on edges, a softmax over the mailbox."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, outputs, bias=False)
        self.attn = nn.Linear(2 * outputs, 1, bias=False)

    def score(self, edges: Any) -> dict[str, Tensor]:
        both = torch.cat([edges.src["z"], edges.dst["z"]], dim=1)
        return {"e": f.leaky_relu(self.attn(both))}

    def send(self, edges: Any) -> dict[str, Tensor]:
        return {"z": edges.src["z"], "e": edges.data["e"]}

    def take(self, nodes: Any) -> dict[str, Tensor]:
        shares = f.softmax(nodes.mailbox["e"], dim=1)
        return {"h": torch.sum(shares * nodes.mailbox["z"], dim=1)}

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            g.ndata["z"] = self.fc(h)
            g.apply_edges(self.score)
            g.update_all(self.send, self.take)
            return g.ndata["h"]


class GatOfSoftmax(nn.Module):
    """Two heads by built-in functions and `edge_softmax`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.heads, self.width = 2, -(-outputs // 2)
        self.fc = nn.Linear(inputs, self.heads * self.width)
        self.left = nn.Parameter(torch.randn(1, self.heads, self.width))
        self.right = nn.Parameter(torch.randn(1, self.heads, self.width))
        self.out = nn.Linear(self.heads * self.width, outputs)

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            z = self.fc(h).view(-1, self.heads, self.width)
            left = (z * self.left).sum(-1, keepdim=True)
            right = (z * self.right).sum(-1, keepdim=True)
            g.ndata.update({"z": z, "el": left, "er": right})
            g.apply_edges(fn.u_add_v("el", "er", "e"))
            g.edata["a"] = edge_softmax(g, f.leaky_relu(g.edata.pop("e"), 0.2))
            g.update_all(fn.u_mul_e("z", "a", "m"), fn.sum("m", "h"))
            return self.out(g.ndata["h"].flatten(1))


class DotProduct(nn.Module):
    """Attention by products of queries and keys."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(inputs, outputs) for _ in range(3))

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            g.ndata["q"], g.ndata["k"], g.ndata["v"] = self.query(h), self.key(h), self.value(h)
            g.apply_edges(fn.u_dot_v("k", "q", "score"))
            g.edata["a"] = edge_softmax(g, g.edata["score"] / 3.0)
            g.update_all(fn.u_mul_e("v", "a", "m"), fn.sum("m", "o"))
            return g.ndata["o"]


class Gcn(nn.Module):
    """Roots of in-degrees around a sum."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin = nn.Linear(inputs, outputs)

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            norm = g.in_degrees().float().clamp(min=1).pow(-0.5).unsqueeze(1)
            g.ndata["h"] = self.lin(h) * norm
            g.update_all(fn.copy_u("h", "m"), fn.sum("m", "h"))
            return g.ndata["h"] * norm


class Recurrent(nn.Module):
    """An LSTM over the mailbox."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, outputs, batch_first=True)

    def take(self, nodes: Any) -> dict[str, Tensor]:
        return {"h": self.lstm(nodes.mailbox["m"])[1][0].squeeze(0)}

    def forward(self, g: Any, h: Tensor) -> Any:
        with g.local_scope():
            g.ndata["h"] = h
            g.update_all(fn.copy_u("h", "m"), self.take)
            return g.ndata["h"]


MESSAGES = [
    *(
        Model(f"by hand {name}", lambda kind=kind, options=options: Two(kind, **options))
        for name, kind, options in [
            *((f"sage {reduce}", Sage, {"reduce": reduce}) for reduce in ("mean", "sum", "max")),
            ("sage min", Sage, {"reduce": "min"}),
            ("functions", Functions, {}),
            ("applied", Applied, {}),
            ("gat of functions", GatOfFunctions, {}),
            ("gat of edge_softmax", GatOfSoftmax, {}),
            ("dot product", DotProduct, {}),
            ("gcn", Gcn, {}),
            ("EdgeConv", d.EdgeConv, {"allow_zero_in_degree": True}),
            ("EdgeConv norm", d.EdgeConv, {"allow_zero_in_degree": True, "batch_norm": True}),
        ]
    ),
    Model("by hand weighted", lambda: Two(WeightedSage), "values of edges", local=False),
    Model("by hand lstm", lambda: Two(Recurrent), "to nodes.mailbox", local=False),
    Model("by hand PNAConv", lambda: Two(_pna), "to nodes.mailbox"),
]


def _pna(inputs: int, outputs: int) -> nn.Module:
    return d.PNAConv(inputs, outputs, ["mean", "max"], ["identity", "amplification"], 2.5)
