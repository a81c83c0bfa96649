"""What a recorded run computes, as expressions of rows.

An expression is the rows of all nodes, or of all edges, at one point of a run: the features, a row
operation on other rows, a layer of the graph, rows of the ends of edges, what edges are reduced to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satisfice._row_ops import RowOp

if TYPE_CHECKING:
    from satisfice._record import Node


@dataclass(eq=False)
class Expr:
    """Rows of ``width`` values, made at ``where``."""

    width: int
    where: str


@dataclass(eq=False)
class Input(Expr):
    """The features."""


@dataclass(eq=False)
class Op(Expr):
    """A row operation on other rows."""

    op: RowOp
    children: tuple[Expr, ...]


@dataclass(eq=False)
class Layer(Expr):
    """A layer of the graph, as the sidecar has it; ``heads`` of attention still stand apart.

    ``name`` is that of the module that it comes from.
    """

    name: str
    layer: dict[str, Any]
    child: Expr
    initial: Expr | None = None
    heads: int | None = None


@dataclass(eq=False)
class Stack(Expr):
    """Several rows on top of each other, along dimension ``dim``."""

    children: tuple[Expr, ...]
    dim: int


@dataclass(eq=False)
class End(Expr):
    """Rows of one end, ``"source"`` or ``"target"``, of each edge."""

    side: str
    loops: str
    child: Expr


@dataclass(eq=False)
class Shares(Expr):
    """The softmax of logits over the in-edges of each target; ``plain`` says it by steps."""

    logits: Expr
    plain: Expr


@dataclass(eq=False)
class Reduced(Expr):
    """Rows of edges reduced to rows of their targets: ``"sum"``, ``"mean"`` or ``"max"``."""

    aggregator: str
    loops: str
    child: Expr
    node: Node


def postorder(answer: Expr) -> list[Expr]:
    """All expressions that one depends on, each after those that it reads."""
    return postorder_of([answer])


def postorder_of(answers: Iterable[Expr]) -> list[Expr]:
    """The same of several."""
    found: list[Expr] = []
    done: set[int] = set()
    todo = [(answer, False) for answer in answers]
    while todo:
        expr, left = todo.pop()
        if left:
            found.append(expr)
            continue
        if id(expr) in done:
            continue
        done.add(id(expr))
        todo.append((expr, True))
        todo += [(child, False) for child in reversed(children_of(expr)) if id(child) not in done]
    return found


def children_of(expr: Expr) -> list[Expr]:
    """What an expression reads."""
    if isinstance(expr, (Layer, End, Reduced)):
        return [c for c in (expr.child, getattr(expr, "initial", None)) if c is not None]
    if isinstance(expr, Shares):
        return [expr.logits, expr.plain]
    return list(getattr(expr, "children", ()))
