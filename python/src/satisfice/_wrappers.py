"""Modules around the module that is exported, and a copy of it to try."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from satisfice._errors import ExportError

if TYPE_CHECKING:
    from torch import nn

_INSIDE = {
    "AveragedModel": "module",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}


def unwrap(model: Any) -> nn.Module:
    """The module inside of DataParallel, DistributedDataParallel, torch.compile and their like.

    Raises:
        ExportError: the model is no module of Python that could be read.
    """
    import torch
    from torch import nn

    while isinstance(model, nn.Module) and type(model).__name__ in _INSIDE:
        model = getattr(model, _INSIDE[type(model).__name__])
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise ExportError(
            "the model is TorchScript, whose layers cannot be read: export the module that it was "
            "made of, with its state dict loaded"
        )
    if not isinstance(model, nn.Module):
        raise ExportError(
            f"the model is a {type(model).__name__}, not a torch.nn.Module: build the module and "
            "load its state dict, then export it"
        )
    if _is_lightning(model) and not _has_forward(model):
        children = [name for name, _ in model.named_children()]
        raise ExportError(
            f"{type(model).__name__} is a LightningModule without a forward: export the module "
            f"inside of it (it has {', '.join(children) or 'none'})"
        )
    return model


def _is_lightning(model: nn.Module) -> bool:
    return any(cls.__name__ == "LightningModule" for cls in type(model).__mro__)


def _has_forward(model: nn.Module) -> bool:
    from torch import nn

    owners = [cls for cls in type(model).__mro__ if "forward" in vars(cls)]
    return bool(owners) and owners[0].__name__ != "LightningModule" and owners[0] is not nn.Module


def trial_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in single precision and evaluation mode; the model stays as it is."""
    import torch

    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            # What a layer has kept of its last run cannot be copied with its gradient.
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        trial: nn.Module = copy.deepcopy(model, memo)
    except Exception as error:  # noqa: BLE001 - modules may hold anything
        raise ExportError(
            f"{type(model).__name__} cannot be copied to try it ({error}): remove what it holds "
            "besides its layers (weight norms, hooks, data loaders) before the export"
        ) from error
    _unwrap_parts(trial)
    return trial.cpu().float().eval()


def _unwrap_parts(model: nn.Module) -> None:
    """Puts the modules inside of wrappers in their place: compiled ones hide what they run."""
    for module in list(model.modules()):
        if getattr(module, "_compiled_call_impl", None) is not None:
            module._compiled_call_impl = None
        for name, child in list(module.named_children()):
            if type(child).__name__ in _INSIDE:
                setattr(module, name, unwrap(child))
