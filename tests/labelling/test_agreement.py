"""Agreement: coefficients by their definitions, on published data, and what two people disagree on."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from labelling.agreement import MISSING, agreement, cohen_kappa, krippendorff_alpha


def alpha_by_definition(label_PA):
    """One minus the share of unequal pairs of labels within pairs over that among all labels that have a partner."""
    units = [[label for label in row if label != MISSING] for row in label_PA.tolist()]
    units = [unit for unit in units if len(unit) >= 2]
    values = [label for unit in units for label in unit]
    observed = sum(sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    expected = sum(a != b for a, b in itertools.permutations(values, 2)) / (len(values) - 1)
    return 1 - observed / expected


@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_that_of_the_definition_with_missing_labels(seed):
    rng = np.random.default_rng(seed)
    label_PA = rng.integers(-1, 2, (30, 4))
    assert krippendorff_alpha(label_PA).value == pytest.approx(alpha_by_definition(label_PA))


def test_alpha_of_krippendorffs_own_example_of_binary_data():
    # Krippendorff 2011, section A: two observers, ten units, alpha 0.095.
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    other = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha(np.array([one, other]).T).value == pytest.approx(0.095, abs=5e-4)


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(0)
    a_P = rng.integers(0, 2, 50)
    b_P = np.where(rng.random(50) < 0.8, a_P, 1 - a_P)
    kappa = cohen_kappa(np.column_stack([a_P, b_P]))
    assert kappa.value == pytest.approx(cohen_kappa_score(a_P, b_P))
    assert kappa.low < kappa.value < kappa.high
    assert kappa.pairs == 50


def test_labels_of_one_class_have_no_coefficient():
    assert krippendorff_alpha(np.ones((5, 2), dtype=np.int64)).value is None
    assert cohen_kappa(np.ones((5, 2), dtype=np.int64)).value is None
    assert krippendorff_alpha(np.empty((0, 2), dtype=np.int64)).pairs == 0


def test_who_disagrees_with_whom_is_counted_by_direction():
    labels = {"ada": {"1": 1, "2": 1, "3": 0, "4": 0}, "bob": {"1": 1, "2": 0, "3": 0}, "eve": {"9": 1}}
    (two,) = agreement(labels).annotators
    assert (two.first, two.second, two.agreed, two.first_same, two.second_same) == ("ada", "bob", 2, 1, 0)


def test_interval_of_alpha_covers_the_true_value():
    rng = np.random.default_rng(0)
    # Two people disagree if one of them errs; by chance, in half of the cases.
    alpha = 1 - 2 * 0.85 * 0.15 / 0.5

    def labels(num):
        truth_P = rng.integers(0, 2, num)
        return np.column_stack([np.where(rng.random(num) < 0.85, truth_P, 1 - truth_P) for _ in range(3)])

    covered = sum(one.low <= alpha <= one.high for one in (krippendorff_alpha(labels(100)) for _ in range(100)))
    # Of 100 intervals of 95 %, at least 89 in 99 % of the cases.
    assert covered >= 89
