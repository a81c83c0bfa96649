"""Graphs and held-out queries as safetensors files, from numpy arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from satisfice import _tensors
from satisfice._errors import ExportError
from satisfice._files import write_tensors

GRAPH_FORMAT = "satisfice-graph-1"
QUERIES_FORMAT = "satisfice-queries-1"

_INT32_MAX = np.iinfo(np.int32).max


def export_graph(
    path: str | os.PathLike[str],
    edge_index: ArrayLike,
    x: ArrayLike,
    y: ArrayLike | None = None,
    ids: Sequence[str] | ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    undirected: bool = False,
    *,
    edge_weight: ArrayLike | None = None,
    feature_dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a graph of N nodes and E directed edges for ``satisfice import``.

    Args:
        path: the safetensors file to write.
        edge_index: integers [2, E]; row 0 = source, row 1 = target, positions 0 .. N-1.
        x: finite features [N, F], written as float32, or float16 if they are float16.
        y: optional class labels, whole numbers [N] or [N, 1]; -1 or NaN = unknown.
        ids: optional ids of the nodes, each once: N strings or integers. Positions if absent.
        class_names: optional names of the label values 0, 1, ...
        undirected: claims that every edge's reverse is there too and that no edge stands twice.
        edge_weight: optional weights of the edges, finite numbers [E] or [E, 1], written as
            float32. An undirected graph has the same weight in both directions.
        feature_dtype: ``"float32"`` or ``"float16"``, if it shall not follow ``x``.
        overwrite: replace an existing file.

    Returns:
        The path written.

    Raises:
        ExportError: an array has the wrong shape or type, a value is out of range or not finite,
            ids repeat, or ``undirected`` is not true.
        FileExistsError: the file is there and ``overwrite`` is false.
    """
    features = _features(x, feature_dtype)
    nodes = len(features)
    edges = _pairs("edge_index", edge_index, (nodes, nodes))
    weights = None if edge_weight is None else _weights(edge_weight, edges.shape[1])
    if undirected:
        _check_undirected(edges, nodes)
        if weights is not None:
            _check_even(edges, weights)
    tensors: dict[str, NDArray[Any]] = {"edge_index": _narrow(edges, nodes), "x": features}
    if weights is not None:
        tensors["edge_weight"] = weights
    metadata = {"format": GRAPH_FORMAT, "undirected": "true" if undirected else "false"}
    if y is not None:
        tensors["y"] = _labels(y, nodes, None if class_names is None else len(class_names))
    if class_names is not None:
        metadata["class_names"] = json.dumps(list(class_names), ensure_ascii=False)
    if ids is not None:
        tensors.update(_ids(ids, nodes))
    return _save(path, tensors, metadata, overwrite)


