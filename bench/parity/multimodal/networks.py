"""The encoders and heads as ONNX graphs, and their training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODALITIES = ("image", "text", "sensor")
OPSET = 17
HIDDEN = 8
WORDS = 12


@dataclass
class Graph:
    """Nodes and weights that grow into one graph."""

    nodes: list
    weights: dict[str, np.ndarray]

    def add(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights[name] = value
        return name


INPUTS = {
    "image": ("image", TensorProto.FLOAT, [3, 8, 8]),
    "ids": ("text", TensorProto.INT64, [6]),
    "ids_mask": ("text", TensorProto.INT64, [6]),
    "sensor": ("sensor", TensorProto.FLOAT, [4]),
}


def network(graph: Graph, inputs: list, output: str, width: int) -> onnx.ModelProto:
    """A checked model of the graph; `inputs` are (name, type, shape without the batch)."""
    made = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info(n, t, ["batch", *s]) for n, t, s in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(value, name) for name, value in graph.weights.items()],
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9, producer_name="satisfice"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def save(model: onnx.ModelProto, path: Path) -> None:
    onnx.save(model, path)


class Encoders:
    """Random features of each modality, and a head trained on them with modalities left out."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.table = rng.normal(0, 1, (WORDS, HIDDEN)).astype(np.float32)
        self.weights = {
            "image": rng.normal(0, 1.5, (3, HIDDEN)).astype(np.float32),
            "text": rng.normal(0, 1, (HIDDEN, HIDDEN)).astype(np.float32),
            "sensor": rng.normal(0, 1, (4, HIDDEN)).astype(np.float32),
        }
        self.biases = {m: rng.normal(0, 1, HIDDEN).astype(np.float32) for m in MODALITIES}
        self.output = np.zeros((3 * HIDDEN + 3, 3), np.float32)

    @staticmethod
    def width(_modality: str) -> int:
        return HIDDEN

    @classmethod
    def train(cls, rng, inputs: dict[str, np.ndarray], labels: np.ndarray) -> Encoders:
        made = cls(rng)
        embeddings = {m: made.embed(m, inputs) for m in MODALITIES}
        wanted = np.eye(3)[labels]
        for _ in range(1500):
            present = rng.random((len(labels), 3)) < 0.6
            joined = np.concatenate(
                [e * present[:, [i]] for i, e in enumerate(embeddings.values())] + [present], axis=1
            )
            logits = joined @ made.output
            share = np.exp(logits - logits.max(1, keepdims=True))
            share /= share.sum(1, keepdims=True)
            made.output -= (0.3 * joined.T @ (share - wanted) / len(labels)).astype(np.float32)
        return made

    def embed(self, modality: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """What `add_encoder` computes."""
        if modality == "image":
            pooled = 4 * (inputs["image"].mean((2, 3)) - 0.5)
        elif modality == "text":
            mask = inputs["ids_mask"][:, :, None]
            pooled = (self.table[inputs["ids"]] * mask).sum(1) / (mask.sum(1) + 1)
        else:
            pooled = inputs["sensor"]
        return np.maximum(pooled @ self.weights[modality] + self.biases[modality], 0)

    def add_encoder(self, graph: Graph, modality: str) -> str:
        m = modality
        if m == "image":
            half = graph.weight("half", np.float32(0.5).reshape(1))
            four = graph.weight("four", np.float32(4).reshape(1))
            mean = graph.add("ReduceMean", ["image"], "image_mean", axes=[2, 3], keepdims=0)
            centred = graph.add("Sub", [mean, half], "image_centred")
            pooled = graph.add("Mul", [centred, four], "image_pooled")
        elif m == "text":
            table = graph.weight("table", self.table)
            last = graph.weight("last", np.array([-1], np.int64))
            first = graph.weight("first", np.array([1], np.int64))
            one = graph.weight("one", np.float32(1).reshape(1))
            words = graph.add("Gather", [table, "ids"], "words", axis=0)
            mask = graph.add("Cast", ["ids_mask"], "mask_float", to=TensorProto.FLOAT)
            column = graph.add("Unsqueeze", [mask, last], "mask_column")
            kept = graph.add("Mul", [words, column], "words_kept")
            total = graph.add("ReduceSum", [kept, first], "words_sum", keepdims=0)
            count = graph.add("ReduceSum", [mask, first], "words_count", keepdims=1)
            divisor = graph.add("Add", [count, one], "words_divisor")
            pooled = graph.add("Div", [total, divisor], "text_pooled")
        else:
            pooled = "sensor"
        weight = graph.weight(f"{m}_weight", self.weights[m])
        bias = graph.weight(f"{m}_bias", self.biases[m])
        product = graph.add("MatMul", [pooled, weight], f"{m}_product")
        shifted = graph.add("Add", [product, bias], f"{m}_shifted")
        return graph.add("Relu", [shifted], f"{m}_embedding")

    def encoder(self, modality: str) -> onnx.ModelProto:
        graph = Graph([], {})
        output = self.add_encoder(graph, modality)
        return network(graph, inputs_of((modality,)), output, HIDDEN)

    def add_head(self, graph: Graph, embeddings: list[str], present: str) -> str:
        """Embeddings of absent modalities are multiplied by 0."""
        kept = []
        for i, embedding in enumerate(embeddings):
            start = graph.weight(f"from_{i}", np.array([i], np.int64))
            end = graph.weight(f"to_{i}", np.array([i + 1], np.int64))
            axis = graph.weight("axis", np.array([1], np.int64))
            one = graph.add("Slice", [present, start, end, axis], f"present_{i}")
            kept.append(graph.add("Mul", [embedding, one], f"kept_{i}"))
        joined = graph.add("Concat", [*kept, present], "joined", axis=1)
        return graph.add("MatMul", [joined, graph.weight("head", self.output)], "logits")

    def head(self) -> onnx.ModelProto:
        graph = Graph([], {})
        embeddings = [f"{m}_embedding" for m in MODALITIES]
        output = self.add_head(graph, embeddings, "present")
        inputs = [("present", TensorProto.FLOAT, [3])]
        inputs += [(name, TensorProto.FLOAT, [HIDDEN]) for name in embeddings]
        return network(graph, inputs, output, 3)


def inputs_of(subset: tuple[str, ...]) -> list:
    return [(n, t, s) for n, (owner, t, s) in INPUTS.items() if owner in subset]


def joint_network(encoders: Encoders) -> onnx.ModelProto:
    graph = Graph([], {})
    embeddings = [encoders.add_encoder(graph, m) for m in MODALITIES]
    output = encoders.add_head(graph, embeddings, "present")
    inputs = [*inputs_of(MODALITIES), ("present", TensorProto.FLOAT, [3])]
    return network(graph, inputs, output, 3)


def subset_network(encoders: Encoders, subset: tuple[str, ...]) -> onnx.ModelProto:
    """The rows of the head that belong to the subset, and their sum of presence rows as bias."""
    graph = Graph([], {})
    embeddings = [encoders.add_encoder(graph, m) for m in MODALITIES if m in subset]
    rows = [encoders.output[i * HIDDEN : (i + 1) * HIDDEN] for i, m in enumerate(MODALITIES) if m in subset]
    bias = sum(encoders.output[3 * HIDDEN + i] for i, m in enumerate(MODALITIES) if m in subset)
    joined = graph.add("Concat", embeddings, "joined", axis=1)
    head = graph.weight("head", np.concatenate(rows))
    product = graph.add("MatMul", [joined, head], "product")
    output = graph.add("Add", [product, graph.weight("bias", bias)], "logits")
    return network(graph, inputs_of(subset), output, 3)
