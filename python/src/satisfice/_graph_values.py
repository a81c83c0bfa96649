"""What tensors that depend on the graph alone are, told by their values on a small graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# What is done with edges from a node to itself, in the order in which it is tried.
LOOPS = ("kept", "added", "replaced", "removed")


@dataclass(frozen=True)
class Degree:
    """A function of the in-degree: ``degree ** power``, of the degree or of 1 where that is 0.

    Attributes:
        loops: how the edges are counted.
        power: of the degree.
        zero: ``"clamped"``, a degree of 0 counts as 1, or ``"masked"``, the value is 0 then.
    """

    loops: str
    power: float
    zero: str


class GraphValues:
    """The ends of the edges of one small graph with ``edges`` [2, E], and its degrees."""

    def __init__(self, edges: Tensor, nodes: int) -> None:
        import torch

        self.nodes = nodes
        plain = edges.long()
        loops = torch.arange(nodes).expand(2, nodes)
        others = plain[:, plain[0] != plain[1]]
        self.edges = {
            "kept": plain,
            "added": torch.cat([plain, loops], dim=1),
            "replaced": torch.cat([others, loops], dim=1),
            "removed": others,
        }

    def side(self, index: Tensor) -> tuple[str, str] | None:
        """Which end of which edges an index [E] or [E, ...] names: ``("source", "kept")``."""
        if index.dim() > 1:
            first = index.flatten(1)[:, :1]
            if not bool((index.flatten(1) == first).all()):
                return None
            index = one_column(index)
        for loops in LOOPS:
            for side, ends in zip(("source", "target"), self.edges[loops]):
                if ends.shape == index.shape and bool((ends == index).all()):
                    return side, loops
        return None

    def has_row_each(self, tensor: Tensor) -> bool:
        """Whether a tensor has one value for each node or each edge, in whatever columns."""
        counts = {self.nodes, *(edges.shape[1] for edges in self.edges.values())}
        if tensor.dim() == 0 or tensor.shape[0] not in counts or not tensor.numel():
            return False
        return bool((tensor == one_column(tensor).view(-1, *[1] * (tensor.dim() - 1))).all())

    def degree(self, values: Tensor) -> Degree | None:
        """The function of the in-degree that gives one value a node, if one does."""
        for loops in LOOPS:
            counted = self._degrees(self.edges[loops][1]).double()
            for power in (1.0, -0.5, -1.0, 0.5, 0.0):
                clamped = counted.clamp(min=1) ** power
                if _same(values, clamped):
                    return Degree(loops, power, "clamped")
                masked = clamped * (counted > 0)
                if _same(values, masked):
                    return Degree(loops, power, "masked")
        return None

    def is_of_edges(self, tensor: Tensor) -> bool:
        """Whether a tensor has a row for each edge."""
        return tensor.dim() > 0 and len(tensor) == self.edges["kept"].shape[1]

    def is_out_degree(self, values: Tensor) -> bool:
        """Whether the values are numbers of out-edges."""
        return any(_same(values, self._degrees(self.edges[loops][0]).double()) for loops in LOOPS)

    def _degrees(self, ends: Tensor) -> Tensor:
        import torch

        return torch.bincount(ends, minlength=self.nodes)


def one_column(tensor: Tensor) -> Tensor:
    """The first value of each row."""
    return tensor.reshape(len(tensor), -1)[:, 0]


def _same(values: Tensor, wanted: Tensor) -> bool:
    import torch

    found = one_column(values.detach()).double()
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-5, atol=1e-7)
