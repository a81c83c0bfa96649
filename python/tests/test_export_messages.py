"""Message passing of one's own: what a recorded run becomes, proved by the export's check."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import EdgeConv, MessagePassing
from torch_geometric.utils import (
    add_remaining_self_loops,
    add_self_loops,
    degree,
    remove_self_loops,
    scatter,
    softmax,
)

from satisfice import ExportError, export_pyg

LOOPS = {
    "kept": lambda edges, nodes: edges,
    "added": lambda edges, nodes: add_self_loops(edges, num_nodes=nodes)[0],
    "replaced": lambda edges, nodes: add_remaining_self_loops(edges, num_nodes=nodes)[0],
    "removed": lambda edges, nodes: remove_self_loops(edges)[0],
}


class Conv(MessagePassing):
    """Messages that a function makes of both ends, over some of the edges."""

    def __init__(self, make: Any, loops: str = "kept", **options: Any) -> None:
        super().__init__(**options)
        self.make, self.loops = make, LOOPS[loops]
        self.near, self.own = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.propagate(self.loops(edge_index, len(x)), x=self.near(x), own=self.own(x))

    def message(self, x_j: Tensor, own_i: Tensor, index: Tensor) -> Any:
        return self.make(x_j, own_i, index)


class Rows(nn.Module):
    """A function of rows and edges, without layers."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run, self.lin = run, nn.Linear(6, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.run(self.lin(x), *edge_index)


def layers(path: Path, model: nn.Module) -> list[dict[str, Any]]:
    export_pyg(model, None, path / "m")
    found: list[dict[str, Any]] = tomllib.loads((path / "m/model.toml").read_text())["layers"]
    return found


@pytest.mark.parametrize("aggr", ["sum", "mean", "max"])
def test_what_a_source_sends_alone_is_a_plain_reduction(tmp_path: Path, aggr: str) -> None:
    (layer,) = layers(tmp_path, Conv(lambda near, own, index: near.relu(), aggr=aggr))
    assert layer["type"] == "propagate"
    assert layer.get("aggregator", "sum") == aggr


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("aggr", ["sum", "mean", "max", "min"])
def test_both_ends_are_a_program_over_the_edges_as_the_model_has_them(
    tmp_path: Path, aggr: str, loops: str
) -> None:
    (layer,) = layers(
        tmp_path, Conv(lambda near, own, index: (near + own).tanh(), loops, aggr=aggr)
    )
    assert (layer["type"], layer["target"]) == ("message", 4)
    assert layer.get("self_loops", "kept") == loops
    assert layer["aggregator"] == aggr.replace("min", "max")


@pytest.mark.parametrize("loops", LOOPS)
def test_a_softmax_over_in_edges_is_one_layer(tmp_path: Path, loops: str) -> None:
    def make(near: Tensor, own: Tensor, index: Tensor) -> Tensor:
        return softmax((near * own).sum(dim=-1, keepdim=True).tanh(), index) * near

    (layer,) = layers(tmp_path, Conv(make, loops, aggr="sum"))
    assert (layer["type"], layer["aggregator"]) == ("message", "softmax")


def test_a_softmax_that_is_no_weight_is_said_by_steps(tmp_path: Path) -> None:
    def make(near: Tensor, own: Tensor, index: Tensor) -> Tensor:
        return softmax(near + own, index).sqrt()

    found = layers(tmp_path, Conv(make, aggr="sum"))
    assert [layer["aggregator"] for layer in found] == ["max", "sum", "sum"]


def test_what_the_target_multiplies_comes_after_the_sum(tmp_path: Path) -> None:
    (layer,) = layers(tmp_path, Conv(lambda near, own, index: own * near, aggr="sum"))
    assert layer["type"] == "propagate"
    assert "mul" in [op["op"] for op in layer["after"]]


def test_the_map_of_both_ends_is_made_once_a_node(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = EdgeConv(nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)))

        def forward(self, x: Tensor, edge_index: Tensor) -> Any:
            return self.conv(x, edge_index)

    (layer,) = layers(tmp_path, Net())
    assert [op["op"] for op in layer["program"]] == ["add", "relu", "linear"]
    assert (layer["in"], layer["target"]) == (10, 5)


def norm_gcn(h: Tensor, source: Tensor, target: Tensor) -> Tensor:
    roots = degree(target, len(h)).pow(-0.5)
    roots[roots == float("inf")] = 0
    weighed = (roots[source] * roots[target]).view(-1, 1) * h[source]
    return torch.zeros_like(h).index_add_(0, target, weighed)


def mean_by_hand(h: Tensor, source: Tensor, target: Tensor) -> Tensor:
    total = torch.zeros_like(h).index_add(0, target, h[source])
    return total / degree(target, len(h)).clamp(min=1).unsqueeze(-1)


def scattered_mean(h: Tensor, source: Tensor, target: Tensor) -> Tensor:
    return scatter(h[source], target, dim=0, dim_size=len(h), reduce="mean")


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        (norm_gcn, {"norm": "symmetric", "self_loops": False}),
        (mean_by_hand, {"aggregator": "mean"}),
        (scattered_mean, {"aggregator": "mean"}),
    ],
    ids=["norm", "mean by hand", "mean"],
)
def test_norms_of_degrees_are_those_of_the_library(
    tmp_path: Path, run: Any, wanted: dict[str, Any]
) -> None:
    (layer,) = layers(tmp_path, Rows(run))
    assert layer["type"] == "propagate"
    assert {key: layer[key] for key in wanted} == wanted


def test_a_degree_is_a_row_like_others(tmp_path: Path) -> None:
    def run(h: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return h * torch.log(degree(target, len(h)) + 1).view(-1, 1)

    (layer,) = layers(tmp_path, Rows(run))
    assert (layer["type"], layer["in"]) == ("propagate", 1)


REFUSED = {
    "to sources": (
        lambda h, source, target: torch.zeros_like(h).index_add(0, source, h[target]),
        r"at the targets.*test_export_messages.py, line \d+",
    ),
    "other rows": (
        lambda h, source, target: torch.zeros_like(h).index_add(0, target, h[source.flip(0)]),
        "neither the sources nor the targets",
    ),
    "out-degrees": (
        lambda h, source, target: h * degree(source, len(h)).view(-1, 1),
        "number of edges out of a node",
    ),
    "products": (
        lambda h, source, target: scatter(h[source], target, 0, len(h), reduce="mul"),
        "`scatter_reduce_` reduces messages by 'prod'",
    ),
}


@pytest.mark.parametrize(("run", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path, run: Any, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        layers(tmp_path, Rows(run))
