"""The edges, features and labels of a graph of PyTorch Geometric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satisfice import _tensors
from satisfice._errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GraphData:
    """What is exported of a graph."""

    edges: NDArray[np.int64]
    x: NDArray[Any]
    y: NDArray[np.int64] | None


def read(data: Any) -> GraphData:
    """Reads ``edge_index`` or ``adj_t``, ``x`` and ``y``.

    Raises:
        ExportError: something is missing, or would be lost.
    """
    check_kind(data)
    edges = _edges(data)
    x = getattr(data, "x", None)
    if x is None:
        raise ExportError(
            "data has no x: a model reads the features of nodes. Those of an Embedding with a row "
            "a node are no features of new nodes"
        )
    x = _tensors.features("data.x", x)
    y = getattr(data, "y", None)
    return GraphData(edges, x, None if y is None else _tensors.labels("data.y", y, len(x)))


def check_kind(data: Any) -> None:
    """Refuses data of several types of node or edge."""
    if hasattr(data, "node_types") and hasattr(data, "edge_types"):
        raise ExportError(
            f"data is {type(data).__name__} with the node types {list(data.node_types)}: graphs "
            "with one type of node and one type of edge are served"
        )


def _edges(data: Any) -> NDArray[np.int64]:
    edge_index, adj_t = (getattr(data, name, None) for name in ("edge_index", "adj_t"))
    if edge_index is None and adj_t is None:
        raise ExportError(
            "data has neither edge_index nor adj_t: homogeneous Data with one of them is read"
        )
    _refuse_values(data)
    from_adj = None if adj_t is None else of_adj_t(adj_t)
    if edge_index is None:
        return from_adj  # type: ignore[return-value]
    edges = np.asarray(edge_index.cpu()).astype(np.int64)
    if from_adj is not None and not np.array_equal(_sorted(edges), _sorted(from_adj)):
        raise ExportError(
            "data.adj_t and data.edge_index are different edges: delete the one that the model "
            "does not read"
        )
    return edges


def _sorted(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    return edges[:, np.lexsort(edges)]


def _refuse_values(data: Any) -> None:
    for name in ("edge_weight", "edge_attr"):
        values = getattr(data, name, None)
        if values is None:
            continue
        if is_gcn_norm(data.edge_index, values):
            raise ExportError(
                f"data.{name} is what GCNNorm makes of the edges, which new nodes change: export "
                "the data as it was before T.GCNNorm, and pass gcn_norm='symmetric', so that the "
                "server normalises"
            )
        raise ExportError(
            f"data has {name}: edges have neither weights nor features when served. If the model "
            f"does not read it, export a copy of the data without it (del data.{name}); a model "
            "that was trained with it answers wrongly without"
        )


def is_gcn_norm(edge_index: Tensor | None, weights: Tensor) -> bool:
    """Whether the weights [E] or [E, 1] are those of ``gcn_norm`` for these edges."""
    import torch

    if edge_index is None or weights.numel() != edge_index.shape[1] or weights.numel() == 0:
        return False
    source, target = edge_index.cpu()
    degree = torch.bincount(target, minlength=int(edge_index.max()) + 1).double()
    wanted = (degree[source] * degree[target]) ** -0.5
    return bool(torch.allclose(weights.detach().cpu().flatten().double(), wanted, atol=1e-5))


def of_adj_t(adj_t: Any) -> NDArray[np.int64]:
    """Source and target of every entry of a matrix without weights."""
    edges, values = entries(adj_t)
    if values is not None and not bool((values == 1).all()):
        raise ExportError(
            "data.adj_t has values other than 1, which are weights of edges: edges have none when "
            "served. If they are those of gcn_norm, export the data as it was before and pass "
            "gcn_norm='symmetric'; T.ToSparseTensor(remove_edge_index=False) keeps edge_index"
        )
    return edges


def entries(adj_t: Any) -> tuple[NDArray[np.int64], Any]:
    """Source and target of every entry, and its value: row ``i``, column ``j`` is ``j -> i``."""
    import torch

    if type(adj_t).__name__ == "SparseTensor":  # torch_sparse's
        target, source, values = adj_t.coo()
    elif isinstance(adj_t, torch.Tensor) and adj_t.layout != torch.strided:
        coo = adj_t.detach().cpu()
        coo = coo if coo.layout == torch.sparse_coo else coo.to_sparse_coo()
        (target, source), values = coo._indices(), coo._values()
    else:
        raise ExportError(
            f"data.adj_t is a {type(adj_t).__name__} that is not sparse: keep edge_index instead "
            "(T.ToSparseTensor(remove_edge_index=False))"
        )
    edges = np.stack([np.asarray(source.cpu()), np.asarray(target.cpu())]).astype(np.int64)
    return edges, values
