"""The real server with a small model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from server import SMALL_MODEL, SMALL_MODEL_FEATURES, make_small_model, serve


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
    make_small_model(models)
    with serve(models) as (url, grpc):
        yield Served(url, grpc, SMALL_MODEL, SMALL_MODEL_FEATURES)
