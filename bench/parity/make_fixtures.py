"""Makes reference cases from the real frameworks, or compares them with the ones on disk.

python make_fixtures.py --framework pyg --out ../../crates/satisfice-graph/tests/fixtures
python make_fixtures.py --framework pyg --out ... --check
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import plans
from graphs import attachment, stored_graph
from models import Case, randomize

FIXTURES = Path(__file__).resolve().parents[2] / "crates/satisfice-graph/tests/fixtures"
BUDGET = 0.25
TOLERANCE = 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=["pyg", "dgl"], required=True)
    parser.add_argument("--out", type=Path, default=FIXTURES, help="directory of the cases")
    parser.add_argument("--check", action="store_true", help="compare instead of replacing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.check:
        return check(arguments.framework, arguments.out)
    for old in arguments.out.glob(f"{arguments.framework}_*"):
        shutil.rmtree(old)
    names = make_all(arguments.framework, arguments.out)
    print(f"{len(names)} cases")
    return 0


def check(framework: str, committed: Path) -> int:
    """Makes the cases again and reports every difference."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        make_all(framework, made)
        problems = [f"{name}: {text}" for name, text in _differences(framework, committed, made)]
    print("\n".join(problems) or f"{framework}: all cases agree within {TOLERANCE}")
    return 1 if problems else 0


def make_all(framework: str, out: Path) -> list[str]:
    """Writes every case of a framework, once directed and once undirected."""
    names = []
    for case in _cases(framework):
        for undirected in (False, True):
            name = f"{case.name}_{'undirected' if undirected else 'directed'}"
            make_case(case, name, undirected, out / name)
            names.append(name)
    return names


def make_case(case: Case, name: str, undirected: bool, path: Path) -> None:
    """Writes one case: the exporter's files, and the reference answers."""
    seed = zlib.crc32(name.encode())
    rng = np.random.default_rng(seed)
    graph = stored_graph(rng, undirected, case.self_loops)
    attached = attachment(rng, graph)
    torch.manual_seed(seed)
    model = randomize(case.model(), seed)
    case.export(model, graph, path)
    tensors = {
        "x": attached.x,
        "query_edge_index": np.ascontiguousarray(attached.between),
        **_edge_tensors(attached, undirected),
    }
    answers = plans.answers(
        case.steps(model), graph.edges, graph.x, _with_loops(attached, case.self_loops), BUDGET
    )
    tensors |= {
        "exact": answers.exact,
        "pe": answers.pe,
        "recompute_25": answers.recompute,
        "recompute_ids": answers.recompute_ids,
    }
    tensors |= {f"h{i + 1}": level for i, level in enumerate(answers.stored_levels)}
    _check_telling(name, answers)
    save_file(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()},
        path / "case.safetensors",
    )


def _cases(framework: str) -> list[Case]:
    if framework == "pyg":
        import pyg_cases
        import pyg_message_cases
        import pyg_program_cases

        return [
            *pyg_cases.cases(),
            *pyg_program_cases.cases(),
            *pyg_message_cases.cases(),
        ]
    import dgl_cases

    return dgl_cases.cases()


def _edge_tensors(attached: plans.Attachment, undirected: bool) -> dict[str, np.ndarray]:
    if undirected:
        return {"edge_index": np.ascontiguousarray(attached.into_query)}
    counts = [attached.into_query.shape[1], attached.into_stored.shape[1]]
    return {
        "edge_index": np.concatenate([attached.into_query, attached.into_stored], axis=1),
        "edge_direction": np.repeat(np.array([1, 2], np.uint8), counts),
    }


def _with_loops(attached: plans.Attachment, self_loops: bool) -> plans.Attachment:
    """The batch as DGL's `add_self_loop` leaves it: exactly one loop a query."""
    if not self_loops:
        return attached
    every = np.arange(len(attached.x))
    between = attached.between[:, attached.between[0] != attached.between[1]]
    between = np.concatenate([between, np.stack([every, every])], axis=1)
    return plans.Attachment(attached.x, attached.into_query, attached.into_stored, between)


def _check_telling(name: str, answers: plans.Answers) -> None:
    """Refuses cases that a wrong implementation could pass: equal plans, or large numbers."""
    largest = float(np.abs(answers.exact).max())
    if not 0.05 < largest < 50:
        raise SystemExit(f"{name}: outputs reach {largest}; change the seed or the scale")
    gaps = [np.abs(answers.pe - other).max() for other in (answers.exact, answers.recompute)]
    if answers.stored_levels and min(gaps) < 1e-3:
        raise SystemExit(f"{name}: plans differ by {gaps} only; change the seed")


def _differences(framework: str, committed: Path, made: Path) -> list[tuple[str, str]]:
    wanted = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    cases = committed.glob(f"{framework}_*")
    found = {
        path.relative_to(committed) for case in cases for path in case.rglob("*") if path.is_file()
    }
    problems = [(str(name), "not among the committed cases") for name in sorted(wanted - found)]
    problems += [(str(name), "no case makes it any more") for name in sorted(found - wanted)]
    for name in sorted(wanted & found):
        if text := _difference(committed / name, made / name):
            problems.append((str(name), text))
    return problems


def _difference(old: Path, new: Path) -> str | None:
    if old.suffix == ".toml":
        return None if old.read_text() == new.read_text() else "another text"
    if _metadata(old) != _metadata(new):
        return "other metadata"
    left, right = load_file(old), load_file(new)
    if left.keys() != right.keys():
        return f"other tensors: {sorted(left.keys() ^ right.keys())}"
    for key in left:
        if left[key].shape != right[key].shape or left[key].dtype != right[key].dtype:
            return f"{key} has another shape or type"
        gap = np.abs(left[key].astype(np.float64) - right[key].astype(np.float64))
        if gap.size and gap.max() > TOLERANCE:
            return f"{key} differs by {gap.max():.2e}"
    return None


def _metadata(path: Path) -> dict[str, Any] | None:
    with safe_open(path, "numpy") as file:
        return file.metadata()


if __name__ == "__main__":
    sys.exit(main())
