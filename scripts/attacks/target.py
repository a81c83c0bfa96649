"""The server that is attacked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import server as tests

MODEL = tests.SMALL_MODEL
# The same model again, for what is done to files.
VICTIM = "victim"


def use(binary: Path | None) -> None:
    if binary:
        tests.BINARY = binary.resolve()
    if not tests.BINARY.exists():
        raise SystemExit(f"{tests.BINARY}: there is no such file (build it, or name another with --binary)")


def make_models(models: Path) -> None:
    tests.run = quietly
    tests.make_small_model(models)
    shutil.copytree(models / MODEL, models / VICTIM)


def quietly(*arguments: str | Path) -> None:
    """Standard output is for what is found out."""
    subprocess.run([tests.BINARY, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


class Server:
    """`satisfice serve` on free ports of loopback."""

    def __init__(self, models: Path, environment: dict[str, str]):
        self.models = models
        self.environment = environment
        self.out = tempfile.TemporaryFile("w+")
        command = [
            tests.BINARY,
            "serve",
            "--models",
            models,
            "--listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
        ]
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=self.out,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout
        self.http, self.grpc = (self._port() for _ in range(2))

    def _port(self) -> int:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start: {self.log()}")
        return int(line.rsplit(":", 1)[1])

    def log(self) -> str:
        return os.pread(self.out.fileno(), 64 << 20, 0).decode("utf-8", "replace")

    def memory(self) -> int:
        """Resident MiB; 0 when it has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(lines[0].split()[1]) >> 10 if lines else 0

    def connect(self, port: int | None = None, timeout: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port or self.http), timeout)

    def ask(self, data: bytes, end: bool = False, timeout: float = 10.0) -> bytes:
        """Sends bytes, perhaps an end, and gives all that comes back."""
        with self.connect(timeout=timeout) as client:
            got = b""
            try:
                client.sendall(data)
                if end:
                    client.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it was closed already, and may have said why
            try:
                while part := client.recv(1 << 16):
                    got += part
            except OSError:
                pass
            return got

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.out.close()


def crowd(port: int, count: int, each: bytes = b"") -> list[socket.socket]:
    """So many connections, each of which has sent something."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.settimeout(10)
        try:
            client.connect(("127.0.0.1", port))
            if each:
                client.sendall(each)
        except OSError:
            client.close()
            continue
        client.setblocking(False)
        clients.append(client)
    return clients


def drip(clients: list[socket.socket], byte: bytes, seconds: float) -> None:
    """Sends a byte on each of them every second."""
    end = time.monotonic() + seconds
    while True:
        left = []
        for client in clients:
            try:
                client.send(byte)
                left.append(client)
            except BlockingIOError:
                left.append(client)
            except OSError:
                client.close()
        clients[:] = left
        if time.monotonic() >= end:
            return
        time.sleep(1.0)


def closed(clients: list[socket.socket]) -> int:
    """How many of them the server has closed."""
    count = 0
    for client in clients:
        try:
            while part := client.recv(1 << 12):
                del part
            count += 1
        except BlockingIOError:
            pass
        except OSError:
            count += 1
    return count
