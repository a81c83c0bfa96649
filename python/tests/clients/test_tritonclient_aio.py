"""Triton's asynchronous clients, and its settings, against the real server."""

from __future__ import annotations

import asyncio

import numpy as np
import tritonclient.grpc as grpc_sync
import tritonclient.grpc.aio as grpc
import tritonclient.http as http_sync
import tritonclient.http.aio as http
from conftest import Debian


def test_http_at_once(debian: Debian) -> None:
    async def ask() -> list[np.ndarray]:
        async with http.InferenceServerClient(debian.url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_config("gcn2"))["backend"] == "satisfice_gnn"
            x = http.InferInput("x", list(debian.batch.x.shape), "FP32")
            x.set_data_from_numpy(debian.batch.x)
            positions = np.stack([debian.batch.edge_query, debian.batch.edge_position])
            edges = http.InferInput("edge_index", list(positions.shape), "INT64")
            edges.set_data_from_numpy(positions)
            between = http.InferInput("query_edge_index", list(debian.batch.query_edge_index.shape), "INT64")
            between.set_data_from_numpy(debian.batch.query_edge_index)
            asked = [client.infer("gcn2", [x, edges, between], parameters={"plan": "exact"}) for _ in range(8)]
            return [answer.as_numpy("logits") for answer in await asyncio.gather(*asked)]

    for logits in asyncio.run(ask()):
        assert np.abs(logits - debian.reference["gcn2_exact_256"]).max() < 1e-3


def test_grpc_at_once(debian: Debian) -> None:
    async def ask() -> list[np.ndarray]:
        async with grpc.InferenceServerClient(debian.grpc) as client:
            assert await client.is_model_ready("gcn2")
            x = grpc.InferInput("x", [1, 128], "FP32")
            x.set_data_from_numpy(debian.batch.x[:1])
            edges = grpc.InferInput("edge_index", [2, 0], "INT64")
            edges.set_data_from_numpy(np.zeros((2, 0), np.int64))
            asked = [client.infer("gcn2", [x, edges]) for _ in range(8)]
            return [answer.as_numpy("logits") for answer in await asyncio.gather(*asked)]

    answers = asyncio.run(ask())
    assert all((answer == answers[0]).all() for answer in answers)


def test_settings(debian: Debian) -> None:
    client = http_sync.InferenceServerClient(debian.url.removeprefix("http://"))
    assert client.update_log_settings({"log_verbose_level": 0})["log_verbose_level"] == 0
    assert client.get_log_settings()["log_info"] is True
    assert client.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert client.update_trace_settings("gcn2", {"trace_rate": "7"})["trace_rate"] == "7"
    with grpc_sync.InferenceServerClient(debian.grpc) as over_grpc:
        settings = over_grpc.get_log_settings(as_json=True)["settings"]
        assert settings["log_verbose_level"]["uint32_param"] == 1
        traces = over_grpc.get_trace_settings("gcn2", as_json=True)["settings"]
        assert traces["trace_rate"]["value"] == ["7"]
        over_grpc.update_log_settings({"log_verbose_level": 0})
    assert client.get_log_settings()["log_verbose_level"] == 0
    assert client.update_trace_settings("gcn2", {"trace_rate": None})["trace_rate"] == "1000"
