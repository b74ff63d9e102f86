"""Bootstrap intervals of a table of fates, and its picture, against closed forms."""

import math

import jax
import numpy as np
import pytest
from ensembles import alternating_with_walls

from lateral import Ring, compare_conditions, estimate_utility, utility_intervals
from lateral.plotting import plot_conditions

KEY = jax.random.key(0)


def test_counted_numbers_are_those_of_the_estimate():
    """Whose corrections are the jackknife's: they differ for patterns that are seen a few times."""
    fates = alternating_with_walls(np.random.default_rng(1), 2000, 5, 0.2).fates
    found, estimate = utility_intervals(fates, key=KEY, n_resamples=50), estimate_utility(fates)
    assert found.context is None
    assert found.utility.value == pytest.approx(float(estimate.utility_corrected), abs=2e-3)
    assert found.utility.value == pytest.approx(found.s_pat.value - found.s_rep.value, abs=1e-12)
    assert np.mean(found.information.value) == pytest.approx(float(estimate.positional_information), abs=2e-3)
    for interval in found[:4]:
        assert np.all(interval.low <= interval.high)
    assert found.utility.low < found.utility.value < found.utility.high


def test_a_place_that_is_always_the_same_tells_all_of_its_fate():
    """Cell 1 is always 1, cell 2 always 0, cells 3 and 4 are coins: S_pat = 1, so 1, 1, 0 and 0 bits."""
    coins = np.random.default_rng(2).integers(0, 2, (4000, 2))
    fates = np.concatenate([np.tile([1, 0], (4000, 1)), coins], axis=1)
    information = utility_intervals(fates, key=KEY, n_resamples=100).information
    np.testing.assert_allclose(information.value, [1.0, 1.0, 0.0, 0.0], atol=2e-3)


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """Walls with probability 0.15 on rows of four: U, S_pat and S_rep lie in 90 % of their intervals."""
    covered = []
    for seed in range(150):
        known = alternating_with_walls(np.random.default_rng(seed), 150, 4, 0.15)
        found = utility_intervals(known.fates, key=jax.random.key(seed), n_resamples=200, coverage=0.9)
        covered.append(found.utility.low <= known.utility <= found.utility.high)
    assert abs(np.mean(covered) - 0.9) < 4.0 * math.sqrt(0.09 / 150)


def test_long_rows_are_bounded():
    known = alternating_with_walls(np.random.default_rng(3), 400, 40, 0.1)
    found = utility_intervals(known.fates, key=KEY, n_resamples=50)
    assert found.context is not None and found.context >= 1
    four_errors = found.utility.high - found.utility.low
    assert abs(found.utility.value - known.utility) < four_errors


def test_three_fates_in_turn():
    """On a ring of six, always 012012: S_pat = log2 3, nothing is left to S_rep, and each place tells all."""
    found = utility_intervals(np.tile([0, 1, 2, 0, 1, 2], (50, 1)), Ring(6), key=KEY, n_resamples=20, n_fates=3)
    assert found.utility == pytest.approx((math.log2(3.0),) * 3)
    np.testing.assert_allclose(found.information.value, math.log2(3.0))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fates": [[0, 2]] * 3}, "fates must hold fates"),
        ({"fates": [[0, 1]]}, "at least 2 replicates"),
        ({"geometry": Ring(5)}, "geometry"),
        ({"coverage": 1.5}, "coverage"),
        ({"n_resamples": 1}, "n_resamples"),
        ({"key": 3}, "key"),
    ],
)
def test_refuses_with_the_reason(changed, said):
    given = {"fates": np.tile([0, 1], (3, 1)), "key": KEY} | changed
    with pytest.raises(ValueError, match=said):
        utility_intervals(given.pop("fates"), **given)


def test_the_picture_shows_what_was_found_in_one_context_for_all():
    rng = np.random.default_rng(4)
    tables = {name: alternating_with_walls(rng, 300, 6, density).fates for name, density in (("a", 0.05), ("b", 0.3))}
    assert utility_intervals(tables["a"], key=KEY).context is None  # "b" alone has too many patterns to be counted
    left, middle, right = plot_conditions(tables, key=KEY).axes
    compared = compare_conditions(tables["a"], tables["b"], key=KEY, n_permutations=10)
    utilities = [container.lines[0].get_ydata()[0] for container in left.containers]
    np.testing.assert_allclose(utilities, [compared.utility_a, compared.utility_b])
    found = utility_intervals(tables["a"], key=KEY, context=compared.context)
    shown = left.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(shown, [found.utility.value, found.s_pat.value, found.s_rep.value])
    low, high = left.containers[0].lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose([low, high], [found.utility.low, found.utility.high])
    np.testing.assert_allclose(middle.lines[0].get_ydata(), found.information.value)
    assert right.patches[0].get_width() == pytest.approx(
        max(np.unique(tables["a"], axis=0, return_counts=True)[1]) / 300
    )
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["a", "b"]


def test_the_picture_of_large_tissues_shows_shares_of_fates():
    fates = np.random.default_rng(5).integers(0, 3, (60, 30))
    left, _, right = plot_conditions({"one": fates}, key=KEY, n_fates=3).axes
    assert left.get_xticklabels()[0].get_text() == "U, at least"
    np.testing.assert_allclose(
        [bar.get_height() for bar in right.patches], [np.mean(fates == fate) for fate in range(3)]
    )


@pytest.mark.bad_input
def test_a_picture_needs_names():
    with pytest.raises(ValueError, match="by name"):
        plot_conditions([[0, 1]], key=KEY)
