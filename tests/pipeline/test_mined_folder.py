"""A folder of mined pairs stands for its dev or test sets on the command line."""

import pytest

from pipeline.cli import main
from pipeline.columns import with_mined_sets


@pytest.fixture
def mined(tmp_path):
    for name in ("pairs", "dev-unseen", "test-seen", "test-unseen"):
        (tmp_path / f"{name}.jsonl").write_text("")
    return tmp_path


def test_folder_stands_for_those_sets_of_the_part_that_it_has(mined):
    assert with_mined_sets([str(mined), "own=own.jsonl"], "dev") == [str(mined / "dev-unseen.jsonl"), "own=own.jsonl"]
    tests = [str(mined / f"test-{name}.jsonl") for name in ("seen", "unseen")]
    assert with_mined_sets([str(mined)], "test") == tests


def test_other_folders_stay(tmp_path):
    assert with_mined_sets([str(tmp_path), "missing.jsonl"], "dev") == [str(tmp_path), "missing.jsonl"]


def test_evaluation_of_a_folder_without_test_sets_says_how_to_make_them(mined, tiny, capsys):
    for path in mined.glob("test-*"):
        path.unlink()
    assert main(["evaluate", str(tiny.path), str(mined)]) == 2
    assert f"{mined}: holds no test set, need one (simile mine --test-share 0.2)" in capsys.readouterr().err
