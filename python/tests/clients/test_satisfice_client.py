"""The project's own client against the real server."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import Debian
from satisfice import Client, ServerError

PLANS = {"exact": "exact", "pe": "pe", "recompute_25": "recompute:25%"}


@pytest.mark.parametrize("model", ["gcn2", "sage2"])
@pytest.mark.parametrize("plan", PLANS)
def test_answers_equal_pytorch_geometric(debian: Debian, model: str, plan: str) -> None:
    batch = debian.batch
    with Client(debian.url) as client:
        result = client.infer(
            model,
            batch.x,
            [batch.edge_query, batch.edge_name],
            query_edge_index=batch.query_edge_index,
            plan=PLANS[plan],
        )
    wanted = debian.reference[f"{model}_{plan}_256"]
    assert np.abs(result.outputs["logits"] - wanted).max() < 1e-3
    assert result.parameters["plan"] == PLANS[plan]
    if plan == "recompute_25":
        assert result.parameters["recomputed_nodes"] == len(debian.reference["recompute_ids_256"])


def test_health_and_metadata(debian: Debian) -> None:
    with Client(debian.url) as client:
        assert client.live()
        assert client.ready()
        metadata = client.metadata("gcn2")
    assert metadata["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 128]}


def test_refusals_are_typed(debian: Debian) -> None:
    x = debian.batch.x[:1]
    with Client(debian.url) as client:
        with pytest.raises(ServerError) as refusal:
            client.infer("gcn2", x, [[0], ["no-such-package"]])
        assert (refusal.value.status, refusal.value.code) == (400, "unknown_node")
        with pytest.raises(ServerError) as refusal:
            client.infer("nobody", x, [[0], ["libc6"]])
        assert refusal.value.status == 404
