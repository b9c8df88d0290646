from collections import Counter

from training.general import general_clusters, general_pairs


def test_general_sentences_are_many_and_each_is_there_once():
    clusters = general_clusters()
    texts = [text.casefold() for cluster in clusters for text in cluster]
    assert {len(cluster) for cluster in clusters} == {5}
    assert len(texts) == len(set(texts)) >= 1500
    assert all(text == text.strip() for text in texts)


def test_general_pairs_are_of_one_group_where_they_are_positive_and_none_is_there_twice():
    rows = general_pairs(10_000, 0)
    assert len(rows) == 5891
    assert all((row.group_a == row.group_b) == (row.label == 1) for row in rows)
    assert len({frozenset((row.text_a, row.text_b)) for row in rows}) == len(rows)
    assert len({group for row in rows for group in (row.group_a, row.group_b)}) == 354
    assert 0.45 < sum(row.label for row in rows) / len(rows) < 0.55


def test_the_same_seed_gives_the_same_general_pairs_and_another_gives_others():
    assert general_pairs(100, 1) == general_pairs(100, 1)
    first, second = (Counter(row.text_a for row in general_pairs(2500, seed)) for seed in (1, 2))
    assert first != second
