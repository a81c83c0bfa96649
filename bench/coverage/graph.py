"""The graph that all models are tried on."""

from __future__ import annotations

import numpy as np

STORED, NEW, FEATURES = 60, 6, 16


def graphs() -> tuple[np.ndarray, np.ndarray]:
    """Edges [2, E] of a directed stored graph, and those that join the new nodes, as [2, e]."""
    random = np.random.default_rng(3)
    stored = random.integers(0, STORED, (2, 240))
    stored = stored[:, stored[0] != stored[1]]
    new = np.repeat(np.arange(NEW), 3)
    return stored, np.stack([STORED + new, random.integers(0, STORED, len(new))])


def features() -> np.ndarray:
    """Features of all nodes, the new ones last."""
    return np.random.default_rng(4).standard_normal((STORED + NEW, FEATURES), np.float32)
