"""Reduced messages as layers of the sidecar: as the fastest that computes the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from satisfice._expressions import Builder
from satisfice._exprs import (
    End,
    Expr,
    Layer,
    Op,
    Reduced,
    Shares,
    Stack,
    children_of,
    postorder,
)
from satisfice._row_program import Emitter, Held
from satisfice._sidecar import layer


def with_layers(builder: Builder, answer: Expr) -> Expr:
    """The same with every reduction of messages as a layer."""
    made: dict[int, Expr] = {}
    for expr in postorder(answer):
        made[id(expr)] = _rewritten(builder, expr, made)
    return made[id(answer)]


def _rewritten(builder: Builder, expr: Expr, made: dict[int, Expr]) -> Expr:
    if all(made[id(child)] is child for child in children_of(expr)):
        again = expr
    elif isinstance(expr, Op):
        children = tuple(made[id(child)] for child in expr.children)
        again = builder.again(expr, children)
    elif isinstance(expr, End):
        again = builder.end_again(expr, made[id(expr.child)])
    elif isinstance(expr, Reduced):
        again = replace(expr, child=made[id(expr.child)])
    elif isinstance(expr, Shares):
        again = replace(expr, logits=made[id(expr.logits)], plain=made[id(expr.plain)])
    elif isinstance(expr, Layer):
        initial = None if expr.initial is None else made[id(expr.initial)]
        again = replace(expr, child=made[id(expr.child)], initial=initial)
    elif isinstance(expr, Stack):
        again = replace(expr, children=tuple(made[id(child)] for child in expr.children))
    else:
        again = expr
    if id(expr) in builder.norms:
        builder.norms[id(again)] = builder.norms[id(expr)]
    if isinstance(again, Reduced):
        return _Reduction(builder, again).layer()
    return _normalized_sum(builder, again) or again


def _normalized_sum(builder: Builder, expr: Expr) -> Expr | None:
    """A sum between two products with the same factor, where that stands for a norm."""
    if not _is(expr, "mul") or len(children_of(expr)) != 2:
        return None
    one, other = children_of(expr)
    for factor, made in ((one, other), (other, one)):
        norm = builder.norms.get(id(factor))
        if norm is None or not isinstance(made, Layer) or made.layer["type"] != "propagate":
            continue
        if set(made.layer) != {"type", "in", "out"} or norm.get("self_loops"):
            continue
        if norm.get("aggregator") == "mean":
            return builder.layer_again(made, norm, made.child)
        rest = _other_factor(made.child, factor)
        if rest is not None and rest.width == made.width:
            return builder.layer_again(made, norm, rest)
    return None


def _other_factor(rows: Expr, factor: Expr) -> Expr | None:
    """What is multiplied by a factor to give rows."""
    if not _is(rows, "mul") or len(children_of(rows)) != 2:
        return None
    one, other = children_of(rows)
    if factor in (one, other):
        return other if one is factor else one
    return None


class _Reduction:
    """One reduction of messages."""

    def __init__(self, builder: Builder, reduced: Reduced) -> None:
        self._builder = builder
        self._node = reduced.node
        self._loops = reduced.loops
        self._aggregator = reduced.aggregator
        self._rows = reduced.child

    def layer(self) -> Expr:
        if self._aggregator == "sum":
            softmax = self._softmax(self._rows)
            if softmax is not None:
                return softmax
        return self._plain(_without_shares(self._builder, self._rows))

    # Softmax

    def _softmax(self, rows: Expr) -> Expr | None:
        """Values weighed by the softmax of logits, each part of them by one head."""
        parts = list(rows.children) if _is(rows, "cat") and isinstance(rows, Op) else [rows]
        found = [weighed for part in parts if (weighed := self._weighed(part)) is not None]
        if len(found) < len(parts):
            return None
        values = [part[2] for part in found]
        logits = self._logits(found)
        if logits is None:
            return None
        joined = self._builder.join("cat", tuple(values), self._node)
        logits = _without_shares(self._builder, logits)
        return self._message([logits, joined], joined.width, "softmax", logits.width)

    def _logits(self, found: list[tuple[Shares, int | None, Expr]]) -> Expr | None:
        """The logits of each head, in order; None where heads are not of one width."""
        shares, head, values = found[0]
        if len(found) == 1 and head is None:
            return shares.logits if values.width % shares.width == 0 else None
        if all(part[0] is shares and shares.width == 1 for part in found):
            return shares.logits
        if len({part[2].width for part in found}) > 1:
            return None
        logits = []
        for shares, head, _ in found:
            if head is None and shares.width > 1:
                return None
            logits.append(self._builder.slice(shares.logits, head or 0, 1, self._node))
        return self._builder.join("cat", tuple(logits), self._node)

    def _weighed(self, rows: Expr) -> tuple[Shares, int | None, Expr] | None:
        """Shares, which head of them, None for all, and the values that they weigh."""
        factors = _factors(rows)
        for at, factor in enumerate(factors):
            shares, head = factor, None
            if isinstance(shares, Op) and shares.op["op"] == "slice" and shares.width == 1:
                shares, head = shares.children[0], int(shares.op["start"])
            if not isinstance(shares, Shares):
                continue
            rest = factors[:at] + factors[at + 1 :]
            if any(_has_shares(other) for other in rest):
                return None
            values = self._product(rest, rows.width)
            return shares, head, values
        return None

    # Sums, means, maxima

    def _plain(self, rows: Expr) -> Expr:
        if self._aggregator in ("sum", "mean"):
            factors = _factors(rows)
            own = [f for f in factors if isinstance(f, End) and f.side == "target"]
            rest = [f for f in factors if not (isinstance(f, End) and f.side == "target")]
            if own:
                return self._scaled(own, self._product(rest, rows.width))
        return self._of_sources(rows) or self._message([rows], rows.width, self._aggregator, 1)

    def _scaled(self, own: list[End], rows: Expr) -> Expr:
        """What the target multiplies comes after the sum."""
        builder, node = self._builder, self._node
        factors = [factor.child for factor in own]
        norm = builder.norms.get(id(factors[0])) if len(factors) == 1 else None
        if norm is not None and self._aggregator == "sum" and isinstance(rows, End):
            sent = self._normalized(factors[0], norm, rows.child)
            if sent is not None:
                return sent
        made = self._plain(rows)
        for factor in factors:
            made = builder.mul(factor, made, node)
        return made

    def _normalized(self, factor: Expr, norm: dict[str, Any], rows: Expr) -> Expr | None:
        """A sum that the library's own layers normalise alike."""
        builder, node = self._builder, self._node
        if norm.get("aggregator") == "mean":
            return builder.propagate(node, rows, aggregator="mean") if self._kept() else None
        if self._loops != ("replaced" if norm.get("self_loops") else "kept"):
            return None
        rest = _other_factor(rows, factor)
        if rest is None or rest.width != rows.width:
            return None
        return builder.propagate(node, rest, **norm)

    def _kept(self) -> bool:
        return self._loops == "kept"

    def _of_sources(self, rows: Expr) -> Expr | None:
        """Messages of sources alone, of which kept sums serve."""
        builder, node = self._builder, self._node
        if not isinstance(rows, End) or rows.side != "source":
            return None
        options = {} if self._aggregator == "sum" else {"aggregator": self._aggregator}
        if self._kept():
            return builder.propagate(node, rows.child, **options)
        if self._loops == "added" and self._aggregator == "sum":
            return builder.sum(builder.propagate(node, rows.child), rows.child, node)
        return None

    def _message(self, parts: list[Expr], out: int, aggregator: str, heads: int) -> Expr:
        """Any program of both ends."""
        builder, node = self._builder, self._node
        ends: dict[str, list[End]] = {"source": [], "target": []}
        for part in parts:
            for expr in _inside(part):
                if isinstance(expr, End) and expr not in ends[expr.side]:
                    ends[expr.side].append(expr)
        sent, brought = (_without_parts(ends[side]) for side in ("source", "target"))
        if not sent:
            # Every edge counts, whatever its source sends.
            sent = [End(1, "", "source", self._loops, builder.ones(node))]
        program = Emitter(builder, [Held("", [*sent], "source"), Held("target", [*brought])])
        for whole in (*sent, *brought):
            for part in ends[whole.side]:
                if (start := _start_in(part, whole)) is not None:
                    program.know(part, whole, start)
        rows = builder.join("cat", tuple(e.child for e in (*brought, *sent)), node)
        steps = program.level(parts)
        target = sum(expr.width for expr in brought)
        options: dict[str, Any] = {"aggregator": aggregator}
        options |= {"target": target} if target else {}
        options |= {"program": steps} if steps else {}
        options |= {"heads": heads} if heads != 1 else {}
        options |= {} if self._kept() else {"self_loops": self._loops}
        described = layer("message", "", rows.width, out, **options)
        del described["tensors"]
        return builder.layer(described, node, rows)

    def _product(self, factors: list[Expr], width: int) -> Expr:
        builder, node = self._builder, self._node
        made: Expr | None = None
        for factor in factors:
            made = factor if made is None else builder.mul(made, factor, node)
        if made is None or made.width != width:
            side = ("source", self._loops)
            ones = builder.end(node, side, builder.ones(node, width))
            made = ones if made is None else builder.mul(made, ones, node)
        return made


