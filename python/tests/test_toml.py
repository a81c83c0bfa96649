import tomllib

import pytest

from satisfice import _toml


def test_what_is_written_reads_back_the_same() -> None:
    document = {
        "text": 'quote " backslash \\ newline \n delete \x7f é 🎈',
        "yes": True,
        "count": -3,
        "small": 1e-05,
        "whole": 2.0,
        "empty": [],
        "ops": [{"op": "linear", "in": 3}, {"op": "relu"}],
        "layers": [{"type": "gcn", "after": [{"op": "elu", "alpha": 1.5}]}, {"type": "sage"}],
        "jumping_knowledge": {"mode": "cat"},
    }
    text = _toml.dumps(document, headed=("layers", "jumping_knowledge"))
    assert tomllib.loads(text) == document
    assert "[[layers]]" in text
    assert "[jumping_knowledge]" in text
    assert 'ops = [{ op = "linear", in = 3 }, { op = "relu" }]' in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, object()])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        _toml.dumps({"value": value})
