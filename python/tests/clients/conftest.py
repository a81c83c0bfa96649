"""The release binary serving the Debian example, for clients to talk to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from server import ROOT, run, serve

DEBIAN = ROOT / "examples/debian"


@dataclass(frozen=True)
class Batch:
    """Held-out packages with the edges among them and to stored packages."""

    x: NDArray[np.float32]
    edge_query: NDArray[np.int64]
    edge_position: NDArray[np.int64]
    edge_name: list[str]
    query_edge_index: NDArray[np.int64]


@dataclass(frozen=True)
class Debian:
    """The running server and what PyTorch Geometric answers to the same batch."""

    url: str
    grpc: str
    batch: Batch
    reference: dict[str, NDArray[np.float32]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with `gcn2` and `sage2`."""
    models = tmp_path_factory.mktemp("models")
    run("import", "--from", DEBIAN / "graph.safetensors", "--out", models / "graph")
    for model in ("gcn2", "sage2"):
        shutil.copytree(DEBIAN / "models" / model, models / model)
        run("precompute", models / model)
    return models


@pytest.fixture(scope="session")
def debian(models: Path) -> Iterator[Debian]:
    reference = load_file(DEBIAN / "reference.safetensors")
    with serve(models) as (url, grpc):
        yield Debian(url, grpc, make_batch(reference["queries_256"]), reference)


def make_batch(queries: NDArray[np.int32]) -> Batch:
    """The batch of the queries at ascending positions."""
    held_out = load_file(DEBIAN / "queries.safetensors")
    graph = load_file(DEBIAN / "graph.safetensors")
    row = np.full(len(held_out["x"]), -1, np.int64)
    row[queries] = np.arange(len(queries))
    query, position = held_out["edge_index"].astype(np.int64)
    kept = row[query] >= 0
    between = row[held_out["query_edge_index"]]
    offsets, text = graph["id_offsets"], graph["id_bytes"].tobytes()
    names = [text[offsets[n] : offsets[n + 1]].decode() for n in position[kept]]
    return Batch(
        held_out["x"][queries].astype(np.float32),
        row[query[kept]],
        position[kept],
        names,
        between[:, (between >= 0).all(axis=0)],
    )
