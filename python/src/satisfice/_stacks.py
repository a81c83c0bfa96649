"""Rows on top of each other: levels that are stacked, heads that are cut, what joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satisfice._expressions import Builder
    from satisfice._exprs import Expr
    from satisfice._record import Node


def argument(node: Node, at: int, name: str, default: Any = None) -> Any:
    """An argument by position or by name."""
    return node.args[at] if len(node.args) > at else node.kwargs.get(name, default)


def cut(builder: Builder, node: Node, child: Expr, parts: int) -> Expr:
    """Rows cut to several of one width, on top of each other."""
    width = child.width // parts
    cut = (builder.slice(child, at * width, width, node) for at in range(parts))
    return builder.stack(tuple(cut), 1, node)


def alike(builder: Builder, node: Node, one: Expr, other: Expr) -> tuple[Expr, Expr]:
    """Two operands as they are broadcast: ``[N, K, C]`` and ``[N, K, 1]`` or ``[N, 1, C]``."""
    from satisfice._exprs import Stack

    if isinstance(one, Stack) != isinstance(other, Stack):
        stack, rows = (one, other) if isinstance(one, Stack) else (other, one)
        if rows.width == 1 and stack.dim == 1:  # type: ignore[attr-defined]
            # One value a row goes with all that is stacked.
            rows = builder.stack((rows,) * len(stack.children), 1, node)  # type: ignore[attr-defined]
        return (stack, rows) if stack is one else (rows, stack)
    if not isinstance(one, Stack) or not isinstance(other, Stack):
        return one, other
    made = [_along_1(builder, node, rows) for rows in (one, other)] if one.dim != other.dim else []
    first, second = made or (one, other)
    assert isinstance(first, Stack), "invariant: made of stacks"
    assert isinstance(second, Stack), "invariant: made of stacks"
    parts = max(len(first.children), len(second.children))
    spread = [
        builder.stack(rows.children * parts, rows.dim, node) if len(rows.children) == 1 else rows
        for rows in (first, second)
    ]
    return spread[0], spread[1]


def _along_1(builder: Builder, node: Node, rows: Expr) -> Expr:
    """``[N, K, 1]``, made of one row of K values, as K rows of one value each."""
    if rows.dim == 1 or len(rows.children) != 1:  # type: ignore[attr-defined]
        return rows
    child = rows.children[0]  # type: ignore[attr-defined]
    return builder.stack(
        tuple(builder.slice(child, at, 1, node) for at in range(child.width)), 1, node
    )


def side_by_side(builder: Builder, node: Node, rows: Expr) -> Expr | None:
    """Stacked rows side by side, where they lie so."""
    from satisfice._exprs import Stack

    if not isinstance(rows, Stack) or rows.dim != 1 and rows.width != 1:
        return None
    return builder.join("cat", rows.children, node)


def part_of(builder: Builder, node: Node, child: Any) -> Expr | None:
    """One of several stacked rows, or the same in another order of dimensions."""
    from satisfice._exprs import Stack

    rows = builder.rows(child)
    if not isinstance(rows, Stack):
        return None
    made, found = node.value, child.value
    if made.dim() == 2:
        for at, part in enumerate(rows.children):
            is_part = made.shape == found.select(rows.dim, at).shape
            if is_part and bool((made == found.select(rows.dim, at)).all()):
                return part
        return None
    for one, other in ((0, 1), (1, 2), (0, 2)):
        turned = found.transpose(one, other)
        if made.shape == turned.shape and bool((made == turned).all()):
            dim = {one: other, other: one}.get(rows.dim, rows.dim)
            is_rows = rows.width == 1 or {one, other} == {0, 1} or rows.dim in (one, other)
            return builder.stack(rows.children, dim, node) if is_rows else None
    return None


def weighed(builder: Builder, node: Node) -> Expr:
    """Rows weighed by a row of shares and summed: ``[N, 1, K] @ [N, K, C]``."""
    from satisfice._exprs import Stack

    shares, rows = (builder.rows(operand) for operand in node.args[:2])
    if isinstance(shares, Stack) and isinstance(rows, Stack) and rows.dim == 1:
        flat = builder.join("cat", shares.children, node)
        count = len(rows.children)
        if node.value.shape[1] * count == flat.width:
            made = []
            for start in range(0, flat.width, count):
                parts = [
                    builder.mul(builder.slice(flat, start + at, 1, node), part, node)
                    for at, part in enumerate(rows.children)
                ]
                made.append(total(builder, node, parts))
            return builder.stack(tuple(made), 1, node)
    raise builder.refused(node, "a product of matrices a node is not served")


def parts(builder: Builder, node: Node) -> Expr:
    """One of the parts that rows are cut to."""
    child = node.args[0]
    made, found = node.value, child.value
    rows = builder.rows(child)
    if made.dim() == found.dim() == 2 and made.shape[0] == found.shape[0]:
        at = made.storage_offset() - found.storage_offset()
        if made.stride() == found.stride() and bool(
            (made == found[:, at : at + made.shape[1]]).all()
        ):
            return builder.slice(rows, at, made.shape[1], node)
    if (one := part_of(builder, node, child)) is not None:
        return one
    raise builder.refused(node, f"`{node.name}` does not cut rows to parts")


def reduced(builder: Builder, node: Node, stack: Any, name: str) -> Expr:
    """The sum, mean or maximum of stacked rows."""
    children = list(stack.children)
    if name in ("max", "amax"):
        return builder.join("max", tuple(children), node)
    made = total(builder, node, children)
    return builder.scale(made, node, 1 / len(children)) if name == "mean" else made


def total(builder: Builder, node: Node, parts: list[Expr]) -> Expr:
    """The sum of several rows."""
    made = parts[0]
    for part in parts[1:]:
        made = builder.sum(made, part, node)
    return made


def stacked(builder: Builder, node: Node) -> Expr:
    """`torch.stack`."""
    children = tuple(builder.rows(child) for child in argument(node, 0, "tensors"))
    dim = argument(node, 1, "dim", 0) % 3
    if node.value.dim() != 3:
        raise builder.refused(node, f"`{node.name}` makes {list(node.value.shape)}")
    return builder.stack(children, dim, node)
