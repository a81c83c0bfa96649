"""Features and labels of a graph, from whatever type of tensor they are in."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satisfice._errors import ExportError


def features(name: str, x: Any) -> NDArray[Any]:
    """Features as an array of float16 or float32: those of other types where nothing is lost.

    Doubles are rounded, which a warning says.

    Raises:
        ExportError: the values are no numbers, or integers that float32 does not hold.
    """
    import torch

    if type(x).__name__ == "SparseTensor":  # torch_sparse's
        x = x.to_dense()
    if not isinstance(x, torch.Tensor):
        raise ExportError(
            f"{name} is a {type(x).__name__}: features are a tensor [nodes, features]"
        )
    x = x.detach().cpu()
    if x.layout != torch.strided:
        x = x.to_dense()
    if x.is_complex() or x.is_quantized:
        raise ExportError(f"{name} is {x.dtype}: features are real numbers; convert them")
    if x.dtype in (torch.float16, torch.float32):
        return np.asarray(x)
    single = x.to(torch.float32)
    if x.dtype == torch.float64:
        if lost := int((single.double() != x).sum() - x.isnan().sum()):
            warnings.warn(
                f"{name} is float64: {lost} of its {x.numel()} values are rounded to float32, in "
                "which features are kept",
                stacklevel=4,
            )
    elif not x.is_floating_point() and x.dtype != torch.bool:
        largest = float(x.double().abs().max()) if x.numel() else 0.0
        # Doubles hold every integer up to 2^53, by which the others are told.
        if largest >= 2.0**53 or bool((single.double() != x.double()).any()):
            raise ExportError(
                f"{name} is {x.dtype} with values that float32 does not hold exactly (the largest "
                f"is {largest:.0f}): scale the features before training"
            )
    return np.asarray(single)


def labels(name: str, y: Any, nodes: int) -> NDArray[np.int64] | None:
    """One class a node, -1 where it is not known; None, with a warning, where labels are others."""
    problem: str | None
    if not hasattr(y, "detach"):
        array, problem = None, f"it is a {type(y).__name__}"
    else:
        array, problem = classes(
            y.detach().cpu().float().numpy() if _is_bf16(y) else _plain(y), nodes
        )
    if problem is not None:
        warnings.warn(
            f"the labels in {name} are left out ({problem}): one class a node is kept, and nothing "
            "but `evaluate` and `profile` reads them",
            stacklevel=4,
        )
    return array


def _is_bf16(y: Any) -> bool:
    import torch

    return bool(y.dtype == torch.bfloat16)


def _plain(y: Any) -> NDArray[Any]:
    import torch

    y = y.detach().cpu()
    return np.asarray(y if y.layout == torch.strided else y.to_dense())


def classes(y: NDArray[Any], nodes: int) -> tuple[NDArray[np.int64] | None, str | None]:
    """Class labels [nodes] as int64, or None and why they are none.

    Taken are [nodes] and [nodes, 1] of integers, bools, and floats that are whole numbers or NaN,
    which stands for an unknown class.
    """
    if y.shape not in ((nodes,), (nodes, 1)):
        return None, f"their shape is {list(y.shape)} for {nodes} nodes"
    y = y.reshape(nodes)
    if y.dtype.kind == "f":
        y = y.astype(np.float64)
        known = y[~np.isnan(y)]
        if not (np.isfinite(known) & (known == np.floor(known))).all():
            return None, "they are not whole numbers"
        y = np.where(np.isnan(y), -1, y)
    elif y.dtype.kind not in "iub":
        return None, f"their type is {y.dtype}"
    if y.size and (y.min() < -1 or y.max() > np.iinfo(np.int32).max - 1):
        return (
            None,
            f"they go from {y.min()} to {y.max()}, but classes count from 0, and -1 means unknown",
        )
    return np.ascontiguousarray(y.astype(np.int64)), None
