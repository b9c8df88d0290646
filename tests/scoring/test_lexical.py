import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from simile.artifacts import Combine, LexicalMember, Manifest, file_entry, write_bundle
from simile.errors import BundleError
from simile.scoring import Lexical, Runtime, Scorer, pack_vocabulary, words

CPU = Runtime("CPUExecutionProvider", "fp32")
FIT = ["The cat sat on the mat.", "a dog, a DOG and one cat", "naïve café: ÉTÉ in Zürich", "user_name 42 x y"]
words_and_more = st.lists(
    st.sampled_from(["cat", "CAT", "dog", "the", "mat", "café", "été", "ÉTÉ", "user_name", "42", "x", "unknown", "İx"])
    | st.text(st.characters(codec="utf-8"), max_size=6)
).map(" ".join)


@pytest.fixture(scope="module")
def vectorizer():
    return TfidfVectorizer(sublinear_tf=True).fit(FIT)


@pytest.fixture(scope="module")
def scorer(write_lexical, tmp_path_factory):
    return Scorer(write_lexical(tmp_path_factory.mktemp("x") / "bundle", FIT), CPU)


def cosines(vectorizer, pairs):
    a_PW, b_PW = (vectorizer.transform([pair[side] for pair in pairs]).toarray() for side in (0, 1))
    return (a_PW * b_PW).sum(axis=1)


def test_lexical_scores_of_the_helpdesk_texts_are_those_of_scikit_learn(helpdesk, write_lexical, tmp_path):
    texts = [row.text for row in helpdesk]
    rng = np.random.default_rng(0)
    pairs = [(texts[a], texts[b]) for a, b in rng.integers(0, len(texts), (1000, 2))] + [(texts[0], texts[0])]
    # The vocabulary is fitted on one half, so that some words are unknown.
    score_P = Scorer(write_lexical(tmp_path / "bundle", texts[::2]), CPU).score(pairs)
    expected = cosines(TfidfVectorizer(sublinear_tf=True).fit(texts[::2]), pairs)
    assert (expected > 0.1).sum() > 50
    np.testing.assert_allclose(score_P, expected, rtol=0, atol=1e-6)


@given(a=words_and_more.filter(str.strip), b=words_and_more.filter(str.strip))
def test_lexical_score_of_any_texts_is_that_of_scikit_learn(scorer, vectorizer, a, b):
    assert scorer.score([(a, b)])[0] == pytest.approx(cosines(vectorizer, [(a, b)])[0], abs=1e-6)


@given(words_and_more)
def test_words_are_those_of_scikit_learn(text):
    assert words(text) == TfidfVectorizer().build_analyzer()(text)


def test_text_without_a_known_word_is_like_nothing_not_even_itself(scorer):
    np.testing.assert_array_equal(scorer.score([("???", "???"), ("unknown", "the cat")]), [0, 0])


def test_a_text_is_like_itself(scorer):
    assert scorer.score([("the cat sat", "THE CAT, sat!")])[0] == pytest.approx(1, abs=1e-6)


def test_vocabulary_is_packed_in_the_order_of_its_indices():
    packed = pack_vocabulary({"b": 2, "é": 0, "a": 1}, np.array([1.0, 2.0, 3.0]))
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        assert bytes(file["words"]).decode().split("\n") == ["é", "a", "b"]
        np.testing.assert_array_equal(file["idf"], [1.0, 2.0, 3.0])


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def empty_zip() -> bytes:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()


GOOD = pack_vocabulary({"cat": 0, "dog": 1}, np.array([1.0, 2.0]))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"", "is not a vocabulary", id="empty"),
        pytest.param(b"hello", "is not a vocabulary", id="text"),
        pytest.param(b"\x80\x04]\x94.", "is not a vocabulary", id="pickle"),
        pytest.param(GOOD[:-40], "is not a vocabulary", id="truncated"),
        pytest.param(GOOD[:60] + b"\0\0\0\0" + GOOD[64:], "is not a vocabulary", id="damaged"),
        pytest.param(empty_zip(), "is not a vocabulary", id="empty zip"),
        pytest.param(npy(np.zeros(2)), "is not a vocabulary", id="one array"),
        pytest.param(npz(idf=np.zeros(2)), "is not a vocabulary", id="no words"),
        pytest.param(
            npz(words=np.array(["cat", {}], dtype=object), idf=np.zeros(2)), "is not a vocabulary", id="objects"
        ),
        pytest.param(npz(words=np.array([255], np.uint8), idf=np.zeros(1)), "is not a vocabulary", id="no UTF-8"),
        pytest.param(pack_vocabulary({"cat": 0}, np.array([1.0])), "has 1 words, need 2", id="too few"),
        pytest.param(pack_vocabulary({"cat": 0, "dog": 1}, np.array([1.0])), "has 2 words, need 2", id="idf too few"),
    ],
)
def test_file_that_is_no_vocabulary_is_refused(tmp_path, content, fault):
    member = LexicalMember(name="words", vocabulary=file_entry("lexical.npz", content), dimension=2)
    manifest = Manifest(
        name="bad",
        members=(member,),
        combine=Combine(weights={"words": 1.0}),
        golden=(),
        made={"by": "simile baseline", "base": "lexical"},
    )
    bundle = write_bundle(tmp_path / "bundle", manifest, {"lexical.npz": content})
    with pytest.raises(BundleError, match=fault):
        Lexical(bundle, member)
