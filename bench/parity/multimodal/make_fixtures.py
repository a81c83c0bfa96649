"""Makes three tiny multi-modal models and what ONNX Runtime answers with them.

python make_fixtures.py             makes crates/satisfice-multimodal/tests/fixtures anew
python make_fixtures.py --check     makes them elsewhere and compares the reference answers

Three classes are told apart by a picture (its colour), a caption (its words) and four sensor
readings. The same encoders and head are served in each of the three ways that a model directory
knows: `fused`, `per_subset` (weights in a file beside the networks) and `joint`.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import fixtures
import numpy as np
import onnx
import onnxruntime
from networks import MODALITIES, Encoders, joint_network, save, subset_network
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file, save_file
from sidecars import SIDECARS, TOKENIZER

FIXTURES = Path(__file__).resolve().parents[3] / "crates/satisfice-multimodal/tests/fixtures"
CLASSES = 3
SAMPLES = 7
CALIBRATION = 240
TOLERANCE = 1e-5
SUBSETS = [s for k in (1, 2, 3) for s in itertools.combinations(MODALITIES, k)]
# The subsets for which `per_subset` has a network.
SERVED = [("image",), ("sensor",), ("image", "text"), ("image", "text", "sensor")]


def differing(kept: Path, made: Path) -> list[str]:
    old, new = (load_file(d / "case.safetensors") for d in (kept, made))
    return [n for n in sorted({*old, *new}) if n not in old or n not in new or differ(old[n], new[n])]


def differ(old: np.ndarray, new: np.ndarray) -> bool:
    return old.shape != new.shape or not np.allclose(old, new, rtol=0, atol=TOLERANCE)


def samples(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Inputs with labels; the picture is a byte a value, as a file would have it."""
    label = rng.integers(0, CLASSES, count)
    colour = np.full((count, 3), 100.0)
    colour[np.arange(count), label] += 30.0
    picture = colour[:, :, None, None] + rng.normal(0, 120, (count, 3, 8, 8))
    picture += rng.normal(0, 15, (count, 3, 1, 1))
    ids = rng.integers(4 + CLASSES, 12, (count, 6))
    length = rng.integers(2, 7, count)
    told = np.where(rng.random(count) < 0.92, label, rng.integers(0, CLASSES, count))
    ids[:, 0] = 4 + told
    mask = (np.arange(6)[None] < length[:, None]).astype(np.int64)
    sensor = rng.normal(0, 1, (count, 4))
    sensor[np.arange(count), label] += 1.0
    return {
        "picture": np.clip(picture, 0, 255).astype(np.uint8),
        "ids": (ids * mask).astype(np.int64),
        "mask": mask,
        "sensor": sensor.astype(np.float32),
        "labels": label.astype(np.int64),
    }


def ready(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the networks read."""
    return {
        "image": inputs["picture"].astype(np.float32) * np.float32(1 / 255),
        "ids": inputs["ids"],
        "ids_mask": inputs["mask"],
        "sensor": inputs["sensor"],
    }


def make(out: Path) -> None:
    rng = np.random.default_rng(20261124)
    encoders = Encoders.train(rng, ready(train := samples(rng, 4000)), train["labels"])
    for name, text in SIDECARS.items():
        (out / name / "1").mkdir(parents=True, exist_ok=True)
        (out / name / "model.toml").write_text(text)
    for name in ("fused", "joint"):
        (out / name / "1/tokenizer.json").write_text(json.dumps(TOKENIZER, indent=1) + "\n")
    networks = {
        **fused(encoders, out / "fused/1"),
        **per_subset(encoders, out / "per_subset/1"),
        **joint(encoders, out / "joint/1"),
    }
    case = ready(samples(rng, SAMPLES))
    answers = {name: answer(case) for name, answer in networks.items()}
    save_file({**case, **answers}, out / "case.safetensors")

    calibration = samples(rng, CALIBRATION)
    affine = {"image": {"scale": float(np.float32(1 / 255)), "zero": 0}}
    save_file(
        {
            "image": calibration["picture"],
            "ids": calibration["ids"],
            "ids_mask": calibration["mask"],
            "sensor": calibration["sensor"],
            "labels": calibration["labels"],
            # Pairs that belong together.
            "groups": np.arange(CALIBRATION, dtype=np.int64) // 2,
        },
        out / "calibration.safetensors",
        {"format": "satisfice-multimodal-data-1", "affine": json.dumps(affine)},
    )


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """One row at a time: the scales of quantised networks are those of the rows run together."""
    network = session(path)
    wanted = {i.name: inputs[i.name] for i in network.get_inputs()}
    rows = len(next(iter(wanted.values())))
    answers = [network.run(None, {n: v[i : i + 1] for n, v in wanted.items()})[0] for i in range(rows)]
    return np.concatenate(answers)


def presence(subset: tuple[str, ...], rows: int) -> np.ndarray:
    return np.tile(np.array([[m in subset for m in MODALITIES]], np.float32), (rows, 1))


def fused(encoders: Encoders, out: Path) -> dict:
    for modality in MODALITIES:
        save(encoders.encoder(modality), out / f"{modality}.onnx")
    for modality in ("image", "text"):
        quantize_dynamic(
            out / f"{modality}.onnx",
            out / f"{modality}.int8.onnx",
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
        )
    save(encoders.head(), out / "fusion.onnx")

    def answer(subset: tuple[str, ...], suffix: str):
        def of(case: dict[str, np.ndarray]) -> np.ndarray:
            rows = len(case["sensor"])
            inputs = {"present": presence(subset, rows)}
            for modality in MODALITIES:
                quantised = out / f"{modality}{suffix}.onnx"
                file = quantised if quantised.exists() else out / f"{modality}.onnx"
                width = encoders.width(modality)
                value = run(file, case) if modality in subset else np.zeros((rows, width), np.float32)
                inputs[f"{modality}_embedding"] = value
            return run(out / "fusion.onnx", inputs)

        return of

    plain = {f"fused/{'+'.join(s)}": answer(s, "") for s in SUBSETS}
    quantised = {f"fused/{'+'.join(s)}@int8": answer(s, ".int8") for s in SUBSETS if s != ("sensor",)}
    return {**plain, **quantised}


def per_subset(encoders: Encoders, out: Path) -> dict:
    for old in out.glob("*.bin"):
        old.unlink()
    for subset in SERVED:
        network = subset_network(encoders, subset)
        onnx.save(
            network,
            out / f"{'_'.join(subset)}.onnx",
            save_as_external_data=True,
            location=f"{'_'.join(subset)}.bin",
            size_threshold=64,
        )
    return {
        f"per_subset/{'+'.join(s)}": lambda case, s=s: run(out / f"{'_'.join(s)}.onnx", case)
        for s in SERVED
    }


def joint(encoders: Encoders, out: Path) -> dict:
    save(joint_network(encoders), out / "joint.onnx")
    fills = {"image": 0.5, "ids": 0, "ids_mask": 0, "sensor": 0.0}
    owner = {"image": "image", "ids": "text", "ids_mask": "text", "sensor": "sensor"}

    def answer(subset: tuple[str, ...]):
        def of(case: dict[str, np.ndarray]) -> np.ndarray:
            inputs = {
                name: value if owner[name] in subset else np.full_like(value, fills[name])
                for name, value in case.items()
            }
            inputs["present"] = presence(subset, len(case["sensor"]))
            return run(out / "joint.onnx", inputs)

        return of

    return {f"joint/{'+'.join(s)}": answer(s) for s in SUBSETS}


if __name__ == "__main__":
    sys.exit(fixtures.main(__doc__, make, FIXTURES, differing))
