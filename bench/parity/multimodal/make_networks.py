"""Makes small networks as exporters leave them, and what ONNX Runtime answers with them.

python make_networks.py             makes crates/satisfice-multimodal/tests/fixtures/networks/ anew
python make_networks.py --check     makes it elsewhere and compares

Each case is a network, or an encoder with a head, a model.toml, inputs, and the logits of every row alone; or what the
refusal says. `only` names the runtime that a case is for.
"""

from __future__ import annotations

import filecmp
import json
import sys
import tempfile
from pathlib import Path

import fixtures
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

FIXTURES = Path(__file__).resolve().parents[3] / "crates/satisfice-multimodal/tests/fixtures/networks"
ROWS = 9
RNG = np.random.default_rng(31)
NODE = helper.make_node
NUMPY = {T.FLOAT: "f4", T.FLOAT16: "f2", T.DOUBLE: "f8", T.INT64: "i8", T.INT8: "i1", T.UINT8: "u1"}


def save(path: Path, nodes: list, inputs: list, outputs: list, weights: dict, opset: int = 17) -> None:
    """`inputs` and `outputs` are (name, type, shape)."""
    values = [[helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "network", *values, tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)


def modality(name: str, *tensors: tuple[str, str, list[int]]) -> str:
    listed = ", ".join(f'{{ name = "{n}", datatype = "{t}", shape = {s} }}' for n, t, s in tensors)
    return f'[[modalities]]\nname = "{name}"\ntensors = [{listed}]\n'


def sidecar(modalities: str, networks: str, output: str = "logits", classes: int = 3) -> str:
    names = ", ".join(f'"c{i}"' for i in range(classes))
    return f'format = 1\nkind = "multimodal"\n[output]\nname = "{output}"\nclasses = [{names}]\n{modalities}{networks}'


ONE = '[[subsets]]\nmodalities = ["m"]\nfile = "net.onnx"\n'


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype("f4")


def values(datatype: str, *shape: int) -> np.ndarray:
    if datatype == "FP32":
        return RNG.normal(0, 1, (ROWS, *shape)).astype("f4")
    return RNG.integers(0, 7, (ROWS, *shape)).astype({"INT64": "i8", "INT8": "i1", "UINT8": "u1"}[datatype])


class Cases:
    def __init__(self, out: Path) -> None:
        self.out, self.cases = out, []

    def add(self, name: str, toml: str, inputs: dict[str, np.ndarray], expected=None, refused="", only="") -> None:
        self.cases.append(
            {
                "name": name,
                "toml": toml,
                "inputs": {n: {"shape": list(v.shape), "data": v.ravel().tolist()} for n, v in inputs.items()},
                "expected": None if expected is None else np.asarray(expected, "f8").reshape(ROWS, -1).round(6).tolist(),
                "refused": refused,
                "only": only,
            }
        )

    def answers(
        self, name: str, inputs: dict[str, np.ndarray], file: str = "net.onnx", output: int = 0, axes=None, constants=None
    ) -> np.ndarray:
        """ONNX Runtime's, a row at a time, in the types that the network reads; `axes` are those of the batch."""
        axes, constants = axes or {}, constants or {}
        network = onnxruntime.InferenceSession(self.out / name / file, providers=["CPUExecutionProvider"])
        types = {"float": "f4", "float16": "f2", "double": "f8", "int64": "i8", "int8": "i1", "uint8": "u1"}
        reads = {i.name: types[i.type[7:-1]] for i in network.get_inputs()}
        cut = lambda n, r: constants[n] if n in constants else np.moveaxis(inputs[n][r : r + 1], 0, axes.get(n, 0))
        row = lambda r: network.run(None, {n: cut(n, r).astype(t) for n, t in reads.items()})[output]
        return np.stack([np.asarray(row(r), "f8") for r in range(ROWS)])

    def linear(self, name: str, kind: int, batch: list, refused: str = "", only: str = "") -> None:
        """x [4] times weights, of a type, with a batch."""
        w = weights(4, 3).astype(NUMPY[kind])
        save(self.out / name / "net.onnx", [NODE("MatMul", ["x", "w"], ["logits"])], [("x", kind, [*batch, 4])], [("logits", kind, [*batch, 3])], {"w": w})
        inputs = {"x": values("FP32", 4)}
        expected = None if refused else self.answers(name, inputs)[:, 0]
        self.add(name, sidecar(modality("m", ("x", "FP32", [4])), ONE), inputs, expected, refused, only)


def free_axes(cases: Cases) -> None:
    table, w = weights(7, 5), weights(5, 3)
    nodes = [NODE("Gather", ["table", "ids"], ["words"]), NODE("Cast", ["mask"], ["float"], to=T.FLOAT),
             NODE("Unsqueeze", ["float", "last"], ["column"]), NODE("Mul", ["words", "column"], ["kept"]),
             NODE("ReduceMean", ["kept"], ["mean"], axes=[1], keepdims=0), NODE("MatMul", ["mean", "w"], ["logits"])]  # fmt: skip
    constants = {"table": table, "w": w, "last": np.array([-1])}
    text = [("ids", T.INT64, ["batch", "words"]), ("mask", T.INT64, ["batch", "words"])]
    save(cases.out / "words/net.onnx", nodes, text, [("logits", T.FLOAT, ["batch", 3])], constants)
    inputs = {"ids": values("INT64", 11), "mask": RNG.integers(0, 2, (ROWS, 11))}
    toml = sidecar(modality("m", ("ids", "INT64", [11]), ("mask", "INT64", [11])), ONE)
    cases.add("words", toml, inputs, cases.answers("words", inputs)[:, 0])
    # The same network with lengths that cannot both be.
    save(cases.out / "two-lengths/net.onnx", nodes, text, [("logits", T.FLOAT, ["batch", 3])], constants)
    toml = sidecar(modality("m", ("ids", "INT64", [11]), ("mask", "INT64", [12])), ONE)
    cases.add("two-lengths", toml, {}, refused="axis `words` is 11 in model.toml as dimension 1 of `ids` and 12")

    nodes = [NODE("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0), NODE("MatMul", ["mean", "w"], ["logits"])]
    free = [("pixels", T.FLOAT, [None, None, None, None])]
    save(cases.out / "all-free/net.onnx", nodes, free, [("logits", T.FLOAT, [None, None])], {"w": weights(2, 3)})
    inputs = {"pixels": values("FP32", 2, 5, 6)}
    toml = sidecar(modality("m", ("pixels", "FP32", [2, 5, 6])), ONE)
    cases.add("all-free", toml, inputs, cases.answers("all-free", inputs)[:, 0])

    # An absent text is as long as a present one.
    nodes = [NODE("Cast", ["ids"], ["float"], to=T.FLOAT), NODE("Shape", ["ids"], ["shape"]),
             NODE("Gather", ["shape", "one"], ["length"]), NODE("Cast", ["length"], ["count"], to=T.FLOAT),
             NODE("ReduceSum", ["float", "axis"], ["sum"], keepdims=1), NODE("Div", ["sum", "count"], ["mean"]),
             NODE("Add", ["mean", "count"], ["said"]), NODE("Concat", ["x", "said"], ["joined"], axis=1),
             NODE("MatMul", ["joined", "w"], ["logits"])]  # fmt: skip
    both = [("x", T.FLOAT, ["batch", 3]), ("ids", T.INT64, ["batch", "words"])]
    constants = {"one": np.array(1), "axis": np.array([1]), "w": weights(4, 3)}
    save(cases.out / "absent/net.onnx", nodes, both, [("logits", T.FLOAT, ["batch", 3])], constants)
    toml = sidecar(modality("x", ("x", "FP32", [3])) + modality("text", ("ids", "INT64", [13])), '[[joint]]\nfile = "net.onnx"\n')
    inputs = {"x": values("FP32", 3)}
    cases.add("absent", toml, inputs, cases.answers("absent", {**inputs, "ids": np.zeros((ROWS, 13))})[:, 0])


def batches(cases: Cases) -> None:
    cases.linear("half", T.FLOAT16, ["n"])
    cases.linear("double", T.DOUBLE, ["n"])
    cases.linear("one-row", T.FLOAT, [1])
    cases.linear("four-rows", T.FLOAT, [4], refused="has a batch of 4, fixed: export the network with a dynamic batch dimension")
    ports = ([("x", T.BFLOAT16, ["n", 3])], [("logits", T.FLOAT, ["n", 3])])
    x = {"x": values("FP32", 3).round(1)}
    toml = sidecar(modality("m", ("x", "FP32", [3])), ONE)
    save(cases.out / "bfloat16/net.onnx", [NODE("Cast", ["x"], ["logits"], to=T.FLOAT)], *ports, {})
    bits = (x["x"].view("u4") + 0x7FFF + ((x["x"].view("u4") >> 16) & 1)) & 0xFFFF0000
    cases.add("bfloat16", toml, x, bits.view("f4"), only="onnxruntime")
    cases.add("bfloat16", toml, {}, refused="tract does not read BF16", only="tract")
    # A network that leaves out every dimension of length 1, and one whose row is a single value.
    squeeze = [NODE("Squeeze", ["x"], ["logits"])]
    save(cases.out / "squeezed/net.onnx", squeeze, [("x", T.FLOAT, ["n", 3, 1])], [("logits", T.FLOAT, None)], {})
    save(cases.out / "squeezed-12/net.onnx", squeeze, [("x", T.FLOAT, ["n", 3, 1])], [("logits", T.FLOAT, None)], {}, opset=12)
    x = {"x": values("FP32", 3, 1)}
    cases.add("squeezed-12", sidecar(modality("m", ("x", "FP32", [3, 1])), ONE), x, x["x"][:, :, 0])
    cases.add("squeezed", sidecar(modality("m", ("x", "FP32", [3, 1])), ONE), x, x["x"][:, :, 0])

    # Rows that have to do with each other are run alone, or refused where that changes what a row is.
    x = {"x": values("FP32", 3)}
    nodes = [NODE("ReduceMax", ["x"], ["most"], axes=[0]), NODE("Mul", ["x", "most"], ["logits"])]
    save(cases.out / "mixed/net.onnx", nodes, [("x", T.FLOAT, ["n", 3])], [("logits", T.FLOAT, ["n", 3])], {})
    cases.add("mixed", toml, x, cases.answers("mixed", x)[:, 0])
    nodes = [NODE("Transpose", ["x"], ["columns"]), NODE("MatMul", ["x", "columns"], ["logits"])]
    save(cases.out / "pairs/net.onnx", nodes, [("x", T.FLOAT, ["n", 3])], [("logits", T.FLOAT, ["n", "n"])], {})
    cases.add("pairs", toml, {}, refused="gives 1 values for one row and 4 for two")
    # Its batch is last, which the file says by the name, or model.toml.
    nodes = [NODE("Transpose", ["x"], ["logits"])]
    save(cases.out / "turned/net.onnx", nodes, [("x", T.FLOAT, ["n", 3])], [("logits", T.FLOAT, [3, "n"])], {})
    cases.add("turned", toml, x, x["x"])
    save(cases.out / "turned-silently/net.onnx", nodes, [("x", T.FLOAT, ["n", 3])], [("logits", T.FLOAT, [3, None])], {})
    cases.add("turned-silently", toml, {}, refused="the first dimension of an output has to be the batch, or `batch_axis` says which is")
    said = toml.replace('name = "logits"', 'name = "logits"\nbatch_axis = 1')
    cases.add("turned-silently", said, x, x["x"])
    cases.add("squeezed", said.replace("[3]", "[3, 1]"), {}, refused="dimension 1 of the output is not the batch")


def kinds(cases: Cases) -> None:
    """Names, types and operators that exporters use."""
    w = weights(4, 3)
    nodes = [NODE("MatMul", ["serving_default_x:0", "w"], ["/net/hidden"]), NODE("Relu", ["/net/hidden"], ["scores:0"]),
             NODE("ArgMax", ["scores:0"], ["label"], axis=1, keepdims=0)]  # fmt: skip
    ports = [("label", T.INT64, ["n"]), ("/net/hidden", T.FLOAT, ["n", 3]), ("scores:0", T.FLOAT, ["n", 3])]
    save(cases.out / "outputs/net.onnx", nodes, [("serving_default_x:0", T.FLOAT, ["n", 4])], ports, {"w": w})
    x = {"serving_default_x:0": values("FP32", 4)}
    m = modality("m", ("serving_default_x:0", "FP32", [4]))
    cases.add("outputs", sidecar(m, ONE, output="scores:0"), x, cases.answers("outputs", x, output=2)[:, 0])
    cases.add("outputs", sidecar(m, ONE, output="label"), {}, refused="output `label` INT64 [n] is not FP32, FP16, BF16 or FP64")
    for kind, name in ((T.INT8, "INT8"), (T.UINT8, "UINT8")):
        nodes = [NODE("Cast", ["x"], ["float"], to=T.FLOAT), NODE("MatMul", ["float", "w"], ["logits"])]
        folder = name.lower()
        save(cases.out / folder / "net.onnx", nodes, [("x", kind, ["n", 4])], [("logits", T.FLOAT, ["n", 3])], {"w": w})
        x = {"x": values(name, 4)}
        cases.add(folder, sidecar(modality("m", ("x", name, [4])), ONE), x, cases.answers(folder, x)[:, 0])
    nodes = [NODE("Shape", ["x"], ["shape"]), NODE("ConstantOfShape", ["shape"], ["zero"]), NODE("Concat", ["x", "zero"], ["wide"], axis=1),
             NODE("MatMul", ["wide", "w"], ["logits"])]  # fmt: skip
    save(cases.out / "constant/net.onnx", nodes, [("x", T.FLOAT, ["n", 4])], [("logits", T.FLOAT, ["n", 3])], {"w": weights(8, 3)})
    x = {"x": values("FP32", 4)}
    cases.add("constant", sidecar(modality("m", ("x", "FP32", [4])), ONE), x, cases.answers("constant", x)[:, 0])


def operators(cases: Cases) -> None:
    """What tract takes otherwise than ONNX says."""
    tract = {"only": "tract"}
    x = {"x": values("FP32", 2, 3)}
    toml = sidecar(modality("m", ("x", "FP32", [2, 3])), ONE)
    # Before version 13, Softmax without an axis is over everything but the batch.
    nodes = [NODE("Softmax", ["x"], ["share"]), NODE("Flatten", ["share"], ["flat"]), NODE("MatMul", ["flat", "w"], ["logits"])]
    ports = ([("x", T.FLOAT, ["n", 2, 3])], [("logits", T.FLOAT, ["n", 3])])
    save(cases.out / "old-softmax/net.onnx", nodes, *ports, {"w": weights(6, 3)}, opset=11)
    cases.add("old-softmax", toml, x, cases.answers("old-softmax", x)[:, 0])
    nodes = [NODE("Transpose", ["x"], ["turned"], perm=[1, 0, 2]), NODE("GRU", ["turned", "w", "r"], ["", "last"], direction="reverse", hidden_size=3),
             NODE("Squeeze", ["last", "first"], ["logits"])]  # fmt: skip
    constants = {"w": weights(1, 9, 3), "r": weights(1, 9, 3), "first": np.array([0])}
    save(cases.out / "reverse/net.onnx", nodes, *ports, constants)
    cases.add("reverse", toml, x, cases.answers("reverse", x)[:, 0], only="onnxruntime")
    cases.add("reverse", toml, {}, refused="is GRU of direction `reverse`, which tract runs forward", **tract)
    nodes = [NODE("ReduceMax", ["x"], ["most"], axes=[1], keepdims=0), NODE("IsInf", ["most"], ["none"]),
             NODE("Where", ["none", "zero", "most"], ["logits"])]  # fmt: skip
    save(cases.out / "extremes/net.onnx", nodes, *ports, {"zero": np.zeros(1, "f4")})
    cases.add("extremes", toml, x, x["x"].max(1), only="onnxruntime")
    cases.add("extremes", toml, {}, refused="is ReduceMax whose result is compared with infinity", **tract)


def encoders(cases: Cases) -> None:
    """Encoders with a vector a token, or a plane a channel."""
    table, w = weights(7, 4), weights(4, 3)
    nodes = [NODE("Gather", ["table", "ids"], ["tokens"]), NODE("Cast", ["mask"], ["unused"], to=T.FLOAT),
             NODE("ReduceMean", ["tokens"], ["pooled"], axes=[1], keepdims=0)]  # fmt: skip
    text = [("ids", T.INT64, ["b", "t"]), ("mask", T.INT64, ["b", "t"])]
    ports = [("tokens", T.FLOAT, ["b", "t", 4]), ("pooled", T.FLOAT, ["b", 4]), ("unused", T.FLOAT, ["b", "t"])]
    head = ([NODE("MatMul", ["embedding", "w"], ["logits"])], [("embedding", T.FLOAT, ["b", 4])], [("logits", T.FLOAT, ["b", 3])], {"w": w})
    ids = values("INT64", 6)
    mask = (np.arange(6)[None] < RNG.integers(1, 7, ROWS)[:, None]).astype("i8")
    vectors = table[ids].astype("f8")
    last = mask.sum(1) - 1
    pooled = {
        'pool = "mean"\npool_mask = "mask"': (vectors * mask[..., None]).sum(1) / mask.sum(1, keepdims=True),
        'pool = "mean"': vectors.mean(1),
        'pool = "first"': vectors[:, 0],
        'pool = "last"\npool_mask = "mask"': vectors[np.arange(ROWS), last],
    }
    fused = '[fusion]\nfile = "head.onnx"\n[[encoders]]\nmodality = "m"\nfile = "net.onnx"\nembedding = "embedding"\n'
    m = modality("m", ("ids", "INT64", [6]), ("mask", "INT64", [6]))
    save(cases.out / "tokens/net.onnx", nodes, text, ports, {"table": table})
    save(cases.out / "tokens/head.onnx", *head)
    inputs = {"ids": ids, "mask": mask}
    for keys, vector in pooled.items():
        cases.add("tokens", sidecar(m, f'{fused}output = "tokens"\n{keys}\n'), inputs, vector @ w)
    cases.add("tokens", sidecar(m, f'{fused}output = "pooled"\n'), inputs, vectors.mean(1) @ w)
    cases.add("tokens", sidecar(m, f'{fused}output = "tokens"\n'), {}, refused="not one vector: `pool` makes one of it")
    cases.add("tokens", sidecar(m, fused), {}, refused="one output is needed: name one by `output`")
    cases.add("tokens", sidecar(m, f'{fused}output = "tokens"\npool = "mean"\npool_mask = "smell"\n'), {}, refused="pool_mask `smell` is none of its tensors")
    planes = [NODE("Relu", ["x"], ["planes"])]
    save(cases.out / "planes/net.onnx", planes, [("x", T.FLOAT, ["b", 4, "h", "w"])], [("planes", T.FLOAT, ["b", 4, "h", "w"])], {})
    save(cases.out / "planes/head.onnx", *head)
    x = {"x": values("FP32", 4, 3, 2)}
    m = modality("m", ("x", "FP32", [4, 3, 2]))
    cases.add("planes", sidecar(m, f'{fused}pool = "mean"\n'), x, np.maximum(x["x"].astype("f8"), 0).mean((2, 3)) @ w)


VALUES = '[output]\nname = "logits"\ntask = "values"\n'


def answer_of(toml: str, output: str) -> str:
    """The sidecar with another [output]."""
    head, rest = toml.split("[output]", 1)
    return head + output + rest[rest.index("[[modalities]]") :]


def borders(cases: Cases) -> None:
    """Inputs and outputs of any rank, with the batch anywhere, and inputs that no request brings."""
    nodes = [NODE("MatMul", ["x", "w"], ["y"]), NODE("ReduceSum", ["state", "first"], ["sum"], keepdims=0),
             NODE("Cast", ["rate"], ["float"], to=T.FLOAT), NODE("Mul", ["sum", "float"], ["scaled"]),
             NODE("Add", ["y", "scaled"], ["logits"]), NODE("Mul", ["state", "two"], ["next"])]  # fmt: skip
    ports = [("x", T.FLOAT, ["n", 4]), ("state", T.FLOAT, [2, "n", 3]), ("rate", T.INT64, [])]
    outputs = [("logits", T.FLOAT, ["n", 3]), ("next", T.FLOAT, [2, "n", 3])]
    constants = {"w": weights(4, 3), "first": np.array([0]), "two": np.array(2, "f4")}
    save(cases.out / "state/net.onnx", nodes, ports, outputs, constants)
    inputs = {"x": values("FP32", 4), "state": values("FP32", 2, 3)}
    tensors = modality("m", ("x", "FP32", [4]), ("state", "FP32", ["?"])).replace("['?']", '[2, "batch", 3]')
    rate = '[[constants]]\nname = "rate"\ndatatype = "INT64"\nvalue = 3\n'
    toml = sidecar(tensors, rate + ONE)
    expected = cases.answers("state", inputs, axes={"state": 1}, constants={"rate": np.array(3)})
    cases.add("state", toml, inputs, expected)
    cases.add("state", sidecar(tensors, ONE), {}, refused="input `rate` INT64 [] that model.toml does not name")
    wrong = modality("m", ("x", "FP32", [4]), ("state", "FP32", [1, 3]))
    cases.add("state", sidecar(wrong, rate + ONE), {}, refused='as in [2, "batch", 64]')
    # The state as a constant, and as the answer.
    zeros = '[[constants]]\nname = "state"\ndatatype = "FP32"\nshape = [2, "batch", 3]\nvalue = 0.5\n'
    half = {**inputs, "state": np.full_like(inputs["state"], 0.5)}
    expected = cases.answers("state", half, axes={"state": 1}, constants={"rate": np.array(3)})
    cases.add("state", sidecar(modality("m", ("x", "FP32", [4])), rate + zeros + ONE), {"x": inputs["x"]}, expected)
    cases.add("state", answer_of(toml, VALUES.replace("logits", "next")), inputs, 2 * inputs["state"])
    # A single number for the whole batch is one of each row; a number a row has no other dimension.
    save(cases.out / "number/net.onnx", [NODE("ReduceMean", ["x"], ["logits"], keepdims=0)], [("x", T.FLOAT, ["n", 4])], [("logits", T.FLOAT, [])], {})
    x = {"x": values("FP32", 4)}
    toml = answer_of(sidecar(modality("m", ("x", "FP32", [4])), ONE), VALUES)
    cases.add("number", toml, x, cases.answers("number", x))
    save(cases.out / "rank-1/net.onnx", [NODE("Neg", ["x"], ["logits"])], [("x", T.FLOAT, ["n"])], [("logits", T.FLOAT, ["n"])], {})
    x = {"x": values("FP32")}
    cases.add("rank-1", toml.replace("[4]", "[]"), x, -x["x"])
    # Maps, vectors of tokens, and vectors of length 1.
    save(cases.out / "map/net.onnx", [NODE("Relu", ["x"], ["logits"])], [("x", T.FLOAT, ["n", 2, 3])], [("logits", T.FLOAT, ["n", 2, 3])], {})
    x = {"x": values("FP32", 2, 3)}
    toml = toml.replace("[4]", "[2, 3]")
    relu = np.maximum(x["x"], 0).astype("f8")
    cases.add("map", toml, x, relu)
    mean = relu.mean(1)
    cases.add("map", answer_of(toml, VALUES + 'pool = "mean"\n'), x, mean)
    lengths = np.linalg.norm(mean, axis=1, keepdims=True)
    cases.add("map", answer_of(toml, VALUES + 'pool = "mean"\nnormalise = true\n'), x, mean / np.where(lengths > 0, lengths, 1))
    cases.add("map", answer_of(toml, VALUES + 'classes = ["a", "b"]\n'), {}, refused='task = "values" has no classes')
    # An input that has a value already is left to it, and one of whose shape nothing is said is taken as model.toml has it.
    nodes = [NODE("Mul", ["x", "factor"], ["logits"])]
    ports = [("x", T.FLOAT, None), ("factor", T.FLOAT, [])]
    save(cases.out / "default/net.onnx", nodes, ports, [("logits", T.FLOAT, None)], {"factor": np.array(3, "f4")})
    x = {"x": values("FP32", 3)}
    cases.add("default", sidecar(modality("m", ("x", "FP32", [3])), ONE), x, 3 * x["x"])


class Inputs(CalibrationDataReader):
    """What a network is calibrated with."""

    def __init__(self, x: np.ndarray) -> None:
        self.rows = iter([{"x": x[i : i + 1]} for i in range(len(x))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rows, None)


def quantised(cases: Cases) -> None:
    """What ONNX Runtime's quantisation makes of a network of products and convolutions."""
    nodes = [NODE("Conv", ["x", "c", "cb"], ["conv"], pads=[1, 1, 1, 1]), NODE("Relu", ["conv"], ["relu"]), NODE("Flatten", ["relu"], ["flat"]),
             NODE("MatMul", ["flat", "w"], ["hidden"]), NODE("Add", ["hidden", "b"], ["biased"]), NODE("Relu", ["biased"], ["active"]),
             NODE("MatMul", ["active", "v"], ["logits"])]  # fmt: skip
    constants = {"c": weights(4, 2, 3, 3), "cb": weights(4), "w": weights(100, 16) / 10, "b": weights(16), "v": weights(16, 3)}
    ports = ([("x", T.FLOAT, ["n", 2, 5, 5])], [("logits", T.FLOAT, ["n", 3])])
    with tempfile.TemporaryDirectory() as temporary:
        whole, products = Path(temporary) / "whole.onnx", Path(temporary) / "products.onnx"
        save(whole, nodes, *ports, constants)
        # A quantised sum is an operator of ONNX Runtime's own, which tract does not know.
        nodes = [*nodes[:4], NODE("Relu", ["hidden"], ["active"]), nodes[6]]
        save(products, nodes, *ports, {n: w for n, w in constants.items() if n != "b"})
        x = {"x": values("FP32", 2, 5, 5)}
        toml = sidecar(modality("m", ("x", "FP32", [2, 5, 5])), ONE)
        for name, options in {
            "int8-dynamic": None,
            "int8-dynamic-channels": {"per_channel": True, "weight_type": QuantType.QUInt8},
            "int8-qdq": {"quant_format": QuantFormat.QDQ},
            "int8-qdq-channels": {"quant_format": QuantFormat.QDQ, "per_channel": True},
            "int8-operators": {"quant_format": QuantFormat.QOperator},
            "int8-operators-channels": {"quant_format": QuantFormat.QOperator, "per_channel": True, "activation_type": QuantType.QUInt8},
        }.items():
            path = cases.out / name / "net.onnx"
            plain = products if "operators" in name else whole
            path.parent.mkdir(parents=True, exist_ok=True)
            if "dynamic" in name:
                quantize_dynamic(plain, path, **(options or {}))
            else:
                quantize_static(plain, path, Inputs(x["x"]), **options)
            cases.add(name, toml, x, cases.answers(name, x)[:, 0])
        name = "int8-sum"
        (cases.out / name).mkdir(parents=True, exist_ok=True)
        quantize_static(whole, cases.out / name / "net.onnx", Inputs(x["x"]), quant_format=QuantFormat.QOperator)
        cases.add(name, toml, x, cases.answers(name, x)[:, 0], only="onnxruntime")
        cases.add(name, toml, {}, refused="QLinearAdd", only="tract")


def make(out: Path) -> None:
    cases = Cases(out)
    for part in (free_axes, batches, kinds, operators, encoders, borders, quantised):
        part(cases)
    lines = ",\n".join(json.dumps(case) for case in cases.cases)
    (out / "cases.json").write_text(f"[\n{lines}\n]\n")


def differing(kept: Path, made: Path) -> list[str]:
    files = {p.relative_to(d) for d in (made, kept) for p in d.rglob("*") if p.is_file()}
    wrong = [str(f) for f in sorted(files) if f.name != "cases.json" and not same(made / f, kept / f)]
    old, new = (json.loads((d / "cases.json").read_text()) for d in (kept, made))
    return wrong + [a["name"] for a, b in zip(old, new, strict=True) if not agree(a, b)]


def same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and filecmp.cmp(a, b, shallow=False)


def agree(a: dict, b: dict) -> bool:
    rest = [{k: v for k, v in case.items() if k != "expected"} for case in (a, b)]
    numbers = [np.asarray(case["expected"] or 0.0) for case in (a, b)]
    return rest[0] == rest[1] and np.allclose(*numbers, rtol=0, atol=1e-5)


if __name__ == "__main__":
    sys.exit(fixtures.main(__doc__, make, FIXTURES, differing))
