"""What each subset of the modalities answers and costs, with ONNX Runtime on one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from modality_subsets import subsets

REPEATS = 30
BATCHES = (1, 8)


@dataclass
class Bundle:
    """The networks of a model directory."""

    encoders: dict[str, onnxruntime.InferenceSession]
    """In the order of the mask."""
    fusion: onnxruntime.InferenceSession

    @staticmethod
    def open(directory: Path, files: dict[str, str]) -> Bundle:
        """The encoders by their files, and `fusion.onnx`."""
        encoders = {modality: session(directory / file) for modality, file in files.items()}
        return Bundle(encoders, session(directory / "fusion.onnx"))

    def embed(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every modality's embeddings."""
        return {
            modality: np.concatenate(
                [
                    run(encoder, inputs[modality][at : at + 64])
                    for at in range(0, len(inputs[modality]), 64)
                ]
            )
            for modality, encoder in self.encoders.items()
        }

    def answer(self, subset: tuple[str, ...], embeddings: dict[str, np.ndarray]) -> np.ndarray:
        """Logits from the modalities of a subset."""
        names = list(self.encoders)
        count = len(next(iter(embeddings.values())))
        mask = np.array([[name in subset for name in names]], np.float32).repeat(count, 0)
        feeds = {
            f"{name}_embedding": embeddings[name]
            if name in subset
            else np.zeros_like(embeddings[name])
            for name in names
        }
        return self.fusion.run(None, {"mask": mask, **feeds})[0]

    def subsets(self) -> list[tuple[str, ...]]:
        """Every subset of the modalities."""
        names = list(self.encoders)
        return [tuple(names[i] for i in subset) for subset in subsets(len(names))]

    def seconds(self, subset: tuple[str, ...], inputs: dict[str, np.ndarray], batch: int) -> float:
        """Median time of a batch, encoders and head."""
        names = list(self.encoders)
        few = {name: inputs[name][:batch] for name in names}
        blank = {
            name: np.zeros_like(run(encoder, few[name])) for name, encoder in self.encoders.items()
        }
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            found = {name: run(self.encoders[name], few[name]) for name in subset}
            self.answer(subset, {**blank, **found})
            times.append(time.perf_counter() - start)
        return float(np.median(times))


def session(path: Path) -> onnxruntime.InferenceSession:
    """A network on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(encoder: onnxruntime.InferenceSession, inputs: np.ndarray) -> np.ndarray:
    return encoder.run(None, {encoder.get_inputs()[0].name: inputs})[0]


def table(bundle: Bundle, inputs: dict[str, np.ndarray], label: np.ndarray) -> str:
    """The table in Markdown."""
    embeddings = bundle.embed(inputs)
    lines = ["| subset | accuracy | " + " | ".join(f"ms, batch {b}" for b in BATCHES) + " |"]
    lines.append("|---" * (2 + len(BATCHES)) + "|")
    for subset in bundle.subsets():
        accuracy = float((bundle.answer(subset, embeddings).argmax(1) == label).mean())
        times = " | ".join(
            f"{1e3 * bundle.seconds(subset, inputs, batch):.2f}" for batch in BATCHES
        )
        lines.append(f"| {'+'.join(subset)} | {100 * accuracy:.1f} | {times} |")
    return "\n".join(lines)
