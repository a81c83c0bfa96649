"""The client generated from the Open Inference Protocol's own OpenAPI document, against the real server."""

from __future__ import annotations

import pytest
from conftest import Served
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.types import InferenceRequest, RequestInput, RequestOutput


def test_health_and_metadata(served: Served) -> None:
    client = OpenInferenceClient(base_url=served.url)
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness(served.model)
    client.check_model_version_readiness(served.model, "1")
    assert client.read_server_metadata().name == "satisfice"
    assert client.read_model_metadata(served.model).versions == ["1"]
    with pytest.raises(ApiError, match="model_not_found"):
        client.read_model_metadata("nobody")


def test_inference(served: Served) -> None:
    client = OpenInferenceClient(base_url=served.url)
    # No edges: this client has every number travel as a float, also those of INT64 tensors.
    x = [[0.1 * column for column in range(served.features)], [0.5] * served.features]
    request = InferenceRequest(
        id="7",
        parameters={"plan": "exact"},
        inputs=[
            RequestInput(name="x", shape=[2, served.features], datatype="FP32", data=x),
            RequestInput(name="edge_index", shape=[2, 0], datatype="INT64", data=[]),
        ],
        outputs=[RequestOutput(name="logits")],
    )
    answer = client.model_infer(served.model, request=request)
    (logits,) = answer.outputs
    assert (answer.model_name, answer.id, logits.name) == (served.model, "7", "logits")
    assert logits.shape[0] == 2
    again = client.model_version_infer(served.model, "1", request=request)
    assert again.outputs[0].data == logits.data
    wrong = RequestInput(name="x", shape=[1, 1], datatype="FP32", data=[1.0, 2.0])
    with pytest.raises(ApiError, match="wrong_data"):
        client.model_infer(served.model, request=InferenceRequest(inputs=[wrong]))


def test_what_mlservers_tools_add_is_no_fault(served: Served) -> None:
    client = OpenInferenceClient(base_url=served.url)
    x = [[0.5] * served.features]
    request = InferenceRequest(
        # As MLServer's NumpyRequestCodec writes it, with the headers that its tools add.
        parameters={"content_type": "np", "headers": {"ce-id": "1"}, "priority": 1.0},
        inputs=[
            RequestInput(
                name="x",
                shape=[1, served.features],
                datatype="FP32",
                data=x,
                parameters={"content_type": "np", "headers": None},
            ),
            RequestInput(name="edge_index", shape=[2, 0], datatype="INT64", data=[]),
        ],
        outputs=[RequestOutput(name="logits", parameters={"content_type": "np"})],
    )
    assert client.model_infer(served.model, request=request).outputs[0].shape[0] == 1
    request = InferenceRequest(parameters={"deadline_msec": 20}, inputs=request.inputs)
    with pytest.raises(ApiError, match="unknown_parameter"):
        client.model_infer(served.model, request=request)
