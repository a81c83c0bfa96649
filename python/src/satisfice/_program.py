"""From what a run computes to what the sidecar says.

A sidecar holds levels 0 .. K: the rows that later layers and the answer read. Level 0 is made of
the features, each other level of what its layer makes, the level below and level 0; the answer of
all levels. What a level holds is the least from which all that is read later can be computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from satisfice._expressions import FINAL, Builder, refused
from satisfice._exprs import Expr, Input, Layer, Op, children_of, postorder, postorder_of
from satisfice._initial import without_initial
from satisfice._message_layers import with_layers
from satisfice._row_ops import RowOp
from satisfice._row_program import Emitter, Held
from satisfice._sidecar import Description

if TYPE_CHECKING:
    from satisfice._record import Node


def lower(builder: Builder, answer: Node, framework: str) -> Description:
    """The description of the program that made ``answer``.

    Raises:
        ExportError: the program is none that the sidecar can say; names the place.
    """
    expr = builder.rows(answer)
    while isinstance(expr, Op) and expr.op["op"] in FINAL:
        expr = expr.children[0]
    expr = with_layers(builder, expr)
    program = _Program(builder, expr)
    if not program.initial_rows_are_level_0():
        program = _Program(builder, without_initial(builder, expr))
    return program.describe(framework)


class _Program:
    def __init__(self, builder: Builder, answer: Expr) -> None:
        self._builder = builder
        self._answer = answer
        self._layers = layers_of(answer)
        if not self._layers:
            raise refused("the answer depends on no layer of the graph", answer.where)
        for expr in postorder(answer):
            if isinstance(expr, Op) and expr.op["op"] == "log_softmax":
                raise refused("log_softmax is served at the end of a model only", expr.where)
            if not isinstance(expr, (Op, Layer, Input)):
                raise refused("rows that are stacked are never joined to one row", expr.where)
        for layer in self._layers:
            if layer.heads is not None:
                raise refused("the heads of an attention layer are never joined", layer.where)
        self._number = {id(layer): k for k, layer in enumerate(self._layers, start=1)}
        self._from: dict[int, int] = {}
        self._order: dict[int, int] = {}
        self._visit(answer)
        self._held = self._find_held()

    def initial_rows_are_level_0(self) -> bool:
        """Whether layers that mix initial rows in get all of level 0."""
        initial = [layer.initial for layer in self._layers if layer.initial is not None]
        return all(self._held[0] == [rows] for rows in initial)

    def describe(self, framework: str) -> Description:
        builder, held = self._builder, self._held
        start = _first(self._answer)
        given = [Held("", [start], "features")]
        made_input = Emitter(builder, given).level(held[0])
        described = []
        for k, layer in enumerate(self._layers, start=1):
            reads = 0 if self._from[id(layer.child)] == 0 else k - 1
            text = dict(layer.layer)
            if reads != k - 1:
                text["reads"] = "initial"
            if before := Emitter(builder, [Held("", held[reads], "level")]).rows(layer.child):
                text["before"] = before
            below = [Held("below", held[k - 1]), Held("initial", held[0])]
            if after := Emitter(builder, [Held("", [layer], "made"), *below]).level(held[k]):
                text["after"] = after
            described.append(text)
        last = len(self._layers)
        levels = [Held("", held[last], f"level.{last}")]
        levels += [Held(f"level.{k}", held[k]) for k in reversed(range(last))]
        head, jumping = _jumping(Emitter(builder, levels).rows(self._answer), last)
        return Description(
            framework,
            input=made_input,
            layers=described,
            head=head,
            jumping_knowledge=jumping,
            features=start.width,
        )

    # What is needed where

    def _visit(self, answer: Expr) -> None:
        """From which level on expressions can be computed, and the order in which they are."""
        for expr in postorder(answer):
            below = [self._from[id(child)] for child in children_of(expr)]
            self._from[id(expr)] = self._number.get(id(expr), max(below, default=0))
            self._order[id(expr)] = len(self._order)

    def _find_held(self) -> list[list[Expr]]:
        """What each level, 0 .. K, holds."""
        last = len(self._layers)
        wanted = [_Wanted() for _ in range(last + 1)]
        for expr in self._read_by_answer():
            wanted[self._from[id(expr)]].add(expr)
        held: list[list[Expr]] = [[] for _ in range(last + 1)]
        for k in range(last, 0, -1):
            held[k] = self._narrowed(wanted[k], self._least(wanted[k]), k)
            for expr in self._initial_beside(wanted[k], held[k]):
                wanted[0].add(expr)
            for expr in held[k]:
                for read in self._read_after(expr, k):
                    wanted[k - 1 if self._from[id(read)] else 0].add(read)
            layer = self._layers[k - 1]
            child = layer.child
            plain = layer.layer["type"] not in ("edge", "message")
            wanted[k - 1 if self._from[id(child)] else 0].add(child, True, plain)
            if layer.initial is not None:
                if self._from[id(layer.initial)] > 0:
                    # Carried by no level: it is rewritten as rows that are added.
                    return [[], *held[1:]]
                wanted[0].add(layer.initial)
            if k > 1 and not wanted[k - 1].all:
                # Nothing reads it: a level is never empty.
                wanted[k - 1].add(self._layers[k - 2])
        wanted[0].own = wanted[0].all.keys() - wanted[0].alone
        wanted[0].alone = set(wanted[0].all)
        held[0] = self._narrowed(wanted[0], self._least(wanted[0]), 0)
        return held

    def _initial_beside(self, wanted: _Wanted, held: list[Expr]) -> list[Expr]:
        """What of level 0 is read where what is read of a level is computed of what it holds."""
        known = _known(held)
        todo = [expr for at, expr in wanted.all.items() if at not in wanted.alone]
        found: list[Expr] = []
        while todo:
            expr = todo.pop()
            if id(expr) in known:
                continue
            known[id(expr)] = True
            if self._from[id(expr)] == 0:
                found.append(expr)
            else:
                todo += children_of(expr)
        return found

    def _narrowed(self, wanted: _Wanted, held: list[Expr], k: int) -> list[Expr]:
        """The same with narrower rows, of which more is computed where it is read."""

        def cost(held: list[Expr]) -> int:
            # Features are there anyway; rows that are read as they are need no messages.
            width = sum(0 if isinstance(expr, Input) else expr.width for expr in held)
            return width + sum(
                expr.width
                for at, expr in wanted.all.items()
                if at in wanted.plain and held != [expr]
            )

        if k == 0 and any(id(expr) in wanted.plain or id(expr) in wanted.own for expr in held):
            return held
        made = [
            expr
            for expr in postorder_of(wanted.all.values())
            if self._from[id(expr)] == k and expr not in held
        ]
        for expr in reversed(made):
            rest = replace(wanted, all={**wanted.all, id(expr): expr})
            other = self._least(rest, {id(expr)})
            if cost(other) < cost(held):
                held = other
        return held

    def _least(self, wanted: _Wanted, fixed: set[int] | None = None) -> list[Expr]:
        """Of what is read of a level, that of which all of it can be computed."""
        kept = sorted(wanted.all.values(), key=lambda expr: self._order[id(expr)])
        for expr in reversed(list(kept)):
            if id(expr) in (fixed or ()):
                continue
            rest = [other for other in kept if other is not expr]
            known = _known(rest)
            if all(
                self._follows(read, known, rows_given=at not in wanted.alone)
                for at, read in wanted.all.items()
            ):
                kept = rest
        return kept

    def _follows(self, expr: Expr, known: dict[int, bool], rows_given: bool) -> bool:
        """Whether row operations make ``expr`` of what is known, and level 0 where given."""
        found = dict(known)

        def follows(expr: Expr) -> bool:
            if id(expr) not in found:
                given = rows_given and self._from[id(expr)] == 0
                found[id(expr)] = given or (
                    isinstance(expr, Op) and all(follows(child) for child in expr.children)
                )
            return found[id(expr)]

        return follows(expr)

    def _read_after(self, expr: Expr, k: int) -> list[Expr]:
        """What making ``expr`` after layer ``k`` reads besides what that layer makes."""
        found: dict[int, Expr] = {}
        done: set[int] = set()
        todo = [expr]
        while todo:
            expr = todo.pop()
            if id(expr) in done:
                continue
            done.add(id(expr))
            if self._from[id(expr)] < k:
                found[id(expr)] = expr
            elif not isinstance(expr, Layer):
                todo += children_of(expr)
        return list(found.values())

    def _read_by_answer(self) -> list[Expr]:
        """What the answer reads of levels: of the last, what comes before a map or a join."""
        last = len(self._layers)
        below = {id(self._layers[-1]): True, id(self._layers[-1].child): True}

        stay: dict[int, bool] = {}

        def stays(expr: Expr) -> bool:
            if id(expr) not in stay:
                stay[id(expr)] = is_plain(expr)
            return stay[id(expr)]

        def is_plain(expr: Expr) -> bool:
            if self._from[id(expr)] == 0 or id(expr) in below:
                return True
            is_map = isinstance(expr, Op) and expr.op["op"] in ("linear", "cat", "max", "lstm")
            if not isinstance(expr, Op) or (is_map and self._from[id(expr)] == last):
                return False
            return all(stays(child) or is_skip(child) for child in expr.children)

        def is_skip(expr: Expr) -> bool:
            """A linear map of what the last layer reads."""
            is_map = isinstance(expr, Op) and expr.op["op"] in ("linear", "batch_norm")
            return is_map and self._from[id(expr)] < last and self._follows(expr, below, True)

        found: dict[int, Expr] = {}
        done: set[int] = set()
        todo = [self._answer]
        while todo:
            expr = todo.pop()
            if id(expr) in done:
                continue
            done.add(id(expr))
            if self._from[id(expr)] < last or stays(expr) or not isinstance(expr, Op):
                found[id(expr)] = expr
            else:
                todo += expr.children
        if not any(self._from[id(expr)] == last for expr in found.values()):
            found[id(self._layers[-1])] = self._layers[-1]
        return list(found.values())


@dataclass
class _Wanted:
    """What is read of a level, by identity, and what of it without level 0 at hand."""

    all: dict[int, Expr] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    # What a layer sends as it is where the level is just that.
    plain: set[int] = field(default_factory=set)
    # Of level 0: what only targets read.
    own: set[int] = field(default_factory=set)

    def add(self, expr: Expr, alone: bool = False, plain: bool = False) -> None:
        self.all[id(expr)] = expr
        if alone:
            self.alone.add(id(expr))
        if plain:
            self.plain.add(id(expr))


def _known(held: list[Expr]) -> dict[int, bool]:
    """What is at hand where these are: they, and what lies side by side in them."""
    known = {}
    for expr in held:
        known[id(expr)] = True
        if isinstance(expr, Op) and expr.op["op"] == "cat":
            known |= {id(child): True for child in expr.children}
    return known


def _jumping(head: list[RowOp], last: int) -> tuple[list[RowOp], dict[str, Any] | None]:
    """A join of all levels but level 0 at the beginning of the head stands by itself."""
    levels = [f"level.{k}" for k in range(1, last + 1)]
    first = head[0] if head else {}
    is_join = first.get("op") in ("cat", "max", "lstm") and "as" not in first
    if not is_join or first.get("of") != levels or any("of" in op for op in head[1:]):
        return head, None
    jumping = {"mode": first["op"]}
    return head[1:], jumping | ({"tensors": first["tensors"]} if "tensors" in first else {})


def _first(answer: Expr) -> Expr:
    """The features."""
    for expr in postorder(answer):
        if isinstance(expr, Input):
            return expr
    raise refused("the answer does not depend on the features", answer.where)


def layers_of(answer: Expr) -> list[Layer]:
    """All layers that an expression depends on, each after those that it reads."""
    return [expr for expr in postorder(answer) if isinstance(expr, Layer)]
