"""Export of models of PyTorch Geometric."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from satisfice import _calls, _kinds, _pyg_data, _recorded, _shared, _sidecar, _trial, _wrappers
from satisfice._calls import Forms
from satisfice._errors import ExportError
from satisfice._pyg_convs import KNOWN, PygConvs, is_conv, is_layer
from satisfice._row_ops import RowOp, RowOps
from satisfice._row_ops import activation as activation_ops
from satisfice._sidecar import Description, Options, with_after
from satisfice._trial import SmallGraph
from satisfice._weights import Weights, check_initialized
from satisfice.graph import all_have_loops, export_graph, is_undirected

if TYPE_CHECKING:
    from torch import Tensor, nn


def export_pyg(
    model: nn.Module,
    data: Any,
    path: str | os.PathLike[str],
    *,
    output: str = "logits",
    default_plan: str | None = None,
    ids: Sequence[str] | ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    undirected: bool | None = None,
    query_self_loops: bool | None = None,
    feature_dtype: str | None = None,
    activation: Any = None,
    layers: Iterable[tuple[str, Any, Iterable[Any]]] | None = None,
    input: Iterable[Any] = (),
    head: Iterable[Any] = (),
    jumping_knowledge: Any = None,
    gcn_norm: str | None = None,
    call: Any = None,
    graph_store: str = "graph",
    version: int = 1,
    overwrite: bool = False,
    check: bool = True,
) -> Path:
    """Writes a trained model, and its graph, as a model directory.

    GCN, GraphSAGE, GIN and GAT of ``torch_geometric.nn.models`` are read as they are. For a module
    of your own, say what it does between its layers: ``activation="relu"`` (after every layer but
    the last), or ``layers``, ``input`` and ``head`` in full. A model of GCN2Conv layers between
    ``lins.0`` and ``lins.1`` (GCNII) needs nothing. Evaluation mode is exported whatever mode the
    model is in: no dropout, running statistics in batch norms.

    Args:
        model: the trained module, initialised.
        data: a ``torch_geometric.data.Data`` with ``edge_index`` [2, E], ``x`` [N, F] and optional
            ``y`` [N] for ``path/graph.safetensors``; None to export the model alone.
        path: the model directory; ``model.toml`` and ``<version>/weights.safetensors`` go there.
        output: name of the output tensor, ``"logits"`` or ``"embeddings"``.
        default_plan: the plan of requests that name none: ``"exact"``, ``"refresh"``,
            ``"pe"``, ``"recompute:25%"``.
        ids: the nodes' own ids, N strings or integers; positions if absent.
        class_names: names of the label values.
        undirected: whether every edge's reverse is there and none stands twice; found out if None.
        query_self_loops: whether new nodes get a self-loop; if None, whether every node has one.
        feature_dtype: ``"float32"`` or ``"float16"`` for the stored features.
        activation: module, function or name used between the layers of a module of your own.
        layers: ``(prefix, conv, after)`` for each layer: the name of its tensors, the module, and
            what follows it: modules, functions, names such as ``"relu"``, ``"residual"`` or
            ``"l2_normalize"``, or operations as the sidecar has them.
        input: what comes before the first layer, as ``after``.
        head: what comes after the last layer, as ``after``.
        jumping_knowledge: the ``JumpingKnowledge`` module that joins the layers of a module of your
            own, before ``head``.
        gcn_norm: for layers with normalize=False: ``"symmetric"`` if you passed them weights of
            ``gcn_norm`` with self-loops, ``"none"`` if you passed the plain edges. Needed where the
            model leaves that to its caller.
        call: how the model is called, ``call(model, x, edge_index)``, where its ``forward`` takes
            other arguments or an answer is part of what it returns:
            ``call=lambda model, x, edge_index: model.encode(x, edge_index)``.
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
    directory = _sidecar.check_free(path, options, data is not None)
    graph = None if data is None else _pyg_data.read(data)
    if graph is not None and graph.normalized:
        gcn_norm = gcn_norm or "symmetric"
    model = _wrappers.unwrap(model)
    _kinds.refuse_types(model)
    check_initialized(model)
    given = _Given(activation, layers, list(input), list(head), jumping_knowledge)
    loops = graph is not None and not graph.normalized and all_have_loops(graph.edges, len(graph.x))
    tried = _Tried(data, graph, call, loops)
    try:
        if given.any():
            description, weights = _described(model, given, gcn_norm)
        else:
            description, weights = _record(model, tried, gcn_norm)
    except _trial.RunError:
        if check:
            raise
        description, weights = _described(model, given, gcn_norm)
    if graph is not None and graph.normalized:
        graph = _without_norm(graph, description)
    weights = _shared.with_copies(description, weights)
    description.query_self_loops = loops if query_self_loops is None else query_self_loops
    if check:
        _run_checks(model, description, weights, tried, gcn_norm)
    if graph is not None:
        if undirected is None:
            undirected = is_undirected(graph.edges, len(graph.x))
        export_graph(
            directory / "graph.safetensors",
            graph.edges,
            graph.x,
            graph.y,
            ids,
            class_names,
            undirected,
            feature_dtype=feature_dtype,
            overwrite=overwrite,
        )
    _sidecar.write(directory, description, weights, options)
    return directory


