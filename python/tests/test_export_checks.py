"""No wrong export: how models are called, what is compared, what is refused."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import (
    GATv2Conv,
    GCN2Conv,
    GCNConv,
    GraphSAGE,
    HeteroConv,
    SAGEConv,
    global_max_pool,
)
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.transforms import GCNNorm, ToSparseTensor

from satisfice import ExportError, export_graph, export_pyg

EDGES = torch.tensor([[0, 0, 3, 4, 2], [1, 4, 2, 1, 0]])


def data(**parts: Any) -> Data:
    return Data(**{"x": torch.randn(5, 6), "edge_index": EDGES, **parts})


def sidecar(path: Path) -> dict[str, Any]:
    return tomllib.loads((path / "model.toml").read_text())


class Two(nn.Module):
    """Two layers; subclasses say how they are run."""

    def __init__(self) -> None:
        super().__init__()
        self.last = SAGEConv(8, 3)
        self.first = SAGEConv(6, 8)

    def run(self, x: Any, edges: Any) -> Any:
        return self.last(functional.elu(self.first(x, edges)), edges)


class OfData(Two):
    def forward(self, data: Any) -> Any:
        return self.run(data.x, data.edge_index)


class OfEdgesFirst(Two):
    def forward(self, edge_index: Any, feats: Any, dropout: float = 0.0) -> Any:
        return self.run(feats, edge_index)


class OfSamples(Two):
    def forward(self, x: Any, adjs: Any) -> Any:
        for i, (edge_index, _, size) in enumerate(adjs):
            target = x[: size[1]]
            x = (self.first, self.last)[i]((x, target), edge_index)
            x = functional.elu(x) if i == 0 else x
        return x


class OfTuples(Two):
    def forward(self, x: Any, edge_index: Any) -> Any:
        hidden = self.first(x, edge_index)
        return hidden, self.run(x, edge_index)


class OfKeywords(Two):
    def forward(self, *, x: Any, edge_index: Any) -> Any:
        return self.run(x, edge_index)


def layers(model: Two, activation: str = "elu") -> list[Any]:
    return [("first", model.first, [activation]), ("last", model.last, [])]


@pytest.mark.parametrize("kind", [OfData, OfEdgesFirst, OfSamples, OfKeywords])
def test_usual_signatures_are_understood(tmp_path: Path, kind: Any) -> None:
    model = kind()
    with pytest.raises(ExportError, match="not that of the layers described"):
        export_pyg(model, data(), tmp_path / "m", layers=layers(model, "relu"))
    export_pyg(model, data(), tmp_path / "m", layers=layers(model))


def test_others_are_said_by_call(tmp_path: Path) -> None:
    model = OfTuples()
    with pytest.raises(ExportError, match="call=lambda model, x, edge_index"):
        export_pyg(model, None, tmp_path / "m", layers=layers(model))

    def call(model: Any, x: Any, edges: Any) -> Any:
        return model(x, edges)[1]

    with pytest.raises(ExportError, match="not that of the layers described"):
        export_pyg(model, None, tmp_path / "m", layers=layers(model, "relu"), call=call)
    export_pyg(model, None, tmp_path / "m", layers=layers(model), call=call)


class Noisy(Two):
    def forward(self, x: Any, edge_index: Any) -> Any:
        return functional.dropout(self.run(x, edge_index), 0.5)


class Pooled(Two):
    def forward(self, x: Any, edge_index: Any, batch: Any) -> Any:
        return global_max_pool(self.run(x, edge_index), batch)


class PooledAll(Two):
    def forward(self, x: Any, edge_index: Any) -> Any:
        return self.run(x, edge_index).mean(0, keepdim=True)


class WithEdges(Two):
    def forward(self, x: Any, edge_index: Any) -> Any:
        return self.run(x, edge_index)[edge_index[0]]


class Weighing(Two):
    def forward(self, x: Any, edge_index: Any, edge_time: Any) -> Any:
        return self.run(x, edge_index)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Noisy, "another answer every time"),
        (Pooled, "takes `batch`, as models of whole graphs do"),
        (PooledAll, "one row a node"),
        (WithEdges, "one row a node"),
        (Weighing, "takes `edge_time`, which new nodes do not have"),
    ],
)
def test_what_is_no_answer_about_new_nodes_is_refused(
    tmp_path: Path, model: Any, message: str
) -> None:
    model = model()
    with pytest.raises(ExportError, match=message):
        export_pyg(model, data(), tmp_path / "m", layers=layers(model))
    assert not list(tmp_path.iterdir())


class Typed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        kinds = [("a", "to", "a"), ("a", "from", "a")]
        self.conv = HeteroConv({kind: SAGEConv((6, 6), 6) for kind in kinds})

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
        return self.conv(x_dict, edge_index_dict)


def test_several_types_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"several types of node or edge \(conv \(HeteroConv"):
        export_pyg(Typed(), None, tmp_path / "m")
    hetero = HeteroData()
    hetero["user"].x = torch.ones(2, 6)
    with pytest.raises(ExportError, match=r"HeteroData with the node types \['user'\]"):
        export_pyg(GraphSAGE(6, 8, 2, 3), hetero, tmp_path / "m")


class InitialResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lins = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 3)])
        self.convs = nn.ModuleList(GCN2Conv(8, 0.2, 0.5, i + 1) for i in range(3))

    def forward(self, x: Any, edge_index: Any) -> Any:
        x = first = self.lins[0](x).relu()
        for conv in self.convs:
            x = conv(x, first, edge_index).relu() + x
        return self.lins[1](x)


def test_a_stack_of_gcn2_is_not_taken_for_gcnii(tmp_path: Path) -> None:
    model = InitialResidual()
    relu = {"op": "relu"}
    wrong = [(f"convs.{i}", conv, [relu]) for i, conv in enumerate(model.convs)]
    ends = {"input": [model.lins[0], "relu"], "head": [model.lins[1]]}
    with pytest.raises(ExportError, match="not that of the layers described"):
        export_pyg(model, None, tmp_path / "m", layers=wrong, **ends)
    right = [(f"convs.{i}", conv, [relu, "residual"]) for i, conv in enumerate(model.convs)]
    export_pyg(model, None, tmp_path / "m", layers=right, **ends)


class Weighed(nn.Module):
    """Edges weighed by the caller, or by the model, for some of the layers."""

    def __init__(self, weighed: tuple[bool, bool], own: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList([GCNConv(6, 8, normalize=False), GCNConv(8, 3, normalize=False)])
        self.weighed, self.own = weighed, own

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None) -> Any:
        plain = edge_index
        if self.own:
            edge_index, edge_weight = gcn_norm(edge_index, None, len(x))
        for conv, weighed in zip(self.convs, self.weighed):
            x = conv(x, edge_index, edge_weight) if weighed else conv(x, plain)
        return x


def described(model: nn.Module) -> list[Any]:
    return [(f"convs.{i}", conv, []) for i, conv in enumerate(model.convs)]


@pytest.mark.parametrize("own", [True, False])
def test_one_norm_for_all_layers_is_checked(tmp_path: Path, own: bool) -> None:
    model = Weighed((True, True), own)
    export_pyg(model, None, tmp_path / "a", layers=described(model), gcn_norm="symmetric")
    with pytest.raises(ExportError, match="not that of the layers"):
        export_pyg(
            Weighed((True, False), own),
            None,
            tmp_path / "m",
            layers=described(model),
            gcn_norm="symmetric",
        )


def test_weights_that_a_caller_may_pass_are_asked_for(tmp_path: Path) -> None:
    model = Weighed((True, True), own=False)
    with pytest.raises(ExportError, match="the caller may weigh the edges: pass gcn_norm="):
        export_pyg(model, None, tmp_path / "m")
    for norm in ("symmetric", "none"):
        export_pyg(model, None, tmp_path / norm, gcn_norm=norm)
        assert [layer["norm"] for layer in sidecar(tmp_path / norm)["layers"]] == [norm] * 2
    plain = {"call": lambda m, x, edges: m(x, edges)}
    export_pyg(model, None, tmp_path / "call", **plain)
    assert sidecar(tmp_path / "call")["layers"][0]["norm"] == "none"


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda m: torch.compile(m, backend="eager"),
        torch.optim.swa_utils.AveragedModel,
    ],
)
def test_wrappers_are_looked_through(tmp_path: Path, wrap: Any) -> None:
    model = GraphSAGE(6, 8, 2, 3)
    export_pyg(wrap(model), None, tmp_path / "m")
    weights = load_file(tmp_path / "m/1/weights.safetensors")
    assert weights.keys() == model.state_dict().keys()


class LightningModule(nn.Module):
    """By its name: the library need not be there."""

    def forward(self, *args: Any) -> Any:
        raise NotImplementedError


class Trained(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = GraphSAGE(6, 8, 2, 3)


class TrainedWithForward(Trained):
    def forward(self, x: Any, edge_index: Any) -> Any:
        return self.net(x, edge_index)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ids = nn.Embedding(5, 6)
        self.conv = SAGEConv(6, 3)

    def forward(self, x: Any, edge_index: Any) -> Any:
        return self.conv(x + self.ids.weight, edge_index)


def test_a_row_for_every_stored_node_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"a row for every stored node \(ids.weight \[5, 6\]\)"):
        export_pyg(Table(), data(), tmp_path / "m")


def test_lightning_modules(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"without a forward: export the module inside.*\(it has net"
    ):
        export_pyg(Trained(), None, tmp_path / "m")
    export_pyg(TrainedWithForward(), None, tmp_path / "m")
    assert sidecar(tmp_path / "m")["layers"][0]["tensors"] == "net.convs.0"


def test_without_a_check_a_model_is_recorded_all_the_same(tmp_path: Path) -> None:
    model = GraphSAGE(6, 8, 2, 3, jk="cat")
    for check in (True, False):
        export_pyg(model, None, tmp_path / str(check), check=check)
    assert sidecar(tmp_path / "True") == sidecar(tmp_path / "False")


def test_torchscript_and_state_dicts_are_named(tmp_path: Path) -> None:
    script = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(ExportError, match="TorchScript"):
        export_pyg(script, None, tmp_path / "m")
    with pytest.raises(ExportError, match="OrderedDict, not a torch.nn.Module"):
        export_pyg(GraphSAGE(6, 8, 2, 3).state_dict(), None, tmp_path / "m")


def test_what_layers_keep_of_a_run_does_not_matter(tmp_path: Path) -> None:
    model = GraphSAGE(6, 8, 2, 3)
    model.kept = model(torch.randn(5, 6), EDGES)
    export_pyg(model, None, tmp_path / "m")


def test_widths_of_lazy_layers_are_their_weights(tmp_path: Path) -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = SAGEConv((-1, -1), 5, project=False)
            self.second = GATv2Conv((-1, -1), 4, heads=3)
            self.third = GCNConv(-1, 7)
            self.out = nn.LazyLinear(2)

        def forward(self, x: Any, edge_index: Any) -> Any:
            x = self.first(x, edge_index).relu()
            x = self.second(x, edge_index).relu()
            return self.out(self.third(x, edge_index).relu())

    model = Lazy()
    options = {"layers": None, "activation": "relu"}
    with pytest.raises(ExportError, match="run the model once"):
        export_pyg(model, None, tmp_path / "m", **options)
    model.eval()(torch.randn(5, 6), EDGES)
    stack = [(n, getattr(model, n), ["relu"]) for n in ("first", "second", "third")]
    export_pyg(model, None, tmp_path / "m", layers=stack, head=[model.out])
    assert [layer["in"] for layer in sidecar(tmp_path / "m")["layers"]] == [6, 5, 12]


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_transposed_matrix_is_read_the_right_way_round(tmp_path: Path, layout: Any) -> None:
    transposed = ToSparseTensor(layout=layout)(data())
    export_pyg(GraphSAGE(6, 8, 2, 3), transposed, tmp_path / "m")
    edges = load_file(tmp_path / "m/graph.safetensors")["edge_index"]
    assert sorted(zip(*edges.tolist())) == sorted(zip(*EDGES.tolist()))


def test_weights_in_a_matrix_are_not_dropped(tmp_path: Path) -> None:
    weighed = data(edge_weight=torch.rand(5))
    transposed = ToSparseTensor(attr="edge_weight", layout=torch.sparse_csr)(weighed.clone())
    both = weighed.clone()
    both = ToSparseTensor(attr="edge_weight", layout=torch.sparse_csr, remove_edge_index=False)(
        both
    )
    del both.edge_weight
    for graph in (transposed, both):
        with pytest.raises(ExportError, match=r"adj_t has values other than 1.*remove_edge_index"):
            export_pyg(GraphSAGE(6, 8, 2, 3), graph, tmp_path / "m")
    other = data(adj_t=ToSparseTensor(layout=torch.sparse_csr)(data()).adj_t)
    other.edge_index = EDGES.flip(0)
    with pytest.raises(ExportError, match="different edges"):
        export_pyg(GraphSAGE(6, 8, 2, 3), other, tmp_path / "m")


class OfMatrix(nn.Module):
    """As the example of GCN2 has it: the caller normalises the matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(GCN2Conv(6, 0.2, 0.5, i + 1, normalize=False) for i in range(2))

    def forward(self, x: Any, adj_t: Any) -> Any:
        first = x
        for conv in self.convs:
            x = conv(x, first, adj_t).relu()
        return x


