"""Each option is declared once: command line, environment, YAML and documents all read the one field."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.reference import TABLES, with_tables
from pipeline.cli import main
from pipeline.commands import SUMMARIES, module_of
from serving.settings import ENVIRONMENT_ONLY, Settings
from tests.command_lines import read_options

ROOT = Path(__file__).parents[2]
PACKAGES = ("simile", "mining", "training", "evaluation", "serving", "pipeline", "examples")
DUMMY = '''    dummy: Annotated[int, Field(ge=3)] = 5
    """Number that a test declares."""

'''
DECLARED_BEFORE = {
    "mining/config.py": "    @model_validator",
    "training/config.py": "    @property\n    def prompts",
    "serving/settings.py": "    @classmethod\n    def resolve",
    "pipeline/commands/score.py": "def run(",
}
"""Where the dummy goes: the last field of each model."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the code whose models have one field more, and no other change."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, place in DECLARED_BEFORE.items():
        source = (folder / name).read_text()
        assert source.count(place) == 1
        dummy = DUMMY.rstrip("\n") + "\n\n\n" if place == "def run(" else DUMMY
        source = source.replace("from typing", "from pydantic import Field\nfrom typing", 1)
        before, _, after = source.partition(place)
        (folder / name).write_text(f"{before.rstrip()}\n{dummy}{place}{after}")
    (folder / "docs").mkdir()
    for name in ("reference.py", *TABLES):
        shutil.copy(ROOT / "docs" / name, folder / "docs")
    return folder


def python(folder, *argv, **environ):
    return subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["mine", "serve", "score"])
def test_new_field_is_an_option_with_help_and_default(checkout, command):
    done = python(checkout, "-m", "pipeline.cli", command, "--help")
    (line,) = [line for line in done.stdout.splitlines() if "--dummy" in line]
    assert "Number that a test declares." in line
    assert "[default: 5]" in line
    assert ("SIMILE_DUMMY" in line) == (command == "serve")


@pytest.mark.parametrize("argv", [["mine", "x", "--out", "y"], ["serve", "x"], ["score", "x", "a", "b"]])
def test_new_option_is_checked(checkout, argv):
    done = python(checkout, "-m", "pipeline.cli", *argv, "--dummy", "2")
    assert done.returncode == 2
    assert "--dummy: got '2', need greater than or equal to 3" in done.stderr


def test_new_setting_of_the_service_is_read_from_the_environment(checkout):
    code = "import os; from serving.settings import Settings; print(Settings.resolve({}, os.environ).dummy)"
    assert python(checkout, "-c", code, SIMILE_DUMMY="7").stdout == "7\n"
    done = python(checkout, "-m", "pipeline.cli", "serve", "x", SIMILE_DUMMY="2")
    assert "SIMILE_DUMMY: got '2', need greater than or equal to 3" in done.stderr


def test_new_key_is_read_from_yaml_and_overrides(checkout):
    run = "documents: x\nmine: {test_share: 0.2, dummy: 6}\ntrain: {base: x, dummy: 7}\n"
    (checkout / "run.yaml").write_text(run)
    code = (
        "from pathlib import Path; from pipeline.run_config import read_run_config as read; "
        "one = read(Path('run.yaml')); other = read(Path('run.yaml'), ['mine.dummy=8', 'train.dummy=9']); "
        "print(one.mine.dummy, one.train[0].dummy, other.mine.dummy, other.train[0].dummy)"
    )
    assert python(checkout, "-c", code).stdout == "6 7 8 9\n"


def test_new_field_is_in_the_tables_of_the_documents(checkout):
    assert python(checkout, "-m", "docs.reference").returncode == 0
    cli, settings = ((checkout / "docs" / name).read_text() for name in ("cli.md", "settings.md"))
    assert cli.count("| `--dummy INT` | `5` | Number that a test declares. |") == 2
    assert "| `--dummy DUMMY` | `5` | `SIMILE_DUMMY` | Number that a test declares. |" in cli
    for key in ("mine.dummy", "dummy", "SIMILE_DUMMY"):
        assert f"| `{key}` | integer | `5` | Number that a test declares. |" in settings


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_the_documents_are_those_of_the_code(name):
    page = (ROOT / "docs" / name).read_text()
    assert page == with_tables(page, TABLES[name]()), "run python -m docs.reference"


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_option_has_help(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*command.split(), "--help"]) == 0
    model = sys.modules[module_of(command)].Options
    assert all(field.description for field in model.model_fields.values())
    assert capsys.readouterr().out.startswith(f"Usage: simile {command} ")


def test_secrets_are_no_options_of_the_command_line(capsys):
    assert {"api_keys"} == ENVIRONMENT_ONLY
    assert main(["serve", "x", "--api-keys", "a-key-of-the-test"]) == 2
    error = capsys.readouterr().err
    assert "unknown option --api-keys" in error
    assert "a-key-of-the-test" not in error
    assert set(Settings.model_fields) - set(read_options(["serve", "x"]).model_dump()) == ENVIRONMENT_ONLY


def test_values_are_taken_as_they_are():
    texts = ("-5 degrees, outside", "[1] and {2}")
    options = read_options(["score", "bundle", *texts, "--device=cpu"])
    assert (options.texts, options.device) == (texts, "cpu")
    assert read_options(["score", "bundle", "--", "-x", "--y"]).texts == ("-x", "--y")
    changes = ["epochs=[1,-1]", "loss={ranking: 1, cosent: 0.3}"]
    argv = ["train", "minilm", "--pairs", "a,b.csv", "--pairs", "c.csv", "--out", "x"]
    options = read_options([*argv, "--set", changes[0], "--set", changes[1]])
    assert [*options.set] == changes
    assert options.pairs == (Path("a,b.csv"), Path("c.csv"))


def test_options_may_have_two_values_or_several():
    options = read_options(["mine", "x", "--band", "0.1", "0.5", "--out", "y"])
    assert (options.band, options.model_fields_set) == ((0.1, 0.5), {"documents", "band", "out"})
    options = read_options(["baseline", "x", "--out", "y", "--matryoshka", "64", "128", "--prompt", "- x"])
    assert (options.matryoshka, options.prompt) == ((64, 128), "- x")


def test_help_of_all_commands_imports_none_of_them():
    code = (
        "import sys; from pipeline.cli import main; main(['--help']); "
        "print([name for name in sys.modules if name.startswith('pipeline.commands.') or name in "
        "('cyclopts', 'pydantic', 'numpy')])"
    )
    done = python(ROOT, "-c", code)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {command} " in done.stdout for command in SUMMARIES)
