import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from satisfice import Client, ServerError, _protocol


class Server(ThreadingHTTPServer):
    """Answers infer with the sum of each feature row; remembers what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.drop_after_answer = False
        self.failure: tuple[int, bytes] | None = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        if self.path == "/v2/models/m":
            self.answer(200, json.dumps({"name": "m", "versions": ["1"]}).encode())
        else:
            self.answer(200 if self.path == "/v2/health/live" else 503, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.failure is not None:
            self.answer(*self.server.failure)
            return
        length = int(self.headers[_protocol.HEADER_LENGTH])
        request, inputs = read_request(body, length)
        token = self.headers.get("Authorization")
        self.server.requests.append(
            {"path": self.path, "json": request, "inputs": inputs, "token": token, "body": body}
        )
        logits = np.asarray(inputs.get("x", [[0.0]]), np.float32).sum(axis=1, keepdims=True)
        header = json.dumps(
            {
                "model_name": "m",
                "parameters": {"plan": "exact", "queries": len(logits)},
                "outputs": [
                    {
                        "name": "logits",
                        "datatype": "FP32",
                        "shape": list(logits.shape),
                        "parameters": {"binary_data_size": logits.nbytes},
                    },
                    {"name": "names", "datatype": "BYTES", "shape": [1], "data": ["é"]},
                ],
            }
        ).encode()
        self.answer(200, header + logits.tobytes(), {_protocol.HEADER_LENGTH: str(len(header))})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.server.drop_after_answer

    def log_message(self, *_: object) -> None:
        pass


def read_request(body: bytes, length: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    request, at, inputs = json.loads(body[:length]), length, {}
    for described in request["inputs"]:
        size = described["parameters"]["binary_data_size"]
        data = body[at : at + size]
        if described["name"] != "picture":
            inputs[described["name"]] = _protocol.decode_tensor(
                described["datatype"], described["shape"], data
            )
        at += size
    assert at == len(body)
    return request, inputs


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{server.server_port}", timeout=5) as made:
        yield made


X = np.arange(6.0).reshape(2, 3)


def test_health_and_metadata(client: Client) -> None:
    assert client.live()
    assert not client.ready()
    assert client.metadata("m")["versions"] == ["1"]


def test_nobody_there_is_neither_live_nor_ready() -> None:
    client = Client("http://127.0.0.1:9", timeout=1)
    assert not client.live()
    assert not client.ready()


def test_infer_sends_the_tensors_and_reads_the_answer(server: Server, client: Client) -> None:
    result = client.infer(
        "m",
        X,
        [[0, 1], [5, 7]],
        edge_direction=[1, 2],
        query_edge_index=[[0], [1]],
        plan="recompute:25%",
        outputs=["logits"],
        version="3",
        parameters={"priority": 1},
    )
    assert result.outputs["logits"].tolist() == [[3.0], [12.0]]
    assert result.outputs["names"].tolist() == ["é"]
    assert result.parameters == {"plan": "exact", "queries": 2}
    (request,) = server.requests
    assert request["path"] == "/v2/models/m/versions/3/infer"
    assert request["json"]["outputs"] == [{"name": "logits"}]
    assert request["json"]["parameters"] == {
        "plan": "recompute:25%",
        "priority": 1,
        "binary_data_output": True,
    }
    datatypes = {
        described["name"]: described["datatype"] for described in request["json"]["inputs"]
    }
    assert datatypes == {
        "x": "FP32",
        "edge_index": "INT64",
        "edge_direction": "UINT8",
        "query_edge_index": "INT64",
    }
    assert request["inputs"]["edge_index"].tolist() == [[0, 1], [5, 7]]


@pytest.mark.parametrize(
    "edges",
    [
        [[0, 1], ["libc6", "bé"]],
        (np.array([0, 1]), np.array(["libc6", "bé"])),
        np.array([["0", "1"], ["libc6", "bé"]]),
    ],
)
def test_string_ids_travel_as_bytes(server: Server, client: Client, edges: Any) -> None:
    client.infer("m", X, edges)
    assert server.requests[0]["json"]["inputs"][1]["datatype"] == "BYTES"
    assert server.requests[0]["inputs"]["edge_index"].tolist() == [["0", "1"], ["libc6", "bé"]]


@pytest.mark.parametrize("edges", [[[], []], np.zeros((2, 0), np.int64)])
def test_queries_without_edges(server: Server, client: Client, edges: Any) -> None:
    client.infer("m", X, edges)
    assert server.requests[0]["inputs"]["edge_index"].shape == (2, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.zeros(3)}, "x must be"),
        ({"edge_index": [0, 1]}, "edge_index must be"),
        ({"edge_index": [[0, 1], [1]]}, "differ in length"),
        ({"edge_index": [[0.5], [1.0]]}, "integers or strings"),
        ({"edge_direction": [1]}, "edge_direction must be"),
        ({"query_edge_index": [0]}, "query_edge_index must be"),
    ],
)
def test_wrong_arguments_are_refused(client: Client, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        client.infer("m", **{"x": X, "edge_index": [[0, 1], [5, 7]], **changed})


def test_errors_carry_the_servers_words(server: Server, client: Client) -> None:
    body = {"error": "node 9 is unknown", "code": "unknown_node", "hint": "ids go from 0 to 8"}
    server.failure = (400, json.dumps(body).encode())
    with pytest.raises(ServerError) as caught:
        client.infer("m", X, [[0], [9]])
    error = caught.value
    assert (error.status, error.code, error.message, error.hint) == (
        400,
        "unknown_node",
        "node 9 is unknown",
        "ids go from 0 to 8",
    )
    assert "hint: ids go from 0 to 8" in str(error)


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"[]", b""])
def test_errors_of_what_stands_before_the_server(
    server: Server, client: Client, body: bytes
) -> None:
    server.failure = (502, body)
    with pytest.raises(ServerError) as caught:
        client.infer("m", X, [[0], [9]])
    assert (caught.value.status, caught.value.code, caught.value.hint) == (502, "", None)


def test_named_inputs_of_texts_pictures_and_numbers(server: Server, client: Client) -> None:
    pictures = [b"\x89PNG\x00\xff\x00", b"\x00"]
    client.infer_inputs(
        "pets",
        {"picture": pictures, "caption": ["a dog", "ein Käfer"], "age": np.float32([[1], [2]])},
        plan="image+text",
        parameters={"min_accuracy": 0.8, "deadline_ms": 20},
    )
    [sent] = server.requests
    assert sent["json"]["parameters"] == {
        "plan": "image+text",
        "min_accuracy": 0.8,
        "deadline_ms": 20,
        "binary_data_output": True,
    }
    described = {i["name"]: (i["datatype"], i["shape"]) for i in sent["json"]["inputs"]}
    assert described == {
        "picture": ("BYTES", [2]),
        "caption": ("BYTES", [2]),
        "age": ("FP32", [2, 1]),
    }
    for element in (*pictures, b"a dog", "ein Käfer".encode()):
        assert len(element).to_bytes(4, "little") + element in sent["body"]


def test_the_token_goes_with_every_request(server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    with Client(url, token="s3cret") as client:
        client.infer("m", X, [[0], [1]])
    with Client(url) as client:
        client.infer("m", X, [[0], [1]])
    assert [request["token"] for request in server.requests] == ["Bearer s3cret", None]


def test_the_connection_is_kept(server: Server, client: Client) -> None:
    for _ in range(3):
        client.infer("m", X, [[0], [1]])
    assert server.connections == 1


def test_a_connection_that_the_server_dropped_is_opened_again(
    server: Server, client: Client
) -> None:
    server.drop_after_answer = True
    for _ in range(3):
        client.infer("m", X, [[0], [1]])
    assert server.connections == 3


def test_threads_have_their_own_connections(server: Server, client: Client) -> None:
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(client.infer("m", X + i, [[0], [1]])))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.outputs["logits"][0, 0] for result in results) == [
        3.0 + 3 * i for i in range(8)
    ]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://"])
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must be"):
        Client(url)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[True, False]]),
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.array([1.5], np.float16),
        np.zeros((0, 4), np.float64),
        np.array([["", "é"], ["a" * 300, "🎈"]], object),
    ],
)
def test_tensors_survive_the_wire(array: np.ndarray) -> None:
    datatype, data = _protocol.encode_tensor(array)
    decoded = _protocol.decode_tensor(datatype, list(array.shape), data)
    assert decoded.tolist() == array.tolist()


def test_cut_off_answers_are_refused() -> None:
    described = {
        "name": "y",
        "datatype": "FP32",
        "shape": [2],
        "parameters": {"binary_data_size": 8},
    }
    header = json.dumps({"outputs": [described]}).encode()
    with pytest.raises(ValueError, match="cut off: 4 of 8"):
        _protocol.decode_response(header + b"\0" * 4, len(header))
    with pytest.raises(ValueError, match="BYTES element is cut off"):
        _protocol.decode_tensor("BYTES", [1], b"\x05\0\0\0ab")
    with pytest.raises(ValueError, match="not known"):
        _protocol.decode_tensor("BF16", [1], b"\0\0")
    with pytest.raises(TypeError, match="cannot be sent"):
        _protocol.encode_tensor(np.array([1j]))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"min_fidelty": 0.9}, "did you mean 'min_fidelity'"),
        ({"Plan": "exact"}, "did you mean 'plan'"),
        ({"": 1}, "there are deadline_ms"),
        ({"sequence_id": 1}, "no parameter"),
        ({"deadline_ms": 0}, "a number over 0"),
        ({"deadline_ms": float("nan")}, "a number over 0"),
        ({"deadline_ms": "20"}, "a number over 0"),
        ({"min_accuracy": 1.5}, "from 0 to 1"),
        ({"priority": 1.5}, "a whole number, 0 or more"),
        ({"priority": True}, "a whole number, 0 or more"),
        ({"plan": 1}, "a string"),
        ({"node_ids": ["own"]}, "'own' or 'position'"),
    ],
)
def test_a_wrong_parameter_is_not_sent(
    server: Server, client: Client, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        client.infer("m", [[1.0]], np.zeros((2, 0), np.int64), parameters=parameters)
    assert server.requests == []


def test_parameters_are_sent_as_json_has_them(server: Server, client: Client) -> None:
    given = {
        "deadline_ms": np.float32(2.5),
        "priority": np.int64(1),
        "timeout": 7.0,
        "min_accuracy": 1,
        "min_fidelity": None,
    }
    client.infer("m", [[1.0]], np.zeros((2, 0), np.int64), plan="exact", parameters=given)
    sent = server.requests[0]["json"]["parameters"]
    assert sent == {
        "deadline_ms": 2.5,
        "priority": 1,
        "timeout": 7,
        "min_accuracy": 1,
        "plan": "exact",
        "binary_data_output": True,
    }
