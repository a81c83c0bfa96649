"""Layers of DGL in a recorded run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satisfice._cells import Cell
from satisfice._dgl_convs import KNOWN, DglConvs, is_attention, is_conv
from satisfice._expressions import Builder
from satisfice._exprs import Expr
from satisfice._graphs import same_edges
from satisfice._layer_calls import arguments_of, not_known, rows_of
from satisfice._pyg_edges import chebyshev, cosine
from satisfice._record import Node

if TYPE_CHECKING:
    from torch import Tensor

# Layers that are several steps of a normalised sum.
_STEPS = ("APPNPConv", "ChebConv", "SGConv", "TAGConv")
# Layers that are row operations around a message of both ends, or a recurrent cell.
_EDGES = ("AGNNConv", "DotGatConv", "GatedGraphConv")


def is_known(module: Any) -> bool:
    """Whether a module is one of these layers; others are recorded tensor by tensor."""
    cls = type(module)
    return is_conv(module) or (
        cls.__module__.startswith("dgl.") and cls.__name__ in (*_STEPS, *_EDGES)
    )


class DglLayers:
    """Reads the layers of one run on one graph with ``edges`` [2, E]."""

    def __init__(self, edges: Tensor) -> None:
        self._edges = edges

    def read(self, builder: Builder, node: Node) -> Expr:
        """The expression of a layer."""
        module: Any = node.module
        kind = type(module).__name__
        is_steps = kind in (*_STEPS, *_EDGES) and type(module).__module__.startswith("dgl.")
        if not is_conv(module) and not is_steps:
            raise not_known(builder, node, (*KNOWN, *_STEPS, *_EDGES))
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
        made = builder.propagate(node, child, norm=module._norm)
        if module.bias is not None:
            builder.weights.leave(node.name, "bias")
            made = builder.affine(None, module.bias.detach(), node, made)
        return builder.chain(builder.ops.of(module._activation), node, made)

    # Layers of messages of both ends

    def _agnnconv(self, builder: Builder, node: Node, child: Expr) -> Expr:
        module: Any = node.module
        builder.weights.leave(node.name, "beta")
        return cosine(builder, node, child, float(module.beta.detach()), False)

    def _dotgatconv(self, builder: Builder, node: Node, child: Expr) -> Expr:
        module: Any = node.module
        if not hasattr(module, "fc"):
            raise builder.refused(node, f"layer {node.name!r} reads two kinds of node")
        made = builder.inner(node, "fc", child)
        query = builder.scale(made, node, module._out_feats**-0.5)
        rows = builder.join("cat", (query, made, made), node)
        heads, width = module._num_heads, module._out_feats
        made = builder.edge(node, rows, heads * width, message="dot", heads=heads)
        cut = (builder.slice(made, at * width, width, node) for at in range(heads))
        return builder.stack(tuple(cut), 1, node)

    def _gatedgraphconv(self, builder: Builder, node: Node, child: Expr) -> Expr:
        import torch

        module: Any = node.module
        if module._n_etypes != 1:
            raise builder.refused(node, f"layer {node.name!r} reads several types of edge")
        if child.width < module._out_feats:
            child = builder.linear(torch.eye(module._out_feats, child.width), None, node, child)
        cell = Cell(builder, node, module.gru, "", "gru")
        for _ in range(module._n_steps):
            sent = builder.inner(node, "linears.0", child)
            child = cell.gru(builder.propagate(node, sent), child)
        return child

    # Layers that are several steps

    def _chebconv(self, builder: Builder, node: Node, child: Expr) -> Expr:
        module: Any = node.module
        largest = arguments_of(builder, node).get("lambda_max")
        values = [2.0] if largest is None else [float(value) for value in largest]
        if len(set(values)) != 1:
            raise builder.refused(node, f"layer {node.name!r} is given several largest eigenvalues")
        terms = chebyshev(builder, node, child, module._k, values[0], "in_degree")
        rows = builder.inner(node, "linear", builder.join("cat", tuple(terms), node))
        return builder.chain(builder.ops.of(module.activation), node, rows)

    def _propagation(self, builder: Builder, node: Node, child: Expr) -> Expr:
        """A sum over the sources, normalised by the in-degree at both ends."""
        return builder.propagate(node, child, norm="in_degree")

    def _appnpconv(self, builder: Builder, node: Node, child: Expr) -> Expr:
        module: Any = node.module
        alpha = float(module._alpha)
        initial = builder.scale(child, node, alpha)
        for _ in range(module._k):
            near = builder.scale(builder.propagate(node, child, norm="both"), node, 1 - alpha)
            child = builder.sum(near, initial, node)
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
