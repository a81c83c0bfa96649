"""PyTorch Geometric: its layers on the computation graphs of `serving.py`, sparse where that is quicker."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch_geometric.nn import GCNConv, SAGEConv

from measure import Run, arguments, measure
from serving import ComputationGraph, Layer


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    measure("PyG", options, make)


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
    bias = layer.get("bias", True)
    if layer["type"] == "gcn":
        conv = GCNConv(layer["in"], layer["out"], normalize=False, bias=bias)
    elif layer["type"] == "sage" and layer.get("aggregator", "mean") == "mean":
        conv = SAGEConv(layer["in"], layer["out"], bias=bias)
    else:
        raise SystemExit(f"this peer has GCN and mean GraphSAGE layers, not {layer}")
    prefix = layer["tensors"] + "."
    conv.load_state_dict(
        {
            name.removeprefix(prefix): torch.from_numpy(value)
            for name, value in weights.items()
            if name.startswith(prefix)
        }
    )
    return conv.eval()


def apply(conv: nn.Module, layer: Layer, h: torch.Tensor) -> torch.Tensor:
    ones = np.ones(len(layer.indices), np.float32)
    adjacency = torch.sparse_csr_tensor(
        torch.from_numpy(layer.indptr),
        torch.from_numpy(layer.indices.astype(np.int64)),
        torch.from_numpy(ones if layer.weights is None else layer.weights),
        size=(layer.targets, layer.sources),
    )
    if isinstance(conv, SAGEConv):
        return conv((h, h[: layer.targets]), adjacency)
    # GCNConv adds its self-loops to square graphs only: the targets' own rows are added here.
    own = h[: layer.targets] @ conv.lin.weight.T
    return conv(h, adjacency) + own * torch.from_numpy(layer.self_weights)[:, None]


if __name__ == "__main__":
    main()
