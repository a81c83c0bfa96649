"""Export of models of DGL."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from satisfice import _calls, _kinds, _recorded, _shared, _sidecar, _tensors, _trial, _wrappers
from satisfice._calls import Forms
from satisfice._dgl_convs import KNOWN, DglConvs, is_attention, is_conv, is_layer
from satisfice._errors import ExportError
from satisfice._row_ops import RowOp, RowOps
from satisfice._row_ops import activation as activation_ops
from satisfice._sidecar import Description, Options, with_after
from satisfice._trial import SmallGraph
from satisfice._weights import Weights, check_initialized
from satisfice.graph import all_have_loops, export_graph, is_undirected

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
    call: Any = None,
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
        call: how the model is called, ``call(model, graph, x)``, where its ``forward`` takes other
            arguments or an answer is part of what it returns:
            ``call=lambda model, graph, x: model([graph] * 2, x)``.
        feature_dtype: ``"float32"`` or ``"float16"`` for the stored features.
        graph_store: where the imported graph will be, relative to ``path``.
        version: number of the directory that the weights go to.
        overwrite: replace existing files.
        check: run the model on small random graphs, and refuse the export where its answer is not
            that of the layers described, or where it cannot be run. A final softmax or log_softmax
            is left off. False exports what was described all the same.

    Returns:
        The model directory.

    Raises:
        ExportError: the model or graph has something that cannot be served; says what to do.
        FileExistsError: a file is there and ``overwrite`` is false.
    """
    options = Options(output, default_plan, graph_store, version, overwrite)
    directory = _sidecar.check_free(path, options, graph is not None)
    edges = None if graph is None else _edges(graph)
    x, y = (None, None) if graph is None else _node_data(graph, features, labels)
    model = _wrappers.unwrap(model)
    _kinds.refuse_types(model)
    check_initialized(model)
    loops = edges is not None and all_have_loops(edges, graph.num_nodes())
    plan = _Plan(graph, features, x, loops, call)
    if call is None and check:
        _refuse_weights_outside(model, graph)
    given = _Given(activation, layers, flatten, list(input), list(head))
    try:
        description, taken = _described(model, given) if given.any() else _record(model, plan)
    except _trial.RunError:
        if check:
            raise
        description, taken = _described(model, given)
    description.query_self_loops = loops if query_self_loops is None else query_self_loops
    taken = _shared.with_copies(description, taken)
    if check:
        _check(model, description, taken, plan)
    if edges is not None and x is not None:
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


@dataclass(frozen=True)
class _Given:
    """What the caller says of the model."""

    activation: Any
    layers: Iterable[tuple[str, Any, Iterable[Any]]] | None
    flatten: Sequence[bool] | None
    input: list[Any]
    head: list[Any]

    def any(self) -> bool:
        """Whether anything is said, which a recorded run would say otherwise."""
        said = (self.activation, self.layers, self.flatten)
        return any(part is not None for part in said) or bool(self.input or self.head)


def _described(model: nn.Module, given: _Given) -> tuple[Description, Any]:
    """The description that the caller gives, and its weights."""
    weights = Weights(model)
    ops = RowOps(model, weights)
    chosen = (
        _found(model, given.activation)
        if given.layers is None
        else [(prefix, conv, ops.each(after)) for prefix, conv, after in given.layers]
    )
    description = Description(
        "dgl",
        input=ops.each(given.input),
        layers=_describe(DglConvs(weights, ops), chosen, given.flatten),
        head=ops.each(given.head),
    )
    return description, weights.finish()


def _record(model: nn.Module, plan: _Plan) -> tuple[Description, Any]:
    """The description that two recorded runs give, and its weights."""
    recorded = _recorded_of(model, plan)
    _recorded.say_what_is_left_out(recorded.left)
    return recorded.description, recorded.weights


def _recorded_of(model: nn.Module, plan: _Plan) -> _recorded.Recorded:
    widths = _recorded.widths_of(model, plan.rows)
    try:
        trial = _trial_of(model, plan, needs_sources=False)
        return _recorded.describe(model, trial, _framework(), widths)
    except _trial.RunError as error:
        if "0-in-degree" in str(error):
            trial = _trial_of(model, plan, needs_sources=True)
            return _recorded.describe(model, trial, _framework(), widths)
        raise _reads_edges(model, error) from error


def _layers(graph: SmallGraph) -> Any:
    import torch

    from satisfice._dgl_layers import DglLayers

    return DglLayers(torch.from_numpy(graph.edges)).read


def _framework() -> _recorded.Framework:
    from satisfice._dgl_layers import is_known
    from satisfice._dgl_record import tensor_by_tensor

    return _recorded.Framework("dgl", is_known, (), _layers, KNOWN, tensor_by_tensor)


@dataclass(frozen=True)
class _Plan:
    """What a trial needs to know of the caller's model and graph."""

    graph: Any
    features: str
    rows: np.ndarray[Any, Any] | None
    # Whether every node of the graph has a self-loop.
    loops: bool
    call: Any


_EXAMPLE = "call=lambda model, graph, x: model(graph, x)"


