"""Export of models of DGL."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from satisfice import _sidecar, _trial
from satisfice._dgl_convs import DglConvs, is_attention, is_conv
from satisfice._errors import ExportError
from satisfice._row_ops import RowOp, RowOps
from satisfice._row_ops import activation as activation_ops
from satisfice._sidecar import Description, Options, with_after
from satisfice._weights import Weights
from satisfice.graph import export_graph, is_undirected

if TYPE_CHECKING:
    from torch import Tensor, nn


def export_dgl(
    model: nn.Module,
    graph: Any,
    path: str | os.PathLike[str],
    *,
    output: str = "logits",
    default_plan: str | None = None,
    activation: Any = None,
    layers: Iterable[tuple[str, Any, Iterable[Any]]] | None = None,
    flatten: Sequence[bool] | None = None,
    input: Iterable[Any] = (),
    head: Iterable[Any] = (),
    features: str = "feat",
    labels: str | None = "label",
    ids: Sequence[str] | ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    undirected: bool | None = None,
    query_self_loops: bool | None = None,
    feature_dtype: str | None = None,
    graph_store: str = "graph",
    version: int = 1,
    overwrite: bool = False,
    check: bool = True,
) -> Path:
    """Writes a trained model, and its graph, as a model directory.

    Layers are GraphConv, SAGEConv (mean, pool, gcn), GATConv, GATv2Conv, GINConv and GCN2Conv. A
    layer's own ``activation`` and ``norm`` are read; what the module does besides is yours to say:
    ``activation`` (after every layer but the last), or ``layers``, ``input`` and ``head`` in full.
    Evaluation mode is exported whatever mode the model is in.

    Args:
        model: the trained module.
        graph: a homogeneous ``DGLGraph`` with node features, for ``path/graph.safetensors``; None
            to export the model alone.
        path: the model directory; ``model.toml`` and ``<version>/weights.safetensors`` go there.
        output: name of the output tensor, ``"logits"`` or ``"embeddings"``.
        default_plan: the plan of requests that name none: ``"exact"``, ``"refresh"``,
            ``"pe"``, ``"recompute:25%"``.
        activation: module, function or name that the module applies between its layers.
        layers: ``(prefix, conv, after)`` for each layer: the name of its tensors, the module, and
            what follows it: modules, functions, names such as ``"relu"``, ``"residual"`` or
            ``"l2_normalize"``, or operations as the sidecar has them. All layers in the order of
            their registration if absent.
        flatten: for each attention layer, whether its heads are concatenated (``h.flatten(1)``) or
            averaged (``h.mean(1)``). If absent, all are concatenated but the model's last layer.
        input: what comes before the first layer, as ``after``.
        head: what comes after the last layer, as ``after``.
        features: key of the features [N, F] in ``graph.ndata``.
        labels: key of the labels [N] in ``graph.ndata``; left out where there are none.
        ids: the nodes' own ids, N strings or integers; positions if absent.
        class_names: names of the label values.
        undirected: whether every edge's reverse is there and none stands twice; found out if None.
        query_self_loops: whether new nodes get a self-loop; if None, whether every node has one.
        feature_dtype: ``"float32"`` or ``"float16"`` for the stored features.
        graph_store: where the imported graph will be, relative to ``path``.
        version: number of the directory that the weights go to.
        overwrite: replace existing files.
        check: run ``model(graph, x)``, or ``model(x, graph)``, on a small random graph, and refuse
            the export where its answer is not that of the layers described. A final softmax or
            log_softmax is left off.

    Returns:
        The model directory.

    Raises:
        ExportError: the model or graph has something that cannot be served; says what to do.
        FileExistsError: a file is there and ``overwrite`` is false.
    """
    options = Options(output, default_plan, graph_store, version, overwrite)
    directory = _sidecar.check_free(path, options, graph is not None)
    weights = Weights(model)
    ops = RowOps(model, weights)
    edges = None if graph is None else _edges(graph)
    if query_self_loops is None:
        query_self_loops = edges is not None and _all_have_loops(edges, graph.num_nodes())
    chosen = (
        _found(model, activation)
        if layers is None
        else [(prefix, conv, ops.each(after)) for prefix, conv, after in layers]
    )
    description = Description(
        "dgl",
        input=ops.each(input),
        layers=_describe(DglConvs(weights, ops), chosen, flatten),
        head=ops.each(head),
        query_self_loops=query_self_loops,
    )
    taken = weights.finish()
    if check:
        _trial.check(model, description, taken, _small_graph(), _run_model, _run_layer)
    if edges is not None:
        x, y = _node_data(graph, features, labels)
        if undirected is None:
            undirected = is_undirected(edges, len(x))
        export_graph(
            directory / "graph.safetensors",
            edges,
            x,
            y,
            ids,
            class_names,
            undirected,
            feature_dtype=feature_dtype,
            overwrite=overwrite,
        )
    _sidecar.write(directory, description, taken, options)
    return directory


def _small_graph() -> Any:
    import dgl
    import torch

    source, target = torch.from_numpy(_trial.small_graph())
    return dgl.add_self_loop(dgl.graph((source, target), num_nodes=_trial.NODES))


def _run_model(model: nn.Module, x: Tensor, graph: Any) -> Any:
    first = next(iter(inspect.signature(model.forward).parameters), "")
    return model(x, graph) if first.startswith(("x", "h", "feat")) else model(graph, x)


def _run_layer(
    conv: nn.Module, layer: dict[str, Any], rows: Tensor, initial: Tensor, graph: Any
) -> Tensor:
    """Runs the layer without its own activation and norm, which are described apart."""
    for name in ("activation", "_activation", "norm"):
        if hasattr(conv, name):
            setattr(conv, name, None)
    computed: Tensor = conv(graph, rows, initial) if layer["type"] == "gcn2" else conv(graph, rows)
    if computed.dim() == 3:
        return computed.flatten(1) if layer["concat"] else computed.mean(1)
    return computed


def _found(model: nn.Module, activation: Any) -> list[tuple[str, Any, list[RowOp]]]:
    """All layers in the order of their registration, with the activation between them."""
    convs = [(name, module) for name, module in model.named_modules() if is_conv(module)]
    if not convs:
        raise ExportError(f"{type(model).__name__} has no layer that is known")
    last = len(convs) - 1
    if activation is None and not all(_own_activation(conv) for _, conv in convs[:last]):
        raise ExportError(
            f"what {type(model).__name__} does between its {len(convs)} layers is not known: "
            "pass activation='relu', or layers=[(prefix, conv, after), ...]"
        )
    between = activation_ops(activation)
    return [(name, conv, between if i < last else []) for i, (name, conv) in enumerate(convs)]


def _own_activation(conv: Any) -> bool:
    own = getattr(conv, "activation", None) or getattr(conv, "_activation", None)
    return own is not None


def _describe(
    convs: DglConvs,
    layers: list[tuple[str, Any, list[RowOp]]],
    flatten: Sequence[bool] | None,
) -> list[dict[str, Any]]:
    last = len(layers) - 1
    attention = [i for i, (_, conv, _) in enumerate(layers) if is_attention(conv)]
    if flatten is None:
        flatten = [i < last for i in attention]
    if len(flatten) != len(attention):
        raise ExportError(
            f"flatten has {len(flatten)} values for {len(attention)} attention layers"
        )
    by_layer = dict(zip(attention, flatten))
    return [
        with_after(convs.describe(conv, prefix, by_layer.get(i, True)), after)
        for i, (prefix, conv, after) in enumerate(layers)
    ]


def _edges(graph: Any) -> np.ndarray[Any, Any]:
    if not graph.is_homogeneous:
        raise ExportError("the graph has several kinds of node or edge: only one of each is served")
    source, target = graph.edges(order="eid")
    return np.stack([np.asarray(source.cpu()), np.asarray(target.cpu())]).astype(np.int64)


def _all_have_loops(edges: np.ndarray[Any, Any], nodes: int) -> bool:
    loops = edges[0][edges[0] == edges[1]]
    return nodes > 0 and len(np.unique(loops)) == nodes


def _node_data(
    graph: Any, features: str, labels: str | None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    if features not in graph.ndata:
        raise ExportError(
            f"graph.ndata has no {features!r}, only {sorted(graph.ndata)}: name the key of the "
            "features in `features`"
        )
    x = np.asarray(graph.ndata[features].detach().cpu())
    has_labels = labels is not None and labels in graph.ndata
    return x, np.asarray(graph.ndata[labels].cpu()) if has_labels else None
