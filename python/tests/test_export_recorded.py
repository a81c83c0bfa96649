"""Models without hints: what a recorded run is understood as, each proved by the export's check."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional
from torch_geometric.nn import (
    APPNP,
    GAE,
    GATConv,
    GCN2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    JumpingKnowledge,
    LayerNorm,
    LGConv,
    SAGEConv,
    Sequential,
    SGConv,
    SimpleConv,
    TAGConv,
)
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_self_loops, dropout_edge

from satisfice import ExportError, export_pyg


class Net(nn.Module):
    """Modules, and a function that runs them."""

    def __init__(self, run: Any, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Any, edge_index: Any) -> Any:
        return self.run(self, x, edge_index)


def exported(path: Path, model: nn.Module, **options: Any) -> dict[str, Any]:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    export_pyg(model, None, path / "m", **options)
    return tomllib.loads((path / "m/model.toml").read_text())


def kinds(ops: list[dict[str, Any]]) -> list[str]:
    return [op["op"] for op in ops]


def shape(sidecar: dict[str, Any]) -> list[Any]:
    layers = [(layer["type"], kinds(layer.get("after", []))) for layer in sidecar["layers"]]
    return [kinds(sidecar.get("input", [])), layers, kinds(sidecar.get("head", []))]


def looped(net: Any, x: Any, edges: Any) -> Any:
    for i, conv in enumerate(net.convs):
        x = conv(functional.dropout(x, 0.5, training=net.training), edges)
        if i < 2:
            x = functional.leaky_relu(net.norms[i](x), 0.2)
    return functional.log_softmax(x, dim=-1)


def residuals(net: Any, x: Any, edges: Any) -> Any:
    x = net.inp(x)
    for conv in (net.a, net.b):
        x = torch.relu_(conv(x, edges)) + x
    return net.out(x)


def shared(net: Any, x: Any, edges: Any) -> Any:
    return net.conv(net.conv(x, edges).tanh(), edges)


def skips(net: Any, x: Any, edges: Any) -> Any:
    x = functional.elu(net.a(x, edges) + net.skip(x))
    return net.b(x, edges) + net.more(x)


def bare(net: Any, x: Any, edges: Any) -> Any:
    x = functional.linear(x @ net.first + net.shift, net.second) / 3 - 0.5
    return net.scale * net.conv(x, edges)


def normalised(net: Any, x: Any, edges: Any) -> Any:
    x = functional.normalize(net.a(x, edges), p=2.0, dim=-1)
    return (x := net.b(x, edges)) / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def weighed(net: Any, x: Any, edges: Any) -> Any:
    edges_and_loops, weights = gcn_norm(edges, None, x.size(0))
    x = net.a(x, edges_and_loops, weights).relu()
    return net.b(x, dropout_edge(edges, 0.3, training=net.training)[0])


def attention(net: Any, x: Any, edges: Any) -> Any:
    x, (_, weights) = net.conv(x, edges, return_attention_weights=True)
    return net.out(x), weights


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, rows: Any) -> Any:
        return self.two(self.one(rows).relu()).relu()


MODELS = {
    "loop": (
        lambda: Net(
            looped,
            convs=nn.ModuleList([SAGEConv(6, 8), GCNConv(8, 8), SAGEConv(8, 3)]),
            norms=nn.ModuleList([nn.BatchNorm1d(8), LayerNorm(8, mode="node")]),
        ),
        [
            [],
            [
                ("sage", ["batch_norm", "leaky_relu"]),
                ("gcn", ["layer_norm", "leaky_relu"]),
                ("sage", []),
            ],
            [],
        ],
    ),
    "residuals": (
        lambda: Net(
            residuals,
            out=nn.Linear(8, 3),
            a=GCNConv(8, 8),
            b=SAGEConv(8, 8),
            inp=nn.Linear(6, 8),
        ),
        [["linear"], [("gcn", ["relu", "residual"]), ("sage", ["relu", "residual"])], ["linear"]],
    ),
    "shared": (
        lambda: Net(shared, conv=GraphConv(6, 6, aggr="max")),
        [[], [("sage", ["tanh"]), ("sage", [])], []],
    ),
    "bare": (
        lambda: Net(
            bare,
            first=nn.Parameter(torch.randn(6, 5)),
            shift=nn.Parameter(torch.randn(5)),
            second=nn.Parameter(torch.randn(7, 5)),
            scale=nn.Parameter(torch.randn(3)),
            conv=GCNConv(7, 3),
        ),
        [
            ["linear", "batch_norm", "linear", "scale"],
            [("gcn", ["batch_norm"])],
            [],
        ],
    ),
    "normalised": (
        lambda: Net(normalised, a=SAGEConv(6, 8), b=SAGEConv(8, 3)),
        [[], [("sage", ["l2_normalize"]), ("sage", ["l2_normalize"])], []],
    ),
    "weighed": (
        lambda: Net(weighed, a=GCNConv(6, 8, normalize=False), b=GCNConv(8, 3, normalize=False)),
        [[], [("gcn", ["relu"]), ("gcn", [])], []],
    ),
    "sequential": (
        lambda: Sequential(
            "x, edge_index",
            [
                (GCNConv(6, 8), "x, edge_index -> x"),
                nn.ReLU(inplace=True),
                (GATConv(8, 2, heads=3), "x, edge_index -> x"),
                nn.Linear(6, 3),
            ],
        ),
        [[], [("gcn", ["relu"]), ("gat", [])], ["linear"]],
    ),
    "encoder": (
        lambda: GAE(Net(shared, conv=SAGEConv(6, 6))),
        [[], [("sage", ["tanh"]), ("sage", [])], []],
    ),
    "own mlp": (
        lambda: Net(lambda net, x, edges: net.conv(x, edges), conv=GINConv(Two())),
        [[], [("gin", [])], []],
    ),
    "sgc": (
        lambda: Net(lambda net, x, edges: net.conv(x, edges), conv=SGConv(6, 3, K=2)),
        [["linear"], [("propagate", []), ("propagate", ["batch_norm"])], []],
    ),
    "appnp": (
        lambda: Net(
            lambda net, x, edges: net.steps(net.lin(x).relu(), edges).softmax(1),
            lin=nn.Linear(6, 3),
            steps=APPNP(K=3, alpha=0.2),
        ),
        [["linear", "relu"], [("propagate", ["scale", "scale", "add"])] * 3, []],
    ),
    "simple": (
        lambda: Net(
            lambda net, x, edges: net.out(net.conv(x, edges)),
            conv=SimpleConv("mean", combine_root="cat"),
            out=nn.Linear(12, 3),
        ),
        [[], [("propagate", [])], ["cat", "linear"]],
    ),
    "one value": (
        lambda: Net(
            lambda net, x, edges: functional.selu(net.conv(x, edges)).squeeze(-1).sigmoid(),
            conv=SAGEConv(6, 1),
        ),
        [[], [("sage", ["elu", "scale", "sigmoid"])], []],
    ),
    "compiled parts": (
        lambda: Net(
            lambda net, x, edges: net.b(net.a(x, edges).relu(), edges),
            a=torch.compile(SAGEConv(6, 8), backend="eager"),
            b=nn.DataParallel(SAGEConv(8, 3)).module,
        ),
        [[], [("sage", ["relu"]), ("sage", [])], []],
    ),
    "arithmetic": (
        lambda: Net(
            lambda net, x, edges: (1 - net.conv(x, edges).add_(x, alpha=0.5).div(2)).mul_(net.by),
            conv=SAGEConv(6, 6),
            by=nn.Parameter(torch.randn(6)),
        ),
        [[], [("sage", ["scale", "add", "scale", "batch_norm"])], []],
    ),
    "weights that a norm makes": (
        lambda: Net(
            lambda net, x, edges: net.b(net.a(net.conv(x, edges))),
            conv=SAGEConv(6, 5),
            a=nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)),
            b=nn.utils.spectral_norm(nn.Linear(4, 3)),
        ),
        [[], [("sage", [])], ["linear", "linear"]],
    ),
    "slope": (
        lambda: Net(
            lambda net, x, edges: net.b(net.act(net.a(x, edges)), edges),
            a=SAGEConv(6, 8),
            act=nn.PReLU(),
            b=SAGEConv(8, 3),
        ),
        [[], [("sage", ["leaky_relu"]), ("sage", [])], []],
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("error:.*left out")
def test_models_need_no_hints(tmp_path: Path, name: str) -> None:
    make, wanted = MODELS[name]
    assert shape(exported(tmp_path, make())) == wanted


def test_each_layer_has_the_norm_of_its_edges(tmp_path: Path) -> None:
    layers = exported(tmp_path, MODELS["weighed"][0]())["layers"]
    assert [(layer["norm"], layer["self_loops"]) for layer in layers] == [
        ("symmetric", True),
        ("none", False),
    ]


def test_what_is_used_twice_has_its_tensors_twice(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        for _ in range(2):
            x = net.norm(net.conv(x, edges)).relu()
        return x

    mlp = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
    model = Net(run, conv=GINConv(mlp, train_eps=True), norm=nn.LayerNorm(6))
    layers = exported(tmp_path, model)["layers"]
    weights = load_file(tmp_path / "m/1/weights.safetensors")
    first, second = (
        [
            layer["tensors"],
            *(op["tensors"] for op in layer["mlp"] + layer["after"] if "tensors" in op),
        ]
        for layer in layers
    )
    assert not set(first) & set(second)
    assert len(weights) == 2 * (1 + 4 + 2)
    for one, other in zip(first[1:], second[1:]):
        assert (weights[f"{one}.weight"] == weights[f"{other}.weight"]).all()


def gcnii(net: Any, x: Any, edges: Any) -> Any:
    x = first = net.lin(x).relu()
    for conv in net.convs:
        x = conv(x, first, edges).relu() + x
    return net.out(x)


def test_residuals_of_gcn2_layers(tmp_path: Path) -> None:
    convs = nn.ModuleList(GCN2Conv(8, 0.3, 0.5, i + 1, shared_weights=i == 0) for i in range(2))
    model = Net(gcnii, convs=convs, lin=nn.Linear(6, 8), out=nn.Linear(8, 3))
    layers = [("gcn2", ["relu", "residual"])] * 2
    assert shape(exported(tmp_path, model)) == [["linear", "relu"], layers, ["linear"]]


def joined(*parts: str) -> Any:
    def run(net: Any, x: Any, edges: Any) -> Any:
        values = {"x": x}
        values["a"] = net.a(x, edges).relu()
        values["b"] = net.b(values["a"], edges).relu()
        return net.out(torch.cat([values[part] for part in parts], dim=1))

    return run


@pytest.mark.parametrize("parts", ["ab", "ba", "xab", "xb"])
def test_levels_are_joined_in_any_order(tmp_path: Path, parts: str) -> None:
    out = nn.Linear(6 * len(parts), 3)
    sidecar = exported(tmp_path, Net(joined(*parts), a=GCNConv(6, 6), b=SAGEConv(6, 6), out=out))
    assert len(sidecar["layers"]) == 2
    if parts == "ab":
        assert sidecar["jumping_knowledge"] == {"mode": "cat"}
        assert kinds(sidecar["head"]) == ["linear"]
    else:
        levels = [f"level.{'xab'.index(part)}" for part in parts]
        assert (sidecar["head"][0]["op"], sidecar["head"][0]["of"]) == ("cat", levels)


@pytest.mark.parametrize("mode", ["cat", "max", "lstm", "mean", "sum", "weighted", "maximum"])
def test_levels_are_joined_in_every_mode(tmp_path: Path, mode: str) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        levels = [x := net.a(x, edges).relu(), net.b(x, edges).relu()]
        if mode in ("mean", "sum"):
            return getattr(torch.stack(levels, dim=1), mode)(dim=1)
        if mode == "weighted":
            return 0.25 * levels[0] + levels[1] * net.share
        return torch.maximum(*levels) if mode == "maximum" else net.jk(levels)

    jk = None if mode in ("mean", "sum", "weighted", "maximum") else JumpingKnowledge(mode, 6, 2)
    share = nn.Parameter(torch.tensor([0.7]))
    sidecar = exported(tmp_path, Net(run, a=GCNConv(6, 6), b=GCNConv(6, 6), jk=jk, share=share))
    if mode in ("cat", "max", "maximum", "lstm"):
        assert sidecar["jumping_knowledge"]["mode"] == mode[:3].replace("lst", "lstm")


@pytest.mark.parametrize(
    ("layer", "levels"), [(TAGConv(6, 3, K=2), 2), (TAGConv(6, 3, K=1, normalize=False), 1)]
)
def test_hops_are_layers(tmp_path: Path, layer: Any, levels: int) -> None:
    model = Net(lambda net, x, edges: net.conv(x, edges), conv=layer)
    sidecar = exported(tmp_path, model)
    assert len(sidecar["layers"]) == levels


def test_a_mean_over_hops_without_weights(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        levels = [x]
        for _ in range(2):
            levels.append(net.conv(levels[-1], edges))
        return sum(levels) / len(levels)

    sidecar = exported(tmp_path, Net(run, conv=LGConv()))
    assert [layer["type"] for layer in sidecar["layers"]] == ["propagate"] * 2


def test_parts_that_the_answer_does_not_read_are_left_out(tmp_path: Path) -> None:
    model = Net(shared, conv=SAGEConv(6, 6), decoder=nn.Linear(12, 1), critic=GCNConv(6, 2))
    with pytest.warns(UserWarning, match=r"does not depend on it: critic, critic.lin, decoder"):
        exported(tmp_path, model)
    names = load_file(tmp_path / "m/1/weights.safetensors")
    assert not any(name.startswith(("critic", "decoder")) for name in names)


def test_a_call_chooses_what_is_recorded(tmp_path: Path) -> None:
    model = Net(attention, conv=GATConv(6, 4), out=nn.Linear(4, 3))
    sidecar = exported(tmp_path, model, call=lambda m, x, edges: m(x, edges)[0])
    assert shape(sidecar) == [[], [("gat", [])], ["linear"]]


def test_a_level_narrower_than_the_answer_keeps_what_the_answer_reads_of_level_0(
    tmp_path: Path,
) -> None:
    model = Net(
        lambda net, x, edges: net.wide(x) * net.conv(net.narrow(x), edges),
        wide=nn.Linear(6, 4),
        narrow=nn.Linear(6, 1),
        conv=SimpleConv(),
    )
    written = exported(tmp_path, model)
    assert [layer["out"] for layer in written["layers"]] == [1]


def set_first(rows: Any) -> Any:
    rows[:, 0] = 0.0
    return rows


def branches(net: Any, x: Any, edges: Any) -> Any:
    x = net.conv(x, edges)
    return x.relu() if len(x) > 15 else x


REFUSED = {
    "other edges": (
        lambda net, x, edges: net.conv(x, add_self_loops(edges)[0]),
        {"conv": SAGEConv(6, 3)},
        "reads other edges than the model is given",
    ),
    # After another one: the library makes a layer's code of its first instance.
    "a layer that reads more than sums": (
        lambda net, x, edges: net.conv(x, edges),
        {"conv": SAGEConv(6, 3, aggr="median")},
        r"aggregates by MedianAggregation.*test_export_recorded.py, line \d+",
    ),
    "reversed edges": (
        lambda net, x, edges: net.conv(x, edges.flip(0)),
        {"conv": SAGEConv(6, 3)},
        "reads other edges",
    ),
    "weights of edges": (
        lambda net, x, edges: net.conv(x, edges, torch.rand(edges.shape[1])),
        {"conv": GraphConv(6, 3)},
        "another answer every time|weights of edges",
    ),
    "the whole graph": (
        lambda net, x, edges: net.conv(x, edges) - net.conv(x, edges).mean(0),
        {"conv": SAGEConv(6, 3)},
        r"`mean` reduces \[13, 3\] to \[3\]",
    ),
    "a softmax over nodes": (
        lambda net, x, edges: net.conv(x, edges).softmax(0),
        {"conv": SAGEConv(6, 3)},
        "softmax over nodes",
    ),
    "other rows": (
        lambda net, x, edges: net.conv(x, edges)[torch.arange(len(x) - 1, -1, -1)],
        {"conv": SAGEConv(6, 3)},
        "neither the sources nor the targets",
    ),
    "values set in place": (
        lambda net, x, edges: set_first(net.conv(x, edges)),
        {"conv": SAGEConv(6, 3)},
        "`__setitem__`",
    ),
    "a product the other way round": (
        lambda net, x, edges: (net.matrix @ net.conv(x, edges).T).T,
        {"conv": SAGEConv(6, 3), "matrix": nn.Parameter(torch.randn(3, 3))},
        "multiplied by rows|no row a node",
    ),
    "a function called by name": (
        lambda net, x, edges: torch.flatten(input=net.conv(x, edges), start_dim=1),
        {"conv": SAGEConv(6, 3)},
        "`flatten` is called in a way that is not read",
    ),
    "no graph": (
        lambda net, x, edges: net.lin(x),
        {"lin": nn.Linear(6, 3)},
        "depends on no layer of the graph",
    ),
    "a branch on the size": (branches, {"conv": SAGEConv(6, 3)}, "something else on another graph"),
    "a size that is built in": (
        lambda net, x, edges: net.conv(x, edges) * len(x),
        {"conv": SAGEConv(6, 3)},
        "something else on another graph",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_sidecar_cannot_say_is_refused_by_name(tmp_path: Path, name: str) -> None:
    run, parts, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        export_pyg(Net(run, **parts), None, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_minimum_is_no_sum(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        levels = [net.a(x, edges), net.b(x, edges)]
        return torch.stack(levels).min(dim=0)[0]

    for check in (True, False):
        model = Net(run, a=GCNConv(6, 4), b=GCNConv(6, 4)).eval()
        with pytest.raises(ExportError, match="min"):
            export_pyg(model, None, tmp_path / "m", check=check)


def test_residual_blocks_are_read_in_a_moment(tmp_path: Path) -> None:
    """Every block that were looked at twice would double the time: 40 of them would never end."""

    def run(net: Any, x: Any, edges: Any) -> Any:
        x = net.conv(x, edges)
        for lin in net.lins:
            x = x + functional.relu(lin(x))
        return x

    lins = nn.ModuleList(nn.Linear(4, 4) for _ in range(40))
    sidecar = exported(tmp_path, Net(run, conv=GCNConv(6, 4), lins=lins))
    assert kinds(sidecar["head"]).count("linear") == 40


def exported_layers(path: Path, run: Any, **parts: Any) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = exported(path, Net(run, **parts))["layers"]
    return layers


def test_a_level_holds_no_more_than_is_read_of_it(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        one = net.a(x, edges).relu()
        two = net.b(torch.cat([x, one], dim=1), edges).relu()
        return net.c(torch.cat([x, one, two], dim=1), edges)

    layers = exported_layers(tmp_path, run, a=GCNConv(6, 5), b=GCNConv(11, 4), c=GCNConv(15, 3))
    # A target finds the features at level 0; what sources send lies at the level that is read.
    assert [layer["in"] for layer in layers] == [6, 11, 15]
    assert [op["op"] for op in layers[0]["after"]] == ["relu", "cat"]
    assert not any("before" in layer for layer in layers)


def test_a_layer_beside_another_reads_the_features(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        return net.c((net.a(x, edges) * net.b(x, edges).sigmoid()).relu(), edges)

    layers = exported_layers(tmp_path, run, a=GCNConv(6, 5), b=SAGEConv(6, 5), c=GCNConv(5, 3))
    assert [layer.get("reads") for layer in layers] == [None, "initial", None]


def test_what_lies_between_carries_a_skip(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        one = net.a(x, edges).relu()
        return net.c(net.b(one, edges).relu() + one, edges) + net.skip(one)

    parts = {"a": GCNConv(6, 5), "b": SAGEConv(5, 5), "c": GCNConv(5, 3)}
    layers = exported_layers(tmp_path, run, **parts, skip=nn.Linear(5, 3))
    assert kinds(layers[1]["after"]) == ["relu", "residual"]


def test_recurrent_cells_are_read_gate_by_gate(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        rows = net.a(x, edges)
        state, memory = net.lstm(rows.relu())
        rows = net.gru(net.b(state, edges), memory)
        return net.out(net.gru(rows))

    parts = {"lstm": nn.LSTMCell(5, 4, bias=False), "gru": nn.GRUCell(4, 4)}
    sidecar = exported(
        tmp_path, Net(run, a=GCNConv(6, 5), b=SAGEConv(4, 4), out=nn.Linear(4, 3), **parts)
    )
    assert "lstm" not in kinds(sidecar["head"])


def test_an_lstm_of_several_layers_is_refused(tmp_path: Path) -> None:
    def run(net: Any, x: Any, edges: Any) -> Any:
        levels = [x := net.a(x, edges), net.b(x, edges)]
        return net.lstm(torch.stack(levels))[0][-1]

    model = Net(run, a=GCNConv(6, 5), b=GCNConv(5, 5), lstm=nn.LSTM(5, 5, num_layers=2))
    with pytest.raises(ExportError, match="several layers or directions"):
        export_pyg(model.eval(), None, tmp_path / "m")
