"""How many models, as people train them, are served rightly, and that none is served wrongly.

python bench/coverage/run.py [--framework pyg|dgl] [--json] [--only NAME]

Every model is exported without hints (with those that `hints` gives it where that is refused),
imported, precomputed and served with all others by one server; its answers on new nodes are
compared with the framework's own on the graph with these nodes in it. Without --framework, each
framework runs in its own environment (scripts/venv).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=["pyg", "dgl"], help="only this, here")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--only", help="models whose name has this in it")
    arguments = parser.parse_args()
    if arguments.framework is None:
        found = {name: _elsewhere(name, arguments.only) for name in ("pyg", "dgl")}
    else:
        found = {arguments.framework: _here(arguments.framework, arguments.only)}
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for name, summary in found.items():
            print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in summary.items()))
    return int(any(summary["wrong"] or summary["unexpected"] for summary in found.values()))


def _here(framework: str, only: str | None) -> dict[str, object]:
    sys.path.insert(0, str(HERE))
    if framework == "pyg":
        import pyg_models as models
    else:
        os.environ.setdefault("DGLBACKEND", "pytorch")
        import dgl_models as models
    import measure

    return measure.summary(framework, models, only)


def _elsewhere(framework: str, only: str | None) -> dict[str, object]:
    subprocess.run([ROOT / "scripts/venv", framework], check=True, stdout=sys.stderr)
    python = ROOT / ".venv" / framework / "bin/python"
    command = [python, HERE / "run.py", "--framework", framework, "--json"]
    command += ["--only", only] if only else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found[framework]


if __name__ == "__main__":
    sys.exit(main())
