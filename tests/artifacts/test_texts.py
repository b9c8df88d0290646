import hashlib
import html
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from simile.artifacts import (
    TEXTS,
    Bundle,
    Combine,
    GoldenPair,
    LexicalMember,
    Manifest,
    file_entry,
    group_key,
    read_bundle,
    read_training_texts,
    text_hash,
    text_key,
    texts_digest,
    work_folder,
    write_bundle,
)
from simile.artifacts.texts import _IGNORABLE, MAX_CHARACTERS, cut
from simile.errors import BundleError


@pytest.mark.parametrize("other", ["the cat", " The\tCAT \n", "THE\u00a0 cat", "the\r\n\r\ncat"])
def test_texts_that_differ_in_case_and_white_space_are_the_same(other):
    assert text_key(other) == text_key("The cat")
    assert text_hash(other) == text_hash("The cat")


@pytest.mark.parametrize("other", ["the cat.", "thecat", "the cats", "cat the"])
def test_texts_that_differ_otherwise_are_not(other):
    assert text_hash(other) != text_hash("the cat")


@given(st.text(st.characters(codec="utf-8")))
def test_key_of_a_key_is_the_key(text):
    assert text_key(text_key(text)) == text_key(text)


def test_hash_is_the_sha256_of_the_key():
    assert text_hash("  The Cat ") == hashlib.sha256(b"the cat").hexdigest()


def test_work_folder_stands_beside_the_bundle():
    assert work_folder(Path("out/my.bundle")) == Path("out/my.bundle.work")


def bundle_at(path: Path, texts: Iterable[str] | None = (), made: dict | None = None, hashes=None) -> Bundle:
    """Write a bundle that states these training texts, with their hashes or others."""
    own = None if texts is None else {text_hash(text) for text in texts}
    digest = None if own is None else texts_digest(own)
    joined = {"by": "simile join", "of": [], "fitted_on": None, "texts": digest}
    member = LexicalMember(name="words", vocabulary=file_entry("members/words/lexical.npz", b"x"), dimension=1)
    combine = Combine(weights={"words": 1.0})
    golden = (GoldenPair(text_a="a", text_b="b", scores={"words": 0.5}),)
    manifest = Manifest(name="x", members=(member,), combine=combine, golden=golden, made=made or joined)
    hashes = own if hashes is None and not made else hashes
    return write_bundle(path, manifest, {"members/words/lexical.npz": b"x"}, hashes)


def test_training_texts_are_known_again_by_their_hashes(tmp_path):
    bundle = bundle_at(tmp_path / "bundle", ["The cat", "the  CAT", "A dog"])
    assert read_training_texts(bundle) == {text_hash("the cat"), text_hash("a dog")}


def test_training_texts_are_known_in_every_copy_of_the_bundle(tmp_path):
    bundle = bundle_at(tmp_path / "bundle", ["A dog"])
    copy = read_bundle(shutil.copytree(bundle.path, tmp_path / "elsewhere" / "copy"))
    assert read_training_texts(copy) == {text_hash("a dog")}


def test_training_texts_are_not_kept_in_the_clear(tmp_path):
    bundle = bundle_at(tmp_path / "bundle", ["a secret"])
    assert (bundle.path / TEXTS).read_text() == f"{text_hash('a secret')}\n"


def test_training_texts_that_are_not_there_are_not_known(tmp_path):
    bundle = bundle_at(tmp_path / "bundle", ["A dog"])
    (bundle.path / TEXTS).unlink()
    assert read_training_texts(read_bundle(bundle.path)) is None


@pytest.mark.parametrize("content", [b"", b"0" * 64, b"\xff\xfe", b"a\n"])
def test_training_texts_of_another_bundle_are_not_known(tmp_path, content):
    bundle = bundle_at(tmp_path / "bundle", ["A dog"])
    (bundle.path / TEXTS).write_bytes(content)
    assert read_training_texts(read_bundle(bundle.path)) is None


def test_a_bundle_trained_on_nothing_is_not_the_same_as_not_known(tmp_path):
    assert read_training_texts(bundle_at(tmp_path / "none", [])) == frozenset()
    assert read_training_texts(bundle_at(tmp_path / "unknown", None)) is None


def test_an_untouched_encoder_is_trained_on_nothing(tmp_path):
    bundle = bundle_at(tmp_path / "bundle", made={"by": "simile baseline", "base": "b"})
    assert not (bundle.path / TEXTS).exists()
    assert read_training_texts(bundle) == frozenset()


@pytest.mark.parametrize("made", [None, {"by": "simile baseline", "base": "b"}])
def test_bundle_is_not_written_with_hashes_of_other_texts(tmp_path, made):
    with pytest.raises(BundleError, match="hashes of other training texts than the manifest states"):
        bundle_at(tmp_path / "bundle", ["A dog"], made, hashes={text_hash("a cat")})
    assert list(tmp_path.iterdir()) == []


# Variations that nobody sees

INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u2060\ufe0f\ufeff\U000e0041"
PIECES = [
    "&",
    "#",
    ";",
    "amp;",
    "&eacute;",
    "&notin;",
    "&#1",
    "&copy",
    "<",
    "\u00df",
    "\ufb01",
    "\uac00",
    "\u03ac\u0345",
]
some_texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(PIECES), max_size=9).map(
    "".join
)


