"""A description of a model from two recorded runs of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satisfice import _calls, _trial, _wrappers
from satisfice._calls import row_tensor
from satisfice._errors import ExportError
from satisfice._kinds import no_known_layer
from satisfice._sidecar import Description
from satisfice._trial import SmallGraph, Trial

if TYPE_CHECKING:
    from torch import Tensor, nn

    from satisfice._expressions import ReadLayer

# Modules of PyTorch that call others.
_CONTAINERS = ("Module", "ModuleDict", "ModuleList", "Sequential", "ParameterDict", "ParameterList")


@dataclass(frozen=True)
class Framework:
    """What recording needs to know of a framework.

    Attributes:
        name: as the sidecar has it.
        is_layer: whether a module is a layer of the graph, known or not.
        own: packages of the framework's modules that are seen as one operation each.
        layers: reads the layers of a run on a small graph.
        known: names of the layers that are known.
    """

    name: str
    is_layer: Callable[[Any], bool]
    own: tuple[str, ...]
    layers: Callable[[SmallGraph], ReadLayer]
    known: tuple[str, ...]
    # What is in force while a run is recorded.
    recording: Callable[[], AbstractContextManager[None]] = nullcontext

    def is_leaf(self, module: nn.Module) -> bool:
        """Whether a module is seen as one operation."""
        cls = type(module)
        if cls.__module__.startswith("torch.nn.modules."):
            return cls.__name__ not in _CONTAINERS
        return (
            self.is_layer(module)
            or cls.__module__.startswith(self.own)
            or cls.__name__ == "JumpingKnowledge"
        )


@dataclass(frozen=True)
class Recorded:
    """A model as it ran."""

    description: Description
    weights: dict[str, NDArray[np.float32]]
    # Names of the tensors that the answer does not depend on.
    left: list[str]


def describe(model: nn.Module, trial: Trial, framework: Framework, widths: list[int]) -> Recorded:
    """Records two runs on graphs of different sizes, which must be the same program.

    ``widths``: widths that the features may have, the likeliest first.

    Raises:
        ExportError: the model cannot be run, or does what the sidecar cannot say.
    """
    error: ExportError | None = None
    for width in widths:
        try:
            first, second = (_one(model, trial, framework, width, at) for at in (0, 1))
        except _trial.RunError as failed:
            error = error or failed
            continue
        if not _equal(first, second):
            raise ExportError(
                "the model computes something else on another graph: a size or a number of the "
                "graph on which it was made is part of it, or it branches on what it computes"
            )
        return first
    if error is not None:
        raise _calls.reads_edge_features(model) or error
    raise no_known_layer(model, framework.is_layer, framework.known)


def say_what_is_left_out(left: list[str]) -> None:
    """Warns of tensors that are not exported because the answer does not depend on them."""
    if left:
        modules = sorted({name.rsplit(".", 1)[0] for name in left})
        shown = ", ".join(modules[:6]) + (", ..." if len(modules) > 6 else "")
        warnings.warn(f"left out, because the answer does not depend on it: {shown}", stacklevel=4)


def widths_of(model: nn.Module, features: NDArray[Any] | None) -> list[int]:
    """Widths that the features may have: that of the data, or those that modules read."""
    if features is not None:
        return [int(features.shape[1])]
    found: list[int] = []
    for module in model.modules():
        for name in ("in_channels", "in_features", "_in_feats", "_in_src_feats", "num_features"):
            value = getattr(module, name, None)
            value = value[0] if isinstance(value, (tuple, list)) and value else value
            if isinstance(value, int) and value > 0 and value not in found:
                found.append(value)
        weight: Any = getattr(module, "weight", None)
        if hasattr(weight, "shape") and len(weight.shape) == 2:
            found += [w for w in weight.shape[::-1] if w not in found]
    for parameter in model.parameters():
        found += [w for w in parameter.shape[:2] if w not in found]
    # Rows may be joined with their neighbours' before a map; a model without maps takes any width.
    parts = [width // by for by in (2, 3) for width in found if width % by == 0]
    return [*found[:24], *parts[:8], 8]


def _one(model: nn.Module, trial: Trial, framework: Framework, width: int, at: int) -> Recorded:
    import torch

    from satisfice._expressions import Builder
    from satisfice._graph_values import GraphValues
    from satisfice._program import lower
    from satisfice._record import record

    copy = _wrappers.trial_copy(model)
    graph = trial.graphs[at]
    rows: Tensor = torch.randn(graph.nodes, width, generator=torch.Generator().manual_seed(at + 1))
    made = trial.make(graph)
    # Before it is recorded, so that what a first run keeps is kept.
    _trial.answer(copy, trial, graph, rows)
    try:
        with torch.no_grad(), framework.recording():
            recorder = record(copy, lambda: trial.call(copy, rows, made), rows, framework.is_leaf)
    except ExportError:
        raise
    except Exception as error:  # noqa: BLE001 - it ran before, unrecorded
        raise ExportError(
            f"{type(model).__name__} cannot be recorded ({type(error).__name__}: {error}): "
            "describe it by `layers`, `input` and `head`"
        ) from error
    answer = row_tensor(recorder.answer, graph.nodes, trial.example)
    values = GraphValues(torch.from_numpy(graph.edges), graph.nodes)
    layers = framework.layers(graph)
    builder = Builder(copy, framework.is_layer, layers, framework.is_leaf, values)
    builder.start = recorder.node(rows)
    description = lower(builder, recorder.node(answer), framework.name)
    return Recorded(description, builder.weights.used(description), builder.weights.left)


def _equal(first: Recorded, second: Recorded) -> bool:
    return (
        first.description == second.description
        and first.weights.keys() == second.weights.keys()
        and all(np.array_equal(first.weights[name], second.weights[name]) for name in first.weights)
    )
