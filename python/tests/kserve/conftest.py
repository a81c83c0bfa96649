"""Puts the server's starter, which the other clients' tests have, in reach."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

from server import ROOT, run, serve  # noqa: E402

MODEL = "pyg_sage_mean_undirected"
FIXTURE = ROOT / "crates/satisfice-graph/tests/fixtures" / MODEL


@dataclass(frozen=True)
class Served:
    """A small model's server."""

    url: str
    grpc: str
    model: str
    features: int


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("models")
    model = models / MODEL
    (model / "1").mkdir(parents=True)
    for file in ("model.toml", "1/weights.safetensors"):
        shutil.copy(FIXTURE / file, model / file)
    run("import", "--from", FIXTURE / "graph.safetensors", "--out", model / "graph")
    run("precompute", model)
    with serve(models) as (url, grpc):
        yield Served(url, grpc, MODEL, 7)
