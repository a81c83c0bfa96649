"""DGL's message passing by hand: what a recorded run becomes, proved by the export's check."""

import tomllib
from pathlib import Path
from typing import Any

import dgl
import pytest
import torch
from dgl import function as fn
from dgl.nn.functional import edge_softmax
from torch import nn
from torch.nn import functional

from satisfice import ExportError, export_dgl


class Net(nn.Module):
    """A function of a graph whose nodes have rows `h`, and the target's `own`."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run, self.near, self.own = run, nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, g: Any, x: Any) -> Any:
        with g.local_scope():
            g.ndata["h"], g.ndata["own"] = self.near(x), self.own(x)
            self.run(g)
            return g.ndata["h"]


def layers(path: Path, run: Any, graph: Any = None) -> list[dict[str, Any]]:
    export_dgl(Net(run), graph, path / "m")
    found: list[dict[str, Any]] = tomllib.loads((path / "m/model.toml").read_text())["layers"]
    return found


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_built_in_functions_of_sources_are_plain_reductions(tmp_path: Path, reduce: str) -> None:
    def run(g: Any) -> None:
        g.update_all(fn.copy_u("h", "m"), getattr(fn, reduce)("m", "h"))

    (layer,) = layers(tmp_path, run)
    assert layer["type"] == "propagate"
    assert layer.get("aggregator", "sum") == reduce.replace("min", "max")


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("message", ["add", "sub", "mul", "div"])
def test_built_in_functions_of_both_ends(tmp_path: Path, message: str, reduce: str) -> None:
    def run(g: Any) -> None:
        g.ndata["own"] = g.ndata["own"].sigmoid() + 1
        made = getattr(fn, f"u_{message}_v")("h", "own", "m")
        g.update_all(made, getattr(fn, reduce)("m", "h"))

    (layer,) = layers(tmp_path, run)
    # What the target multiplies comes after a sum.
    pulled = message in ("mul", "div") and reduce in ("sum", "mean")
    assert layer["type"] == ("propagate" if pulled else "message")


def of_mailbox(take: Any) -> Any:
    def run(g: Any) -> None:
        send = lambda edges: {"m": (edges.src["h"] + edges.dst["own"]).tanh()}  # noqa: E731
        g.update_all(send, lambda nodes: {"h": take(nodes.mailbox["m"], nodes.data)})

    return run


@pytest.mark.parametrize(
    "take",
    [
        lambda mail, _: mail.sum(1),
        lambda mail, _: torch.mean(mail, dim=1),
        lambda mail, _: mail.max(dim=1).values,
        lambda mail, _: (2.0 * mail.exp()).min(1)[0],
        lambda mail, _: (functional.softmax(mail, dim=1) * mail).sum(dim=1),
        lambda mail, _: (torch.relu(-mail) + 1).sum(-2),
        lambda mail, _: functional.leaky_relu(mail).mean(1) + 1.0,
        lambda mail, data: mail.sum(1) - data["own"],
        lambda mail, data: (mail * data["own"].unsqueeze(1)).sum(1),
    ],
)
def test_functions_of_a_mailbox(tmp_path: Path, take: Any) -> None:
    found = layers(tmp_path, of_mailbox(take))
    assert "message" in {layer["type"] for layer in found}


def test_edge_softmax_is_one_layer(tmp_path: Path) -> None:
    def run(g: Any) -> None:
        g.apply_edges(fn.u_dot_v("h", "own", "e"))
        g.edata["a"] = edge_softmax(g, functional.leaky_relu(g.edata["e"]))
        g.update_all(fn.u_mul_e("h", "a", "m"), fn.sum("m", "h"))

    (layer,) = layers(tmp_path, run)
    assert (layer["type"], layer["aggregator"]) == ("message", "softmax")


def test_dgl_is_as_before_after_an_export(tmp_path: Path) -> None:
    kept = dgl.core.invoke_udf_reduce
    with pytest.raises(ExportError):
        layers(tmp_path, of_mailbox(lambda mail, _: mail.cumsum(1)))
    assert dgl.core.invoke_udf_reduce is kept


def weighted(g: Any) -> None:
    g.update_all(fn.u_mul_e("h", "w", "m"), fn.sum("m", "h"))


def by_source(g: Any) -> None:
    g.apply_edges(fn.u_dot_v("h", "own", "e"))
    g.edata["a"] = edge_softmax(g, g.edata["e"], norm_by="src")
    g.update_all(fn.u_mul_e("h", "a", "m"), fn.sum("m", "h"))


REFUSED = {
    "median": (of_mailbox(lambda mail, _: mail.median(1)[0]), "`median` to nodes.mailbox"),
    "count": (of_mailbox(lambda mail, _: mail.sum(1) / mail.shape[1]), "`shape` to nodes.mailbox"),
    "by source": (by_source, "reduces by the sources"),
}


@pytest.mark.parametrize(("run", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path, run: Any, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        layers(tmp_path, run)


def test_values_of_edges_are_refused(tmp_path: Path) -> None:
    graph = dgl.rand_graph(20, 60)
    graph.ndata["feat"], graph.edata["w"] = torch.randn(20, 6), torch.rand(60, 1)
    with pytest.raises(ExportError, match=r"values of edges \[47, 1\] are read"):
        layers(tmp_path, weighted, graph)
