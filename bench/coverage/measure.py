"""Exports models, serves them and compares their answers."""

from __future__ import annotations

import re
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

import plans  # noqa: E402
from graph import FEATURES, NEW, STORED, features, graphs  # noqa: E402
from satisfice import Client, ExportError, ServerError  # noqa: E402

CLASSES = 5
PLANS = ("exact", "refresh", "pe", "recompute:50%", "recompute:100%")
TOLERANCE = 1e-4
__all__ = ["CLASSES", "FEATURES", "NEW", "STORED", "Model", "Parts", "features", "graphs"]


@dataclass
class Model:
    """A model of the list.

    Attributes:
        name: what it is called here.
        make: the module, with random weights.
        refused: words of the reason for which it must be refused; None where it is to be served.
        hints: options of the exporter that make it served where it is not without.
        local: whether an answer follows from the neighbourhood, of nodes and edges of one type.
        call: runs it on features and a graph, where that is not the usual way.
        answer: which part of what it returns is the answer.
    """

    name: str
    make: Callable[[], Any]
    refused: str | None = None
    hints: Callable[[Any], dict[str, Any]] | None = None
    call: Any = None
    local: bool = True
    answer: Callable[[Any], Any] = field(default=lambda answer: answer)


class Parts(torch.nn.Module):
    """Modules, and a function that runs them as a model's `forward` would."""

    def __init__(self, run: Any, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, torch.nn.ModuleList(part) if isinstance(part, list) else part)


def random_models(build: Callable[[Random], Any], count: int, name: str = "random") -> list[Model]:
    """Models put together at random; the same for the same number."""

    def made(seed: int) -> Any:
        torch.manual_seed(seed)
        return build(Random(seed))

    return [Model(f"{name} {seed}", partial(made, seed)) for seed in range(count)]


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
    local = right = 0
    for model in chosen:
        kind, text, difference = outcomes[model.name]
        counts["models"] += 1
        counts[kind] += 1
        local += model.local
        right += model.local and kind == "right_without_hints"
        largest = max(largest, difference)
        print(f"{framework} {model.name}: {kind}{': ' + text if text else ''}", file=sys.stderr)
    return {
        **counts,
        "largest_difference": float(f"{largest:.2g}"),
        "local_and_homogeneous": local,
        "share_of_them_right_without_hints": round(right / max(local, 1), 3),
    }


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
                by_plan = plans.answers(directory / _folder(name))
                found[name] = _compared(client, name, kind, (wanted, by_plan))
    return found


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _run(*arguments: str | Path) -> None:
    command = [server.BINARY, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def _compared(
    client: Client, name: str, kind: str, wanted: tuple[np.ndarray, dict[str, np.ndarray]]
) -> Outcome:
    try:
        differences = _differences(client, name, *wanted)
    except (ServerError, ValueError) as error:
        return "wrong", str(error), 0.0
    largest = max(differences.values())
    text = ", ".join(
        f"{plan} is off by {d:.3g}" for plan, d in differences.items() if d > TOLERANCE
    )
    return "wrong" if text else kind, text, largest


def _differences(
    client: Client, name: str, wanted: np.ndarray, by_plan: dict[str, np.ndarray]
) -> dict[str, float]:
    """Of `exact` from the framework, of other plans from the second implementation.

    As shares of the largest value.
    """
    new = graphs()[1]
    x = features()[STORED:]
    edges = np.stack([new[0] - STORED, new[1]])
    found = {}
    for plan in PLANS:
        parameters = {"edge_direction": "both"}
        answer = client.infer(_folder(name), x, edges, plan=plan, parameters=parameters)
        found[plan] = answer.outputs["logits"].copy()
        if found[plan].shape != wanted.shape or not np.isfinite(found[plan]).all():
            raise ValueError(f"{plan}: shape {found[plan].shape}, wanted {wanted.shape}")
    differences = {plan: _share(found[plan], rows) for plan, rows in by_plan.items()}
    # A final softmax or log_softmax is left to clients.
    rows = torch.from_numpy(found["exact"])
    variants = [rows, rows.log_softmax(dim=1), rows.softmax(dim=1)]
    differences["exact"] = min(_share(made.numpy(), wanted) for made in variants)
    return differences


def _share(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(wanted - found).max()) / max(float(np.abs(wanted).max()), 1e-6)
