"""What a recorded run computes, as expressions of rows.

An expression is the rows of all nodes at one point of a run: the features, a row operation on other
rows, a layer of the graph, a sum or a join. Equal expressions are one object.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satisfice import _functions
from satisfice._errors import ExportError
from satisfice._row_ops import RowOp, RowOps
from satisfice._weights import Weights, join

if TYPE_CHECKING:
    from torch import Tensor, nn

    from satisfice._record import Node

# The ends of a classifier that a server leaves to its clients.
FINAL = ("softmax", "log_softmax")
# Widest rows that layers without weights pass on: a matrix of 256 MiB.
_SQUARE_MAX = 8192
ELEMENTWISE = ("relu", "elu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid")


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
    child: Expr


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
class Sum(Expr):
    """The sum of two rows."""

    terms: tuple[Expr, Expr]


@dataclass(eq=False)
class Join(Expr):
    """Several rows joined: ``"cat"``, ``"max"`` or ``"lstm"``."""

    mode: str
    children: tuple[Expr, ...]
    tensors: str = ""


@dataclass(eq=False)
class Stack(Expr):
    """Several rows on top of each other, along dimension ``dim``."""

    children: tuple[Expr, ...]
    dim: int


# Describes the layer that a module node calls.
ReadLayer = Callable[["Builder", "Node"], Expr]


class Builder:
    """Turns recorded nodes into expressions and claims the tensors that they use."""

    def __init__(
        self,
        model: nn.Module,
        is_layer: Callable[[Any], bool],
        read: ReadLayer,
        is_leaf: Callable[[nn.Module], bool],
    ) -> None:
        self.weights = Weights(model)
        self.ops = RowOps(model, self.weights, self._recorded)
        self._model = model
        self._is_leaf = is_leaf
        self._is_layer = is_layer
        self._read = read
        self._made: dict[Node, Expr] = {}
        self._interned: dict[Any, Expr] = {}
        self._static: dict[Node, bool] = {}

    def rows(self, node: Any) -> Expr:
        """The expression of a node that holds rows."""
        from satisfice._record import Node

        if not isinstance(node, Node):
            raise ExportError(f"{node!r} stands where rows of nodes are needed")
        if node not in self._made:
            self._made[node] = self._convert(node)
        return self._made[node]

    def _convert(self, node: Node) -> Expr:
        if node.kind == "input":
            return self.intern(Input, ("input",), node)
        if self.is_static(node):
            raise self.refused(
                node,
                f"{_shown(node)} is no row of a new node: what is learned or kept for each stored "
                "node (an Embedding, a table) new nodes do not have",
            )
        if node.kind == "module":
            return self._module(node)
        return _functions.convert(self, node)

    def _module(self, node: Node) -> Expr:
        module: Any = node.module
        if self._is_layer(module):
            return self._read(self, node)
        kind = type(module).__name__
        if kind == "JumpingKnowledge":
            return self._jumping(node)
        if kind in ("Softmax", "LogSoftmax"):
            return _functions.convert_named(self, node, FINAL[kind == "LogSoftmax"])
        if kind == "Embedding":
            raise self.refused(node, f"{_shown(node)} looks nodes up by number, not by features")
        rows = self.rows([*node.args, *node.kwargs.values()][0])
        if kind == "Linear" and not self.weights.has(node.name, "weight"):
            # A weight norm or a spectral norm makes it of other tensors.
            self.weights.leave_all(node.name)
            bias = None if module.bias is None else module.bias.detach()
            return self.linear(module.weight.detach(), bias, node, rows)
        try:
            ops = self.ops.module(module, node.name)
        except ExportError as error:
            raise self.refused(node, str(error)) from error
        return self.chain(ops, node, rows)

    def _recorded(self, module: nn.Module, prefix: str) -> list[RowOp] | None:
        """The row operations of a module of the caller's own inside of a layer."""
        import torch

        from satisfice import _program
        from satisfice._record import record

        found: list[Any] = [m.in_features for m in module.modules() if hasattr(m, "in_features")]
        if not found:
            return None
        rows = torch.randn(5, int(found[0]))
        with torch.no_grad():
            recorder = record(self._model, lambda: module(rows), rows, self._is_leaf)
        inner = copy.copy(self)
        inner._made, inner._static, inner._interned = {}, {}, {}
        return _program.chain(inner.rows(recorder.node(recorder.answer)))

    def _jumping(self, node: Node) -> Expr:
        module: Any = node.module
        children = tuple(self.rows(child) for child in node.args[0])
        if module.mode != "lstm":
            return self.join(module.mode, children, node)
        self.weights.take_jumping_lstm(node.name)
        return self.join("lstm", children, node, node.name)

    # Expressions

    def intern(self, kind: Any, key: Any, node: Node, *parts: Any, width: int | None = None) -> Any:
        """The expression of this kind and key, which is made if there is none."""
        if key not in self._interned:
            found = node.value.shape[-1] if width is None else width
            self._interned[key] = kind(int(found), node.where, *parts)
        return self._interned[key]

    def op(self, op: RowOp, node: Node, child: Expr, width: int | None = None) -> Expr:
        """A row operation on rows."""
        if node.value.dim() == 3 and op["op"] not in ELEMENTWISE:
            raise self.refused(
                node, f"a {op['op']} is applied to rows of heads that are not joined yet"
            )
        key = ("op", json.dumps(op, sort_keys=True), id(child))
        width = child.width if width is None else width
        made: Expr = self.intern(Op, key, node, op, child, width=width)
        return made

    def chain(self, ops: list[RowOp], node: Node, child: Expr) -> Expr:
        """Row operations on rows, one after another."""
        for op in ops:
            child = self.op(op, node, child, op.get("out"))
        return child

    def inner(self, node: Node, name: str, child: Expr) -> Expr:
        """Rows through the module ``name`` inside of the one that a node calls."""
        module: Any = node.module
        ops = self.ops.module(module.get_submodule(name), join(node.name, name))
        return self.chain(ops, node, child)

    def layer(
        self,
        described: dict[str, Any],
        node: Node,
        child: Expr,
        initial: Expr | None = None,
        heads: int | None = None,
    ) -> Expr:
        """A layer of the graph with what follows it of its own."""
        described = dict(described)
        after = described.pop("after", [])
        text = json.dumps(described, sort_keys=True)
        key = ("layer", text, id(child), id(initial), heads)
        width = described["out"]
        if described["type"] in ("gat", "gatv2") and described["concat"]:
            width *= described["heads"]
        made: Expr = self.intern(
            *(Layer, key, node, node.name, described, child, initial, heads),
            width=width,
        )
        return self.chain(after, node, made)

    def sum(self, one: Expr, other: Expr, node: Node) -> Expr:
        """The sum of two rows of one width."""
        if one.width != other.width:
            raise self.refused(node, f"rows of {one.width} and {other.width} values are added")
        key = ("sum", *sorted((id(one), id(other))))
        made: Expr = self.intern(Sum, key, node, (one, other), width=one.width)
        return made

    def join(
        self,
        mode: str,
        children: tuple[Expr, ...],
        node: Node,
        tensors: str = "",
        width: int | None = None,
    ) -> Expr:
        """Several rows joined."""
        key = ("join", mode, tensors, *(id(child) for child in children))
        made: Expr = self.intern(Join, key, node, mode, children, tensors, width=width)
        return made

    def affine(self, scale: Any, shift: Any, node: Node, child: Expr) -> Expr:
        """``rows * scale + shift``, each a number or a value a channel."""
        import torch

        width = child.width
        values = {}
        for name, value, neutral in (("weight", scale, 1.0), ("bias", shift, 0.0)):
            tensor = torch.as_tensor(neutral if value is None else value, dtype=torch.float32)
            while tensor.dim() > 1 and tensor.shape[0] == 1:
                tensor = tensor[0]
            if tensor.dim() > 1 or (tensor.dim() == 1 and tensor.shape[0] not in (1, width)):
                raise self.refused(
                    node, f"rows of {width} values are combined with {list(tensor.shape)} values"
                )
            values[name] = tensor.expand(width)
        if bool((values["weight"] == 1).all()) and bool((values["bias"] == 0).all()):
            return child
        zeros, ones = torch.zeros(width), torch.ones(width)
        tensors = self.add({**values, "running_mean": zeros, "running_var": ones})
        return self.op({"op": "batch_norm", "tensors": tensors, "eps": 0.0}, node, child)

    def linear(self, weight: Tensor, bias: Tensor | None, node: Node, child: Expr) -> Expr:
        """A linear map ``weight`` [out, in] with ``bias`` [out] that the model does not name."""
        op = self.linear_op(weight, bias)
        if op["in"] != child.width:
            raise self.refused(node, f"a map of {op['in']} values is applied to {child.width}")
        return self.op(op, node, child, op["out"])

    def linear_op(self, weight: Tensor, bias: Tensor | None) -> RowOp:
        """The row operation of a linear map that the model does not name."""
        named = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        op: RowOp = {"op": "linear", "tensors": self.add(named)}
        op |= {"in": int(weight.shape[1]), "out": int(weight.shape[0])}
        return op if bias is not None else {**op, "bias": False}

    def square(self, width: int, where: str, value: float = 1.0) -> Tensor:
        """``value`` times the identity on rows of ``width`` values, for layers without weights."""
        import torch

        if width > _SQUARE_MAX:
            raise refused(
                f"rows of {width} values are passed on without being mapped to fewer, which takes "
                f"a matrix of {width} x {width}: map them before; at most {_SQUARE_MAX} are served",
                where,
            )
        return torch.eye(width) * value

    def add(self, tensors: dict[str, Tensor]) -> str:
        """Writes tensors that the model does not name; returns their prefix."""
        return self.weights.add(tensors)

    # Nodes

    def is_static(self, node: Node) -> bool:
        """Whether the node does not depend on the features."""
        if node not in self._static:
            reads = node.reads()
            dynamic = node.kind == "input" or any(not self.is_static(read) for read in reads)
            self._static[node] = not dynamic
        return self._static[node]

    def constant(self, value: Any) -> Any:
        """The number or tensor that an operand is; None where it depends on the features."""
        from satisfice._record import Node

        if isinstance(value, Node):
            if not self.is_static(value):
                return None
            self._leave_parameters(value)
            return value.value.detach()
        return value if isinstance(value, (int, float)) else None

    def _leave_parameters(self, node: Node) -> None:
        """The parameters behind a constant are written as what was made of them."""
        if node.kind == "parameter":
            self.weights.leave("", node.name)
        for read in node.reads():
            self._leave_parameters(read)

    def refused(self, node: Node, message: str) -> ExportError:
        """The error of a node that cannot be served."""
        return refused(message, node.where)


def refused(message: str, where: str) -> ExportError:
    """The error of something at a line of the caller's code."""
    place = f" ({where})" if where else ""
    return ExportError(
        f"{message}{place}. What is served is described in docs/export.md; `layers`, `input` and "
        "`head` describe a model by hand"
    )


def _shown(node: Node) -> str:
    if node.kind == "module":
        return f"{node.name or 'a module'} ({type(node.module).__name__})"
    shape = list(node.value.shape)
    if node.kind == "parameter":
        return f"the parameter {node.name} {shape}"
    return f"a tensor {shape}" if node.kind == "constant" else f"{node.name} {shape}"
