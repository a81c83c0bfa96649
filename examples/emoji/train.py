"""Training of an encoder together with its own opinion of the classes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import dataset
import models

HELD_SHARE = 1 / 6
"""Of the training emoji: unseen by the encoders, so that the head learns what they are worth."""
VARIANTS_SHARE = 0.3
"""Of the drawings in other skin tones, in each epoch."""
SMOOTHING = 0.05
MASKED_SHARE = 0.1
WARM_UP_SHARE = 0.05
RATE_FLOOR = 0.02


@dataclass
class Schedule:
    """How long and how fast."""

    epochs: int
    batch: int
    rate: float
    head_rate: float
    decay: float


SCHEDULES = {
    "image": Schedule(epochs=20, batch=64, rate=2e-3, head_rate=2e-3, decay=0.05),
    "audio": Schedule(epochs=14, batch=64, rate=2e-3, head_rate=2e-3, decay=0.05),
    "text": Schedule(epochs=3, batch=32, rate=5e-5, head_rate=1e-3, decay=0.01),
}


class Inputs:
    """What the encoders read, from samples."""

    def __init__(self, samples: dataset.Samples, ids: np.ndarray, mask_id: int):
        self.samples, self.ids, self.mask_id = samples, torch.from_numpy(ids), mask_id
        self.random = np.random.default_rng(0)

    def read(self, modality: str, rows: np.ndarray) -> Tensor:
        """As the server reads them."""
        if modality == "image":
            return torch.from_numpy(self.samples.image[rows]).float() / 255
        if modality == "audio":
            return torch.from_numpy(self.samples.audio[rows]).float() * AUDIO_SCALE - AUDIO_MEAN
        return self.ids[rows]

    def read_varied(self, modality: str, rows: np.ndarray) -> Tensor:
        """Changed at random in ways that keep the label."""
        x = self.read(modality, rows)
        if modality == "image":
            return vary_image(x)
        if modality == "audio":
            return self.vary_audio(x)
        x = x[:, : max(8, int((x != 0).sum(1).max()))].clone()
        x[(torch.rand(x.shape) < MASKED_SHARE) & (x != 0)] = self.mask_id
        return x

    def vary_audio(self, x: Tensor) -> Tensor:
        x = torch.roll(x, int(self.random.integers(-12, 13)), 3)
        band, moment = (
            self.random.integers(0, dataset.MELS - 8),
            self.random.integers(0, dataset.FRAMES - 16),
        )
        x[:, :, band : band + 8] = 0
        x[:, :, :, moment : moment + 16] = 0
        return x + 0.2 * torch.randn_like(x)


AUDIO_SCALE = 0.4 / 17
AUDIO_MEAN = 2.4


def vary_image(x: Tensor) -> Tensor:
    """Turned, scaled, moved, and in other light."""
    count = len(x)
    angle, scale = (torch.rand(count) - 0.5) * 0.4, 0.85 + 0.4 * torch.rand(count)
    grid = torch.zeros(count, 2, 3)
    grid[:, 0, 0] = grid[:, 1, 1] = angle.cos() * scale
    grid[:, 1, 0] = angle.sin() * scale
    grid[:, 0, 1] = -grid[:, 1, 0]
    grid[:, :, 2] = (torch.rand(count, 2) - 0.5) * 0.25
    grid = functional.affine_grid(grid, list(x.shape), align_corners=False)
    x = 1 - functional.grid_sample(1 - x, grid, align_corners=False)
    return (x * (0.8 + 0.4 * torch.rand(count, 3, 1, 1))).clamp(0, 1)


def held_out(samples: dataset.Samples) -> np.ndarray:
    """Which training samples the encoders do not see: all drawings of some emoji."""
    names = np.array(samples.name)
    of_training = np.unique(names[samples.split == dataset.TRAIN])
    held = np.random.default_rng(9).choice(
        of_training, int(HELD_SHARE * len(of_training)), replace=False
    )
    return np.isin(names, held)


def train_encoder(
    modality: str, encoder: nn.Module, inputs: Inputs, report: Callable[[str], None]
) -> nn.Linear:
    """Trains an encoder in place, and returns its opinion of the classes."""
    torch.manual_seed(0)
    schedule, samples = SCHEDULES[modality], inputs.samples
    label = torch.from_numpy(samples.label)
    seen = ~held_out(samples)
    rows, variants = (
        np.flatnonzero(seen & (samples.split == split))
        for split in (dataset.TRAIN, dataset.VARIANT)
    )
    if modality != "image":
        variants = variants[:0]
    if modality == "text":
        # Drawings of one emoji share its text.
        _, first = np.unique(np.array(samples.text)[rows], return_index=True)
        rows = rows[first]
    opinion = nn.Linear(models.WIDTHS[modality], int(label.max()) + 1)
    groups = [
        {"params": encoder.parameters(), "lr": schedule.rate},
        {"params": opinion.parameters(), "lr": schedule.head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=schedule.decay)
    variants_each = int(VARIANTS_SHARE * len(variants))
    steps = schedule.epochs * ((len(rows) + variants_each) // schedule.batch)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1, (step + 1) / (WARM_UP_SHARE * steps)) * max(RATE_FLOOR, 1 - step / steps)
        ),
    )
    start = time.monotonic()
    for epoch in range(schedule.epochs):
        encoder.train()
        some = inputs.random.choice(variants, variants_each, replace=False)
        order = inputs.random.permutation(np.concatenate([rows, some]))
        for at in range(0, len(order) - schedule.batch + 1, schedule.batch):
            batch = order[at : at + schedule.batch]
            logits = opinion(encoder(inputs.read_varied(modality, batch)))
            loss = functional.cross_entropy(logits, label[batch], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        seconds = time.monotonic() - start
        at = f"{modality}: epoch {epoch + 1} of {schedule.epochs}"
        report(f"{at}, loss {loss.item():.3f}, {seconds:.0f} s")
    encoder.eval()
    return opinion


@torch.no_grad()
def embed(modality: str, encoder: nn.Module, inputs: Inputs) -> Tensor:
    """[S, width]: every sample's embedding."""
    assert not encoder.training
    rows = np.arange(len(inputs.samples.label))
    return torch.cat(
        [encoder(inputs.read(modality, rows[at : at + 128])) for at in range(0, len(rows), 128)]
    )
