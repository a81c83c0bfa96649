"""PyTorch Geometric: its layers on the computation graphs of `serving.py`, as sparse matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch_geometric.nn import GATConv, GCNConv, SAGEConv

from measure import Framework, arguments, measure
from serving import Layer


def make_conv(layer: dict[str, Any], weights: dict[str, torch.Tensor]) -> nn.Module:
    bias = layer.get("bias", True)
    if layer["type"] == "gcn":
        conv = GCNConv(layer["in"], layer["out"], normalize=False, bias=bias)
    elif layer["type"] == "sage" and layer.get("aggregator", "mean") == "mean":
        conv = SAGEConv(layer["in"], layer["out"], bias=bias)
    elif layer["type"] == "gat":
        concat = layer.get("concat", True)
        conv = GATConv(layer["in"], layer["out"], layer["heads"], concat=concat, bias=bias)
    else:
        raise SystemExit(f"this peer has GCN, GAT and mean GraphSAGE layers, not {layer}")
    conv.load_state_dict(weights)
    return conv


def apply(conv: nn.Module, layer: Layer, h: torch.Tensor) -> torch.Tensor:
    if isinstance(conv, GATConv):
        return _attention(conv, layer, h)
    weights = torch.ones(len(layer.indices)) if layer.weights is None else layer.weights
    if isinstance(conv, SAGEConv):
        return conv((h, h[: layer.targets]), _matrix(layer, weights))
    # GCNConv adds its self-loops to square graphs only: the targets' own rows are added here.
    own = h[: layer.targets] @ conv.lin.weight.T
    return conv(h, _matrix(layer, weights)) + own * layer.self_weights[:, None]


def _attention(conv: GATConv, layer: Layer, h: torch.Tensor) -> torch.Tensor:
    """GATConv with a product for each head: PyG's own writes a message for every edge, which is tens of gigabytes here."""
    sent = conv.lin(h).view(-1, conv.heads, conv.out_channels)
    at_source, at_target = (sent * conv.att_src).sum(-1), (sent[: layer.targets] * conv.att_dst).sum(-1)
    counts = layer.indptr.diff().long()
    heads = []
    for head in range(conv.heads):
        logits = at_source[:, head].contiguous().index_select(0, layer.indices)
        logits += at_target[:, head].repeat_interleave(counts)
        logits = nn.functional.leaky_relu_(logits, conv.negative_slope)
        logits -= logits.max()
        weights = logits.exp_()
        matrix = _matrix(layer, weights)
        rows = torch.cat([sent[:, head], torch.ones(len(sent), 1)], 1)
        summed = matrix @ rows
        heads.append(summed[:, :-1] / (summed[:, -1:] + 1e-16))
    out = torch.cat(heads, 1) if conv.concat else torch.stack(heads).mean(0)
    return out if conv.bias is None else out + conv.bias


def _matrix(layer: Layer, values: torch.Tensor) -> torch.Tensor:
    size = (layer.targets, layer.sources)
    return torch.sparse_csr_tensor(layer.indptr, layer.indices, values, size=size)


if __name__ == "__main__":
    measure(Framework("PyG", make_conv, apply), arguments(__doc__))
