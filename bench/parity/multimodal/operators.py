"""Runs ONNX's own operator tests through tract, as the server loads networks for it.

python operators.py                 prints what tract gets right, refuses, and gets wrong; fails where anything is wrong

The `onnx` package makes these tests, a network of one node each with inputs and outputs, and carries some networks of
frameworks with theirs. Those whose outputs ONNX Runtime does not give either are left out, and so are types that
no network is served with (strings, sequences, 4 and 8 bits).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[3]
TYPES = {np.dtype(t) for t in "? i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split()}
TEST = "runtime::tract::operators::every_operator_is_right_or_refused"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="keep the cases in this directory")
    kept = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        directory = kept or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        written, left_out = 0, 0
        for name, model, inputs, outputs in cases():
            if all(map(is_plain, inputs + outputs)) and onnxruntime_agrees(model, inputs, outputs):
                write(directory / name, model, inputs, outputs)
                written += 1
            else:
                left_out += 1
        print(f"{written} operator tests, {left_out} left out", flush=True)
        command = [os.environ.get("CARGO", "cargo"), "test", "--workspace", "--locked", "--quiet", "--lib", "--", "--ignored", "--exact", "--nocapture", TEST]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, "SATISFICE_OPERATORS": str(directory.resolve())}).returncode


def cases():
    for case in collect_testcases(None):
        for inputs, outputs in (case.data_sets or [])[:1]:
            yield case.name, case.model, list(inputs), list(outputs)
    for kind in ("pytorch-converted", "pytorch-operator", "simple"):
        for case in load_model_tests(kind=kind):
            for data in sorted(Path(case.model_dir).glob("test_data_set_*"))[:1]:
                inputs, outputs = (
                    [read(data / f"{what}_{i}.pb") for i in range(len(list(data.glob(f"{what}_*.pb"))))]
                    for what in ("input", "output")
                )
                yield case.name, onnx.load(Path(case.model_dir) / "model.onnx"), inputs, outputs


def read(path: Path) -> np.ndarray | None:
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:  # a sequence, or a type of its own
        return None


def is_plain(value) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype in TYPES


def onnxruntime_agrees(model, inputs: list, outputs: list) -> bool:
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        found = session.run(None, dict(zip(names, map(np.asarray, inputs), strict=True)))
    except Exception:  # what it does not have is left out
        return False
    return all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
        for a, b in zip(found, outputs, strict=False)
    )


def write(directory: Path, model, inputs: list, outputs: list) -> None:
    directory.mkdir(exist_ok=True)
    onnx.save(model, directory / "model.onnx")
    values = {f"input {i}": v for i, v in enumerate(inputs)} | {f"output {i}": v for i, v in enumerate(outputs)}
    save_file({name: np.ascontiguousarray(v).reshape(np.shape(v)) for name, v in values.items()}, directory / "data.safetensors")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    onnxruntime.set_default_logger_severity(4)
    sys.exit(main())
