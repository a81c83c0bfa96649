"""KServe's clients against the real server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from conftest import Served
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)


def request(served: Served, binary: bool) -> InferRequest:
    x = np.linspace(0, 1, 2 * served.features, dtype=np.float32).reshape(2, served.features)
    edges = np.array([[0, 0, 1], [3, 4, 5]], np.int64)
    tensors = []
    for name, data, datatype in (("x", x, "FP32"), ("edge_index", edges, "INT64")):
        tensor = InferInput(name=name, shape=list(data.shape), datatype=datatype)
        tensor.set_data_from_numpy(data, binary_data=binary)
        tensors.append(tensor)
    return InferRequest(
        model_name=served.model, infer_inputs=tensors, request_id="7", parameters={"plan": "exact"}
    )


def logits(answer: InferResponse) -> np.ndarray:
    outputs = {output.name: output for output in answer.outputs}
    return outputs["logits"].as_numpy()


async def over_rest(served: Served, binary: bool) -> InferResponse:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    assert await client.is_server_live(served.url)
    assert await client.is_server_ready(served.url)
    assert await client.is_model_ready(served.url, served.model)
    return await client.infer(served.url, request(served, binary), model_name=served.model)


async def over_grpc(served: Served, binary: bool) -> InferResponse:
    client = InferenceGRPCClient(served.grpc, timeout=30)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(served.model)
    answer = await client.infer(request(served, binary))
    await client.close()
    return answer


@pytest.mark.parametrize("binary", [False, True])
def test_both_transports_give_the_same_answer(served: Served, binary: bool) -> None:
    rest = asyncio.run(over_rest(served, binary))
    grpc = asyncio.run(over_grpc(served, binary))
    assert rest.id == grpc.id == "7"
    assert logits(rest).shape[0] == 2
    assert np.abs(logits(rest) - logits(grpc)).max() < 1e-6
