from hypothesis import given
from hypothesis import strategies as st

from simile.scoring import length_sorted_batches
from simile.scoring.encoder import BATCH_TEXTS, BATCH_TOKENS

some_lengths = st.lists(st.integers(1, 6000) | st.integers(1, 80), max_size=300)


@given(some_lengths)
def test_every_text_is_in_exactly_one_batch(lengths):
    batches = list(length_sorted_batches(lengths))
    assert all(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


@given(some_lengths)
def test_batches_keep_their_limits_but_a_text_alone_always_fits(lengths):
    for batch in length_sorted_batches(lengths):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) <= BATCH_TEXTS
        assert padded <= BATCH_TOKENS or len(batch) == 1


@given(some_lengths)
def test_texts_come_longest_first_and_equals_in_their_order(lengths):
    order = [index for batch in length_sorted_batches(lengths) for index in batch]
    assert order == sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


@given(some_lengths)
def test_a_batch_ends_only_where_the_next_text_would_not_fit(lengths):
    batches = list(length_sorted_batches(lengths))
    for batch in batches[:-1]:
        assert len(batch) == BATCH_TEXTS or (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS


def test_no_texts_are_no_batches():
    assert list(length_sorted_batches([])) == []
