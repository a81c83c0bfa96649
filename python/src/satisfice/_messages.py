"""Messages of edges in a recorded run: rows of both ends, and what reduces them to rows of nodes.

Rows of edges are expressions like those of nodes, over the rows of their ends. What depends on one
end alone is computed once a node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satisfice._exprs import End, Expr, Op, Reduced, Shares, Stack
from satisfice._graph_values import Degree

if TYPE_CHECKING:
    from torch import Tensor

    from satisfice._expressions import Builder
    from satisfice._record import Node


def end(builder: Builder, node: Node, side: tuple[str, str], child: Expr) -> Expr:
    """The rows of one end of each edge."""
    if isinstance(child, Stack):
        parts = tuple(end(builder, node, side, part) for part in child.children)
        return builder.stack(parts, child.dim, node)
    made: Expr = builder.intern(
        End, ("end", *side, id(child)), node, *side, child, width=child.width
    )
    return made


def reduce(builder: Builder, node: Node, aggregator: str, loops: str, rows: Expr) -> Expr:
    """Rows of edges reduced."""
    if isinstance(rows, Stack):
        flat = reduce(builder, node, aggregator, loops, builder.join("cat", rows.children, node))
        cut, start = [], 0
        for part in rows.children:
            cut.append(builder.slice(flat, start, part.width, node))
            start += part.width
        return builder.stack(tuple(cut), rows.dim, node)
    if aggregator == "min":
        largest = reduce(builder, node, "max", loops, builder.scale(rows, node, -1.0))
        return builder.scale(largest, node, -1.0)
    key = ("reduced", aggregator, loops, id(rows))
    parts = (aggregator, loops, rows, node)
    made: Expr = builder.intern(Reduced, key, node, *parts, width=rows.width)
    return made


# Functions of PyTorch


def gathered(builder: Builder, node: Node, rows: Any, index: Any) -> Expr:
    """``rows[index]``, ``rows.index_select(0, index)``."""
    side = builder.graph.side(index.value) if builder.graph is not None else None
    if side is None:
        raise builder.refused(
            node,
            f"`{node.name}` reads rows by an index that is neither the sources nor the targets of "
            "the edges as they are stored",
        )
    return end(builder, node, side, builder.rows(rows))


def scattered(builder: Builder, node: Node) -> Expr:
    """``zeros.scatter_add_(0, index, rows)`` and the like."""
    name = node.name.strip("_")
    given = _scatter_arguments(node)
    if given["reduce"] not in ("sum", "mean", "max", "min"):
        raise builder.refused(node, f"`{node.name}` reduces messages by {given['reduce']!r}")
    dim, base = given["dim"], node.args[0]
    if dim not in (0, -node.value.dim()):
        raise builder.refused(node, f"`{node.name}` reduces along dimension {dim}")
    side = builder.graph.side(given["index"].value) if builder.graph is not None else None
    if side is None or side[0] == "source":
        what = "the sources" if side else "what is not the targets"
        raise builder.refused(
            node,
            f"`{node.name}` reduces by {what} of the edges as they are stored: messages are "
            "reduced at the targets. Reverse the edges (flow='source_to_target')",
        )
    aggregator = given["reduce"]
    rows = reduce(builder, node, aggregator, side[1], builder.rows(given["rows"]))
    is_zero = base.name in ("zeros", "new_zeros", "zeros_like") or (
        not name_is_in_place(node) and builder.is_static(base) and not bool(base.value.any())
    )
    if aggregator == "sum":
        return rows if is_zero else builder.sum(builder.rows(base), rows, node)
    if not is_zero or (given["include_self"] and aggregator not in ("max", "min")):
        raise builder.refused(node, f"`{name}` of {aggregator!r} includes other rows than zeros")
    if given["include_self"]:
        bound = {"min": 0.0} if aggregator == "max" else {"max": 0.0}
        return builder.op({"op": "clamp", **bound}, node, rows)
    return rows


def name_is_in_place(node: Node) -> bool:
    """Whether a function changes what it is called on, as those that end with ``_`` do."""
    return node.name.endswith("_")


def _scatter_arguments(node: Node) -> dict[str, Any]:
    names = ["self", "dim", "index", "rows", "reduce"]
    given = dict(zip(names, node.args))
    more = dict(node.kwargs)
    for name in ("src", "source"):
        if name in more:
            more["rows"] = more.pop(name)
    given |= more
    kind = node.name.strip("_")
    if kind in ("scatter_add", "index_add"):
        if given.get("alpha", 1) != 1 or len(node.args) > 4:
            raise ValueError("alpha")
        given["reduce"] = "sum"
    given["reduce"] = {"amax": "max", "amin": "min"}.get(given["reduce"], given["reduce"])
    given.setdefault("include_self", True)
    return given


def mean_of(builder: Builder, node: Node, rows: Expr, divisor: Node) -> Expr | None:
    """The mean, where sums are divided by the number of edges, or of 1 where there is none."""
    if isinstance(rows, Stack):
        parts = [mean_of(builder, node, part, divisor) for part in rows.children]
        found = [part for part in parts if part is not None]
        return builder.stack(tuple(found), rows.dim, node) if len(found) == len(parts) else None
    if isinstance(rows, Op) and rows.op["op"] == "slice":
        inner = mean_of(builder, node, rows.children[0], divisor)
        return None if inner is None else builder.slice(inner, rows.op["start"], rows.width, node)
    if not isinstance(rows, Reduced) or rows.aggregator != "sum" or builder.graph is None:
        return None
    if not builder.is_static(divisor) or not builder.is_per_row(divisor):
        return None
    if builder.graph.degree(divisor.value) != Degree(rows.loops, 1.0, "clamped"):
        return None
    return reduce(builder, node, "mean", rows.loops, rows.child)


def shares_of(builder: Builder, node: Node, rows: Expr, divisor: Expr) -> Expr | None:
    """The softmax over in-edges, where exponentials are divided by their sum."""
    if isinstance(rows, Stack) and isinstance(divisor, Stack):
        if len(rows.children) != len(divisor.children) or rows.dim != divisor.dim:
            return None
        parts = [shares_of(builder, node, *two) for two in zip(rows.children, divisor.children)]
        found = [part for part in parts if part is not None]
        return builder.stack(tuple(found), rows.dim, node) if len(found) == len(parts) else None
    is_exp = isinstance(rows, Op) and rows.op["op"] == "exp"
    if not is_exp or not isinstance(divisor, End) or divisor.side != "target":
        return None
    assert isinstance(rows, Op)
    total = divisor.child
    if isinstance(total, Op) and total.op["op"] == "scale":
        if total.op["by"] != 1.0 or not 0 <= total.op.get("plus", 0.0) <= 1e-6:
            return None
        total = total.children[0]
    if _reduced_rows(builder, node, total, "sum") is not rows:
        return None
    logits = _without_largest(builder, node, rows.children[0])
    plain = divided(builder, node, rows, divisor)
    made: Expr = builder.intern(
        Shares, ("shares", id(logits), divisor.loops), node, logits, plain, width=logits.width
    )
    return made


def _reduced_rows(builder: Builder, node: Node, rows: Expr, aggregator: str) -> Expr | None:
    """What was reduced to these rows, or to the rows that they are a slice of."""
    if isinstance(rows, Op) and rows.op["op"] == "slice":
        inner = _reduced_rows(builder, node, rows.children[0], aggregator)
        if inner is None:
            return None
        return _part(builder, node, inner, (int(rows.op["start"]), rows.width))
    is_reduced = isinstance(rows, Reduced) and rows.aggregator == aggregator
    return rows.child if isinstance(rows, Reduced) and is_reduced else None


def _part(builder: Builder, node: Node, rows: Expr, at: tuple[int, int]) -> Expr:
    """Some values of rows; those that lie side by side are known by themselves."""
    start = at[0]
    if isinstance(rows, Op) and rows.op["op"] == "cat":
        for child in rows.children:
            if (start, child.width) == (0, at[1]):
                return child
            start -= child.width
    return builder.slice(rows, *at, node)


def _without_largest(builder: Builder, node: Node, rows: Expr) -> Expr:
    """Logits from which the largest of each target was subtracted, which changes no share."""
    if isinstance(rows, Op) and rows.op["op"] == "add" and len(rows.children) == 2:
        for logits, less in (rows.children, rows.children[::-1]):
            if not isinstance(less, End) or less.side != "target":
                continue
            largest = builder.scale(less.child, node, -1.0)
            if _reduced_rows(builder, node, largest, "max") is logits:
                return logits
    return rows


def divided(builder: Builder, node: Node, rows: Expr, divisor: Expr) -> Expr:
    """``rows / divisor``."""
    return builder.mul(rows, builder.op({"op": "power", "exponent": -1.0}, node, divisor), node)


# What both ends make together


def is_mixed(rows: Expr) -> bool:
    """Whether rows are those of edges that depend on both ends."""
    todo, done = [rows], set()
    while todo:
        expr = todo.pop()
        if isinstance(expr, (End, Shares)):
            return expr is not rows or isinstance(expr, Shares)
        if id(expr) not in done and isinstance(expr, (Op, Stack)):
            done.add(id(expr))
            todo += expr.children
    return False


def mapped_by_end(
    builder: Builder, node: Node, weight: Tensor, bias: Tensor | None, rows: Expr
) -> Expr | None:
    """A linear map of rows of edges as a sum of maps, each of what one end has."""
    if isinstance(rows, (End, Stack)) or not is_mixed(rows):
        return None
    terms = _terms(rows, 0, rows.width, 1.0)
    if not any(isinstance(part, End) for part, _, _ in terms):
        return None
    total: dict[str, Expr] = {}
    for part, columns, factor in terms:
        side = part.side if isinstance(part, End) else ""
        matrix, _ = builder.kept(
            (id(weight), columns.start, columns.stop, factor),
            lambda c=columns, f=factor: ((weight[:, c] * f).contiguous(), weight),  # type: ignore[misc]
        )
        shift = None if total else bias
        made = builder.linear(matrix, shift, node, part)
        total[side] = builder.sum(total[side], made, node) if side in total else made
    first, *others = total.values()
    for made in others:
        first = builder.sum(first, made, node)
    return first


def _terms(rows: Expr, start: int, width: int, factor: float) -> list[tuple[Expr, slice, float]]:
    """What is added to give rows that a map reads from column ``start`` on."""
    if isinstance(rows, Op) and rows.op["op"] == "cat":
        found = []
        for child in rows.children:
            found += _terms(child, start, child.width, factor)
            start += child.width
        return found
    is_sum = isinstance(rows, Op) and rows.op["op"] == "add"
    if isinstance(rows, Op) and is_sum and all(child.width == width for child in rows.children):
        return [term for child in rows.children for term in _terms(child, start, width, factor)]
    if isinstance(rows, Op) and rows.op["op"] == "scale" and not rows.op.get("plus", 0.0):
        return _terms(rows.children[0], start, width, factor * rows.op["by"])
    return [(rows, slice(start, start + width), factor)]


# What depends on the graph alone


def degrees(builder: Builder, node: Node) -> Expr | None:
    """Rows of a tensor with a value for each node or edge that depends on degrees alone."""
    graph = builder.graph
    if graph is None:
        return None
    is_made_of_nothing = node.kind != "parameter" and not node.reads()
    if is_made_of_nothing and graph.is_of_edges(node.value):
        raise builder.refused(
            node, f"values of edges {list(node.value.shape)} are read: edges have none when served"
        )
    if not builder.is_per_row(node):
        return None
    if len(node.value) == graph.nodes:
        found = graph.degree(node.value)
        if found is not None:
            return degree(builder, node, found)
        if graph.is_out_degree(node.value):
            raise builder.refused(
                node,
                "the number of edges out of a node is read: layers of the library that divide by "
                "it are served (GraphConv with norm='both')",
            )
    if node.kind != "function" or not node.reads():
        return None
    from satisfice import _functions

    return _functions.convert(builder, node)


def degree(builder: Builder, node: Node, found: Degree) -> Expr:
    """A function of the number of edges into each node."""
    ones = builder.ones(node)
    edges = end(builder, node, ("source", found.loops), ones)
    counted = reduce(builder, node, "sum", found.loops, edges)
    if found.power == 0.0:
        return builder.op({"op": "clamp", "min": 0.0, "max": 1.0}, node, counted)
    made = counted
    if found.loops in ("kept", "removed") and (found.power, found.zero) != (1.0, "masked"):
        made = builder.op({"op": "clamp", "min": 1.0}, node, made)
    if found.power != 1.0:
        made = builder.op({"op": "power", "exponent": found.power}, node, made)
    if found.zero == "masked" and found.power != 1.0:
        some = builder.op({"op": "clamp", "min": 0.0, "max": 1.0}, node, counted)
        made = builder.mul(made, some, node)
    norm = _NORMS.get((found.loops, found.power, found.zero))
    if norm is not None:
        builder.norms[id(made)] = norm
    return made


# Norms of a sum that a factor at the target, and perhaps the same at the source, stand for.
_NORMS: dict[tuple[str, float, str], dict[str, Any]] = {
    ("kept", -0.5, "masked"): {"norm": "symmetric", "self_loops": False},
    ("kept", -0.5, "clamped"): {"norm": "in_degree"},
    ("replaced", -0.5, "clamped"): {"norm": "symmetric", "self_loops": True},
    ("kept", -1.0, "masked"): {"aggregator": "mean"},
    ("kept", -1.0, "clamped"): {"aggregator": "mean"},
}
