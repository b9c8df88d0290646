import json
import os
import random
import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.corpus.duplicates import NEAR, first_of_each
from simile.artifacts import text_key

NUM_SHINGLES = 100


def shingles(text: str) -> set[str]:
    key = text_key(text)
    return {key[i : i + 4] for i in range(len(key) - 3)} or {key}


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def similarity(a: str, b: str) -> float:
    return jaccard(shingles(a), shingles(b))


def brute_force(texts: list[str]) -> list[int]:
    """Compare each text with every kept one."""
    sets = [shingles(text) for text in texts]
    kept: list[int] = []
    first = []
    for i, own in enumerate(sets):
        first.append(next((j for j in kept if jaccard(own, sets[j]) >= NEAR), i))
        if first[i] == i:
            kept.append(i)
    return first


def any_text() -> str:
    """Return a text of 100 different shingles."""
    text = "".join(random.Random(0).choices(string.ascii_lowercase, k=NUM_SHINGLES + 3))
    assert len(shingles(text)) == NUM_SHINGLES
    return text


def with_new_end(text: str, num: int) -> str:
    """Return the text with its last shingles replaced."""
    return text[: len(text) - num] + string.digits[:num]


def with_new_start(text: str, num: int) -> str:
    """Return the text with its first shingles replaced."""
    return string.digits[:num] + text[num:]


@given(st.lists(st.text("ab cé中", max_size=14) | st.sampled_from(["", "a", "abc", "abcd"]), max_size=30))
def test_every_text_left_out_is_similar_to_an_earlier_kept_one(texts):
    first = first_of_each(texts).tolist()
    assert len(first) == len(texts)
    for i, j in enumerate(first):
        assert j <= i
        assert first[j] == j
        assert similarity(texts[i], texts[j]) >= NEAR


@given(st.lists(st.sampled_from(["ant", "Ant", " ant\n", "bee", "bee  bee", "BEE bee", ""]), max_size=12))
def test_texts_of_equal_key_repeat_the_first_of_them(texts):
    keys = [text_key(text) for text in texts]
    assert first_of_each(texts).tolist() == [keys.index(key) for key in keys]


def test_near_repeats_are_those_of_brute_force(helpdesk):
    rng = random.Random(0)
    rows = [row.text for row in helpdesk]
    texts = []
    for _ in range(100):
        words = " ".join(rng.sample(rows, 3)).split()
        texts.append(" ".join(words))
        for _ in range(3):
            words[rng.randrange(len(words))] = rng.choice(["printer", "a", "password", "unclear"])
            texts.append(" ".join(words))
    rng.shuffle(texts)
    expected = brute_force(texts)
    assert 50 < sum(i != j for i, j in enumerate(expected)) < 300
    assert first_of_each(texts).tolist() == expected


def test_texts_without_near_repeats_are_all_kept(helpdesk):
    texts = [row.text for row in helpdesk][:400]
    assert brute_force(texts) == list(range(len(texts)))
    assert first_of_each(texts).tolist() == list(range(len(texts)))


@pytest.mark.parametrize(("num", "first"), [(8, 0), (9, 1)])
def test_texts_are_near_repeats_from_the_limit_on(num, first):
    text = any_text()
    texts = [text, with_new_end(text, num)]
    assert similarity(*texts) == (NUM_SHINGLES - num) / (NUM_SHINGLES + num)
    assert first_of_each(texts).tolist() == [0, first]


def test_a_text_similar_only_to_one_that_was_left_out_is_kept():
    text = any_text()
    nearer = with_new_end(text, 6)
    texts = [text, nearer, with_new_start(nearer, 6)]
    assert similarity(texts[1], texts[2]) >= NEAR > similarity(texts[0], texts[2])
    assert first_of_each(texts).tolist() == [0, 0, 2]


def test_a_text_similar_to_two_kept_ones_repeats_the_earlier():
    text = any_text()
    ends = [with_new_end(text, 6), with_new_start(text, 6)]
    assert similarity(*ends) < NEAR
    assert first_of_each(["other", *ends, text]).tolist() == [0, 1, 2, 1]
    assert first_of_each(["other", *ends[::-1], text]).tolist() == [0, 1, 2, 1]


def test_many_near_repeats_of_one_text_are_left_out():
    text = " ".join([any_text()] * 2)
    assert first_of_each([f"{text} {i}" for i in range(1000)]).tolist() == [0] * 1000


def test_another_process_gives_the_same_result():
    texts = [f"parcel {i * i} has left our house and will reach you by the end of the week" for i in range(300)]
    code = f"from mining.corpus.duplicates import first_of_each; print(first_of_each({texts}).tolist())"
    env = {**os.environ, "PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, text=True)
    first = first_of_each(texts).tolist()
    assert 10 < len(set(first)) < 290
    assert json.loads(run.stdout) == first


def test_fixed_texts_are_kept_and_compared_with_too():
    a = "the quick brown fox jumps over the lazy dog by the old mill"
    b, document = f"{a} one", f"{a} one and all t"
    assert first_of_each([a, b, document]).tolist() == [0, 0, 2]
    assert first_of_each([a, b, document], num_fixed=2).tolist() == [0, 1, 1]
