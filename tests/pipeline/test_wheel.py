"""Checks what the built wheel holds, and that it works from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.presets import PRESETS
from serving.page import PATHS
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


PROGRAM = """
import contextlib, io, json, sys
from pipeline.cli import main
done = {}
for line in sys.argv[1:]:
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(line.split())
    done[line] = code, out.getvalue(), error.getvalue()
print(json.dumps(done))
"""


@pytest.fixture(scope="module")
def simile(wheel, tmp_path_factory):
    """Runs command lines of the wheel in an empty folder, one after the other in one process.

    Returns exit code, stdout and stderr of each.
    """
    # PYTHONPATH comes before the checkout, which is installed for development.
    environ = {**os.environ, "PYTHONPATH": str(wheel)}

    def run(*lines):
        command, empty = [sys.executable, "-c", PROGRAM, *lines], tmp_path_factory.mktemp("empty")
        done = subprocess.run(command, cwd=empty, env=environ, capture_output=True, text=True, check=True)
        return [tuple(said) for said in json.loads(done.stdout).values()]

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
        *(f"serving/page/{name}" for name in ("index.html", "docs.html")),
        *(f"serving/page{path}" for path in PATHS if "." in path),
        *(f"labelling/page/{name}" for name in ("index.html", "page.css", "page.js", "guidelines.js")),
    }
    packages = {"simile", "mining", "training", "evaluation", "labelling", "serving", "pipeline"}
    assert {name.partition("/")[0] for name in files} == packages | {f"simile_pairs-{__version__}.dist-info"}


def test_sample_in_the_wheel_is_the_repositorys(wheel):
    for name in ("helpdesk/documents.jsonl", "helpdesk/run.yaml", *(f"{name}.yaml" for name in PRESETS)):
        assert (wheel / "pipeline" / "examples" / name).read_bytes() == (ROOT / "examples" / name).read_bytes()


def test_presets_recipes_and_sample_are_found_from_the_wheel(simile, wheel):
    preset, unknown, recipe, help_of_run, sample = simile(
        "train minilm --pairs missing.jsonl --out bundle",
        "train bert --pairs missing.jsonl --out bundle",
        "run lora-32 --set documents=missing.jsonl",
        "run --help",
        "quickstart --set train.epohcs=1",
    )
    missing = "simile: missing.jsonl: no such file\n"
    assert preset == recipe == (2, "", missing)
    assert unknown == (2, "", f"simile: bert: no such config file, nor a preset ({', '.join(PRESETS)})\n")
    assert "lora-32" in help_of_run[1]
    place = wheel / "pipeline" / "examples" / "helpdesk" / "run.yaml"
    assert sample[0] == 2
    assert f"{place}: unknown key 'train.epohcs', did you mean 'train.epochs'?" in sample[2]


def test_bundle_is_made_and_inspected_by_the_wheel(simile, wheel):
    documents = wheel / "pipeline" / "examples" / "helpdesk" / "documents.jsonl"
    made, described = simile(f"baseline lexical:{documents} --out words", "inspect words")
    assert (made[0], described[0]) == (0, 0), made[2] + described[2]
    assert described[1].startswith(made[1].strip())


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
