"""Schemathesis asks the real server what its OpenAPI document promises.

No answer may have a status, content type or shape that is not documented, and no request may make the server fail:
5xx is allowed only where it is an answer (501 not supported, 503 busy, 504 too late).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import SMALL_MODEL, make_small_model, serve

SEED = "20261124"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    make_small_model(models)
    with serve(models, "--model-control", "explicit") as (url, _):
        yield url


@pytest.mark.parametrize("known", [True, False], ids=["the model", "any model"])
def test_answers_are_as_documented(url: str, known: bool, tmp_path: Path) -> None:
    config = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 501, 503, 504]\n'
    if known:
        config = f'[parameters]\n"path.model" = "{SMALL_MODEL}"\n"path.version" = "1"\n' + config
    (tmp_path / "schemathesis.toml").write_text(config)
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file",
        tmp_path / "schemathesis.toml",
        "run",
        f"{url}/openapi.json",
        "--checks",
        ",".join(CHECKS),
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "40",
        "--seed",
        SEED,
        "--continue-on-failure",
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "30",
        # Unloading would leave nothing to ask.
        "--exclude-operation-id",
        "unload",
    ]
    done = subprocess.run(
        [str(part) for part in command], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
