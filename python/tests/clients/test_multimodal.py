"""Pictures and texts from tritonclient, over HTTP and gRPC, to a multi-modal model."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import ROOT, serve
from safetensors.numpy import load_file
from satisfice import Client, ServerError

FIXTURES = ROOT / "crates/satisfice-multimodal/tests/fixtures"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    models = tmp_path_factory.mktemp("multimodal")
    for model in ("fused", "joint", "per_subset"):
        shutil.copytree(FIXTURES / model, models / model)
    with serve(models) as addresses:
        yield addresses


def png(pixels: np.ndarray) -> bytes:
    """An RGB picture as a PNG file."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checked = name + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def strings(library, name: str, values: list[bytes]):
    tensor = library.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array(values, dtype=object))
    return tensor


@pytest.mark.parametrize("library", [triton_http, triton_grpc])
def test_pictures_and_texts(server: tuple[str, str], library) -> None:
    address = server[0].removeprefix("http://") if library is triton_http else server[1]
    client = library.InferenceServerClient(address)
    pictures = [png(np.full((8, 8, 3), colour, np.uint8)) for colour in ([255, 0, 0], [0, 0, 255])]
    inputs = [
        strings(library, "picture", pictures),
        strings(library, "caption", [b"red thing", b"blue thing"]),
    ]
    outputs = [library.InferRequestedOutput(name) for name in ("class_name", "class", "logits")]
    answer = client.infer("fused", inputs, outputs=outputs)
    assert answer.as_numpy("class_name").tolist() == [b"red", b"blue"]
    assert answer.as_numpy("class").tolist() == [0, 2]
    alone = client.infer("fused", inputs[1:], outputs=outputs[:1])
    assert alone.as_numpy("class_name").tolist() == [b"red", b"blue"]
    with pytest.raises(Exception, match="neither PNG nor JPEG"):
        client.infer("fused", [strings(library, "picture", [b"no picture"])])


def test_our_own_client(server: tuple[str, str]) -> None:
    pictures = [png(np.full((8, 8, 3), colour, np.uint8)) for colour in ([255, 0, 0], [0, 0, 255])]
    inputs = {"picture": pictures, "caption": ["red thing", "blue thing"]}
    with Client(server[0]) as client:
        answer = client.infer_inputs("fused", inputs, outputs=["class_name"])
        assert answer.outputs["class_name"].tolist() == ["red", "blue"]
        with pytest.raises(ServerError) as refusal:
            client.infer_inputs("fused", {"picture": [b"no picture"]})
    assert refusal.value.status == 400
    assert "neither PNG nor JPEG" in refusal.value.message


def test_ready_tensors_and_plans(server: tuple[str, str]) -> None:
    client = triton_http.InferenceServerClient(server[0].removeprefix("http://"))
    case = load_file(FIXTURES / "case.safetensors")
    inputs = []
    for name in ("image", "ids", "ids_mask", "sensor"):
        inputs.append(triton_http.InferInput(name, case[name].shape, np_type(case[name])))
        inputs[-1].set_data_from_numpy(case[name])
    for name in sorted(case):
        model, _, plan = name.partition("/")
        if not plan:
            continue
        answer = client.infer(model, inputs, parameters={"plan": plan})
        assert answer.get_response()["parameters"]["plan"] == plan
        tolerance = 0.05 if plan.endswith("int8") else 1e-4
        np.testing.assert_allclose(answer.as_numpy("logits"), case[name], atol=tolerance)


def np_type(array: np.ndarray) -> str:
    return {"float32": "FP32", "int64": "INT64"}[array.dtype.name]
