import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import (
    Bundle,
    Combine,
    GoldenPair,
    LexicalMember,
    Manifest,
    file_entry,
    read_training_texts,
    text_hash,
    text_key,
    texts_digest,
    work_folder,
    write_training_texts,
)


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


def bundle_at(path: Path, texts: Iterable[str] = (), made: dict | None = None) -> Bundle:
    joined = {"by": "simile join", "of": [], "fitted_on": None, "texts": texts_digest(map(text_hash, texts))}
    member = LexicalMember(name="words", vocabulary=file_entry("members/words/lexical.npz", b"x"), dimension=1)
    combine = Combine(weights={"words": 1.0})
    golden = (GoldenPair(text_a="a", text_b="b", scores={"words": 0.5}),)
    manifest = Manifest(name="x", members=(member,), combine=combine, golden=golden, made=made or joined)
    return Bundle(path, manifest, {})


def test_training_texts_are_known_again_by_their_hashes(tmp_path):
    bundle = bundle_at(tmp_path / "bundle", ["The cat", "A dog"])
    write_training_texts(bundle.path, ["The cat", "the  CAT", "A dog"])
    assert read_training_texts(bundle) == {text_hash("the cat"), text_hash("a dog")}


def test_training_texts_are_not_kept_in_the_clear(tmp_path):
    write_training_texts(tmp_path / "bundle", ["a secret"])
    (file,) = work_folder(tmp_path / "bundle").iterdir()
    assert "secret" not in file.read_text()


def test_training_texts_that_are_not_there_are_not_known(tmp_path):
    assert read_training_texts(bundle_at(tmp_path / "bundle")) is None


def test_a_bundle_trained_on_nothing_is_not_the_same_as_not_known(tmp_path):
    write_training_texts(tmp_path / "bundle", [])
    assert read_training_texts(bundle_at(tmp_path / "bundle")) == frozenset()


def test_an_untouched_encoder_is_trained_on_nothing(tmp_path):
    assert (
        read_training_texts(bundle_at(tmp_path / "bundle", made={"by": "simile baseline", "base": "b"})) == frozenset()
    )
