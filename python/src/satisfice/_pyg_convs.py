"""Layers of PyTorch Geometric as layers of the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from satisfice._errors import ExportError
from satisfice._row_ops import RowOps
from satisfice._sidecar import layer
from satisfice._weights import Weights, join

AGGREGATORS = {"MeanAggregation": "mean", "MaxAggregation": "max", "SumAggregation": "sum"}


class PygConvs:
    """Describes convolutions and claims their tensors.

    Args:
        gcn_norm: ``"symmetric"`` or ``"none"``: the normalisation of layers with normalize=False.
    """

    def __init__(self, weights: Weights, ops: RowOps, gcn_norm: str | None) -> None:
        if gcn_norm not in (None, "symmetric", "none"):
            raise ExportError(f"gcn_norm must be 'symmetric' or 'none', not {gcn_norm!r}")
        self._weights = weights
        self._ops = ops
        self._gcn_norm = gcn_norm

    def describe(self, conv: Any, prefix: str) -> dict[str, Any]:
        """The layer whose tensors are called ``prefix.*``, without what follows it."""
        kind = type(conv).__name__
        if not is_conv(conv):
            raise ExportError(
                f"layer {prefix!r} is a {kind}; known are {', '.join(_CONVS)}. "
                "A subclass may compute something else, so it is not taken for its base"
            )
        if conv.flow != "source_to_target":
            raise ExportError(f"layer {prefix!r} has flow={conv.flow!r}: reverse the edges instead")
        return _CONVS[kind](self, conv, prefix)

    def gcn(self, conv: Any, prefix: str) -> dict[str, Any]:
        self._sums_only(conv, prefix)
        _refuse_cached(conv, prefix)
        bias = self._take_bias(conv, prefix)
        self._weights.take(prefix, "lin.weight")
        norm, self_loops = self._normalization(conv, prefix)
        weight = _self_loop_weight(conv.improved) if conv.normalize and self_loops else 1.0
        return layer(
            "gcn",
            prefix,
            _one_width(conv, prefix, conv.lin.weight),
            conv.out_channels,
            bias=bias,
            norm=norm,
            self_loops=self_loops,
            self_loop_weight=None if weight == 1.0 else weight,
        )

    def gcn2(self, conv: Any, prefix: str) -> dict[str, Any]:
        self._sums_only(conv, prefix)
        _refuse_cached(conv, prefix)
        shared = conv.weight2 is None
        self._weights.take(prefix, "weight1", *([] if shared else ["weight2"]))
        norm, self_loops = self._normalization(conv, prefix)
        return layer(
            "gcn2",
            prefix,
            conv.channels,
            conv.channels,
            alpha=float(conv.alpha),
            beta=float(conv.beta),
            shared_weights=shared,
            norm=norm,
            self_loops=self_loops,
        )

    def sage(self, conv: Any, prefix: str) -> dict[str, Any]:
        inputs = _one_width(conv, prefix, conv.lin_l.weight)
        self._weights.take(prefix, "lin_l.weight")
        bias = conv.lin_l.bias is not None
        if bias:
            self._weights.take(prefix, "lin_l.bias")
        if conv.root_weight:
            self._weights.take(prefix, "lin_r.weight")
        project = bool(getattr(conv, "project", False))
        if project:
            self._weights.take(prefix, "lin.weight", "lin.bias")
        return layer(
            "sage",
            prefix,
            inputs,
            conv.out_channels,
            aggregator=_aggregator(conv, prefix),
            bias=bias,
            root_weight=conv.root_weight,
            project=project,
            normalize=conv.normalize,
        )

    def graph_conv(self, conv: Any, prefix: str) -> dict[str, Any]:
        """Of the same form as SAGEConv, with other names."""
        inputs = _one_width(conv, prefix, conv.lin_rel.weight)
        self._weights.rename(join(prefix, "lin_rel.weight"), join(prefix, "lin_l.weight"))
        self._weights.rename(join(prefix, "lin_root.weight"), join(prefix, "lin_r.weight"))
        bias = conv.lin_rel.bias is not None
        if bias:
            self._weights.rename(join(prefix, "lin_rel.bias"), join(prefix, "lin_l.bias"))
        return layer(
            "sage",
            prefix,
            inputs,
            conv.out_channels,
            aggregator=_aggregator(conv, prefix),
            bias=bias,
            root_weight=True,
            normalize=False,
        )

    def gat(self, conv: Any, prefix: str) -> dict[str, Any]:
        self._take_gat_weight(conv, prefix)
        lin = getattr(conv, "lin", None)
        inputs = _one_width(conv, prefix, (conv.lin_src if lin is None else lin).weight)
        self._weights.take(prefix, "att_src", "att_dst")
        return self._attention("gat", conv, prefix, inputs)

    def gatv2(self, conv: Any, prefix: str) -> dict[str, Any]:
        inputs = _one_width(conv, prefix, conv.lin_l.weight)
        ends = ["lin_l"] if conv.share_weights else ["lin_l", "lin_r"]
        names = ["weight"] if conv.lin_l.bias is None else ["weight", "bias"]
        self._weights.take(prefix, "att", *(f"{end}.{name}" for end in ends for name in names))
        if (conv.lin_l.bias is None) != (conv.bias is None):
            raise ExportError(f"layer {prefix!r} has a bias in only one of `lin_l` and itself")
        if conv.share_weights:
            for name in names:
                self._weights.leave(prefix, f"lin_r.{name}")
        described = self._attention("gatv2", conv, prefix, inputs)
        return {**described, "share_weights": True} if conv.share_weights else described

    def gin(self, conv: Any, prefix: str) -> dict[str, Any]:
        self._sums_only(conv, prefix)
        self._weights.take(prefix, "eps")
        mlp = self._ops.module(conv.nn, join(prefix, "nn"))
        widths = [op for op in mlp if op["op"] == "linear"]
        if not widths:
            raise ExportError(f"layer {prefix!r} has no linear in its `nn`")
        return layer("gin", prefix, widths[0]["in"], widths[-1]["out"], mlp=mlp)

    def _take_bias(self, conv: Any, prefix: str) -> bool:
        if conv.bias is not None:
            self._weights.take(prefix, "bias")
        return conv.bias is not None

    def _take_gat_weight(self, conv: Any, prefix: str) -> None:
        if getattr(conv, "lin", None) is not None:
            self._weights.take(prefix, "lin.weight")
        elif conv.lin_src is conv.lin_dst:  # One weight with two names: releases before 2.5.
            self._weights.rename(join(prefix, "lin_src.weight"), join(prefix, "lin.weight"))
            self._weights.leave(prefix, "lin_dst.weight")
        else:
            raise ExportError(
                f"layer {prefix!r} transforms sources and targets apart, as for two kinds of node: "
                "give GATConv one in_channels, not a pair"
            )

    def _attention(self, kind: str, conv: Any, prefix: str, inputs: int) -> dict[str, Any]:
        self._sums_only(conv, prefix)
        if conv.edge_dim is not None:
            raise ExportError(
                f"layer {prefix!r} reads edge features (edge_dim): they are not served"
            )
        residual = getattr(conv, "res", None) is not None
        if residual:
            self._weights.take(prefix, "res.weight")
        return layer(
            kind,
            prefix,
            inputs,
            conv.out_channels,
            heads=conv.heads,
            concat=conv.concat,
            negative_slope=float(conv.negative_slope),
            bias=self._take_bias(conv, prefix),
            residual=residual,
            self_loops=conv.add_self_loops,
        )

    def _normalization(self, conv: Any, prefix: str) -> tuple[str, bool]:
        """Kind of norm, and whether missing self-loops are added."""
        if conv.normalize:
            return "symmetric", bool(conv.add_self_loops)
        if self._gcn_norm is None:
            raise ExportError(
                f"layer {prefix!r} has normalize=False, so the caller weighs the edges: pass "
                "gcn_norm='symmetric' if the edges came from gcn_norm with self-loops, or "
                "gcn_norm='none' if the layer got the plain edges"
            )
        return self._gcn_norm, self._gcn_norm == "symmetric"

    def _sums_only(self, conv: Any, prefix: str) -> None:
        if (found := type(conv.aggr_module).__name__) != "SumAggregation":
            raise ExportError(f"layer {prefix!r} aggregates by {found}: only aggr='add' is known")


def is_conv(module: Any) -> bool:
    """Whether the module is a layer of PyTorch Geometric that can be described."""
    cls = type(module)
    return cls.__name__ in _CONVS and cls.__module__.startswith("torch_geometric.nn")


def is_layer(module: Any) -> bool:
    """Whether the module passes messages, known or not."""
    return any(cls.__name__ == "MessagePassing" for cls in type(module).__mro__)


def _refuse_cached(conv: Any, prefix: str) -> None:
    if conv.cached:
        raise ExportError(
            f"layer {prefix!r} has cached=True: it keeps the normalisation of the graph it first "
            "saw, but new nodes change degrees. Set conv.cached = False before exporting, "
            "and check the accuracy on held-out nodes"
        )


def _aggregator(conv: Any, prefix: str) -> str:
    found = type(conv.aggr_module).__name__
    if found not in AGGREGATORS:
        raise ExportError(
            f"layer {prefix!r} aggregates by {found}: known are mean, max and sum. "
            "An LSTM depends on the order of a node's neighbours, which a graph does not have"
        )
    return AGGREGATORS[found]


def _one_width(conv: Any, prefix: str, weight: Any) -> int:
    """The width of the rows that the layer reads; that of a layer made with -1 is its weight's."""
    given = conv.in_channels if isinstance(conv.in_channels, (tuple, list)) else [conv.in_channels]
    widths = [weight.shape[1] if width == -1 else width for width in given]
    if len(set(widths)) != 1:
        raise ExportError(
            f"layer {prefix!r} reads two widths, {list(widths)}, as for two kinds of node: "
            "only graphs with one kind are served"
        )
    return int(widths[0])


def _self_loop_weight(improved: bool) -> float:
    """The weight that the installed ``gcn_norm`` gives to self-loops of graphs without weights.

    `improved` asks for 2, but whether unweighted edges get it depends on the release.
    """
    import torch
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    # Two nodes with one edge each way: a self-loop of weight w is normalised to w / (1 + w).
    edge_index = torch.tensor([[0, 1], [1, 0]])
    edges, weights = gcn_norm(edge_index, None, 2, improved, True, dtype=torch.float64)
    normalized = float(weights[edges[0] == edges[1]][0])
    return round(normalized / (1 - normalized), 6)


_CONVS: dict[str, Callable[[PygConvs, Any, str], dict[str, Any]]] = {
    "GCNConv": PygConvs.gcn,
    "SAGEConv": PygConvs.sage,
    "GATConv": PygConvs.gat,
    "GATv2Conv": PygConvs.gatv2,
    "GINConv": PygConvs.gin,
    "GCN2Conv": PygConvs.gcn2,
    "GraphConv": PygConvs.graph_conv,
}
KNOWN = tuple(_CONVS)
