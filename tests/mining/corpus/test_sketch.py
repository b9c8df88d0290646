import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.corpus.gather import Corpus, gather, gather_sketches, joined
from mining.corpus.sketch import Sampling, sketch_of
from mining.corpus.sketch_file import settings_of, sketch_path, sketch_paths, write_sketch
from simile.artifacts import Document, ReadOptions, Shard, text_key
from simile.errors import InputError

GROUPS = [*(f"g{i}" for i in range(40)), "G1 ", "caf\u00e9", "cafe\u0301", "nan", None]
"""Groups, some in two spellings, and missing ones."""


@st.composite
def some_documents(draw):
    """Documents of groups large and small, of which some texts repeat, in random order."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    rows = []
    for name in draw(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=30)):
        for _ in range(rng.choice([1, 1, 2, 5, 50])):
            text = f"text {rng.randrange(30 if rng.random() < 0.2 else 10**6)}"
            rows.append(Document(f"d{len(rows)}", text, rng.choice(["a", "A", None]), name))
    rng.shuffle(rows)
    return rows


def shards_of(documents, count):
    edges = [len(documents) * i // count for i in range(count + 1)]
    return [documents[a:b] for a, b in itertools.pairwise(edges)]


def assert_equal(corpus: Corpus, other: Corpus):
    """Assert that all fields of the corpora are equal, and the document frequencies exactly so."""
    assert corpus.tfidf.vocabulary_ == other.tfidf.vocabulary_
    assert np.array_equal(corpus.tfidf.idf_, other.tfidf.idf_)
    assert replace(corpus, tfidf=other.tfidf) == other


@given(some_documents(), st.integers(1, 6), st.integers(1, 300), st.integers(0, 3), st.booleans())
@settings(max_examples=200)
def test_sketches_of_shards_are_joined_into_the_corpus_of_all_documents(documents, count, size, seed, has_positives):
    required = {text_key(row.text) for row in documents[::7]} if has_positives else None
    sampling = Sampling(size, seed, required)
    sketches = [sketch_of(shard, sampling) for shard in shards_of(documents, count)]
    assert_equal(joined(sketches), gather(documents, sampling))


@given(some_documents(), st.integers(32, 200))
def test_the_sample_does_not_depend_on_the_order_of_the_documents(documents, size):
    texts = [row.text for row in documents]
    distinct = [row for i, row in enumerate(documents) if row.text not in texts[:i]]
    others = random.Random(0).sample(distinct, len(distinct))
    rows, other_rows = (gather(some, Sampling(size, 0)).rows for some in (distinct, others))
    assert {row.id for row in rows} == {row.id for row in other_rows}


def test_groups_of_one_document_make_way_for_groups_that_another_shard_completes():
    documents = [Document(f"{i}-{j}", f"text {i} {j}", None, f"g{i}") for j in range(2) for i in range(60)]
    documents += [Document(f"alone-{i}", f"alone {i}", None, f"alone{i}") for i in range(60)]
    rows = joined(sketch_of(shard, Sampling(100, 0)) for shard in shards_of(documents, 2)).rows
    assert sum(row.id.startswith("alone") for row in rows) < 10


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the sketches of the documents as files, and returns their folder."""
    file = tmp_path / "documents.jsonl"
    file.write_text("{}\n")

    def write(documents, sampling, count=3, folder="sketches", columns=None):
        out = tmp_path / folder
        how = settings_of(file, columns or {}, ReadOptions(), sampling, count)
        for number, rows in enumerate(shards_of(documents, count), 1):
            shard = Shard(number, count)
            write_sketch(sketch_path(out, shard), shard, sketch_of(rows, sampling), how)
        return out

    return write


def read(folder, sampling) -> Corpus:
    return gather_sketches(sketch_paths(folder), sampling)


DOCUMENTS = [Document(f"{i}", f"text {i} of\n\u4e2d\u6587", f"c{i % 3}", f"g{i % 9}") for i in range(90)]


