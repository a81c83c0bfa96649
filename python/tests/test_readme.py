"""README's first answers: its code blocks, run in their order, print what README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from server import BINARY, ROOT, serve

pytest.importorskip("torch_geometric")

SERVED = "satisfice serve --models "


def blocks(section: str) -> list[tuple[str, str]]:
    """The fenced blocks below a heading: language and text."""
    text = (ROOT / "README.md").read_text()
    text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def run_python(code: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_shell(script: str, directory: Path) -> None:
    path = f"{BINARY.resolve().parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-ec", script], cwd=directory, check=True, env={**os.environ, "PATH": path}
    )


def answers(section: str, directory: Path) -> list[tuple[str, str]]:
    """Runs a section in `directory`; what it printed beside what README says."""
    outputs: list[tuple[str, str]] = []
    remaining = iter(blocks(section))
    for language, block in remaining:
        if language == "python":
            run_python(block, directory)
        elif SERVED in block:
            before, _, models = block.rpartition(SERVED)
            run_shell(before, directory)
            with serve(directory / models.strip(), "--grpc-listen", "127.0.0.1:0") as (url, _):
                code = next(remaining)[1].replace("http://127.0.0.1:8000", url)
                outputs.append((run_python(code, directory), next(remaining)[1]))
    return outputs


def test_a_graph_model_of_your_own(tmp_path: Path) -> None:
    [(printed, documented)] = answers("A graph model of your own", tmp_path)
    assert printed == documented


def test_a_multi_modal_model(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    [(printed, documented)] = answers("A multi-modal model", tmp_path)
    assert printed == documented
