"""The check of tests/language.py holds for the whole code, and finds what breaks its rules."""

import pytest

from tests.language import FOLDERS, ROOT, violations


def test_code_and_readme_keep_the_rules():
    assert violations(ROOT) == []


def test_every_folder_with_code_is_checked():
    folders = {file.relative_to(ROOT).parts[0] for file in ROOT.glob("[!.]*/**/*.py")}
    assert folders - {"build", "dist"} == set(FOLDERS)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ('"""Of the pairs, the first."""', "1: docstring begins with 'Of'"),
        ('"""In a bundle."""', "1: docstring begins with 'In'"),
        ('"""As often as needed."""', "1: docstring begins with 'As'"),
        ('"""pairs of texts"""', "1: docstring begins with 'pairs'"),
        ('class Pair:\n    """of texts."""', "2: docstring begins with 'of'"),
        ('class Pair:\n    label: int\n    """\n    Of both texts.\n    """', "3: docstring begins with 'Of'"),
        ('def f():\n    """returns nothing."""', "2: docstring begins with 'returns'"),
        ('async def f():\n    """As f."""', "2: docstring begins with 'As'"),
        ('X = 1\n"""In pixels."""', "2: docstring begins with 'In'"),
        ("class Ground: ...", "1: name Ground is a private noun"),
        ("from mining import Wish as SamplingSpec", "1: name Wish is a private noun"),
        ("import room.Room", "1: name Room is a private noun"),
        ("def f(wear): ...", "1: name wear is a private noun"),
        ("f(heard=1)", "1: name heard is a private noun"),
        ("x = [y.owed for y in z]", "1: name owed is a private noun"),
        ("def write_frontier(): ...", "1: name write_frontier is a private noun"),
        ("def f():\n    global _frontier", "2: name _frontier is a private noun"),
        ("print(f'{heard}')", "1: name heard is a private noun"),
        ("x = config.average_from", "1: name average_from is a private noun"),
        ("TOKENS_A_BATCH = 1", "1: name TOKENS_A_BATCH, need _per_"),
        ("x = limits._VALUES_A_PAIR", "1: name _VALUES_A_PAIR, need _per_"),
        ("def f(seconds_a_step): ...", "1: name seconds_a_step, need _per_"),
        ("pairs_a_second = 1", "1: name pairs_a_second, need _per_"),
        ("def f():\n    found = 1", "2: variable found"),
        ("def f():\n    for i, found in []: ...", "2: variable found"),
        ("def f():\n    if (found := 1): ...", "2: variable found"),
        ("f(lambda found: 1)", "1: variable found"),
        ("class A:\n    found = 1", "2: variable found"),
        ("class A:\n    owed: int", "2: name owed is a private noun"),
        ("class A:\n    def f(self):\n        found: int = 1", "3: variable found"),
        ("def f():\n" + "    f()\n" * 60, "1: f has 61 lines, need at most 60"),
        ("\n" * 401, "1: module has 401 lines, need at most 400"),
    ],
)
def test_the_check_finds_what_is_planted(tmp_path, code, fault):
    file = tmp_path / "mining" / "deeper" / "new.py"
    file.parent.mkdir(parents=True)
    file.write_text(code)
    (line,) = violations(tmp_path)
    assert line.startswith(f"mining/deeper/new.py:{fault}")


@pytest.mark.parametrize(
    "code",
    [
        '"""Inputs of a graph."""',
        '"""Offsets; Ask, Assert."""',
        '"""`found` is code, In the middle."""',
        '"""``num``: In this form."""',
        'X = "of no docstring"',
        'f("In a call")',
        '""""""',
        "class Background: ...",
        "def swear(hears, allowed): ...",
        "PAIRS_PER_REQUEST = 1",
        "def f(seconds_per_step): ...",
        "def test_scores_of_a_pair(): ...",
        "f(founds=x.found)",
        "class FalseNegatives:\n    found: int\n    of: int = 0",
        "def f():\n" + "    f()\n" * 59,
        "\n" * 400,
    ],
)
def test_the_check_lets_good_code_pass(tmp_path, code):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "new.py").write_text(code)
    (tmp_path / "README.md").write_text("word " * 1200 + "\n" * 119)
    assert violations(tmp_path) == []


def test_violations_are_told_in_the_order_of_their_lines(tmp_path):
    (tmp_path / "simile").mkdir()
    (tmp_path / "simile" / "new.py").write_text('"""Of it."""\nfound = 1\nheard = 2\n')
    assert [line.split(": ")[0] for line in violations(tmp_path)] == [f"simile/new.py:{line}" for line in (1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "fault"), [("word " * 1201, "has 1,201 words, need at most 1,200"), ("\n" * 121, "has 121 lines")]
)
def test_readme_has_limits(tmp_path, text, fault):
    (tmp_path / "README.md").write_text(text)
    (line,) = violations(tmp_path)
    assert line.startswith(f"README.md:1: {fault}")
