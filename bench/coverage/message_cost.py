"""What messages as programs cost beside the plain reduction: three models of one graph store.

satisfice generate products-like --nodes 20000 --edges 500000 --features 64 --classes 10 \
    --queries 1024 --store-as f32 --out made
python bench/coverage/message_cost.py made/graph models
satisfice precompute models/plain        # and models/program, models/gated
satisfice evaluate models/plain --queries made/queries.safetensors

``plain``: GraphSAGE written by hand, as it is exported. ``program``: the same sidecar with its
reductions as messages that a program makes. ``gated``: a message of both ends.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python/src"))

from satisfice import export_pyg  # noqa: E402

WIDTH, CLASSES = 64, 10


class Sage(MessagePassing):
    """The mean of sources beside a map of the node's own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(aggr="mean")
        self.near, self.own = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.near(self.propagate(edge_index, x=x)) + self.own(x)

    def message(self, x_j: Tensor) -> Tensor:
        return x_j


class Gated(Sage):
    """What sources send, times a gate of both ends."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gate = nn.Linear(2 * inputs, inputs)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:  # type: ignore[override]
        return x_j * self.gate(torch.cat([x_i, x_j], dim=-1)).sigmoid()


class Two(nn.Module):
    """Two layers of a kind."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.one, self.two = kind(WIDTH, WIDTH), kind(WIDTH, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.two(self.one(x, edge_index).relu(), edge_index)


def main(store: Path, out: Path) -> None:
    """Writes the models."""
    torch.manual_seed(0)
    for name, kind in (("plain", Sage), ("gated", Gated)):
        directory = out / name
        relative = os.path.relpath(store, directory)
        export_pyg(Two(kind).eval(), None, directory, graph_store=relative, overwrite=True)
    shutil.copytree(out / "plain", out / "program", dirs_exist_ok=True)
    sidecar = out / "program/model.toml"
    text = sidecar.read_text()
    if text.count('type = "propagate"') != 2:
        raise SystemExit("GraphSAGE written by hand is no plain reduction any more")
    sidecar.write_text(text.replace('type = "propagate"', 'type = "message"'))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
