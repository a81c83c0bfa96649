"""A client for a Satisfice server, with numpy arrays in and out."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import ArrayLike, NDArray

from satisfice import _protocol
from satisfice._checked import checked
from satisfice._errors import ServerError

# What a kept connection raises that the server has closed in the meantime.
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class Result:
    """An answer.

    Attributes:
        outputs: arrays by name, such as ``logits`` float32 [queries, classes].
        parameters: what was done: plan, counts, times.
    """

    outputs: dict[str, NDArray[Any]]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Applied:
    """What a write to a graph did.

    Attributes:
        version: the graph's version that holds it, for ``min_version`` of an inference.
        repeated: it had been done before, and nothing was done now.
        nodes_added: nodes that were not there before.
        nodes_deleted: nodes that are there no more.
        edges_added: edges that were not there before, each direction counted.
        edges_deleted: edges that are there no more.
    """

    version: int
    repeated: bool
    nodes_added: int
    nodes_deleted: int
    edges_added: int
    edges_deleted: int


@dataclass(frozen=True)
class _Response:
    status: int
    body: bytes
    header_length: int | None


class Client:
    """Talks to one server over HTTP; safe to use from several threads, one connection each.

    Args:
        url: such as ``"http://127.0.0.1:8000"``.
        timeout: seconds that connecting, and each read of an answer, may take.
        token: what ``satisfice token new`` printed, where the server asks for one.
        tls: whom to trust, and the client's own certificate, for an ``https`` url; the system's
            authorities if None.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 30.0,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be such as http://127.0.0.1:8000, not {url!r}")
        self._parts = parts
        self._timeout = timeout
        self._tls = tls
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._local = threading.local()

    def live(self) -> bool:
        """Whether the server runs; False where nobody answers."""
        return self._healthy("/v2/health/live")

    def ready(self) -> bool:
        """Whether the server can answer requests; False where nobody answers."""
        return self._healthy("/v2/health/ready")

    def metadata(self, model: str, version: str | None = None) -> dict[str, Any]:
        """The model's signature: name, versions, platform, inputs and outputs.

        Raises:
            ServerError: the server does not know the model.
            OSError: the server cannot be reached.
        """
        response = self._checked("GET", _model_path(model, version))
        metadata: dict[str, Any] = json.loads(response.body)
        return metadata

    def infer(
        self,
        model: str,
        x: ArrayLike,
        edge_index: ArrayLike,
        edge_direction: ArrayLike | None = None,
        query_edge_index: ArrayLike | None = None,
        plan: str | None = None,
        outputs: Iterable[str] | None = None,
        version: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Result:
        """Answers for B new nodes with E edges to stored nodes.

        Args:
            model: name of the model.
            x: features of the new nodes, float32 [B, F].
            edge_index: [2, E]; row 0 = query 0 .. B-1, row 1 = id of the stored node. Integers, or
                strings where the stored nodes have string ids.
            edge_direction: optional integers [E]: 0 both ways, 1 stored -> query,
                2 query -> stored; needed on a directed graph.
            query_edge_index: optional integers [2, P]: source query, target query.
            plan: ``"exact"``, ``"refresh"``, ``"pe"`` or such as ``"recompute:25%"``; the model's
                default if None.
            outputs: names of the outputs wanted; the model's default ones if None.
            version: of the model; the server's choice if None.
            parameters: further parameters of the request, such as ``{"min_fidelity": 0.98}``
                (docs/parameters.md).

        Returns:
            The outputs, and what the server did.

        Raises:
            ValueError: an argument has the wrong shape or type, or a parameter is not known.
            ServerError: the server refused or failed the request.
            OSError: the server cannot be reached.
        """
        inputs = _inputs(x, edge_index, edge_direction, query_edge_index)
        return self.infer_inputs(model, inputs, plan, outputs, version, parameters)

    def infer_inputs(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        plan: str | None = None,
        outputs: Iterable[str] | None = None,
        version: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Result:
        """Answers for named inputs, such as those of a multi-modal model.

        Args:
            model: name of the model.
            inputs: arrays by name, their first dimension the inputs of the request. Texts are lists
                of strings, pictures lists of the bytes of their files.
            plan: such as ``"image+text"``; the server's choice if None.
            outputs: names of the outputs wanted; the model's default ones if None.
            version: of the model; the server's choice if None.
            parameters: further parameters of the request, such as
                ``{"deadline_ms": 20, "min_accuracy": 0.8}``.

        Returns:
            The outputs, and what the server did.

        Raises:
            TypeError: an array cannot be sent.
            ValueError: a parameter is not known, or is not what it has to be.
            ServerError: the server refused or failed the request.
            OSError: the server cannot be reached.
        """
        arrays = {name: _array(values) for name, values in inputs.items()}
        given = checked({**(parameters or {}), **({} if plan is None else {"plan": plan})})
        body, header_length = _protocol.encode_request(arrays, outputs, given)
        headers = {
            "Content-Type": "application/octet-stream",
            _protocol.HEADER_LENGTH: str(header_length),
        }
        response = self._checked("POST", f"{_model_path(model, version)}/infer", body, headers)
        answer, arrays = _protocol.decode_response(response.body, response.header_length)
        return Result(arrays, answer.get("parameters", {}))

    def apply(
        self,
        graph: str,
        *,
        nodes: ArrayLike | None = None,
        x: ArrayLike | None = None,
        y: ArrayLike | None = None,
        edges: ArrayLike | None = None,
        delete_nodes: ArrayLike | None = None,
        delete_edges: ArrayLike | None = None,
        ack: str = "durable",
        request_id: str | None = None,
        source: str | None = None,
        offset: int | None = None,
        if_version: int | None = None,
    ) -> Applied:
        """Writes to a graph: all of it, or nothing.

        Edges are deleted first, then nodes; then nodes are put, then edges.

        Args:
            graph: name of the graph.
            nodes: ids [n] of nodes that are inserted, or of which what is given is replaced.
                Integers, or strings where ids are strings, as all ids here.
            x: their features, float32 [n, F]; new nodes need them.
            y: their labels, integers [n]; -1 is not known.
            edges: [2, E], source and target.
            delete_nodes: ids [m]; their edges go with them.
            delete_edges: [2, D], source and target.
            ack: ``"durable"``, answered once the write is on disk, or ``"visible"``, once every
                model shows it.
            request_id: a name of the write, so that it is done once. If None, and without a
                source, one is made: a write that is sent again because a connection broke is
                done once.
            source: where the write comes from, such as a topic and partition; needs ``offset``.
            offset: how far the source is with it; one that was reached is not done again.
            if_version: refuses the write if the graph has another version.

        Raises:
            ValueError: an argument has the wrong shape.
            ServerError: the server refused or failed the write.
            OSError: the server cannot be reached.
        """
        given = {
            "node_ids": None if nodes is None else _ids("nodes", nodes),
            "x": None if x is None else np.asarray(x, np.float32),
            "y": None if y is None else np.asarray(y).astype(np.int64),
            "edge_index": None if edges is None else _pairs("edges", edges),
            "delete_nodes": None if delete_nodes is None else _ids("delete_nodes", delete_nodes),
            "delete_edges": None if delete_edges is None else _pairs("delete_edges", delete_edges),
        }
        arrays = {name: array for name, array in given.items() if array is not None}
        if request_id is None and source is None:
            request_id = uuid.uuid4().hex
        said = {
            "ack": ack,
            "request_id": request_id,
            "source": source,
            "offset": offset,
            "if_version": if_version,
        }
        parameters = {name: value for name, value in said.items() if value is not None}
        body, header_length = _protocol.encode_request(arrays, None, parameters)
        headers = {
            "Content-Type": "application/octet-stream",
            _protocol.HEADER_LENGTH: str(header_length),
        }
        response = self._checked("POST", f"{_graph_path(graph)}/apply", body, headers)
        answer = json.loads(response.body)
        return Applied(**{field.name: answer[field.name] for field in fields(Applied)})

    def graph(self, name: str) -> dict[str, Any]:
        """How a graph stands: version, nodes, edges, bytes of its log, versions not shown yet.

        Raises:
            ServerError: the server does not know the graph.
            OSError: the server cannot be reached.
        """
        status: dict[str, Any] = json.loads(self._checked("GET", _graph_path(name)).body)
        return status

    def close(self) -> None:
        """Closes this thread's connection; the next request opens one again."""
        connection = self._local.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _healthy(self, path: str) -> bool:
        try:
            return self._request("GET", path).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _checked(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> _Response:
        response = self._request(method, path, body, headers)
        if response.status != 200:
            raise _server_error(response)
        return response

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> _Response:
        """One request, again on a fresh connection where the kept one had gone."""
        is_kept = "connection" in self._local.__dict__
        try:
            return self._send(method, path, body, headers)
        except _STALE:
            self.close()
            if not is_kept:
                raise
            return self._send(method, path, body, headers)
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> _Response:
        connection = self._connection()
        given = {**self._headers, **headers}
        connection.request(method, self._parts.path.rstrip("/") + path, body, given)
        response = connection.getresponse()
        length = response.getheader(_protocol.HEADER_LENGTH)
        return _Response(response.status, response.read(), None if length is None else int(length))

    def _connection(self) -> http.client.HTTPConnection:
        if "connection" not in self._local.__dict__:
            host, port = self._parts.hostname or "", self._parts.port
            self._local.connection = (
                http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
                if self._parts.scheme == "https"
                else http.client.HTTPConnection(host, port, timeout=self._timeout)
            )
        connection: http.client.HTTPConnection = self._local.connection
        return connection


def _model_path(model: str, version: str | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _graph_path(name: str) -> str:
    return f"/v2/graphs/{quote(name, safe='')}"


def _ids(name: str, ids: ArrayLike) -> NDArray[Any]:
    """Ids as int64, or as text where they are strings."""
    array = _ids_of_any_shape(name, np.asarray(ids))
    if array.ndim != 1:
        raise ValueError(f"{name} must be [nodes], not {list(array.shape)}")
    return array


def _pairs(name: str, edges: ArrayLike) -> NDArray[Any]:
    return _check_pairs(name, _ids_of_any_shape(name, np.asarray(edges)))


def _ids_of_any_shape(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind in "UO":
        return array.astype(object)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers or strings, not {array.dtype}")
    return array.astype(np.int64)


def _array(values: ArrayLike) -> NDArray[Any]:
    """An array; of byte strings an object array, for numpy's own cuts zeros off their ends."""
    array = np.asarray(values)
    return np.asarray(values, object) if array.dtype.kind == "S" else array


def _inputs(
    x: ArrayLike,
    edge_index: ArrayLike,
    edge_direction: ArrayLike | None,
    query_edge_index: ArrayLike | None,
) -> dict[str, NDArray[Any]]:
    features = np.asarray(x, np.float32)
    if features.ndim != 2:
        raise ValueError(f"x must be [queries, features], not {list(features.shape)}")
    edges = _edges(edge_index)
    inputs: dict[str, NDArray[Any]] = {"x": features, "edge_index": edges}
    if edge_direction is not None:
        directions = np.asarray(edge_direction).astype(np.uint8)
        if directions.shape != (edges.shape[1],):
            raise ValueError(
                f"edge_direction must be [{edges.shape[1]}], not {list(directions.shape)}"
            )
        inputs["edge_direction"] = directions
    if query_edge_index is not None:
        between = np.asarray(query_edge_index).astype(np.int64)
        inputs["query_edge_index"] = _check_pairs("query_edge_index", between)
    return inputs


def _edges(edge_index: ArrayLike) -> NDArray[Any]:
    """Edges as int64, or as text where the ids are strings."""
    if isinstance(edge_index, (list, tuple)) and len(edge_index) == 2:
        queries, stored = (np.asarray(row) for row in edge_index)
        if queries.shape != stored.shape:
            raise ValueError("the two rows of edge_index differ in length")
        is_text = stored.dtype.kind in "UO"
        edges = (
            np.stack([queries.astype(str).astype(object), stored.astype(object)])
            if is_text
            else np.stack([queries, stored])
        )
    else:
        edges = np.asarray(edge_index)
    edges = _check_pairs("edge_index", edges)
    if edges.dtype.kind in "UO":
        return edges.astype(object)
    if edges.size and edges.dtype.kind not in "iu":
        raise ValueError(f"edge_index must be integers or strings, not {edges.dtype}")
    return edges.astype(np.int64)


def _check_pairs(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 2 or array.shape[0] != 2:
        raise ValueError(f"{name} must be [2, edges], not {list(array.shape)}")
    return array


def _server_error(response: _Response) -> ServerError:
    """The server's own words, or the bare body of whatever stands before it."""
    try:
        document = json.loads(response.body)
    except ValueError:
        document = {"error": response.body.decode("utf-8", "replace").strip()}
    if not isinstance(document, dict):
        document = {"error": str(document)}
    message = document.get("error") or document.get("message") or "no message"
    return ServerError(
        response.status, str(document.get("code", "")), str(message), document.get("hint")
    )
