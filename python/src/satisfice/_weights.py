"""The tensors of a state dict, each claimed by the layer that uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satisfice._errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor, nn


def join(prefix: str, name: str) -> str:
    """``prefix.name``; ``name`` alone where there is no prefix."""
    return f"{prefix}.{name}" if prefix else name


class Weights:
    """A model's tensors as float32 arrays, and which of them belong to a layer."""

    def __init__(self, model: nn.Module) -> None:
        check_initialized(model)
        self._left = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        self.taken: dict[str, NDArray[np.float32]] = {}
        self._made = 0

    def take(self, prefix: str, *names: str) -> None:
        """Claims ``prefix.name`` for each name."""
        for name in names:
            self.rename(join(prefix, name), join(prefix, name))

    def rename(self, name: str, written: str) -> None:
        """Claims the tensor ``name``, to be written as ``written``.

        A module used at several places has its tensors claimed several times.
        """
        tensor = self._left.pop(name, None)
        if tensor is not None:
            self.taken[written] = _to_array(name, tensor)
        elif written not in self.taken:
            raise ExportError(f"the state dict has no tensor {name!r}: is the prefix right?")

    def add(self, tensors: dict[str, Tensor]) -> str:
        """Tensors that the model does not name; returns the prefix under which they are written."""
        prefix = f"made.{self._made}"
        self._made += 1
        for name, tensor in tensors.items():
            self.taken[f"{prefix}.{name}"] = _to_array(f"{prefix}.{name}", tensor)
        return prefix

    def leave(self, prefix: str, *names: str) -> None:
        """Claims tensors that are written in another form or under another name, where they are there."""
        for name in names:
            self._left.pop(join(prefix, name), None)

    def take_jumping_lstm(self, prefix: str) -> None:
        """Claims what joins layers by an LSTM."""
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            self.take(prefix, f"lstm.{kind}_l0", f"lstm.{kind}_l0_reverse")
        self.take(prefix, "att.weight", "att.bias")

    def has(self, prefix: str, name: str) -> bool:
        """Whether the model has a tensor ``prefix.name``."""
        return join(prefix, name) in self._left or join(prefix, name) in self.taken

    def leave_all(self, prefix: str) -> None:
        """Claims all tensors ``prefix.*``, which are written in another form."""
        for name in [name for name in self._left if name.startswith(f"{prefix}.")]:
            del self._left[name]

    def used(self, description: Any) -> dict[str, NDArray[np.float32]]:
        """The claimed tensors that a description names: others were only looked at."""
        prefixes = _prefixes(description)
        return {
            name: array
            for name, array in self.taken.items()
            if any(name.startswith(f"{prefix}.") or not prefix for prefix in prefixes)
        }

    @property
    def left(self) -> list[str]:
        """Names of the tensors that nothing has claimed."""
        return sorted(self._left)

    def finish(self) -> dict[str, NDArray[np.float32]]:
        """The claimed tensors.

        Raises:
            ExportError: a tensor belongs to no layer.
        """
        if self._left:
            names = ", ".join(sorted(self._left)[:6])
            raise ExportError(
                f"the model has tensors that belong to no exported layer: {names}. "
                "Name their modules in `layers`, `input` or `head`, or remove them from the model"
            )
        return self.taken


def _prefixes(description: Any) -> set[str]:
    found = set()
    jumping = description.jumping_knowledge or {}
    todo = [*description.input, *description.head, *description.layers, jumping]
    while todo:
        part = todo.pop()
        if part.get("tensors") is not None:
            found.add(part["tensors"])
        todo += [op for place in ("before", "after", "mlp", "program") for op in part.get(place, [])]
    return found


def check_initialized(model: nn.Module) -> None:
    """Refuses a model whose lazy layers have never run."""
    from torch.nn.parameter import is_lazy

    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise ExportError(
                f"parameter {name!r} is lazy and not initialised yet: "
                "run the model once on its data before exporting it"
            )


def _to_array(name: str, tensor: Tensor) -> NDArray[np.float32]:
    import torch

    if not tensor.is_floating_point():
        raise ExportError(
            f"tensor {name!r} is {tensor.dtype}: only floating-point weights are read"
        )
    array: NDArray[Any] = tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy()
    if not np.isfinite(array).all():
        raise ExportError(f"tensor {name!r} has values that are not finite: training has diverged")
    return array
