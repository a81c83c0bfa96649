"""What kind of model a module is, told by the types of its parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from satisfice._errors import ExportError

if TYPE_CHECKING:
    from torch import nn

# Layers of graphs with several types of nodes or edges, in both frameworks.
_TYPED = {
    "CuGraphRGCNConv",
    "FastRGCNConv",
    "HANConv",
    "HEATConv",
    "HGTConv",
    "HeteroConv",
    "HeteroDictLinear",
    "HeteroEmbedding",
    "HeteroGraphConv",
    "HeteroLinear",
    "RGATConv",
    "RGCNConv",
    "RelGraphConv",
    "ToHeteroLinear",
    "ToHeteroMessagePassing",
}


def refuse_types(model: nn.Module) -> None:
    """Refuses models of several types of node or edge, before anything else is asked of them."""
    typed = [_shown(name, module) for name, module in model.named_modules() if _is_typed(module)]
    arguments = [name for name in _arguments(model) if name.endswith("_dict")]
    if found := typed[:4] or arguments:
        raise ExportError(
            f"{type(model).__name__} reads several types of node or edge ({', '.join(found)}): "
            "graphs with one type of node and one type of edge are served"
        )


def _is_typed(module: Any) -> bool:
    return type(module).__name__ in _TYPED


def _arguments(model: nn.Module) -> list[str]:
    return list(inspect.signature(model.forward).parameters)


def no_known_layer(
    model: nn.Module, is_layer: Callable[[Any], bool], known: Iterable[str]
) -> ExportError:
    """The error of a model without a layer that could be described."""
    found = [_shown(name, module) for name, module in model.named_modules() if is_layer(module)]
    what = ", ".join(found[:6]) if found else "no layer of a graph at all"
    return ExportError(
        f"{type(model).__name__} has no layer that is known: it has {what}; known are "
        f"{', '.join(known)}"
    )


def _shown(name: str, module: Any) -> str:
    kind = type(module).__name__
    return f"{name} ({kind})" if name else kind
