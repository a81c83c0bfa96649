"""Modules that a model uses at several places: the sidecar's reader wants tensors for each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satisfice._sidecar import Description

Tensors = dict[str, NDArray[np.float32]]


def with_copies(description: Description, tensors: Tensors) -> Tensors:
    """The tensors with a copy, under another name, for every further use of a module.

    The description is changed to name the copies.
    """
    made = dict(tensors)
    # One dictionary may stand at several places.
    for place in ("input", "layers", "head"):
        setattr(description, place, json.loads(json.dumps(getattr(description, place))))
    seen: set[str] = set()
    for part, inner in _parts(description):
        prefix = part["tensors"]
        if prefix not in seen:
            seen.add(prefix)
            continue
        again = f"made.again.{len(made)}"
        for name, tensor in tensors.items():
            is_inner = any(name.startswith(f"{other}.") for other in inner)
            if name.startswith(f"{prefix}.") and not is_inner:
                made[f"{again}{name[len(prefix) :]}"] = tensor
        part["tensors"] = again
        seen.add(again)
    return made


def _parts(description: Description) -> list[tuple[dict[str, Any], list[str]]]:
    """Everything that names tensors, with the names of what stands inside of it."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    for ops in (description.input, description.head):
        found += [(op, []) for op in ops if "tensors" in op]
    for layer in description.layers:
        inner = [op for op in layer.get("mlp", []) if "tensors" in op]
        if "tensors" in layer:
            found.append((layer, [op["tensors"] for op in inner]))
        around = [op for place in ("before", "program", "after") for op in layer.get(place, [])]
        found += [(op, []) for op in [*inner, *around] if "tensors" in op]
    if "tensors" in (description.jumping_knowledge or {}):
        found.append((description.jumping_knowledge, []))
    return found
