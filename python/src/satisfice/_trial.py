"""One run of a model beside its description, so that no wrong description is exported.

The layers are the framework's own; what is compared is all that a caller has to say: what comes
before, between and after them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satisfice._errors import ExportError
from satisfice._row_ops import RowOp
from satisfice._sidecar import Description

if TYPE_CHECKING:
    from torch import Tensor, nn

NODES = 12

# `run_layer` may change the layer it is given: it belongs to a copy that has answered already.
RunModel = Callable[["nn.Module", "Tensor", Any], Any]
RunLayer = Callable[["nn.Module", dict[str, Any], "Tensor", "Tensor", Any], "Tensor"]


def check(
    model: nn.Module,
    description: Description,
    weights: dict[str, NDArray[np.float32]],
    graph: Any,
    run_model: RunModel,
    run_layer: RunLayer,
) -> None:
    """Runs a copy of the model, and its description, on a small graph of `NODES` nodes.

    A final log_softmax or softmax of the model may be missing from the description.

    Raises:
        ExportError: the two answers differ.
    """
    import torch

    trial = copy.deepcopy(model).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(NODES, _inputs(description), generator=generator)
    with torch.no_grad():
        try:
            wanted = run_model(trial, x, graph)
        except Exception as error:  # noqa: BLE001 - the caller's own code may raise anything
            warnings.warn(
                f"the export is not checked, because the model raised {error!r}", stacklevel=4
            )
            return
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        try:
            described = _run(trial, description, tensors, x, graph, run_layer)
        except RuntimeError as error:
            raise ExportError(f"the layers described do not fit together: {error}") from error
    if not isinstance(wanted, torch.Tensor):
        warnings.warn(f"the export is not checked: the model returns {type(wanted)}", stacklevel=4)
        return
    _compare(wanted, described)


def small_graph() -> NDArray[np.int64]:
    """Edges [2, E] of a ring with chords, both ways, without self-loops."""
    nodes = np.arange(NODES)
    pairs = np.concatenate(
        [np.stack([nodes, (nodes + 1) % NODES]), np.array([[0, 1, 2], [5, 7, 10]])], 1
    )
    return np.concatenate([pairs, pairs[::-1]], axis=1)


def _inputs(description: Description) -> int:
    linears = [op["in"] for op in description.input if op["op"] == "linear"]
    return int(linears[0] if linears else description.layers[0]["in"])


def _run(
    model: nn.Module,
    description: Description,
    tensors: dict[str, Tensor],
    x: Tensor,
    graph: Any,
    run_layer: RunLayer,
) -> Tensor:
    rows = initial = _apply(description.input, x, x, tensors)
    levels = []
    for layer in description.layers:
        conv = model.get_submodule(layer["tensors"])
        computed = run_layer(conv, layer, rows, initial, graph)
        rows = _apply(layer.get("after", []), computed, rows, tensors)
        levels.append(rows)
    return _apply(description.head, _join(model, description, levels), x, tensors)


def _join(model: nn.Module, description: Description, levels: list[Tensor]) -> Tensor:
    import torch

    jumping = description.jumping_knowledge
    if jumping is None:
        return levels[-1]
    if jumping["mode"] == "cat":
        return torch.cat(levels, dim=-1)
    if jumping["mode"] == "max":
        return torch.stack(levels).amax(dim=0)
    joined: Tensor = model.get_submodule(jumping["tensors"])(levels)
    return joined


def _apply(
    ops: list[RowOp], rows: Tensor, layer_input: Tensor, tensors: dict[str, Tensor]
) -> Tensor:
    for op in ops:
        rows = rows + layer_input if op["op"] == "residual" else _apply_one(op, rows, tensors)
    return rows


def _apply_one(op: RowOp, rows: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    import torch
    from torch.nn import functional

    kind = op["op"]
    options = {name: value for name, value in op.items() if name in ("alpha", "negative_slope")}
    if kind in ("elu", "gelu", "leaky_relu", "relu", "silu"):
        activated: Tensor = getattr(functional, kind)(rows, **options)
        return activated
    if kind in ("sigmoid", "tanh"):
        return torch.sigmoid(rows) if kind == "sigmoid" else torch.tanh(rows)
    if kind == "l2_normalize":
        return functional.normalize(rows, dim=-1)
    weight, bias = (tensors.get(f"{op['tensors']}.{name}") for name in ("weight", "bias"))
    if kind == "linear" and weight is not None:
        return functional.linear(rows, weight, bias)
    if kind == "layer_norm":
        return functional.layer_norm(rows, rows.shape[-1:], weight, bias, op["eps"])
    if kind == "batch_norm":
        mean, variance = (tensors[f"{op['tensors']}.running_{name}"] for name in ("mean", "var"))
        return functional.batch_norm(rows, mean, variance, weight, bias, eps=op["eps"])
    raise ExportError(f"operation {kind!r} is not known")


def _compare(wanted: Tensor, described: Tensor) -> None:
    import torch

    if wanted.shape != described.shape:
        raise ExportError(
            f"the model's answer has shape {list(wanted.shape)} on {NODES} nodes, but the layers "
            f"described give {list(described.shape)}: is one missing, or `flatten` wrong?"
        )
    accepted = [described, described.log_softmax(dim=-1), described.softmax(dim=-1)]
    if any(torch.allclose(wanted, answer, rtol=1e-3, atol=1e-4) for answer in accepted):
        return
    raise ExportError(
        "the model's answer is not that of the layers described: they differ by up to "
        f"{float((wanted - described).abs().max()):.3g} on a small random graph. Describe what the "
        "model does besides (activations, norms, residuals) in `layers`, `input` and `head`; "
        "check=False exports it all the same"
    )
