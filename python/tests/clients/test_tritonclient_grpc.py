"""Triton's gRPC client against the real server."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import Debian
from tritonclient.utils import InferenceServerException


@pytest.fixture()
def client(debian: Debian) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(debian.grpc) as client:
        yield client


def tensor(name: str, data: np.ndarray, datatype: str) -> triton.InferInput:
    tensor = triton.InferInput(name, list(data.shape), datatype)
    tensor.set_data_from_numpy(data)
    return tensor


def inputs(debian: Debian, ids: str) -> list[triton.InferInput]:
    batch = debian.batch
    if ids == "names":
        names = [str(query) for query in batch.edge_query], batch.edge_name
        edges = tensor("edge_index", np.array(names, dtype=object), "BYTES")
    else:
        positions = np.stack([batch.edge_query, batch.edge_position])
        edges = tensor("edge_index", positions, "INT64")
    between = tensor("query_edge_index", batch.query_edge_index, "INT64")
    return [tensor("x", batch.x, "FP32"), edges, between]


def test_the_http_port_answers_calls(debian: Debian) -> None:
    """As on platforms that give a server one port."""
    with triton.InferenceServerClient(debian.url.removeprefix("http://")) as client:
        assert client.is_server_ready()
        answer = client.infer("gcn2", inputs(debian, "positions"), compression_algorithm="gzip")
    assert answer.as_numpy("logits").shape[0] == 256


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("ids", ["names", "positions"])
def test_infer(
    debian: Debian, client: triton.InferenceServerClient, ids: str, compression: str | None
) -> None:
    answer = client.infer(
        "gcn2",
        inputs(debian, ids),
        outputs=[triton.InferRequestedOutput(name) for name in ("logits", "class", "class_name")],
        request_id="7",
        parameters={"plan": "exact"},
        client_timeout=30,
        compression_algorithm=compression,
    )
    logits = answer.as_numpy("logits")
    assert np.abs(logits - debian.reference["gcn2_exact_256"]).max() < 1e-3
    assert (answer.as_numpy("class") == logits.argmax(axis=1)).all()
    assert answer.as_numpy("class_name").shape == (256,)
    response = answer.get_response()
    assert response.id == "7"
    assert response.parameters["plan"].string_param == "exact"


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("gcn2")
    assert client.is_model_ready("gcn2", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata().name == "satisfice"
    metadata = client.get_model_metadata("gcn2")
    assert [output.name for output in metadata.outputs] == ["logits", "class", "class_name"]
    config = client.get_model_config("gcn2").config
    assert (config.name, config.max_batch_size) == ("gcn2", 0)
    assert list(config.input[0].dims) == [-1, 128]


def test_refusals(debian: Debian, client: triton.InferenceServerClient) -> None:
    x = debian.batch.x[:1].copy()
    x[0, 3] = np.nan
    edges = tensor("edge_index", np.zeros((2, 0), np.int64), "INT64")
    with pytest.raises(InferenceServerException, match="feature 3 is NaN") as refusal:
        client.infer("gcn2", [tensor("x", x, "FP32"), edges])
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="nobody") as refusal:
        client.infer("nobody", [edges])
    assert refusal.value.status() == "StatusCode.NOT_FOUND"


def test_stream(debian: Debian, client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(6):
        model = "gcn2" if number % 2 else "nobody"
        client.async_stream_infer(model, inputs(debian, "positions"), request_id=str(number))
    for number in range(6):
        result, error = answers.get(timeout=60)
        if number % 2:
            assert result.get_response().id == str(number)
            assert result.as_numpy("logits").shape[0] == 256
        else:
            assert "no model `nobody`" in str(error)
    client.stop_stream()


def test_classification(debian: Debian, client: triton.InferenceServerClient) -> None:
    edges = tensor("edge_index", np.zeros((2, 0), np.int64), "INT64")
    outputs = [
        triton.InferRequestedOutput("class_name"),
        triton.InferRequestedOutput("logits", class_count=2),
    ]
    answer = client.infer("gcn2", [tensor("x", debian.batch.x[:2], "FP32"), edges], outputs=outputs)
    best = answer.as_numpy("logits")
    assert best.shape == (2, 2)
    labels = [text.decode().split(":")[2] for text in best[:, 0]]
    assert labels == [name.decode() for name in answer.as_numpy("class_name")]


def test_statistics(client: triton.InferenceServerClient) -> None:
    stats = client.get_inference_statistics("gcn2", "1").model_stats
    assert [(each.name, each.version) for each in stats] == [("gcn2", "1")]
    assert stats[0].inference_stats.success.count == stats[0].inference_count
    assert len(client.get_inference_statistics().model_stats) == 2


def test_a_stream_says_which_answer_is_the_last(
    debian: Debian, client: triton.InferenceServerClient
) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    x, edges, between = inputs(debian, "positions")
    client.async_stream_infer(
        "gcn2", [x, edges, between], enable_empty_final_response=True, priority=2, timeout=60_000_000
    )
    result, error = answers.get(timeout=60)
    client.stop_stream()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param
