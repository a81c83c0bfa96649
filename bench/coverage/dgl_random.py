"""Models of DGL put together at random."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import dgl.nn as d
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from dgl_nets import Mlp, Net
from measure import CLASSES, FEATURES


@dataclass
class Step:
    """A layer and what follows it; how the heads of attention are joined."""

    index: int
    heads: str
    skip: str
    activation: Any


def build(random: Random) -> nn.Module:
    """A model that `random` chooses."""
    steps: list[Step] = []
    parts: dict[str, nn.Module] = {}
    width, widths = FEATURES, []
    for index in range(random.randint(1, 3)):
        conv, out, heads = _layer(random, width)
        skip = random.choice(["none", "input" if out == width else "linear", "linear"])
        norm = random.choice([nn.Identity, nn.BatchNorm1d, nn.LayerNorm])(out)
        parts |= {f"conv{index}": conv, f"norm{index}": norm}
        if skip == "linear":
            parts[f"skip{index}"] = nn.Linear(width, out)
        steps.append(Step(index, heads, skip, random.choice([torch.relu, torch.tanh, f.elu])))
        widths.append(width := out)
    joined = random.random() < 0.5
    parts["out"] = nn.Linear(sum(widths) if joined else width, CLASSES)
    return Net(lambda net, g, x: _run(net, steps, joined, g, x), **parts)


def _layer(random: Random, width: int) -> tuple[nn.Module, int, str]:
    """A layer that reads rows of this width, the width that it leaves, and its heads."""
    out, flag = random.choice([width, 8, 12]), random.random() < 0.5
    act = random.choice([None, f.relu, nn.ELU(), nn.PReLU()])
    any_degree = {"allow_zero_in_degree": True}
    norm = random.choice(["both", "right", "left", "none"])
    layers: list[tuple[Any, int, str]] = [
        (
            lambda: d.GraphConv(width, out, norm=norm, activation=act, bias=flag, **any_degree),
            out,
            "",
        ),
        (lambda: d.GraphConv(width, width, weight=False, bias=False, **any_degree), width, ""),
        (lambda: d.SAGEConv(width, out, "mean", activation=act, norm=nn.LayerNorm(out)), out, ""),
        (lambda: d.SAGEConv(width, out, "pool", bias=flag), out, ""),
        (lambda: d.SAGEConv(width, out, "gcn"), out, ""),
        (
            lambda: d.GATConv(width, out // 2, 2, residual=flag, activation=act, **any_degree),
            out,
            "flatten",
        ),
        (lambda: d.GATConv(width, out, 3, residual=flag, bias=not flag, **any_degree), out, "mean"),
        (lambda: d.GATv2Conv(width, out // 2, 2, share_weights=flag, **any_degree), out, "view"),
        (lambda: d.GINConv(Mlp(width, out), "sum", learn_eps=True), out, ""),
        (lambda: d.GINConv(nn.Linear(width, out), "max", init_eps=0.3), out, ""),
        (lambda: d.SGConv(width, out, k=1, **any_degree), out, ""),
        (lambda: d.TAGConv(width, out, k=1), out, ""),
    ]
    make, left, heads = random.choice(layers)
    return make(), left, heads


def _run(net: Any, steps: list[Step], joined: bool, g: Any, x: Tensor) -> Tensor:
    levels = []
    for step in steps:
        made = getattr(net, f"conv{step.index}")(g, x)
        if step.heads == "flatten":
            made = made.flatten(1)
        if step.heads == "mean":
            made = made.mean(dim=1)
        if step.heads == "view":
            made = made.view(len(x), -1)
        made = getattr(net, f"norm{step.index}")(made)
        if step.skip != "none":
            made = made + (x if step.skip == "input" else getattr(net, f"skip{step.index}")(x))
        x = step.activation(made)
        levels.append(x)
    return net.out(torch.cat(levels, dim=1) if joined else x)
