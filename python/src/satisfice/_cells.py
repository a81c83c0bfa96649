"""Recurrent cells, gate by gate: rows of levels as the steps of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satisfice._weights import join

if TYPE_CHECKING:
    from torch import Tensor

    from satisfice._expressions import Builder
    from satisfice._exprs import Expr
    from satisfice._record import Node

RECURRENT = ("GRU", "GRUCell", "LSTM", "LSTMCell")


def convert(builder: Builder, node: Node) -> Expr:
    """What a recurrent module leaves: its last states, or those after all steps stacked.

    Raises:
        ExportError: it has several layers or directions, or its steps are no stacked rows.
    """
    module: Any = node.module
    kind = type(module).__name__
    if kind.endswith("Cell"):
        return _of_cell(builder, node, kind)
    plain = (
        module.num_layers == 1 and not module.bidirectional and not getattr(module, "proj_size", 0)
    )
    if not plain:
        raise builder.refused(
            node, f"{node.name} ({kind}) has several layers or directions: one of each is served"
        )
    return _of_sequence(builder, node, kind)


def _of_cell(builder: Builder, node: Node, kind: str) -> Expr:
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("hx")
    before = given if isinstance(given, (tuple, list)) else [given]
    states = [None if state is None else builder.rows(state) for state in before]
    cell = Cell(builder, node, node.module, "")
    child = builder.rows(node.args[0])
    if kind == "GRUCell":
        return cell.gru(child, states[0])
    state, memory = cell.lstm(child, *(states if len(states) == 2 else (None, None)))
    return memory if node.part == 1 else state


def _of_sequence(builder: Builder, node: Node, kind: str) -> Expr:
    from satisfice._exprs import Stack

    module: Any = node.module
    steps = builder.rows(node.args[0])
    along = 1 if module.batch_first else 0
    if not isinstance(steps, Stack) or steps.dim != along:
        raise builder.refused(
            node,
            f"{node.name} ({kind}) runs over {list(node.args[0].value.shape)}: sequences of "
            "levels, stacked along the dimension of its steps, are served",
        )
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("hx")
    before = list(given) if isinstance(given, (tuple, list)) else [given]
    states: list[Any] = [_state(builder, one) for one in before]
    state, memory = states[0], states[1] if len(states) > 1 else None
    cell = Cell(builder, node, module, "_l0")
    found = []
    for step in steps.children:
        if kind == "GRU":
            state = cell.gru(step, state)
        else:
            state, memory = cell.lstm(step, state, memory)
        found.append(state)
    if node.part in (0, None):
        return builder.stack(tuple(found), along, node)
    return builder.stack((state if node.part == 1 else memory,), 0, node)


def _state(builder: Builder, given: Any) -> Any:
    """Rows of a state that a sequence starts from; None where it is zero."""
    if given is None:
        return None
    constant = builder.constant(given)
    if constant is not None and not bool(constant.any()):
        return None
    return builder.rows(given).children[0]  # type: ignore[attr-defined]


class Cell:
    """One step of a recurrent module, whose tensors are called ``weight_ih`` and so on."""

    def __init__(
        self, builder: Builder, node: Node, module: Any, suffix: str, inside: str = ""
    ) -> None:
        self._builder, self._node = builder, node
        names = [f"{name}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        builder.weights.leave(join(node.name, inside) if inside else node.name, *names)
        of: list[Tensor | None] = [getattr(module, name, None) for name in names]
        self._maps = [None if tensor is None else tensor.detach() for tensor in of]
        self._hidden = module.hidden_size

    def _mapped(self, rows: Any, at: int) -> list[Any]:
        """The gates' parts of an input or a state: without a state, their biases."""
        builder, node, hidden = self._builder, self._node, self._hidden
        weight, bias = self._maps[at], self._maps[at + 2]
        assert weight is not None
        if rows is None:
            gates = range(weight.shape[0] // hidden)
            return [None if bias is None else bias[g * hidden : (g + 1) * hidden] for g in gates]
        made = builder.linear(weight, bias, node, rows)
        return [
            builder.slice(made, g * hidden, hidden, node) for g in range(weight.shape[0] // hidden)
        ]

    def _sum(self, one: Any, other: Any) -> Any:
        """A sum in which one part may be a bias alone."""
        from satisfice._exprs import Expr

        if isinstance(other, Expr):
            return self._builder.sum(one, other, self._node)
        return one if other is None else self._builder.affine(None, other, self._node, one)

    def _act(self, kind: str, rows: Expr) -> Expr:
        return self._builder.joined({"op": kind}, (rows,), self._node, rows.width)

    def lstm(self, rows: Expr, state: Any, memory: Any) -> tuple[Expr, Expr]:
        builder, node = self._builder, self._node
        both = zip(self._mapped(rows, 0), self._mapped(state, 1))
        enter, keep, cell, leave = (self._sum(one, other) for one, other in both)
        made = builder.mul(self._act("sigmoid", enter), self._act("tanh", cell), node)
        if memory is not None:
            made = builder.sum(builder.mul(self._act("sigmoid", keep), memory, node), made, node)
        return builder.mul(self._act("sigmoid", leave), self._act("tanh", made), node), made

    def gru(self, rows: Expr, state: Any) -> Expr:
        from satisfice._exprs import Expr

        builder, node = self._builder, self._node
        inputs, states = self._mapped(rows, 0), self._mapped(state, 1)
        reset, update = (self._act("sigmoid", self._sum(inputs[at], states[at])) for at in (0, 1))
        new = inputs[2]
        if isinstance(states[2], Expr):
            new = builder.sum(new, builder.mul(reset, states[2], node), node)
        elif states[2] is not None:
            new = builder.sum(new, builder.affine(states[2], None, node, reset), node)
        new = self._act("tanh", new)
        keeps_not = self._rest(update)
        made = builder.mul(keeps_not, new, node)
        return made if state is None else builder.sum(made, builder.mul(update, state, node), node)

    def _rest(self, rows: Expr) -> Expr:
        """``1 - rows``."""
        op = {"op": "scale", "by": -1.0, "plus": 1.0}
        return self._builder.joined(op, (rows,), self._node, rows.width)
