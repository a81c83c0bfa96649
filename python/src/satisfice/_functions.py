"""Functions of PyTorch on rows, as expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from satisfice import _messages, _stacks
from satisfice._errors import ExportError
from satisfice._row_ops import gelu, leaky
from satisfice._stacks import argument

if TYPE_CHECKING:
    from satisfice._expressions import Builder
    from satisfice._exprs import Expr
    from satisfice._record import Node

Convert = Callable[["Builder", "Node"], "Expr"]


def convert(builder: Builder, node: Node) -> Expr:
    """The expression of a function of rows.

    Raises:
        ExportError: the function is none that is served; names it and its line.
    """
    try:
        return convert_named(builder, node, node.name.strip("_"))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, ExportError):
            raise
        raise builder.refused(node, f"`{node.name}` is called in a way that is not read") from error


def convert_named(builder: Builder, node: Node, name: str) -> Expr:
    """The expression of the function ``name`` with the operands of ``node``."""
    if name == "max" and node.part == 0:
        return _reduced(builder, node)
    if name in _KNOWN and (node.part is None or name in _PARTS):
        return _KNOWN[name](builder, node)
    shape = list(node.value.shape)
    raise builder.refused(
        node, f"`{node.name}`, which makes {shape}, is no operation on rows that is served"
    )


def _first(builder: Builder, node: Node) -> Expr:
    return builder.rows(argument(node, 0, "input"))


def _same(builder: Builder, node: Node) -> Expr:
    return _first(builder, node)


def _dropout(builder: Builder, node: Node) -> Expr:
    share, training = argument(node, 1, "p", 0.5), argument(node, 2, "training", True)
    if training and share:
        raise builder.refused(
            node,
            "dropout is applied in evaluation mode too, so that answers are random: pass "
            "training=self.training",
        )
    return _first(builder, node)


def _reshaped(builder: Builder, node: Node) -> Expr:
    """Another shape of the same rows, or the heads of attention side by side."""
    child = node.args[0]
    made, found = node.value, child.value
    if made.dim() == 0:
        raise builder.refused(node, f"`{node.name}` takes one value of all rows")
    column = (made.dim() == 1 and found.shape == (len(made), 1)) or (
        found.dim() == 1 and made.shape == (len(found), 1)
    )
    if made.shape == found.shape or column:
        if not bool((made == found.reshape(made.shape)).all()):
            raise builder.refused(node, f"`{node.name}` puts rows or values in another order")
        return builder.rows(child)
    by_row = made.shape[0] == found.shape[0] and made.numel() == found.numel()
    in_order = by_row and made.dim() > 1 and bool((made.flatten(1) == found.flatten(1)).all())
    if in_order and found.dim() == 3 and made.dim() == 2:
        rows = builder.rows(child)
        return _stacks.side_by_side(builder, node, rows) or _join_heads(
            builder, node, rows, concat=True
        )
    if found.dim() == 2 and made.dim() == 3:
        for dim in (0, 2):
            if made.shape[dim] == 1 and bool((made.squeeze(dim) == found).all()):
                return builder.stack((builder.rows(child),), dim, node)
    if in_order and found.dim() == 2 and made.dim() == 3:
        return _stacks.cut(builder, node, builder.rows(child), made.shape[1])
    if in_order and found.dim() == made.dim() == 3:
        flat = _stacks.side_by_side(builder, node, builder.rows(child))
        if flat is not None:
            return _stacks.cut(builder, node, flat, made.shape[1])
    is_stacked = found.dim() == 3 and made.dim() in (2, 3)
    if is_stacked and (one := _stacks.part_of(builder, node, child)) is not None:
        return one
    if found.dim() == made.dim() == 2 and made.shape[0] == found.shape[0]:
        for start in range(found.shape[1] - made.shape[1] + 1):
            if bool((made == found[:, start : start + made.shape[1]]).all()):
                return builder.slice(builder.rows(child), start, made.shape[1], node)
    raise builder.refused(
        node,
        f"`{node.name}` makes {list(made.shape)} of {list(found.shape)}, which is no row a node",
    )


def _expanded(builder: Builder, node: Node) -> Expr:
    """Rows of one value each, which go with every channel."""
    rows = builder.rows(node.args[0])
    wide = node.value.dim() == 2 and node.value.shape[1] > rows.width
    if rows.width == 1 and wide:
        return builder.mul(rows, builder.ones(node, node.value.shape[1]), node)
    return _reshaped(builder, node)


def _masked_fill(builder: Builder, node: Node) -> Expr:
    """``rows.masked_fill(rows <= bound, 0)``."""
    mask, value = argument(node, 1, "mask"), argument(node, 2, "value")
    rows = node.args[0]
    if getattr(mask, "name", "") == "isinf" and not bool(mask.value.any()):
        return builder.rows(rows)
    is_bound = getattr(mask, "name", "") in ("__le__", "le", "less_equal") and mask.args[0] is rows
    bound = builder.constant(mask.args[1]) if is_bound else None
    if not isinstance(bound, (int, float)) or builder.constant(value) != 0:
        raise builder.refused(node, f"`{node.name}` fills what another condition finds")
    # A value on the bound may be rounded to what is just above it.
    op = {"op": "threshold", "min": float(bound) + 1e-6 * abs(float(bound))}
    return builder.op(op, node, builder.rows(rows))


def _repeat(builder: Builder, node: Node) -> Expr:
    times = node.args[1] if isinstance(node.args[1], (tuple, list)) else node.args[1:]
    rows = builder.rows(node.args[0])
    if node.value.dim() == 3 and len(times) == 3 and (times[0], times[2]) == (1, 1):
        if getattr(rows, "dim", None) == 2 and times[1] == 1:
            return rows
        if getattr(rows, "dim", None) == 1:
            return builder.stack(rows.children * times[1], 1, node)  # type: ignore[attr-defined]
        if getattr(rows, "dim", None) == 0:
            return builder.stack(rows.children * times[1], 1, node)  # type: ignore[attr-defined]
    if node.value.dim() == 2 and len(times) == 2 and times[0] == 1:
        return builder.join("cat", (rows,) * times[1], node)
    raise builder.refused(node, f"`{node.name}` repeats rows in a way that is not served")


def _getitem(builder: Builder, node: Node) -> Expr:
    index: Any = argument(node, 1, "indices")
    if hasattr(index, "value") and not index.value.is_floating_point():
        return _messages.gathered(builder, node, node.args[0], index)
    return _reshaped(builder, node)


def _index_select(builder: Builder, node: Node) -> Expr:
    dim, rows = argument(node, 1, "dim"), argument(node, 0, "input")
    if dim not in (0, -node.value.dim()):
        raise builder.refused(node, f"`{node.name}` selects along dimension {dim}")
    return _messages.gathered(builder, node, rows, argument(node, 2, "index"))


def _join_heads(builder: Builder, node: Node, child: Expr, concat: bool) -> Expr:
    """The heads of an attention layer joined, with what was done to each of them after it."""
    from satisfice._expressions import ELEMENTWISE
    from satisfice._exprs import Layer, Op

    if isinstance(child, Op) and concat and child.op["op"] in ELEMENTWISE:
        inner = _join_heads(builder, node, child.children[0], concat)
        return builder.op(child.op, node, inner)
    if isinstance(child, Layer) and child.heads is not None:
        described = {**child.layer, "concat": concat}
        return builder.layer(described, node, child.child)
    if isinstance(child, Op) and not concat:
        raise builder.refused(
            node,
            "an activation is applied to each head before their mean is taken: activate the mean",
        )
    raise builder.refused(node, f"`{node.name}` joins what are no heads of attention")


def _reduced(builder: Builder, node: Node) -> Expr:
    """The mean, sum or maximum of stacked rows, or of heads."""
    from satisfice._exprs import Stack

    name = node.name.strip("_")
    dim = argument(node, 1, "dim", node.kwargs.get("axis"))
    child_node = node.args[0]
    child = builder.rows(child_node) if child_node.value.dim() == 3 else None
    if name == "sum" and child_node.value.dim() == 2 and dim in (1, -1, (1,), [1], (-1,), [-1]):
        import torch

        rows = builder.rows(child_node)
        return builder.linear(torch.ones(1, rows.width), None, node, rows)
    dim = dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else dim
    if isinstance(child, Stack) and name == "sum" and dim in (2, -1) and child.dim == 1:
        return _sums_of_parts(builder, node, child)
    if child is None or not isinstance(dim, int) or node.value.dim() != 2:
        raise builder.refused(
            node,
            f"`{node.name}` reduces {list(child_node.value.shape)} to {list(node.value.shape)}",
        )
    dim %= 3
    if isinstance(child, Stack) and dim == child.dim:
        return _stacks.reduced(builder, node, child, name)
    if dim == 1 and name == "mean":
        return _join_heads(builder, node, child, concat=False)
    raise builder.refused(node, f"`{node.name}` over dimension {dim} is not served")


def _sums_of_parts(builder: Builder, node: Node, stack: Any) -> Expr:
    """The sum of each of stacked rows: one value a part, ``[N, K]`` or ``[N, K, 1]``."""
    import torch

    width = stack.width
    ones = builder.kept(("ones", width), lambda: torch.ones(1, width))
    sums = tuple(builder.linear(ones, None, node, part) for part in stack.children)
    if node.value.dim() == 3:
        return builder.stack(sums, 1, node)
    return builder.join("cat", sums, node)


def _cat(builder: Builder, node: Node) -> Expr:
    parts = argument(node, 0, "tensors")
    dim = argument(node, 1, "dim", node.kwargs.get("axis", 1 if node.name == "hstack" else 0))
    if node.value.dim() == 3:
        parts = [builder.rows(part) for part in parts]
        dims = {getattr(part, "dim", None) for part in parts}
        if dims == {dim % 3}:
            children = tuple(child for part in parts for child in part.children)
            return builder.stack(children, dim % 3, node)
        if dims == {1} and dim % 3 == 2:
            rows = zip(*(part.children for part in parts), strict=True)
            joined = tuple(builder.join("cat", row, node) for row in rows)
            return builder.stack(joined, 1, node)
    if node.value.dim() != 2 or dim % 2 != 1:
        raise builder.refused(node, f"`{node.name}` along dimension {dim} puts nodes side by side")
    return builder.join("cat", tuple(builder.rows(part) for part in parts), node)


def _maximum(builder: Builder, node: Node) -> Expr:
    one, other = (builder.rows(operand) for operand in node.args[:2])
    return builder.join("max", (one, other), node)


def _add(builder: Builder, node: Node) -> Expr:
    one, other = node.args[:2]
    return _sum(builder, node, one, other, argument(node, 2, "alpha", 1))


def _sub(builder: Builder, node: Node) -> Expr:
    one, other = node.args[:2]
    return _sum(builder, node, one, other, -argument(node, 2, "alpha", 1))


def _rsub(builder: Builder, node: Node) -> Expr:
    return _sum(builder, node, node.args[1], node.args[0], -1)


def _sum(builder: Builder, node: Node, one: Any, other: Any, factor: float) -> Expr:
    """``one + factor * other``."""
    first, second = builder.constant(one), builder.constant(other)
    if second is not None:
        return builder.affine(None, factor * second, node, builder.rows(one))
    scaled = builder.affine(factor, first, node, builder.rows(other))
    return scaled if first is not None else builder.sum(builder.rows(one), scaled, node)


def _mul(builder: Builder, node: Node) -> Expr:
    one, other = node.args[:2]
    for rows, factor in ((one, other), (other, one)):
        constant = builder.constant(factor)
        if constant is not None:
            return builder.affine(constant, None, node, builder.rows(rows))
    for rows, gate in ((one, other), (other, one)):
        if gate.name.strip("_") == "sigmoid" and gate.args[0] is rows:
            return builder.op({"op": "silu"}, node, builder.rows(rows))
    return builder.mul(builder.rows(one), builder.rows(other), node)


def _softmax(builder: Builder, node: Node) -> Expr:
    """A softmax over a row, or across stacked values."""
    from satisfice._exprs import Stack

    dim = argument(node, 1, "dim", getattr(node.module, "dim", None))
    rows = _first(builder, node)
    if not isinstance(rows, Stack):
        return _final("softmax")(builder, node)
    if rows.width == 1 and dim is not None and dim % 3 == rows.dim:
        flat = builder.join("cat", rows.children, node)
        made = builder.joined({"op": "softmax"}, (flat,), node, flat.width)
        cut = tuple(builder.slice(made, at, 1, node) for at in range(flat.width))
        return builder.stack(cut, rows.dim, node)
    raise builder.refused(node, f"softmax over dimension {dim} of stacked rows is not served")


def _div(builder: Builder, node: Node) -> Expr:
    rows, divisor = node.args[:2]
    constant = builder.constant(divisor)
    if constant is not None:
        return builder.affine(1 / constant, None, node, builder.rows(rows))
    if _is_norm(divisor, rows):
        return builder.op({"op": "l2_normalize"}, node, builder.rows(rows))
    number = builder.constant(rows)
    if number is not None:
        inverse = builder.op({"op": "power", "exponent": -1.0}, node, builder.rows(divisor))
        return builder.affine(number, None, node, inverse)
    above = builder.rows(rows)
    if (mean := _messages.mean_of(builder, node, above, divisor)) is not None:
        return mean
    below = builder.rows(divisor)
    if (shares := _messages.shares_of(builder, node, above, below)) is not None:
        return shares
    return _messages.divided(builder, node, above, below)


def _is_norm(divisor: Any, rows: Any) -> bool:
    """Whether a node is the Euclidean norm of each row."""
    import torch

    if getattr(divisor, "name", "") in ("clamp", "clamp_min", "expand_as"):
        return _is_norm(divisor.args[0], rows)
    reads = getattr(divisor, "args", ())
    named = getattr(divisor, "name", "") in ("norm", "vector_norm")
    if not named or not reads or reads[0] is not rows or divisor.value.dim() != 2:
        return False
    return torch.allclose(divisor.value, rows.value.norm(dim=-1, keepdim=True))


def _rdiv(builder: Builder, node: Node) -> Expr:
    rows = builder.op({"op": "power", "exponent": -1.0}, node, builder.rows(node.args[0]))
    constant = builder.constant(node.args[1])
    if constant is None:
        return builder.mul(builder.rows(node.args[1]), rows, node)
    return builder.affine(constant, None, node, rows)


def _power(exponent: float | None) -> Convert:
    def convert(builder: Builder, node: Node) -> Expr:
        power = builder.constant(argument(node, 1, "exponent")) if exponent is None else exponent
        if power is None or getattr(power, "numel", lambda: 1)() != 1:
            raise builder.refused(node, "rows are raised to a power that depends on them")
        op = {"op": "power", "exponent": float(power)}
        return builder.op(op, node, _first(builder, node))

    return convert


def _neg(builder: Builder, node: Node) -> Expr:
    return builder.scale(_first(builder, node), node, -1.0)


def _linear(builder: Builder, node: Node) -> Expr:
    weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    return _map(builder, node, node.args[0], weight, bias, transposed=True)


def _matmul(builder: Builder, node: Node) -> Expr:
    if node.value.dim() == 3 and builder.constant(node.args[1]) is None:
        return _stacks.weighed(builder, node)
    return _map(builder, node, node.args[0], node.args[1], None, transposed=False)


def _addmm(builder: Builder, node: Node) -> Expr:
    return _map(builder, node, node.args[1], node.args[2], node.args[0], transposed=False)


def _map(builder: Builder, node: Node, rows: Any, weight: Any, bias: Any, transposed: bool) -> Expr:
    matrix = builder.constant(weight)
    shift = None if bias is None else builder.constant(bias)
    if matrix is None or matrix.dim() != 2 or (bias is not None and shift is None):
        raise builder.refused(
            node, "a matrix that depends on the features or the graph is multiplied by rows"
        )
    matrix = matrix if transposed else matrix.T
    shift = None if shift is None else shift.reshape(-1).expand(matrix.shape[0])
    return builder.linear(matrix, shift, node, builder.rows(rows))


def _normalize(builder: Builder, node: Node) -> Expr:
    power, dim = argument(node, 1, "p", 2.0), argument(node, 2, "dim", 1)
    if power != 2 or dim not in (1, -1) or node.value.dim() != 2:
        raise builder.refused(
            node, f"normalize(p={power}, dim={dim}) is not the Euclidean norm of a row"
        )
    return builder.op({"op": "l2_normalize"}, node, _first(builder, node))


def _layer_norm(builder: Builder, node: Node) -> Expr:
    import torch

    child = _first(builder, node)
    if list(argument(node, 1, "normalized_shape")) != [child.width]:
        raise builder.refused(node, "layer_norm normalises more than one row")
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    op: dict[str, Any] = {"op": "layer_norm", "tensors": "", "eps": argument(node, 4, "eps", 1e-5)}
    if weight is None and bias is None:
        return builder.op({**op, "affine": False}, node, child)
    scale = torch.ones(child.width) if weight is None else builder.constant(weight)
    shift = torch.zeros(child.width) if bias is None else builder.constant(bias)
    tensors = builder.add({"weight": scale, "bias": shift})
    return builder.op({**op, "tensors": tensors}, node, child)


def _batch_norm(builder: Builder, node: Node) -> Expr:
    mean, variance, weight, bias = (
        builder.constant(argument(node, at + 1, name))
        for at, name in enumerate(("running_mean", "running_var", "weight", "bias"))
    )
    if argument(node, 5, "training", False) or mean is None or variance is None:
        raise builder.refused(node, "batch_norm without running statistics reads the whole graph")
    scale = (variance + argument(node, 7, "eps", 1e-5)) ** -0.5
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return builder.affine(scale, shift, node, _first(builder, node))


def _activation(kind: str) -> Convert:
    def convert(builder: Builder, node: Node) -> Expr:
        return builder.op({"op": kind}, node, _first(builder, node))

    return convert


def _elu(builder: Builder, node: Node) -> Expr:
    op = {"op": "elu", "alpha": float(argument(node, 1, "alpha", 1.0))}
    return builder.op(op, node, _first(builder, node))


def _selu(builder: Builder, node: Node) -> Expr:
    # selu(x) = s elu(x; a); from "Self-Normalizing Neural Networks" (2017).
    op = {"op": "elu", "alpha": 1.6732632423543772}
    return builder.affine(
        1.0507009873554805, None, node, builder.op(op, node, _first(builder, node))
    )


def _celu(builder: Builder, node: Node) -> Expr:
    # celu(x; a) = a elu(x / a; 1).
    alpha = float(argument(node, 1, "alpha", 1.0))
    scaled = builder.affine(1 / alpha, None, node, _first(builder, node))
    return builder.affine(alpha, None, node, builder.op({"op": "elu", "alpha": 1.0}, node, scaled))


def _leaky_relu(builder: Builder, node: Node) -> Expr:
    slope = float(argument(node, 1, "negative_slope", 0.01))
    return builder.op(leaky(slope), node, _first(builder, node))


def _gelu(builder: Builder, node: Node) -> Expr:
    op = gelu(argument(node, 1, "approximate", "none"))
    return builder.op(op, node, _first(builder, node))


def _prelu(builder: Builder, node: Node) -> Expr:
    slopes = builder.constant(argument(node, 1, "weight"))
    child = _first(builder, node)
    if slopes is None:
        raise builder.refused(node, "the slopes of prelu depend on the features")
    if slopes.numel() == 1:
        return builder.op(leaky(float(slopes)), node, child)
    return builder.op({"op": "prelu", "tensors": builder.add({"weight": slopes})}, node, child)


def _clamp(builder: Builder, node: Node) -> Expr:
    lower, upper = argument(node, 1, "min"), argument(node, 2, "max")
    if lower == 0 and upper is None:
        return builder.op({"op": "relu"}, node, _first(builder, node))
    return _clamped(builder, node, lower, upper)


def _clamped(builder: Builder, node: Node, lower: Any, upper: Any) -> Expr:
    bounds = {"min": lower, "max": upper}
    given = {name: float(bound) for name, bound in bounds.items() if bound is not None}
    return builder.op({"op": "clamp", **given}, node, _first(builder, node))


def _final(kind: str) -> Convert:
    def convert(builder: Builder, node: Node) -> Expr:
        dim = argument(node, 1, "dim", getattr(node.module, "dim", None))
        if dim not in (1, -1, None):
            raise builder.refused(node, f"{kind} over nodes reads the whole graph")
        return builder.op({"op": kind}, node, _first(builder, node))

    return convert


_BOUNDS = {"hardtanh": (-1.0, 1.0), "relu6": (0.0, 6.0)}
_PARTS = ("chunk", "split", "unbind", "tensor_split", "split_with_sizes")
_SAME = ("alpha_dropout", "clone", "contiguous", "detach", "float", "to", "type", "requires_grad_")
_RESHAPED = ("view", "reshape", "flatten", "squeeze", "unsqueeze", "narrow", "type_as")
_SCATTERED = ("scatter_add", "scatter_reduce", "index_add", "index_reduce")
_KNOWN: dict[str, Convert] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(("dropout", "feature_alpha_dropout", "dropout1d", "dropout2d"), _dropout),
    **dict.fromkeys(_SCATTERED, _messages.scattered),
    **dict.fromkeys((*_RESHAPED, "select", "permute", "transpose", "T", "t"), _reshaped),
    **dict.fromkeys(("add", "radd", "iadd"), _add),
    **dict.fromkeys(("sub", "isub", "subtract"), _sub),
    **dict.fromkeys(("rsub",), _rsub),
    **dict.fromkeys(("mul", "rmul", "imul", "multiply"), _mul),
    **dict.fromkeys(("div", "truediv", "itruediv", "true_divide", "divide"), _div),
    **dict.fromkeys(("neg", "negative"), _neg),
    **dict.fromkeys(("cat", "concat", "concatenate", "hstack"), _cat),
    **dict.fromkeys(("mean", "sum", "amax"), _reduced),
    **dict.fromkeys(("matmul", "mm"), _matmul),
    **dict.fromkeys(("clamp", "clamp_min", "clip"), _clamp),
    **{kind: _activation(kind) for kind in ("relu", "silu", "tanh", "sigmoid", "exp", "log")},
    **dict.fromkeys(_PARTS, _stacks.parts),
    **dict.fromkeys(
        ("hardtanh", "relu6"), lambda b, n: _clamped(b, n, *_BOUNDS[n.name.strip("_")])
    ),
    "bmm": _stacks.weighed,
    "getitem": _getitem,
    "expand": _expanded,
    "expand_as": _expanded,
    "repeat": _repeat,
    "masked_fill": _masked_fill,
    "index_select": _index_select,
    "pow": _power(None),
    "rdiv": _rdiv,
    "rtruediv": _rdiv,
    "reciprocal": _power(-1.0),
    "rsqrt": _power(-0.5),
    "sqrt": _power(0.5),
    "square": _power(2.0),
    "log_softmax": _final("log_softmax"),
    "softmax": _softmax,
    "addmm": _addmm,
    "batch_norm": _batch_norm,
    "celu": _celu,
    "elu": _elu,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "maximum": _maximum,
    "normalize": _normalize,
    "prelu": _prelu,
    "selu": _selu,
    "stack": _stacks.stacked,
}
