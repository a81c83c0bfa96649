"""From what a run computes to what the sidecar says.

A sidecar is a chain: row operations on the features (level 0), layers with row operations after
each (levels 1 .. K), a join of levels 1 .. K or the last alone, and row operations on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satisfice._expressions import FINAL, Builder, Expr, Input, Join, Layer, Op, Sum, refused
from satisfice._row_ops import RowOp
from satisfice._sidecar import Description, with_after
from satisfice._sidecar import layer as described_layer

if TYPE_CHECKING:
    from torch import Tensor

    from satisfice._record import Node

_WAY_OUT = (
    "A sidecar holds a chain of layers, each with what follows it and a residual of its input, and "
    "one join of the layers at the end"
)


def lower(builder: Builder, answer: Node, framework: str) -> Description:
    """The description of the program that made ``answer``.

    Raises:
        ExportError: the program is none that the sidecar can say; names the place.
    """
    return _Program(builder, answer).describe(framework)


@dataclass
class _Map:
    """A linear map of a level: ``weight`` [out, in], None for the level itself, and a bias."""

    level: int
    weight: Tensor | None = None
    bias: Tensor | None = None


class _Program:
    def __init__(self, builder: Builder, answer: Node) -> None:
        self._builder = builder
        self._afters: dict[tuple[int, int], list[RowOp] | None] = {}
        expr = builder.rows(answer)
        while isinstance(expr, Op) and expr.op["op"] in FINAL:
            expr = expr.child
        self._answer = expr
        self._layers = _layers_of(expr)
        if not self._layers:
            raise refused("the answer depends on no layer of the graph", expr.where)
        for layer in self._layers:
            if layer.heads is not None:
                raise refused("the heads of an attention layer are never joined", layer.where)
        # The values of levels 0 .. K; the last is found with the head.
        self._levels: list[Expr] = [layer.child for layer in self._layers]

    def describe(self, framework: str) -> Description:
        first = self._levels[0]
        described = [dict(self._layers[0].layer)]
        for k in range(1, len(self._layers)):
            after = self._after(self._levels[k], k)
            if after is None:
                raise self._no_chain(k)
            described[-1] = with_after(described[-1], after)
            described.append(dict(self._layers[k].layer))
        for layer in self._layers:
            if layer.initial is not None and layer.initial is not first:
                raise refused(
                    f"layer {layer.name!r} reads initial rows that are not those "
                    "before the first layer",
                    layer.where,
                )
        after, join, head = self._end()
        described[-1] = with_after(described[-1], after)
        jumping = None
        if join is not None:
            jumping = {"mode": join.mode}
            if join.mode == "lstm":
                jumping["tensors"] = join.tensors
            if join.input:
                described.insert(0, self._identity(first))
        return Description(
            framework,
            input=self._input(first),
            layers=described,
            head=head,
            jumping_knowledge=jumping,
        )

    def _input(self, first: Expr) -> list[RowOp]:
        ops = chain(first)
        if ops is not None:
            return ops
        raise refused(
            f"what stands before the first layer is no chain of row operations. {_WAY_OUT}",
            first.where,
        )

    def _no_chain(self, k: int) -> Exception:
        before, layer = self._layers[k - 1], self._layers[k]
        names = f"{layer.name!r}"
        return refused(
            f"layer {names} does not read what layer {before.name!r} leaves, followed "
            f"by row operations and a residual of that layer's input. {_WAY_OUT}",
            layer.where,
        )

    def _after(self, expr: Expr, k: int) -> list[RowOp] | None:
        """Row operations that make ``expr`` of layer ``k`` (from 1); None where none do."""
        key = (id(expr), k)
        if key not in self._afters:
            self._afters[key] = self._found_after(expr, k)
        return self._afters[key]

    def _found_after(self, expr: Expr, k: int) -> list[RowOp] | None:
        if expr is self._layers[k - 1]:
            return []
        if isinstance(expr, Op) and expr.op["op"] not in FINAL:
            ops = self._after(expr.child, k)
            return None if ops is None else [*ops, expr.op]
        if isinstance(expr, Sum):
            for main, other in (expr.terms, expr.terms[::-1]):
                ops = self._after(main, k)
                added = None if ops is None else self._residual(other, self._levels[k - 1])
                if ops is not None and added is not None:
                    return [*ops, added]
        return None

    def _residual(self, expr: Expr, base: Expr) -> RowOp | None:
        """The operation that adds ``expr``, where that is the layer's input or a map of it."""
        if expr is base:
            return {"op": "residual"}
        if isinstance(expr, Op) and expr.child is base and expr.op["op"] == "linear":
            return {**expr.op, "op": "linear_residual"}
        found = self._linear(expr, base)
        if found is None:
            return None
        weight, bias = found
        op = self._builder.linear_op(_matrix(weight, base.width), bias)
        return {**op, "op": "linear_residual"}

    def _linear(self, expr: Expr, base: Expr) -> tuple[Any, Any] | None:
        """Weight, None for the identity, and bias of ``expr`` as a linear map of ``base``."""
        if expr is base:
            return None, None
        if isinstance(expr, Sum):
            parts = [self._linear(term, base) for term in expr.terms]
            if parts[0] is None or parts[1] is None:
                return None
            (one, shift), (other, more) = parts[0], parts[1]
            weight = _matrix(one, base.width) + _matrix(other, base.width)
            return weight, _added(shift, more)
        if not isinstance(expr, Op) or expr.op["op"] not in ("linear", "batch_norm"):
            return None
        inner = self._linear(expr.child, base)
        if inner is None:
            return None
        return _composed(_map_of(expr.op, self._builder), inner, base.width)

    def _end(self) -> tuple[list[RowOp], _Found | None, list[RowOp]]:
        """What follows the last layer, the join of levels, and the head."""
        head: list[RowOp] = []
        expr = self._answer
        while True:
            after = self._after(expr, len(self._layers))
            if after is not None:
                self._levels.append(expr)
                kept, rest = _split(after)
                return kept, None, [*rest, *head]
            found = self._join(expr)
            if found is not None:
                return found.after, found, [*found.head, *head]
            if not isinstance(expr, Op):
                raise refused(
                    f"the answer joins rows in a way that is not served. {_WAY_OUT}", expr.where
                )
            head.insert(0, expr.op)
            expr = expr.child

    def _join(self, expr: Expr) -> _Found | None:
        """``expr`` as a join of levels."""
        if isinstance(expr, Join):
            parts = list(expr.children)
        elif isinstance(expr, Sum):
            parts = self._terms(expr)
        else:
            return None
        last, after = self._last(parts)
        if last is None or after is None:
            return None
        levels = [*self._levels[: len(self._layers)], last]
        maps = [self._map(part, levels) for part in parts]
        if any(found is None for found in maps):
            return None
        known = [found for found in maps if found is not None]
        plain = all(found.weight is None and found.bias is None for found in known)
        every = [found.level for found in known] == list(range(1, len(levels)))
        if isinstance(expr, Join) and plain and every:
            return _Found(expr.mode, expr.tensors, after, [], False)
        if isinstance(expr, Join) and expr.mode != "cat":
            return None
        summed = isinstance(expr, Sum)
        return self._mixed(known, levels, after, summed)

    def _terms(self, expr: Expr) -> list[Expr]:
        """The terms of a sum of sums, down to levels, maps of them, and the last layer's."""
        is_level = expr in self._levels or self._after(expr, len(self._layers)) is not None
        if is_level or not isinstance(expr, Sum):
            return [expr]
        return [part for term in expr.terms for part in self._terms(term)]

    def _last(self, parts: list[Expr]) -> tuple[Expr | None, list[RowOp] | None]:
        """The part that the last layer leaves."""
        for part in parts:
            after = self._after(part, len(self._layers))
            if after is not None:
                return part, after
        return None, None

    def _map(self, part: Expr, levels: list[Expr]) -> _Map | None:
        for level in reversed(range(len(levels))):
            found = self._linear(part, levels[level])
            if found is not None:
                return _Map(level, *found)
        return None

    def _mixed(
        self, maps: list[_Map], levels: list[Expr], after: list[RowOp], summed: bool
    ) -> _Found:
        """Levels side by side, and a linear map that sums or orders them."""
        import torch

        with_input = any(found.level == 0 for found in maps)
        start = 0 if with_input else 1
        widths = [level.width for level in levels]
        offsets = {k: sum(widths[start:k]) for k in range(start, len(levels))}
        outs = [widths[m.level] if m.weight is None else m.weight.shape[0] for m in maps]
        rows = outs[0] if summed else sum(outs)
        weight, bias = torch.zeros(rows, sum(widths[start:])), torch.zeros(rows)
        top = 0
        for found, out in zip(maps, outs):
            at = slice(0, rows) if summed else slice(top, top + out)
            columns = slice(offsets[found.level], offsets[found.level] + widths[found.level])
            weight[at, columns] += _matrix(found.weight, widths[found.level])
            bias[at] += 0 if found.bias is None else found.bias
            top += out
        op = self._builder.linear_op(weight, bias if bool((bias != 0).any()) else None)
        return _Found("cat", "", after, [op], with_input)

    def _identity(self, first: Expr) -> dict[str, Any]:
        """A layer that leaves its input as it is, so that level 1 is level 0."""
        width = first.width
        zeros = self._builder.square(width, first.where, 0.0)
        tensors = self._builder.add({"weight1": zeros})
        options = {"alpha": 1.0, "beta": 0.0, "norm": "none", "self_loops": False}
        return described_layer("gcn2", tensors, width, width, **options)


