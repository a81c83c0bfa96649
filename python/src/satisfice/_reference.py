"""Runs a description on a small graph, without the framework's own layers.

It says what the sidecar means (docs/formats.md) in a second, plain way, in double precision. An
export is refused where a model's own answer is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satisfice._errors import ExportError
from satisfice._row_ops import RowOp
from satisfice._sidecar import Description
from satisfice._weights import join

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
Layer = dict[str, Any]
AtLevel = Callable[[int, "Tensor"], "Tensor"]


def run(
    description: Description,
    tensors: Tensors,
    x: Tensor,
    edges: Tensor,
    at_level: AtLevel | None = None,
) -> Tensor:
    """The answer [N, outputs] for features ``x`` [N, F] and ``edges`` [2, E], all in doubles.

    ``at_level`` may change the rows of a level, by its number, before anything reads them.
    """
    change = at_level or (lambda _, rows: rows)
    graph = _Graph(edges[0], edges[1], len(x))
    levels = [change(0, apply(description.input, x, {"features": x}, tensors))]
    for k, layer in enumerate(description.layers, start=1):
        read = levels[0 if layer.get("reads") == "initial" else -1]
        read = apply(layer.get("before", []), read, {"level": read}, tensors)
        made = _LAYERS[layer["type"]](_Run(layer, tensors, graph, levels[0], description), read)
        given = {"made": made, "below": levels[-1], "initial": levels[0]}
        levels.append(change(k, apply(layer.get("after", []), made, given, tensors)))
    given = {f"level.{k}": rows for k, rows in enumerate(levels)}
    joined = _join(description, levels[1:], tensors)
    return apply(description.head, joined, given, tensors)


def _join(description: Description, levels: list[Tensor], tensors: Tensors) -> Tensor:
    jumping = description.jumping_knowledge
    if jumping is None:
        return levels[-1]
    return _joined({"op": jumping["mode"], **jumping}, levels, tensors)


def _lstm(prefix: str, levels: list[Tensor], tensors: Tensors) -> Tensor:
    import torch

    stacked = torch.stack(levels, dim=1)
    weights = {name: tensors[name] for name in tensors if name.startswith(f"{prefix}.lstm.")}
    hidden = weights[f"{prefix}.lstm.weight_hh_l0"].shape[1]
    lstm = torch.nn.LSTM(
        stacked.shape[2], hidden, bidirectional=True, batch_first=True, dtype=stacked.dtype
    )
    lstm.load_state_dict({name.split(".lstm.")[1]: value for name, value in weights.items()})
    states, _ = lstm(stacked)
    scores = states @ tensors[f"{prefix}.att.weight"].T + tensors[f"{prefix}.att.bias"]
    return (stacked * scores.softmax(dim=1)).sum(dim=1)


@dataclass
class _Graph:
    source: Tensor
    target: Tensor
    nodes: int

    def sum(self, rows: Tensor) -> Tensor:
        """Sums of the rows [E, width] of the edges to each node."""
        return rows.new_zeros(self.nodes, *rows.shape[1:]).index_add_(0, self.target, rows)

    def max(self, rows: Tensor) -> Tensor:
        """Largest values of the edges to each node; 0 where there is none."""
        at = self.target[:, None].expand_as(rows)
        zeros = rows.new_zeros(self.nodes, rows.shape[1])
        return zeros.scatter_reduce(0, at, rows, "amax", include_self=False)

    def degree(self, ends: Tensor, weights: Tensor | None = None) -> Tensor:
        import torch

        ones = torch.ones(len(ends), dtype=torch.float64) if weights is None else weights
        return torch.zeros(self.nodes, dtype=torch.float64).index_add_(0, ends, ones)

    def without_loops(self) -> _Graph:
        kept = self.source != self.target
        return _Graph(self.source[kept], self.target[kept], self.nodes)

    def with_a_loop_each(self) -> _Graph:
        import torch

        plain, all_nodes = self.without_loops(), torch.arange(self.nodes)
        source, target = (torch.cat([ends, all_nodes]) for ends in (plain.source, plain.target))
        return _Graph(source, target, self.nodes)

    def with_another_loop_each(self) -> _Graph:
        import torch

        all_nodes = torch.arange(self.nodes)
        return _Graph(
            torch.cat([self.source, all_nodes]), torch.cat([self.target, all_nodes]), self.nodes
        )

    def reduce(self, rows: Tensor, aggregator: str) -> Tensor:
        """What the rows [N, width] of each node's sources are reduced to."""
        sent = rows[self.source]
        if aggregator == "max":
            return self.max(sent)
        total = self.sum(sent)
        if aggregator == "mean":
            return total / self.degree(self.target).clamp(min=1)[:, None]
        return total