def _start_in(part: End, whole: End) -> int | None:
    """From which value on rows are part of other rows of the same end."""
    child = part.child
    if part is whole or not isinstance(child, Op) or child.op["op"] != "slice":
        return None
    return int(child.op["start"]) if child.children[0] is whole.child else None


def _without_parts(ends: list[End]) -> list[End]:
    """Rows of ends without those that are part of others."""
    return [part for part in ends if all(_start_in(part, whole) is None for whole in ends)]


def _is(expr: Expr, op: str) -> bool:
    return isinstance(expr, Op) and expr.op["op"] == op


def _factors(expr: Expr) -> list[Expr]:
    """What is multiplied to give an expression."""
    if isinstance(expr, Op) and expr.op["op"] == "mul":
        return [factor for child in expr.children for factor in _factors(child)]
    return [expr]


def _inside(expr: Expr) -> list[Expr]:
    """All expressions of edges that one depends on."""
    found: list[Expr] = []
    done: set[int] = set()
    todo = [expr]
    while todo:
        expr = todo.pop()
        if id(expr) in done:
            continue
        done.add(id(expr))
        found.append(expr)
        if not isinstance(expr, End):
            todo += reversed(children_of(expr))
    return found


def _has_shares(expr: Expr) -> bool:
    return any(isinstance(inner, Shares) for inner in _inside(expr))


def _without_shares(builder: Builder, expr: Expr) -> Expr:
    """The same with softmaxes by steps."""
    if not _has_shares(expr):
        return expr
    made: dict[int, Expr] = {}
    for inner in reversed(_inside(expr)):
        if id(inner) not in made:
            made[id(inner)] = _by_steps(builder, inner, made)
    return made[id(expr)]


def _by_steps(builder: Builder, expr: Expr, made: dict[int, Expr]) -> Expr:
    if id(expr) in made:
        return made[id(expr)]
    if isinstance(expr, Shares):
        return _without_shares(builder, expr.plain)
    if isinstance(expr, Op):
        children = []
        for child in expr.children:
            made[id(child)] = _by_steps(builder, child, made)
            children.append(made[id(child)])
        return builder.again(expr, tuple(children))
    return expr