@dataclass
class _Found:
    """A join of levels, with what follows the last layer before it and the map after it."""

    mode: str
    tensors: str
    after: list[RowOp]
    head: list[RowOp]
    # Whether level 0 is among them.
    input: bool


def _layers_of(answer: Expr) -> list[Layer]:
    """All layers that the answer depends on, in the order in which they run."""
    found: dict[int, Layer] = {}
    done: set[int] = set()
    todo = [(answer, False)]
    while todo:
        expr, left = todo.pop()
        if left:
            if isinstance(expr, Layer):
                found[id(expr)] = expr
            continue
        if id(expr) in done:
            continue
        done.add(id(expr))
        todo.append((expr, True))
        todo += [(child, False) for child in reversed(_children(expr))]
    return list(found.values())


def _children(expr: Expr) -> list[Expr]:
    if isinstance(expr, Layer):
        return [child for child in (expr.child, expr.initial) if child is not None]
    if isinstance(expr, Op):
        return [expr.child]
    if isinstance(expr, Sum):
        return list(expr.terms)
    return list(getattr(expr, "children", ()))


def chain(expr: Expr) -> list[RowOp] | None:
    """The row operations that make ``expr`` of the features; None where it is no chain."""
    if isinstance(expr, Input):
        return []
    if not isinstance(expr, Op) or expr.op["op"] in FINAL:
        return None
    ops = chain(expr.child)
    return None if ops is None else [*ops, expr.op]


