"""Serves a directory of MLServer models on free ports: `serve.py DIRECTORY`."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_ready(port: int, server: subprocess.Popen) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1):
                return
        except OSError:
            if time.monotonic() > end or server.poll() is not None:
                raise
            time.sleep(0.1)


def main() -> None:
    http, grpc, metrics = free_port(), free_port(), free_port()
    settings = {
        "HOST": "127.0.0.1",
        "HTTP_PORT": http,
        "GRPC_PORT": grpc,
        "METRICS_PORT": metrics,
        # As many processes for inference as cores would be for models that compute; one that does nothing is
        # fastest in the process that answers.
        "PARALLEL_WORKERS": 0,
        "GRPC_MAX_MESSAGE_LENGTH": 1 << 28,
        "DEBUG": "false",
    }
    environment = dict(os.environ)
    environment.update({f"MLSERVER_{name}": str(value) for name, value in settings.items()})
    command = [Path(sys.executable).with_name("mlserver"), "start", sys.argv[1]]
    server = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    # Whoever started this is gone when the input ends.
    threading.Thread(target=lambda: (sys.stdin.read(), server.terminate()), daemon=True).start()
    try:
        wait_until_ready(http, server)
        print(f"127.0.0.1:{http}\n127.0.0.1:{grpc}", flush=True)
        server.wait()
    finally:
        server.kill()


if __name__ == "__main__":
    main()
