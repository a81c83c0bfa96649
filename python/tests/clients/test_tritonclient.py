"""Triton's HTTP client against the real server."""

from __future__ import annotations

import urllib.request

import numpy as np
import pytest
import tritonclient.http as triton
from conftest import Debian
from tritonclient.utils import InferenceServerException


@pytest.fixture()
def client(debian: Debian) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(debian.url.removeprefix("http://"))


def tensor(name: str, data: np.ndarray, datatype: str, binary: bool) -> triton.InferInput:
    tensor = triton.InferInput(name, list(data.shape), datatype)
    tensor.set_data_from_numpy(data, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("ids", ["names", "positions"])
def test_infer(
    debian: Debian, client: triton.InferenceServerClient, binary_in: bool, binary_out: bool, ids: str
) -> None:
    batch = debian.batch
    if ids == "names":
        names = [str(query) for query in batch.edge_query], batch.edge_name
        edges = tensor("edge_index", np.array(names, dtype=object), "BYTES", binary_in)
    else:
        positions = np.stack([batch.edge_query, batch.edge_position])
        edges = tensor("edge_index", positions, "INT64", binary_in)
    inputs = [
        tensor("x", batch.x, "FP32", binary_in),
        edges,
        tensor("query_edge_index", batch.query_edge_index, "INT64", binary_in),
    ]
    names = ["logits", "class", "class_name"]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    answer = client.infer(
        "gcn2", inputs, outputs=outputs, request_id="7", parameters={"plan": "exact"}
    )
    logits = answer.as_numpy("logits")
    assert np.abs(logits - debian.reference["gcn2_exact_256"]).max() < 1e-3
    assert (answer.as_numpy("class") == logits.argmax(axis=1)).all()
    assert answer.as_numpy("class_name").shape == (256,)
    response = answer.get_response()
    assert response["id"] == "7"
    assert response["parameters"]["plan"] == "exact"
    assert response["parameters"]["recomputed_nodes"] == response["parameters"]["candidates"]


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("gcn2")
    assert client.is_model_ready("gcn2", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "satisfice"
    metadata = client.get_model_metadata("gcn2")
    assert metadata["versions"] == ["1"]
    assert [output["name"] for output in metadata["outputs"]] == ["logits", "class", "class_name"]


def test_refusals(debian: Debian, client: triton.InferenceServerClient) -> None:
    x = debian.batch.x[:1].copy()
    x[0, 3] = np.nan
    edges = tensor("edge_index", np.zeros((2, 0), np.int64), "INT64", True)
    with pytest.raises(InferenceServerException, match="feature 3 is NaN"):
        client.infer("gcn2", [tensor("x", x, "FP32", True), edges])
    with pytest.raises(InferenceServerException, match="nobody"):
        client.infer("nobody", [edges])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(debian: Debian, client: triton.InferenceServerClient, algorithm: str) -> None:
    batch = debian.batch
    names = [str(query) for query in batch.edge_query], batch.edge_name
    inputs = [
        tensor("x", batch.x, "FP32", True),
        tensor("edge_index", np.array(names, dtype=object), "BYTES", True),
        tensor("query_edge_index", batch.query_edge_index, "INT64", True),
    ]
    answer = client.infer(
        "gcn2",
        inputs,
        outputs=[triton.InferRequestedOutput("logits", binary_data=True)],
        parameters={"plan": "exact"},
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert np.abs(answer.as_numpy("logits") - debian.reference["gcn2_exact_256"]).max() < 1e-3


@pytest.mark.parametrize("binary", [True, False])
def test_classification(
    debian: Debian, client: triton.InferenceServerClient, binary: bool
) -> None:
    x = tensor("x", debian.batch.x[:2], "FP32", True)
    edges = tensor("edge_index", np.zeros((2, 0), np.int64), "INT64", True)
    names = ["class", "class_name"]
    outputs = [triton.InferRequestedOutput(name, binary_data=True) for name in names]
    outputs.append(triton.InferRequestedOutput("logits", binary_data=binary, class_count=3))
    answer = client.infer("gcn2", [x, edges], outputs=outputs)
    best = answer.as_numpy("logits")
    assert best.shape == (2, 3)
    for row, position, name in zip(best, answer.as_numpy("class"), answer.as_numpy("class_name")):
        texts = [text.decode() if isinstance(text, bytes) else text for text in row]
        value, index, label = texts[0].split(":")
        assert (int(index), label) == (position, name.decode())
        assert float(value) >= float(texts[1].split(":")[0])


def test_statistics(debian: Debian, client: triton.InferenceServerClient) -> None:
    def count() -> int:
        stats = client.get_inference_statistics("sage2")["model_stats"]
        assert [(each["name"], each["version"]) for each in stats] == [("sage2", "1")]
        return int(stats[0]["inference_count"])

    before = count()
    edges = tensor("edge_index", np.zeros((2, 0), np.int64), "INT64", True)
    client.infer("sage2", [tensor("x", debian.batch.x[:1], "FP32", True), edges])
    assert count() == before + 1
    assert len(client.get_inference_statistics()["model_stats"]) == 2
    with urllib.request.urlopen(f"{debian.url}/metrics") as answer:
        text = answer.read().decode()
    assert f'nv_inference_request_success{{model="sage2",version="1"}} {before + 1}\n' in text
    assert 'satisfice_plan_requests_total{model="sage2",version="1",plan=' in text


def small(debian: Debian) -> list[triton.InferInput]:
    edges = tensor("edge_index", np.zeros((2, 0), np.int64), "INT64", True)
    return [tensor("x", debian.batch.x[:1], "FP32", True), edges]


def test_what_the_client_sends_of_itself(
    debian: Debian, client: triton.InferenceServerClient
) -> None:
    given = {"priority": 1, "timeout": 60_000_000, "sequence_id": 0}
    assert client.infer("gcn2", small(debian), **given).as_numpy("logits").shape[0] == 1
    with pytest.raises(InferenceServerException, match="sequence_id.*not supported"):
        client.infer("gcn2", small(debian), sequence_id=7, sequence_start=True)
    with pytest.raises(InferenceServerException, match="min_fidelty"):
        client.infer("gcn2", small(debian), parameters={"min_fidelty": 0.9})
    shared = triton.InferInput("x", [1, 128], "FP32")
    shared.set_shared_memory("region", 512)
    with pytest.raises(InferenceServerException, match="shared_memory_"):
        client.infer("gcn2", [shared, small(debian)[1]])
