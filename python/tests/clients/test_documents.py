"""The `curl` lines of the documents, as a reader would type them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import Debian
from server import ROOT

DOCUMENTS = ["README.md", "docs/http-and-grpc.md", "docs/operations.md"]


def curl_lines() -> list[str]:
    blocks = [
        block
        for document in DOCUMENTS
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    ]
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def directory(debian: Debian, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the query that the demo writes."""
    directory = tmp_path_factory.mktemp("reader")
    (directory / "satisfice-demo").mkdir()
    mine = [name for query, name in zip(debian.batch.edge_query, debian.batch.edge_name) if query == 0]
    query = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 128], "data": debian.batch.x[0].tolist()},
            {
                "name": "edge_index",
                "datatype": "BYTES",
                "shape": [2, len(mine)],
                "data": [["0"] * len(mine), mine],
            },
        ]
    }
    (directory / "satisfice-demo/query.json").write_text(json.dumps(query))
    return directory


def test_there_are_such_lines() -> None:
    assert len(curl_lines()) >= 5


@pytest.mark.parametrize("line", curl_lines())
def test_curl(debian: Debian, directory: Path, line: str) -> None:
    command = line.replace("http://127.0.0.1:8000", debian.url).replace("curl ", "curl --fail-with-body ", 1)
    done = subprocess.run(
        ["bash", "-c", command], cwd=directory, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "/metrics" not in line:
        assert "error" not in json.loads(done.stdout)
