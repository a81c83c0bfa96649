"""What is done to a server, and what has to come of it.

An attack gives what was seen, and a list of what is wrong with that."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import http2
import shapes
from good_client import BODY
from target import MODEL, VICTIM, Server, closed, crowd, drip

Seen = tuple[str, list[str]]
INFER = f"/v2/models/{MODEL}/infer"
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: a\r\n".encode()
# A quick server has fewer places, so that fewer connections fill them.
FEW_PLACES = {"SATISFICE_LIMITS__CONNECTIONS_MAX": "200"}


@dataclass
class Attack:
    run: Callable[[Server, bool], Seen]
    settings: dict[str, str] = field(default_factory=dict)
    quick_settings: dict[str, str] = field(default_factory=dict)

    def environment(self, quick: bool) -> dict[str, str]:
        return {**self.settings, **(self.quick_settings if quick else {})}


def hold(port: int, quick: bool, each: bytes, byte: bytes = b"") -> Seen:
    """Many connections, which say something at first and perhaps a byte a second."""
    count, seconds = (600, 2.0) if quick else (10_000, 15.0)
    clients = crowd(port, count, each)
    try:
        opened = len(clients)
        if byte:
            drip(clients, byte, seconds)
        else:
            time.sleep(seconds)
        gone = opened - len(clients) + closed(clients)
        return f"{opened} of {count} connected, {gone} closed by the server", []
    finally:
        for client in clients:
            client.close()


def idle(server: Server, quick: bool) -> Seen:
    return hold(server.http, quick, b"")


def idle_grpc(server: Server, quick: bool) -> Seen:
    return hold(server.grpc, quick, http2.PREFACE + http2.settings())


def between_requests(server: Server, quick: bool) -> Seen:
    return hold(server.http, quick, b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")


def slow_headers(server: Server, quick: bool) -> Seen:
    return hold(server.http, quick, HEAD + b"X-A: ", b"a")


def slow_bodies(server: Server, quick: bool) -> Seen:
    return hold(server.http, quick, HEAD + b"Content-Length: 100000\r\n\r\n{", b" ")


def http1_shapes(server: Server, quick: bool) -> Seen:
    wrong = []
    for shape in shapes.HTTP1:
        got = server.ask(shape.sent, end=shape.end)
        if problem := shape.problem(got):
            wrong.append(problem)
    return f"{len(shapes.HTTP1)} shapes, {len(wrong)} not answered as they should be", wrong


def http2_shapes(server: Server, quick: bool) -> Seen:
    wrong, outcomes = [], []
    for port in (server.http, server.grpc):
        for name, sent, allowed in shapes.http2(quick):
            with server.connect(port) as client:
                said = http2.outcome(http2.converse(client, sent))
            outcomes.append(said)
            if said not in allowed:
                wrong.append(f"{name}: {said}, not {' or '.join(allowed)}")
    counts = {said: outcomes.count(said) for said in dict.fromkeys(outcomes)}
    return ", ".join(f"{count} {said}" for said, count in counts.items()), wrong


def rapid_resets(server: Server, quick: bool) -> Seen:
    """Streams that are reset as soon as they are there."""
    seconds, streams, told = (2.0 if quick else 10.0), 0, {}
    lines = server.log().count("\n")
    end = time.monotonic() + seconds
    block = http2.head(http2.INFER, http2.GRPC)
    connections = 0
    while time.monotonic() < end:
        sent = b""
        for stream in range(1, 2001, 2):
            sent += http2.headers(stream, block) + http2.frame(http2.RST_STREAM, 0, stream, b"\0\0\0\x08")
        port = (server.http, server.grpc)[connections % 2]
        with server.connect(port) as client:
            said = http2.outcome(http2.converse(client, sent))
        told[said] = told.get(said, 0) + 1
        connections, streams = connections + 1, streams + 1000
    lines = server.log().count("\n") - lines
    wrong = [f"{lines} log lines"] if lines > 20 else []
    outcomes = ", ".join(f"{count} {said}" for said, count in told.items())
    return f"{streams} streams on {connections} connections ({outcomes}), {lines} log lines", wrong


def gzip_bombs(server: Server, quick: bool) -> Seen:
    """Small bodies that hold much: spaces behind a request, which is JSON still."""
    clients, mib = (4, 8) if quick else (16, 255)
    compressor = zlib.compressobj(9, wbits=31)
    body = compressor.compress(b'{"inputs":[]}')
    for _ in range(mib):
        body += compressor.compress(b" " * (1 << 20))
    body += compressor.flush()
    sent = HEAD + f"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    statuses: list[str] = []
    most = [server.memory()]

    def send() -> None:
        for _ in range(1 if quick else 3):
            statuses.append(shapes.status(server.ask(sent, timeout=60.0)))

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most[0] = max(most[0], server.memory())
        time.sleep(0.02)
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    budget = int(server.environment["SATISFICE_LIMITS__BODIES_BYTES_MAX"]) >> 20
    wrong = [] if set(counts) <= {"400", "503"} else [f"statuses {counts}"]
    # What is read of them, and the rest of the server, is not in the budget.
    if most[0] > budget + 300:
        wrong.append(f"{most[0]} MiB held with a budget of {budget}")
    answers = ", ".join(f"{count} x {status}" for status, count in counts.items())
    return (
        f"{clients} clients, bodies of {len(body) >> 10} KiB that hold {mib} MiB, budget {budget} MiB: {answers}",
        wrong,
    )


def forged_lines(server: Server, quick: bool) -> Seen:
    """Names that end a line and begin another, where everything is logged."""
    forged = "2026-01-01T00:00:00.000000Z ERROR satisfice: forged"
    escaped = "".join(f"%{byte:02x}" for byte in f"\n{forged}\n\r\x1b[2J\u2028".encode())
    for path in (f"/v2/models/{escaped}/infer", f"/v2/models/{escaped}", f"/v2/{escaped}"):
        for method in ("GET", "POST"):
            more = f"X-Request-Id: a {forged}\r\nUser-Agent: {forged}\r\nConnection: close\r\nContent-Length: 0\r\n"
            server.ask(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode())
    with server.connect(server.grpc) as client:
        http2.converse(client, http2.headers(1, http2.head(f"/{escaped}/Method", http2.GRPC)))
    log = server.log()
    wrong = [f"a forged line: {line[:80]!r}" for line in log.split("\n") if line.startswith(forged[:10])]
    wrong += [f"the log holds {text!r}" for text in ("\r", "\x1b[2J", "\u2028") if text in log]
    count = log.count("forged")
    return f"the name is {count} times in the log, {len(wrong)} times as itself", wrong or (
        [] if count else ["not logged"]
    )


def half_closed(server: Server, quick: bool) -> Seen:
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    statuses = [shapes.status(server.ask(request, end=True)) for _ in range(20)]
    wrong = [f"status {status or 'none'}" for status in statuses if status != "200"]
    return f"{statuses.count('200')} of {len(statuses)} answered", wrong


def truncated_files(server: Server, quick: bool) -> Seen:
    """Mapped files of a served model are cut in place, as a careless copy does it, under its requests."""
    request = f"POST /v2/models/{VICTIM}/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    request += f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"

    def ask() -> tuple[str, bytes]:
        try:
            answer = server.ask(request.encode())
        except OSError:
            answer = b""  # the server has ended
        return shapes.status(answer), answer

    whole = ask()[0]
    wrong = [] if whole == "200" else [f"status {whole} while the files are whole"]
    mapped = sorted((server.models / VICTIM).rglob("*.safetensors"))
    files = [path for path in mapped if path.name != "weights.safetensors"]
    kept = {path: path.read_bytes() for path in files}
    try:
        for path in files:
            os.truncate(path, 0)
        answers = [ask() for _ in range(20 if quick else 200)]
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    statuses = [status for status, _ in answers]
    wrong += [f"status {status or 'none'}" for status in sorted(set(statuses) - {"503"})]
    named = sum(b"file_lost" in answer for _, answer in answers)
    wrong += [] if named else ["no answer says file_lost"]
    refused = f"{statuses.count('503')} of {len(statuses)} requests refused"
    return f"{len(files)} files cut: {refused}, {named} name a file", wrong


BUDGET = {"SATISFICE_LIMITS__BODIES_BYTES_MAX": str(1 << 30)}
SMALL_BUDGET = {
    "SATISFICE_LIMITS__BODIES_BYTES_MAX": str(16 << 20),
    "SATISFICE_LIMITS__BODY_BYTES_MAX": str(10 << 20),
}
LOUD = {"SATISFICE_LOG__LEVEL": "debug", "SATISFICE_LOG__ACCESS": "true"}
ATTACKS = {
    "idle": Attack(idle, quick_settings=FEW_PLACES),
    "idle_grpc": Attack(idle_grpc, quick_settings=FEW_PLACES),
    "between_requests": Attack(between_requests, quick_settings=FEW_PLACES),
    "slow_headers": Attack(slow_headers, quick_settings=FEW_PLACES),
    "slow_bodies": Attack(slow_bodies, quick_settings=FEW_PLACES),
    "http1_shapes": Attack(http1_shapes),
    "http2_shapes": Attack(http2_shapes),
    "rapid_resets": Attack(rapid_resets),
    "gzip_bombs": Attack(gzip_bombs, BUDGET, SMALL_BUDGET),
    "forged_lines": Attack(forged_lines, LOUD),
    "half_closed": Attack(half_closed),
    "truncated_files": Attack(truncated_files),
}
QUICK = [
    "idle",
    "slow_headers",
    "http1_shapes",
    "http2_shapes",
    "rapid_resets",
    "gzip_bombs",
    "forged_lines",
    "half_closed",
    "truncated_files",
]
