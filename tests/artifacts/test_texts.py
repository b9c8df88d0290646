import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import (
    TEXTS,
    Bundle,
    Combine,
    LexicalMember,
    Manifest,
    file_entry,
    read_bundle,
    read_training_texts,
    text_hash,
    text_key,
    texts_digest,
    work_folder,
    write_bundle,
)
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
    manifest = Manifest(name="x", members=(member,), combine=combine, golden=(), made=made or joined)
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
