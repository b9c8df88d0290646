"""Checks what the built wheel holds, and that it works from an empty folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.embedded import PRESETS
from simile import __version__

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789" * 4


def build(source, folder, **environ):
    """Build the source distribution and the wheel of a folder, with only these variables of the build set; unpack both.

    Returns:
        The folders that the two were unpacked into.
    """
    environ = {name: value for name, value in os.environ.items() if name != "SIMILE_COMMIT"} | environ
    command = [sys.executable, "-m", "hatchling", "build", "--directory", folder]
    built = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,), (sdist,) = folder.glob("simile_pairs-*.whl"), folder.glob("simile_pairs-*.tar.gz")
    shutil.unpack_archive(wheel, folder / "wheel", "zip")
    shutil.unpack_archive(sdist, folder / "sdist", "gztar", filter="data")
    return folder / "sdist" / sdist.name.removesuffix(".tar.gz"), folder / "wheel"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("distributions"), SIMILE_COMMIT=COMMIT)


@pytest.fixture(scope="module")
def wheel(distributions):
    return distributions[1]


@pytest.fixture
def simile(wheel, tmp_path):
    """Runs a command of the wheel in an empty folder."""
    empty = tmp_path / "empty"
    empty.mkdir()
    # PYTHONPATH comes before the checkout, which is installed for development.
    environ = {**os.environ, "PYTHONPATH": str(wheel)}

    def run(*argv):
        command = [sys.executable, "-m", "pipeline.cli", *map(str, argv)]
        return subprocess.run(command, cwd=empty, env=environ, capture_output=True, text=True, check=False)

    return run


def test_wheel_holds_the_packages_the_sample_the_presets_the_recipes_and_the_style(wheel):
    files = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    assert files >= {
        "pipeline/examples/helpdesk/documents.jsonl",
        "pipeline/examples/helpdesk/run.yaml",
        *(f"pipeline/examples/{name}.yaml" for name in PRESETS),
        "pipeline/examples/recipes.yaml",
        "simile/COMMIT",
        "simile/reports/style.css",
        "simile/reports/templates/blocks.html",
        "simile/reports/templates/page.html",
        "simile/reports/theme.css",
        *(
            f"serving/page/{name}"
            for name in ("index.html", "docs.html", "page.css", "page.js", "docs.js", "shared.js")
        ),
    }
    packages = {"simile", "mining", "training", "evaluation", "serving", "pipeline"}
    assert {name.partition("/")[0] for name in files} == packages | {f"simile_pairs-{__version__}.dist-info"}


def test_sample_in_the_wheel_is_the_repositorys(wheel):
    for name in ("helpdesk/documents.jsonl", "helpdesk/run.yaml", *(f"{name}.yaml" for name in PRESETS)):
        assert (wheel / "pipeline" / "examples" / name).read_bytes() == (ROOT / "examples" / name).read_bytes()


def test_presets_are_found_from_the_wheel(simile):
    done = simile("train", "minilm", "--pairs", "missing.jsonl", "--out", "bundle")
    assert (done.returncode, done.stderr) == (2, "simile: missing.jsonl: no such file\n")


def test_unknown_preset_names_those_of_the_wheel(simile):
    done = simile("train", "bert", "--pairs", "missing.jsonl", "--out", "bundle")
    assert (done.returncode, done.stderr) == (
        2,
        "simile: bert: no such config file, nor a preset (minilm, mpnet, nomic)\n",
    )


def test_recipes_are_found_from_the_wheel(simile, wheel):
    done = simile("run", "lora-32", "--set", "documents=missing.jsonl")
    assert (done.returncode, done.stderr) == (2, "simile: missing.jsonl: no such file\n")
    assert "lora-32" in simile("run", "--help").stdout


def test_sample_is_found_from_the_wheel(simile, wheel):
    done = simile("quickstart", "--set", "train.epohcs=1")
    assert done.returncode == 2
    place = wheel / "pipeline" / "examples" / "helpdesk" / "run.yaml"
    assert f"{place}: unknown key 'train.epohcs', did you mean 'train.epochs'?" in done.stderr


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


def test_distributions_know_the_commit_of_their_build(distributions):
    for distribution in distributions:
        assert (distribution / "simile" / "COMMIT").read_text().strip() == COMMIT


def test_wheel_from_the_source_distribution_has_its_commit(distributions, tmp_path):
    _, wheel = build(distributions[0], tmp_path)
    assert (wheel / "simile" / "COMMIT").read_text().strip() == COMMIT


def test_without_git_and_without_a_commit_the_distributions_are_built_without_one(distributions, tmp_path):
    source = shutil.copytree(distributions[0], tmp_path / "source")
    (source / "simile" / "COMMIT").unlink()
    for distribution in build(source, tmp_path):
        assert not (distribution / "simile" / "COMMIT").exists()
