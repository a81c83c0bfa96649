"""DGL: its layers on the computation graphs of `serving.py`, as blocks."""

from __future__ import annotations

from typing import Any

import dgl
import torch
from dgl.nn import GATConv, GraphConv, SAGEConv
from torch import nn

from measure import Framework, arguments, measure
from serving import Layer


def make_conv(layer: dict[str, Any], weights: dict[str, torch.Tensor]) -> nn.Module:
    bias = layer.get("bias", True)
    # Nodes without in-edges have a self-loop in GCN, which `apply` adds.
    if layer["type"] == "gcn":
        conv = GraphConv(layer["in"], layer["out"], norm="none", bias=bias, allow_zero_in_degree=True)
        state = {"weight": weights["lin.weight"].T.contiguous()}
        if bias:
            state["bias"] = weights["bias"]
    elif layer["type"] == "sage" and layer.get("aggregator", "mean") == "mean":
        conv = SAGEConv(layer["in"], layer["out"], "mean", bias=bias)
        state = {"fc_neigh.weight": weights["lin_l.weight"], "fc_self.weight": weights["lin_r.weight"]}
        if bias:
            name = "bias" if "bias" in conv.state_dict() else "fc_self.bias"
            state[name] = weights["lin_l.bias"]
    elif layer["type"] == "gat":
        heads = layer["heads"]
        conv = GATConv(layer["in"], layer["out"], heads, bias=False, allow_zero_in_degree=True)
        state = {
            "fc.weight": weights["lin.weight"],
            "attn_l": weights["att_src"],
            "attn_r": weights["att_dst"],
        }
        conv.concat, conv.own_bias = layer.get("concat", True), weights["bias"] if bias else 0.0
    else:
        raise SystemExit(f"this peer has GCN, GAT and mean GraphSAGE layers, not {layer}")
    conv.load_state_dict(state)
    return conv


def apply(conv: nn.Module, layer: Layer, h: torch.Tensor) -> torch.Tensor:
    edges = ("csc", (layer.indptr, layer.indices, []))
    block = dgl.create_block(edges, num_src_nodes=layer.sources, num_dst_nodes=layer.targets)
    if isinstance(conv, SAGEConv):
        return conv(block, (h, h[: layer.targets]))
    if isinstance(conv, GATConv):
        out = conv(block, h)
        # DGL leaves it to its user whether heads are joined or averaged, and its bias is a head's own.
        return (out.flatten(1) if conv.concat else out.mean(1)) + conv.own_bias
    # The weights are those of the attached graph; a self-loop is the target's own row.
    out = conv(block, h, edge_weight=layer.weights)
    own = h[: layer.targets] @ conv.weight
    return out + own * layer.self_weights[:, None]


if __name__ == "__main__":
    options = arguments(__doc__)
    dgl.utils.set_num_threads(options.threads)
    measure(Framework("DGL", make_conv, apply), options)
