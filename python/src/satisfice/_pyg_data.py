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
    # Whether the data had the weights of `gcn_norm`, with a self-loop a node, which is left out.
    normalized: bool = False


def read(data: Any) -> GraphData:
    """Reads ``edge_index`` or ``adj_t``, ``x`` and ``y``.

    Raises:
        ExportError: something is missing, or would be lost.
    """
    check_kind(data)
    edges, normalized = _edges(data)
    x = getattr(data, "x", None)
    if x is None:
        raise ExportError(
            "data has no x: a model reads the features of nodes. Those of an Embedding with a row "
            "a node are no features of new nodes"
        )
    x = _tensors.features("data.x", x)
    y = getattr(data, "y", None)
    labels = None if y is None else _tensors.labels("data.y", y, len(x))
    return GraphData(edges, x, labels, normalized)


def check_kind(data: Any) -> None:
    """Refuses data of several types of node or edge."""
    if hasattr(data, "node_types") and hasattr(data, "edge_types"):
        raise ExportError(
            f"data is {type(data).__name__} with the node types {list(data.node_types)}: graphs "
            "with one type of node and one type of edge are served"
        )


def _edges(data: Any) -> tuple[NDArray[np.int64], bool]:
    """The edges, and whether they had the weights of ``gcn_norm``."""
    edge_index, adj_t = (getattr(data, name, None) for name in ("edge_index", "adj_t"))
    if edge_index is None and adj_t is None:
        raise ExportError(
            "data has neither edge_index nor adj_t: homogeneous Data with one of them is read"
        )
    found = []
    if edge_index is not None:
        edges = np.asarray(edge_index.cpu()).astype(np.int64)
        found.append((edges, _normalized(data, edges)))
    if adj_t is not None:
        found.append(of_adj_t(adj_t))
    if len(found) == 2 and not np.array_equal(_sorted(found[0][0]), _sorted(found[1][0])):
        raise ExportError(
            "data.adj_t and data.edge_index are different edges: delete the one that the model "
            "does not read"
        )
    # With both, the weights of either count.
    return found[0][0], any(normalized for _, normalized in found)


def _sorted(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    return edges[:, np.lexsort(edges)]


def _normalized(data: Any, edges: NDArray[np.int64]) -> bool:
    """Whether the edges have the weights of ``gcn_norm``; refuses any others, and features."""
    normalized = False
    for name in ("edge_weight", "edge_attr"):
        values = getattr(data, name, None)
        if values is None:
            continue
        if not _is_gcn_norm(edges, values):
            raise ExportError(
                f"data has {name}: edges have neither weights nor features when served. If the "
                f"model does not read it, export a copy of the data without it (del data.{name}); "
                "a model that was trained with it answers wrongly without"
            )
        normalized = True
    return normalized


def _is_gcn_norm(edges: NDArray[np.int64], weights: Tensor) -> bool:
    """Whether the weights [E] or [E, 1] are those of ``gcn_norm`` for these edges.

    Every node has one self-loop then.
    """
    source, target = edges
    if weights.numel() != len(source) or not len(source):
        return False
    nodes = int(edges.max()) + 1
    loops = np.bincount(source[source == target], minlength=nodes)
    degree = np.bincount(target, minlength=nodes).astype(np.float64)
    if not (loops == 1).all():
        return False
    wanted = (degree[source] * degree[target]) ** -0.5
    found = weights.detach().cpu().flatten().double().numpy()
    return bool(np.allclose(found, wanted, atol=1e-5))


def without_loops(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """The edges between different nodes."""
    return edges[:, edges[0] != edges[1]]


def of_adj_t(adj_t: Any) -> tuple[NDArray[np.int64], bool]:
    """Source and target of every entry, and whether the values are the weights of ``gcn_norm``."""
    edges, values = entries(adj_t)
    if values is None or bool((values == 1).all()):
        return edges, False
    if _is_gcn_norm(edges, values):
        return edges, True
    raise ExportError(
        "data.adj_t has values other than 1, which are weights of edges: edges have none when "
        "served. T.ToSparseTensor(remove_edge_index=False) keeps edge_index; a model that was "
        "trained with the weights answers wrongly without"
    )


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
