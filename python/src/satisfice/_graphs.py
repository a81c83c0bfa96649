"""Edges of small graphs, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def same_edges(one: tuple[Tensor, Tensor | None], other: tuple[Tensor, Tensor | None]) -> bool:
    """Whether edges [2, E] with weights [E], if they have any, are the same in whatever order."""
    (edges, weights), (wanted, wanted_weights) = one, other
    if edges.shape != wanted.shape:
        return False
    orders = [np.lexsort(found.detach().cpu().numpy()) for found in (edges, wanted)]
    if not bool((edges[:, orders[0]] == wanted[:, orders[1]]).all()):
        return False
    if weights is None or wanted_weights is None:
        return weights is wanted_weights
    # Edges that stand twice have equal weights.
    found, due = weights.flatten()[orders[0]], wanted_weights.flatten()[orders[1]]
    return bool(((found - due).abs() <= 1e-5).all())
