"""Requests as nobody should send them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

import http2 as h2

LIVE = "GET /v2/health/live HTTP/1.1"


def status(got: bytes) -> str:
    return got[9:12].decode("latin-1") if got.startswith(b"HTTP/1.") else ""


@dataclass
class Shape:
    name: str
    sent: bytes
    status: str
    code: str | None = None
    end: bool = False

    def problem(self, got: bytes) -> str | None:
        if status(got) != self.status:
            return f"{self.name}: {got[:60]!r}, not {self.status}"
        if self.code is None:
            return None
        try:
            body = json.loads(got.split(b"\r\n\r\n", 1)[1])
        except (IndexError, ValueError):
            return f"{self.name}: no JSON in {got[:300]!r}"
        if body.get("code") != self.code or not body.get("error") or not body.get("hint"):
            return f"{self.name}: {body}, not {self.code} with a hint"
        return None


def lines(*parts: str) -> bytes:
    return "\r\n".join([*parts, "Connection: close", "", ""]).encode("latin-1")


def wrong_request(name: str, *parts: str) -> Shape:
    return Shape(name, lines(*parts), "400", "malformed_request")


HOST = "Host: a"
HTTP1 = [
    wrong_request("no request", "GARBAGE"),
    wrong_request("a method that is none", "G@T{} / HTTP/1.1", HOST),
    wrong_request("a path with a blank", "GET /a b HTTP/1.1", HOST),
    wrong_request("another version", "GET / HTTP/7.3", HOST),
    wrong_request("no colon", LIVE, HOST, "nothing"),
    wrong_request("a blank before the colon", LIVE, HOST, "A : b"),
    wrong_request("a folded header", LIVE, HOST, "A: b", " c"),
    wrong_request("a NUL in a header", LIVE, HOST, "A: \0"),
    wrong_request("a bare CR in a header", LIVE, HOST, "A: b\rc"),
    wrong_request("a length that is none", LIVE, HOST, "Content-Length: -1"),
    wrong_request("a length in hexadecimal", LIVE, HOST, "Content-Length: 0x10"),
    wrong_request("two lengths", LIVE, HOST, "Content-Length: 1", "Content-Length: 2"),
    wrong_request("a list of lengths", LIVE, HOST, "Content-Length: 1, 2"),
    wrong_request("chunked is not last", LIVE, HOST, "Transfer-Encoding: chunked, gzip"),
    wrong_request("chunked in HTTP/1.0", "GET / HTTP/1.0", HOST, "Transfer-Encoding: chunked"),
    Shape("no Host", lines(LIVE), "400", "wrong_host"),
    Shape("two Hosts", lines(LIVE, HOST, "Host: b"), "400", "wrong_host"),
    Shape("a Host that is none", lines(LIVE, "Host: a/b@c d"), "400", "wrong_host"),
    Shape("an expectation", lines(LIVE, HOST, "Expect: nonsense"), "417", "unsupported_expectation"),
    Shape("a coding", lines(LIVE, HOST, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", "501", "unsupported_transfer_encoding"),
    Shape("a long header", lines(LIVE, HOST, "A: " + "a" * 100_000), "431", "headers_too_large"),
    Shape("many headers", lines(LIVE, HOST, *["A: b"] * 200), "431", "headers_too_large"),
    Shape("a long path", lines("GET /" + "a" * 20_000 + " HTTP/1.1", HOST), "414", "uri_too_long"),
    Shape("nothing there", lines("GET /nothing HTTP/1.1", HOST), "404", "route_not_found"),
    Shape("another method", lines("DELETE /v2 HTTP/1.1", HOST), "405", "method_not_allowed"),
    Shape("a tunnel", lines("CONNECT a:1 HTTP/1.1", "Host: a:1"), "404", "route_not_found"),
    Shape("a cut body", lines("POST /v2/repository/index HTTP/1.1", HOST, "Content-Length: 9"), "400", "body_incomplete", True),
    Shape("HTTP/1.0", lines("GET /v2/health/live HTTP/1.0"), "200"),
    Shape("two requests at once", lines(LIVE, HOST)[:-21] + b"\r\n\r\n" + lines(LIVE, HOST), "200"),
]  # fmt: skip


def http2(quick: bool) -> list[tuple[str, bytes, tuple[str, ...]]]:
    """Name, what is sent after the greeting, and what may come of it."""
    many = 2_000 if quick else 20_000
    call = h2.head(h2.INFER, h2.GRPC)
    protocol, flow, frame_size, calm, hpack = (
        "goaway 1",
        "goaway 3",
        "goaway 6",
        "goaway 11",
        "goaway 9",
    )
    refused = (
        "nothing",
        "answered",
        "reset 1",
        "reset 2",
        "reset 7",
        "reset 8",
        "reset 11",
        protocol,
    )
    block = h2.head("/", method="GET")
    return [
        ("data of no stream", h2.frame(h2.DATA, 0, 0, b"a"), (protocol, "nothing")),
        ("data of an idle stream", h2.frame(h2.DATA, 0, 7, b"a"), (protocol, "nothing")),
        ("an even stream", h2.headers(2, call), (protocol, "nothing")),
        ("a stream again", h2.headers(5, call) + h2.headers(3, call), (protocol, "answered", "nothing", "reset 5", "goaway 5")),
        ("a frame too long", h2.frame(h2.HEADERS, h2.END_HEADERS, 1, b"\0" * 20_000), (frame_size, protocol, "nothing")),
        ("headers that are no headers", h2.headers(1, b"\xff" * 100), (hpack, protocol, "nothing")),
        ("no path", h2.headers(1, h2.field(":method", "GET")), ("reset 1", protocol, "nothing")),
        ("two paths", h2.headers(1, block + h2.field(":path", "/")), ("reset 1", protocol, "nothing")),
        ("a header in capitals", h2.headers(1, block + h2.field("A", "b")), ("reset 1", protocol, "nothing")),
        ("a header of a connection", h2.headers(1, block + h2.field("connection", "close")), ("reset 1", protocol, "nothing")),
        ("a length that is wrong", h2.headers(1, block + h2.field("content-length", "9"), end=False)
         + h2.frame(h2.DATA, h2.END_STREAM, 1, b"a"), refused),
        ("a window of zero", h2.frame(h2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 0)), (protocol, "nothing")),
        ("a window too large", h2.frame(h2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)) * 2, (flow, "nothing")),
        ("a promise", h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, struct.pack(">I", 2) + block), (protocol, "nothing")),
        ("settings of a wrong length", h2.frame(h2.SETTINGS, 0, 0, b"abc"), (frame_size, protocol, "nothing")),
        ("a ping of a wrong length", h2.frame(h2.PING, 0, 0, b"abc"), (frame_size, protocol, "nothing")),
        ("something within headers", h2.frame(h2.HEADERS, 0, 1, block) + h2.frame(h2.PING, 0, 0, b"12345678"), (protocol, "nothing")),
        ("headers without end", h2.frame(h2.HEADERS, 0, 1, block) + h2.frame(h2.CONTINUATION, 0, 1, h2.field("a", "b" * 9000)) * 200,
         (calm, protocol, frame_size, "nothing", "answered")),
        ("pings", h2.frame(h2.PING, 0, 0, b"12345678") * many, (calm, "nothing")),
        ("settings", h2.settings() * many, (calm, "nothing")),
        ("empty data", h2.headers(1, call, end=False) + h2.frame(h2.DATA, 0, 1) * many, (calm, *refused)),
        ("priorities", h2.frame(h2.PRIORITY, 0, 1, b"\0\0\0\0\x10") * many, (calm, "nothing")),
        ("a message of 4 GiB", h2.headers(1, call, end=False) + h2.frame(h2.DATA, h2.END_STREAM, 1, b"\0\xff\xff\xff\xff"), refused),
        ("a message that is none", h2.headers(1, call, end=False) + h2.frame(h2.DATA, h2.END_STREAM, 1, b"\0\0\0\0\x03\xff\xff\xff"), refused),
        ("no method", h2.headers(1, h2.head("/nobody/Method", h2.GRPC)), ("answered",)),
    ]  # fmt: skip
