"""TF-IDF cosines by a lexical member: the numbers of scikit-learn, which serving does not have.

Shape suffixes: P = pairs, V = words of the vocabulary.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Bundle, LexicalMember
from simile.errors import BundleError
from simile.scoring.faults import blaming

_WORD = re.compile(r"(?u)\b\w\w+\b")
_MAX_UNPACKED = 2**29
"""Most bytes of the words, and of their frequencies, once unpacked."""
_MAX_IDF = 1e3
"""Above every inverse document frequency: with 10^100 documents, it is 231."""


def words(text: str) -> list[str]:
    """Return the words of a text that TF-IDF counts: two characters or more, in lower case."""
    return _WORD.findall(text.lower())


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

    Source: scikit-learn's TfidfVectorizer(sublinear_tf=True) with its default token pattern and lower-casing.
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
