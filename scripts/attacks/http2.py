"""Frames of HTTP/2, right and wrong."""

from __future__ import annotations

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def number(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = [most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def field(name: str | bytes, value: str | bytes) -> bytes:
    """A header that is written out and remembered by nobody."""
    name, value = (text.encode() if isinstance(text, str) else text for text in (name, value))
    return b"\0" + number(len(name), 7) + name + number(len(value), 7) + value


def head(path: str, *more: tuple[str, str], method: str = "POST") -> bytes:
    fields = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        *more,
    ]
    return b"".join(field(*pair) for pair in fields)


GRPC = ("content-type", "application/grpc")
INFER = "/inference.GRPCInferenceService/ModelInfer"


def headers(stream: int, block: bytes, end: bool = True) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def read_exactly(client: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        part = client.recv(length - len(got))
        if not part:
            raise OSError("closed")
        got += part
    return got


def read_frame(client: socket.socket) -> tuple[int, int, int, bytes]:
    prefix = read_exactly(client, 9)
    length = int.from_bytes(prefix[:3], "big")
    kind, flags = prefix[3], prefix[4]
    return kind, flags, int.from_bytes(prefix[5:], "big"), read_exactly(client, length)


def converse(client: socket.socket, sent: bytes) -> bytes:
    """Greets, sends, and gives what comes back until the connection ends or no more is to be expected."""
    marker, got = b"the last", b""
    try:
        client.sendall(PREFACE + settings() + sent + frame(PING, 0, 0, marker))
    except OSError:
        pass  # it was closed already, and may have said why
    try:
        while part := client.recv(1 << 16):
            got += part
            if marker in got:
                client.settimeout(0.15)  # for an answer that is made still
    except OSError:
        pass
    return got


def outcome(got: bytes) -> str:
    """What a server said at last: its GOAWAY, a reset stream, an answer, or nothing."""
    said, at = "nothing", 0
    while at + 9 <= len(got):
        length, kind = int.from_bytes(got[at : at + 3], "big"), got[at + 3]
        payload = got[at + 9 : at + 9 + length]
        if kind == GOAWAY and len(payload) >= 8:
            return f"goaway {int.from_bytes(payload[4:8], 'big')}"
        if kind == RST_STREAM:
            said = f"reset {int.from_bytes(payload[:4], 'big')}"
        if kind == HEADERS and said == "nothing":
            said = "answered"
        at += 9 + length
    return said
