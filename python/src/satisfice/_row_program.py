"""The steps of the sidecar's row programs, from expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from satisfice._exprs import Expr, Op
from satisfice._row_ops import RowOp

if TYPE_CHECKING:
    from satisfice._expressions import Builder

JOINS = ("add", "mul", "max", "cat", "lstm")


@dataclass
class Held:
    """Rows that a program is given: expressions side by side, under a name.

    ``name`` is empty for those that the first step reads where it says nothing; ``other`` is then
    how other steps name them.
    """

    name: str
    parts: list[Expr]
    other: str = ""


@dataclass
class _Step:
    op: RowOp
    of: list[int]


def _is_cat(expr: Expr) -> bool:
    return isinstance(expr, Op) and expr.op["op"] == "cat"


class Emitter:
    """Writes one program."""

    def __init__(self, builder: Builder, given: list[Held]) -> None:
        self._builder = builder
        self._names = [held.name or held.other for held in given]
        self._given = len(given)
        self._steps: list[_Step] = []
        # Where each expression is: a number of rows, and the columns of them.
        self._where: dict[int, tuple[int, int | None]] = {}
        self._made: dict[int, int] = {}
        for at, held in reversed(list(enumerate(given))):
            start = 0
            whole = len(held.parts) == 1
            for part in held.parts:
                inner = start
                for child in part.children if _is_cat(part) else ():
                    self._where.setdefault(id(child), (at, inner))
                    inner += child.width
                self._where[id(part)] = (at, None if whole else start)
                start += part.width

    def know(self, part: Expr, whole: Expr, start: int) -> None:
        """Says that some rows are part of other rows that are given."""
        at, first = self._where[id(whole)]
        self._where.setdefault(id(part), (at, (first or 0) + start))

    def rows(self, expr: Expr) -> list[RowOp]:
        """The steps that make ``expr``."""
        return self._written(self._emit(expr))

    def level(self, parts: list[Expr]) -> list[RowOp]:
        """The steps that make several expressions side by side."""
        made = [self._emit(part) for part in parts]
        return self._written(made[0] if len(made) == 1 else self._step({"op": "cat"}, made))

    def _emit(self, expr: Expr) -> int:
        if id(expr) in self._made:
            return self._made[id(expr)]
        if id(expr) in self._where:
            at, start = self._where[id(expr)]
            taken = {"op": "slice", "start": start, "width": expr.width}
            made = at if start is None else self._step(taken, [at])
        else:
            assert isinstance(expr, Op), "invariant: layers are given"
            made = self._step(dict(expr.op), [self._emit(child) for child in expr.children])
        self._made[id(expr)] = made
        return made

    def _step(self, op: RowOp, of: list[int]) -> int:
        self._steps.append(_Step(op, of))
        return self._given + len(self._steps) - 1

    def _written(self, result: int) -> list[RowOp]:
        if result < self._given:
            if result == 0:
                return []
            # Another one of the rows given, as they are.
            result = self._step({"op": "scale", "by": 1.0}, [result])
        assert result == self._given + len(self._steps) - 1, (
            "invariant: the last step is the result"
        )
        self._fold_residuals()
        reads: dict[int, int] = {}
        for step in self._steps:
            for at in step.of:
                reads[at] = reads.get(at, 0) + 1
        written: list[RowOp] = []
        named: dict[int, str] = dict(enumerate(self._names))
        implied = self._implied()
        for at, step in enumerate(self._steps):
            number, op = self._given + at, dict(step.op)
            if not implied[at]:
                names = [named[read] for read in step.of]
                op["of"] = names if op["op"] in JOINS else names[0]
            is_read = any(
                number in later.of
                and not (self._given + at + 1 == self._given + place and implied[place])
                for place, later in enumerate(self._steps)
            )
            if is_read:
                named[number] = op["as"] = f"r{at}"
            written.append(op)
        return written

    def _implied(self) -> list[bool]:
        """Which steps read what the step before has made, or the rows given first, alone."""
        implied = []
        for at, step in enumerate(self._steps):
            before = 0 if at == 0 else self._given + at - 1
            implied.append(step.op["op"] not in JOINS and step.of[:1] == [before])
        return implied

    def _fold_residuals(self) -> None:
        """Adding the level below to what the step before has made is a residual."""
        if "below" not in self._names:
            return
        below = self._names.index("below")
        at = 0
        while at < len(self._steps):
            step, before = self._steps[at], 0 if at == 0 else self._given + at - 1
            if (
                step.op["op"] == "add"
                and sorted(step.of) == sorted([before, below])
                and len(set(step.of)) == 2
            ):
                step.op, step.of = {"op": "residual"}, [before]
            elif at > 0 and step.op["op"] == "add" and self._is_map_of_below(at, below):
                self._fold_map(at)
                continue
            at += 1

    def _is_map_of_below(self, at: int, below: int) -> bool:
        """Whether a step adds what the step before maps of the level below to what was before."""
        number = self._given + at - 1
        linear, rest = self._steps[at - 1], [read for read in self._steps[at].of if read != number]
        used = sum(step.of.count(number) for step in self._steps)
        return (
            linear.op["op"] == "linear"
            and linear.of == [below]
            and used == 1
            and len(rest) == 1
            and rest[0] == (0 if at == 1 else number - 1)
        )

    def _fold_map(self, at: int) -> None:
        linear = self._steps.pop(at - 1)
        step = self._steps[at - 1]
        gone = self._given + at - 1
        rest = next(read for read in step.of if read != gone)
        step.op, step.of = {**linear.op, "op": "linear_residual"}, [rest]
        for later in self._steps[at:]:
            later.of = [read - 1 if read > gone else read for read in later.of]
