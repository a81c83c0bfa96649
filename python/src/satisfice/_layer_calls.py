"""What the call of a layer in a recorded run was given."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satisfice._expressions import Builder
    from satisfice._exprs import Expr
    from satisfice._record import Node


def not_known(builder: Builder, node: Node, known: Iterable[str]) -> Exception:
    """The error of a layer that is none of ``known``."""
    return builder.refused(
        node,
        f"layer {node.name!r} is a {type(node.module).__name__}; known are {', '.join(known)}, as "
        "they are (a subclass may compute something else)",
    )


def arguments_of(builder: Builder, node: Node) -> dict[str, Any]:
    """The arguments of a layer's ``forward``, by name."""
    if node.part:
        raise builder.refused(node, f"the answer reads the attention of layer {node.name!r}")
    module: Any = node.module
    given = inspect.signature(type(module).forward).bind(module, *node.args, **node.kwargs)
    return given.arguments


def rows_of(builder: Builder, node: Node, given: Any) -> Expr:
    """The rows that a layer reads, which have to be the same of sources and of targets."""
    if not isinstance(given, (tuple, list)):
        return builder.rows(given)
    rows = [builder.rows(part) for part in given if part is not None]
    if len(given) != 2 or len(rows) != 2 or rows[0] is not rows[1]:
        raise builder.refused(
            node, f"layer {node.name!r} reads other rows of sources than of targets"
        )
    return rows[0]
