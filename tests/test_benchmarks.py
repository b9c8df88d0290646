import importlib.util
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent.parent / "benchmarks" / "harness.py"


@pytest.fixture
def parser(monkeypatch):
    """The benchmarks' parser, in an environment with this SIMILE_DATA."""
    spec = importlib.util.spec_from_file_location("common", HARNESS)
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)

    def made(data):
        monkeypatch.setenv("SIMILE_DATA", data)
        return common.parser_of(None, ["clinc150"])

    return made


def test_corpora_lie_where_the_option_or_the_environment_says(parser):
    assert parser("corpora").parse_args([]).data == Path("corpora")
    assert parser("corpora").parse_args(["--data", "others"]).data == Path("others")


def test_corpora_lie_nowhere_by_default(parser, capsys):
    with pytest.raises(SystemExit):
        parser("").parse_args([])
    assert "the following arguments are required: --data" in capsys.readouterr().err
