"""One real run of a model, operation by operation.

Layers and modules of the libraries are seen as one operation each; everything else tensor by
tensor, whatever control flow leads to it. What an operation reads are the operations that made it,
so that walking back from the answer finds all that it depends on, and nothing else.
"""

from __future__ import annotations

import linecache
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

if TYPE_CHECKING:
    from types import FrameType

# Packages whose frames are not the caller's own code.
_LIBRARIES = ("torch", "torch_geometric", "dgl", "torch_sparse", "torch_scatter", "contextlib")

# Files that PyTorch Geometric makes of a layer's message().
_GENERATED = re.compile(r"_(propagate|edge_updater)_?\w*\.py$")


@dataclass(eq=False)
class Node:
    """A tensor, and the operation that made it.

    Attributes:
        kind: ``"input"``, ``"parameter"``, ``"constant"``, ``"module"`` or ``"function"``.
        name: of the parameter, module or function.
        value: the tensor itself.
        args: what the operation read, with nodes in the place of tensors.
        kwargs: the same, by name.
        module: the module that was called.
        where: the caller's line that called it; for messages.
        part: which tensor of an answer of several it is.
    """

    kind: str
    name: str
    value: Tensor
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    module: nn.Module | None = None
    where: str = ""
    part: int | None = None

    def reads(self) -> list[Node]:
        """The nodes among what the operation read."""
        return [leaf for leaf in _leaves((self.args, self.kwargs)) if isinstance(leaf, Node)]


def record(
    model: nn.Module, run: Callable[[], Any], rows: Tensor, is_leaf: Callable[[nn.Module], bool]
) -> Recorder:
    """Runs ``run``, which runs the model on ``rows``; `Recorder.answer` says what it gave."""
    recorder = Recorder(model, rows, is_leaf)
    plain = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        is_other = threading.current_thread() is not recorder.thread
        if is_other or not recorder.sees(module) or _are_of_edges((args, kwargs)):
            return plain(module, *args, **kwargs)
        return recorder.call(plain, module, args, kwargs)

    nn.Module.__call__ = call  # type: ignore[method-assign]
    outer, Recorder.active = Recorder.active, recorder
    try:
        with recorder:
            recorder.answer = run()
    finally:
        nn.Module.__call__ = plain  # type: ignore[method-assign]
        Recorder.active = outer
    return recorder


def is_inside_of_a_layer() -> bool:
    """Whether what runs now is part of a module that is recorded as one operation."""
    return Recorder.active is not None and Recorder.active._inside > 0


class Recorder(TorchFunctionMode):
    """The nodes of all tensors that were seen in one run."""

    # That of the run that is being recorded.
    active: Recorder | None = None

    def __init__(
        self, model: nn.Module, rows: Tensor, is_leaf: Callable[[nn.Module], bool]
    ) -> None:
        super().__init__()
        self.thread = threading.current_thread()
        self.answer: Any = None
        self._is_leaf = is_leaf
        self._inside = 0
        self._names = {id(module): name for name, module in model.named_modules()}
        self._nodes: dict[int, Node] = {}
        # Tensors are known by their identity, which is theirs as long as they live.
        self._alive: list[Any] = []
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            self._put(tensor, Node("parameter", name, tensor))
        self._put(rows, Node("input", "x", rows))

    def sees(self, module: nn.Module) -> bool:
        """Whether the module is to be seen as one operation."""
        return not self._inside and self._is_leaf(module)

    def call(self, plain: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Calls a module and records the call as one operation."""
        read, named = self._replaced((args, kwargs))
        self._inside += 1
        try:
            made = plain(module, *args, **kwargs)
        finally:
            self._inside -= 1
        name = self._names.get(id(module), "")
        self._made(made, Node("module", name, Tensor(), read, named, module, _where()))
        return made

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._inside and _are_of_edges((args, kwargs)):
            return NotImplemented
        if self._inside:
            return function(*args, **kwargs)
        read, named = self._replaced((args, kwargs))
        made = function(*args, **kwargs)
        name = _name(function)
        if name == "__setitem__":
            self._made(args[0], Node("function", name, Tensor(), read, named, None, _where()))
        elif any(isinstance(leaf, Tensor) for leaf in _leaves(made)):
            self._made(made, Node("function", name, Tensor(), read, named, None, _where()))
        return made

    def node(self, tensor: Tensor) -> Node:
        """The node of a tensor; that of a constant if no operation made it."""
        known = self._nodes.get(id(tensor)) or self._alias(tensor)
        if known is None:
            known = Node("constant", "", tensor, where=_where())
            self._put(tensor, known)
        return known

    def _alias(self, tensor: Tensor) -> Node | None:
        """The node of a tensor of which this is the whole: releases before 2.2 hide slices."""
        if tensor.layout != torch.strided or not tensor.numel():
            return None
        for other in reversed(self._alive):
            if (
                other.layout == torch.strided
                and other.data_ptr() == tensor.data_ptr()
                and other.shape == tensor.shape
                and other.stride() == tensor.stride()
                and other.dtype == tensor.dtype
            ):
                return self._nodes[id(other)]
            if (
                other.layout == torch.strided
                and other.data_ptr() == tensor.data_ptr()
                and [size for size in other.shape if size > 1]
                == [size for size in tensor.shape if size > 1]
                and other.dtype == tensor.dtype
                and other.is_contiguous()
                and tensor.is_contiguous()
            ):
                made = Node("function", "view", tensor, (self._nodes[id(other)],), where=_where())
                self._put(tensor, made)
                return made
        return None

    def _made(self, made: Any, node: Node) -> None:
        tensors = [leaf for leaf in _leaves(made) if isinstance(leaf, Tensor)]
        for part, tensor in enumerate(tensors):
            fresh = Node(**{**vars(node), "value": tensor})
            fresh.part = part if len(tensors) > 1 else None
            self._put(tensor, fresh)

    def _put(self, tensor: Tensor, node: Node) -> None:
        self._alive.append(tensor)
        self._nodes[id(tensor)] = node

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, (list, tuple)):
            parts = [self._replaced(part) for part in value]
            return tuple(parts) if isinstance(value, tuple) else parts
        if isinstance(value, dict):
            return {key: self._replaced(part) for key, part in value.items()}
        return value


def _are_of_edges(value: Any) -> bool:
    """Whether rows are among operands that do by themselves what functions of tensors do."""
    return any(getattr(type(leaf), "is_rows_of_edges", False) for leaf in _leaves(value))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in _leaves(part)]
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    return [value]


def _name(function: Any) -> str:
    """``relu`` for all of torch.relu, functional.relu and Tensor.relu; ``T`` for the property."""
    name = getattr(function, "__name__", None) or str(function)
    if name in ("__get__", "__set__"):
        return str(getattr(function.__self__, "__name__", name))
    if name == "_wrapped":
        name = (resolve_name(function) or name).rsplit(".", 1)[-1]
    return str(name)


def _where() -> str:
    """The innermost line of the caller's own code: file, line, text."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        made = _GENERATED.search(frame.f_code.co_filename)
        if made or frame.f_globals.get("__name__") == __name__:
            # What records, the calls of modules that it stands for, and code that the library made.
            frame = frame.f_back
            continue
        package = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if package == "satisfice":  # What calls the model; no code of the caller's was met.
            return ""
        if package not in _LIBRARIES:
            name, line = frame.f_code.co_filename, frame.f_lineno
            text = linecache.getline(name, line).strip()
            short = name.rsplit("/", 1)[-1]
            return f"{short}, line {line}" + (f": `{text}`" if text else "")
        frame = frame.f_back
    return ""