def _without_norm(graph: _pyg_data.GraphData, description: Description) -> _pyg_data.GraphData:
    """The graph as it was before T.GCNNorm, where every layer normalises it again when served."""
    for layer in description.layers:
        if (layer.get("norm"), layer.get("self_loops")) != ("symmetric", True):
            raise ExportError(
                "data has the weights of GCNNorm, which new nodes change, but layer "
                f"{layer.get('tensors', layer['type'])!r} does not normalise as GCNNorm does: "
                "export the data as it was before T.GCNNorm"
            )
    return replace(graph, edges=_pyg_data.without_loops(graph.edges))


def _described(
    model: nn.Module, given: _Given, gcn_norm: str | None
) -> tuple[Description, dict[str, NDArray[np.float32]]]:
    """The description that the caller gives, and its weights."""
    reader = _Reader(model, gcn_norm)
    description = reader.describe(given)
    return description, reader.weights.finish()


def _record(
    model: nn.Module, tried: _Tried, gcn_norm: str | None
) -> tuple[Description, dict[str, NDArray[np.float32]]]:
    """The description that two recorded runs give, and its weights."""
    widths = _recorded.widths_of(model, None if tried.graph is None else tried.graph.x)
    trial = _trial_of(model, tried, weighs=gcn_norm == "symmetric")
    may_weigh = tried.call is None and _calls.weight_argument(model) is not None
    framework = _framework(asks=gcn_norm is None and may_weigh)
    recorded = _recorded.describe(model, trial, framework, widths)
    _recorded.say_what_is_left_out(recorded.left)
    return recorded.description, recorded.weights


_EXAMPLE = "call=lambda model, x, edge_index: model(x, edge_index)"


def _framework(asks: bool) -> _recorded.Framework:
    """PyTorch Geometric; `asks`: whether the caller may weigh edges without having said so."""

    def layers(graph: SmallGraph) -> Any:
        from satisfice._pyg_layers import PygLayers

        return PygLayers(graph, asks).read

    from satisfice._pyg_layers import is_known, known_layers

    own = ("torch_geometric.nn.norm", "torch_geometric.nn.dense.linear")
    return _recorded.Framework("pyg", is_known, own, layers, known_layers())


@dataclass(frozen=True)
class _Given:
    """What the caller says of the model."""

    activation: Any
    layers: Iterable[tuple[str, Any, Iterable[Any]]] | None
    input: list[Any]
    head: list[Any]
    jumping: Any

    def any(self) -> bool:
        """Whether anything is said, which a recorded run would say otherwise."""
        said = self.activation is not None or self.layers is not None or self.jumping is not None
        return said or bool(self.input or self.head)


@dataclass(frozen=True)
class _Tried:
    """What the caller gave beside the model."""

    data: Any
    graph: _pyg_data.GraphData | None
    call: Any
    # Whether every node of the graph has a self-loop.
    loops: bool


@dataclass(frozen=True)
class _Edges:
    """Edges as a model of PyTorch Geometric takes them."""

    edge_index: Tensor
    weights: Tensor | None
    # The transposed sparse matrix, for models that were given one.
    adj_t: Any


def _trial_of(model: nn.Module, tried: _Tried, weighs: bool) -> _trial.Trial:
    """How the model is tried; with `weighs`, on edges with the weights of `gcn_norm`."""
    import torch

    adj_t = getattr(tried.data, "adj_t", None)
    edge_index = getattr(tried.data, "edge_index", None)
    call = tried.call

    def make(graph: SmallGraph) -> _Edges:
        edges, weights = torch.from_numpy(graph.edges), None
        if weighs:
            from torch_geometric.nn.conv.gcn_conv import gcn_norm

            edges, weights = gcn_norm(edges, None, graph.nodes)
        made = _Edges(edges, weights, None)
        return made if adj_t is None else replace(made, adj_t=_like(adj_t, made, graph.nodes))

    def whole(rows: Tensor, edges: _Edges) -> Any:
        from torch_geometric.data import Data

        more = {"edge_weight": edges.weights, "adj_t": edges.adj_t}
        given = {name: value for name, value in more.items() if value is not None}
        return Data(x=rows, edge_index=edges.edge_index, **given)

    def blocks(model: nn.Module, rows: Tensor, edges: _Edges) -> Any:
        size = (len(rows), len(rows))
        count = sum(is_layer(module) for module in model.modules())
        return [(edges.edge_index, None, size)] * count

    forms = Forms(
        graph=lambda _, edges: (
            edges.edge_index if edge_index is not None or adj_t is None else edges.adj_t
        ),
        whole=whole,
        blocks=blocks,
        weights=lambda edges: edges.weights,
        order=("rows", "graph"),
        example=_EXAMPLE,
    )
    graphs = _trial.small_graphs()
    if tried.loops:
        graphs = _trial.with_loops(graphs)
    if adj_t is not None:
        (source, target), normalized = _pyg_data.of_adj_t(adj_t)
        loops = not normalized and bool((source == target).any())
        graphs = _trial.without_repeats(graphs, loops)
    given = None if call is None else lambda m, rows, edges: call(m, rows, edges.edge_index)
    return _trial.Trial(
        call=given or _calls.of(model, forms, weighs),
        make=make,
        graphs=graphs,
        example=_EXAMPLE,
        rows=None if tried.graph is None else torch.from_numpy(tried.graph.x),
        stored=None if tried.graph is None else len(tried.graph.x),
    )


