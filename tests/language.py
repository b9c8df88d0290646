"""Check the rules of language and size over the whole code: ``python -m tests.language`` prints what breaks them.

CONTRIBUTING.md explains the rules to people; here they are for `make lint`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("simile", "mining", "training", "evaluation", "labelling", "serving", "pipeline")
FOLDERS = (*PACKAGES, "benchmarks", "docs", "k8s", "tests")

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 400
"""Limit for a module of the packages and benchmarks; a test module is as long as its subject needs."""
MAX_README_LINES, MAX_README_WORDS = 120, 1200

_BAD_START = re.compile(r"(?:Of|In|As)\b|[a-z]")
"""Words that make a docstring a fragment, and any lower-case letter."""
_PRIVATE_NOUN = re.compile(
    r"(?:^|.*_)(?:Ground|Wish|Room|wear|heard|owed|KindSource|settle_kinds|frontier|StepMean|average_from)(?:_.*|$)"
)
_ARTICLE_FOR_PER = re.compile(
    r"[A-Z0-9_]+_A_[A-Z0-9_]+|[a-z0-9_]+_a_(?:step|core|pair|run|part|batch|second|worker|file)s?"
)
_FOUND = "variable found, need a name that says the quantity"
_NAME_FIELDS = ("name", "asname", "id", "attr", "arg", "rest")
"""Fields of syntax nodes that hold a name."""


def violations(root: Path) -> list[str]:
    """Return every broken rule under the root, as ``file:line: reason``."""
    broken = [
        fault for folder in FOLDERS for file in sorted((root / folder).rglob("*.py")) for fault in _of(file, root)
    ]
    readme = root / "README.md"
    if readme.exists():
        text = readme.read_text()
        if (num_lines := len(text.splitlines())) > MAX_README_LINES:
            broken.append(f"README.md:1: has {num_lines} lines, need at most {MAX_README_LINES}")
        if (num_words := len(text.split())) > MAX_README_WORDS:
            broken.append(f"README.md:1: has {num_words:,} words, need at most {MAX_README_WORDS:,}")
    return broken


def _of(file: Path, root: Path) -> Iterator[str]:
    """Yield the broken rules of one module in the order of their lines."""
    where, text = file.relative_to(root).as_posix(), file.read_text()
    num_lines = len(text.splitlines())
    if num_lines > MAX_MODULE_LINES and not where.startswith(("docs/", "tests/")):
        yield f"{where}:1: module has {num_lines} lines, need at most {MAX_MODULE_LINES}"
    nodes = [node for node in ast.walk(ast.parse(text)) if hasattr(node, "lineno")]
    fields = {id(field) for node in nodes if isinstance(node, ast.ClassDef) for field in _fields(node)}
    faults = {
        (node.lineno, fault) for node in nodes for fault in _faults(node) if fault != _FOUND or id(node) not in fields
    }
    yield from (f"{where}:{line}: {fault}" for line, fault in sorted(faults))


def _fields(node: ast.ClassDef) -> Iterator[ast.expr]:
    """Yield the annotated fields of a class: in a model they are keys of JSON, which keep their names."""
    yield from (statement.target for statement in node.body if isinstance(statement, ast.AnnAssign))


def _faults(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Expr(value=ast.Constant(value=str(docstring))) if _BAD_START.match(docstring.lstrip()):
            yield f"docstring begins with {docstring.split()[0]!r}, need a verb or the name of the thing"
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if (num_lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES:
                yield f"{node.name} has {num_lines} lines, need at most {MAX_FUNCTION_LINES}"
        case ast.Name(id="found", ctx=ast.Store()) | ast.arg(arg="found"):
            yield _FOUND
    for name in _names(node):
        if _PRIVATE_NOUN.fullmatch(name):
            yield f"name {name} is a private noun, need the field's term"
        # The name of a test is a sentence, in which "a" is an article.
        if _ARTICLE_FOR_PER.fullmatch(name) and not name.startswith("test_"):
            yield f"name {name}, need _per_ in the place of _a_"


def _names(node: ast.AST) -> Iterator[str]:
    values = [getattr(node, field, None) for field in _NAME_FIELDS]
    if isinstance(node, ast.Global | ast.Nonlocal):
        values += node.names
    yield from (part for value in values if isinstance(value, str) for part in value.split("."))


def main() -> int:
    """Print what breaks the rules; return 1 if anything does."""
    broken = violations(ROOT)
    print("".join(f"{line}\n" for line in broken), end="")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
