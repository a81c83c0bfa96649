"""Cases of PyTorch Geometric with message passing written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import (
    add_remaining_self_loops,
    add_self_loops,
    remove_self_loops,
    softmax,
)

from models import Case
from pyg_program_cases import two


def cases() -> list[Case]:
    """All cases, each of which runs on a directed and on an undirected graph."""
    return [
        two("message_max", Edges),
        two("message_sum", Gates),
        two("message_mean_added_loops", Added),
        two("message_max_removed_loops", Removed),
        two("message_softmax_replaced_loops", Attention),
        two("message_softmax_source", Self),
    ]


def mlp(inputs: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, out), nn.ReLU(), nn.Linear(out, out))


class Edges(MessagePassing):
    """The largest of what a network makes of both ends."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__(aggr="max")
        self.mlp = mlp(2 * inputs, out)

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        return self.propagate(edges, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.mlp(torch.cat([x_i, x_j - x_i], dim=1))


class Gates(MessagePassing):
    """A sum of products of both ends, and what comes after it."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__(aggr="add")
        self.gate, self.value = nn.Linear(2 * inputs, out), nn.Linear(inputs, out)
        self.own = nn.Linear(inputs, out)

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        return self.propagate(edges, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.gate(torch.cat([x_i, x_j], dim=-1)).sigmoid() * self.value(x_j)

    def update(self, inputs: Tensor, x: Tensor) -> Tensor:
        return inputs + self.own(x)


class Added(MessagePassing):
    """A mean over sources and, once more, the node itself."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__(aggr="mean")
        self.source, self.target = nn.Linear(inputs, out), nn.Linear(inputs, out)

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        edges, _ = add_self_loops(edges, num_nodes=len(x))
        return self.propagate(edges, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return functional.elu(self.source(x_j) + self.target(x_i))


class Removed(MessagePassing):
    """The largest over other nodes."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__(aggr="max")
        self.lin, self.own = nn.Linear(inputs, out), nn.Linear(inputs, out)

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        edges, _ = remove_self_loops(edges)
        return self.propagate(edges, x=self.lin(x)) + self.own(x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return (x_j - x_i).tanh()


class Attention(MessagePassing):
    """Attention of two heads over sources and the node itself."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.heads, self.width = 2, out // 2 or 1
        self.lin = nn.Linear(inputs, self.heads * self.width)
        self.att = nn.Parameter(torch.empty(1, self.heads, self.width))
        self.out, self.own = nn.Linear(self.heads * self.width, out), nn.Linear(inputs, out)

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        edges, _ = add_remaining_self_loops(edges, num_nodes=len(x))
        rows = self.lin(x).view(-1, self.heads, self.width)
        return self.out(self.propagate(edges, x=rows).flatten(1)) + self.own(x)

    def message(
        self, x_i: Tensor, x_j: Tensor, index: Tensor, ptr: Tensor | None, size_i: int | None
    ) -> Tensor:
        logits = (functional.leaky_relu(x_i + x_j, 0.2) * self.att).sum(dim=-1)
        return x_j * softmax(logits, index, ptr, size_i).unsqueeze(-1)


class Self(MessagePassing):
    """Attention whose logits a layer makes of both ends, over what sources send."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__(aggr="add")
        self.lin, self.att = nn.Linear(inputs, out), nn.Linear(2 * out, 1)
        self.own = nn.Linear(inputs, out)

    def forward(self, x: Tensor, edges: Tensor) -> Any:
        return self.propagate(edges, x=self.lin(x)) + self.own(x)

    def message(self, x_i: Tensor, x_j: Tensor, index: Tensor) -> Tensor:
        logits = self.att(torch.cat([x_i, x_j], dim=-1)).tanh()
        return softmax(logits, index) * x_j
