import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional

from satisfice import ExportError, export_dgl

dgl = pytest.importorskip("dgl")
dgl_nn = pytest.importorskip("dgl.nn")


class Stack(nn.Module):
    def __init__(self, *convs: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        for name, module in others.items():
            self.add_module(name, module)


def graph(self_loops: bool = False) -> Any:
    made = dgl.graph((torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 1])))
    made.ndata["feat"] = torch.randn(3, 4)
    made.ndata["label"] = torch.tensor([0, 1, -1])
    return dgl.add_self_loop(made) if self_loops else made


def exported(
    path: Path, model: nn.Module, **options: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if isinstance(model, Stack):
        options.setdefault("check", False)
    export_dgl(model, None, path / "m", overwrite=True, **options)
    return tomllib.loads((path / "m/model.toml").read_text()), load_file(
        path / "m/1/weights.safetensors"
    )


def test_a_model_directory_is_written_whole(tmp_path: Path) -> None:
    model = Stack(dgl_nn.GraphConv(4, 8), dgl_nn.GraphConv(8, 3, norm="right", bias=False))
    path = export_dgl(
        model, graph(), tmp_path / "m", activation="relu", class_names=["a", "b"], check=False
    )
    assert tomllib.loads((path / "model.toml").read_text()) == {
        "format": 1,
        "kind": "gnn",
        "framework": "dgl",
        "graph": "graph",
        "output": "logits",
        "layers": [
            {
                "type": "gcn",
                "tensors": "convs.0",
                "in": 4,
                "out": 8,
                "bias": True,
                "norm": "both",
                "after": [{"op": "relu"}],
            },
            {
                "type": "gcn",
                "tensors": "convs.1",
                "in": 8,
                "out": 3,
                "bias": False,
                "norm": "right",
            },
        ],
    }
    assert load_file(path / "1/weights.safetensors")["convs.0.weight"].shape == (4, 8)
    tensors = load_file(path / "graph.safetensors")
    assert tensors["y"].tolist() == [0, 1, -1]
    with safe_open(path / "graph.safetensors", "numpy") as file:
        assert file.metadata()["undirected"] == "true"


@pytest.mark.parametrize("self_loops", [True, False])
def test_self_loops_on_every_node_are_found(tmp_path: Path, self_loops: bool) -> None:
    path = export_dgl(Stack(dgl_nn.GraphConv(4, 3)), graph(self_loops), tmp_path / "m", check=False)
    sidecar = tomllib.loads((path / "model.toml").read_text())
    assert sidecar.get("query_self_loops", False) is self_loops


def test_layers_bring_their_own_activation_and_norm(tmp_path: Path) -> None:
    sage = dgl_nn.SAGEConv(4, 8, "pool", activation=functional.relu, norm=nn.BatchNorm1d(8))
    sidecar, weights = exported(tmp_path, Stack(sage, dgl_nn.SAGEConv(8, 3, "gcn")))
    assert sidecar["layers"][0]["aggregator"] == "pool"
    assert sidecar["layers"][0]["after"] == [
        {"op": "relu"},
        {"op": "batch_norm", "tensors": "convs.0.norm", "eps": 1e-5},
    ]
    assert {"convs.0.fc_pool.weight", "convs.0.fc_self.bias", "convs.1.bias"} <= weights.keys()


def test_hidden_heads_are_flattened_and_the_last_averaged(tmp_path: Path) -> None:
    model = Stack(dgl_nn.GATConv(4, 2, 4), dgl_nn.GATConv(8, 3, 4))
    sidecar, _ = exported(tmp_path, model, activation=functional.elu)
    assert [layer["concat"] for layer in sidecar["layers"]] == [True, False]
    sidecar, _ = exported(tmp_path, model, activation=functional.elu, flatten=[True, True])
    assert [layer["concat"] for layer in sidecar["layers"]] == [True, True]
    with pytest.raises(ExportError, match="flatten has 1 values for 2"):
        exported(tmp_path, model, activation=functional.elu, flatten=[True])


def test_residuals_of_gat(tmp_path: Path) -> None:
    model = Stack(dgl_nn.GATConv(4, 2, 4, residual=True), dgl_nn.GATConv(8, 2, 4, residual=True))
    sidecar, weights = exported(tmp_path, model, activation="elu")
    assert [layer["residual"] for layer in sidecar["layers"]] == [True, "identity"]
    assert {"convs.0.bias", "convs.0.res_fc.weight", "convs.1.bias"} <= weights.keys()
    assert "convs.0.res_fc.bias" not in weights


def test_gatv2(tmp_path: Path) -> None:
    model = Stack(dgl_nn.GATv2Conv(4, 3, 2, residual=True, share_weights=True))
    sidecar, weights = exported(tmp_path, model)
    layer = sidecar["layers"][0]
    assert (layer["type"], layer["share_weights"], layer["bias"], layer["residual"]) == (
        "gatv2",
        True,
        True,
        True,
    )
    assert weights.keys() == {
        "convs.0.attn",
        "convs.0.fc_src.weight",
        "convs.0.fc_src.bias",
        "convs.0.res_fc.weight",
        "convs.0.res_fc.bias",
    }


@pytest.mark.parametrize("aggregator", ["sum", "mean", "max"])
def test_gin(tmp_path: Path, aggregator: str) -> None:
    mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    sidecar, weights = exported(tmp_path, Stack(dgl_nn.GINConv(mlp, aggregator)))
    layer = sidecar["layers"][0]
    assert (layer["aggregator"], layer["in"], layer["out"]) == (aggregator, 4, 3)
    assert layer["mlp"][0]["tensors"] == "convs.0.apply_func.0"
    assert weights["convs.0.eps"].shape == (1,)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            dgl_nn.SAGEConv(4, 4, "mean", activation=functional.relu) for _ in range(2)
        )

    def forward(self, graph: Any, rows: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            rows = conv(graph, rows) + rows
        return rows


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_answer_is_checked(tmp_path: Path) -> None:
    model = Residual()
    wrong = [(f"convs.{i}", conv, []) for i, conv in enumerate(model.convs)]
    with pytest.raises(ExportError, match="not that of the layers described"):
        exported(tmp_path, model, layers=wrong)
    layers = [(f"convs.{i}", conv, ["residual"]) for i, conv in enumerate(model.convs)]
    sidecar, weights = exported(tmp_path, model, layers=layers)
    recorded, same = exported(tmp_path, model)
    assert recorded == sidecar
    assert same.keys() == weights.keys()
    assert sidecar["layers"][0]["after"] == [{"op": "relu"}, {"op": "residual"}]
    assert model.convs[0].activation is functional.relu


def test_gcnii(tmp_path: Path) -> None:
    convs = [dgl_nn.GCN2Conv(8, layer=i + 1, activation=functional.relu) for i in range(2)]
    model = Stack(*convs, encoder=nn.Linear(4, 8), decoder=nn.Linear(8, 3))
    sidecar, _ = exported(tmp_path, model, input=[model.encoder, "relu"], head=[model.decoder])
    layer = sidecar["layers"][1]
    assert (layer["norm"], layer["shared_weights"], layer["bias"]) == ("in_degree", True, True)
    assert layer["beta"] == pytest.approx(np.log(1 / 2 + 1))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: Stack(dgl_nn.SAGEConv(4, 3, "lstm")), {}, "aggregates by 'lstm'"),
        (lambda: Stack(dgl_nn.GraphConv(4, 3, weight=False)), {}, "weight=False"),
        (lambda: Stack(dgl_nn.SAGEConv((4, 5), 3, "mean")), {}, "two widths"),
        (lambda: Stack(dgl_nn.GATConv((4, 4), 3, 2)), {}, "two kinds of node"),
        (
            lambda: Stack(dgl_nn.GATConv(4, 3, 2, activation=functional.elu)),
            {},
            "before their mean",
        ),
        (lambda: Stack(dgl_nn.GINConv()), {}, "no apply_func"),
        (
            lambda: Stack(dgl_nn.GraphConv(4, 8), dgl_nn.GraphConv(8, 3)),
            {},
            "pass activation='relu'",
        ),
        (
            lambda: Stack(dgl_nn.GraphConv(4, 3), lin=nn.Linear(3, 2)),
            {},
            "belong to no exported layer",
        ),
        (lambda: Stack(dgl_nn.ChebConv(4, 3, 2)), {}, "no layer that is known"),
        (
            lambda: Stack(dgl_nn.GraphConv(4, 3)),
            {"head": [nn.InstanceNorm1d(3)]},
            "over the whole graph",
        ),
    ],
)
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, model: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_dgl(model(), None, tmp_path / "m", check=False, **options)
    assert not list(tmp_path.iterdir())


def test_features_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no 'x', only"):
        export_dgl(
            Stack(dgl_nn.GraphConv(4, 3)), graph(), tmp_path / "m", features="x", check=False
        )
    assert not list(tmp_path.iterdir())
