"""Writing of files that a running server may have mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import save


def write_tensors(
    path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file."""
    replace(path, save(tensors, metadata))


def replace(path: Path, content: bytes) -> None:
    """Writes a file beside its place and moves it there, so that readers see all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
