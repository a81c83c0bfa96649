"""DGL: its layers on the computation graphs of `serving.py`, as blocks."""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import torch
from dgl.nn import GraphConv, SAGEConv
from torch import nn

from measure import Run, arguments, measure
from serving import ComputationGraph, Layer


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    dgl.utils.set_num_threads(options.threads)
    measure("DGL", options, make)


def make(layers: list[dict[str, Any]], weights: dict[str, np.ndarray]) -> Run:
    convs = [make_conv(layer, weights) for layer in layers]
    relu = [any(op["op"] == "relu" for op in layer.get("after", [])) for layer in layers]

    @torch.inference_mode()
    def run(graph: ComputationGraph) -> np.ndarray:
        h = torch.from_numpy(graph.x)
        for conv, layer, active in zip(convs, graph.layers, relu):
            h = apply(conv, layer, h)
            if active:
                h = h.relu_()
        return h.numpy()

    return run


def make_conv(layer: dict[str, Any], weights: dict[str, np.ndarray]) -> nn.Module:
    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(weights[f"{layer['tensors']}.{name}"])

    bias = layer.get("bias", True)
    if layer["type"] == "gcn":
        conv = GraphConv(layer["in"], layer["out"], norm="none", bias=bias)
        state = {"weight": tensor("lin.weight").T.contiguous()}
        if bias:
            state["bias"] = tensor("bias")
    elif layer["type"] == "sage" and layer.get("aggregator", "mean") == "mean":
        conv = SAGEConv(layer["in"], layer["out"], "mean", bias=bias)
        state = {"fc_neigh.weight": tensor("lin_l.weight"), "fc_self.weight": tensor("lin_r.weight")}
        if bias:
            name = "bias" if "bias" in conv.state_dict() else "fc_self.bias"
            state[name] = tensor("lin_l.bias")
    else:
        raise SystemExit(f"this peer has GCN and mean GraphSAGE layers, not {layer}")
    conv.load_state_dict(state)
    return conv.eval()


def apply(conv: nn.Module, layer: Layer, h: torch.Tensor) -> torch.Tensor:
    edges = ("csc", (torch.from_numpy(layer.indptr), torch.from_numpy(layer.indices.astype(np.int64)), []))
    block = dgl.create_block(edges, num_src_nodes=layer.sources, num_dst_nodes=layer.targets)
    if isinstance(conv, SAGEConv):
        return conv(block, (h, h[: layer.targets]))
    # The weights are those of the attached graph; a self-loop is the target's own row.
    out = conv(block, h, edge_weight=torch.from_numpy(layer.weights))
    own = h[: layer.targets] @ conv.weight
    return out + own * torch.from_numpy(layer.self_weights)[:, None]


if __name__ == "__main__":
    main()
