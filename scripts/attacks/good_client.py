"""A client that does nothing wrong, in a process of its own: every request on a new connection, as probes come.

Says a line when it has begun, and one with its times when its standard input ends."""

from __future__ import annotations

import http.client
import json
import select
import socket
import sys
import time

import http2

BODY = json.dumps(
    {
        "inputs": [
            {"name": "x", "shape": [1, 7], "datatype": "FP32", "data": [0.5] * 7},
            {"name": "edge_index", "shape": [2, 1], "datatype": "INT64", "data": [0, 0]},
        ]
    }
)
PAUSE = 0.02
TIMEOUT = 20.0


def ask(port: int, method: str, path: str, body: str | None = None) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        client.request(method, path, body)
        answer = client.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status} {text[:200]!r}")
    finally:
        client.close()


def greet(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.sendall(http2.PREFACE + http2.settings())
        if http2.read_frame(client)[0] != http2.SETTINGS:
            raise OSError("no settings")


def quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0


def main() -> None:
    port, grpc = map(int, sys.argv[1:])
    probes = {
        "health": lambda: ask(port, "GET", "/v2/health/ready"),
        "inference": lambda: ask(port, "POST", "/v2/models/pyg_sage_mean_undirected/infer", BODY),
        "grpc": lambda: greet(grpc),
    }
    times: dict[str, list[float]] = {kind: [] for kind in probes}
    failures = []
    for probe in probes.values():
        probe()
    print("begun", flush=True)
    rounds = 0
    while rounds < 5 or not select.select([sys.stdin], [], [], PAUSE)[0]:
        rounds += 1
        for kind, probe in probes.items():
            start = time.monotonic()
            try:
                probe()
            except OSError as error:
                failures.append(f"{kind}: {error!r}")
            times[kind].append(time.monotonic() - start)
    fared: dict = {
        kind: {
            "count": len(t),
            "p50_ms": quantile(t, 0.5),
            "p99_ms": quantile(t, 0.99),
            "max_ms": quantile(t, 1.0),
        }
        for kind, t in times.items()
    }
    print(json.dumps({**fared, "failures": failures[:5]}), flush=True)


if __name__ == "__main__":
    main()
