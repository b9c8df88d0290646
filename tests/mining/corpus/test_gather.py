import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.corpus.gather import Corpus, gather
from mining.corpus.sketch import Sampling
from simile.artifacts import Document, text_key
from simile.errors import InputError
from simile.scoring import words

WORDS = ["ant", "Ant", "ANT", "bee,", "b.e,", "ÄÖ", "äö", "x", "İs", "中文", "12", "a_b", "'s"]


def groups_of(sizes, *, is_shuffled=True) -> list[Document]:
    """Documents of groups of these sizes, in random order or group by group."""
    places = [(group, i) for group, size in enumerate(sizes) for i in range(size)]
    if is_shuffled:
        random.Random(0).shuffle(places)
    return [Document(f"{g}-{i}", f"Word{g} item{i} common", "any", f"g{g}") for g, i in places]


def sizes_of(corpus: Corpus) -> list[int]:
    return sorted(Counter(row.group for row in corpus.rows).values())


def assert_fitted_on(corpus: Corpus, texts):
    """Assert that the corpus has the word frequencies that scikit-learn counts in the texts."""
    expected = TfidfVectorizer(sublinear_tf=True, analyzer=words).fit(texts)
    assert corpus.tfidf.vocabulary_ == expected.vocabulary_
    np.testing.assert_allclose(corpus.tfidf.idf_, expected.idf_, rtol=1e-12)
    others = [*texts, "common words of no document", "common common common"]
    assert abs(corpus.tfidf.transform(others) - expected.transform(others)).max() < 1e-12


@given(st.lists(st.lists(st.sampled_from(WORDS)), min_size=1))
def test_word_frequencies_are_those_of_sklearn(lists):
    texts = ["always there", *map(" ".join, lists)]
    assert_fitted_on(gather([Document(str(i), text) for i, text in enumerate(texts)], Sampling(100, 0)), texts)


def test_word_frequencies_count_all_documents_and_not_the_sample_only():
    documents = groups_of([60, 7, 150])
    corpus = gather(documents, Sampling(70, 0))
    assert len(corpus.rows) <= 70
    assert_fitted_on(corpus, [row.text for row in documents])


def test_word_frequencies_of_the_helpdesk(helpdesk):
    corpus = gather(helpdesk, Sampling(len(helpdesk), 0))
    assert corpus.rows == tuple(helpdesk)
    assert_fitted_on(corpus, [row.text for row in helpdesk])


@given(st.lists(st.integers(1, 90), min_size=1, max_size=25), st.integers(32, 300), st.booleans())
def test_sample_fills_its_limit_and_never_exceeds_it(sizes, max_documents, is_shuffled):
    documents = groups_of(sizes, is_shuffled=is_shuffled)
    num = len(gather(documents, Sampling(max_documents, 0)).rows)
    # The rest is too small for another whole group.
    assert num == len(documents) if len(documents) <= max_documents else max_documents - 32 < num <= max_documents


@pytest.mark.parametrize("is_shuffled", [True, False])
@pytest.mark.parametrize(
    ("sizes", "max_documents", "kept"),
    [
        pytest.param([5] * 400, 100, [5] * 20, id="many small groups"),
        pytest.param([1] * 2000, 100, [1] * 100, id="groups of one"),
        pytest.param([40] * 50, 384, [32] * 12, id="groups with a little too much"),
        pytest.param([1500, 1500], 100, [50, 50], id="few huge groups"),
        pytest.param([2000], 100, [100], id="one group"),
        pytest.param([10] * 5 + [700], 150, [10] * 5 + [100], id="small groups beside a huge one"),
        pytest.param([3, 4, 5], 12, [3, 4, 5], id="capacity for all"),
    ],
)
def test_largest_groups_are_thinned_before_whole_groups_are_left_out(sizes, max_documents, kept, is_shuffled):
    assert sizes_of(gather(groups_of(sizes, is_shuffled=is_shuffled), Sampling(max_documents, 0))) == kept


