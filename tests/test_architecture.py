"""The house of design.md: arrows run one way, torch stays in training/, the web in serving/."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = {"mining", "training", "evaluation", "serving"}
ROOMS = {"simile", *STAGES, "pipeline"}

MAY_IMPORT = {"simile": set(), "pipeline": {"simile", *STAGES}} | {stage: {"simile"} for stage in STAGES}
"""The rooms that a room may import, beside itself."""

INSIDE_SIMILE = {
    "simile.artifacts": {"simile.artifacts"},
    "simile.scoring": {"simile.artifacts", "simile.scoring"},
    "simile.reports": {"simile.reports"},
    "simile.client": {"simile.client"},
}
"""The parts of simile that a part may import; the modules beside them (errors, files, …) import none."""

ONLY_IN = {
    **dict.fromkeys(
        ["torch", "transformers", "peft", "sentence_transformers", "datasets", "accelerate"], ("training",)
    ),
    **dict.fromkeys(["fastapi", "uvicorn", "starlette"], ("serving",)),
    "prometheus_client": ("serving", "training"),
    **dict.fromkeys(["httpx2", "fsspec", "botocore"], ("simile",)),
}
"""The rooms that may import a library."""

NOT_SERVED = {"scipy", "sklearn", "pyarrow", "onnx", "httpx2", "fsspec", "botocore"}
"""Libraries that the serving extras do not bring."""
MAX_LINES = 400


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield every module of the house with its dotted name."""
    for room in sorted(ROOMS):
        for file in sorted((root / room).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.args[0] if node.args else None, ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def part_of(name: str) -> str | None:
    """The part of simile that the name lies in, or None."""
    return next((part for part in INSIDE_SIMILE if f"{name}.".startswith(f"{part}.")), None)


def fault(importer: str, imported: str) -> str | None:
    """What is wrong with an import, if anything is."""
    here, there = importer.split(".")[0], imported.split(".")[0]
    if imported.startswith("."):
        return "is relative"
    if there in ROOMS and there not in {here, *MAY_IMPORT[here]}:
        return f"breaks the arrows: {here}/ may not know {there}/"
    if here == there == "simile" and importer != "simile":
        part, other = part_of(importer), part_of(imported)
        if other and other not in INSIDE_SIMILE.get(part, set()):
            return f"breaks the arrows: {part or 'the ground floor of simile'} may not know {other}"
    if here not in ONLY_IN.get(there, (here,)):
        return f"belongs into {' or '.join(f'{room}/' for room in ONLY_IN[there])}"
    return None


def violations(root: Path) -> list[str]:
    """Return every broken rule under the root, with its place."""
    found = []
    for name, file in modules(root):
        where = file.relative_to(root).as_posix()
        for line, imported in imports(file):
            if wrong := fault(name, imported):
                found.append(f"{where}:{line}: import of {imported} {wrong}")
        if (num := len(file.read_text().splitlines())) > MAX_LINES:
            found.append(f"{where}: has {num} lines, more than {MAX_LINES}")
    return found


def test_the_house_is_as_it_is_drawn():
    assert violations(ROOT) == []


def test_every_room_is_in_the_wheel_and_nothing_else_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == ROOMS


def test_every_room_and_every_part_of_simile_is_looked_at():
    names = [name for name, _ in modules(ROOT)]
    assert {name.split(".")[0] for name in names} == ROOMS
    assert {part_of(name) for name in names} == {None, *INSIDE_SIMILE}


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("simile/files.py", "import mining.mine", "simile/ may not know mining/"),
        ("simile/scoring/lexical.py", "from pipeline import cli", "simile/ may not know pipeline/"),
        ("mining/mine.py", "from evaluation.evaluate import evaluate", "mining/ may not know evaluation/"),
        ("evaluation/report.py", "from training import config", "evaluation/ may not know training/"),
        ("serving/app.py", "import mining", "serving/ may not know mining/"),
        ("serving/app.py", "import httpx2", "belongs into simile/"),
        ("training/train.py", "import pipeline.run", "training/ may not know pipeline/"),
        ("simile/artifacts/pairs.py", "from simile.scoring import load", "artifacts may not know simile.scoring"),
        ("simile/artifacts/pairs.py", "from simile import reports", "artifacts may not know simile.reports"),
        ("simile/scoring/scorer.py", "import simile.reports.page", "scoring may not know simile.reports"),
        ("simile/reports/page.py", "from simile.artifacts import Pair", "reports may not know simile.artifacts"),
        ("simile/reports/page.py", "import simile.scoring", "reports may not know simile.scoring"),
        ("simile/client/remote.py", "from simile.scoring import Scorer", "client may not know simile.scoring"),
        ("simile/errors.py", "from simile.artifacts.pairs import Pair", "ground floor of simile may not know"),
        ("simile/scoring/encoder.py", "import torch", "belongs into training/"),
        ("pipeline/run.py", "from transformers import AutoModel", "belongs into training/"),
        ("mining/mine.py", "def f():\n    import sentence_transformers.util", "belongs into training/"),
        ("serving/engine.py", "import importlib\nimportlib.import_module('torch.nn')", "belongs into training/"),
        ("evaluation/evaluate.py", "from datasets import Dataset", "belongs into training/"),
        ("training/train.py", "from peft import PeftModel\nimport fastapi", "belongs into serving/"),
        ("pipeline/commands/run.py", "import uvicorn", "belongs into serving/"),
        ("simile/progress.py", "from starlette.types import Scope", "belongs into serving/"),
        ("mining/report/figures.py", "import prometheus_client", "belongs into serving/ or training/"),
        ("mining/mine.py", "from . import config", "is relative"),
        ("serving/app.py", "\n" * 400, "more than 400"),
    ],
)
def test_the_check_finds_what_is_planted(tmp_path, file, line, expected):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{(ROOT / file).read_text()}\n{line}\n")
    (found,) = violations(tmp_path)
    assert found.startswith(file)
    assert expected in found


def test_the_check_finds_what_is_planted_in_a_new_module(tmp_path):
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "serving" / "deeper").mkdir()
    (tmp_path / "serving" / "deeper" / "new.py").write_text("import torch\n")
    assert violations(tmp_path) == ["serving/deeper/new.py:1: import of torch belongs into training/"]


def loaded(*arguments: str) -> set[str]:
    """Run Python and return the names of the modules that it loads."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_import_simile_loads_nothing_heavy():
    names = loaded("-c", "import simile")
    assert "simile" in names
    assert not names & {"numpy", "torch", "transformers", "onnxruntime", "pydantic", "httpx2"}


def test_help_loads_neither_torch_nor_onnx_runtime():
    names = loaded("-m", "pipeline.cli", "--help")
    assert "simile.errors" in names
    assert not names & {"torch", "transformers", "onnxruntime", "sklearn"}


def test_what_serves_loads_nothing_that_the_serving_image_lacks():
    names = loaded("-c", "import pipeline.commands.serve, pipeline.usage, serving.server")
    assert {"onnxruntime", "fastapi", "simile.scoring.scorer"} <= names
    assert not names & {"torch", "transformers", *NOT_SERVED}


def test_mining_evaluating_and_joining_load_no_torch():
    names = loaded("-c", "import mining.report.figures, evaluation.report, pipeline.run, pipeline.join")
    assert {"sklearn", "onnxruntime"} <= names
    assert not names & {"torch", "transformers", "fastapi"}