@dataclass
class _Run:
    """One layer at work."""

    layer: Layer
    tensors: Tensors
    graph: _Graph
    initial: Tensor
    description: Description

    @property
    def is_dgl(self) -> bool:
        return self.description.framework == "dgl"

    def tensor(self, name: str) -> Tensor:
        return self.tensors[join(self.layer["tensors"], name)]

    def linear(self, name: str, rows: Tensor) -> Tensor:
        return linear(self.tensors, join(self.layer["tensors"], name), rows)

    def propagate(self, rows: Tensor) -> Tensor:
        """The normalised sum of each node's sources."""
        import torch

        graph, norm = self.graph, self.layer["norm"]
        if norm == "out_degree":
            graph = graph.without_loops()
        looped = norm in ("symmetric", "average")
        loops = self.layer.get("self_loops", True) if looped else False
        weights = None
        if loops:
            graph = self.graph.with_a_loop_each()
            weights = torch.ones(len(graph.source), dtype=torch.float64)
            weights[-graph.nodes :] = self.layer.get("self_loop_weight", 1.0)
        counted = None if norm == "average" else weights
        incoming = graph.degree(graph.target, counted)
        outgoing = graph.degree(graph.source)
        source, target = _factors(norm, incoming, outgoing)
        sent = rows[graph.source] * source[graph.source, None]
        if weights is not None:
            sent = sent * weights[:, None]
        return graph.sum(sent) * target[:, None]