def _trial_of(model: nn.Module, plan: _Plan, needs_sources: bool) -> _trial.Trial:
    """How the model is tried; on graphs in which every node has an in-edge if it needs them."""
    import torch

    graphs = _trial.small_graphs(needs_sources)
    if plan.loops:
        graphs = _trial.with_loops(graphs)
    given = plan.call

    def whole(rows: Tensor, graph: Any) -> Any:
        graph.ndata[plan.features] = rows
        return graph

    def blocks(model: nn.Module, rows: Tensor, graph: Any) -> Any:
        layers = [
            m
            for _, m in model.named_modules()
            if is_layer(m) and not list(m.children()) or is_conv(m)
        ]
        return [whole(rows, graph)] * max(1, len(layers))

    forms = Forms(
        graph=whole,
        whole=whole,
        blocks=blocks,
        weights=lambda _: None,
        order=("graph", "rows"),
        example=_EXAMPLE,
    )
    call = _calls.of(model, forms) if given is None else lambda m, rows, g: given(m, g, rows)
    return _trial.Trial(
        call=lambda m, rows, graph: call(_on_graph(m, graph), rows, graph),
        make=lambda small: _dgl_graph(small, plan.graph),
        graphs=graphs,
        example=_EXAMPLE,
        rows=None if plan.rows is None else torch.from_numpy(plan.rows),
        stored=None if plan.rows is None else len(plan.rows),
    )


def _dgl_graph(small: SmallGraph, like: Any) -> Any:
    """The small graph, with values of the kinds that the edges of `like` have."""
    import dgl
    import torch

    source, target = torch.from_numpy(small.edges)
    graph = dgl.graph((source, target), num_nodes=small.nodes)
    for name, values in (like.edata if like is not None else {}).items():
        shape = (small.edges.shape[1], *values.shape[1:])
        made = torch.rand(shape) + 0.5 if values.is_floating_point() else torch.randint(0, 2, shape)
        graph.edata[name] = made.to(values.dtype)
    return graph


def _on_graph(model: nn.Module, graph: Any) -> nn.Module:
    """The model with this graph in the place of one that it holds, as old examples have it."""
    for module in model.modules():
        for name, value in vars(module).items():
            if type(value).__name__ in ("DGLGraph", "DGLHeteroGraph"):
                setattr(module, name, graph)
    return model


def _check(model: nn.Module, description: Description, weights: Any, plan: _Plan) -> None:
    trial = _trial_of(model, plan, needs_sources=False)
    try:
        _refuse_edge_values(model, description, trial, plan)
        _trial.check(model, description, weights, trial)
    except ExportError as error:
        # DGL's layers refuse nodes without in-edges unless told otherwise.
        if "0-in-degree" not in str(error):
            raise
        trial = _trial_of(model, plan, needs_sources=True)
        _refuse_edge_values(model, description, trial, plan)
        _trial.check(model, description, weights, trial)


def _refuse_weights_outside(model: nn.Module, graph: Any) -> None:
    """Refuses a model to which its caller may pass weights of edges."""
    argument = _calls.weight_argument(model)
    if argument is None or _calls.kind_is_whole(argument):
        return
    names = [] if graph is None else list(graph.edata)
    bare = [n for n, m in model.named_modules() if is_conv(m) and getattr(m, "_norm", "") == "none"]
    if names or bare:
        why = (
            f"graph.edata has {', '.join(names)}" if names else f"layer {bare[0]!r} has norm='none'"
        )
        raise ExportError(
            f"{type(model).__name__}.forward takes `{argument}` and {why}, so the caller may pass "
            "weights of edges, which are not served. If none are passed, say so: "
            f"{_EXAMPLE}"
        )


def _refuse_edge_values(
    model: nn.Module, description: Description, trial: _trial.Trial, plan: _Plan
) -> None:
    """Refuses a model whose answer changes with what its edges hold."""
    import torch

    names = list(plan.graph.edata) if plan.graph is not None else []
    graph, x = trial.inputs(description.inputs())[0]
    copy = _wrappers.trial_copy(model)
    try:
        answers = [_trial.answer(copy, trial, graph, x) for _ in range(2 if names else 1)]
    except ExportError as error:
        raise _reads_edges(model, error) from error
    if names and not torch.allclose(answers[0], answers[1], equal_nan=True):
        raise ExportError(
            f"the model's answer changes with the edge weights or features in graph.edata "
            f"({', '.join(names)}): edges have neither when served. Train without them"
        )


def _reads_edges(model: nn.Module, error: ExportError) -> ExportError:
    """A better error where the model looked for something that edges hold."""
    if isinstance(error.__cause__, (KeyError, AttributeError)) and "edata" in _source(model):
        return ExportError(
            f"{type(model).__name__} reads edata of the graph ({error.__cause__}): edges have "
            "neither weights nor features when served"
        )
    return error


def _source(model: nn.Module) -> str:
    """The text of the model's forward; empty where it is not known."""
    try:
        return inspect.getsource(type(model))
    except (OSError, TypeError):
        return ""


def _found(model: nn.Module, activation: Any) -> list[tuple[str, Any, list[RowOp]]]:
    """All layers in the order of their registration, with the activation between them."""
    convs = [(name, module) for name, module in model.named_modules() if is_conv(module)]
    if not convs:
        raise _kinds.no_known_layer(model, is_layer, KNOWN)
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


def _node_data(
    graph: Any, features: str, labels: str | None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    if features not in graph.ndata:
        raise ExportError(
            f"graph.ndata has no {features!r}, only {sorted(graph.ndata)}: name the key of the "
            "features in `features`"
        )
    x = _tensors.features(f"graph.ndata[{features!r}]", graph.ndata[features])
    if labels is None or labels not in graph.ndata:
        return x, None
    return x, _tensors.labels(f"graph.ndata[{labels!r}]", graph.ndata[labels], len(x))
