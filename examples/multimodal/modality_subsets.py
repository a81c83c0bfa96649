"""Which modalities may be there."""

from __future__ import annotations

import itertools


def subsets(count: int) -> list[tuple[int, ...]]:
    """Every subset of the modalities, as positions."""
    sizes = range(1, count + 1)
    return [subset for size in sizes for subset in itertools.combinations(range(count), size)]
