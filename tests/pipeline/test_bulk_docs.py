"""The commands of docs/bulk.md and docs/scale.md, run as they are written."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.bulk import is_bulk
from pipeline.cli import main
from tests.command_lines import read_options
from tests.pipeline.bulk_inputs import parts, read, rows, write_folder, write_jsonl, write_parquet

ROOT = Path(__file__).parents[2]
BULK, SCALE = ((ROOT / "docs" / name).read_text() for name in ("bulk.md", "scale.md"))
SIMULATION = "python benchmarks/scale_simulation.py"
SIZING = "python benchmarks/sizing.py"


def commands(page):
    """Return the commands of the page's blocks, each in one line; some blocks list files."""
    blocks = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [line for line in lines if not line.startswith("scored/")]


RUN = [command for command in commands(BULK) if "--engine ray" not in command]
BY_RAY = [command for command in commands(BULK) if "--engine ray" in command]


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """The current folder, with all that the commands read."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.path, "tuned")
    write_folder(Path("pairs"), 50)
    Path("texts").mkdir()
    write_jsonl(Path("texts/a.jsonl"), [{"text": row["text_a"]} for row in rows(50)])
    write_parquet(Path("pairs.parquet"), rows(50))
    for day in ("monday", "tuesday"):
        Path("data", day).mkdir(parents=True)
        write_parquet(Path("data", day, "part-0.parquet"), rows(50))
    return tmp_path


def test_every_command_of_the_pages_is_followed():
    assert (len(RUN), len(BY_RAY)) == (4, 1)
    assert all(command.startswith("simile ") for command in RUN + BY_RAY)
    assert commands(SCALE) == [SIMULATION]


def test_commands_run_as_written(folder):
    for command in RUN:
        assert main(shlex.split(command)[1:]) == 0, command
    assert len(read(folder / "scored")) == 150
    assert len(read(folder / "vectors")) == 50
    # Two shares of the parts are the same parts.
    assert parts(folder / "shared") == parts(folder / "scored")


def test_command_for_ray_is_one_that_it_takes():
    """It needs a cluster with GPUs; tests/pipeline/engines/test_ray.py runs the engine."""
    for command in BY_RAY:
        options = read_options(shlex.split(command)[1:])
        assert is_bulk(options.pairs, options.out)
        assert options.num_gpus == 1


def test_extras_that_the_page_names_are_there():
    extras = set(re.findall(r"simile-pairs\[(\w+)\]|extra `(\w+)`", BULK))
    named = {one or other for one, other in extras}
    assert named
    assert named <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_addresses_of_the_table_are_read(folder, bucket):
    table = BULK.partition("| `--pairs`, `--texts` |")[2].partition("\n\n")[0]
    addresses = [shlex.split(cell)[0] for row in table.splitlines()[2:] for cell in re.findall("`([^`]+)`", row)]
    addresses = [address for address in addresses if "/" in address or address.endswith(".parquet")]
    assert [address for address in addresses if address.startswith("s3://")] == [
        "s3://bucket/pairs",
        "s3://bucket/*/pairs.jsonl",
    ]
    bucket.upload_file("pairs/a.jsonl", "pairs/a.jsonl")
    bucket.upload_file("pairs/a.jsonl", "monday/pairs.jsonl")
    assert len(addresses) == 5
    for number, address in enumerate(addresses):
        there = address.replace("s3://bucket/", f"s3://{bucket.name}/")
        assert main(["score", "tuned", "--pairs", there, "--out", f"out-{number}/"]) == 0, address
        assert read(folder / f"out-{number}")


@pytest.mark.slow
@pytest.mark.parametrize(("command", "page"), [(SIMULATION, "scale.md"), (SIZING, "deployment.md")])
def test_figures_of_the_page_are_those_that_its_command_prints(command, page, tmp_path):
    assert command in (ROOT / "docs" / page).read_text()
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("work", "results"))
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / page, tmp_path / "docs")
    argv = [sys.executable, *shlex.split(command)[1:]]
    subprocess.run(argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "docs" / page).read_text() == (ROOT / "docs" / page).read_text()
