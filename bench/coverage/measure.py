"""Exports models, serves them and compares their answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python/tests"))
sys.path.insert(0, str(ROOT / "python/src"))

import server  # noqa: E402

from satisfice import Client, ExportError, ServerError  # noqa: E402

STORED, NEW, FEATURES, CLASSES = 60, 6, 16, 5
PLANS = ("exact", "refresh", "pe", "recompute:50%")
TOLERANCE = 1e-4


@dataclass
class Model:
    """A model of the list.

    Attributes:
        name: what it is called here.
        make: the module, with random weights.
        refused: words of the reason for which it must be refused; None where it is to be served.
        hints: options of the exporter that make it served where it is not without.
        call: runs it on features and a graph, where that is not the usual way.
        answer: which part of what it returns is the answer.
    """

    name: str
    make: Callable[[], Any]
    refused: str | None = None
    hints: Callable[[Any], dict[str, Any]] | None = None
    call: Any = None
    answer: Callable[[Any], Any] = field(default=lambda answer: answer)


class Parts(torch.nn.Module):
    """Modules, and a function that runs them as a model's `forward` would."""

    def __init__(self, run: Any, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, torch.nn.ModuleList(part) if isinstance(part, list) else part)


def random_models(build: Callable[[Random], Any], count: int) -> list[Model]:
    """Models put together at random; the same for the same number."""

    def made(seed: int) -> Any:
        torch.manual_seed(seed)
        return build(Random(seed))

    return [Model(f"random {seed}", partial(made, seed)) for seed in range(count)]


def graphs() -> tuple[np.ndarray, np.ndarray]:
    """Edges [2, E] of a directed stored graph, and those that join the new nodes, as [2, e]."""
    random = np.random.default_rng(3)
    stored = random.integers(0, STORED, (2, 240))
    stored = stored[:, stored[0] != stored[1]]
    new = np.repeat(np.arange(NEW), 3)
    return stored, np.stack([STORED + new, random.integers(0, STORED, len(new))])


def features() -> np.ndarray:
    """Features of all nodes, the new ones last."""
    return np.random.default_rng(4).standard_normal((STORED + NEW, FEATURES), np.float32)


def summary(framework: str, models: Any, only: str | None) -> dict[str, Any]:
    """Counts, and the largest difference of a served model."""
    torch.set_num_threads(1)
    counts = {
        "models": 0,
        "right_without_hints": 0,
        "right_with_hints": 0,
        "refused_rightly": 0,
        "unexpected": 0,
        "wrong": 0,
    }
    chosen = [model for model in models.MODELS if only is None or only in model.name]
    with tempfile.TemporaryDirectory() as directory:
        outcomes = _outcomes(models, chosen, Path(directory))
    largest = 0.0
    for model in chosen:
        kind, text, difference = outcomes[model.name]
        counts["models"] += 1
        counts[kind] += 1
        largest = max(largest, difference)
        print(f"{framework} {model.name}: {kind}{': ' + text if text else ''}", file=sys.stderr)
    return {**counts, "largest_difference": float(f"{largest:.2g}")}


Outcome = tuple[str, str, float]


def _outcomes(models: Any, chosen: list[Model], directory: Path) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    served: dict[str, tuple[str, np.ndarray]] = {}
    for model in chosen:
        torch.manual_seed(zlib.crc32(model.name.encode()))
        module = _varied(model.make())
        kind, text = _exported(models, model, module, directory / _folder(model.name))
        if kind == "refused":
            as_expected = model.refused is not None and model.refused in text
            found[model.name] = (
                "refused_rightly" if as_expected else "unexpected",
                text if not as_expected else "",
                0.0,
            )
            continue
        with torch.no_grad():
            served[model.name] = (kind, models.answers(model, module))
    if served:
        found |= _served(served, directory)
    return found


def _varied(module: Any) -> Any:
    """Weights that hide nothing: no zero biases, no equal slopes, no unit variances."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point() and not torch.nn.parameter.is_lazy(tensor):
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.add_((noise if "var" in name else noise - 0.5) * 0.2)
    return module.eval()


def _exported(models: Any, model: Model, module: Any, path: Path) -> tuple[str, str]:
    attempts: list[tuple[str, dict[str, Any]]] = [("right_without_hints", {})]
    if model.hints is not None:
        attempts.append(("right_with_hints", model.hints(module)))
    text = ""
    for kind, options in attempts:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                models.export(module, path, **options)
            return kind, ""
        except ExportError as error:
            text = text or str(error)
    return "refused", text


def _served(served: dict[str, tuple[str, np.ndarray]], directory: Path) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for name in served:
        made = directory / _folder(name)
        try:
            _run("import", "--from", made / "graph.safetensors", "--out", made / "graph")
            _run("precompute", made)
        except subprocess.CalledProcessError as error:
            found[name] = ("unexpected", f"exported, but {error.stderr.strip()}", 0.0)
            shutil.rmtree(made)
    server_arguments = ("--grpc-listen", "127.0.0.1:0")
    with server.serve(directory, *server_arguments) as (url, _), Client(url, timeout=20) as client:
        for name, (kind, wanted) in served.items():
            if name not in found:
                found[name] = _compared(client, name, kind, wanted)
    return found


def _folder(name: str) -> str:
    return name.replace(" ", "-")


def _run(*arguments: str | Path) -> None:
    command = [server.BINARY, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def _compared(client: Client, name: str, kind: str, wanted: np.ndarray) -> Outcome:
    try:
        difference = _difference(client, name, wanted)
    except (ServerError, ValueError) as error:
        return "wrong", str(error), 0.0
    right = difference <= TOLERANCE
    return kind if right else "wrong", "" if right else f"off by {difference:.3g}", difference


def _difference(client: Client, name: str, wanted: np.ndarray) -> float:
    """The difference of `exact` from the framework, as a share of the largest value."""
    new = graphs()[1]
    x = features()[STORED:]
    edges = np.stack([new[0] - STORED, new[1]])
    found = {}
    for plan in PLANS:
        parameters = {"edge_direction": "both"}
        answer = client.infer(_folder(name), x, edges, plan=plan, parameters=parameters)
        found[plan] = answer.outputs["logits"]
        if found[plan].shape != wanted.shape or not np.isfinite(found[plan]).all():
            raise ValueError(f"{plan}: shape {found[plan].shape}, wanted {wanted.shape}")
    # A final softmax or log_softmax is left to clients.
    rows = torch.from_numpy(found["exact"])
    variants = [rows, rows.log_softmax(dim=1), rows.softmax(dim=1)]
    largest = max(float(np.abs(wanted).max()), 1e-6)
    return min(float(np.abs(made.numpy() - wanted).max()) / largest for made in variants)
