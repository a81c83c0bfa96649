"""Export of models of PyTorch Geometric."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from satisfice import _sidecar, _trial
from satisfice._errors import ExportError
from satisfice._pyg_convs import PygConvs, is_conv
from satisfice._row_ops import RowOp, RowOps
from satisfice._row_ops import activation as activation_ops
from satisfice._sidecar import Description, Options, with_after
from satisfice._weights import Weights
from satisfice.graph import export_graph, is_undirected

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
    feature_dtype: str | None = None,
    activation: Any = None,
    layers: Iterable[tuple[str, Any, Iterable[Any]]] | None = None,
    input: Iterable[Any] = (),
    head: Iterable[Any] = (),
    jumping_knowledge: Any = None,
    gcn_norm: str | None = None,
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
            ``gcn_norm`` with self-loops, ``"none"`` if you passed the plain edges.
        graph_store: where the imported graph will be, relative to ``path``.
        version: number of the directory that the weights go to.
        overwrite: replace existing files.
        check: run ``model(x, edge_index)`` on a small random graph, and refuse the export where its
            answer is not that of the layers described. A final softmax or log_softmax is left off.
            Models whose caller normalises the edges are not checked.

    Returns:
        The model directory.

    Raises:
        ExportError: the model or graph has something that cannot be served; says what to do.
        FileExistsError: a file is there and ``overwrite`` is false.
    """
    import torch

    options = Options(output, default_plan, graph_store, version, overwrite)
    directory = _sidecar.check_free(path, options, data is not None)
    reader = _Reader(model, gcn_norm)
    description = reader.describe(activation, layers, input, head, jumping_knowledge)
    weights = reader.weights.finish()
    if check and gcn_norm != "symmetric":
        edges = torch.from_numpy(_trial.small_graph())
        _trial.check(model, description, weights, edges, _run_model, _run_layer)
    if data is not None:
        _export_data(
            directory / "graph.safetensors",
            data,
            ids,
            class_names,
            undirected,
            feature_dtype,
            overwrite,
        )
    _sidecar.write(directory, description, weights, options)
    return directory


def _export_data(
    path: Path,
    data: Any,
    ids: Sequence[str] | ArrayLike | None,
    class_names: Sequence[str] | None,
    undirected: bool | None,
    feature_dtype: str | None,
    overwrite: bool,
) -> None:
    for name in ("edge_weight", "edge_attr"):
        if getattr(data, name, None) is not None:
            raise ExportError(
                f"data has {name}: edges have neither weights nor features when served. "
                f"Delete it (del data.{name}) if the model was trained without"
            )
    missing = [name for name in ("edge_index", "x") if getattr(data, name, None) is None]
    if missing:
        raise ExportError(
            f"data has no {' and no '.join(missing)}: homogeneous Data with both is read"
        )
    edges = np.asarray(data.edge_index.cpu()).astype(np.int64)
    if undirected is None:
        undirected = is_undirected(edges, len(data.x))
    labels = getattr(data, "y", None)
    export_graph(
        path,
        edges,
        np.asarray(data.x.detach().cpu()),
        None if labels is None else np.asarray(labels.cpu()),
        ids,
        class_names,
        undirected,
        feature_dtype=feature_dtype,
        overwrite=overwrite,
    )


def _run_model(model: nn.Module, x: Tensor, edges: Any) -> Any:
    return model(x, edges)


def _run_layer(
    conv: nn.Module, layer: dict[str, Any], rows: Tensor, initial: Tensor, edges: Any
) -> Tensor:
    inputs = (rows, initial, edges) if layer["type"] == "gcn2" else (rows, edges)
    computed: Tensor = conv(*inputs)
    return computed


class _Reader:
    """Reads the layers of one model."""

    def __init__(self, model: nn.Module, gcn_norm: str | None) -> None:
        self.weights = Weights(model)
        self._model = model
        self._ops = RowOps(model, self.weights)
        self._convs = PygConvs(self.weights, self._ops, gcn_norm)

    def describe(
        self,
        activation: Any,
        layers: Iterable[tuple[str, Any, Iterable[Any]]] | None,
        input: Iterable[Any],
        head: Iterable[Any],
        jumping: Any,
    ) -> Description:
        input, head = list(input), list(head)
        given = layers is not None or activation is not None or bool(input or head)
        if not given and _is_basic(self._model):
            return self._basic()
        if not given and self._is_gcnii():
            return self._gcnii()
        return Description(
            "pyg",
            input=self._ops.each(input),
            layers=self._given(layers) if layers is not None else self._found(activation),
            head=self._ops.each(head),
            jumping_knowledge=self._jumping_knowledge(jumping),
        )

    def _layer(self, conv: Any, prefix: str, after: list[RowOp]) -> dict[str, Any]:
        return with_after(self._convs.describe(conv, prefix), after)

    def _given(self, layers: Iterable[tuple[str, Any, Iterable[Any]]]) -> list[dict[str, Any]]:
        return [self._layer(conv, prefix, self._ops.each(after)) for prefix, conv, after in layers]

    def _found(self, activation: Any) -> list[dict[str, Any]]:
        """All layers in the order of their registration, with the activation between them."""
        convs = [(name, module) for name, module in self._model.named_modules() if is_conv(module)]
        if not convs:
            raise ExportError(f"{type(self._model).__name__} has no layer that is known")
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

    def _basic(self) -> Description:
        model: Any = self._model
        described = []
        for i, conv in enumerate(model.convs):
            is_plain = i == model.num_layers - 1 and model.jk_mode is None
            after = [] if is_plain else self._basic_after(i)
            described.append(self._layer(conv, f"convs.{i}", after))
        jumping = self._jumping_knowledge(getattr(model, "jk", None))
        head = self._ops.module(model.lin, "lin") if hasattr(model, "lin") else []
        return Description("pyg", layers=described, head=head, jumping_knowledge=jumping)

    def _basic_after(self, index: int) -> list[RowOp]:
        model: Any = self._model
        norm = self._ops.module(model.norms[index], f"norms.{index}")
        act = activation_ops(model.act)
        return act + norm if model.act_first else norm + act

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
        names = [
            f"lstm.{kind}_l0{direction}"
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            for direction in ("", "_reverse")
        ]
        self.weights.take(prefix, *names, "att.weight", "att.bias")
        return {"mode": "lstm", "tensors": prefix}

    def _is_gcnii(self) -> bool:
        convs = list(getattr(self._model, "convs", []))
        is_stack = bool(convs) and all(is_conv(c) and type(c).__name__ == "GCN2Conv" for c in convs)
        return is_stack and len(getattr(self._model, "lins", [])) == 2

    def _gcnii(self) -> Description:
        model: Any = self._model
        relu = {"op": "relu"}
        return Description(
            "pyg",
            input=[*self._ops.module(model.lins[0], "lins.0"), relu],
            layers=[self._layer(conv, f"convs.{i}", [relu]) for i, conv in enumerate(model.convs)],
            head=self._ops.module(model.lins[1], "lins.1"),
        )


def _is_basic(model: nn.Module) -> bool:
    from torch_geometric.nn.models import GAT, GCN, GIN, GraphSAGE

    return type(model) in (GAT, GCN, GIN, GraphSAGE)


def _is_jumping(module: Any) -> bool:
    return type(module).__name__ == "JumpingKnowledge"
