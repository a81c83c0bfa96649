"""The release binary: commands and servers for the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("SATISFICE_BINARY", ROOT / "target/release/satisfice"))


def run(*arguments: str | Path) -> None:
    """Runs the binary; its output is shown when the test fails."""
    subprocess.run([BINARY, *map(str, arguments)], check=True)


@contextmanager
def serve(models: Path, *arguments: str) -> Iterator[tuple[str, str]]:
    """Serves a model repository; the HTTP URL and the gRPC address."""
    command = [BINARY, "serve", "--models", models, "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("serving on ").strip()
        grpc = server.stdout.readline().removeprefix("serving gRPC on ").strip()
        try:
            yield url, grpc
        finally:
            server.terminate()
