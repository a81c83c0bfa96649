import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    MLP,
    BatchNorm,
    GATConv,
    GATv2Conv,
    GCN2Conv,
    GCNConv,
    GINConv,
    GraphNorm,
    GraphSAGE,
    JumpingKnowledge,
    SAGEConv,
)

from satisfice import ExportError, export_pyg

EDGES = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])


def data(**extra: Any) -> Data:
    return Data(x=torch.randn(3, 4), edge_index=EDGES, y=torch.tensor([0, 1, 1]), **extra)


def exported(
    path: Path, model: nn.Module, **options: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The sidecar and the weights."""
    if isinstance(model, Stack):
        options.setdefault("check", False)
    export_pyg(model, None, path / "m", overwrite=True, **options)
    return tomllib.loads((path / "m/model.toml").read_text()), load_file(
        path / "m/1/weights.safetensors"
    )


class Plain(nn.Module):
    """Two layers with what a test puts after them; `forward` is there to be compared with."""

    def __init__(self, between: Any, last: Any = lambda rows, x: rows) -> None:
        super().__init__()
        self.convs = nn.ModuleList([SAGEConv(4, 4), SAGEConv(4, 4)])
        self.between, self.last = between, last

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        hidden = self.between(self.convs[0](x, edges), x)
        return self.last(self.convs[1](hidden, edges), hidden)


class Stack(nn.Module):
    """Layers of a model that does not say how they are run, so that nothing is checked."""

    def __init__(self, *convs: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        for name, module in others.items():
            self.add_module(name, module)


def test_a_model_directory_is_written_whole(tmp_path: Path) -> None:
    path = export_pyg(
        GCN(4, 8, 2, 3),
        data(),
        tmp_path / "gcn",
        default_plan="recompute:25%",
        ids=["a", "b", "c"],
        class_names=["x", "y"],
        feature_dtype="float16",
        graph_store="../store",
        version=2,
    )
    sidecar = tomllib.loads((path / "model.toml").read_text())
    assert sidecar == {
        "format": 1,
        "kind": "gnn",
        "framework": "pyg",
        "graph": "../store",
        "output": "logits",
        "default_plan": "recompute:25%",
        "layers": [
            {
                "type": "gcn",
                "tensors": "convs.0",
                "in": 4,
                "out": 8,
                "bias": True,
                "norm": "symmetric",
                "self_loops": True,
                "after": [{"op": "relu"}],
            },
            {
                "type": "gcn",
                "tensors": "convs.1",
                "in": 8,
                "out": 3,
                "bias": True,
                "norm": "symmetric",
                "self_loops": True,
            },
        ],
    }
    assert load_file(path / "2/weights.safetensors").keys() == {
        "convs.0.lin.weight",
        "convs.0.bias",
        "convs.1.lin.weight",
        "convs.1.bias",
    }
    graph = load_file(path / "graph.safetensors")
    assert graph["x"].dtype == np.float16
    assert graph.keys() == {"edge_index", "x", "y", "id_offsets", "id_bytes"}


def test_weights_are_the_models_own_as_float32(tmp_path: Path) -> None:
    model = GraphSAGE(4, 8, 2, 3).double()
    _, weights = exported(tmp_path, model)
    for name, tensor in model.state_dict().items():
        assert weights[name].dtype == np.float32
        assert np.array_equal(weights[name], tensor.float().numpy())


def test_norms_follow_the_convolution_and_activations_the_norm(tmp_path: Path) -> None:
    norm = {"op": "batch_norm", "tensors": "norms.0.module", "eps": 1e-5}
    sidecar, weights = exported(tmp_path, GCN(4, 8, 2, 3, norm="batch_norm"))
    assert sidecar["layers"][0]["after"] == [norm, {"op": "relu"}]
    assert "norms.0.module.running_var" in weights
    assert "norms.0.module.num_batches_tracked" not in weights
    sidecar, _ = exported(tmp_path, GCN(4, 8, 2, 3, norm="batch_norm", act_first=True))
    assert sidecar["layers"][0]["after"] == [{"op": "relu"}, norm]


def test_norm_options(tmp_path: Path) -> None:
    options = {"norm": "layer_norm", "norm_kwargs": {"mode": "node", "affine": False, "eps": 1e-3}}
    sidecar, weights = exported(tmp_path, GCN(4, 8, 2, 3, **options))
    assert sidecar["layers"][0]["after"][0] == {
        "op": "layer_norm",
        "tensors": "norms.0",
        "eps": 1e-3,
        "affine": False,
    }
    assert not any(name.startswith("norms") for name in weights)


@pytest.mark.parametrize(
    ("act", "act_kwargs", "op"),
    [
        ("elu", {"alpha": 0.5}, {"op": "elu", "alpha": 0.5}),
        ("leaky_relu", {"negative_slope": 0.1}, {"op": "leaky_relu", "negative_slope": 0.1}),
        ("gelu", None, {"op": "gelu"}),
        ("swish", None, {"op": "silu"}),
        ("tanh", None, {"op": "tanh"}),
        (functional.relu, None, {"op": "relu"}),
        (torch.sigmoid, None, {"op": "sigmoid"}),
        (nn.SiLU(), None, {"op": "silu"}),
    ],
)
def test_activations(tmp_path: Path, act: Any, act_kwargs: Any, op: dict[str, Any]) -> None:
    sidecar, _ = exported(tmp_path, GCN(4, 8, 2, 3, act=act, act_kwargs=act_kwargs))
    assert sidecar["layers"][0]["after"] == [op]


def test_a_model_may_have_no_activation(tmp_path: Path) -> None:
    sidecar, _ = exported(tmp_path, GCN(4, 8, 2, 3, act=None))
    assert "after" not in sidecar["layers"][0]


@pytest.mark.parametrize("mode", ["cat", "max", "lstm", "last"])
def test_jumping_knowledge(tmp_path: Path, mode: str) -> None:
    sidecar, weights = exported(tmp_path, GraphSAGE(4, 8, 3, 5, jk=mode))
    width = 24 if mode == "cat" else 8
    assert sidecar["head"] == [{"op": "linear", "tensors": "lin", "in": width, "out": 5}]
    assert sidecar["layers"][2]["after"] == [{"op": "relu"}]
    tensors = {"tensors": "jk"} if mode == "lstm" else {}
    assert sidecar.get("jumping_knowledge") == (
        None if mode == "last" else {"mode": mode, **tensors}
    )
    assert ("jk.lstm.weight_ih_l0_reverse" in weights) == (mode == "lstm")


def test_embeddings_have_no_activation_after_the_last_layer(tmp_path: Path) -> None:
    sidecar, _ = exported(tmp_path, GraphSAGE(4, 8, 2), output="embeddings")
    assert sidecar["output"] == "embeddings"
    assert "after" not in sidecar["layers"][1]


def test_sage_options(tmp_path: Path) -> None:
    model = GraphSAGE(
        4, 8, 2, 3, aggr="max", project=True, normalize=True, root_weight=False, bias=False
    )
    sidecar, weights = exported(tmp_path, model)
    assert sidecar["layers"][1] == {
        "type": "sage",
        "tensors": "convs.1",
        "in": 8,
        "out": 3,
        "aggregator": "max",
        "bias": False,
        "root_weight": False,
        "project": True,
        "normalize": True,
    }
    assert {name for name in weights if name.startswith("convs.1")} == {
        "convs.1.lin.weight",
        "convs.1.lin.bias",
        "convs.1.lin_l.weight",
    }


def test_attention_concatenates_hidden_heads_and_averages_the_last(tmp_path: Path) -> None:
    sidecar, weights = exported(
        tmp_path, GAT(4, 8, 2, 3, heads=4, residual=True, negative_slope=0.3)
    )
    first, last = sidecar["layers"]
    assert (first["heads"], first["out"], first["concat"]) == (4, 2, True)
    assert (last["heads"], last["out"], last["concat"]) == (4, 3, False)
    assert first["residual"] is True
    assert first["negative_slope"] == 0.3
    assert "convs.0.res.weight" in weights


def test_shared_weights_are_written_once(tmp_path: Path) -> None:
    sidecar, weights = exported(tmp_path, GAT(4, 8, 2, 3, heads=2, v2=True, share_weights=True))
    assert sidecar["layers"][0]["share_weights"] is True
    assert "convs.0.lin_l.weight" in weights
    assert "convs.0.lin_r.weight" not in weights


def test_one_weight_with_two_names_gets_its_later_name(tmp_path: Path) -> None:
    conv = GATConv(4, 3, heads=2)
    weight = conv.lin
    del conv.lin
    conv.lin, conv.lin_src, conv.lin_dst = None, weight, weight
    _, weights = exported(tmp_path, Stack(conv))
    assert weights.keys() == {
        "convs.0.lin.weight",
        "convs.0.att_src",
        "convs.0.att_dst",
        "convs.0.bias",
    }


def test_gin_has_its_mlp(tmp_path: Path) -> None:
    sidecar, weights = exported(tmp_path, GIN(4, 8, 2, 3, norm="batch_norm", train_eps=True))
    first = sidecar["layers"][0]
    assert (first["type"], first["in"], first["out"]) == ("gin", 4, 8)
    assert [op["op"] for op in first["mlp"]] == ["linear", "batch_norm", "relu", "linear"]
    assert first["mlp"][1]["tensors"] == "convs.0.nn.norms.0.module"
    assert weights["convs.0.eps"].shape == (1,)


def test_gin_with_a_sequential_and_with_an_mlp_that_acts_last(tmp_path: Path) -> None:
    sequential = nn.Sequential(
        nn.Linear(4, 6, bias=False), nn.Dropout(0.5), nn.LeakyReLU(0.2), nn.Linear(6, 5)
    )
    sidecar, _ = exported(tmp_path, Stack(GINConv(sequential)))
    assert sidecar["layers"][0]["mlp"] == [
        {"op": "linear", "tensors": "convs.0.nn.0", "in": 4, "out": 6, "bias": False},
        {"op": "leaky_relu", "negative_slope": 0.2},
        {"op": "linear", "tensors": "convs.0.nn.3", "in": 6, "out": 5},
    ]
    sidecar, _ = exported(tmp_path, Stack(GINConv(MLP([4, 6, 5], norm=None, plain_last=False))))
    assert [op["op"] for op in sidecar["layers"][0]["mlp"]] == ["linear", "relu", "linear", "relu"]


def test_improved_gets_the_weight_that_the_release_really_uses(tmp_path: Path) -> None:
    conv = GCNConv(4, 3, improved=True)
    sidecar, _ = exported(tmp_path, Stack(conv))
    weight = sidecar["layers"][0].get("self_loop_weight", 1.0)
    x, edges = torch.eye(2, 4), torch.tensor([[0, 1], [1, 0]])
    conv.bias.data.zero_()
    answer = conv(x, edges)[0]
    own, other = (conv.lin.weight.T[i] for i in (0, 1))
    expected = (weight * own + other) / (1 + weight)
    assert torch.allclose(answer, expected, atol=1e-6)


class Gcnii(nn.Module):
    def __init__(self, shared_weights: bool) -> None:
        super().__init__()
        self.lins = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 3)])
        self.convs = nn.ModuleList(GCN2Conv(8, 0.1, 0.5, i + 1, shared_weights) for i in range(2))

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        x = first = self.lins[0](x).relu()
        for conv in self.convs:
            x = conv(x, first, edges).relu()
        return self.lins[1](x)


@pytest.mark.parametrize("shared_weights", [True, False])
def test_gcnii_is_recognised(tmp_path: Path, shared_weights: bool) -> None:
    sidecar, weights = exported(tmp_path, Gcnii(shared_weights))
    assert sidecar["input"] == [
        {"op": "linear", "tensors": "lins.0", "in": 4, "out": 8},
        {"op": "relu"},
    ]
    assert sidecar["head"] == [{"op": "linear", "tensors": "lins.1", "in": 8, "out": 3}]
    layer = sidecar["layers"][1]
    assert layer["beta"] == pytest.approx(np.log(0.5 / 2 + 1))
    assert layer["shared_weights"] is shared_weights
    assert ("convs.1.weight2" in weights) is not shared_weights


def test_a_hand_written_model_needs_its_activation(tmp_path: Path) -> None:
    model = Stack(SAGEConv(4, 8), SAGEConv(8, 3))
    with pytest.raises(ExportError, match="pass activation='relu'"):
        exported(tmp_path, model)
    sidecar, _ = exported(tmp_path, model, activation="relu")
    assert [layer.get("after") for layer in sidecar["layers"]] == [[{"op": "relu"}], None]


def test_a_hand_written_model_in_full(tmp_path: Path) -> None:
    model = Stack(
        SAGEConv(8, 8),
        SAGEConv(8, 8),
        encoder=nn.Linear(4, 8),
        norm=BatchNorm(8),
        decoder=nn.Sequential(nn.ReLU(), nn.Linear(8, 3)),
    )
    layers = [
        ("convs.0", model.convs[0], [model.norm, functional.elu, "residual"]),
        ("convs.1", model.convs[1], ["l2_normalize", {"op": "elu", "alpha": 2.0}]),
    ]
    sidecar, _ = exported(
        tmp_path, model, layers=layers, input=[model.encoder], head=[model.decoder]
    )
    assert sidecar["input"] == [{"op": "linear", "tensors": "encoder", "in": 4, "out": 8}]
    assert sidecar["layers"][0]["after"] == [
        {"op": "batch_norm", "tensors": "norm.module", "eps": 1e-5},
        {"op": "elu"},
        {"op": "residual"},
    ]
    assert sidecar["layers"][1]["after"] == [{"op": "l2_normalize"}, {"op": "elu", "alpha": 2.0}]
    assert sidecar["head"] == [
        {"op": "relu"},
        {"op": "linear", "tensors": "decoder.1", "in": 8, "out": 3},
    ]


@pytest.mark.parametrize(
    "last",
    [
        lambda rows, _: rows,
        lambda rows, _: functional.log_softmax(rows, dim=1),
        lambda rows, _: rows.softmax(dim=1),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_right_description_passes_the_check(tmp_path: Path, last: Any) -> None:
    exported(tmp_path, Plain(lambda rows, _: rows.relu(), last), activation="relu")


@pytest.mark.parametrize(
    "model",
    [
        Plain(lambda rows, _: functional.elu(rows)),
        Plain(lambda rows, x: rows.relu() + x),
        Plain(lambda rows, _: rows.relu(), lambda rows, _: rows.relu()),
        Plain(lambda rows, _: functional.normalize(rows.relu(), dim=1)),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, model: nn.Module) -> None:
    with pytest.raises(ExportError, match="not that of the layers described"):
        export_pyg(model, None, tmp_path / "m", activation="relu")
    assert not list(tmp_path.iterdir())
    export_pyg(model, None, tmp_path / "m", activation="relu", check=False)


def test_a_description_of_other_widths_is_refused(tmp_path: Path) -> None:
    model = Plain(lambda rows, _: rows.relu())
    model.decoder = nn.Linear(4, 3)
    with pytest.raises(ExportError, match=r"shape \[13, 4\].*give \[13, 3\]"):
        exported(tmp_path, model, activation="relu", head=[model.decoder])
    model.decoder = nn.Linear(5, 3)
    with pytest.raises(ExportError, match="do not fit together"):
        exported(tmp_path, model, activation="relu", head=[model.decoder])


def test_a_model_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be checked.*call=.*check=False"):
        export_pyg(Stack(SAGEConv(4, 3)), None, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_the_check_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = GCN(4, 8, 2, 3, norm="batch_norm", dropout=0.5).double().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported(tmp_path, model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("mode", ["max", "lstm"])
def test_a_hand_written_model_with_jumping_knowledge(tmp_path: Path, mode: str) -> None:
    model = Stack(
        SAGEConv(4, 8), SAGEConv(8, 8), join=JumpingKnowledge(mode, 8, 2), out=nn.Linear(8, 3)
    )
    options = {"activation": "relu", "head": [model.out]}
    with pytest.raises(ExportError, match="joins its layers by 'join'"):
        exported(tmp_path, model, **options)
    sidecar, _ = exported(tmp_path, model, jumping_knowledge=model.join, **options)
    tensors = {"tensors": "join"} if mode == "lstm" else {}
    assert sidecar["jumping_knowledge"] == {"mode": mode, **tensors}


@pytest.mark.parametrize(("norm", "loops"), [("symmetric", True), ("none", False)])
def test_given_normalisation(tmp_path: Path, norm: str, loops: bool) -> None:
    sidecar, _ = exported(tmp_path, Stack(GCNConv(4, 3, normalize=False)), gcn_norm=norm)
    assert (sidecar["layers"][0]["norm"], sidecar["layers"][0]["self_loops"]) == (norm, loops)


def lazy() -> nn.Module:
    return GraphSAGE(-1, 8, 2, 3)


def diverged() -> nn.Module:
    model = GCN(4, 8, 2, 3)
    model.convs[0].bias.data[0] = float("nan")
    return model


def cached() -> nn.Module:
    return GCN(4, 8, 2, 3, cached=True)


class Subclass(GCNConv):
    pass


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: GCN(4, 8, 2, 3, norm="layer_norm"), {}, "mode='graph'.*over the whole graph"),
        (
            lambda: GCN(4, 8, 2, 3, norm="graph_norm"),
            {},
            "GraphNorm normalises over the whole graph",
        ),
        (lambda: GCN(4, 8, 2, 3, norm="pair_norm"), {}, "PairNorm normalises over the whole graph"),
        (lambda: GCN(4, 8, 2, 3, norm="instance_norm"), {}, "InstanceNorm normalises"),
        (
            lambda: GCN(4, 8, 2, 3, norm="batch_norm", norm_kwargs={"track_running_stats": False}),
            {},
            "tracks no running statistics",
        ),
        (lambda: GCN(4, 8, 2, 3, act="softplus"), {}, "Softplus"),
        (lambda: GCN(4, 8, 2, 3, act=lambda x: x.cumsum(0)), {}, "`cumsum`.*act=lambda x"),
        (lambda: Stack(GCNConv(4, 3)), {"activation": nn.Softplus()}, "Softplus is not known"),
        (lambda: GCN(4, 8, 2, 3, act=nn.GELU("tanh")), {}, "GELU.*tanh"),
        (lambda: GraphSAGE(4, 8, 2, 3, aggr="lstm"), {}, "LSTMAggregation"),
        (lambda: GraphSAGE(4, 8, 2, 3, aggr=["mean", "median"]), {}, "MedianAggregation"),
        (lambda: GAT(4, 8, 2, 3, edge_dim=2), {}, "edge features"),
        (lambda: Stack(GCNConv(4, 3, aggr="mean")), {}, "only aggr='add'"),
        (lambda: Stack(GCNConv(4, 3, normalize=False)), {}, "gcn_norm='symmetric'"),
        (lambda: Stack(GCNConv(4, 3, normalize=False)), {"gcn_norm": "row"}, "gcn_norm must be"),
        (lambda: Stack(GCNConv(4, 3, flow="target_to_source")), {}, "reverse the edges"),
        (lambda: Stack(SAGEConv((4, 5), 3)), {}, "two widths"),
        (lambda: Stack(GATConv((4, 4), 3)), {}, "sources and targets apart"),
        (lambda: Stack(Subclass(4, 3)), {"layers": [("convs.0", Subclass(4, 3), [])]}, "subclass"),
        (lambda: Stack(), {}, "no layer that is known"),
        (
            lambda: Stack(SAGEConv(4, 3), lin=nn.Linear(3, 3)),
            {},
            "belong to no exported layer: lin.bias",
        ),
        (
            lambda: Stack(SAGEConv(4, 3), out=nn.LogSoftmax(dim=1)),
            {"head": [nn.LogSoftmax(dim=1)]},
            "as logits",
        ),
        (lambda: Stack(GINConv(nn.Sequential(nn.Bilinear(2, 2, 2)))), {}, "Bilinear"),
        (lambda: Stack(SAGEConv(4, 3), norm=GraphNorm(3)), {"head": [GraphNorm(3)]}, "GraphNorm"),
        (lazy, {}, "lazy and not initialised"),
        (diverged, {}, "not finite"),
        (cached, {}, "cached=True"),
        (lambda: GCN(4, 8, 2, 3), {"default_plan": "recompute:101%"}, "is not a plan"),
        (lambda: GCN(4, 8, 2, 3), {"output": "scores"}, "output must be"),
        (lambda: GCN(4, 8, 2, 3), {"version": 0}, "version must be"),
    ],
)
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, model: Any, options: dict[str, Any], message: str
) -> None:
    model = model()
    if isinstance(model, Stack):
        options = {"check": False, **options}
    with pytest.raises(ExportError, match=message):
        export_pyg(model, None, tmp_path / "m", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["edge_weight", "edge_attr"])
def test_edges_with_values_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=f"data has {name}"):
        export_pyg(GCN(4, 8, 2, 3), data(**{name: torch.ones(4)}), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_data_without_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no x"):
        export_pyg(GCN(4, 8, 2, 3), Data(edge_index=EDGES, num_nodes=3), tmp_path / "m")


def test_existing_models_are_kept_unless_told(tmp_path: Path) -> None:
    export_pyg(GCN(4, 8, 2, 3), data(), tmp_path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_pyg(GCN(4, 8, 2, 3), None, tmp_path)
    export_pyg(GCN(4, 8, 2, 3), data(), tmp_path, overwrite=True)


def test_gatv2_without_bias(tmp_path: Path) -> None:
    sidecar, weights = exported(tmp_path, Stack(GATv2Conv(4, 3, heads=2, bias=False)))
    assert sidecar["layers"][0]["bias"] is False
    assert weights.keys() == {"convs.0.lin_l.weight", "convs.0.lin_r.weight", "convs.0.att"}
