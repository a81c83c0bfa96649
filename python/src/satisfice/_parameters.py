"""Parameters that requests may have; generated from the server's table, do not edit."""

from __future__ import annotations

# What each may be: a kind, and its words or its least value.
PARAMETERS: dict[str, tuple[str, tuple[str, ...] | float | None]] = {
    "deadline_ms": ("over", 0.0),
    "timeout": ("whole", 0),
    "min_accuracy": ("share", None),
    "min_fidelity": ("share", None),
    "priority": ("whole", 0),
    "plan": ("text", None),
    "explain": ("flag", None),
    "edge_direction": ("word", ("both", "in", "out")),
    "node_ids": ("word", ("own", "position")),
    "min_version": ("whole", 0),
    "exchange": ("word", ("auto", "partials", "rows")),
}
