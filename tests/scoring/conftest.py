from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from simile.scoring import Scorer
from tests.tiny_ensembles import CPU, MAX_LENGTH, WORDS, Ensemble, table


@pytest.fixture(scope="session")
def scorer(bundle) -> Scorer:
    return Scorer(bundle, CPU)


@pytest.fixture
def ensemble(tmp_path) -> Ensemble:
    return Ensemble(tmp_path)


@pytest.fixture
def expected_cosine() -> Callable[[str, str], float]:
    """The encoder's cosine of two texts, computed by NumPy alone."""

    def embed(text: str) -> NDArray[np.float64]:
        ids = [WORDS.index(word) if word in WORDS else WORDS.index("[UNK]") for word in ["[CLS]", *text.split()]]
        sum_D = table().astype(np.float64)[ids[:MAX_LENGTH]].sum(axis=0)
        return sum_D / np.linalg.norm(sum_D)

    return lambda a, b: float(embed(a) @ embed(b))
