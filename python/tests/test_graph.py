import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from satisfice import ExportError, export_graph, write_queries

EDGES = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
X = np.arange(9, dtype=np.float32).reshape(3, 3)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "numpy") as file:
        return file.metadata()


def test_graph_has_the_tensors_and_metadata_of_the_format(tmp_path: Path) -> None:
    path = export_graph(
        tmp_path / "new" / "graph.safetensors",
        EDGES,
        X,
        y=[0, -1, 1],
        ids=["a", "bé", "c"],
        class_names=["libs", "doc"],
        undirected=True,
    )
    tensors = load_file(path)
    assert metadata(path) == {
        "format": "satisfice-graph-1",
        "undirected": "true",
        "class_names": json.dumps(["libs", "doc"]),
    }
    assert tensors["edge_index"].dtype == np.int32
    assert tensors["edge_index"].tolist() == EDGES.tolist()
    assert tensors["x"].dtype == np.float32
    assert tensors["y"].dtype == np.int64
    assert tensors["id_offsets"].tolist() == [0, 1, 4, 5]
    assert bytes(tensors["id_bytes"]) == "abéc".encode()


def test_integer_ids_and_half_features(tmp_path: Path) -> None:
    path = export_graph(tmp_path / "g.safetensors", EDGES, X.astype(np.float16), ids=[10, -5, 7])
    tensors = load_file(path)
    assert tensors["ids"].tolist() == [10, -5, 7]
    assert tensors["x"].dtype == np.float16
    assert metadata(path)["undirected"] == "false"


def test_weights_go_with_their_edges(tmp_path: Path) -> None:
    edges, weights = [[0, 1, 2], [1, 0, 2]], np.array([[0.5], [0.5], [-2]])
    path = export_graph(tmp_path / "g.safetensors", edges, X, undirected=True, edge_weight=weights)
    tensors = load_file(path)
    assert tensors["edge_weight"].dtype == np.float32
    assert tensors["edge_weight"].tolist() == [0.5, 0.5, -2]
    assert tensors["edge_index"].tolist() == edges


def test_a_graph_without_edges_is_written(tmp_path: Path) -> None:
    path = export_graph(tmp_path / "g.safetensors", np.zeros((2, 0), np.int64), X, undirected=True)
    assert load_file(path)["edge_index"].shape == (2, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"edge_index": [[0, 3], [1, 0]]},
            r"edge_index\[0, 1\] is 3, but positions go from 0 to 2",
        ),
        ({"edge_index": [[0, 1], [-1, 0]]}, r"edge_index\[1, 0\] is -1"),
        ({"edge_index": [[0.5], [1.0]]}, "must be integers"),
        ({"edge_index": [[0, 1, 2]]}, r"must be \[2, edges\]"),
        ({"x": np.array([[1.0], [np.nan], [0.0]])}, r"x\[1, 0\] is nan"),
        ({"x": np.full((3, 1), 1e6), "feature_dtype": "float16"}, "not a finite float16"),
        ({"x": np.zeros(3)}, r"x must be \[rows, features\]"),
        ({"feature_dtype": "int8"}, "feature_dtype"),
        ({"y": [0, 1]}, "one class a row"),
        ({"y": [0, 1, -2]}, "-1 means unknown"),
        ({"y": [0, 1, 2], "class_names": ["a", "b"]}, "class 2, but there are 2 class_names"),
        ({"ids": ["a", "b", "a"]}, "ids repeat"),
        ({"ids": ["a", "b"]}, "2 ids for 3 rows"),
        ({"ids": [1, 2, 1]}, "ids repeat"),
        ({"edge_index": [[0, 0, 1, 1], [1, 1, 0, 0]], "undirected": True}, "2 edges stand twice"),
        ({"edge_index": [[0, 1], [1, 2]], "undirected": True}, "2 edges lack their reverse"),
        (
            {"edge_index": [[0, 1, 2], [1, 0, 2]], "undirected": True, "edge_weight": [1, 2, 3]},
            "from 1 to 0 has the weight 2.0, and its reverse 1.0",
        ),
        ({"edge_index": [[0], [1]], "edge_weight": [[1, 2]]}, r"one number an edge, \[1\]"),
        ({"edge_index": [[0], [1]], "edge_weight": ["a"]}, "edge_weight must be numbers"),
        ({"edge_index": [[0], [1]], "edge_weight": [np.nan]}, r"edge_weight\[0\] is nan"),
        ({"edge_index": [[0], [1]], "edge_weight": [1e39]}, r"edge_weight\[0\] is 1e\+39"),
    ],
)
def test_bad_graphs_are_refused(tmp_path: Path, changed: dict, message: str) -> None:
    arguments = {"edge_index": EDGES, "x": X, **changed}
    with pytest.raises(ExportError, match=message):
        export_graph(tmp_path / "g.safetensors", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_self_loop_is_its_own_reverse(tmp_path: Path) -> None:
    export_graph(tmp_path / "g.safetensors", [[0, 1, 2], [1, 0, 2]], X, undirected=True)


def test_existing_files_are_kept_unless_told(tmp_path: Path) -> None:
    path = export_graph(tmp_path / "g.safetensors", EDGES, X)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_graph(path, EDGES, X)
    export_graph(path, EDGES, X + 1, overwrite=True)
    assert load_file(path)["x"][0, 0] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["g.safetensors"]


def test_queries_have_the_tensors_of_the_format(tmp_path: Path) -> None:
    path = write_queries(
        tmp_path / "q.safetensors",
        X[:2],
        [[0, 1, 1], [2, 0, 1]],
        stored_nodes=3,
        edge_direction=[0, 1, 2],
        query_edge_index=[[0], [1]],
        y=[1, -1],
        names=["p", "q"],
    )
    tensors = load_file(path)
    assert metadata(path) == {"format": "satisfice-queries-1"}
    assert tensors["edge_direction"].dtype == np.uint8
    assert tensors["query_edge_index"].tolist() == [[0], [1]]
    assert tensors["id_offsets"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"edge_index": [[2], [0]]}, r"edge_index\[0, 0\] is 2"),
        ({"edge_index": [[0], [3]]}, r"edge_index\[1, 0\] is 3"),
        ({"edge_direction": [0, 1]}, r"edge_direction must be \[1\]"),
        ({"edge_direction": [3]}, "0 \\(both\\)"),
        ({"query_edge_index": [[0], [2]]}, "query_edge_index"),
    ],
)
def test_bad_queries_are_refused(tmp_path: Path, changed: dict, message: str) -> None:
    arguments = {"x": X[:2], "edge_index": [[0], [1]], "stored_nodes": 3, **changed}
    with pytest.raises(ExportError, match=message):
        write_queries(tmp_path / "q.safetensors", **arguments)