@pytest.mark.parametrize("required", [None, {"text 3 of \u4e2d\u6587"}])
def test_sketches_are_read_as_they_were_written(write, required):
    sampling = Sampling(40, 1, required)
    assert_equal(read(write(DOCUMENTS, sampling), sampling), gather(DOCUMENTS, sampling))


def test_a_shard_without_documents_is_a_sketch_too(write):
    sampling = Sampling(40, 1)
    assert_equal(read(write(DOCUMENTS[:2], sampling, count=5), sampling), gather(DOCUMENTS[:2], sampling))


def test_a_missing_sketch_is_refused(write):
    folder = write(DOCUMENTS, Sampling(40, 1))
    sketch_path(folder, Shard(2, 3)).unlink()
    with pytest.raises(InputError, match=r"got 2 of 3 sketches, need the one of shard 2 too \(--sketch 2/3\)$"):
        read(folder, Sampling(40, 1))


def test_a_sketch_that_is_there_twice_is_refused(write):
    folder = write(DOCUMENTS, Sampling(40, 1))
    (folder / "copy.sketch").write_bytes(sketch_path(folder, Shard(2, 3)).read_bytes())
    with pytest.raises(InputError, match=r"copy.sketch: is the sketch of shard 2, as \S+2-of-3.sketch is"):
        read(folder, Sampling(40, 1))


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(40, 2), "differs from this call in --seed (1 and 2)"),
        (Sampling(50, 1), "differs from this call in --pairs (40 and 50)"),
        (Sampling(40, 1, {"a"}), "differs from this call in --positives (None and '"),
    ],
)
def test_sketches_made_with_other_options_are_refused(write, sampling, message):
    folder = write(DOCUMENTS, Sampling(40, 1))
    with pytest.raises(InputError) as error:
        read(folder, sampling)
    assert f"1-of-3.sketch: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"count": 4}, "in the number of shards (4 and 3)"),
        ({"columns": {"text": "body"}}, "in --column, --format, --delimiter, --quote or --encoding ("),
    ],
)
def test_sketches_of_different_making_are_refused(write, other, message):
    folder = write(DOCUMENTS, Sampling(40, 1))
    others = write(DOCUMENTS, Sampling(40, 1), folder="others", **other)
    next(others.glob("2-*")).rename(folder / "2-of-3.sketch")
    with pytest.raises(InputError) as error:
        read(folder, Sampling(40, 1))
    assert message in str(error.value)


def test_sketches_of_different_documents_are_refused(write, tmp_path):
    folder = write(DOCUMENTS, Sampling(40, 1))
    (tmp_path / "documents.jsonl").write_text("{}\n{}\n")
    (write(DOCUMENTS, Sampling(40, 1), folder="others") / "2-of-3.sketch").rename(folder / "2-of-3.sketch")
    with pytest.raises(InputError, match=r"2-of-3.sketch: differs from \S+1-of-3.sketch in the documents"):
        read(folder, Sampling(40, 1))


@pytest.fixture(scope="module")
def whole_sketch(tmp_path_factory):
    """The content of a sketch of all documents, and a path to write damaged ones to."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "x.jsonl").write_text("{}\n")
    how = settings_of(folder / "x.jsonl", {}, ReadOptions(), Sampling(40, 1), 1)
    path = sketch_path(folder / "sketches", Shard(1, 1))
    write_sketch(path, Shard(1, 1), sketch_of(DOCUMENTS, Sampling(40, 1)), how)
    return path.read_bytes(), path


@given(data=st.data())
def test_a_sketch_that_is_cut_off_is_refused(whole_sketch, data):
    content, path = whole_sketch
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match="is no whole sketch"):
        read(path.parent, Sampling(40, 1))


@given(data=st.data())
@settings(max_examples=200)
def test_a_sketch_with_a_changed_byte_is_refused_or_gives_the_same_corpus(whole_sketch, data):
    content, path = whole_sketch
    place, change = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
    try:
        corpus = read(path.parent, Sampling(40, 1))
    except InputError:
        return
    assert_equal(corpus, gather(DOCUMENTS, Sampling(40, 1)))
