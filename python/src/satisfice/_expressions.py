"""Makes expressions of recorded nodes. Equal expressions are one object."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from satisfice import _cells, _functions, _messages, _stacks
from satisfice._cells import RECURRENT
from satisfice._errors import ExportError
from satisfice._exprs import End, Expr, Input, Layer, Op, Stack
from satisfice._row_ops import RowOp, RowOps
from satisfice._sidecar import layer
from satisfice._weights import Weights, join

if TYPE_CHECKING:
    from torch import Tensor, nn

    from satisfice._graph_values import GraphValues
    from satisfice._record import Node

# The ends of a classifier that a server leaves to its clients.
FINAL = ("softmax", "log_softmax")
ELEMENTWISE = (
    *("relu", "elu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid", "scale", "clamp"),
    *("power", "exp", "log", "threshold"),
)


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
        graph: GraphValues | None = None,
    ) -> None:
        self.graph = graph
        # The features' node.
        self.start: Node | None = None
        # Norms of a sum, by the identity of the factor that stands for them.
        self.norms: dict[int, dict[str, Any]] = {}
        self._ones: dict[int, tuple[Any, Any]] = {}
        self.weights = Weights(model)
        self.ops = RowOps(model, self.weights, self._recorded)
        self._model = model
        self._is_leaf = is_leaf
        self._is_layer = is_layer
        self._read = read
        self._made: dict[Node, Expr] = {}
        self._interned: dict[Any, Expr] = {}
        self._static: dict[Node, bool] = {}
        self._maps: dict[Any, Any] = {}
        # Parts of maps, and the maps that they are of, as long as they live.
        self.parts: dict[Any, Any] = {}
        self._linears: dict[int, tuple[Any, Any]] = {}

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
            if (rows := _messages.degrees(self, node)) is not None:
                return rows
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
        if kind in RECURRENT:
            return _cells.convert(self, node)
        if kind == "Embedding":
            raise self.refused(node, f"{_shown(node)} looks nodes up by number, not by features")
        rows = self.rows([*node.args, *node.kwargs.values()][0])
        is_of_edges = kind == "Linear" and not isinstance(rows, Stack) and _messages.is_mixed(rows)
        if is_of_edges or (kind == "Linear" and not self.weights.has(node.name, "weight")):
            # The parts of its weight for both ends, or a weight norm or a spectral norm makes it of other tensors.
            self.weights.leave_all(node.name)
            if id(module) not in self._linears:
                bias = None if module.bias is None else module.bias.detach()
                self._linears[id(module)] = (module.weight.detach(), bias)
            return self.linear(*self._linears[id(module)], node, rows)
        try:
            ops = self.ops.module(module, node.name)
        except ExportError as error:
            raise self.refused(node, str(error)) from error
        return self.chain(ops, node, rows)

    def _recorded(self, module: nn.Module, prefix: str) -> list[RowOp] | None:
        """The row operations of a module of the caller's own inside of a layer."""
        import torch

        from satisfice._record import record

        found: list[Any] = [m.in_features for m in module.modules() if hasattr(m, "in_features")]
        if not found:
            return None
        rows = torch.randn(5, int(found[0]))
        with torch.no_grad():
            recorder = record(self._model, lambda: module(rows), rows, self._is_leaf)
        inner = copy.copy(self)
        inner._made, inner._static, inner._interned = {}, {}, {}
        return chain(inner.rows(recorder.node(recorder.answer)))

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
        width = child.width if width is None else width
        is_elementwise = op["op"] in ELEMENTWISE
        if isinstance(child, Stack):
            if child.dim == 2 and not is_elementwise:
                raise self.refused(node, f"a {op['op']} is applied across stacked rows")
            parts = (self.joined(op, (part,), node, width) for part in child.children)
            return self.stack(tuple(parts), child.dim, node)
        if _is_of_heads(child) and not is_elementwise:
            raise self.refused(
                node, f"a {op['op']} is applied to rows of heads that are not joined yet"
            )
        return self.joined(op, (child,), node, width)

    def joined(self, op: RowOp, children: tuple[Expr, ...], node: Node, width: int) -> Expr:
        """A row operation on several rows; on those of one end of edges, a row of that end."""
        ends = {(child.side, child.loops) for child in children if isinstance(child, End)}
        if len(ends) == 1 and all(isinstance(child, End) for child in children):
            inner: Any = [child.child for child in children]  # type: ignore[attr-defined]
            return self.end(node, ends.pop(), self.joined(op, tuple(inner), node, width))
        key = ("op", json.dumps(op, sort_keys=True), *(id(child) for child in children))
        made: Expr = self.intern(Op, key, node, op, children, width=width)
        return made

    def end(self, node: Node, side: tuple[str, str], child: Expr) -> Expr:
        """The rows of one end of each edge."""
        return _messages.end(self, node, side, child)

    def ones(self, node: Node, width: int = 1) -> Expr:
        """Rows of ones."""
        import torch

        assert self.start is not None, "invariant: messages are those of a run"
        child = self.rows(self.start)
        if width not in self._ones:
            self._ones[width] = (torch.zeros(width, child.width), torch.ones(width))
        return self.linear(*self._ones[width], node, child)

    def again(self, expr: Op, children: tuple[Expr, ...]) -> Expr:
        """The same operation on other rows."""
        key = ("op", json.dumps(expr.op, sort_keys=True), *(id(child) for child in children))
        if key not in self._interned:
            self._interned[key] = replace(expr, children=children)
        return self._interned[key]

    def end_again(self, expr: Any, child: Expr) -> Expr:
        """The same end of other rows."""
        key = ("end", expr.side, expr.loops, id(child))
        if key not in self._interned:
            self._interned[key] = replace(expr, child=child)
        return self._interned[key]

    def stack(self, children: tuple[Expr, ...], dim: int, node: Node) -> Expr:
        """Several rows on top of each other."""
        key = ("stack", dim, *(id(child) for child in children))
        made: Expr = self.intern(Stack, key, node, children, dim, width=children[0].width)
        return made

    def slice(self, child: Expr, start: int, width: int, node: Node) -> Expr:
        """Some of the values of rows."""
        if (start, width) == (0, child.width):
            return child
        if isinstance(child, Op) and child.op["op"] == "slice":
            return self.slice(child.children[0], child.op["start"] + start, width, node)
        op = {"op": "slice", "start": int(start), "width": int(width)}
        return self.joined(op, (child,), node, int(width))

    def scale(self, child: Expr, node: Node, by: float = 1.0, plus: float = 0.0) -> Expr:
        """``rows * by + plus``."""
        if (by, plus) == (1.0, 0.0):
            return child
        if isinstance(child, Op) and child.op["op"] == "scale":
            plus += by * child.op.get("plus", 0.0)
            return self.scale(child.children[0], node, by * child.op["by"], plus)
        op = {"op": "scale", "by": float(by)} | ({"plus": float(plus)} if plus else {})
        return self.op(op, node, child)

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

    def layer_again(self, expr: Layer, options: dict[str, Any], child: Expr) -> Expr:
        """The same layer with other options and other rows."""
        described = {**expr.layer, **options}
        key = ("layer", json.dumps(described, sort_keys=True), id(child), id(None), None)
        if key not in self._interned:
            self._interned[key] = replace(expr, layer=described, child=child)
        return self._interned[key]

    def sum(self, one: Expr, other: Expr, node: Node) -> Expr:
        """The sum of two rows of one width, or of one value and rows."""
        return self.combined("add", one, other, node)

    def mul(self, one: Expr, other: Expr, node: Node) -> Expr:
        """The product of two rows of one width, or of one value and rows."""
        return self.combined("mul", one, other, node)

    def combined(self, kind: str, one: Expr, other: Expr, node: Node) -> Expr:
        """Two rows combined value by value."""
        one, other = _stacks.alike(self, node, one, other)
        if isinstance(one, Stack) and isinstance(other, Stack):
            if len(one.children) != len(other.children) or one.dim != other.dim:
                raise self.refused(node, "rows that are stacked in different ways are combined")
            parts = [self.combined(kind, *two, node) for two in zip(one.children, other.children)]
            return self.stack(tuple(parts), one.dim, node)
        for stacked in (one, other):
            if isinstance(stacked, Stack) or getattr(stacked, "heads", None) is not None:
                raise self.refused(node, "stacked rows are combined with others")
        width = max(one.width, other.width)
        if {one.width, other.width} - {1, width}:
            raise self.refused(node, f"rows of {one.width} and {other.width} values are combined")
        return self.joined({"op": kind}, (one, other), node, width)

    def join(self, mode: str, children: tuple[Expr, ...], node: Node, tensors: str = "") -> Expr:
        """Several rows joined."""
        if len(children) == 1 and mode != "lstm":
            return children[0]
        op: RowOp = {"op": mode} | ({"tensors": tensors} if tensors else {})
        if mode != "cat":
            return self.joined(op, children, node, children[0].width)
        # Slices that lie side by side are what they were cut from.
        flat: list[Expr] = []
        for child in children:
            is_cat = isinstance(child, Op) and child.op["op"] == "cat"
            for part in child.children if is_cat else (child,):
                last = flat[-1] if flat else None
                if _follow(last, part):
                    flat[-1] = self.slice(
                        last.children[0], last.op["start"], last.width + part.width, node
                    )
                else:
                    flat.append(part)
        if len(flat) == 1:
            return flat[0]
        return self.joined(op, tuple(flat), node, sum(part.width for part in flat))

    def affine(self, scale: Any, shift: Any, node: Node, child: Expr) -> Expr:
        """``rows * scale + shift``, each a number or a value a channel."""
        import torch

        numbers = [value for value in (scale, shift) if value is not None]
        if all(isinstance(value, (int, float)) or value.numel() == 1 for value in numbers):
            by, plus = (
                1.0 if scale is None else float(scale),
                0.0 if shift is None else float(shift),
            )
            return self.scale(child, node, by, plus)
        if isinstance(child, Stack):
            parts = [
                self.affine(_of_part(scale, at, child), _of_part(shift, at, child), node, part)
                for at, part in enumerate(child.children)
            ]
            return self.stack(tuple(parts), child.dim, node)
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
        zeros, ones = torch.zeros(width), torch.ones(width)
        tensors = self.add({**values, "running_mean": zeros, "running_var": ones})
        return self.op({"op": "batch_norm", "tensors": tensors, "eps": 0.0}, node, child)

    def linear(self, weight: Tensor, bias: Tensor | None, node: Node, child: Expr) -> Expr:
        """A linear map ``weight`` [out, in] with ``bias`` [out] that the model does not name."""
        key = ("map", id(weight), id(bias))
        if key not in self._maps:
            self._maps[key] = (self.linear_op(weight, bias), weight, bias)
        op = self._maps[key][0]
        if op["in"] != child.width:
            raise self.refused(node, f"a map of {op['in']} values is applied to {child.width}")
        if (parts := _messages.mapped_by_end(self, node, weight, bias, child)) is not None:
            return parts
        return self.op(op, node, child, op["out"])

    def linear_op(self, weight: Tensor, bias: Tensor | None) -> RowOp:
        """The row operation of a linear map that the model does not name."""
        named = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        op: RowOp = {"op": "linear", "tensors": self.add(named)}
        op |= {"in": int(weight.shape[1]), "out": int(weight.shape[0])}
        return op if bias is not None else {**op, "bias": False}

    def propagate(self, node: Node, child: Expr, **options: Any) -> Expr:
        """The sources of each node reduced, without weights of the layer's own."""
        described = layer("propagate", "", child.width, child.width, **options)
        del described["tensors"]
        return self.layer(described, node, child)

    def edge(self, node: Node, child: Expr, out: int, **options: Any) -> Expr:
        """What the ends of edges make of it together, reduced to ``out`` values a node."""
        described = layer("edge", "", child.width, out, **options)
        del described["tensors"]
        return self.layer(described, node, child)

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made under a key, so that it is one object wherever it is used."""
        if key not in self.parts:
            self.parts[key] = make()
        return self.parts[key]

    def add(self, tensors: dict[str, Tensor]) -> str:
        """Writes tensors that the model does not name; returns their prefix."""
        return self.weights.add(tensors)

    # Nodes

    def is_static(self, node: Node) -> bool:
        """Whether the node does not depend on the features."""
        if node not in self._static:
            reads = _values_read(node)
            dynamic = node.kind == "input" or any(not self.is_static(read) for read in reads)
            self._static[node] = not dynamic
        return self._static[node]

    def is_per_row(self, node: Node) -> bool:
        """Whether a node that does not depend on the features has a value a node or an edge."""
        if self.graph is None or not self.graph.has_row_each(node.value):
            return False
        return any(leaf.kind != "parameter" for leaf in _origins(node))

    def constant(self, value: Any) -> Any:
        """The number or tensor that an operand is; None where it depends on the features."""
        from satisfice._record import Node

        if isinstance(value, Node):
            if not self.is_static(value):
                return None
            if self.is_per_row(value):
                first = value.value.flatten()[0].detach()
                return float(first) if bool((value.value == first).all()) else None
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


def chain(expr: Expr) -> list[RowOp] | None:
    """The operations that make ``expr`` of the features one after another; None where none do."""
    ops: list[RowOp] = []
    while not isinstance(expr, Input):
        if not isinstance(expr, Op) or len(expr.children) != 1:
            return None
        ops.insert(0, expr.op)
        expr = expr.children[0]
    return ops


def _is_of_heads(expr: Expr) -> bool:
    """Whether the heads of attention still stand apart."""
    while isinstance(expr, Op) and len(expr.children) == 1:
        expr = expr.children[0]
    return isinstance(expr, Layer) and expr.heads is not None


def _follow(one: Expr | None, other: Expr) -> bool:
    """Whether two expressions are slices of the same rows that lie side by side."""
    slices = [e for e in (one, other) if isinstance(e, Op) and e.op["op"] == "slice"]
    if len(slices) != 2 or slices[0].children[0] is not slices[1].children[0]:
        return False
    return bool(slices[0].op["start"] + slices[0].width == slices[1].op["start"])


def _of_part(value: Any, at: int, stack: Stack) -> Any:
    """What of a number or tensor goes with one of stacked rows."""
    if value is None or isinstance(value, (int, float)) or value.numel() == 1:
        return value
    # As it would be broadcast: [1, K, C], [K, C] or [K, 1] of rows stacked along dimension 1.
    value = value.reshape((1,) * (3 - value.dim()) + tuple(value.shape))
    parts = value.shape[stack.dim]
    value = value.select(stack.dim, at if parts > 1 else 0)
    return value[0] if value.shape[0] == 1 else value


# Functions that read of tensors how large they are, and of how many they read the values too.
_SHAPED = dict.fromkeys(("expand_as", "view_as", "reshape_as", "type_as"), 1) | dict.fromkeys(
    ("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like"), 0
)


def _values_read(node: Node) -> list[Node]:
    """The nodes of whose values a function makes something."""
    reads = node.reads()
    return reads[: _SHAPED.get(node.name, len(reads))] if node.kind == "function" else reads


def _origins(node: Node) -> list[Node]:
    """The nodes that read nothing, of which a node is made."""
    found: list[Node] = []
    done: set[int] = set()
    todo = [node]
    while todo:
        node = todo.pop()
        if id(node) not in done:
            done.add(id(node))
            reads = node.reads()
            found += [] if reads else [node]
            todo += reads
    return found


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
