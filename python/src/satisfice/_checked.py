"""Parameters of a request, checked before it is sent."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from satisfice._parameters import PARAMETERS


def checked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as JSON has them; None is an absent one.

    Raises:
        ValueError: one is not known, or is not what it has to be.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    return {name: _value(name, value) for name, value in given.items()}


def _value(name: str, value: Any) -> Any:
    if name not in PARAMETERS:
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), PARAMETERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PARAMETERS)}"
        raise ValueError(f"{name!r} is no parameter of a request; {hint}")
    kind, bound = PARAMETERS[name]
    if kind == "word":
        assert isinstance(bound, tuple)
        if value in bound:
            return str(value)
        raise _wrong(name, value, " or ".join(map(repr, bound)))
    if kind == "text":
        if isinstance(value, str):
            return str(value)
        raise _wrong(name, value, "a string")
    least = bound if isinstance(bound, (int, float)) else 0.0
    number = _number(value)
    if kind == "whole":
        if number is not None and number == int(number) and number >= least:
            return int(number)
        raise _wrong(name, value, f"a whole number, {least} or more")
    if kind == "over":
        if number is not None and number > least:
            return number
        raise _wrong(name, value, f"a number over {least:g}")
    if kind == "share":
        if number is not None and 0 <= number <= 1:
            return number
        raise _wrong(name, value, "a number from 0 to 1")
    if kind == "flag":
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
        raise _wrong(name, value, "True or False")
    return value


def _number(value: Any) -> int | float | None:
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    return None


def _wrong(name: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"{name} is {value!r:.80}, but it is {wanted}")
