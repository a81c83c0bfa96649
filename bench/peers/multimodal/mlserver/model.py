"""The whole model behind MLServer."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlserver.codecs import NumpyCodec  # noqa: E402
from mlserver.types import InferenceRequest, InferenceResponse  # noqa: E402

import whole_model  # noqa: E402
from mlserver import MLModel  # noqa: E402


class WholeModel(MLModel):
    async def load(self) -> bool:  # noqa: D102
        self.network = whole_model.session(whole_model.load())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:  # noqa: D102
        inputs = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        output = whole_model.classes(self.network, inputs).astype(np.int64)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("class", output)]
        )
