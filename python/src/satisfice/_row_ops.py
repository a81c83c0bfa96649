"""Row operations of a sidecar, from PyTorch modules, functions and names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from satisfice._errors import ExportError
from satisfice._weights import Weights, join

if TYPE_CHECKING:
    from torch import nn

RowOp = dict[str, Any]

_BY_NAME = {
    "elu": "elu",
    "gelu": "gelu",
    "leaky_relu": "leaky_relu",
    "leakyrelu": "leaky_relu",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
_KNOWN = "relu, elu, leaky_relu, gelu, silu, tanh, sigmoid"

# What a module does to rows is decided by its type's name, because PyTorch and PyTorch Geometric
# both have a `Linear` and a `LayerNorm`, and neither need be installed.
_WHOLE_GRAPH_NORMS = {
    "DiffGroupNorm",
    "GraphNorm",
    "GraphSizeNorm",
    "InstanceNorm",
    "InstanceNorm1d",
    "MeanSubtractionNorm",
    "PairNorm",
}
_ROW_NORM_ADVICE = (
    "so one node's answer would depend on every other node. "
    "Train with BatchNorm or LayerNorm(mode='node') instead"
)


class RowOps:
    """Turns modules of one model into row operations and claims their tensors."""

    def __init__(
        self,
        model: nn.Module,
        weights: Weights,
        other: Callable[[nn.Module, str], list[RowOp] | None] | None = None,
    ) -> None:
        self._weights = weights
        # Reads modules of the caller's own.
        self._other = other
        self._prefixes: dict[int, str] = {
            id(module): name for name, module in model.named_modules()
        }

    def each(self, items: Iterable[Any]) -> list[RowOp]:
        """Row operations of several modules, functions, names or ready-made operations."""
        return [op for item in items for op in self.of(item)]

    def of(self, item: Any) -> list[RowOp]:
        """Row operations of a module, function, name or ready-made operation."""
        from torch import nn

        if item is None:
            return []
        if isinstance(item, dict):
            return [dict(item)]
        if isinstance(item, str):
            return [_named(item)]
        if isinstance(item, nn.Module):
            return self.module(item, self.prefix(item))
        return [_function(item)]

    def prefix(self, module: nn.Module) -> str:
        """The module's name in the model; empty where it is not part of the model."""
        return self._prefixes.get(id(module), "")

    def module(self, module: nn.Module, prefix: str) -> list[RowOp]:
        """Row operations of a module whose tensors are called ``prefix.*``."""
        kind = type(module).__name__
        if kind in ("Identity", "Dropout", "AlphaDropout"):
            return []
        if convert := _CONVERTERS.get(kind):
            return convert(self, module, prefix)
        if kind in _WHOLE_GRAPH_NORMS:
            raise ExportError(f"{kind} normalises over the whole graph, {_ROW_NORM_ADVICE}")
        if kind in ("LogSoftmax", "Softmax"):
            raise ExportError(
                f"{kind} is no row operation here: export the model without it, as logits"
            )
        own = type(module).__module__.split(".")[0] not in ("torch", "torch_geometric", "dgl")
        ops = self._other(module, prefix) if self._other is not None and own else None
        if ops is not None:
            return ops
        raise ExportError(
            f"module {prefix or kind!r} ({kind}) is not a known row operation. Known are Linear, "
            f"BatchNorm, LayerNorm, Sequential, MLP and the activations {_KNOWN}"
        )

    def linear(self, module: Any, prefix: str) -> list[RowOp]:
        out, inputs = module.weight.shape
        bias = module.bias is not None
        self._weights.take(prefix, "weight", *(["bias"] if bias else []))
        op: RowOp = {"op": "linear", "tensors": prefix, "in": int(inputs), "out": int(out)}
        return [op if bias else {**op, "bias": False}]

    def batch_norm(self, module: Any, prefix: str) -> list[RowOp]:
        if hasattr(module, "module"):  # PyTorch Geometric wraps PyTorch's.
            return self.batch_norm(module.module, join(prefix, "module"))
        if module.running_mean is None:
            raise ExportError(
                f"batch norm {prefix!r} tracks no running statistics, so one node's answer would "
                "depend on its batch: train with track_running_stats=True"
            )
        affine = module.weight is not None
        self._weights.take(prefix, "running_mean", "running_var")
        return [self._norm("batch_norm", module, prefix, affine)]

    def layer_norm(self, module: Any, prefix: str) -> list[RowOp]:
        if getattr(module, "mode", "node") != "node":
            raise ExportError(
                f"LayerNorm(mode={module.mode!r}) {prefix!r} normalises over the whole graph, "
                f"{_ROW_NORM_ADVICE}"
            )
        shape = getattr(module, "normalized_shape", (0,))
        if len(shape) != 1:
            raise ExportError(f"LayerNorm {prefix!r} normalises shape {list(shape)}, not one row")
        if (module.weight is None) != (module.bias is None):
            raise ExportError(f"LayerNorm {prefix!r} has a weight but no bias: set bias=True")
        return [self._norm("layer_norm", module, prefix, module.weight is not None)]

    def _norm(self, op: str, module: Any, prefix: str, affine: bool) -> RowOp:
        if affine:
            self._weights.take(prefix, "weight", "bias")
        written: RowOp = {"op": op, "tensors": prefix, "eps": float(module.eps)}
        return written if affine else {**written, "affine": False}

    def prelu(self, module: Any, prefix: str) -> list[RowOp]:
        if module.weight.numel() == 1:
            self._weights.leave(prefix, "weight")
            return [leaky(float(module.weight.detach()))]
        self._weights.take(prefix, "weight")
        return [{"op": "prelu", "tensors": prefix}]

    def sequential(self, module: Any, prefix: str) -> list[RowOp]:
        return [
            op
            for name, child in module.named_children()
            for op in self.module(child, join(prefix, name))
        ]

    def mlp(self, module: Any, prefix: str) -> list[RowOp]:
        """PyTorch Geometric's MLP: norm and activation after all linears but a plain last one."""
        if not hasattr(module, "lins"):  # That of GENConv.
            return self.sequential(module, prefix)
        ops: list[RowOp] = []
        for i, linear in enumerate(module.lins):
            ops += self.linear(linear, join(prefix, f"lins.{i}"))
            if i < len(module.norms):
                norm = self.module(module.norms[i], join(prefix, f"norms.{i}"))
                activation = self.of(module.act)
                ops += activation + norm if module.act_first else norm + activation
        return ops


