"""Layers that mix initial rows in, written as sums of rows where those are not all of level 0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from satisfice._expressions import Builder
from satisfice._exprs import Expr, Layer, Op, postorder

if TYPE_CHECKING:
    from torch import Tensor


def without_initial(builder: Builder, answer: Expr) -> Expr:
    """The same with layers that mix initial rows in written as sums of rows."""
    made: dict[int, Expr] = {}
    for expr in postorder(answer):
        made[id(expr)] = _rewritten(builder, expr, made)
    return made[id(answer)]


def _rewritten(builder: Builder, expr: Expr, made: dict[int, Expr]) -> Expr:
    if isinstance(expr, Op):
        children = tuple(made[id(child)] for child in expr.children)
        return replace(expr, children=children)
    if not isinstance(expr, Layer):
        return expr
    child = made[id(expr.child)]
    if expr.initial is None:
        return replace(expr, child=child)
    return _initial_added(builder, expr, child, made[id(expr.initial)])


def _initial_added(builder: Builder, expr: Layer, child: Expr, initial: Expr) -> Expr:
    """GCN2Conv: ``(1 - b) z + b z W`` with ``z = (1 - a) P x + a x0``, or a weight for each."""
    import torch

    text, width, where = expr.layer, expr.width, expr.where
    alpha, beta, prefix = text["alpha"], text["beta"], text["tensors"]
    norm = {key: text[key] for key in ("norm", "self_loops") if key in text}
    step = {"type": "propagate", "in": width, "out": width, **norm}
    near: Expr = Layer(width, where, expr.name, step, child)
    near = Op(width, where, {"op": "scale", "by": 1.0 - alpha}, (near,))
    far: Expr = Op(width, where, {"op": "scale", "by": float(alpha)}, (initial,))

    def mapped(name: str, rows: Expr, bias: Tensor | None = None) -> Expr:
        weight = torch.from_numpy(builder.weights.taken[f"{prefix}.{name}"]).T
        whole = (1.0 - beta) * torch.eye(width) + beta * weight
        return Op(width, where, builder.linear_op(whole.contiguous(), bias), (rows,))

    bias = None
    if text.get("bias", False):
        bias = torch.from_numpy(builder.weights.taken[f"{prefix}.bias"])
    if text.get("shared_weights", True):
        return mapped("weight1", Op(width, where, {"op": "add"}, (near, far)), bias)
    both = (mapped("weight1", near, bias), mapped("weight2", far))
    return Op(width, where, {"op": "add"}, both)
