"""Writes the TOML that a model's sidecar needs."""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(document: dict[str, Any], headed: tuple[str, ...] = ()) -> str:
    """TOML text of a document of scalars, lists and tables.

    The tables, and lists of tables, called ``headed`` get headers; all others are inline.
    """
    lines = [f"{key} = {_value(value)}" for key, value in document.items() if key not in headed]
    for key in headed:
        value = document.get(key, [])
        tables, header = ([value], f"[{key}]") if isinstance(value, dict) else (value, f"[[{key}]]")
        for table in tables:
            lines += ["", header]
            lines += [f"{name} = {_value(item)}" for name, item in table.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be written to a sidecar")
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    raise TypeError(f"{type(value).__name__} cannot be written to a sidecar")
