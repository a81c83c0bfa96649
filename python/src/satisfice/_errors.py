"""The package's two kinds of failure."""

from __future__ import annotations


class ExportError(ValueError):
    """A model or graph cannot be exported; the message says what and what to do."""


class ServerError(Exception):
    """The server refused or failed a request.

    Attributes:
        status: HTTP status.
        code: stable word for programs, such as ``"unknown_node"``; empty where there is none.
        message: what was wrong and where.
        hint: what to do, or None.
    """

    def __init__(self, status: int, code: str, message: str, hint: str | None = None) -> None:
        text = f"{status} {code}: {message}" if code else f"{status}: {message}"
        super().__init__(f"{text} (hint: {hint})" if hint else text)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
