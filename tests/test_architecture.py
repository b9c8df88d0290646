"""The layers of docs/architecture.md: imports run one way, torch stays in training/, the web in two stages."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = {"mining", "training", "evaluation", "labelling", "serving"}
PACKAGES = {"simile", *STAGES, "pipeline"}

MAY_IMPORT = {"simile": set(), "pipeline": {"simile", *STAGES}} | {stage: {"simile"} for stage in STAGES}
"""Packages that a package may import besides itself."""

INSIDE_SIMILE = {
    "simile.artifacts": {"simile.artifacts"},
    "simile.scoring": {"simile.artifacts", "simile.scoring"},
    "simile.bulk": {"simile.artifacts", "simile.scoring", "simile.bulk"},
    "simile.reports": {"simile.reports"},
    "simile.client": {"simile.client"},
}
"""Parts of simile that a part may import; the top-level modules (errors, files, …) import none."""

ONLY_IN = {
    **dict.fromkeys(
        ["torch", "transformers", "peft", "sentence_transformers", "datasets", "accelerate"], ("training",)
    ),
    **dict.fromkeys(["fastapi", "uvicorn", "starlette"], ("serving", "labelling")),
    "prometheus_client": ("serving", "simile", "training"),
    **dict.fromkeys(["httpx2", "fsspec", "botocore", "model_signing", "oras", "requests"], ("simile",)),
    "ray": ("pipeline",),
}
"""Packages that may import a library."""

NOT_SERVED = {
    *("scipy", "sklearn", "pyarrow", "onnx", "httpx2", "fsspec", "botocore", "matplotlib", "jinja2"),
    *("model_signing", "sigstore", "oras", "requests"),
}
"""Libraries that the serving extras do not install."""
MAX_LINES = 400


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield every module of the packages with its dotted name."""
    for package in sorted(PACKAGES):
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import in a module, including those in functions."""
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
    """Return the part of simile that has the name, or None."""
    return next((part for part in INSIDE_SIMILE if f"{name}.".startswith(f"{part}.")), None)


def fault(importer: str, imported: str) -> str | None:
    """Return what is wrong with an import, or None."""
    here, there = importer.split(".")[0], imported.split(".")[0]
    if imported.startswith("."):
        return "is relative"
    if there in PACKAGES and there not in {here, *MAY_IMPORT[here]}:
        return f"is against the layers: {here}/ may not import {there}/"
    if here == there == "simile" and importer != "simile":
        part, other = part_of(importer), part_of(imported)
        if other and other not in INSIDE_SIMILE.get(part, set()):
            return f"is against the layers: {part or 'a top-level module of simile'} may not import {other}"
    if here not in ONLY_IN.get(there, (here,)):
        return f"belongs into {' or '.join(f'{package}/' for package in ONLY_IN[there])}"
    return None


def violations(root: Path) -> list[str]:
    """Return every violation under the root as ``file:line: reason``."""
    broken = []
    for name, file in modules(root):
        where = file.relative_to(root).as_posix()
        for line, imported in imports(file):
            if wrong := fault(name, imported):
                broken.append(f"{where}:{line}: import of {imported} {wrong}")
        if (num := len(file.read_text().splitlines())) > MAX_LINES:
            broken.append(f"{where}: has {num} lines, more than {MAX_LINES}")
    return broken


def test_imports_follow_the_layers():
    assert violations(ROOT) == []


def test_the_wheel_has_all_packages_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES


def test_every_package_and_every_part_of_simile_is_checked():
    names = [name for name, _ in modules(ROOT)]
    assert {name.split(".")[0] for name in names} == PACKAGES
    assert {part_of(name) for name in names} == {None, *INSIDE_SIMILE}


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("simile/files.py", "import mining.mine", "simile/ may not import mining/"),
        ("simile/scoring/lexical.py", "from pipeline import cli", "simile/ may not import pipeline/"),
        ("mining/mine.py", "from evaluation.evaluate import evaluate", "mining/ may not import evaluation/"),
        ("evaluation/report.py", "from training import config", "evaluation/ may not import training/"),
        ("serving/app.py", "import mining", "serving/ may not import mining/"),
        ("serving/app.py", "import httpx2", "belongs into simile/"),
        ("training/train.py", "import pipeline.run", "training/ may not import pipeline/"),
        ("simile/artifacts/pairs.py", "from simile.scoring import load", "artifacts may not import simile.scoring"),
        ("simile/artifacts/pairs.py", "from simile import reports", "artifacts may not import simile.reports"),
        ("simile/scoring/scorer.py", "import simile.reports.page", "scoring may not import simile.reports"),
        ("simile/reports/page.py", "from simile.artifacts import Pair", "reports may not import simile.artifacts"),
        ("simile/reports/page.py", "import simile.scoring", "reports may not import simile.scoring"),
        ("simile/client/remote.py", "from simile.scoring import Scorer", "client may not import simile.scoring"),
        ("simile/errors.py", "from simile.artifacts.pairs import Pair", "top-level module of simile may not import"),
        ("simile/scoring/encoder.py", "import torch", "belongs into training/"),
        ("pipeline/run.py", "from transformers import AutoModel", "belongs into training/"),
        ("mining/mine.py", "def f():\n    import sentence_transformers.util", "belongs into training/"),
        ("serving/engine.py", "import importlib\nimportlib.import_module('torch.nn')", "belongs into training/"),
        ("evaluation/evaluate.py", "from datasets import Dataset", "belongs into training/"),
        ("training/train.py", "from peft import PeftModel\nimport fastapi", "belongs into serving/"),
        ("pipeline/commands/run.py", "import uvicorn", "belongs into serving/"),
        ("simile/progress.py", "from starlette.types import Scope", "belongs into serving/"),
        ("mining/report/figures.py", "import prometheus_client", "belongs into serving/ or simile/ or training/"),
        ("mining/mine.py", "from . import config", "is relative"),
        ("serving/app.py", "\n" * 400, "more than 400"),
    ],
)
def test_the_check_finds_what_is_planted(tmp_path, file, line, expected):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{(ROOT / file).read_text()}\n{line}\n")
    (violation,) = violations(tmp_path)
    assert violation.startswith(file)
    assert expected in violation


def test_the_check_finds_what_is_planted_in_a_new_module(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "serving" / "deeper").mkdir()
    (tmp_path / "serving" / "deeper" / "new.py").write_text("import torch\n")
    assert violations(tmp_path) == ["serving/deeper/new.py:1: import of torch belongs into training/"]


def loaded(*arguments: str) -> set[str]:
    """Run Python with the arguments and return the names of the modules that it loads."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_import_simile_loads_nothing_heavy():
    names = loaded("-c", "import simile")
    assert "simile" in names
    assert not names & {"numpy", "torch", "transformers", "onnxruntime", "pydantic", "httpx2", "rich"}


def test_help_loads_neither_torch_nor_onnx_runtime():
    names = loaded("-m", "pipeline.cli", "--help")
    assert "simile.errors" in names
    assert not names & {"torch", "transformers", "onnxruntime", "sklearn", "rich"}


def test_what_serves_loads_nothing_that_the_serving_image_lacks():
    names = loaded("-c", "import pipeline.commands.serve, pipeline.usage, serving.server")
    assert {"onnxruntime", "fastapi", "simile.scoring.scorer"} <= names
    assert not names & {"torch", "transformers", "rich", *NOT_SERVED}


def test_bulk_work_loads_nothing_that_the_serving_image_with_its_extra_lacks():
    names = loaded("-c", "import pipeline.commands.score, pipeline.commands.embed, pipeline.engines.local")
    assert {"onnxruntime", "pyarrow.parquet", "simile.bulk.worker"} <= names
    assert not names & {"torch", "transformers", *NOT_SERVED - {"pyarrow"}}


def test_mining_evaluating_and_joining_load_no_torch():
    names = loaded(
        "-c", "import mining.report.figures, evaluation.report, pipeline.run, mining.mine, training.decision"
    )
    assert {"sklearn", "onnxruntime"} <= names
    assert not names & {"torch", "transformers", "fastapi"}
