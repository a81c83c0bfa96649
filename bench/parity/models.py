"""What the cases of both frameworks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphs import StoredGraph
from plans import Steps


@dataclass
class Case:
    """A model to compare: how to make it, cut it into steps, and export it."""

    name: str
    model: Callable[[], nn.Module]
    steps: Callable[[Any], Steps]
    export: Callable[[Any, StoredGraph, Path], None]
    self_loops: bool = False
    """Every stored node and every query has a self-loop."""


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Parameters and running statistics that hide nothing: no zero biases, no unit variances."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in model.modules():
        for name, tensor in [
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ]:
            if name == "running_var" or (name == "weight" and tensor.dim() == 1):
                uniform(tensor, 0.5, 1.5)
            elif name == "eps":
                uniform(tensor, 0.1, 0.4)
            elif tensor.is_floating_point() and tensor.dim() == 1:
                uniform(tensor, -0.5, 0.5)
            elif tensor.is_floating_point():
                bound = (3.0 / tensor.shape[-1]) ** 0.5
                uniform(tensor, -bound, bound)
    return model.eval()