@pytest.mark.parametrize("layout", [None, torch.sparse_csr, torch.sparse_coo])
def test_data_after_gcn_norm_is_exported_as_before(tmp_path: Path, layout: Any) -> None:
    plain = torch.cat([EDGES, torch.tensor([[2], [2]])], dim=1)
    graph = GCNNorm()(data(edge_index=plain))
    model: nn.Module = Weighed((True, True), own=False)
    if layout is not None:
        graph, model = ToSparseTensor(attr="edge_weight", layout=layout)(graph), OfMatrix()
    export_pyg(model, graph, tmp_path / "m")
    written = load_file(tmp_path / "m/graph.safetensors")["edge_index"]
    assert sorted(zip(*written.tolist())) == sorted(zip(*EDGES.tolist()))
    for layer in sidecar(tmp_path / "m")["layers"]:
        assert (layer["norm"], layer["self_loops"]) == ("symmetric", True)


def test_other_weights_and_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'convs.0' reads other edges"):
        export_pyg(GraphSAGE(6, 8, 2, 3), GCNNorm()(data()), tmp_path / "m")
    model = GraphSAGE(6, 8, 2, 3)
    hints = {"layers": described(model), "check": False}
    with pytest.raises(ExportError, match="'convs.0' does not normalise as GCNNorm does"):
        export_pyg(model, GCNNorm()(data()), tmp_path / "m", **hints)
    with pytest.raises(ExportError, match="answers wrongly without"):
        export_pyg(GraphSAGE(6, 8, 2, 3), data(edge_weight=torch.rand(5)), tmp_path / "m")
    without_loops = GCNNorm(add_self_loops=False)(data())
    with pytest.raises(ExportError, match="data has edge_weight"):
        export_pyg(GraphSAGE(6, 8, 2, 3), without_loops, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_self_loops_on_every_node_are_found(tmp_path: Path) -> None:
    loops = torch.arange(5).repeat(2, 1)
    looped = data(edge_index=torch.cat([EDGES, loops], dim=1))
    export_pyg(GraphSAGE(6, 8, 2, 3), looped, tmp_path / "a")
    assert sidecar(tmp_path / "a")["query_self_loops"] is True
    some = data(edge_index=torch.cat([EDGES, loops[:, 1:]], dim=1))
    export_pyg(GraphSAGE(6, 8, 2, 3), some, tmp_path / "b")
    assert "query_self_loops" not in sidecar(tmp_path / "b")
    export_pyg(GraphSAGE(6, 8, 2, 3), looped, tmp_path / "c", query_self_loops=False)
    assert "query_self_loops" not in sidecar(tmp_path / "c")


WHOLE = torch.tensor([[0, 1, 255, 7, 0, 3]]).repeat(5, 1)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (WHOLE.bfloat16(), np.float32),
        (WHOLE.half(), np.float16),
        (WHOLE.double(), np.float32),
        (WHOLE.to(torch.uint8), np.float32),
        (WHOLE, np.float32),
        (WHOLE.float().to_sparse(), np.float32),
        (WHOLE.float().to_sparse_csr(), np.float32),
        (WHOLE > 1, np.float32),
    ],
)
@pytest.mark.filterwarnings("error:.*rounded")
def test_features_of_every_type(tmp_path: Path, x: Any, dtype: Any) -> None:
    export_pyg(GraphSAGE(6, 8, 2, 3), data(x=x), tmp_path / "m")
    written = load_file(tmp_path / "m/graph.safetensors")["x"]
    wanted = x if x.layout == torch.strided else x.to_dense()
    assert written.dtype == dtype
    assert np.array_equal(written.astype(np.float64), wanted.double().numpy())


