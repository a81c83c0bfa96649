"""A model directory: ``model.toml`` and the weights of one version."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satisfice import _files, _toml
from satisfice._errors import ExportError
from satisfice._row_ops import RowOp

_BUDGET = re.compile(r"recompute:(\d+(?:\.\d+)?)(%?)(?::(?:ratio|reach|importance|degree|random|oracle))?")


@dataclass
class Description:
    """What a state dict does not say of a model."""

    framework: str
    layers: list[dict[str, Any]]
    input: list[RowOp] = field(default_factory=list)
    head: list[RowOp] = field(default_factory=list)
    jumping_knowledge: dict[str, Any] | None = None
    query_self_loops: bool = False
    # Width of the features; None where it is that which the first operation reads.
    features: int | None = None

    def inputs(self) -> int:
        """Width of the features."""
        return self._read() if self.features is None else self.features

    def _read(self) -> int:
        """What the sidecar's reader takes for it where nothing is said."""
        linears = [op["in"] for op in self.input if op["op"] == "linear"]
        return int(linears[0] if linears else self.layers[0]["in"])

    def says_features(self) -> bool:
        """Whether the sidecar has to say it."""
        return self.features not in (None, self._read())


@dataclass(frozen=True)
class Options:
    """How a model is to be served."""

    output: str = "logits"
    default_plan: str | None = None
    graph_store: str = "graph"
    version: int = 1
    overwrite: bool = False

    def check(self) -> None:
        """Refuses what the sidecar's reader would refuse."""
        if self.output not in ("logits", "embeddings"):
            raise ExportError(f"output must be 'logits' or 'embeddings', not {self.output!r}")
        if self.default_plan is not None and not _is_plan(self.default_plan):
            raise ExportError(
                f"default_plan {self.default_plan!r} is not a plan: "
                "use 'pe', 'refresh', 'exact' or a budget of at most 100 % such as 'recompute:25%'"
            )
        if self.version < 1:
            raise ExportError(f"version must be 1 or more, not {self.version}")


def _is_plan(text: str) -> bool:
    if text in ("pe", "refresh", "exact"):
        return True
    match = _BUDGET.fullmatch(text)
    return match is not None and float(match[1]) <= (100 if match[2] else 1)


def layer(kind: str, tensors: str, inputs: int, out: int, **options: Any) -> dict[str, Any]:
    """A layer of the sidecar; options that are None are left out."""
    described = {"type": kind, "tensors": tensors, "in": int(inputs), "out": int(out)}
    described.update({key: value for key, value in options.items() if value is not None})
    return described


def with_after(described: dict[str, Any], after: list[RowOp]) -> dict[str, Any]:
    """The layer with the row operations that follow it, after those that it brings itself."""
    joined = described.get("after", []) + after
    return {**described, "after": joined} if joined else described


def text(description: Description, options: Options) -> str:
    """The text of ``model.toml``."""
    document: dict[str, Any] = {
        "format": 1,
        "kind": "gnn",
        "framework": description.framework,
        "graph": options.graph_store,
        "output": options.output,
    }
    if options.default_plan is not None:
        document["default_plan"] = options.default_plan
    if description.says_features():
        document["features"] = description.features
    if description.query_self_loops:
        document["query_self_loops"] = True
    for place in ("input", "head"):
        if ops := getattr(description, place):
            document[place] = ops
    document["layers"] = description.layers
    if description.jumping_knowledge is not None:
        document["jumping_knowledge"] = description.jumping_knowledge
    return _toml.dumps(document, headed=("layers", "jumping_knowledge"))


def check_free(path: str | os.PathLike[str], options: Options, with_graph: bool) -> Path:
    """The model directory, if what is to be written there may be.

    Raises:
        ExportError: an option is wrong.
        FileExistsError: a file is there and may not be replaced.
    """
    options.check()
    directory = Path(path)
    files = ["model.toml", f"{options.version}/weights.safetensors"]
    files += ["graph.safetensors"] if with_graph else []
    for name in files:
        if (directory / name).exists() and not options.overwrite:
            raise FileExistsError(f"{directory / name} exists; pass overwrite=True to replace it")
    return directory


def write(
    directory: Path,
    description: Description,
    weights: dict[str, NDArray[np.float32]],
    options: Options,
) -> None:
    """Writes ``model.toml`` and the weights of one version."""
    _files.write_tensors(directory / str(options.version) / "weights.safetensors", weights)
    _files.replace(directory / "model.toml", text(description, options).encode())
