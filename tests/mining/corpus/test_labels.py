from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.corpus.gather import Corpus, gather
from mining.corpus.sketch import Sampling
from simile.artifacts import Document, group_key, text_key

some_documents = st.lists(
    st.tuples(
        st.sampled_from(["Ant bee", "ant  BEE", "cat", "caf\u00e9", "cafe\u0301", "dog"]),
        st.sampled_from([*"abc", "A ", None]),
    )
)


def corpus_of(*documents: tuple[str, str | None], as_category: bool = False) -> Corpus:
    """Return the corpus of documents given as (text, group)."""
    kind = "category" if as_category else "group"
    rows = [Document(str(i), text, **{kind: name}) for i, (text, name) in enumerate(documents)]
    return gather(rows, Sampling(1000, 0))


@given(some_documents)
def test_contradictions_are_the_texts_of_several_groups(table):
    table = [("first", "x"), *table]
    groups_of_text = defaultdict(set)
    for text, name in table:
        if name is not None:
            groups_of_text[text_key(text)].add(group_key(name))
    several = [groups for groups in groups_of_text.values() if len(groups) > 1]
    contradictions = corpus_of(*table).contradictions
    assert contradictions.num_texts == len(several)
    assert {frozenset(map(group_key, names)) for names in contradictions.groups} == set(map(frozenset, several))


def test_contradiction_is_named_by_two_groups_and_not_by_its_text():
    corpus = corpus_of(("my secret", "a"), ("card", "b"), ("My  Secret", "b"), ("pin", "c"), ("pin", "c"))
    assert corpus.notes == (
        "1 texts are in two groups or more, for example in 'a' and 'b': "
        "no negative pair is made of two groups that share a text",
    )


def test_contradictions_of_documents_outside_the_sample_are_found():
    rows = [Document(f"{g}-{i}", f"word{g} item{i}", None, f"g{g}") for g in range(60) for i in range(40)]
    corpus = gather([*rows, Document("x", rows[0].text, None, "g1")], Sampling(100, 0))
    assert len(corpus.rows) <= 100
    assert (corpus.contradictions.num_texts, corpus.contradictions.groups) == (1, (("g0", "g1"),))


def test_where_no_document_has_a_group_categories_contradict_each_other():
    corpus = corpus_of(("card", "a"), ("card", "b"), as_category=True)
    assert corpus.contradictions.groups == (("a", "b"),)
    assert "1 texts are in two categories or more" in corpus.notes[0]


def test_spellings_of_a_group_are_joined_and_noted():
    corpus = corpus_of(("ant bee", "Caf\u00e9"), ("cat dog", "cafe\u0301 "), ("elk fox", "b"), ("gnu", "b"))
    assert [row.group for row in corpus.rows] == ["Caf\u00e9", "Caf\u00e9", "b", "b"]
    assert corpus.notes[0].startswith("1 spellings of a group differ")


def test_spellings_of_a_category_are_joined_and_noted():
    corpus = corpus_of(("ant bee", "17"), ("cat dog", "17.0"), as_category=True)
    assert [row.category for row in corpus.rows] == ["17", "17"]
    assert corpus.notes[0].startswith("1 spellings of a category differ")


def test_missing_groups_are_counted_as_missing():
    corpus = corpus_of(("ant bee", "nan"), ("cat dog", "a"), ("elk fox", "b"))
    assert corpus.num_without_group == 1
    assert [row.group for row in corpus.rows] == ["a", "b"]


@pytest.mark.parametrize(("num", "has_note"), [(5, False), (6, True)])
def test_group_of_more_than_half_of_the_documents_is_noted(num, has_note):
    rows = [(f"word{i}", "big" if i < num else f"g{i}") for i in range(10)]
    notes = corpus_of(*rows).notes
    assert notes == (("6 of 10 documents are of group 'big': check that they all mean the same",) if has_note else ())
