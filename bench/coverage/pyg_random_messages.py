"""Message passing put together at random: messages, what reduces them, which self-loops."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
import torch_geometric.nn as g
from torch import Tensor, nn
from torch_geometric.utils import (
    add_remaining_self_loops,
    add_self_loops,
    degree,
    remove_self_loops,
    softmax,
)

from measure import CLASSES, FEATURES

H = 6
_LOOPS = {
    "kept": lambda edges, nodes: edges,
    "added": lambda edges, nodes: add_self_loops(edges, num_nodes=nodes)[0],
    "replaced": lambda edges, nodes: add_remaining_self_loops(edges, num_nodes=nodes)[0],
    "removed": lambda edges, nodes: remove_self_loops(edges)[0],
}
_OF_ONE = [torch.relu, torch.tanh, torch.sigmoid, nn.functional.elu, lambda rows: 0.5 * rows - 1]
_OF_TWO = [torch.add, torch.mul, torch.sub, lambda one, other: one / (other.sigmoid() + 1)]


class Conv(g.MessagePassing):
    """A message of some random steps."""

    def __init__(self, random: Random, inputs: int, outputs: int) -> None:
        self.kind = random.choice(["plain", "plain", "softmax", "norm"])
        aggr = "sum" if self.kind != "plain" else random.choice(["sum", "mean", "max", "min"])
        several = self.kind == "plain" and random.random() < 0.2
        super().__init__(aggr=[aggr, "max"] if several else aggr)
        self.loops = _LOOPS[random.choice(list(_LOOPS))]
        self.near, self.far = nn.Linear(inputs, H), nn.Linear(inputs, H)
        self.steps = [
            (random.random() < 0.5, random.choice(_OF_ONE), random.choice(_OF_TWO), random.random())
            for _ in range(random.randint(0, 3))
        ]
        self.maps = nn.ModuleList(nn.Linear(2 * H, H) for _ in self.steps)
        self.score, self.out = nn.Linear(2 * H, 1), nn.Linear(H * (2 if several else 1), outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        edges = self.loops(edge_index, x.size(0))
        roots = degree(edges[1], x.size(0)).clamp(min=1).pow(-0.5).view(-1, 1)
        made = self.propagate(edges, near=self.near(x), far=self.far(x), roots=roots)
        return self.out(made)

    def message(
        self,
        near_j: Tensor,
        far_i: Tensor,
        roots_i: Tensor,
        roots_j: Tensor,
        index: Tensor,
    ) -> Tensor:
        rows = near_j
        for (of_one, one, two, share), linear in zip(self.steps, self.maps):
            if of_one:
                rows = one(rows)
            elif share < 0.4:
                rows = linear(torch.cat([far_i, rows], dim=-1))
            else:
                rows = two(rows, far_i)
        if self.kind == "softmax":
            return rows * softmax(self.score(torch.cat([rows, far_i], dim=1)), index)
        return rows * roots_i * roots_j if self.kind == "norm" else rows


class Two(nn.Module):
    """Two of them."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.one, self.two = Conv(random, FEATURES, H), Conv(random, H, CLASSES)
        self.skip = nn.Linear(H, CLASSES) if random.random() < 0.5 else None

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        rows = self.one(x, edge_index).relu()
        made = self.two(rows, edge_index)
        return made if self.skip is None else made + self.skip(rows)


def build(random: Random) -> nn.Module:
    """A model by random numbers."""
    return Two(random)
