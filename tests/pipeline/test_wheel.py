"""What the built wheel holds, and that it works from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.embedded import PRESETS, recipes
from simile import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, unpacked. Building it fetches hatchling from the package index where it is not installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", folder, ROOT]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Could not find a version that satisfies the requirement hatchling" in built.stderr:
        pytest.skip("building needs hatchling, which no package index here has")
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def simile(wheel, tmp_path):
    """Runs a command of the wheel's own code in an empty folder."""
    empty = tmp_path / "empty"
    empty.mkdir()
    # The package is installed for development here as well: what is on PYTHONPATH comes before that.
    environ = {**os.environ, "PYTHONPATH": str(wheel)}

    def run(*argv):
        command = [sys.executable, "-m", "pipeline.cli", *map(str, argv)]
        return subprocess.run(command, cwd=empty, env=environ, capture_output=True, text=True, check=False)

    return run


def test_wheel_holds_the_rooms_the_sample_the_presets_the_recipes_and_the_style(wheel):
    files = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    assert files >= {
        "pipeline/examples/helpdesk/documents.jsonl",
        "pipeline/examples/helpdesk/run.yaml",
        *(f"pipeline/examples/{name}.yaml" for name in PRESETS),
        *(f"pipeline/examples/recipes/{name}.yaml" for name in recipes()),
        "simile/reports/style.css",
        "simile/reports/templates/blocks.html",
        "simile/reports/templates/page.html",
        "simile/reports/theme.css",
        *(
            f"serving/page/{name}"
            for name in ("index.html", "docs.html", "page.css", "page.js", "docs.js", "shared.js")
        ),
    }
    rooms = {"simile", "mining", "training", "evaluation", "serving", "pipeline"}
    assert {name.partition("/")[0] for name in files} == rooms | {f"simile-{__version__}.dist-info"}


def test_sample_in_the_wheel_is_the_repositorys(wheel):
    for name in ("helpdesk/documents.jsonl", "helpdesk/run.yaml", *(f"{name}.yaml" for name in PRESETS)):
        assert (wheel / "pipeline" / "examples" / name).read_bytes() == (ROOT / "examples" / name).read_bytes()


def test_presets_are_found_from_the_wheel(simile):
    found = simile("train", "minilm", "--pairs", "missing.jsonl", "--out", "bundle")
    assert (found.returncode, found.stderr) == (2, "simile: missing.jsonl: no such file\n")


def test_unknown_preset_names_those_of_the_wheel(simile):
    found = simile("train", "bert", "--pairs", "missing.jsonl", "--out", "bundle")
    assert (found.returncode, found.stderr) == (
        2,
        "simile: bert: no such config file, nor a preset (minilm, mpnet, nomic)\n",
    )


def test_recipes_are_found_from_the_wheel(simile, wheel):
    found = simile("run", "lora-32", "--set", "documents=missing.jsonl")
    assert (found.returncode, found.stderr) == (2, "simile: missing.jsonl: no such file\n")
    assert "lora-32" in simile("run", "--help").stdout


def test_sample_is_found_from_the_wheel(simile, wheel):
    found = simile("quickstart", "--set", "train.epohcs=1")
    assert found.returncode == 2
    place = wheel / "pipeline" / "examples" / "helpdesk" / "run.yaml"
    assert f"{place}: unknown key 'train.epohcs', did you mean 'train.epochs'?" in found.stderr


def test_bundle_is_made_and_inspected_by_the_wheel(simile, wheel):
    documents = wheel / "pipeline" / "examples" / "helpdesk" / "documents.jsonl"
    made = simile("baseline", f"lexical:{documents}", "--out", "words")
    assert made.returncode == 0, made.stderr
    described = simile("inspect", "words")
    assert described.returncode == 0, described.stderr
    assert described.stdout.startswith(made.stdout.strip())


def test_console_script_is_the_command_line(wheel):
    (entry_points,) = wheel.glob("*.dist-info/entry_points.txt")
    assert "simile = pipeline.cli:main" in entry_points.read_text()
