"""DGL's message passing tensor by tensor, while a run is recorded.

DGL reduces messages in kernels of its own, which no recorder sees into, and calls user-defined
functions once for each degree. Both are replaced by the same in functions of PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from satisfice._errors import ExportError
from satisfice._record import is_inside_of_a_layer

_BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.true_divide}


@contextmanager
def tensor_by_tensor() -> Iterator[None]:
    """Replaces DGL's kernels."""
    import dgl

    places = [
        (sys.modules["dgl.ops.spmm"], "gspmm_internal", _spmm),
        (sys.modules["dgl.ops.sddmm"], "gsddmm_internal", _sddmm),
        (sys.modules["dgl.ops.edge_softmax"], "edge_softmax_internal", _edge_softmax),
        (dgl.core, "invoke_udf_reduce", _reduce_by_function),
    ]
    kept = [getattr(module, name) for module, name, _ in places]
    for (module, name, other), plain in zip(places, kept):
        setattr(module, name, _outside_of_layers(other, plain))
    try:
        yield
    finally:
        for (module, name, _), plain in zip(places, kept):
            setattr(module, name, plain)


def _outside_of_layers(other: Any, plain: Any) -> Any:
    """A function that is another one inside of what is recorded as one operation."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return (plain if is_inside_of_a_layer() else other)(*args, **kwargs)

    return call


def _ends(graph: Any) -> tuple[Tensor, Tensor]:
    source, target, _ = graph.edges(0, "eid")
    return source.long(), target.long()


def _sums(rows: Tensor, ends: Tensor, nodes: int) -> Tensor:
    return torch.zeros(nodes, *rows.shape[1:], dtype=rows.dtype).index_add_(0, ends, rows)


def _bounds(rows: Tensor, ends: Tensor, nodes: int, kind: str) -> Tensor:
    index = ends.view(-1, *[1] * (rows.dim() - 1)).expand(rows.shape)
    zeros = torch.zeros(nodes, *rows.shape[1:], dtype=rows.dtype)
    return zeros.scatter_reduce_(0, index, rows, f"a{kind}", include_self=False)


def _spmm(graph: Any, op: str, reduce: str, lhs: Tensor, rhs: Tensor) -> Tensor:
    source, target = _ends(graph)
    if op == "copy_rhs":
        sent = rhs
    else:
        sent = lhs.index_select(0, source)
        sent = sent if op == "copy_lhs" else _BINARY[op](sent, rhs)
    nodes = graph.num_nodes(1 if graph.number_of_ntypes() > 1 else 0)
    if reduce == "sum":
        return _sums(sent, target, nodes)
    if reduce in ("max", "min"):
        return _bounds(sent, target, nodes, reduce)
    raise ExportError(f"messages are reduced by {reduce!r}: sum, mean, max and min are served")


def _sddmm(graph: Any, op: str, lhs: Tensor, rhs: Tensor, lhs_of: str, rhs_of: str) -> Tensor:
    source, target = _ends(graph)

    def of_edges(rows: Tensor, end: str) -> Tensor:
        if end == "e":
            return rows
        return rows.index_select(0, source if end == "u" else target)

    if op == "copy_lhs":
        return of_edges(lhs, lhs_of)
    if op == "copy_rhs":
        return of_edges(rhs, rhs_of)
    one, other = of_edges(lhs, lhs_of), of_edges(rhs, rhs_of)
    if op == "dot":
        return (one * other).sum(dim=-1, keepdim=True)
    return _BINARY[op](one, other)


def _edge_softmax(graph: Any, logits: Tensor, eids: Any = None, norm_by: str = "dst") -> Tensor:
    source, target = _ends(graph)
    ends, nodes = (target if norm_by == "dst" else source), graph.num_nodes(0)
    if len(logits) != len(ends):
        raise ExportError("edge_softmax over some of the edges is not served")
    largest = _bounds(logits, ends, nodes, "max").index_select(0, ends)
    raised = (logits - largest).exp()
    return raised / _sums(raised, ends, nodes).index_select(0, ends)


def _reduce_by_function(
    graph: Any, function: Any, messages: dict[str, Tensor], *, orig_nid: Any = None
) -> dict[str, Tensor]:
    """Calls a reduce function once, for all nodes."""
    from dgl.udf import NodeBatch

    _, target = _ends(graph._graph)
    nodes = graph.num_dst_nodes()
    mailbox = {name: Mail(rows, target, nodes) for name, rows in messages.items()}
    kind = graph.dsttypes[0]
    rows = graph._node_frames[graph.get_ntype_id_from_dst(kind)]
    given = graph.dstnodes() if orig_nid is None else orig_nid
    made = function(NodeBatch(graph, given, kind, rows, msgs=mailbox))
    # Of nodes without an in-edge it is not called: their rows are zeros.
    some = (torch.bincount(target, minlength=nodes) > 0).float()
    return {
        name: value
        if any(value is known for mail in mailbox.values() for known in mail.reduced)
        else value * some.view(-1, *[1] * (value.dim() - 1))
        for name, value in made.items()
    }


class Mail:
    """Messages of every node, `[nodes, edges of the node, ...]`, kept as rows of the edges."""

    # A recorder leaves functions of it to it.
    is_rows_of_edges = True

    def __init__(self, rows: Tensor, target: Tensor, nodes: int, reduced: Any = None) -> None:
        self.rows, self.target, self.nodes = rows, target, nodes
        # What messages were reduced to, which is 0 where there are none.
        self.reduced: list[Tensor] = [] if reduced is None else reduced

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", str(function)).strip("_")
        return next(a for a in args if isinstance(a, Mail))._call(
            function, name, args, kwargs or {}
        )

    def _call(self, function: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        if name in _REDUCED or name == "softmax":
            dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
            if dim in (1, 1 - self.dim()):
                return self._softmax() if name == "softmax" else self._reduce(name)
            if dim is not None and dim < 0:
                return self._of(function(self.rows, dim=dim, **_others(kwargs)))
            raise _unknown(f"`{name}` over dimension {dim}")
        if name not in _BY_VALUE:
            raise _unknown(f"`{name}`")
        return self._of(function(*(self._operand(arg) for arg in args), **kwargs))

    def _operand(self, value: Any) -> Any:
        if isinstance(value, Mail):
            return value.rows
        is_of_nodes = isinstance(value, Tensor) and value.dim() == self.dim()
        if is_of_nodes and value.shape[:2] == (self.nodes, 1):
            return value.squeeze(1).index_select(0, self.target)
        if isinstance(value, Tensor) and value.dim() > 2:
            raise _unknown(f"a tensor {list(value.shape)}")
        return value

    def _of(self, rows: Tensor) -> Mail:
        return Mail(rows, self.target, self.nodes, self.reduced)

    def _reduce(self, name: str) -> Any:
        if name in ("max", "min", "amax", "amin"):
            made = _bounds(self.rows, self.target, self.nodes, name[-3:])
        else:
            made = _sums(self.rows, self.target, self.nodes)
        if name == "mean":
            ones = torch.ones(len(self.rows))
            count = _sums(ones, self.target, self.nodes).clamp(min=1)
            made = made / count.view(-1, *[1] * (made.dim() - 1))
        self.reduced.append(made)
        return _Bound(made) if name in ("max", "min") else made

    def _softmax(self) -> Mail:
        largest = _bounds(self.rows, self.target, self.nodes, "max").index_select(0, self.target)
        raised = (self.rows - largest).exp()
        total = _sums(raised, self.target, self.nodes).index_select(0, self.target)
        return self._of(raised / total)

    def dim(self) -> int:
        """Dimensions, as the mailbox has them."""
        return self.rows.dim() + 1

    def _method(name: str) -> Any:  # type: ignore[misc]  # noqa: N805
        def call(self: Mail, *args: Any, **kwargs: Any) -> Any:
            function = getattr(Tensor, name)
            return self._call(function, name.strip("_"), (self, *args), kwargs)

        return call

    for _name in ("sum", "mean", "max", "min", "amax", "amin", "softmax", "exp", "relu", "tanh"):
        locals()[_name] = _method(_name)
    for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "neg", "pow"):
        locals()[f"__{_name}__"] = _method(f"__{_name}__")
    del _name

    def __getattr__(self, name: str) -> Any:
        raise _unknown(f"`{name}`")


class _Bound(tuple[Any, ...]):
    """What `max` over a dimension gives; where the largest stood is not known."""

    def __new__(cls, values: Tensor) -> _Bound:
        return super().__new__(cls, (values, None))

    @property
    def values(self) -> Any:
        """The largest or least values."""
        return self[0]


_REDUCED = ("sum", "mean", "max", "min", "amax", "amin")
_BY_VALUE = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv", "true_divide", "neg", "pow"),
    *("exp", "log", "sqrt", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh"),
    *("linear", "matmul", "dropout"),
)


def _others(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in ("dim", "axis")}


def _unknown(what: str) -> ExportError:
    return ExportError(
        f"a reduce function does {what} to nodes.mailbox: sums, means, largest and least values "
        "and softmaxes over dimension 1, and functions value by value, are served"
    )
