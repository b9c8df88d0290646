from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.corpus.gather import Corpus, gather
from mining.corpus.meaning import Links, Meaning, known_pairs, with_meaning
from mining.corpus.sketch import Sampling
from simile.artifacts import Document, Pair, PairSet
from simile.errors import InputError


def corpus_of(*documents) -> Corpus:
    """Return the corpus of documents given as (text, category, group)."""
    return gather([Document(str(i), *document) for i, document in enumerate(documents)], Sampling(100, 0))


def texts_of(meaning: Meaning) -> list[str]:
    return [row.text for row in meaning.rows]


def groups_of(meaning: Meaning) -> set[frozenset[str]]:
    """Return the set of texts of each group."""
    groups: dict[str | None, set[str]] = {}
    for row in meaning.rows:
        groups.setdefault(row.group, set()).add(row.text)
    return {frozenset(texts) for texts in groups.values()}


def pair_set(*rows: Pair) -> PairSet:
    return PairSet("known", rows, "0" * 64)


# Links


def test_links_are_recognized_regardless_of_case_and_white_space():
    links = Links((("An ant", "a BEE"), ("cat", "dog")))
    index_L2 = links.among(["dog", "  an\tANT ", "fox", "a bee", "CAT"])
    assert {frozenset(pair) for pair in index_L2.tolist()} == {frozenset({1, 3}), frozenset({0, 4})}
    assert index_L2.dtype == np.int64


def test_a_link_to_a_text_that_is_not_given_is_left_out():
    assert Links((("ant", "bee"), ("bee", "cat"))).among(["bee", "dog"]).shape == (0, 2)


def test_a_text_is_not_linked_to_itself():
    assert Links((("ant", "ANT"), ("bee", "bee"))).among(["ant", "bee"]).shape == (0, 2)


def test_a_link_given_twice_counts_once():
    assert Links((("ant", "bee"), ("Ant", "bee "))).among(["ant", "bee"]).tolist() == [[0, 1]]


def test_keys_are_those_of_all_linked_texts():
    assert Links((("An  ant", "BEE"), ("bee", "cat"))).keys == {"an ant", "bee", "cat"}


# Known pairs


def test_pairs_with_label_1_are_known_positives():
    links = known_pairs(pair_set(Pair("a", "b", 1), Pair("c", "d", 0), Pair("e", "f", 1)))
    assert links.pairs == (("a", "b"), ("e", "f"))


def test_pairs_without_labels_are_all_known_positives():
    assert known_pairs(pair_set(Pair("a", "b"), Pair("c", "d"))).pairs == (("a", "b"), ("c", "d"))


def test_negative_pairs_alone_are_refused():
    with pytest.raises(InputError, match="positives known: got negative pairs only"):
        known_pairs(pair_set(Pair("a", "b", 0)))


def test_graded_pairs_are_refused():
    with pytest.raises(InputError, match="positives known: got graded scores"):
        known_pairs(pair_set(Pair("a", "b", score=4.5), Pair("c", "d", score=1.0)))


def test_of_equal_texts_the_first_is_linked():
    assert Links((("ant", "bee"),)).among(["ant", "bee", "ANT", "Bee "]).tolist() == [[0, 1]]


# Sources of meaning


def test_groups_take_precedence_over_categories():
    corpus = corpus_of(("one ant", "x", "g1"), ("two ants", "x", None), ("three", None, "g2"))
    meaning = with_meaning(corpus, None)
    assert meaning.source == "groups"
    assert texts_of(meaning) == ["one ant", "three"]
    assert meaning.num_without == 1


def test_categories_replace_groups_where_there_are_none():
    corpus = corpus_of(("one ant", "x"), ("two ants", None), ("three", "y"), ("four", "x"))
    meaning = with_meaning(corpus, None)
    assert meaning.source == "categories"
    assert [(row.text, row.group, row.category) for row in meaning.rows] == [
        ("one ant", "x", "x"),
        ("three", "y", "y"),
        ("four", "x", "x"),
    ]
    assert meaning.num_without == 1


def test_no_document_is_left_out_if_all_have_a_group():
    assert with_meaning(corpus_of(("one", None, "g"), ("two", None, "g")), None).num_without == 0


def test_neither_groups_nor_categories_are_refused():
    with pytest.raises(InputError, match="got documents without 'group' and without 'category'"):
        with_meaning(corpus_of(("one ant",), ("two ants",)), None)


def test_known_pairs_take_precedence_over_groups():
    rows = [("one ant", "x", "g1"), ("two ants", "x", "g1"), ("three", None, None), ("four", "x", "g2")]
    corpus = replace(corpus_of(*rows), rows=tuple(Document(str(i), *row) for i, row in enumerate(rows)))
    links = Links((("three", "one ant"),))
    meaning = with_meaning(corpus, links)
    assert (meaning.source, meaning.links, meaning.num_without) == ("pairs", links, 0)
    # Two documents of one group are not linked, but they form no negative pair either.
    assert groups_of(meaning) == {frozenset({"three", "one ant", "two ants"}), frozenset({"four"})}


def test_linked_documents_come_first_and_linked_texts_that_are_no_document_are_added():
    corpus = corpus_of(("a dog", "y"), ("An ant", "x"))
    meaning = with_meaning(corpus, Links((("a bee", "an  ANT"), ("a cat", "a bee"))))
    assert texts_of(meaning) == ["An ant", "a bee", "a cat", "a dog"]
    assert [row.category for row in meaning.rows] == ["x", None, None, "y"]
    assert len({row.id for row in meaning.rows}) == 4


def test_a_document_without_a_group_is_connected_with_the_group_of_an_equal_text():
    corpus = corpus_of(("one ant", "x", None), ("two ants", "x", "g1"), ("One Ant", "x", "g1"), ("bee", "x", None))
    rows = tuple(
        Document(str(i), text, "x", group)
        for i, (text, group) in enumerate([("one ant", None), ("two ants", "g1"), ("One Ant", "g1"), ("bee", None)])
    )
    meaning = with_meaning(replace(corpus, rows=rows), Links((("bee", "cat"),)))
    assert frozenset({"one ant", "two ants", "One Ant"}) in groups_of(meaning)


def test_contradictory_groups_are_named_by_their_components():
    rows = [("one ant", "x", "g1"), ("One Ant", "x", "g2"), ("bee", "x", "g2"), ("fox", "x", "g3")]
    meaning = with_meaning(corpus_of(*rows), Links((("fox", "gnu"),)))
    name = {row.text: row.group for row in meaning.rows}
    assert [set(names) for names in meaning.contradictory] == [{name["one ant"], name["bee"]}]
    assert with_meaning(corpus_of(*rows), None).contradictory == (("g1", "g2"),)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=15), st.permutations(range(10)))
def test_groups_are_the_connected_components(pairs, order):
    links = Links(tuple((f"text {a}", f"Text {b}") for a, b in pairs))
    meaning = with_meaning(corpus_of(*((f"text {i}",) for i in order)), links)
    # Merge until nothing changes; a linked text that is no document counts as one.
    component = {i: i for i in [*order, *(i for pair in pairs for i in pair)]}
    for _ in component:
        for a, b in pairs:
            component[a] = component[b] = min(component[a], component[b])
    groups = [{f"text {i}" for i in component if component[i] == of} for of in component.values()]
    assert {frozenset(text.lower() for text in of) for of in groups_of(meaning)} == set(map(frozenset, groups))
