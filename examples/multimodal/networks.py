"""ONNX files of trained modules: exported, and their weights kept in 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

OPSET = 17
SMALL = 2048
"""Elements of a tensor that stays as it is."""
SUFFIX = "_q8"


def export(module: nn.Module, arguments: tuple, inputs: list[str], output: str, path: Path) -> None:
    """Writes a module in evaluation mode, with a dynamic batch dimension and weights in 8 bits."""
    assert not any(part.training for part in module.modules())
    names = [*inputs, output]
    torch.onnx.export(
        module,
        arguments,
        str(path),
        input_names=inputs,
        output_names=[output],
        dynamic_axes={name: {0: "batch"} for name in names},
        opset_version=OPSET,
        dynamo=False,
        do_constant_folding=True,
    )
    model = onnx.load(path)
    keep_weights_in_8_bits(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def keep_weights_in_8_bits(model: ModelProto) -> None:
    """Large matrices and filters become 8-bit integers with a scale for each output.

    They are multiplied out when the file is loaded: the network computes in F32.
    """
    graph = model.graph
    output_axis = output_axes(graph.node)
    kept, added = [], []
    for tensor in graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if tensor.name not in output_axis or weight.size < SMALL:
            kept.append(tensor)
            continue
        name, axis = tensor.name, output_axis[tensor.name]
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(others, keepdims=True), 1e-12) / 127
        integers = np.clip(np.round(weight / scale), -127, 127).astype(np.int8)
        kept.append(numpy_helper.from_array(integers, name + SUFFIX))
        kept.append(numpy_helper.from_array(scale.astype(np.float32), name + "_scale"))
        added.append(
            helper.make_node("Cast", [name + SUFFIX], [name + "_cast"], to=TensorProto.FLOAT)
        )
        added.append(helper.make_node("Mul", [name + "_cast", name + "_scale"], [name]))
    replace(graph, kept, added + list(graph.node))


def output_axes(nodes: list[NodeProto]) -> dict[str, int]:
    """Weights that may be kept in 8 bits, and along which axis their outputs lie."""
    axes = {}
    for node in nodes:
        if node.op_type == "MatMul":
            axes[node.input[1]] = 1
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            axes[node.input[1]] = 0 if transposed else 1
        elif node.op_type in ("Conv", "Gather"):
            axes[node.input[1 if node.op_type == "Conv" else 0]] = 0
    return axes


def compute_in_8_bits(path: Path, out: Path) -> None:
    """A variant of an exported network whose matrix products are of 8-bit integers.

    Activations are quantised anew for each batch. The weights are those of `path`.
    """
    model = onnx.load(path)
    graph = model.graph
    nodes, quantised = [], set()
    weights = {
        tensor.name.removesuffix(SUFFIX)
        for tensor in graph.initializer
        if tensor.name.endswith(SUFFIX)
    }
    products = [
        node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights
    ]
    replaced = {name for node in products for name in (node.input[1], node.input[1] + "_cast")}
    for node in graph.node:
        if node.output[0] in replaced:
            continue
        if node not in products:
            nodes.append(node)
            continue
        x, w = node.input
        parts = [f"{x}{end}" for end in ("_q8", "_q8_scale", "_q8_zero")]
        if x not in quantised:
            nodes.append(helper.make_node("DynamicQuantizeLinear", [x], parts))
            quantised.add(x)
        y = node.output[0]
        nodes += [
            helper.make_node("MatMulInteger", [parts[0], w + SUFFIX, parts[2]], [y + "_i32"]),
            helper.make_node("Cast", [y + "_i32"], [y + "_f32"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [parts[1], w + "_scale"], [y + "_scale"]),
            helper.make_node("Mul", [y + "_f32", y + "_scale"], [y]),
        ]
    replace(graph, list(graph.initializer), nodes)
    onnx.checker.check_model(model)
    onnx.save(model, out)


def share_weights(paths: list[Path], weights: Path) -> None:
    """Moves the networks' large tensors into one file beside them, equal ones once."""
    places: dict[tuple[bytes, int], tuple[int, int]] = {}
    with weights.open("wb") as file:
        for path in paths:
            model = onnx.load(path)
            for tensor in model.graph.initializer:
                raw = numpy_helper.to_array(tensor).tobytes()
                if len(raw) < SMALL:
                    continue
                key = (raw, tensor.data_type)
                if key not in places:
                    file.write(b"\0" * (-file.tell() % 64))
                    places[key] = (file.tell(), len(raw))
                    file.write(raw)
                point_to(tensor, weights.name, *places[key])
            path.write_bytes(model.SerializeToString())


def point_to(tensor: TensorProto, file: str, offset: int, length: int) -> None:
    """Makes a tensor's values those at a place of another file."""
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def replace(
    graph: onnx.GraphProto, initializers: list[TensorProto], nodes: list[NodeProto]
) -> None:
    initializers, nodes = [copied(item) for item in initializers], [copied(item) for item in nodes]
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend(initializers)
    graph.node.extend(nodes)


def copied(message: TensorProto | NodeProto) -> TensorProto | NodeProto:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
