"""The key that equal texts share, and the hashes by which training texts are recognised."""

import html
import re
import unicodedata
from pathlib import Path

from simile.artifacts.bundle import TEXTS, Bundle
from simile.artifacts.provenance import BaselineProvenance
from simile.files import sha256_bytes

MAX_CHARACTERS = 20_000
"""The longest text of a document, and of a key: far more than any encoder reads, and it bounds memory."""
_MAX_READ = 10 * MAX_CHARACTERS
"""Characters that a key is made from at most: decomposed or as entities, a text is several times as long."""
_MAX_PASSES = 20
"""A text escaped more often than this is nobody's, and each pass reads all of it."""
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of Unicode 17.0 (DerivedCoreProperties.txt): soft hyphen, zero-width characters, ..."""
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
"""Control characters without those that are white space: nobody sees them either."""
_ENTITY = re.compile(r"&#?\w+;")
_WHOLE_NUMBER = re.compile(r"(-?[0-9]+)\.0+")


def text_key(text: str) -> str:
    """Return the key of a text, which texts share that look the same, case and white space aside.

    The key is compatibility-composed (NFKC) and case-folded. HTML entities are decoded, characters that Unicode calls
    default-ignorable and control characters removed, white space is collapsed; accents stay.
    """
    if text.isascii() and "&" not in text and not _CONTROL.search(text):
        return " ".join(text[:_MAX_READ].lower().split())[:MAX_CHARACTERS].rstrip()
    text = text[:_MAX_READ]
    # Each step may make work for another: decoded, "&amp;shy;" is an entity of an ignorable character.
    for _ in range(_MAX_PASSES):
        previous, text = text, unicodedata.normalize("NFKC", _CONTROL.sub("", _IGNORABLE.sub("", text)))
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
        if text == previous:
            # HTML knows entities without a semicolon too. They come last, because ignorable ones may stand in them.
            # Some letters, such as Greek ones with two accents, are decomposed by case folding.
            text = unicodedata.normalize("NFKC", html.unescape(text).casefold())
            text = " ".join(text.split())
        if text == previous:
            break
    return text[:MAX_CHARACTERS].rstrip()


def group_key(name: str) -> str:
    """Return the key of a group or a category: that of its text, and of the whole number where it is one (``17.0``)."""
    key = text_key(name)
    return number[1] if (number := _WHOLE_NUMBER.fullmatch(key)) else key


def cut(text: str) -> str:
    """Return the text, or its shortest beginning (to a tenth) with the same key if it exceeds `MAX_CHARACTERS`."""
    if len(text) <= MAX_CHARACTERS:
        return text
    key, end = text_key(text), MAX_CHARACTERS
    while end < len(text) and text_key(text[:end]) != key:
        end += end // 10
    return text[:end]


def text_hash(text: str) -> str:
    """Return the sha256 of the text's key."""
    return sha256_bytes(text_key(text).encode())


def work_folder(bundle: Path) -> Path:
    """Return the work folder of a bundle's training, which stands beside the bundle."""
    return bundle.with_name(bundle.name + ".work")


def read_training_texts(bundle: Bundle) -> frozenset[str] | None:
    """Return the hashes of the bundle's training texts: none for an untouched encoder, None where they are unknown.

    They are unknown where the bundle has no file of hashes, or one with another digest than the manifest states.
    """
    made = bundle.manifest.made
    if isinstance(made, BaselineProvenance):
        return frozenset()
    file = bundle.path / TEXTS
    content = file.read_bytes() if file.is_file() else None
    if content is None or made.texts != sha256_bytes(content):
        return None
    return frozenset(content.decode("ascii", "replace").split())
