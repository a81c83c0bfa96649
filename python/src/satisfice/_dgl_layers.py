"""Layers of DGL in a recorded run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satisfice._dgl_convs import KNOWN, DglConvs, is_attention, is_conv
from satisfice._expressions import Builder, Expr
from satisfice._graphs import same_edges
from satisfice._layer_calls import arguments_of, not_known, rows_of
from satisfice._record import Node
from satisfice._sidecar import layer

if TYPE_CHECKING:
    from torch import Tensor

# Layers that are several steps of a normalised sum.
_STEPS = ("APPNPConv", "SGConv", "TAGConv")


class DglLayers:
    """Reads the layers of one run on one graph with ``edges`` [2, E]."""

    def __init__(self, edges: Tensor) -> None:
        self._edges = edges

    def read(self, builder: Builder, node: Node) -> Expr:
        """The expression of a layer."""
        module: Any = node.module
        kind = type(module).__name__
        is_steps = kind in _STEPS and type(module).__module__.startswith("dgl.")
        if not is_conv(module) and not is_steps:
            raise not_known(builder, node, (*KNOWN, *_STEPS))
        arguments = arguments_of(builder, node)
        child = rows_of(builder, node, arguments["feat"])
        self._check_edges(builder, node, arguments)
        if is_steps:
            made: Expr = getattr(self, f"_{kind.lower()}")(builder, node, child)
            return made
        if kind == "GraphConv" and module.weight is None:
            return self._without_weight(builder, node, child)
        convs = DglConvs(builder.weights, builder.ops)
        described = convs.describe(module, node.name, flatten=True)
        given = arguments.get("feat_0")
        initial = None if given is None else builder.rows(given)
        heads = described["heads"] if is_attention(module) else None
        return builder.layer(described, node, child, initial, heads)

    def _check_edges(self, builder: Builder, node: Node, arguments: dict[str, Any]) -> None:
        import torch

        if arguments.get("edge_weight") is not None:
            raise builder.refused(node, f"layer {node.name!r} is given weights of edges")
        if arguments.get("weight") is not None:
            raise builder.refused(node, f"layer {node.name!r} is given its weight from outside")
        edges = torch.stack(arguments["graph"].edges(order="eid")).cpu()
        if not same_edges((edges, None), (self._edges, None)):
            raise builder.refused(
                node,
                f"layer {node.name!r} reads other edges than the model is given: edges are served "
                "as they are stored. Change them (dgl.add_self_loop ...) before the export, and "
                "train on them",
            )

    def _without_weight(self, builder: Builder, node: Node, child: Expr) -> Expr:

        module: Any = node.module
        named = {"weight": builder.square(child.width, node.where)}
        if module.bias is not None:
            builder.weights.leave(node.name, "bias")
            named["bias"] = module.bias.detach()
        width, bias = child.width, module.bias is not None
        described = layer("gcn", builder.add(named), width, width, bias=bias, norm=module._norm)
        made = builder.layer(described, node, child)
        return builder.chain(builder.ops.of(module._activation), node, made)

    # Layers that are several steps

    def _propagation(self, builder: Builder, node: Node, child: Expr) -> Expr:
        """A sum over the sources, normalised by the in-degree at both ends."""

        width = child.width
        tensors = builder.add({"weight": builder.square(width, node.where)})
        described = layer("gcn", tensors, width, width, bias=False, norm="in_degree")
        return builder.layer(described, node, child)

    def _appnpconv(self, builder: Builder, node: Node, child: Expr) -> Expr:

        module: Any = node.module
        initial, width = child, child.width
        for _ in range(module._k):
            tensors = builder.add({"weight1": builder.square(width, node.where, 0.0)})
            described = layer(
                "gcn2",
                tensors,
                width,
                width,
                alpha=float(module._alpha),
                beta=0.0,
                shared_weights=True,
                norm="both",
                bias=False,
            )
            child = builder.layer(described, node, child, initial)
        return child

    def _sgconv(self, builder: Builder, node: Node, child: Expr) -> Expr:
        module: Any = node.module
        if module._cached:
            raise builder.refused(node, f"layer {node.name!r} has cached=True: set it to False")
        for _ in range(module._k):
            child = self._propagation(builder, node, child)
        child = builder.chain(builder.ops.of(module.norm), node, child)
        return builder.inner(node, "fc", child)

    def _tagconv(self, builder: Builder, node: Node, child: Expr) -> Expr:
        module: Any = node.module
        width, weight = child.width, module.lin.weight.detach()
        builder.weights.leave(node.name, "lin.weight", "lin.bias")
        bias = None if module.lin.bias is None else module.lin.bias.detach()
        # One map of all hops side by side is a sum of a map each.
        total = builder.linear(weight[:, :width], bias, node, child)
        for hop in range(1, module._k + 1):
            child = self._propagation(builder, node, child)
            part = weight[:, hop * width : (hop + 1) * width]
            total = builder.sum(total, builder.linear(part, None, node, child), node)
        return builder.chain(builder.ops.of(module._activation), node, total)
