"""Files of samples as the server's commands read them (docs/multimodal-models.md)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

FORMAT = "satisfice-multimodal-data-1"


def byte_strings(name: str, items: list[bytes]) -> dict[str, np.ndarray]:
    """Tensors of a list of byte strings."""
    offsets = np.cumsum([0, *map(len, items)]).astype(np.int64)
    return {f"{name}_offsets": offsets, f"{name}_bytes": np.frombuffer(b"".join(items), np.uint8)}


def png(pixels: np.ndarray) -> bytes:
    """U8 [C, H, W], C = 1 or 3, as a PNG file."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def write(
    path: Path, tensors: dict[str, np.ndarray], label: np.ndarray, group: np.ndarray | None = None
) -> None:
    """Writes samples with their labels; those of one group are not independent of each other."""
    tensors = {**tensors, "labels": label.astype(np.int64)}
    if group is not None:
        tensors["groups"] = group.astype(np.int64)
    save_file(
        {name: np.ascontiguousarray(t) for name, t in tensors.items()}, path, {"format": FORMAT}
    )
