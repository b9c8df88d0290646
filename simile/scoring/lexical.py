"""TF-IDF cosines by a lexical member: the numbers of scikit-learn, which serving does not have.

Shape suffixes: P = pairs, V = words of the vocabulary.
"""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Bundle, LexicalMember
from simile.errors import BundleError

_WORD = re.compile(r"(?u)\b\w\w+\b")


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


class Lexical:
    """TF-IDF with sublinear term frequency and L2 normalisation.

    Source: scikit-learn's TfidfVectorizer(sublinear_tf=True) with its default token pattern and lower-casing.
    """

    def __init__(self, bundle: Bundle, member: LexicalMember) -> None:
        self.name = member.name
        try:
            with np.load(io.BytesIO(bundle.data[member.vocabulary.path]), allow_pickle=False) as file:
                known, self._idf_V = bytes(file["words"]).decode().split("\n"), file["idf"]
        # The errors of NumPy and zipfile have no common base.
        except Exception as error:
            raise BundleError(f"{bundle.path}: {member.vocabulary.path} is not a vocabulary ({error})") from error
        if len(known) != len(self._idf_V) or len(known) != member.dimension:
            got = f"{bundle.path}: {member.vocabulary.path} has {len(known)} words"
            raise BundleError(f"{got}, need {member.dimension}")
        self._vocabulary = {word: index for index, word in enumerate(known)}

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
