"""Layers of PyTorch Geometric as row operations around a plain step or a message of both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satisfice._pyg_convs import AGGREGATORS
from satisfice._row_ops import activation

if TYPE_CHECKING:
    from satisfice._expressions import Builder
    from satisfice._exprs import Expr
    from satisfice._record import Node


def _linear(builder: Builder, node: Node, name: str, rows: Expr) -> Expr:
    return builder.inner(node, name, rows)


def _sums_only(builder: Builder, node: Node) -> None:
    module: Any = node.module
    if (found := type(module.aggr_module).__name__) != "SumAggregation":
        raise builder.refused(
            node, f"layer {node.name!r} aggregates by {found}: only aggr='add' is known"
        )


def _no_edge_features(builder: Builder, node: Node) -> None:
    module: Any = node.module
    if getattr(module, "edge_dim", None) is not None:
        raise builder.refused(node, f"layer {node.name!r} reads features of edges (edge_dim)")


def _means_of_heads(builder: Builder, node: Node, rows: Expr, heads: int) -> Expr:
    """The mean of heads that lie side by side."""
    width = rows.width // heads
    total = builder.slice(rows, 0, width, node)
    for head in range(1, heads):
        total = builder.sum(total, builder.slice(rows, head * width, width, node), node)
    return builder.scale(total, node, 1 / heads)


def _own_tensor(builder: Builder, node: Node, name: str) -> Any:
    """A parameter of the layer itself, written as what is made of it."""
    builder.weights.leave(node.name, name)
    tensor = getattr(node.module, name)
    return None if tensor is None else tensor.detach()


def arma(builder: Builder, node: Node, child: Expr, norm: tuple[str, bool]) -> Expr:
    """Stacks of ``act(P x W + x0 V + b)``, and their mean."""
    module: Any = node.module
    _sums_only(builder, node)
    first, weight, root, bias = (
        _own_tensor(builder, node, name)
        for name in ("init_weight", "weight", "root_weight", "bias")
    )
    stacks = []
    for stack in range(module.num_stacks):
        rows = child
        for step in range(module.num_layers):
            at = 0 if module.shared_weights else step
            matrix = first if step == 0 else weight[0 if module.shared_weights else step - 1]
            near = builder.linear(matrix[stack].T.contiguous(), None, node, rows)
            near = builder.propagate(node, near, norm=norm[0], **_loops(norm))
            shift = None if bias is None else bias[at, stack, 0]
            far = builder.linear(root[at, stack].T.contiguous(), shift, node, child)
            rows = builder.sum(near, far, node)
            rows = builder.chain(activation(module.act), node, rows)
        stacks.append(rows)
    total = stacks[0]
    for rows in stacks[1:]:
        total = builder.sum(total, rows, node)
    return builder.scale(total, node, 1 / len(stacks))


def _loops(norm: tuple[str, bool]) -> dict[str, bool]:
    return {"self_loops": norm[1]} if norm[0] == "symmetric" else {}


def chebyshev(
    builder: Builder, node: Node, child: Expr, terms: int, largest: float, norm: str
) -> list[Expr]:
    """Polynomials of the scaled Laplacian ``(2 / l - 1) x - 2 / l P x``."""
    scale = 2.0 / largest

    def shifted(rows: Expr, by: float) -> Expr:
        near = builder.scale(builder.propagate(node, rows, norm=norm), node, -scale * by)
        return builder.sum(near, builder.scale(rows, node, (scale - 1.0) * by), node)

    made = [child]
    for k in range(1, terms):
        rows = shifted(made[-1], 1.0 if k == 1 else 2.0)
        if k > 1:
            rows = builder.sum(rows, builder.scale(made[-2], node, -1.0), node)
        made.append(rows)
    return made


def cheb(builder: Builder, node: Node, child: Expr, largest: Any) -> Expr:
    """A map of each polynomial, summed."""
    module: Any = node.module
    _sums_only(builder, node)
    if module.normalization != "sym":
        raise builder.refused(
            node,
            f"layer {node.name!r} has normalization={module.normalization!r}: 'sym' is served",
        )
    value = builder.constant(largest)
    if largest is not None and (value is None or getattr(value, "numel", lambda: 1)() != 1):
        raise builder.refused(node, f"layer {node.name!r} is given an eigenvalue of each graph")
    of = 2.0 if largest is None else float(value)
    terms = chebyshev(builder, node, child, len(module.lins), of, "out_degree")
    total = _linear(builder, node, "lins.0", child)
    for k, rows in enumerate(terms[1:], start=1):
        total = builder.sum(total, _linear(builder, node, f"lins.{k}", rows), node)
    bias = _own_tensor(builder, node, "bias")
    return total if bias is None else builder.affine(None, bias, node, total)


def cluster_gcn(builder: Builder, node: Node, child: Expr) -> Expr:
    """``W (mean over sources and self + l / degree x) + V x``."""
    module: Any = node.module
    _sums_only(builder, node)
    if not module.add_self_loops:
        raise builder.refused(node, f"layer {node.name!r} has add_self_loops=False")
    weight = 1.0 + float(module.diag_lambda)
    made = builder.propagate(node, child, norm="average", self_loop_weight=weight)
    return builder.sum(
        _linear(builder, node, "lin_out", made), _linear(builder, node, "lin_root", child), node
    )


def le(builder: Builder, node: Node, child: Expr) -> Expr:
    """``sum (A x_s - B x_t) + C x_t``."""
    import torch

    _sums_only(builder, node)
    sent = _linear(builder, node, "lin1", child)
    taken = builder.scale(_linear(builder, node, "lin2", child), node, -1.0)
    ones = builder.linear(torch.zeros(sent.width, child.width), torch.ones(sent.width), node, child)
    rows = builder.join("cat", (ones, taken, sent), node)
    made = builder.edge(node, rows, sent.width, message="film")
    return builder.sum(made, _linear(builder, node, "lin3", child), node)


def transformer(builder: Builder, node: Node, child: Expr) -> Expr:
    """Attention by keys and queries, and a skip that may be gated."""
    module: Any = node.module
    _sums_only(builder, node)
    _no_edge_features(builder, node)
    query = _linear(builder, node, "lin_query", child)
    query = builder.scale(query, node, module.out_channels**-0.5)
    parts = (
        query,
        _linear(builder, node, "lin_key", child),
        _linear(builder, node, "lin_value", child),
    )
    width = module.heads * module.out_channels
    joined = builder.join("cat", parts, node)
    made = builder.edge(node, joined, width, message="dot", heads=module.heads)
    if not module.concat:
        made = _means_of_heads(builder, node, made, module.heads)
    if not module.root_weight:
        return made
    skip = _linear(builder, node, "lin_skip", child)
    if module.lin_beta is None:
        return builder.sum(made, skip, node)
    less = builder.sum(made, builder.scale(skip, node, -1.0), node)
    gate = _linear(builder, node, "lin_beta", builder.join("cat", (made, skip, less), node))
    gate = builder.op({"op": "sigmoid"}, node, gate)
    rest = builder.scale(gate, node, -1.0, 1.0)
    return builder.sum(builder.mul(gate, skip, node), builder.mul(rest, made, node), node)


def agnn(builder: Builder, node: Node, child: Expr) -> Expr:
    """Attention by the cosine of both ends."""
    module: Any = node.module
    _sums_only(builder, node)
    beta = _own_tensor(builder, node, "beta")
    return cosine(builder, node, child, float(beta), bool(module.add_self_loops))


def cosine(builder: Builder, node: Node, child: Expr, beta: float, loops: bool) -> Expr:
    """Attention by ``beta`` times the cosine of both ends."""
    unit = builder.op({"op": "l2_normalize"}, node, child)
    rows = builder.join("cat", (builder.scale(unit, node, beta), unit, child), node)
    return builder.edge(node, rows, child.width, message="dot", self_loops=loops or None)


def supergat(builder: Builder, node: Node, child: Expr) -> Expr:
    """Attention by scores times the sigmoid of a product, or by that product."""
    import torch

    module: Any = node.module
    _sums_only(builder, node)
    heads, channels = module.heads, module.out_channels
    made = _linear(builder, node, "lin", child)
    options = {"heads": heads, "negative_slope": float(module.negative_slope)}
    options["self_loops"] = bool(module.add_self_loops) or None
    if module.attention_type == "SD":
        query = builder.scale(made, node, channels**-0.5)
        rows = builder.join("cat", (query, made, made), node)
        made = builder.edge(node, rows, made.width, message="dot", **options)
    else:
        scores = []
        for name in ("att_r", "att_l"):
            vectors = _own_tensor(builder, node, name)[0]
            scores.append(builder.linear(torch.block_diag(*vectors), None, node, made))
        rows = builder.join("cat", (*scores, made), node)
        made = builder.edge(node, rows, made.width, message="gated_dot", **options)
    if not module.concat:
        made = _means_of_heads(builder, node, made, heads)
    bias = _own_tensor(builder, node, "bias")
    return made if bias is None else builder.affine(None, bias, node, made)


def film(builder: Builder, node: Node, child: Expr) -> Expr:
    """Messages that the target scales and shifts."""
    module: Any = node.module
    aggregator = AGGREGATORS.get(type(module.aggr_module).__name__)
    if module.num_relations > 1 or aggregator not in ("mean", "sum"):
        raise builder.refused(node, f"layer {node.name!r} has relations or aggregates otherwise")
    act, out = activation(module.act), module.out_channels

    def scaled(name: str) -> tuple[Expr, Expr]:
        both = _linear(builder, node, name, child)
        return builder.slice(both, 0, out, node), builder.slice(both, out, out, node)

    beta, gamma = scaled("film_skip")
    own = builder.sum(
        builder.mul(gamma, _linear(builder, node, "lin_skip", child), node), beta, node
    )
    beta, gamma = scaled("films.0")
    rows = builder.join("cat", (gamma, beta, _linear(builder, node, "lins.0", child)), node)
    options = {"activation": act[0]} if act else {}
    made = builder.edge(node, rows, out, message="film", aggregator=aggregator, **options)
    return builder.sum(builder.chain(act, node, own), made, node)


def res_gated(builder: Builder, node: Node, child: Expr) -> Expr:
    """Messages that a gate of both ends scales."""
    module: Any = node.module
    _no_edge_features(builder, node)
    aggregator = AGGREGATORS.get(type(module.aggr_module).__name__)
    if type(module.act).__name__ != "Sigmoid" or aggregator not in ("sum", "mean"):
        raise builder.refused(node, f"layer {node.name!r} has another gate than a sigmoid")
    names = ("lin_key", "lin_query", "lin_value")
    joined = builder.join("cat", tuple(_linear(builder, node, n, child) for n in names), node)
    options = {} if aggregator == "sum" else {"aggregator": aggregator}
    made = builder.edge(node, joined, module.out_channels, message="gate", **options)
    if module.root_weight:
        made = builder.sum(made, _linear(builder, node, "lin_skip", child), node)
    bias = _own_tensor(builder, node, "bias")
    return made if bias is None else builder.affine(None, bias, node, made)


def gen(builder: Builder, node: Node, child: Expr) -> Expr:
    """``mlp(x + aggregate(relu(x_s) + eps))``; a softmax of each channel, or plainly."""
    module: Any = node.module
    if hasattr(module, "lin_edge") or hasattr(module, "msg_norm"):
        raise builder.refused(node, f"layer {node.name!r} has edge_dim or msg_norm")
    sent = _linear(builder, node, "lin_src", child) if hasattr(module, "lin_src") else child
    sent = builder.scale(builder.op({"op": "relu"}, node, sent), node, 1.0, module.eps)
    made = aggregated(builder, node, sent, module.aggr_module, f"{node.name}.aggr_module")
    if hasattr(module, "lin_aggr_out"):
        made = _linear(builder, node, "lin_aggr_out", made)
    own = _linear(builder, node, "lin_dst", child) if hasattr(module, "lin_dst") else child
    return _linear(builder, node, "mlp", builder.sum(made, own, node))


def aggregated(builder: Builder, node: Node, sent: Expr, aggr: Any, prefix: str) -> Expr:
    """What an aggregation makes of rows that sources send."""
    kind = type(aggr).__name__
    if kind in AGGREGATORS:
        return builder.propagate(node, sent, aggregator=AGGREGATORS[kind])
    if kind == "MinAggregation":
        least = builder.propagate(node, builder.scale(sent, node, -1.0), aggregator="max")
        return builder.scale(least, node, -1.0)
    if kind == "VarAggregation":
        mean = builder.propagate(node, sent, aggregator="mean")
        squares = builder.propagate(node, builder.mul(sent, sent, node), aggregator="mean")
        less = builder.scale(builder.mul(mean, mean, node), node, -1.0)
        return builder.sum(squares, less, node)
    if kind == "SoftmaxAggregation":
        builder.weights.leave(prefix, "t")
        t = aggr.t.detach() if hasattr(aggr.t, "detach") else float(aggr.t)
        rows = builder.join("cat", (builder.affine(t, None, node, sent), sent), node)
        return builder.edge(node, rows, sent.width, message="source", heads=sent.width)
    if kind == "MultiAggregation" and aggr.mode == "cat":
        parts = [
            aggregated(builder, node, sent, one, f"{prefix}.aggrs.{at}")
            for at, one in enumerate(aggr.aggrs)
        ]
        return builder.join("cat", tuple(parts), node)
    raise builder.refused(
        node,
        f"layer {node.name!r} aggregates by {kind}: known are sum, mean, max, min, var, softmax "
        "and several of them side by side. An LSTM or a median depends on more than sums",
    )


def several(builder: Builder, node: Node, child: Expr) -> Expr:
    """SAGEConv and GraphConv with another aggregation than a sum, mean or maximum."""
    module: Any = node.module
    graph_conv = type(module).__name__ == "GraphConv"
    near, root = ("lin_rel", "lin_root") if graph_conv else ("lin_l", "lin_r")
    sent = child
    if getattr(module, "project", False):
        sent = builder.op({"op": "relu"}, node, _linear(builder, node, "lin", child))
    prefix = f"{node.name}.aggr_module"
    made = aggregated(builder, node, sent, module.aggr_module, prefix)
    made = _linear(builder, node, near, made)
    if graph_conv or module.root_weight:
        made = builder.sum(made, _linear(builder, node, root, child), node)
    normalize = getattr(module, "normalize", False)
    return builder.op({"op": "l2_normalize"}, node, made) if normalize else made


def gated_graph(builder: Builder, node: Node, child: Expr) -> Expr:
    """Steps of a sum of mapped sources, each through a recurrent cell."""
    import torch

    from satisfice._cells import Cell

    module: Any = node.module
    aggregator = AGGREGATORS.get(type(module.aggr_module).__name__)
    if aggregator is None:
        raise builder.refused(node, f"layer {node.name!r} aggregates in a way that is not known")
    width = module.out_channels
    if child.width < width:
        pad = torch.eye(width, child.width)
        child = builder.linear(pad, None, node, child)
    cell = Cell(builder, node, module.rnn, "", "rnn")
    weight = _own_tensor(builder, node, "weight")
    for step in range(module.num_layers):
        sent = builder.linear(weight[step].T.contiguous(), None, node, child)
        child = cell.gru(builder.propagate(node, sent, aggregator=aggregator), child)
    return child


# By the name of the layer.
OF_ROWS = {
    "AGNNConv": agnn,
    "ClusterGCNConv": cluster_gcn,
    "FiLMConv": film,
    "GENConv": gen,
    "GatedGraphConv": gated_graph,
    "LEConv": le,
    "ResGatedGraphConv": res_gated,
    "SuperGATConv": supergat,
    "TransformerConv": transformer,
}
EDGES = (*OF_ROWS, "ARMAConv", "ChebConv")