def test_all_documents_of_a_group_are_equally_likely_to_be_kept():
    documents = groups_of([60], is_shuffled=False)
    drawn = Counter(row.id for seed in range(400) for row in gather(documents, Sampling(40, seed)).rows)
    counts = np.array([drawn[row.id] for row in documents])
    assert counts.sum() == 400 * 40
    # The standard deviation of 400 draws with probability 2/3 is 9.4.
    assert np.abs(counts - 400 * 40 / 60).max() < 4.5 * 9.4


def test_documents_without_a_group_are_spread_over_the_categories():
    documents = [Document(str(i), f"text number{i}", "rare" if i % 100 == 0 else "common") for i in range(1000)]
    corpus = gather(documents, Sampling(100, 0))
    assert Counter(row.category for row in corpus.rows) == {"rare": 10, "common": 90}


def test_sample_depends_on_the_seed():
    documents = groups_of([30] * 20)
    one, again, other = (gather(documents, Sampling(90, seed)).rows for seed in (1, 1, 2))
    assert one == again
    assert set(one) != set(other)


@pytest.mark.parametrize("max_documents", [40, 150, 1000])
def test_sample_keeps_the_order_of_the_documents(max_documents):
    documents = groups_of([100, 30, 30, 40])
    places = [documents.index(row) for row in gather(documents, Sampling(max_documents, 0)).rows]
    assert places == sorted(set(places))


@given(st.sets(st.integers(0, 199), max_size=60), st.integers(0, 3))
def test_documents_with_required_texts_are_always_kept(wanted, seed):
    documents = groups_of([5] * 20 + [100])
    required = {text_key(documents[i].text) for i in wanted}
    rows = gather(documents, Sampling(70, seed, required)).rows
    assert {documents[i] for i in wanted} <= set(rows)
    # Required documents may exceed the limit.
    assert len(rows) <= 70 + len(wanted)


@pytest.mark.parametrize("sizes", [[5] * 20, [100]])
def test_required_texts_are_kept_even_if_they_exceed_the_limit(sizes):
    documents = groups_of(sizes)
    rows = gather(documents, Sampling(32, 0, {text_key(row.text) for row in documents[:80]})).rows
    assert set(documents[:80]) <= set(rows)


def test_required_texts_are_recognized_regardless_of_case_and_white_space():
    documents = [replace(row, text=f" {row.text.upper()}\n") for row in groups_of([400])]
    rows = gather(documents, Sampling(32, 0, {"word0 item7 common"})).rows
    assert documents[[row.id for row in documents].index("0-7")] in rows


def test_documents_are_read_once_and_counted():
    documents = groups_of([50, 20])
    documents = [replace(row, is_cut=i % 10 == 0) for i, row in enumerate(documents)]
    stream = iter(documents)
    corpus = gather(stream, Sampling(40, 0))
    assert list(stream) == []
    assert corpus.rows == gather(documents, Sampling(40, 0)).rows
    assert (corpus.num_read, corpus.num_cut) == (70, 7)


@pytest.mark.parametrize(("group", "category"), [(None, None), ("g", None), (None, "c"), ("g", "c")])
def test_a_single_document_with_a_group_or_category_is_enough_to_have_them(group, category):
    # Among this many others, the sample is most unlikely to hold it.
    documents = [
        Document(str(i), "some text", category, group) if i == 5 else Document(str(i), "x y zz") for i in range(500)
    ]
    corpus = gather(documents, Sampling(32, 0))
    assert (corpus.num_without_group, corpus.num_without_category) == (
        500 - (group is not None),
        500 - (category is not None),
    )


@pytest.mark.parametrize("texts", [[], [""]])
def test_documents_without_a_word_are_refused(texts):
    with pytest.raises(InputError, match=f"got {len(texts)} documents without a word"):
        gather((Document(str(i), text) for i, text in enumerate(texts)), Sampling(10, 0))
