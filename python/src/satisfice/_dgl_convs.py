"""Layers of DGL as layers of the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from satisfice._errors import ExportError
from satisfice._row_ops import RowOp, RowOps
from satisfice._sidecar import layer, with_after
from satisfice._weights import Weights, join


class DglConvs:
    """Describes convolutions with their own activations and norms, and claims their tensors."""

    def __init__(self, weights: Weights, ops: RowOps) -> None:
        self._weights = weights
        self._ops = ops

    def describe(self, conv: Any, prefix: str, flatten: bool) -> dict[str, Any]:
        """The layer whose tensors are called ``prefix.*``.

        ``flatten``: the heads of attention are concatenated, not averaged.
        """
        if not is_conv(conv):
            raise ExportError(
                f"layer {prefix!r} is a {type(conv).__name__}; known are {', '.join(KNOWN)}. "
                "A subclass may compute something else, so it is not taken for its base"
            )
        if is_attention(conv):
            return self._attention(conv, prefix, flatten)
        return _CONVS[type(conv).__name__](self, conv, prefix)

    def graph_conv(self, conv: Any, prefix: str) -> dict[str, Any]:
        if conv.weight is None:
            raise ExportError(f"layer {prefix!r} has weight=False: give the layer its own weight")
        self._weights.take(prefix, "weight")
        described = layer(
            "gcn",
            prefix,
            conv._in_feats,
            conv._out_feats,
            bias=self._take_bias(conv, prefix),
            norm=conv._norm,
        )
        return with_after(described, self._ops.of(conv._activation))

    def sage(self, conv: Any, prefix: str) -> dict[str, Any]:
        aggregator = conv._aggre_type
        if aggregator not in ("mean", "pool", "gcn"):
            raise ExportError(
                f"layer {prefix!r} aggregates by {aggregator!r}: known are mean, pool and gcn. "
                "An LSTM depends on the order of a node's neighbours, which a graph does not have"
            )
        inputs = _one_width(conv, prefix)
        self._weights.take(prefix, "fc_neigh.weight")
        if aggregator == "pool":
            self._weights.take(prefix, "fc_pool.weight", "fc_pool.bias")
        bias = self._take_sage_bias(conv, prefix)
        described = layer("sage", prefix, inputs, conv._out_feats, aggregator=aggregator, bias=bias)
        return with_after(described, self._ops.each([conv.activation, conv.norm]))

    def gin(self, conv: Any, prefix: str) -> dict[str, Any]:
        if conv.apply_func is None:
            raise ExportError(f"layer {prefix!r} has no apply_func: its widths are not known")
        self._weights.take(prefix, "eps")
        mlp = self._ops.module(conv.apply_func, join(prefix, "apply_func"))
        linears = [op for op in mlp if op["op"] == "linear"]
        if not linears:
            raise ExportError(f"layer {prefix!r} has no linear in its apply_func")
        described = layer(
            "gin",
            prefix,
            linears[0]["in"],
            linears[-1]["out"],
            aggregator=conv._aggregator_type,
            mlp=mlp,
        )
        return with_after(described, self._ops.of(conv.activation))

    def gcn2(self, conv: Any, prefix: str) -> dict[str, Any]:
        shared = conv.weight2 is None
        self._weights.take(prefix, "weight1", *([] if shared else ["weight2"]))
        described = layer(
            "gcn2",
            prefix,
            conv._in_feats,
            conv._in_feats,
            alpha=float(conv.alpha),
            beta=float(conv.beta),
            shared_weights=shared,
            norm="in_degree",
            bias=self._take_bias(conv, prefix),
        )
        return with_after(described, self._ops.of(conv._activation))

    def _attention(self, conv: Any, prefix: str, flatten: bool) -> dict[str, Any]:
        v2 = type(conv).__name__ == "GATv2Conv"
        residual = _residual(conv)
        bias = self._take_gatv2(conv, prefix) if v2 else self._take_gat(conv, prefix)
        if residual is True:
            self._weights.take(prefix, "res_fc.weight")
        described = layer(
            "gatv2" if v2 else "gat",
            prefix,
            _one_width(conv, prefix),
            conv._out_feats,
            heads=conv._num_heads,
            concat=flatten,
            negative_slope=float(conv.leaky_relu.negative_slope),
            bias=bias,
            residual=residual,
            share_weights=True if v2 and conv.share_weights else None,
        )
        return with_after(described, self._attention_after(conv, prefix, flatten))

    def _attention_after(self, conv: Any, prefix: str, flatten: bool) -> list[RowOp]:
        after = self._ops.of(conv.activation)
        if after and not flatten and conv._num_heads > 1:
            raise ExportError(
                f"layer {prefix!r} applies its activation to each head before their mean is taken: "
                "pass activation=None to the layer and activate the mean"
            )
        return after

    def _take_gat(self, conv: Any, prefix: str) -> bool:
        if not hasattr(conv, "fc"):
            raise ExportError(f"layer {prefix!r} reads two kinds of node: give it one in_feats")
        self._weights.take(prefix, "fc.weight", "attn_l", "attn_r")
        # With a linear residual, DGL keeps the layer's bias there; it is added to the same rows.
        residual_bias = getattr(conv.res_fc, "bias", None)
        if residual_bias is not None:
            self._weights.rename(join(prefix, "res_fc.bias"), join(prefix, "bias"))
            return True
        return self._take_bias(conv, prefix)

    def _take_gatv2(self, conv: Any, prefix: str) -> bool:
        bias = conv.fc_src.bias is not None
        names = ["weight", "bias"] if bias else ["weight"]
        ends = ["fc_src"] if conv.share_weights else ["fc_src", "fc_dst"]
        self._weights.take(prefix, "attn", *(f"{end}.{name}" for end in ends for name in names))
        if conv.share_weights:
            for name in names:
                self._weights.leave(prefix, f"fc_dst.{name}")
        if _residual(conv) is True and bias:
            self._weights.take(prefix, "res_fc.bias")
        return bias

    def _take_sage_bias(self, conv: Any, prefix: str) -> bool:
        if conv._aggre_type == "gcn":
            return self._take_bias(conv, prefix)
        self._weights.take(prefix, "fc_self.weight")
        if conv.fc_self.bias is not None:
            self._weights.take(prefix, "fc_self.bias")
            return True
        return self._take_bias(conv, prefix)  # Releases 0.6 to 0.8.

    def _take_bias(self, conv: Any, prefix: str) -> bool:
        import torch

        bias = isinstance(getattr(conv, "bias", None), torch.Tensor)
        if bias:
            self._weights.take(prefix, "bias")
        return bias


def is_conv(module: Any) -> bool:
    """Whether the module is a layer of DGL that can be described."""
    cls = type(module)
    return cls.__name__ in KNOWN and cls.__module__.startswith("dgl.")


def is_layer(module: Any) -> bool:
    """Whether the module is a layer of a graph, known or not."""
    cls = type(module)
    return cls.__module__.startswith("dgl.nn") and cls.__name__.endswith("Conv")


def is_attention(module: Any) -> bool:
    """Whether the layer leaves one row a head."""
    return is_conv(module) and type(module).__name__ in _ATTENTION


def _residual(conv: Any) -> bool | str:
    if conv.res_fc is None:
        return False
    return True if hasattr(conv.res_fc, "weight") else "identity"


def _one_width(conv: Any, prefix: str) -> int:
    if conv._in_src_feats != conv._in_dst_feats:
        raise ExportError(
            f"layer {prefix!r} reads two widths, {conv._in_src_feats} and {conv._in_dst_feats}: "
            "only graphs with one kind of node are served"
        )
    return int(conv._in_src_feats)


_ATTENTION = ("GATConv", "GATv2Conv")
_CONVS: dict[str, Callable[[DglConvs, Any, str], dict[str, Any]]] = {
    "GraphConv": DglConvs.graph_conv,
    "SAGEConv": DglConvs.sage,
    "GINConv": DglConvs.gin,
    "GCN2Conv": DglConvs.gcn2,
}
KNOWN = (*_CONVS, *_ATTENTION)
