"""How a model is called: which argument of its ``forward`` is what."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satisfice._errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS = (
    *(
        "x",
        "h",
        "z",
        "feat",
        "feats",
        "feature",
        "features",
        "input",
        "inputs",
        "in_feat",
        "in_feats",
    ),
    *("node_feat", "node_feats", "node_features", "input_features", "xs"),
)
_EDGES = (
    *("edge_index", "edge_idx", "edges", "edge_list", "edge_indices", "edgelist"),
    *("adj", "adj_t", "adjs_t", "a"),
)
_WEIGHTS = (
    "edge_weight",
    "edge_weights",
    "weight",
    "weights",
    "edge_attr",
    "edge_attrs",
    "norm",
    "w",
)
_NAMES = {
    "rows": ROWS,
    "graph": (*_EDGES, "g", "graph"),
    "weights": _WEIGHTS,
    "whole": ("data", "sample"),
    "blocks": ("blocks", "mfgs", "block_list", "adjs"),
    "pooled": ("batch", "batch_index", "batch_size", "ptr"),
}

# Runs a model on rows and a graph of the framework's own.
Call = Callable[["nn.Module", "Tensor", Any], Any]


@dataclass(frozen=True)
class Forms:
    """What a framework gives for each kind of argument of ``forward``, from rows and a graph."""

    graph: Callable[[Tensor, Any], Any]
    whole: Callable[[Tensor, Any], Any]
    blocks: Callable[[nn.Module, Tensor, Any], Any]
    weights: Callable[[Any], Any]
    # What two arguments are whose names say nothing.
    order: tuple[str, str]
    example: str


def of(model: nn.Module, forms: Forms, weighs: bool = False) -> Call:
    """The call that the names in the signature of the model's ``forward`` stand for.

    With ``weighs``, an optional argument for the weights of edges gets them.

    Raises:
        ExportError: an argument stands for nothing that new nodes have.
    """
    kinds = _kinds(model, forms)
    by_name = _by_name(model)
    positions = len(kinds) - len(by_name)
    optional = [name for name in _optional(model) if weighs and name.lower() in _WEIGHTS][:1]

    def call(trial: Any, rows: Tensor, graph: Any) -> Any:
        values = {
            "rows": lambda: rows,
            "graph": lambda: forms.graph(rows, graph),
            "whole": lambda: forms.whole(rows, graph),
            "blocks": lambda: forms.blocks(trial, rows, graph),
            "weights": lambda: forms.weights(graph),
        }
        given = [values[kind]() for kind in kinds]
        more = {name: forms.weights(graph) for name in optional}
        more |= dict(zip(by_name, given[positions:]))
        answered: Any = trial(*given[:positions], **more)
        return answered

    return call


def _kinds(model: nn.Module, forms: Forms) -> list[str]:
    """What each required argument of ``forward`` is."""
    names = required(model)
    if not names:
        names = _of_any(model)
    if len(names) == 1 and _kind(names[0]) in (None, "graph"):
        return ["whole"]
    kinds = [_kind(name) for name in names]
    if "pooled" in kinds and len(names) > 1:
        raise ExportError(
            f"{type(model).__name__}.forward takes `{names[kinds.index('pooled')]}`, as models of "
            "whole graphs do: answers are served for nodes. If it is not used for nodes, say how "
            f"the model is called: {forms.example}"
        )
    kinds = ["whole" if kind == "pooled" else kind for kind in kinds]
    return [kind or _missing(kinds, at, names, model, forms) for at, kind in enumerate(kinds)]


def _missing(
    kinds: list[str | None], at: int, names: list[str], model: nn.Module, forms: Forms
) -> str:
    """What an argument is whose name says nothing; the check says whether it was guessed right."""
    if len(names) == 2 and kinds == [None, None]:
        return forms.order[at]
    if kinds.count(None) == 1 and "whole" not in kinds:
        if "rows" not in kinds:
            return "rows"
        if "graph" not in kinds and "blocks" not in kinds:
            return "graph"
    raise ExportError(
        f"{type(model).__name__}.forward takes `{names[at]}`, which new nodes do not have. Where "
        f"it may be left out, say how the model is called: {forms.example}"
    )


def required(model: nn.Module) -> list[str]:
    """The names of the arguments that ``forward`` cannot do without."""
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = [p.name for p in parameters if p.default is p.empty and p.kind in positional]
    return first + _by_name(model)


def _by_name(model: nn.Module) -> list[str]:
    """Those of them that are given by name only."""
    parameters = inspect.signature(model.forward).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]


def _optional(model: nn.Module) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    return [p.name for p in parameters if p.default is not p.empty]


def weight_argument(model: nn.Module) -> str | None:
    """The argument of ``forward`` by which a caller may pass weights of edges."""
    names = [*required(model), *_optional(model)]
    return next((n for n in names if n.lower() in _WEIGHTS or _kind(n) == "whole"), None)


def reads_edge_features(model: nn.Module) -> ExportError | None:
    """What to say of a model that cannot be run without features of edges."""
    for name in required(model):
        if name.lower() in ("edge_attr", "edge_attrs"):
            return ExportError(
                f"{type(model).__name__}.forward takes `{name}`: edges have no features when served"
            )
    return None


def kind_is_whole(name: str) -> bool:
    """Whether an argument of this name is a graph with all that it holds."""
    return _kind(name) == "whole"


def _of_any(model: nn.Module) -> list[str]:
    """For ``forward(*args)``, as torch_geometric.nn.Sequential has it."""
    signature = getattr(model, "signature", None)
    names = getattr(signature, "param_names", None)
    return list(names) if names else ["x", "edge_index"]


def _kind(name: str) -> str | None:
    """What an argument of this name is, where it says so."""
    lower = name.lower()
    for kind, known in _NAMES.items():
        if lower in known:
            return kind
    return None


def row_answer(answer: Any, nodes: int, forms_example: str) -> Tensor:
    """The rows [nodes, outputs] of what a model returns.

    Raises:
        ExportError: there are none, or several tensors that might be meant.
    """
    found = row_tensor(answer, nodes, forms_example)
    return found.reshape(nodes, 1) if found.dim() == 1 else found


def row_tensor(answer: Any, nodes: int, forms_example: str) -> Tensor:
    """The tensor among what a model returns that is the answer, [nodes, outputs] or [nodes]."""
    import torch

    tensors = [answer] if isinstance(answer, torch.Tensor) else _parts(answer)
    rows = [t for t in tensors if t.dim() == 2 and len(t) == nodes and t.is_floating_point()]
    if len(rows) == 1:
        return rows[0]
    if len(tensors) == 1 and tensors[0].dim() == 1 and len(tensors[0]) == nodes:
        return tensors[0]
    found = (
        ", ".join(f"{type(t).__name__} {list(t.shape)}" for t in tensors) or type(answer).__name__
    )
    if len(rows) > 1:
        raise ExportError(
            f"the model returns {len(rows)} tensors with a row a node ({found}): say which is the "
            f"answer, {forms_example}[0]"
        )
    raise ExportError(
        f"the model returns {found} on {nodes} nodes, but an answer is one row a node: models of "
        "whole graphs or of edges are not served"
    )


def _parts(answer: Any) -> list[Tensor]:
    import torch

    if isinstance(answer, dict):
        answer = list(answer.values())
    if not isinstance(answer, (list, tuple)):
        return []
    return [part for part in answer if isinstance(part, torch.Tensor)]
