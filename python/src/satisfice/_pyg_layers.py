"""Layers of PyTorch Geometric in a recorded run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satisfice import _pyg_data, _pyg_edges
from satisfice._expressions import Builder
from satisfice._exprs import Expr
from satisfice._graphs import same_edges
from satisfice._layer_calls import arguments_of, not_known, rows_of
from satisfice._pyg_convs import AGGREGATORS, KNOWN, PygConvs, is_conv
from satisfice._record import Node
from satisfice._trial import SmallGraph

if TYPE_CHECKING:
    from torch import Tensor

# Layers without weights of their own between steps, in terms of those that have them.
_STEPS = ("APPNP", "LGConv", "MixHopConv", "SGConv", "SSGConv", "SimpleConv", "TAGConv")


class PygLayers:
    """Reads the layers of one run on one graph."""

    def __init__(self, graph: SmallGraph, asks: bool) -> None:
        self._graph = graph
        # Whether the caller may weigh edges without having said so.
        self._asks = asks

    def read(self, builder: Builder, node: Node) -> Expr:
        """The expression of a layer."""
        module: Any = node.module
        kind = type(module).__name__
        own = type(module).__module__.startswith("torch_geometric.nn")
        is_steps, is_edges = own and kind in _STEPS, own and kind in _pyg_edges.EDGES
        if not is_conv(module) and not is_steps and not is_edges:
            raise not_known(builder, node, known_layers())
        if own and getattr(module, "flow", "source_to_target") != "source_to_target":
            raise builder.refused(
                node, f"layer {node.name!r} has flow={module.flow!r}: reverse the edges instead"
            )
        arguments = arguments_of(builder, node)
        child = rows_of(builder, node, arguments["x"])
        weighed = self._edges(builder, node, arguments)
        if self._asks and weighed == "plain" and weighable(module):
            raise builder.refused(
                node,
                f"layer {node.name!r} has normalize=False, so the caller may weigh the edges: pass "
                "gcn_norm='symmetric' if they came from gcn_norm with self-loops, or "
                "gcn_norm='none' if the model gets the plain edges",
            )
        if is_steps:
            made: Expr = getattr(self, f"_{kind.lower()}")(builder, node, child, weighed)
            return made
        if is_edges:
            return self._of_edges(builder, node, child, (weighed, arguments))
        if kind not in ("GCNConv", "GCN2Conv") and weighed != "plain":
            raise builder.refused(node, f"layer {node.name!r} ({kind}) is given weights of edges")
        if kind in ("SAGEConv", "GraphConv") and (
            type(module.aggr_module).__name__ not in AGGREGATORS
        ):
            return _pyg_edges.several(builder, node, child)
        convs = PygConvs(builder.weights, builder.ops, _NORMS[weighed][0])
        if module_normalizes(module) and weighed != "plain":
            raise builder.refused(
                node, f"layer {node.name!r} normalises edges that were normalised before"
            )
        described = convs.describe(module, node.name)
        given = arguments.get("x_0")
        initial = None if given is None else builder.rows(given)
        if weighed == "symmetric_without_loops":
            described["self_loops"] = False
        return builder.layer(described, node, child, initial)

    def _of_edges(
        self, builder: Builder, node: Node, child: Expr, given: tuple[str, dict[str, Any]]
    ) -> Expr:
        kind, (weighed, arguments) = type(node.module).__name__, given
        if weighed != "plain":
            raise builder.refused(node, f"layer {node.name!r} ({kind}) is given weights of edges")
        if kind == "ARMAConv":
            return _pyg_edges.arma(builder, node, child, ("symmetric", False))
        if kind == "ChebConv":
            return _pyg_edges.cheb(builder, node, child, arguments.get("lambda_max"))
        return _pyg_edges.OF_ROWS[kind](builder, node, child)

    def _edges(self, builder: Builder, node: Node, arguments: dict[str, Any]) -> str:
        """How the edges that a layer reads are weighed."""
        import torch

        edges, weight = arguments["edge_index"], arguments.get("edge_weight")
        if arguments.get("edge_attr") is not None:
            raise builder.refused(node, f"layer {node.name!r} reads features of edges")
        value = edges.value if isinstance(edges, Node) else edges
        weights = weight.value if isinstance(weight, Node) else weight
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            edge_array, weights = _pyg_data.entries(value)
            value = torch.from_numpy(edge_array)
            weights = None if weights is None or bool((weights == 1).all()) else weights
        kind = self._kind(value, weights)
        if kind is None:
            what = "other edges than the model is given" if weights is None else "weights of edges"
            raise builder.refused(
                node,
                f"layer {node.name!r} reads {what}: edges are served as they are stored. Change "
                "them before the export, and train on them",
            )
        return kind

    def _kind(self, edges: Tensor, weights: Tensor | None) -> str | None:
        import torch
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        plain = torch.from_numpy(self._graph.edges)
        if weights is None or bool((weights == 1).all()):
            return "plain" if same_edges((edges, None), (plain, None)) else None
        for kind, loops in (("symmetric", True), ("symmetric_without_loops", False)):
            other = gcn_norm(plain, None, self._graph.nodes, add_self_loops=loops)
            if same_edges((edges, weights), other):
                return kind
        return None

    # Layers that are several steps

    def _propagation(
        self, builder: Builder, node: Node, child: Expr, norm: tuple[str, bool]
    ) -> Expr:
        """One normalised sum over the sources."""
        loops = {"self_loops": norm[1]} if norm[0] == "symmetric" else {}
        return builder.propagate(node, child, norm=norm[0], **loops)

    def _norm(self, builder: Builder, node: Node, weighed: str) -> tuple[str, bool]:
        """Norm of a layer that normalises unless told not to, and whether it adds self-loops."""
        module: Any = node.module
        if getattr(module, "cached", False):
            raise builder.refused(node, f"layer {node.name!r} has cached=True: set it to False")
        if getattr(module, "normalize", True):
            if weighed != "plain":
                raise builder.refused(node, f"layer {node.name!r} is given weights of edges")
            return "symmetric", bool(getattr(module, "add_self_loops", False))
        return _NORMS[weighed]

    def _lgconv(self, builder: Builder, node: Node, child: Expr, weighed: str) -> Expr:
        norm, _ = self._norm(builder, node, weighed)
        return self._propagation(builder, node, child, (norm, False))

    def _sgconv(self, builder: Builder, node: Node, child: Expr, weighed: str) -> Expr:
        module: Any = node.module
        norm = self._norm(builder, node, weighed)
        if module.K == 0:
            raise builder.refused(node, f"layer {node.name!r} has K=0 and reads no edge")
        # The map comes where rows are narrower.
        weight, bias = module.lin.weight.detach(), module.lin.bias
        builder.weights.leave(node.name, "lin.weight", "lin.bias")
        first = weight.shape[0] <= weight.shape[1]
        child = builder.linear(weight, None, node, child) if first else child
        for _ in range(module.K):
            child = self._propagation(builder, node, child, norm)
        shift = None if bias is None else bias.detach()
        if first:
            return builder.affine(None, shift, node, child)
        return builder.linear(weight, shift, node, child)

    def _appnp(self, builder: Builder, node: Node, child: Expr, weighed: str) -> Expr:
        module: Any = node.module
        norm = self._norm(builder, node, weighed)
        alpha = float(module.alpha)
        initial = builder.scale(child, node, alpha)
        for _ in range(module.K):
            near = builder.scale(self._propagation(builder, node, child, norm), node, 1 - alpha)
            child = builder.sum(near, initial, node)
        return child

    def _tagconv(self, builder: Builder, node: Node, child: Expr, weighed: str) -> Expr:
        module: Any = node.module
        norm, _ = self._norm(builder, node, weighed)
        total = builder.inner(node, "lins.0", child)
        for step in range(1, len(module.lins)):
            child = self._propagation(builder, node, child, (norm, False))
            total = builder.sum(total, builder.inner(node, f"lins.{step}", child), node)
        return _biased(builder, node, total)

    def _mixhopconv(self, builder: Builder, node: Node, child: Expr, weighed: str) -> Expr:
        module: Any = node.module
        norm = self._norm(builder, node, weighed)
        parts: dict[int, Expr] = {}
        for power in range(max(module.powers) + 1):
            child = self._propagation(builder, node, child, norm) if power else child
            if power in module.powers:
                parts[power] = builder.inner(node, f"lins.{power}", child)
        joined = builder.join("cat", tuple(parts[power] for power in module.powers), node)
        return _biased(builder, node, joined)

    def _ssgconv(self, builder: Builder, node: Node, child: Expr, weighed: str) -> Expr:
        module: Any = node.module
        norm = self._norm(builder, node, weighed)
        total = builder.scale(child, node, module.alpha)
        for _ in range(module.K):
            child = self._propagation(builder, node, child, norm)
            part = builder.scale(child, node, (1 - module.alpha) / module.K)
            total = builder.sum(total, part, node)
        return builder.inner(node, "lin", total)

    def _simpleconv(self, builder: Builder, node: Node, child: Expr, weighed: str) -> Expr:
        module: Any = node.module
        aggregator = AGGREGATORS.get(type(module.aggr_module).__name__)
        root = module.combine_root
        if aggregator is None or root == "self_loop" or weighed != "plain":
            raise builder.refused(
                node, f"layer {node.name!r} is a SimpleConv with options that are not served"
            )
        made = builder.propagate(node, child, aggregator=aggregator)
        if root == "cat":
            return builder.join("cat", (child, made), node)
        return made if root is None else builder.sum(made, child, node)


def is_known(module: Any) -> bool:
    """Whether a module is one of these layers; others are recorded tensor by tensor."""
    cls = type(module)
    return cls.__module__.startswith("torch_geometric.nn") and cls.__name__ in known_layers()


def known_layers() -> tuple[str, ...]:
    """Names of the layers that are known."""
    return (*KNOWN, *_STEPS, *_pyg_edges.EDGES)


_NORMS = {
    "plain": ("none", False),
    "symmetric": ("symmetric", True),
    "symmetric_without_loops": ("symmetric", False),
}


def _biased(builder: Builder, node: Node, rows: Expr) -> Expr:
    """Rows and the bias of the layer itself, if it has one."""
    module: Any = node.module
    if module.bias is None:
        return rows
    builder.weights.leave(node.name, "bias")
    return builder.affine(None, module.bias.detach(), node, rows)


def weighable(module: Any) -> bool:
    """Whether the layer leaves the normalisation of edges to its caller."""
    is_kind = type(module).__name__ in ("GCNConv", "GCN2Conv", *_STEPS)
    return is_kind and getattr(module, "normalize", None) is False


def module_normalizes(module: Any) -> bool:
    """Whether the layer normalises edges itself."""
    return bool(getattr(module, "normalize", False)) and hasattr(module, "add_self_loops")
