"""The Open Inference Protocol's JSON with the binary tensor extension, without I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Length of the JSON part of a body; the tensors' bytes follow it.
HEADER_LENGTH = "Inference-Header-Content-Length"

_DATATYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_NAMES = {np.dtype(code): name for name, code in _DATATYPES.items()}


def encode_request(
    inputs: Mapping[str, NDArray[Any]],
    outputs: Iterable[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[bytes, int]:
    """Body of an inference request, and the length of its JSON part.

    Arrays of strings become BYTES; outputs are asked for in binary.
    """
    described, payload = [], []
    for name, array in inputs.items():
        datatype, data = encode_tensor(array)
        described.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data)},
            }
        )
        payload.append(data)
    request: dict[str, Any] = {
        "parameters": {**(parameters or {}), "binary_data_output": True},
        "inputs": described,
    }
    if outputs is not None:
        request["outputs"] = [{"name": name} for name in outputs]
    header = json.dumps(request, allow_nan=False).encode()
    return b"".join([header, *payload]), len(header)


def decode_response(
    body: bytes, header_length: int | None
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The JSON part of an answer, and its outputs by name.

    Raises:
        ValueError: the body is not an answer of the protocol.
    """
    end = len(body) if header_length is None else header_length
    answer = json.loads(body[:end])
    outputs = {}
    for described in answer.get("outputs", []):
        size = described.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs[described["name"]] = _from_json(described)
            continue
        data = body[end : end + size]
        if len(data) != size:
            raise ValueError(
                f"output {described['name']!r} is cut off: {len(data)} of {size} bytes"
            )
        outputs[described["name"]] = decode_tensor(described["datatype"], described["shape"], data)
        end += size
    return answer, outputs


def encode_tensor(array: NDArray[Any]) -> tuple[str, bytes]:
    """Datatype and little-endian bytes of an array; strings are BYTES elements, text as UTF-8."""
    if array.dtype.kind in "UO":
        elements = [
            value if isinstance(value, bytes) else str(value).encode("utf-8")
            for value in array.ravel()
        ]
        return "BYTES", b"".join(len(e).to_bytes(4, "little") + e for e in elements)
    little = array.dtype.newbyteorder("<")
    if little not in _NAMES:
        raise TypeError(f"arrays of {array.dtype} cannot be sent")
    return _NAMES[little], np.ascontiguousarray(array, little).tobytes()


def decode_tensor(datatype: str, shape: list[int], data: bytes) -> NDArray[Any]:
    """An array of its bytes; BYTES elements become strings."""
    if datatype == "BYTES":
        return np.array(_elements(data), object).reshape(shape)
    return np.frombuffer(data, _dtype(datatype)).reshape(shape)


def _from_json(described: dict[str, Any]) -> NDArray[Any]:
    datatype = described["datatype"]
    dtype = object if datatype == "BYTES" else _dtype(datatype)
    return np.array(described["data"], dtype).reshape(described["shape"])


def _dtype(datatype: str) -> np.dtype[Any]:
    if datatype not in _DATATYPES:
        raise ValueError(f"datatype {datatype!r} is not known")
    return np.dtype(_DATATYPES[datatype])


def _elements(data: bytes) -> list[str]:
    elements, at = [], 0
    while at < len(data):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data):
            raise ValueError("a BYTES element is cut off")
        elements.append(data[start:at].decode("utf-8"))
    return elements