def _factors(norm: str, incoming: Tensor, outgoing: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    ones = torch.ones_like(incoming)
    if norm in ("symmetric", "out_degree"):
        incoming = incoming if norm == "symmetric" else outgoing
        factor = torch.where(incoming > 0, incoming, torch.inf) ** -0.5
        return factor, factor
    incoming, outgoing = incoming.clamp(min=1), outgoing.clamp(min=1)
    return {
        "both": (outgoing**-0.5, incoming**-0.5),
        "right": (ones, 1 / incoming),
        "average": (ones, 1 / incoming),
        "left": (1 / outgoing, ones),
        "in_degree": (incoming**-0.5, incoming**-0.5),
        "none": (ones, ones),
    }[norm]


def _gcn(run: _Run, rows: Tensor) -> Tensor:
    weight = run.tensor("weight") if run.is_dgl else run.tensor("lin.weight").T
    made = run.propagate(rows) @ weight
    return made + run.tensor("bias") if run.layer.get("bias", True) else made


def _sage(run: _Run, rows: Tensor) -> Tensor:
    aggregator = run.layer["aggregator"]
    message = rows
    if run.layer.get("project") or aggregator == "pool":
        message = run.linear("fc_pool" if run.is_dgl else "lin", rows).relu()
    if aggregator == "gcn":
        degree = run.graph.degree(run.graph.target)[:, None]
        reduced = (run.graph.reduce(message, "sum") + rows) / (degree + 1)
    else:
        reduced = run.graph.reduce(message, "max" if aggregator == "pool" else aggregator)
    if run.is_dgl:
        made = run.linear("fc_neigh", reduced)
        made = made if aggregator == "gcn" else made + run.linear("fc_self", rows)
        bias = run.tensors.get(join(run.layer["tensors"], "bias"))
        return made if bias is None else made + bias
    made = run.linear("lin_l", reduced)
    if run.layer.get("root_weight", True):
        made = made + run.linear("lin_r", rows)
    return _normalized(made) if run.layer.get("normalize") else made


def _attention(run: _Run, rows: Tensor) -> Tensor:
    layer = run.layer
    graph = run.graph
    if layer.get("self_loops", True) and not run.is_dgl:
        graph = graph.with_a_loop_each()
    made, logits = (_scores_v2 if layer["type"] == "gatv2" else _scores)(run, rows, graph)
    heads = _attended(graph, logits, made)
    return _finish_attention(run, rows, heads)


def _heads(run: _Run, rows: Tensor) -> Tensor:
    return rows.view(len(rows), run.layer["heads"], run.layer["out"])


def _scores(run: _Run, rows: Tensor, graph: _Graph) -> tuple[Tensor, Tensor]:
    names = ("fc", "attn_l", "attn_r") if run.is_dgl else ("lin", "att_src", "att_dst")
    made = _heads(run, run.linear(names[0], rows))
    source, target = ((made * run.tensor(name)).sum(-1) for name in names[1:])
    return made, _leaky(run, source[graph.source] + target[graph.target])


def _scores_v2(run: _Run, rows: Tensor, graph: _Graph) -> tuple[Tensor, Tensor]:
    names = ("fc_src", "fc_dst", "attn") if run.is_dgl else ("lin_l", "lin_r", "att")
    made = _heads(run, run.linear(names[0], rows))
    shared = run.layer.get("share_weights", False)
    other = made if shared else _heads(run, run.linear(names[1], rows))
    joined = _leaky(run, made[graph.source] + other[graph.target])
    return made, (joined * run.tensor(names[2])).sum(-1)


def _leaky(run: _Run, rows: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.leaky_relu(rows, run.layer.get("negative_slope", 0.2))


def _finish_attention(run: _Run, rows: Tensor, heads: Tensor) -> Tensor:
    residual = run.layer.get("residual", False)
    added = rows if residual == "identity" else None
    if residual is True:
        added = run.linear("res_fc" if run.is_dgl else "res", rows)
    bias = run.tensors.get(join(run.layer["tensors"], "bias"))
    concat = run.layer["concat"]
    if not run.is_dgl:
        made = heads.flatten(1) if concat else heads.mean(1)
        made = made if added is None else made + added
        return made if bias is None else made + bias
    # DGL adds both before the heads' mean is taken.
    heads = heads if added is None else heads + added.view(len(rows), -1, run.layer["out"])
    heads = heads if bias is None else heads + bias.view(-1, run.layer["out"])
    return heads.flatten(1) if concat else heads.mean(1)


def _gin(run: _Run, rows: Tensor) -> Tensor:
    reduced = run.graph.reduce(rows, run.layer.get("aggregator", "sum"))
    mixed = reduced + (1 + run.tensor("eps")) * rows
    return apply(run.layer["mlp"], mixed, {"rows": mixed}, run.tensors)


def _gcn2(run: _Run, rows: Tensor) -> Tensor:
    alpha, beta = run.layer["alpha"], run.layer["beta"]
    near, far = (1 - alpha) * run.propagate(rows), alpha * run.initial
    if run.layer.get("shared_weights", True):
        near, far = near + far, far.new_zeros(far.shape)
    made = (1 - beta) * (near + far) + beta * (near @ run.tensor("weight1"))
    if not run.layer.get("shared_weights", True):
        made = made + beta * (far @ run.tensor("weight2"))
    return made + run.tensor("bias") if run.layer.get("bias", False) else made


def _propagate(run: _Run, rows: Tensor) -> Tensor:
    aggregator = run.layer.get("aggregator", "sum")
    if aggregator != "sum":
        return run.graph.reduce(rows, aggregator)
    run.layer = {"norm": "none", **run.layer}
    return run.propagate(rows)


def _edge(run: _Run, rows: Tensor) -> Tensor:
    """What both ends make of an edge; rows are what a target brings and what a source sends."""
    layer, out = run.layer, run.layer["out"]
    heads, kind = layer.get("heads", 1), layer["message"]
    graph = run.graph.with_a_loop_each() if layer.get("self_loops") else run.graph
    values = rows[:, -out:]
    if kind in ("gate", "film"):
        one, other = rows[:, :out], rows[:, out : 2 * out]
        if kind == "gate":
            made = (one[graph.target] + other[graph.source]).sigmoid() * values[graph.source]
        else:
            made = one[graph.target] * values[graph.source] + other[graph.target]
            made = _apply_one(layer["activation"], [made], {}) if "activation" in layer else made
        total = graph.sum(made)
        mean = layer.get("aggregator", "sum") == "mean"
        return total / graph.degree(graph.target).clamp(min=1)[:, None] if mean else total
    split = values.view(len(rows), heads, -1)
    rest = rows[:, :-out].view(len(rows), -1, heads) if kind != "dot" else None
    if kind == "source":
        assert rest is not None
        logits = rest[graph.source, 0]
    elif kind == "gated_dot":
        assert rest is not None
        gate = (split[graph.target] * split[graph.source]).sum(-1).sigmoid()
        logits = (rest[graph.target, 0] + rest[graph.source, 1]) * gate
    else:
        query, key = rows[:, :-out].view(len(rows), 2, heads, -1).unbind(1)
        logits = (query[graph.target] * key[graph.source]).sum(-1)
    if "negative_slope" in layer:
        logits = _leaky(run, logits)
    return _attended(graph, logits, split).flatten(1)


def _message(run: _Run, rows: Tensor) -> Tensor:
    """What a program makes of both ends of each edge, reduced."""
    layer, heads = run.layer, run.layer.get("heads", 1)
    graph = {
        "kept": lambda: run.graph,
        "added": run.graph.with_another_loop_each,
        "replaced": run.graph.with_a_loop_each,
        "removed": run.graph.without_loops,
    }[layer.get("self_loops", "kept")]()
    target = layer.get("target", 0)
    sent, brought = rows[graph.source, target:], rows[graph.target, :target]
    made = apply(layer.get("program", []), sent, {"source": sent, "target": brought}, run.tensors)
    if layer["aggregator"] == "softmax":
        values = made[:, heads:].view(len(made), heads, -1)
        return _weighed(graph, made[:, :heads], values).flatten(1)
    if layer["aggregator"] == "max":
        return graph.max(made)
    total = graph.sum(made)
    if layer["aggregator"] == "sum":
        return total
    return total / graph.degree(graph.target).clamp(min=1)[:, None]


def _attended(graph: _Graph, logits: Tensor, made: Tensor) -> Tensor:
    """Rows [N, heads, channels] weighed by the softmax of logits [E, heads] over in-edges."""
    return _weighed(graph, logits, made[graph.source])


def _weighed(graph: _Graph, logits: Tensor, values: Tensor) -> Tensor:
    """Values [E, heads, channels] weighed by the softmax of logits [E, heads] over in-edges."""
    top = graph.max(logits)
    exponents = (logits - top[graph.target]).exp()
    shares = exponents / graph.sum(exponents)[graph.target]
    return graph.sum(shares[:, :, None] * values)


_LAYERS = {
    "propagate": _propagate,
    "edge": _edge,
    "message": _message,
    "gcn": _gcn,
    "sage": _sage,
    "gat": _attention,
    "gatv2": _attention,
    "gin": _gin,
    "gcn2": _gcn2,
}


def linear(tensors: Tensors, prefix: str, rows: Tensor) -> Tensor:
    """``rows`` through ``prefix.weight``, plus ``prefix.bias`` where there is one."""
    made = rows @ tensors[join(prefix, "weight")].T
    bias = tensors.get(join(prefix, "bias"))
    return made if bias is None else made + bias


def _normalized(rows: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.normalize(rows, dim=-1)


def apply(ops: list[RowOp], rows: Tensor, given: dict[str, Tensor], tensors: Tensors) -> Tensor:
    """The steps of a row program; ``given`` are rows by name, ``rows`` what the first reads."""
    named = dict(given)
    for op in ops:
        of = op.get("of", [])
        read = [named[name] for name in ([of] if isinstance(of, str) else of)] or [rows]
        if op["op"] == "residual":
            rows = read[0] + given["below"]
        elif op["op"] == "linear_residual":
            rows = read[0] + linear(tensors, op["tensors"], given["below"])
        else:
            rows = _apply_one(op, read, tensors)
        if "as" in op:
            named[op["as"]] = rows
    return rows


def _joined(op: RowOp, read: list[Tensor], tensors: Tensors) -> Tensor:
    import torch

    if op["op"] == "cat":
        return torch.cat(read, dim=-1)
    if op["op"] == "lstm":
        return _lstm(op["tensors"], read, tensors)
    total = read[0]
    for rows in read[1:]:
        total = {"add": torch.add, "mul": torch.mul, "max": torch.maximum}[op["op"]](total, rows)
    return total


def _apply_one(op: RowOp, read: list[Tensor], tensors: Tensors) -> Tensor:
    import torch
    from torch.nn import functional

    rows = read[0]
    if op["op"] in ("add", "mul", "max", "cat", "lstm"):
        return _joined(op, read, tensors)
    if op["op"] == "slice":
        return rows[:, op["start"] : op["start"] + op["width"]]
    if op["op"] == "scale":
        return rows * op.get("by", 1.0) + op.get("plus", 0.0)
    if op["op"] == "clamp":
        return rows.clamp(op.get("min"), op.get("max"))
    if op["op"] == "power":
        return rows ** op["exponent"]
    if op["op"] == "threshold":
        return rows * (rows > op["min"])
    if op["op"] in ("exp", "log"):
        return rows.exp() if op["op"] == "exp" else rows.log()
    if op["op"] == "softmax":
        return rows.softmax(dim=-1)
    kind = op["op"]
    options = {name: value for name, value in op.items() if name in ("alpha", "negative_slope")}
    if kind in ("elu", "gelu", "leaky_relu", "relu", "silu"):
        activated: Tensor = getattr(functional, kind)(rows, **options)
        return activated
    if kind in ("sigmoid", "tanh"):
        return torch.sigmoid(rows) if kind == "sigmoid" else torch.tanh(rows)
    if kind == "l2_normalize":
        return _normalized(rows)
    if kind == "linear":
        return linear(tensors, op["tensors"], rows)
    weight, bias = (tensors.get(join(op["tensors"], name)) for name in ("weight", "bias"))
    if kind == "prelu":
        return functional.prelu(rows, tensors[join(op["tensors"], "weight")])
    if kind == "layer_norm":
        return functional.layer_norm(rows, rows.shape[-1:], weight, bias, op["eps"])
    if kind == "batch_norm":
        mean, variance = (tensors[f"{op['tensors']}.running_{name}"] for name in ("mean", "var"))
        return functional.batch_norm(rows, mean, variance, weight, bias, eps=op["eps"])
    raise ExportError(f"operation {kind!r} is not known")
