"""The encoders and the head of a model directory as one network that reads every modality."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import compose, helper, numpy_helper

HERE = Path(__file__).parent
MODEL_DIR = HERE.parent.parent.parent / "examples" / "emoji" / "models" / "emoji"
MASK = "mask"


def load(directory: Path = MODEL_DIR) -> onnx.ModelProto:
    """The network; its inputs are the tensors that `model.toml` names."""
    config = tomllib.loads((directory / "model.toml").read_text())
    version = directory / "1"
    whole = None
    for encoder in config["encoders"]:
        if "variant" in encoder:
            continue
        part = compose.add_prefix(
            onnx.load(version / encoder["file"]),
            f"{encoder['modality']}.",
            rename_inputs=False,
            rename_outputs=False,
        )
        whole = part if whole is None else compose.merge_models(whole, part, io_map=[])
    head = onnx.load(version / config["fusion"]["file"])
    names = [output.name for output in whole.graph.output]
    whole = compose.merge_models(
        whole,
        compose.add_prefix(head, "head.", rename_inputs=False, rename_outputs=False),
        io_map=[(name, name) for name in names],
    )
    everything = np.ones((1, len(config["modalities"])), np.float32)
    first = config["modalities"][0]["tensors"][0]["name"]
    put_mask(whole.graph, everything, first)
    return whole


def put_mask(graph: onnx.GraphProto, row: np.ndarray, like: str) -> None:
    """Replaces the mask by one that says that all is there, of as many rows as the input `like`."""
    constants = [
        numpy_helper.from_array(row, "mask.row"),
        numpy_helper.from_array(np.array([1], np.int64), "mask.one"),
        numpy_helper.from_array(np.array([0], np.int64), "mask.zero"),
    ]
    nodes = [
        helper.make_node("Shape", [like], ["mask.shape"]),
        helper.make_node("Slice", ["mask.shape", "mask.zero", "mask.one"], ["mask.batch"]),
        helper.make_node("Concat", ["mask.batch", "mask.one"], ["mask.target"], axis=0),
        helper.make_node("Expand", ["mask.row", "mask.target"], [MASK]),
    ]
    inputs = [tensor for tensor in graph.input if tensor.name != MASK]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(constants)
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + old)


def session(model: onnx.ModelProto, threads: int = 1) -> onnxruntime.InferenceSession:
    """The network in ONNX Runtime; its threads do not spin while they wait."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def classes(network: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """I64 [inputs]."""
    return network.run(["logits"], inputs)[0].argmax(1)
