"""Runs of a model beside its description, so that no wrong description is exported.

The model's own answers are compared with those of `_reference`, which knows nothing of the
framework, on graphs that have what real ones have: isolated nodes, self-loops, edges that stand
twice, edges of one way only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satisfice import _reference, _wrappers
from satisfice._calls import Call, row_answer
from satisfice._errors import ExportError
from satisfice._sidecar import Description

if TYPE_CHECKING:
    from torch import Tensor, nn


class RunError(ExportError):
    """The model raised something when it was tried."""


# Difference that is taken for rounding, as a share of the largest value.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class SmallGraph:
    """A random graph of ``nodes`` nodes with ``edges`` [2, E]."""

    nodes: int
    edges: NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """How a model is tried.

    Attributes:
        call: runs the model on rows and a graph.
        make: the framework's graph of a small graph.
        graphs: small graphs on which the model's answer must be the description's.
        example: how a call is given, for messages.
        rows: features [n, F] from which rows are drawn in one of the runs, as those that are
            drawn at random may be unlike them.
        stored: number of nodes of the caller's graph.
    """

    call: Call
    make: Callable[[SmallGraph], Any]
    graphs: list[SmallGraph]
    example: str
    rows: Tensor | None = field(default=None, repr=False)
    stored: int | None = None

    def inputs(self, width: int) -> list[tuple[SmallGraph, Tensor]]:
        """Every graph with random rows [nodes, width], and the last with rows of the data."""
        import torch

        generator = torch.Generator().manual_seed(0)
        made = [
            (graph, torch.randn(graph.nodes, width, generator=generator)) for graph in self.graphs
        ]
        if self.rows is not None and self.rows.shape[1:] == (width,) and len(self.rows):
            graph = self.graphs[-1]
            at = torch.randint(len(self.rows), (graph.nodes,), generator=generator)
            rows = self.rows[at].float()
            # What is not finite is refused when the graph is written.
            made.append((graph, rows.nan_to_num(0, 0, 0)))
        return made


def check(
    model: nn.Module,
    description: Description,
    weights: dict[str, NDArray[np.float32]],
    trial: Trial,
) -> None:
    """Runs a copy of the model, and its description, on small graphs.

    A final log_softmax or softmax of the model may be missing from the description.

    Raises:
        ExportError: the two answers differ, or the model cannot be run.
    """
    import torch

    copy = _wrappers.trial_copy(model)
    tensors = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    for graph, x in trial.inputs(description.inputs()):
        wanted = answer(copy, trial, graph, x)
        if not torch.allclose(wanted, answer(copy, trial, graph, x), equal_nan=True):
            raise ExportError(
                "the model gives another answer every time it is run, although it is in evaluation "
                "mode: dropout needs training=self.training, and no other noise may be left"
            )
        edges = torch.from_numpy(graph.edges)
        try:
            described = _reference.run(description, tensors, x.double(), edges)
        except (RuntimeError, IndexError, KeyError) as error:
            raise ExportError(f"the layers described do not fit together: {error}") from error
        _compare(wanted, described, len(x))


def answer(model: nn.Module, trial: Trial, graph: SmallGraph, x: Tensor) -> Tensor:
    """The model's own answer [nodes, outputs], in doubles.

    Raises:
        ExportError: the model cannot be run, or answers with something else.
    """
    import torch

    made = trial.make(graph)
    with torch.no_grad():
        try:
            answered = trial.call(model, x.clone(), made)
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller's own code may raise anything
            # A size that does not fit is that of the caller's graph.
            table = _row_for_each(model, trial.stored) if str(trial.stored) in str(error) else ""
            if table:
                raise ExportError(
                    f"{type(model).__name__} has a row for every stored node ({table}), which new "
                    "nodes do not have"
                ) from error
            raise RunError(
                f"the export cannot be checked: {type(model).__name__} raised "
                f"{type(error).__name__}: {error} on a small random graph. Say how the model is "
                f"called, {trial.example}; check=False exports it unchecked"
            ) from error
    return row_answer(answered, graph.nodes, trial.example).double()


def _row_for_each(model: nn.Module, nodes: int | None) -> str:
    """A parameter with a row for each of the caller's nodes, if there is one."""
    for name, parameter in model.named_parameters():
        if nodes is not None and nodes in parameter.shape:
            return f"{name} {list(parameter.shape)}"
    return ""


def small_graphs(every_node_has_a_source: bool = False) -> list[SmallGraph]:
    """Two random directed graphs of different sizes, with self-loops and edges that stand twice.

    Unless every node is to have a source, they have isolated nodes and nodes without in-edges.
    """
    random = np.random.default_rng(7)
    made = []
    for nodes, edges in ((13, 30), (17, 52)):
        pairs = random.integers(0, nodes - 2, (2, edges))
        both = pairs[:, : edges // 3]
        loops = np.array([[1, 3, 3], [1, 3, 3]])
        all_edges = [pairs, both[::-1], pairs[:, :4], loops]
        if every_node_has_a_source:
            targets = np.arange(nodes)
            all_edges.append(np.stack([(targets * 5 + 2) % nodes, targets]))
        edges_of_all = np.concatenate(all_edges, axis=1)
        # By target, as some aggregations need them.
        order = np.argsort(edges_of_all[1], kind="stable")
        made.append(SmallGraph(nodes, edges_of_all[:, order]))
    return made


def without_repeats(graphs: list[SmallGraph], loops: bool) -> list[SmallGraph]:
    """The same graphs with every edge once, as in a matrix, and perhaps without self-loops."""
    made = []
    for graph in graphs:
        kept = graph.edges if loops else graph.edges[:, graph.edges[0] != graph.edges[1]]
        made.append(SmallGraph(graph.nodes, np.unique(kept, axis=1)))
    return made


def with_loops(graphs: list[SmallGraph]) -> list[SmallGraph]:
    """The same graphs with exactly one self-loop a node."""
    made = []
    for graph in graphs:
        kept = graph.edges[:, graph.edges[0] != graph.edges[1]]
        loops = np.tile(np.arange(graph.nodes), (2, 1))
        made.append(SmallGraph(graph.nodes, np.concatenate([kept, loops], axis=1)))
    return made


def _compare(wanted: Tensor, described: Tensor, nodes: int) -> None:
    if wanted.shape != described.shape:
        raise ExportError(
            f"the model's answer has shape {list(wanted.shape)} on {nodes} nodes, but the layers "
            f"described give {list(described.shape)}: is one missing, or `flatten` wrong?"
        )
    accepted = [described, described.log_softmax(dim=-1), described.softmax(dim=-1)]
    if any(_close(wanted, answer) for answer in accepted):
        return
    raise ExportError(
        "the model's answer is not that of the layers described: they differ by up to "
        f"{float((wanted - described).abs().max()):.3g} on a small random graph. Describe what the "
        "model does besides (activations, norms, residuals) in `layers`, `input` and `head`; "
        "check=False exports it all the same"
    )


def _close(wanted: Tensor, described: Tensor) -> bool:
    largest = float(wanted.abs().max())
    return bool(((wanted - described).abs() <= _TOLERANCE * largest + 1e-9).all())
