import io
import re
import tracemalloc
import unicodedata
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from simile.artifacts import Combine, LexicalMember, Manifest, file_entry, write_bundle
from simile.errors import BundleError
from simile.scoring import Lexical, Runtime, Scorer, pack_vocabulary, unscored_pairs, words

CPU = Runtime("CPUExecutionProvider", "fp32")
TWO = re.compile(r"\w\w")
FIT = ["The cat sat on the mat.", "a dog, a DOG and one cat", "naïve café: ÉTÉ in Zürich", "user_name 42 x y"]
words_and_more = st.lists(
    st.sampled_from(["cat", "CAT", "dog", "the", "mat", "café", "été", "ÉTÉ", "user_name", "42", "x", "unknown", "İx"])
    | st.text(st.characters(codec="utf-8"), max_size=6)
).map(" ".join)


@pytest.fixture(scope="module")
def vectorizer():
    return TfidfVectorizer(sublinear_tf=True, analyzer=words).fit(FIT)


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


def test_words_of_english_texts_are_those_of_scikit_learn(helpdesk):
    analyze = TfidfVectorizer().build_analyzer()
    for row in helpdesk:
        assert words(row.text) == analyze(row.text)


latin = st.text(st.sampled_from("aBcéÜøœß19_ .,!?'-\u2019“”…€\t\n"))


@given(latin)
def test_words_of_texts_in_the_latin_script_are_those_of_scikit_learn(text):
    assert words(text) == TfidfVectorizer().build_analyzer()(text) or not any(map(TWO.search, text.split()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Café CAFE\u0301, na\u00efve", ["café", "café", "naïve"], id="accents"),
        pytest.param("m\u0303u ab\u0323\u0307c", ["m\u0303u", "a\u1e05\u0307c"], id="marks without composed letter"),
        pytest.param("मेरा कार्ड नहीं आया।", ["मेरा", "कार्ड", "नहीं", "आया"], id="Hindi"),
        pytest.param("আমার কার্ড", ["আমার", "কার্ড"], id="Bengali"),
        pytest.param("கார்டு வரவில்லை", ["கார்டு", "வரவில்லை"], id="Tamil"),
        pytest.param("שָׁלוֹם, עולם", [unicodedata.normalize("NFC", "שָׁלוֹם"), "עולם"], id="Hebrew points"),
        pytest.param("كِتَابٌ جديد", ["كِتَابٌ", "جديد"], id="Arabic points"),
        pytest.param("\u0645\u06cc\u200c\u062e\u0648", ["\u0645\u06cc\u062e\u0648"], id="Persian with a non-joiner"),
        pytest.param("카드가 안 왔어요", ["카드가", "왔어요"], id="Korean"),
        pytest.param("我的卡没到。", ["我的", "的卡", "卡没", "没到"], id="Chinese"),
        pytest.param("好\uff0c谢谢", ["好", "谢谢"], id="Chinese lone character"),
        pytest.param("カードがない\uff01", ["カー", "ード", "ドが", "がな", "ない"], id="Japanese"),
        pytest.param("か\u3099くせい", ["がく", "くせ", "せい"], id="Japanese decomposed"),
        pytest.param("佐々木", ["佐々", "々木"], id="Japanese iteration mark"),
        pytest.param("บัตร ไม่มา", ["บั", "ัต", "ตร", "ไม", "ม่", "่ม", "มา"], id="Thai"),
        pytest.param("ບັດ", ["ບັ", "ັດ"], id="Lao"),
        pytest.param("កាត", ["កា", "ាត"], id="Khmer"),
        pytest.param("ကတ်", ["ကတ", "တ်"], id="Myanmar"),
        pytest.param("iPhone手机15 x", ["iphone", "手机", "15"], id="mixed"),
        pytest.param("\U00020000\U00020001a", ["\U00020000\U00020001"], id="beyond the basic plane"),
        pytest.param("sign\u00adup sign\u200bup", ["signup", "signup"], id="invisible characters"),
        pytest.param("I \u2764\ufe0f it", ["it"], id="variation selector"),
        pytest.param("A b", ["a", "b"], id="letters only"),
        pytest.param("A bc", ["bc"], id="letter beside a word"),
        pytest.param("?? \U0001f600\U0001f600", ["??", "\U0001f600\U0001f600"], id="no letter"),
        pytest.param(" \n", [], id="blank"),
    ],
)
def test_words_of_a_text(text, expected):
    assert words(text) == expected


@given(st.text(st.characters(codec="utf-8")))
def test_words_do_not_depend_on_the_unicode_form(text):
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text)) == words(text)


