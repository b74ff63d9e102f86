"""Two conditions compared, against closed forms, a known null and a known difference."""

import math

import jax
import numpy as np
import pytest
from ensembles import alternating_with_walls, chain, entropy_bits

from lateral import Ring, compare_conditions, estimate_utility

KEY = jax.random.key(0)


def alternating(n_alike: int, n_swapped: int, n_cells: int = 6) -> np.ndarray:
    row = np.arange(n_cells) % 2
    return np.concatenate([np.tile(row, (n_alike, 1)), np.tile(1 - row, (n_swapped, 1))])


def test_one_pattern_against_two_differs_by_what_it_should():
    """Always the same alternating row has U = 1, either of the two U = 1 - 1/6; the coin has no error here."""
    found = compare_conditions(alternating(60, 0), alternating(30, 30), key=KEY, n_permutations=400)
    correction = 1.0 / (2.0 * math.log(2.0) * 60 * 6)  # Miller's, of one free frequency
    assert found.context is None
    assert found.utility_a == pytest.approx(1.0, abs=1e-12)
    assert found.utility_b == pytest.approx(5.0 / 6.0 - correction, abs=1e-12)
    assert found.difference == pytest.approx(1.0 / 6.0 + correction, abs=1e-12)
    assert found.low < found.difference < found.high and found.p_value == pytest.approx(1.0 / 401.0)


@pytest.mark.slow
def test_counted_utilities_are_those_of_the_estimate():
    """Whose correction is the jackknife's: it differs for patterns that are seen a few times."""
    known = alternating_with_walls(np.random.default_rng(1), 3000, 5, 0.2)
    a, b = known.fates[:2000], known.fates[2000:]
    found = compare_conditions(a, b, key=KEY, n_permutations=2)
    for utility, fates in ((found.utility_a, a), (found.utility_b, b)):
        assert utility == pytest.approx(float(estimate_utility(fates).utility_corrected), abs=2e-3)


@pytest.mark.slow
def test_p_values_are_uniform_where_there_is_no_difference():
    """Groups of unlike sizes from one chain: the share of p-values below a level is that level; four deviations."""
    p_values = []
    for seed in range(150):
        known = chain(np.random.default_rng(seed), 60, 4)
        found = compare_conditions(
            known.fates[:20], known.fates[20:], key=jax.random.key(seed), n_permutations=59, context=1
        )
        p_values.append(found.p_value)
    for level in (0.1, 0.3, 0.5, 0.8):
        deviation = math.sqrt(level * (1.0 - level) / 150)
        assert abs(np.mean(np.array(p_values) <= level) - level) < 4.0 * deviation
    assert min(p_values) >= 1.0 / 60.0


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Walls with probability 0.05 against 0.2 on rows of four: the true difference lies in 90 % of intervals."""
    covered = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        one, other = (alternating_with_walls(rng, 150, 4, density) for density in (0.05, 0.2))
        found = compare_conditions(
            one.fates, other.fates, key=jax.random.key(seed), n_permutations=100, coverage=0.9, context=1
        )
        covered.append(found.low <= one.utility - other.utility <= found.high)
    assert abs(np.mean(covered) - 0.9) < 4.0 * math.sqrt(0.9 * 0.1 / 150)


def test_a_difference_is_found_where_nothing_can_be_counted():
    """Rows of 64 cells, 80 tissues: the bound of Markov rows is exact, and the difference that of two entropies."""
    rng = np.random.default_rng(2)
    few, many = (alternating_with_walls(rng, 80, 64, density) for density in (0.05, 0.1))
    found = compare_conditions(few.fates, many.fates, key=KEY, n_permutations=200)
    assert found.context == 2 and found.p_value < 0.01
    assert found.low < few.utility - many.utility < found.high


def test_three_fates_are_compared():
    rng = np.random.default_rng(6)
    known = chain(rng, 400, 3, 0.1, 3)
    other = rng.integers(0, 3, (400, 3))
    found = compare_conditions(known.fates, other, key=KEY, n_permutations=99, n_fates=3)
    assert found.p_value == pytest.approx(0.01)
    assert abs(found.difference - known.utility) < found.high - found.low  # four standard errors
    with pytest.raises(ValueError, match="exactly 0 or 1, got 2"):
        compare_conditions(known.fates, other, key=KEY)


def test_contexts_of_a_length_are_those_of_the_chain_rule():
    fates = np.random.default_rng(4).integers(0, 2, (300, 4))
    found = compare_conditions(fates[:200], fates[200:], Ring(4), key=KEY, n_permutations=1, context=3)
    shares = np.unique(fates[:200], axis=0, return_counts=True)[1] / 200
    p = fates[:200].mean()
    plain = entropy_bits(p, 1.0 - p) - entropy_bits(*shares) / 4  # all earlier cells: the patterns themselves
    correction = (len(shares) - 1) / (2.0 * math.log(2.0) * 200 * 4)
    assert found.utility_a == pytest.approx(plain - correction, abs=1e-3)


@pytest.mark.bad_input
def test_refuses_with_the_reason():
    fates = np.ones((20, 3))
    for change, message in (
        ({"fates_b": np.ones((20, 4))}, "equally many cells, got 3 and 4"),
        ({"fates_b": np.ones((1, 3))}, "fates_b must hold at least 2 replicates, got 1"),
        ({"fates_a": np.full((4, 3), 0.5)}, "fates_a must hold fates, exactly 0 or 1, got 0.5"),
        ({"geometry": Ring(5)}, "as many cells as the patterns, 3, got 5"),
        ({"n_permutations": 0}, "n_permutations must be >= 1, got 0"),
        ({"coverage": 1.2}, "coverage must be <= 1, got 1.2"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_conditions(**{"fates_a": fates, "fates_b": fates, "key": KEY} | change)