def put_into(text: str, number: int, piece: str) -> str:
    place = number % (len(text) + 1)
    return text[:place] + piece + text[place:]


def escaped(text: str) -> str:
    """Return the text with each letter beyond ASCII as a numeric entity, and `&` and others as named ones."""
    return "".join(html.escape(sign) if sign.isascii() or not sign.isalpha() else f"&#{ord(sign)};" for sign in text)


def recased(text: str, change: Callable[[str], str]) -> str:
    """Return the text in another case, without the few signs whose other case is another letter to Unicode."""
    return "".join(change(sign) if change(sign).casefold() == sign.casefold() else sign for sign in text)


VARIATIONS = {
    **{form: partial(unicodedata.normalize, form) for form in ("NFC", "NFD", "NFKC", "NFKD")},
    "upper": partial(recased, change=str.upper),
    "lower": partial(recased, change=str.lower),
    "casefold": str.casefold,
    "escaped": escaped,
    "twice escaped": lambda text: html.escape(escaped(text)),
    "blanks": lambda text: f"\u3000{text.replace(' ', chr(9) + chr(160))}\r\n",
}


@given(some_texts, st.sampled_from(sorted(VARIATIONS)))
@settings(max_examples=500)
def test_texts_that_look_the_same_share_their_hash(text, name):
    if name in ("upper", "lower", "casefold"):
        # To HTML, &Dagger; and &dagger; are two signs.
        text = text.replace("&", "+")
    assert text_hash(VARIATIONS[name](text)) == text_hash(text)


@given(some_texts, st.integers(0), st.sampled_from(INVISIBLE))
@settings(max_examples=500)
def test_an_ignorable_character_anywhere_changes_no_hash(text, number, sign):
    assert text_hash(put_into(text, number, sign)) == text_hash(text)


@given(
    some_texts,
    st.integers(0),
    st.sampled_from(["&shy;", "&#8203;", "&#x200B;", "&zwnj;", "&amp;shy;", "&ZeroWidthSpace;"]),
)
@settings(max_examples=500)
def test_an_entity_of_an_ignorable_character_anywhere_changes_no_hash(text, number, entity):
    assert text_hash(put_into(text, number, entity)) == text_hash(text)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("caf\u00e9 & bar", "Cafe\u0301 &amp; Bar"),
        ("caf\u00e9 & bar", "caf&eacute; &amp;amp; bar"),
        ("fish & chips", "fish &amp chips"),
        ("fish & chips", "fish \uff06amp; chips"),
        ("a b", "a&nbsp;b"),
        ("soft hyphen", "soft hy&amp;shy;phen"),
        ("stra\u00dfe", "STRASSE"),
        ("\ufb01ne 10\u00b2", "fine 102"),
        ("\uff21\uff11", "a1"),
        ("heart \u2764", "heart \u2764\ufe0f"),
        ("\u039c\u03b1\u0390\u03bf\u03c5", "\u039c\u03b1\u03b9\u0308\u0301\u03bf\u03c5"),
        ("\u039c\u03b1\u0390\u03bf\u03c5", "\u039c\u03b1&#912;\u00ad\u03bf\u03c5"),
        (
            "\u03c0\u03c1\u03c9\u03c4\u03b5\u0390\u03bd\u03b7",
            "\u03c0\u03c1\u03c9\u03c4\u03b5\u0390\u03bd\u03b7".upper(),
        ),
        ("a b", "\x1ba\x00 b\x9d"),
        ("caf\u00e9", "caf\u00e9\x07"),
    ],
)
def test_texts_of_the_same_look_share_their_key(text, other):
    assert text_key(text) == text_key(other)


@pytest.mark.parametrize(("text", "other"), [("cafe", "caf\u00e9"), ("a&b", "ab"), ("a\u0301", "a"), ("&lt", "&gt")])
def test_accents_and_signs_make_another_key(text, other):
    assert text_key(text) != text_key(other)


def test_ignorable_are_the_characters_that_unicode_calls_so():
    every = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    assert _IGNORABLE.findall(every) == regex.findall(r"\p{Default_Ignorable_Code_Point}", every)


@pytest.mark.parametrize("name", sorted(VARIATIONS))
def test_long_texts_that_look_the_same_share_their_key(name):
    text = "\u00e9t\u00e9 <\uac01> " * (MAX_CHARACTERS // 6)
    assert text_key(cut(VARIATIONS[name](text))) == text_key(text)


def test_a_text_of_ignorable_characters_is_read_to_a_bound():
    assert text_key("\u200b" * 1_000_000 + "x") == ""
    assert len(cut("\u200b" * 1_000_000 + "x")) <= 11 * MAX_CHARACTERS


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("card", " Card "),
        ("17", "17.0"),
        ("17", "\uff11\uff17.00"),
        ("-3", "-3.0"),
        ("\u00e9", "e\u0301"),
        ("a&b", "A&amp;B"),
    ],
)
def test_names_that_differ_only_in_spelling_share_their_key(name, other):
    assert group_key(name) == group_key(other)


@pytest.mark.parametrize(("name", "other"), [("17", "17.5"), ("v1.0", "v1"), ("01", "1"), ("17", "-17")])
def test_other_names_have_another_key(name, other):
    assert group_key(name) != group_key(other)
