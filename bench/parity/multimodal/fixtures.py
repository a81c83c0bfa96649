"""The command line of what makes fixtures: anew, or elsewhere to compare."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path


def main(about: str, make: Callable[[Path], None], kept: Path, differing: Callable[[Path, Path], list[str]]) -> int:
    """Makes what is in `kept` anew; with --check, says what `differing(kept, made)` names."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of replacing")
    if not parser.parse_args().check:
        make(kept)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory))
        wrong = differing(kept, Path(directory))
    print("\n".join(f"{name} differs" for name in wrong) or f"{kept.name}: nothing differs")
    return 1 if wrong else 0
