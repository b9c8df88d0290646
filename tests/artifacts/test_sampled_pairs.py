"""Sampled pairs: what is written is read, and a pair in several rows stands for all of them."""

import json

import pytest

from simile.artifacts import SampledPair, read_sampled_pairs
from simile.artifacts.sampled_pairs import write_sampled_pairs
from simile.errors import InputError

PAIRS = (
    SampledPair("no signal", "no bars", 0.5, None, "0.50 to 0.55", 0.25),
    SampledPair("a «quoted» text", "die Wörter", None, 0.125),
)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_written_pairs_are_read_as_they_were(tmp_path, suffix):
    path = tmp_path / f"sample.{suffix}"
    write_sampled_pairs(path, PAIRS)
    assert read_sampled_pairs(path) == PAIRS


def test_pair_in_several_rows_has_the_sum_of_their_weights_and_the_last_score(tmp_path):
    rows = [
        {"text_a": "a", "text_b": "b", "bundle_score": 0.1, "inclusion_probability": 0.1},
        {"text_a": "c", "text_b": "b", "bundle_score": 0.3, "inclusion_probability": 0.5},
        {"text_a": "a", "text_b": "b", "bundle_score": 0.2, "inclusion_probability": 0.4},
        {"text_a": "a", "text_b": "b", "bundle_score": 0.2},
    ]
    path = tmp_path / "sample.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    first, second = read_sampled_pairs(path)
    assert 1 / first.inclusion_probability == pytest.approx(1 / 0.1 + 1 / 0.4 + 1)
    assert first.bundle_score == 0.2
    assert second.inclusion_probability == 0.5


def test_hashes_of_texts_are_refused_in_one_line(tmp_path):
    path = tmp_path / "sample.jsonl"
    path.write_text('{"text_a_sha256": "00", "text_b_sha256": "11", "bundle_score": 0.5}\n')
    with pytest.raises(InputError, match=r"sample.jsonl:1: got hashes of texts .* cannot be labelled$"):
        read_sampled_pairs(path)
