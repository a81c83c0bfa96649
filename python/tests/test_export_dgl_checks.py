"""No wrong export of models of DGL: how they are called, what edges hold."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional

from satisfice import ExportError, export_dgl

dgl = pytest.importorskip("dgl")
dgl_nn = pytest.importorskip("dgl.nn")


def graph(**edata: torch.Tensor) -> Any:
    made = dgl.graph(([0, 3, 1, 2, 2], [1, 0, 2, 3, 1]))
    made.ndata["feat"] = torch.randn(4, 5)
    made.edata.update(edata)
    return made


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([dgl_nn.SAGEConv(5, 6, "mean"), dgl_nn.SAGEConv(6, 3, "mean")])


class OfBlocks(Two):
    def forward(self, blocks: Any, x: Any) -> Any:
        for i, (layer, block) in enumerate(zip(self.layers, blocks)):
            target = x[: block.num_dst_nodes()]
            x = layer(block, (x, target))
            x = functional.elu(x) if i == 0 else x
        return x


class OfNodeData(Two):
    def forward(self, g: Any) -> Any:
        return self.layers[1](g, functional.elu(self.layers[0](g, g.ndata["feat"])))


class Holding(Two):
    """As examples before DGL 0.5 have it."""

    def __init__(self, g: Any) -> None:
        super().__init__()
        self.g = g

    def forward(self, features: Any) -> Any:
        return self.layers[1](self.g, functional.elu(self.layers[0](self.g, features)))


@pytest.mark.parametrize("make", [OfBlocks, OfNodeData, lambda: Holding(graph())])
def test_usual_signatures_are_understood(tmp_path: Path, make: Any) -> None:
    model = make()
    with pytest.raises(ExportError, match="not that of the layers described"):
        export_dgl(model, graph(), tmp_path / "m", activation="relu")
    export_dgl(model, graph(), tmp_path / "m", activation="elu")


class Weighed(Two):
    def __init__(self, key: str, optional: bool) -> None:
        super().__init__()
        self.key, self.optional = key, optional

    def forward(self, g: Any, x: Any) -> Any:
        weight = None
        if not self.optional or self.key in g.edata:
            weight = g.edata[self.key]
        x = self.layers[0](g, x, edge_weight=weight).relu()
        return self.layers[1](g, x)


@pytest.mark.parametrize("optional", [True, False])
def test_models_that_read_what_edges_hold_are_refused(tmp_path: Path, optional: bool) -> None:
    weights = graph(trust=torch.rand(5))
    with pytest.raises(ExportError, match=r"changes with the edge weights.*\(trust\)"):
        export_dgl(Weighed("trust", optional), weights, tmp_path / "m", activation="relu")
    if not optional:
        with pytest.raises(ExportError, match="reads edata of the graph.*trust"):
            export_dgl(Weighed("trust", optional), None, tmp_path / "m", activation="relu")
    assert not list(tmp_path.iterdir())
    # A model that does not read them is served without.
    export_dgl(Weighed("other", True), weights, tmp_path / "m", activation="relu")


class WeighedOutside(Two):
    def forward(self, g: Any, x: Any, edge_weight: Any = None) -> Any:
        x = self.layers[0](g, x, edge_weight=edge_weight).relu()
        return self.layers[1](g, x, edge_weight=edge_weight)


def test_weights_that_a_caller_may_pass_are_asked_for(tmp_path: Path) -> None:
    weights = graph(trust=torch.rand(5))
    with pytest.raises(ExportError, match="takes `edge_weight` and graph.edata has trust"):
        export_dgl(WeighedOutside(), weights, tmp_path / "m")
    assert not list(tmp_path.iterdir())
    export_dgl(WeighedOutside(), graph(), tmp_path / "a")
    export_dgl(WeighedOutside(), weights, tmp_path / "b", call=lambda m, g, x: m(g, x))
    model = WeighedOutside()
    model.layers[0] = dgl_nn.GraphConv(5, 6, norm="none", allow_zero_in_degree=True)
    with pytest.raises(ExportError, match=r"takes `edge_weight` and layer 'layers.0' has norm="):
        export_dgl(model, None, tmp_path / "m")


def test_features_and_labels_of_other_types(tmp_path: Path) -> None:
    g = graph()
    g.ndata["feat"] = torch.arange(20).reshape(4, 5).bfloat16()
    g.ndata["label"] = torch.tensor([[1.0], [float("nan")], [0.0], [2.0]])
    export_dgl(OfBlocks(), g, tmp_path / "m", activation="elu")
    written = load_file(tmp_path / "m/graph.safetensors")
    assert written["x"].tolist() == torch.arange(20.0).reshape(4, 5).tolist()
    assert written["y"].tolist() == [1, -1, 0, 2]
    g.ndata["label"] = torch.rand(4, 7)
    with pytest.warns(UserWarning, match="left out"):
        export_dgl(OfBlocks(), g, tmp_path / "m", activation="elu", overwrite=True)


def test_several_types_are_named_first(tmp_path: Path) -> None:
    layer = dgl_nn.HeteroGraphConv({"likes": dgl_nn.GraphConv(5, 3)})
    model = nn.Sequential(layer)
    with pytest.raises(ExportError, match=r"several types of node or edge \(0 \(HeteroGraphConv"):
        export_dgl(model, None, tmp_path / "m")
