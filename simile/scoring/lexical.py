"""TF-IDF cosines by a lexical member: the numbers of scikit-learn, which serving does not have.

Shape suffixes: P = pairs, V = words of the vocabulary.
"""

import io
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Bundle, LexicalMember
from simile.errors import BundleError
from simile.scoring.faults import blaming

_MAX_UNPACKED = 2**29
"""Most bytes of the words, and of their frequencies, once unpacked."""
_MAX_IDF = 1e3
"""Above every inverse document frequency: with 10^100 documents, it is 231."""
_UNSPACED = (
    r"\u3005-\u3007\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua000-\ua4cf\ua980-\ua9ff"
    r"\uaa60-\uaadf\U00016fe0-\U00018d8f\U0001aff0-\U0001b2ff\U00020000-\U0003ffff"
)
"""Blocks of the scripts that put no blanks between words: Han, kana, bopomofo and Yi; Thai, Lao, Myanmar, Khmer, Tai,
Javanese and Balinese; Tangut, Khitan and Nushu."""
_RUN = re.compile(rf"([{_UNSPACED}]+)|[^ {_UNSPACED}]{{2,}}")
_ASCII_WORD = re.compile(r"\w\w+")
_MAX_KNOWN = 1 << 16
"""Characters whose part in words is remembered: all that people write, and few enough if a text holds every one."""


class _PartInWords(dict[int, str]):
    """Maps each character to itself if it may be in a word, to nothing if it is invisible, and else to a blank."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf" or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:
            part = ""
        else:
            part = character if character.isalnum() or character == "_" or category in ("Mn", "Mc") else " "
        if len(self) < _MAX_KNOWN:
            self[code] = part
        return part


_PART_IN_WORDS = _PartInWords()


def words(text: str) -> list[str]:
    """Return the words of a text that TF-IDF counts, in lower case and composed (NFC).

    A word is a run of two or more letters, digits and underscores, with their combining marks; invisible characters
    (format characters and variation selectors) do not count. A run in a script without blanks between words, such as
    Chinese, Japanese or Thai, is cut into overlapping pairs of characters; a lone such character is a word as well.
    A text without words has its single characters in their place, or else, such as emoji, what lies between its blanks.
    """
    if text.isascii() and (ascii_words := _ASCII_WORD.findall(text.lower())):
        return ascii_words
    composed = unicodedata.normalize("NFC", text).lower()
    blanked = composed.translate(_PART_IN_WORDS)
    counted: list[str] = []
    for run in _RUN.finditer(blanked):
        if run[1] and len(run[1]) > 1:
            counted.extend(map(add, run[1], run[1][1:]))
        else:
            counted.append(run[0])
    return counted or blanked.split() or composed.split()


def pack_vocabulary(vocabulary: Mapping[str, int], idf_V: NDArray[np.floating]) -> bytes:
    """Return the content of the member's file: the words in index order and their inverse document frequencies."""
    in_order = "\n".join(sorted(vocabulary, key=lambda word: vocabulary[word]))
    buffer = io.BytesIO()
    packed = np.frombuffer(in_order.encode(), dtype=np.uint8)
    np.savez_compressed(buffer, words=packed, idf=np.asarray(idf_V, dtype=np.float64))
    return buffer.getvalue()


def _read_array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array of one dimension, or raise a ``ValueError``; a small file must not unpack to gigabytes."""
    info = archive.getinfo(f"{name}.npy")
    # Only these two are unpacked piece by piece.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > _MAX_UNPACKED:
        raise ValueError(f"{name} unpacks to {info.file_size} bytes, need at most {_MAX_UNPACKED}, stored or deflated")
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is of an unknown version of NumPy's format")
        shape, _, got = np.lib.format.read_array_header_1_0(file)
        array = np.frombuffer(file.read(), dtype=dtype) if got == dtype else None
    if array is None or array.shape != shape:
        raise ValueError(f"{name} holds {got} of shape {shape}, need {dtype} of one dimension")
    return array


class Lexical:
    """TF-IDF with sublinear term frequency and L2 normalisation.

    Source: scikit-learn's TfidfVectorizer(sublinear_tf=True, analyzer=words).
    """

    def __init__(self, bundle: Bundle, member: LexicalMember) -> None:
        self.name = member.name
        path = member.vocabulary.path
        with (
            blaming(bundle.path, f"{path} is not a vocabulary"),
            zipfile.ZipFile(io.BytesIO(bundle.data[path])) as archive,
        ):
            self._idf_V = _read_array(archive, "idf", np.dtype(np.float64))
            packed = _read_array(archive, "words", np.dtype(np.uint8)).tobytes()
        num_words = packed.count(b"\n") + 1
        if (num_words, len(self._idf_V)) != (member.dimension, member.dimension):
            got = f"{bundle.path}: {path} has {num_words} words and {len(self._idf_V)} frequencies"
            raise BundleError(f"{got}, need {member.dimension} of each")
        with blaming(bundle.path, f"{path} is not a vocabulary"):
            self._vocabulary = {word: index for index, word in enumerate(packed.decode().split("\n"))}
        if len(self._vocabulary) < num_words or not ((self._idf_V > 0) & (self._idf_V < _MAX_IDF)).all():
            need = f"need different words, and inverse document frequencies between 0 and {_MAX_IDF:g}"
            raise BundleError(f"{bundle.path}: {path} has a word twice or an impossible frequency, {need}")

    def weights(self, text: str) -> dict[int, float]:
        """Return the weights of the text's words by index, as a vector of length 1; empty if no word is known."""
        counts = Counter(index for word in words(text) if (index := self._vocabulary.get(word)) is not None)
        weights = {index: (1 + float(np.log(count))) * float(self._idf_V[index]) for index, count in counts.items()}
        norm = float(np.sqrt(sum(weight * weight for weight in weights.values())))
        return {index: weight / norm for index, weight in weights.items()}

    def cosines(self, texts: Sequence[str], pair_P2: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the cosine of each pair of texts, shape ``(P,)``, in [0, 1]; 0 if a text has no known word."""
        weights = [self.weights(text) for text in texts]
        return np.array(
            [sum(weight * weights[b].get(word, 0.0) for word, weight in weights[a].items()) for a, b in pair_P2],
            dtype=np.float32,
        )