def activation(act: Any) -> list[RowOp]:
    """Row operations of an activation without tensors: a module, function, name or None."""
    from torch import nn

    if act is None:
        return []
    if isinstance(act, str):
        return [_named(act)]
    if isinstance(act, nn.Module):
        kind = type(act).__name__
        if kind == "Identity":
            return []
        if convert := _ACTIVATIONS.get(kind):
            return [convert(act)]
        raise ExportError(f"activation {kind} is not known: known are {_KNOWN}")
    return [_function(act)]


def _named(name: str) -> RowOp:
    if name.lower() == "residual":
        return {"op": "residual"}
    if name.lower() == "l2_normalize":
        return {"op": "l2_normalize"}
    op = _BY_NAME.get(name.lower())
    if op is None:
        raise ExportError(f"activation {name!r} is not known: known are {_KNOWN}")
    return {"op": op}


def _function(function: Any) -> RowOp:
    import torch
    from torch.nn import functional

    name = getattr(function, "__name__", repr(function))
    op = _BY_NAME.get(name)
    owners = [getattr(owner, name, None) for owner in (torch, functional, torch.Tensor)]
    is_torch = any(function is owner for owner in owners)
    is_swish = name == "swish" and getattr(function, "__module__", "").startswith("torch_geometric")
    if op is None or not (is_torch or is_swish):
        raise ExportError(
            f"activation {name} is not known: pass a module, a function of torch.nn.functional or "
            f"a name; known are {_KNOWN}"
        )
    return {"op": op}


def gelu(approximate: str) -> RowOp:
    """GELU, which is served as it is, not approximated."""
    if approximate != "none":
        raise ExportError(f"GELU(approximate={approximate!r}) is not known: use 'none'")
    return {"op": "gelu"}


def leaky(slope: float) -> RowOp:
    """LeakyReLU with this slope below 0."""
    return {"op": "leaky_relu", "negative_slope": slope}


_ACTIVATIONS: dict[str, Callable[[Any], RowOp]] = {
    "ELU": lambda m: {"op": "elu", "alpha": float(m.alpha)},
    "GELU": lambda m: gelu(m.approximate),
    "LeakyReLU": lambda m: leaky(float(m.negative_slope)),
    "ReLU": lambda _: {"op": "relu"},
    "SiLU": lambda _: {"op": "silu"},
    "Sigmoid": lambda _: {"op": "sigmoid"},
    "Tanh": lambda _: {"op": "tanh"},
}


def _activation_module(_: RowOps, module: Any, __: str) -> list[RowOp]:
    return activation(module)


_CONVERTERS: dict[str, Callable[[RowOps, Any, str], list[RowOp]]] = {
    "BatchNorm": RowOps.batch_norm,
    "BatchNorm1d": RowOps.batch_norm,
    "LayerNorm": RowOps.layer_norm,
    "Linear": RowOps.linear,
    "MLP": RowOps.mlp,
    "PReLU": RowOps.prelu,
    "Sequential": RowOps.sequential,
    **dict.fromkeys(_ACTIVATIONS, _activation_module),
}