@given(st.text(st.characters(codec="utf-8")))
def test_every_visible_text_has_words_that_a_vocabulary_can_hold(text):
    assert bool(words(text)) == bool(text.strip())
    assert all(word and not any(map(str.isspace, word)) for word in words(text))


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


def packed(compression=zipfile.ZIP_DEFLATED, **arrays: bytes) -> bytes:
    """Return an archive of arrays whose files have these bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def bomb() -> bytes:
    """Return an archive whose words unpack to 1 GB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("idf.npy", npy(np.ones(2)))
        with archive.open("words.npy", "w") as file:
            file.write(header((2**30,)))
            for _ in range(64):
                file.write(bytes(2**24))
    return buffer.getvalue()


IDF, WORDS = npy(np.ones(2)), npy(np.frombuffer(b"cat\ndog", dtype=np.uint8))
GOOD = pack_vocabulary({"cat": 0, "dog": 1}, np.array([1.0, 2.0]))


def bundle_of(folder, member, content):
    manifest = Manifest(
        name="bad",
        members=(member,),
        combine=Combine(weights={"words": 1.0}),
        golden=unscored_pairs(["words"]),
        made={"by": "simile baseline", "base": "lexical"},
    )
    return write_bundle(folder / "bundle", manifest, {"lexical.npz": content})


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
        pytest.param(
            npz(words=np.array([255, 10, 254], np.uint8), idf=np.ones(2)), "is not a vocabulary", id="no UTF-8"
        ),
        pytest.param(
            pack_vocabulary({"cat": 0}, np.array([1.0])), "has 1 words and 1 frequencies, need 2 of each", id="too few"
        ),
        pytest.param(
            pack_vocabulary({"cat": 0, "dog": 1}, np.array([1.0])),
            "has 2 words and 1 frequencies, need 2",
            id="idf too few",
        ),
        pytest.param(bomb(), "words unpacks to 1073741952 bytes, need at most 536870912", id="bomb"),
        pytest.param(packed(zipfile.ZIP_LZMA, idf=IDF, words=WORDS), "stored or deflated", id="LZMA"),
        pytest.param(packed(zipfile.ZIP_BZIP2, idf=IDF, words=WORDS), "stored or deflated", id="bzip2"),
        pytest.param(packed(idf=IDF, words=header((10**13,))), r"of shape \(10000000000000,\)", id="header of 10 TB"),
        pytest.param(packed(idf=IDF, words=header((-7,)) + b"cat\ndog"), r"of shape \(-7,\)", id="negative shape"),
        pytest.param(packed(idf=IDF, words=b"hello"), "is not a vocabulary", id="no array"),
        pytest.param(packed(idf=npy(np.ones((2, 1))), words=WORDS), r"idf holds float64 of shape \(2, 1\)", id="2-D"),
        pytest.param(packed(idf=npy(np.ones(2, complex)), words=WORDS), "idf holds complex128", id="complex"),
        pytest.param(packed(idf=npy(np.array(["1", "2"])), words=WORDS), "idf holds <U1", id="texts"),
        pytest.param(packed(idf=IDF, words=npy(np.array([300]))), "words holds int64", id="words of int64"),
        pytest.param(
            packed(idf=npy(np.array([{}, {}])), words=npy(np.array([b"a"]))), "idf holds object", id="pickled idf"
        ),
        *(
            pytest.param(packed(idf=npy(np.array([1.0, idf])), words=WORDS), "an impossible frequency", id=f"idf {idf}")
            for idf in (0.0, -1.0, np.nan, np.inf, 1e300)
        ),
        pytest.param(
            packed(idf=IDF, words=npy(np.frombuffer(b"cat\ncat", dtype=np.uint8))), "has a word twice", id="word twice"
        ),
    ],
)
def test_file_that_is_no_vocabulary_is_refused(tmp_path, content, fault):
    member = LexicalMember(name="words", vocabulary=file_entry("lexical.npz", content), dimension=2)
    bundle = bundle_of(tmp_path, member, content)
    with pytest.raises(BundleError, match=fault):
        Lexical(bundle, member)


def test_vocabulary_that_unpacks_to_gigabytes_is_refused_without_unpacking_it(tmp_path):
    content = bomb()
    member = LexicalMember(name="words", vocabulary=file_entry("lexical.npz", content), dimension=2)
    bundle = bundle_of(tmp_path, member, content)
    tracemalloc.start()
    with pytest.raises(BundleError, match="unpacks to"):
        Lexical(bundle, member)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
