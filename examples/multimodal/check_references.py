"""Answers a bundle's references anew with ONNX Runtime, from its files alone, and compares.

python check_references.py ../emoji
"""

from __future__ import annotations

import io
import sys
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from bundle_table import Bundle

TOLERANCE = 1e-3
"""Of logits of ONNX Runtime with the same files."""
SAME_CLASS_MIN = 0.85
"""Share of the references whose class is that of the trained weights, which are not in 8 bits."""


def main(directory: Path) -> None:
    (model,) = (directory / "models").glob("*/model.toml")
    config = tomllib.loads(model.read_text())
    references = load_file(directory / "reference.safetensors")
    count = len(next(iter(references.values())))
    data = load_file(directory / "test.safetensors")
    inputs = {m["name"]: read(m, data, count, model.parent / "1") for m in config["modalities"]}
    variants = {encoder.get("variant", "") for encoder in config["encoders"]}
    for variant in sorted(variants):
        files = {}
        for encoder in config["encoders"]:
            if encoder.get("variant", "") in ("", variant):
                files[encoder["modality"]] = encoder["file"]
        bundle = Bundle.open(model.parent / "1", files)
        check(bundle, bundle.embed(inputs), references, f"@{variant}" if variant else "")
    print(f"{directory}: {count} references of every subset are right")


def check(bundle: Bundle, embeddings: dict, references: dict, suffix: str) -> None:
    """Compares every subset of one variant."""
    for subset in bundle.subsets():
        name = "+".join(subset)
        kept = references.get(f"onnxruntime.{name}{suffix}")
        if kept is None:
            continue
        logits = bundle.answer(subset, embeddings)
        error = float(np.abs(logits - kept).max())
        # What 8-bit arithmetic rounds depends on the processor's instructions.
        assert suffix or error < TOLERANCE, f"{name}{suffix}: {error}"
        same = (logits.argmax(1) == references[f"pytorch.{name}"].argmax(1)).mean()
        assert same >= SAME_CLASS_MIN, f"{name}{suffix}: {same}"


def read(modality: dict, data: dict[str, np.ndarray], count: int, version: Path) -> np.ndarray:
    """The first inputs of a modality, as its encoder reads them."""
    how = modality.get("preprocess")
    if how is None:
        return data[modality["name"]][:count]
    offsets, content = data[f"{how['input']}_offsets"], data[f"{how['input']}_bytes"].tobytes()
    items = [content[offsets[i] : offsets[i + 1]] for i in range(count)]
    if how["type"] == "text":
        tokenizer = Tokenizer.from_file(str(version / "tokenizer.json"))
        (length,) = modality["tensors"][0]["shape"]
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length)
        encoded = tokenizer.encode_batch([item.decode() for item in items])
        return np.array([text.ids for text in encoded], np.int64)
    scale = how.get("scale", 1 / 255)
    mean, std = np.array(how.get("mean", [0.0])), np.array(how.get("std", [1.0]))
    pixels = [
        np.atleast_3d(np.asarray(Image.open(io.BytesIO(item)))).transpose(2, 0, 1) for item in items
    ]
    return ((np.stack(pixels) * scale - mean[:, None, None]) / std[:, None, None]).astype(
        np.float32
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