def _like(adj_t: Any, edges: _Edges, nodes: int) -> Any:
    """The edges as a transposed sparse matrix of the same kind as `adj_t`."""
    from torch_geometric.data import Data
    from torch_geometric.transforms import ToSparseTensor

    layout = getattr(adj_t, "layout", None)
    layout = layout() if callable(layout) else layout
    data = Data(edge_index=edges.edge_index, num_nodes=nodes)
    if edges.weights is not None:
        data.edge_weight = edges.weights
    return ToSparseTensor(attr="edge_weight", layout=layout)(data).adj_t


def _run_checks(
    model: nn.Module, description: Description, weights: Any, tried: _Tried, gcn_norm: str | None
) -> None:
    """Checks the description with plain edges or, where they may be the caller's, weighed ones."""
    try:
        _trial.check(model, description, weights, _trial_of(model, tried, weighs=False))
    except ExportError:
        if gcn_norm != "symmetric" or tried.call is not None:
            raise
        _trial.check(model, description, weights, _trial_of(model, tried, weighs=True))


class _Reader:
    """Reads the layers of one model."""

    def __init__(self, model: nn.Module, gcn_norm: str | None) -> None:
        self.weights = Weights(model)
        self._model = model
        self._ops = RowOps(model, self.weights)
        self._convs = PygConvs(self.weights, self._ops, gcn_norm)

    def describe(self, given: _Given) -> Description:
        layers = given.layers
        return Description(
            "pyg",
            input=self._ops.each(given.input),
            layers=self._given(layers) if layers is not None else self._found(given.activation),
            head=self._ops.each(given.head),
            jumping_knowledge=self._jumping_knowledge(given.jumping),
        )

    def _layer(self, conv: Any, prefix: str, after: list[RowOp]) -> dict[str, Any]:
        return with_after(self._convs.describe(conv, prefix), after)

    def _given(self, layers: Iterable[tuple[str, Any, Iterable[Any]]]) -> list[dict[str, Any]]:
        return [self._layer(conv, prefix, self._ops.each(after)) for prefix, conv, after in layers]

    def _found(self, activation: Any) -> list[dict[str, Any]]:
        """All layers in the order of their registration, with the activation between them."""
        convs = [(name, module) for name, module in self._model.named_modules() if is_conv(module)]
        if not convs:
            raise _kinds.no_known_layer(self._model, is_layer, KNOWN)
        if activation is None and len(convs) > 1:
            raise ExportError(
                f"what {type(self._model).__name__} does between its {len(convs)} layers is not "
                "known: pass activation='relu', or layers=[(prefix, conv, after), ...]"
            )
        between = activation_ops(activation)
        last = len(convs) - 1
        return [
            self._layer(conv, name, between if i < last else [])
            for i, (name, conv) in enumerate(convs)
        ]

    def _jumping_knowledge(self, jumping: Any) -> dict[str, Any] | None:
        kinds = {name: m for name, m in self._model.named_modules() if _is_jumping(m)}
        if jumping is None and kinds:
            raise ExportError(
                f"the model joins its layers by {next(iter(kinds))!r}: "
                "pass that module as jumping_knowledge"
            )
        if jumping is None:
            return None
        if not _is_jumping(jumping):
            raise ExportError(f"jumping_knowledge must be a JumpingKnowledge, not {jumping!r}")
        if jumping.mode != "lstm":
            return {"mode": jumping.mode}
        prefix = self._ops.prefix(jumping)
        self.weights.take_jumping_lstm(prefix)
        return {"mode": "lstm", "tensors": prefix}


def _is_jumping(module: Any) -> bool:
    return type(module).__name__ == "JumpingKnowledge"
