"""The real binary: commands, servers and a small model for the tests of all clients."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SATISFICE_BINARY", ROOT / "target/release/satisfice"))

SMALL_MODEL = "pyg_sage_mean_undirected"
SMALL_MODEL_FEATURES = 7
FIXTURE = ROOT / "crates/satisfice-graph/tests/fixtures" / SMALL_MODEL


def run(*arguments: str | Path) -> None:
    """Runs the binary; its output is shown when the test fails."""
    subprocess.run([BINARY, *map(str, arguments)], check=True)


def make_small_model(models: Path) -> None:
    """Puts `SMALL_MODEL`, a graph model of few nodes, into a model repository."""
    model = models / SMALL_MODEL
    (model / "1").mkdir(parents=True)
    for file in ("model.toml", "1/weights.safetensors"):
        shutil.copy(FIXTURE / file, model / file)
    run("import", "--from", FIXTURE / "graph.safetensors", "--out", model / "graph")
    run("precompute", model)


@contextmanager
def serve(models: Path, *arguments: str) -> Iterator[tuple[str, str]]:
    """Serves a model repository; the HTTP URL and the gRPC address."""
    command = [BINARY, "serve", "--models", models, "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("serving on ").strip()
        grpc = server.stdout.readline().removeprefix("serving gRPC on ").strip()
        try:
            yield url, grpc
        finally:
            server.terminate()
