"""Triton's HTTP client against the real server."""

from __future__ import annotations

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
