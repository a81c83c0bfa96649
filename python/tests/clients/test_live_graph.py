"""Writes to a graph by our own client, against the real server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from server import SMALL_MODEL, SMALL_MODEL_FEATURES, make_small_model, serve

from satisfice import Client, ServerError


def test_writes_are_answered_from(tmp_path: Path) -> None:
    make_small_model(tmp_path)
    with serve(tmp_path, "--live") as (url, _), Client(url) as client:
        before = client.graph("graph")
        assert (before["version"], before["models"]) == (0, [SMALL_MODEL])
        new = before["nodes"]
        x = np.ones((1, SMALL_MODEL_FEATURES), np.float32)
        asked = {"model": SMALL_MODEL, "x": x, "edge_index": [[0], [0]], "plan": "exact"}
        first = client.infer(**asked)
        assert first.parameters["version"] == 0
        applied = client.apply(
            "graph", nodes=[new], x=5 * x, edges=[[new, new], [0, 1]], request_id="one"
        )
        assert (applied.version, applied.nodes_added, applied.edges_added) == (1, 1, 4)
        second = client.infer(**asked, parameters={"min_version": applied.version})
        assert second.parameters["version"] == 1
        assert np.abs(second.outputs["logits"] - first.outputs["logits"]).max() > 1e-3
        again = client.apply(
            "graph", nodes=[new], x=5 * x, edges=[[new, new], [0, 1]], request_id="one"
        )
        assert (again.version, again.repeated) == (1, True)
        deleted = client.apply("graph", delete_nodes=[new], ack="visible", if_version=1)
        assert (deleted.nodes_deleted, deleted.edges_deleted) == (1, 4)
        third = client.infer(**asked)
        np.testing.assert_allclose(
            third.outputs["logits"], first.outputs["logits"], rtol=0, atol=1e-5
        )
        with pytest.raises(ServerError, match="version 2") as refused:
            client.apply("graph", delete_edges=[[0], [1]], if_version=1)
        assert refused.value.code == "version_moved"
        with pytest.raises(ValueError, match="nodes must be"):
            client.apply("graph", nodes=[[0]])
        assert client.graph("graph")["version"] == 2
