"""The client generated from the Open Inference Protocol's own OpenAPI document, against the real server."""

from __future__ import annotations

import pytest
from conftest import Served
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError


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
