"""The head that answers from any subset of the modalities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from modality_subsets import subsets

STEPS = 600
RATE = 0.02


class Fusion(nn.Module):
    """Presence mask F32 [B, M] and M embeddings -> logits [B, classes].

    Each modality has its own opinion of the classes. How much an opinion counts depends on which
    others are there; what is absent counts nothing, whatever its embedding holds.
    """

    def __init__(self, opinions: list[nn.Linear]):
        super().__init__()
        self.opinions = nn.ModuleList(opinions)
        self.weight = nn.Linear(len(opinions), len(opinions))
        nn.init.zeros_(self.weight.weight)
        nn.init.constant_(self.weight.bias, 0.5)

    def forward(self, mask: Tensor, *embeddings: Tensor) -> Tensor:
        weights = functional.softplus(self.weight(mask)) * mask
        parts = [
            opinion(embedding) * weights[:, i : i + 1]
            for i, (opinion, embedding) in enumerate(zip(self.opinions, embeddings))
        ]
        return torch.stack(parts).sum(0)


def mask_of(subset: tuple[int, ...], count: int) -> Tensor:
    """[M]: 1 where a modality is in the subset."""
    mask = torch.zeros(count)
    mask[list(subset)] = 1
    return mask


def train_fusion(fusion: Fusion, embeddings: list[Tensor], label: Tensor) -> None:
    """Learns in place how much each opinion counts.

    The samples should be such as no encoder has seen: an encoder is surer of those that it has.
    """
    count = len(embeddings)
    masks = [mask_of(subset, count) for subset in subsets(count)]
    optimizer = torch.optim.Adam(fusion.weight.parameters(), lr=RATE)
    for _ in range(STEPS):
        losses = [
            functional.cross_entropy(fusion(mask.expand(len(label), -1), *embeddings), label)
            for mask in masks
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    fusion.eval()
