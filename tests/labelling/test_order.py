"""The order of pairs: a random part that is everybody's, then what the scores make worth a label."""

import random
from itertools import pairwise

import pytest

from labelling.answers import Answer
from labelling.order import audit_order, labelling_order, require_same_random_part
from labelling.present import PresentLabel, read_present_labels
from simile.artifacts.sampled_pairs import SampledPair, read_sampled_pairs
from simile.errors import InputError

NUM = 60


def pairs(*, with_bundle=True, with_baseline=True):
    draw = random.Random(0)
    return [
        SampledPair(
            f"first {i}",
            f"second {i}",
            bundle_score=draw.random() if with_bundle else None,
            baseline_score=draw.random() if with_baseline else None,
        )
        for i in range(NUM)
    ]


def part(tasks, name):
    return [task.pair for task in tasks if task.part == name]


def rank(pairs, one, name):
    return sum(getattr(other, name) < getattr(one, name) for other in pairs)


def test_random_part_is_the_same_for_every_order_of_the_file_and_for_all_scores():
    shuffled = pairs()
    random.Random(1).shuffle(shuffled)
    both = (labelling_order(some, num_random=20, threshold=0.5) for some in (pairs(), shuffled))
    first, second = (part(tasks, "random") for tasks in both)
    assert first == second
    unscored = labelling_order(pairs(with_bundle=False, with_baseline=False))
    assert [pair.key for pair in part(unscored, "random")][:20] == [pair.key for pair in first]


def test_random_part_is_in_no_order_of_the_file():
    positions = [int(task.pair.text_a.split()[1]) for task in labelling_order(pairs(with_bundle=False))]
    assert sorted(positions) == list(range(NUM))
    assert abs(sum(positions[: NUM // 2]) / (NUM // 2) - (NUM - 1) / 2) < 10
    assert sum(b > a for a, b in pairwise(positions)) in range(NUM // 3, 2 * NUM // 3)


def test_larger_random_part_begins_with_the_smaller_one():
    small, large = (part(labelling_order(pairs(), num_random=num), "random") for num in (10, 30))
    assert large[:10] == small


def test_disagreement_is_the_difference_of_ranks_among_all_pairs():
    scored = pairs()
    tasks = labelling_order(scored, num_random=20, threshold=0.5)
    chosen = part(tasks, "disagreement")
    rest = [pair for pair in scored if pair not in part(tasks, "random")]
    gaps = {p.key: abs(rank(scored, p, "bundle_score") - rank(scored, p, "baseline_score")) for p in rest}
    assert [gaps[pair.key] for pair in chosen] == sorted(gaps.values(), reverse=True)[: (NUM - 20) // 2]


def test_last_pairs_are_those_nearest_to_the_threshold_first():
    tasks = labelling_order(pairs(), num_random=20, threshold=0.7)
    distances = [abs(pair.bundle_score - 0.7) for pair in part(tasks, "threshold")]
    assert len(distances) == (NUM - 20) // 2
    assert distances == sorted(distances)
    assert [task.part for task in tasks] == ["random"] * 20 + ["disagreement"] * 20 + ["threshold"] * 20


@pytest.mark.parametrize(
    ("have", "threshold", "parts"),
    [
        ({}, None, {"random": 30, "disagreement": 30}),
        ({"with_baseline": False}, 0.5, {"random": 30, "threshold": 30}),
        ({"with_baseline": False}, None, {"random": 60}),
        ({"with_bundle": False}, 0.5, {"random": 60}),
    ],
)
def test_parts_are_those_that_the_scores_allow(have, threshold, parts):
    tasks = labelling_order(pairs(**have), threshold=threshold)
    assert {name: len(part(tasks, name)) for name in parts} == parts
    assert len({task.pair.key for task in tasks}) == NUM


def test_size_of_the_random_part_is_refused_where_nothing_orders_the_others():
    with pytest.raises(InputError, match="got --random, and nothing"):
        labelling_order(pairs(with_baseline=False), num_random=10)


def test_random_part_must_not_gain_pairs_that_were_chosen_by_score():
    scored = pairs()
    before, after = (labelling_order(scored, num_random=num) for num in (10, NUM))
    task = next(task for task in before if task.part == "disagreement")
    answer = Answer(
        pair=task.pair.key,
        text_a="a",
        text_b="b",
        answer="same",
        annotator="ada",
        time="2026-01-01T00:00:00Z",
        part=task.part,
    )
    require_same_random_part(before, [answer])
    with pytest.raises(InputError, match="got 1 answers to pairs that were chosen by score"):
        require_same_random_part(after, [answer])


def test_labelled_pairs_keep_the_order_of_their_file(tmp_path):
    path = tmp_path / "suspects.csv"
    path.write_text("text_a,text_b,label,reason\nz,y,1,scored 0.1\na,b,0,\n")
    tasks = audit_order(read_sampled_pairs(path), read_present_labels(path))
    assert [(task.pair.text_a, task.present, task.part) for task in tasks] == [
        ("z", PresentLabel(1, "scored 0.1"), "audit"),
        ("a", PresentLabel(0, ""), "audit"),
    ]


def test_pairs_without_labels_have_none(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("sentence1,sentence2,label\nz,y,\n")
    assert read_present_labels(path) == {}


def test_label_that_is_none_is_refused_with_its_line(tmp_path):
    path = tmp_path / "suspects.csv"
    path.write_text("text_a,text_b,label\nz,y,2\n")
    with pytest.raises(InputError, match=r"suspects.csv:2: got label '2', need 0 or 1"):
        read_present_labels(path)
