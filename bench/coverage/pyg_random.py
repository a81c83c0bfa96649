"""Models put together at random: layers, norms, activations, skips and joins that nobody chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
import torch_geometric.nn as g
from torch import Tensor, nn
from torch.nn import functional as f

from measure import CLASSES, FEATURES
from pyg_nets import Mlp, Net

ACTIVATIONS = ("relu", "elu", "leaky_relu", "tanh", "silu", "gelu", "none")


@dataclass
class Step:
    """A layer and what follows it."""

    index: int
    activation: str
    skip: str
    skip_first: bool


@dataclass
class Plan:
    """What a random model does."""

    steps: list[Step] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    join: str = "last"


def build(random: Random) -> nn.Module:
    """A model that `random` chooses."""
    plan, parts = Plan(), {}
    width = FEATURES
    if random.random() < 0.4:
        width = random.choice([8, 12])
        parts["inp"] = nn.Linear(FEATURES, width)
    first = width
    for index in range(random.randint(1, 4)):
        conv, out = _layer(random, width)
        norm = random.choice([nn.Identity, nn.BatchNorm1d, nn.LayerNorm, g.BatchNorm])(out)
        skip = random.choice(["none", "none", "input" if out == width else "linear", "linear"])
        parts |= {f"conv{index}": conv, f"norm{index}": norm}
        if skip == "linear":
            parts[f"skip{index}"] = nn.Linear(width, out)
        step = Step(index, random.choice(ACTIVATIONS), skip, random.random() < 0.5)
        plan.steps.append(step)
        plan.widths.append(width := out)
    equal = len(set(plan.widths)) == 1
    plan.join = random.choice(["last", "cat", "cat with input", "sum" if equal else "cat"])
    inputs = {"last": width, "sum": width, "cat": sum(plan.widths)}
    inputs["cat with input"] = first + sum(plan.widths)
    parts["out"] = nn.Linear(inputs[plan.join], CLASSES)
    return Net(lambda net, x, edges: _run(net, plan, x, edges), **parts)


def _layer(random: Random, width: int) -> tuple[nn.Module, int]:
    """A layer that reads rows of this width, and the width that it leaves."""
    out = random.choice([width, width, 8, 12])
    loops = random.random() < 0.8
    layers: list[tuple[Any, int]] = [
        (lambda: g.GCNConv(width, out, add_self_loops=loops), out),
        (lambda: g.SAGEConv(width, out, normalize=not loops), out),
        (lambda: g.SAGEConv(width, out, aggr="max", root_weight=loops), out),
        (lambda: g.SAGEConv(width, out, aggr="sum"), out),
        (lambda: g.GATConv(width, out // 2, heads=2, residual=not loops), out),
        (lambda: g.GATv2Conv(width, out, heads=2, concat=False, share_weights=loops), out),
        (lambda: g.GINConv(Mlp(width, out), train_eps=True), out),
        (lambda: g.GraphConv(width, out, aggr="mean" if loops else "max"), out),
        (lambda: g.LGConv(normalize=loops), width),
        (lambda: g.SimpleConv("mean", combine_root="sum" if loops else None), width),
        (lambda: g.SGConv(width, out, K=1), out),
        (lambda: g.TAGConv(width, out, K=1), out),
    ]
    make, left = random.choice(layers)
    return make(), left


def _run(net: Any, plan: Plan, x: Tensor, edges: Tensor) -> Tensor:
    x = net.inp(x) if hasattr(net, "inp") else x
    levels = [x]
    for step in plan.steps:
        made = getattr(net, f"norm{step.index}")(getattr(net, f"conv{step.index}")(x, edges))
        made = made if step.skip_first else _activated(step, made)
        if step.skip != "none":
            made = made + (x if step.skip == "input" else getattr(net, f"skip{step.index}")(x))
        made = _activated(step, made) if step.skip_first else made
        x = f.dropout(made, 0.5, training=net.training)
        levels.append(x)
    if plan.join == "last":
        return net.out(x)
    if plan.join == "sum":
        return net.out(sum(levels[1:]))
    return net.out(torch.cat(levels if plan.join == "cat with input" else levels[1:], dim=-1))


def _activated(step: Step, rows: Tensor) -> Tensor:
    return rows if step.activation == "none" else getattr(f, step.activation)(rows)
