"""Triton's clients load and unload models of a server that lets them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from conftest import DEBIAN, Debian
from server import run, serve
from tritonclient.utils import InferenceServerException


@dataclass(frozen=True)
class Controlled:
    """A server with explicit control, and its repository."""

    models: Path
    url: str
    grpc: str


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    models = tmp_path_factory.mktemp("controlled")
    run("import", "--from", DEBIAN / "graph.safetensors", "--out", models / "graph")
    shutil.copytree(DEBIAN / "models" / "gcn2", models / "gcn2")
    run("precompute", models / "gcn2")
    with serve(models, "--model-control", "explicit") as (url, grpc):
        yield Controlled(models, url, grpc)


def http(url: str) -> tritonclient.http.InferenceServerClient:
    return tritonclient.http.InferenceServerClient(url.removeprefix("http://"))


def state(index: list[dict[str, Any]], name: str) -> tuple[str, str]:
    (entry,) = [entry for entry in index if entry["name"] == name]
    return entry["state"], entry["reason"]


def test_http(controlled: Controlled) -> None:
    client = http(controlled.url)
    shutil.copytree(DEBIAN / "models" / "sage2", controlled.models / "sage2", dirs_exist_ok=True)
    assert state(client.get_model_repository_index(), "sage2") == ("UNAVAILABLE", "not loaded")
    with pytest.raises(InferenceServerException, match="precompute"):
        client.load_model("sage2")
    failed, reason = state(client.get_model_repository_index(), "sage2")
    assert failed == "UNAVAILABLE" and "precompute" in reason

    run("precompute", controlled.models / "sage2")
    client.load_model("sage2")
    assert state(client.get_model_repository_index(), "sage2") == ("READY", "")
    x = tritonclient.http.InferInput("x", [1, 128], "FP32")
    x.set_data_from_numpy(np.zeros((1, 128), np.float32))
    edges = tritonclient.http.InferInput("edge_index", [2, 0], "INT64")
    edges.set_data_from_numpy(np.zeros((2, 0), np.int64))
    assert client.infer("sage2", [x, edges]).as_numpy("logits").shape[0] == 1
    client.unload_model("sage2")
    assert not client.is_model_ready("sage2")
    with pytest.raises(InferenceServerException, match="no model"):
        client.load_model("nobody")


def test_grpc(controlled: Controlled) -> None:
    with tritonclient.grpc.InferenceServerClient(controlled.grpc) as client:
        client.load_model("gcn2")
        assert client.is_model_ready("gcn2")
        client.unload_model("gcn2")
        assert not client.is_model_ready("gcn2")
        index = client.get_model_repository_index().models
        assert ("gcn2", "UNAVAILABLE") in [(entry.name, entry.state) for entry in index]
        client.load_model("gcn2")
        assert client.is_model_ready("gcn2")


def test_control_is_off_unless_asked_for(debian: Debian) -> None:
    client = http(debian.url)
    with pytest.raises(InferenceServerException, match="does not load or unload"):
        client.unload_model("gcn2")
    assert state(client.get_model_repository_index(), "gcn2") == ("READY", "")
