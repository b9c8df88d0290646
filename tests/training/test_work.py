from pathlib import Path

import pytest

from training.work import Work


@pytest.mark.parametrize(
    ("out", "run"),
    [("runs/first/bundle", "first"), ("runs/first/members/0", "first"), ("tuned", "tuned"), ("models/tuned", "tuned")],
)
def test_work_knows_the_run_by_its_folder(out, run):
    assert Work(Path(out)).run == run
    assert Work(Path(out), part="part-1").run == run
