"""The whole model behind LitServe, one worker a core, with its batching.

Takes Open Inference Protocol requests with binary tensors, and answers with their classes as JSON.
"""

import json
import math
import os
import sys
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body

import whole_model

BATCH_MAX = 8
BATCH_SECONDS = 0.002
TYPES = {"FP32": np.float32, "INT64": np.int64}


class WholeModel(litserve.LitAPI):
    def setup(self, device):  # noqa: ANN001, ANN201, ARG002, D102
        self.network = whole_model.session(whole_model.load())

    def decode_request(
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ):  # noqa: ANN201, D102
        # The JSON's length is in a header that does not reach this far; it ends where it is whole.
        document, at = json.JSONDecoder().raw_decode(request[:8192].decode("latin-1"))
        inputs = {}
        for tensor in document["inputs"]:
            kind, shape = TYPES[tensor["datatype"]], tensor["shape"]
            size = math.prod(shape)
            inputs[tensor["name"]] = np.frombuffer(request, kind, size, at).reshape(shape)
            at += size * np.dtype(kind).itemsize
        return inputs

    def batch(self, inputs):  # noqa: ANN001, ANN201, D102
        self.sizes = [len(next(iter(one.values()))) for one in inputs]
        return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}

    def predict(self, x):  # noqa: ANN001, ANN201, D102
        return whole_model.classes(self.network, x)

    def unbatch(self, output):  # noqa: ANN001, ANN201, D102
        return np.split(output, np.cumsum(self.sizes)[:-1])

    def encode_response(self, output) -> dict:  # noqa: ANN001, D102
        data = output.tolist()
        return {
            "model_name": "emoji",
            "outputs": [{"name": "class", "datatype": "INT64", "shape": [len(data)], "data": data}],
        }


if __name__ == "__main__":
    api = WholeModel(
        max_batch_size=BATCH_MAX, batch_timeout=BATCH_SECONDS, api_path="/v2/models/emoji/infer"
    )
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=os.cpu_count(), timeout=600
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