def test_features_that_lose(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="float64: 30 of its 30 values are rounded"):
        export_pyg(GraphSAGE(6, 8, 2, 3), data(x=torch.full((5, 6), 0.1).double() / 3), tmp_path)
    for x, message in [
        (WHOLE * 70_000 + 1, "int64 with values that float32 does not hold"),
        (torch.full((5, 6), 2**62), "int64 with values"),
        (WHOLE.to(torch.complex64), "real numbers"),
    ]:
        with pytest.raises(ExportError, match=message):
            export_pyg(GraphSAGE(6, 8, 2, 3), data(x=x), tmp_path / "m")


NAN = float("nan")


@pytest.mark.parametrize(
    ("y", "wanted"),
    [
        (torch.tensor([[2.0], [NAN], [0.0], [1.0], [NAN]]), [2, -1, 0, 1, -1]),
        (torch.tensor([2.0, NAN, 0.0, 1.0, 1.0]).half(), [2, -1, 0, 1, 1]),
        (torch.tensor([2.0, NAN, 0.0, 1.0, 1.0]).bfloat16(), [2, -1, 0, 1, 1]),
        (torch.tensor([True, False, True, True, False]), [1, 0, 1, 1, 0]),
        (torch.tensor([[1], [-1], [0], [3], [2]], dtype=torch.uint8).clamp(max=3), None),
        (torch.rand(5), None),
        (torch.rand(5, 3).round(), None),
        (torch.tensor([0, 1, -100, 1, 0]), None),
        (torch.tensor([0, 1, 2**40, 1, 0]), None),
        ("classes", None),
    ],
)
def test_labels_never_stop_an_export(tmp_path: Path, y: Any, wanted: Any) -> None:
    graph = data(y=y)
    model = GraphSAGE(6, 8, 2, 3)
    if wanted is None and not (torch.is_tensor(y) and y.dtype == torch.uint8):
        with pytest.warns(UserWarning, match=r"labels in data.y are left out"):
            export_pyg(model, graph, tmp_path / "m")
        assert "y" not in load_file(tmp_path / "m/graph.safetensors")
        return
    export_pyg(model, graph, tmp_path / "m")
    assert load_file(tmp_path / "m/graph.safetensors")["y"].tolist() == (
        wanted or y.flatten().tolist()
    )


def test_labels_of_arrays_are_taken_the_same_way(tmp_path: Path) -> None:
    x, edges = np.ones((2, 1)), np.zeros((2, 0), int)
    path = export_graph(tmp_path / "g.safetensors", edges, x, np.array([[NAN], [1.0]]))
    assert load_file(path)["y"].tolist() == [-1, 1]
    with pytest.raises(ExportError, match="not whole numbers"):
        export_graph(tmp_path / "h.safetensors", edges, x, np.array([0.5, 1.0]))