def _split(after: list[RowOp]) -> tuple[list[RowOp], list[RowOp]]:
    """What stays with the last layer, and what goes to the head: all from the first linear on."""
    kinds = [op["op"] for op in after]
    start = max((at + 1 for at, kind in enumerate(kinds) if kind.endswith("residual")), default=0)
    linears = [at for at in range(start, len(kinds)) if kinds[at] == "linear"]
    at = linears[0] if linears else len(after)
    return after[:at], after[at:]


def _matrix(weight: Tensor | None, width: int) -> Tensor:
    import torch

    return torch.eye(width) if weight is None else weight


def _added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _map_of(op: RowOp, builder: Builder) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear operation or an affine one."""
    import torch

    def taken(name: str) -> Tensor | None:
        array = builder.weights.taken.get(f"{op['tensors']}.{name}")
        return None if array is None else torch.from_numpy(array)

    weight, bias = taken("weight"), taken("bias")
    if op["op"] == "linear":
        assert weight is not None
        return weight, bias
    mean, variance = taken("running_mean"), taken("running_var")
    assert mean is not None
    assert variance is not None
    scale = (variance + op["eps"]) ** -0.5
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return torch.diag(scale), shift


def _composed(
    outer: tuple[Tensor, Tensor | None], inner: tuple[Any, Any], width: int
) -> tuple[Tensor, Tensor | None]:
    weight, bias = outer
    inside, shift = inner
    moved = None if shift is None else weight @ shift
    return weight @ _matrix(inside, width), _added(moved, bias)
