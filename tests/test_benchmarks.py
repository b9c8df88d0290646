import importlib.util
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent.parent / "benchmarks" / "harness.py"


@pytest.fixture
def parser(monkeypatch):
    """Returns the parser of the benchmarks with SIMILE_DATA set to the given value."""
    spec = importlib.util.spec_from_file_location("harness", HARNESS)
    harness = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(harness)

    def made(data):
        monkeypatch.setenv("SIMILE_DATA", data)
        return harness.parser_of(None, ["clinc150"])

    return made


def test_corpora_lie_where_the_option_or_the_environment_says(parser):
    assert parser("corpora").parse_args([]).data == Path("corpora")
    assert parser("corpora").parse_args(["--data", "others"]).data == Path("others")


def test_corpora_lie_nowhere_by_default(parser, capsys):
    with pytest.raises(SystemExit):
        parser("").parse_args([])
    assert "the following arguments are required: --data" in capsys.readouterr().err