def write_queries(
    path: str | os.PathLike[str],
    x: ArrayLike,
    edge_index: ArrayLike,
    *,
    stored_nodes: int,
    edge_direction: ArrayLike | None = None,
    query_edge_index: ArrayLike | None = None,
    y: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    feature_dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes Q held-out queries for ``satisfice evaluate`` and ``satisfice query``.

    Args:
        path: the safetensors file to write.
        x: finite features [Q, F], written as float32, or float16 if they are float16.
        edge_index: integers [2, E]; row 0 = query 0 .. Q-1, row 1 = position of the stored node.
        stored_nodes: number of stored nodes, to check positions against.
        edge_direction: optional integers [E]: 0 both ways, 1 stored -> query, 2 query -> stored;
            needed on a directed graph.
        query_edge_index: optional integers [2, P]: source query, target query.
        y: optional class labels, whole numbers [Q] or [Q, 1]; -1 or NaN = unknown.
        names: optional names of the queries, Q strings, each once.
        feature_dtype: ``"float32"`` or ``"float16"``, if it shall not follow ``x``.
        overwrite: replace an existing file.

    Returns:
        The path written.

    Raises:
        ExportError: an array has the wrong shape or type, or a value is out of range or not finite.
        FileExistsError: the file is there and ``overwrite`` is false.
    """
    features = _features(x, feature_dtype)
    queries = len(features)
    edges = _pairs("edge_index", edge_index, (queries, stored_nodes))
    tensors: dict[str, NDArray[Any]] = {
        "x": features,
        "edge_index": _narrow(edges, max(queries, stored_nodes)),
    }
    if edge_direction is not None:
        tensors["edge_direction"] = _directions(edge_direction, edges.shape[1])
    if query_edge_index is not None:
        between = _pairs("query_edge_index", query_edge_index, (queries, queries))
        tensors["query_edge_index"] = _narrow(between, queries)
    if y is not None:
        tensors["y"] = _labels(y, queries, None)
    if names is not None:
        tensors.update(_string_ids(list(names), queries))
    return _save(path, tensors, {"format": QUERIES_FORMAT}, overwrite)


def is_undirected(edge_index: NDArray[np.int64], nodes: int) -> bool:
    """Whether every edge's reverse is in ``edge_index`` [2, E] too and no edge stands twice."""
    keys, reverse = _edge_keys(edge_index, nodes)
    return not _repeats(keys) and np.array_equal(keys, reverse)


def all_have_loops(edge_index: NDArray[np.int64], nodes: int) -> bool:
    """Whether every node has a self-loop."""
    loops = edge_index[0][edge_index[0] == edge_index[1]]
    return nodes > 0 and len(np.unique(loops)) == nodes


def _edge_keys(
    edge_index: NDArray[np.int64], nodes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One number an edge, and one an edge reversed, both sorted."""
    source, target = edge_index
    return np.sort(source * nodes + target), np.sort(target * nodes + source)


def _repeats(sorted_keys: NDArray[np.int64]) -> int:
    return int((sorted_keys[1:] == sorted_keys[:-1]).sum())


def _check_undirected(edges: NDArray[np.int64], nodes: int) -> None:
    keys, reverse = _edge_keys(edges, nodes)
    if repeats := _repeats(keys):
        raise ExportError(
            f"undirected is claimed, but {repeats} edges stand twice: "
            "remove duplicates (np.unique over columns) or pass undirected=False"
        )
    if missing := len(np.setdiff1d(keys, reverse, assume_unique=True)):
        raise ExportError(
            f"undirected is claimed, but {missing} edges lack their reverse: "
            "add the reverses or pass undirected=False"
        )


def _check_even(edges: NDArray[np.int64], weights: NDArray[np.float32]) -> None:
    """Compares the weights of both directions, of which there is one each."""
    source, target = edges
    there, back = np.lexsort((source, target)), np.lexsort((target, source))
    uneven = np.flatnonzero(weights[there] != weights[back])
    if len(uneven):
        at, reverse = there[uneven[0]], back[uneven[0]]
        raise ExportError(
            f"undirected is claimed, but the edge from {source[at]} to {target[at]} has the weight "
            f"{weights[at]}, and its reverse {weights[reverse]}: pass undirected=False"
        )


def _weights(values: ArrayLike, edges: int) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.shape not in ((edges,), (edges, 1)):
        raise ExportError(
            f"edge_weight must be one number an edge, [{edges}], not {list(array.shape)}"
        )
    if array.dtype.kind not in "fiub":
        raise ExportError(f"edge_weight must be numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        weights = array.reshape(edges).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        raise ExportError(
            f"edge_weight[{bad[0]}] is {array.reshape(edges)[bad[0]]}, not a finite float32"
        )
    return weights


def _features(x: ArrayLike, dtype: str | None) -> NDArray[Any]:
    array = np.asarray(x)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ExportError(f"x must be [rows, features], not {list(array.shape)}")
    if array.dtype.kind not in "fiub":
        raise ExportError(f"x must be numbers, not {array.dtype}")
    wanted = dtype or ("float16" if array.dtype == np.float16 else "float32")
    if wanted not in ("float16", "float32"):
        raise ExportError(f"feature_dtype must be 'float16' or 'float32', not {dtype!r}")
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    bad = ~np.isfinite(converted)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ExportError(
            f"x[{row}, {column}] is {array[row, column]}, not a finite {wanted}: "
            "replace missing values and scale features before training"
        )
    return np.ascontiguousarray(converted)


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ExportError(f"{name} must be integers, not {array.dtype}")
    return array.astype(np.int64)


def _pairs(name: str, values: ArrayLike, limits: tuple[int, int]) -> NDArray[np.int64]:
    array = _integers(name, values)
    if array.ndim != 2 or array.shape[0] != 2:
        raise ExportError(f"{name} must be [2, edges], not {list(array.shape)}")
    for row, limit in enumerate(limits):
        outside = (array[row] < 0) | (array[row] >= limit)
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            raise ExportError(
                f"{name}[{row}, {at}] is {array[row, at]}, but positions go from 0 to {limit - 1}"
            )
    return array


def _narrow(array: NDArray[np.int64], limit: int) -> NDArray[Any]:
    """int32 where positions below ``limit`` fit."""
    return np.ascontiguousarray(array.astype(np.int32) if limit <= _INT32_MAX else array)


def _labels(y: ArrayLike, rows: int, classes: int | None) -> NDArray[np.int64]:
    labels, problem = _tensors.classes(np.asarray(y), rows)
    if labels is None:
        raise ExportError(
            f"y must be one class a row, [{rows}] or [{rows}, 1], but {problem}: leave other "
            "labels out"
        )
    if classes is not None and (labels >= classes).any():
        raise ExportError(f"y has class {labels.max()}, but there are {classes} class_names")
    return labels


def _directions(values: ArrayLike, edges: int) -> NDArray[np.uint8]:
    array = _integers("edge_direction", values)
    if array.shape != (edges,):
        raise ExportError(f"edge_direction must be [{edges}], not {list(array.shape)}")
    if ((array < 0) | (array > 2)).any():
        raise ExportError(
            "edge_direction must be 0 (both), 1 (stored -> query) or 2 (query -> stored)"
        )
    return array.astype(np.uint8)


def _ids(ids: Sequence[str] | ArrayLike, nodes: int) -> dict[str, NDArray[Any]]:
    values: list[Any] = ids.tolist() if isinstance(ids, np.ndarray) else list(cast(Any, ids))
    if values and all(isinstance(value, str) for value in values):
        return _string_ids(values, nodes)
    array = _integers("ids", np.asarray(values))
    if array.shape != (nodes,):
        raise ExportError(f"ids must be [{nodes}], not {list(array.shape)}")
    if len(np.unique(array)) != nodes:
        raise ExportError("ids repeat: every node needs its own")
    return {"ids": array}


def _string_ids(names: list[str], rows: int) -> dict[str, NDArray[Any]]:
    if len(names) != rows:
        raise ExportError(f"there are {len(names)} ids for {rows} rows")
    if len(set(names)) != rows:
        raise ExportError("ids repeat: every row needs its own")
    encoded = [name.encode("utf-8") for name in names]
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum([len(name) for name in encoded], out=offsets[1:])
    text = np.frombuffer(b"".join(encoded), np.uint8)
    return {"id_offsets": offsets, "id_bytes": text}


def _save(
    path: str | os.PathLike[str],
    tensors: dict[str, NDArray[Any]],
    metadata: dict[str, str],
    overwrite: bool,
) -> Path:
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
    write_tensors(target, tensors, metadata)
    return target
