"""Utility against closed forms, enumeration, brute force in NumPy, invariances and finite differences."""

import itertools
import math
import warnings
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import (
    UndersampledWarning,
    alternation,
    apply_threshold,
    compute_bernoulli_utility,
    compute_hard_utility,
    compute_pairwise_utility,
    compute_soft_utility,
    correlational_information,
    estimate_utility,
    positional_information,
    soften_fates,
)
from lateral.objective import influence
from lateral.patterns import PatternClasses, group_sizes

ROW = np.array([0, 1, 0, 1, 0, 1, 0])  # three of seven cells are on
N_REPLICATES = 384  # of most ensembles: one size, compiled once


def entropy_bits(probabilities):
    return -sum(p * math.log2(p) for p in probabilities if p > 0.0)


def plain_utility(fates):
    """U, S_pat and S_rep by counting, in plain Python."""
    rows = [tuple(int(x) for x in row) for row in np.asarray(fates)]
    n_replicates, n_cells = len(rows), len(rows[0])
    share = sum(map(sum, rows)) / (n_replicates * n_cells)
    s_pat = entropy_bits([share, 1.0 - share])
    s_rep = entropy_bits([c / n_replicates for c in Counter(rows).values()]) / n_cells
    return s_pat - s_rep, s_pat, s_rep


def random_ensemble(n_cells, n_replicates=N_REPLICATES, n_patterns=12, seed=0):
    """Replicates that show one of a few random patterns, with unequal probabilities."""
    rng = np.random.default_rng(seed + n_cells)
    pool = (rng.uniform(size=(n_patterns, n_cells)) < 0.4).astype(int)
    return pool[rng.choice(n_patterns, size=n_replicates, p=rng.dirichlet(np.ones(n_patterns)))]


def halves(first, second):
    return np.repeat([first, second], N_REPLICATES // 2, axis=0)


# --- hard utility


@pytest.mark.parametrize(
    ("fates", "expected"),
    {
        "identical alternating rows score H(3/7)": (np.tile(ROW, (N_REPLICATES, 1)), entropy_bits([3 / 7, 4 / 7])),
        "both alternating patterns, half each": (halves(ROW, 1 - ROW), 6 / 7),
        "consensus": (halves(0 * ROW, 0 * ROW + 1), 6 / 7),
        "all on": (np.ones((N_REPLICATES, 7)), 0.0),
        "all off": (np.zeros((N_REPLICATES, 7)), 0.0),
        "every pattern thrice": (np.tile(list(itertools.product([0, 1], repeat=7)), (3, 1)), 0.0),
    }.values(),
    ids=lambda value: "" if isinstance(value, np.ndarray) else f"{value:.5f}",
)
@pytest.mark.filterwarnings("ignore::lateral.UndersampledWarning")
def test_closed_forms(precision, fates, expected):
    tolerance = 1e-12 if precision == "float64" else 1e-6
    assert float(compute_hard_utility(fates)[0]) == pytest.approx(expected, abs=tolerance)


def test_the_closed_form_of_alternating_rows_is_98523():
    assert entropy_bits([3 / 7, 4 / 7]) == pytest.approx(0.98523, abs=5e-6)


def test_independent_fair_cells_score_zero():
    """The plug-in estimate of 127 free frequencies is biased upward by 127 / (2 ln2 N R); four standard errors."""
    fates = np.random.default_rng(1).integers(0, 2, size=(20_000, 7))
    estimate = estimate_utility(fates)
    bias = 127.0 / (2.0 * math.log(2.0) * 7 * 20_000)
    assert abs(estimate.utility - bias) < 4.0 * estimate.utility_se
    assert abs(estimate.utility_corrected) < 4.0 * estimate.utility_se
    assert estimate.utility_se < 1e-3


@pytest.mark.parametrize("n_cells", [1, 7, 64, 100])
def test_entropies_match_enumeration(n_cells):
    fates = random_ensemble(n_cells)
    np.testing.assert_allclose(compute_hard_utility(fates), plain_utility(fates), atol=1e-12)


@pytest.mark.parametrize("cell", [0, 31, 32, 63])
def test_patterns_of_64_cells_that_differ_in_one_cell_are_told_apart(cell):
    other = np.zeros(64)
    other[cell] = 1
    s_rep = compute_hard_utility(halves(np.zeros(64), other))[2]
    assert float(s_rep) == pytest.approx(1.0 / 64.0, abs=1e-12)


DTYPES = ["bool", "int8", "int32", "uint8", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_gives_the_same_utilities(dtype):
    fates = random_ensemble(7)
    typed = jnp.asarray(fates, dtype)
    np.testing.assert_allclose(compute_hard_utility(typed), plain_utility(fates), atol=1e-12)
    np.testing.assert_allclose(estimate_utility(typed).utility, plain_utility(fates)[0], atol=1e-12)
    np.testing.assert_allclose(compute_soft_utility(typed), plain_utility(fates), atol=1e-4)
    np.testing.assert_allclose(compute_bernoulli_utility(typed), plain_utility(fates), atol=1e-6)
    np.testing.assert_allclose(compute_pairwise_utility(typed), plain_utility(fates), atol=1e-6)
    assert float(alternation(typed)) == pytest.approx((np.diff(fates) != 0).mean(), abs=1e-12)
    np.testing.assert_array_equal(apply_threshold(typed), fates)


@pytest.mark.bad_input
def test_lists_are_arrays_too():
    fates = random_ensemble(7)
    np.testing.assert_allclose(compute_hard_utility(fates.tolist()), plain_utility(fates), atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda fates: fates[np.random.default_rng(3).permutation(len(fates))],
        lambda fates: fates[:, ::-1],
        lambda fates: 1 - fates,
    ],
    ids=["order of replicates", "mirror image", "swap of fates"],
)
def test_every_score_is_invariant_under(change):
    fates = random_ensemble(7)
    one, other = estimate_utility(fates), estimate_utility(change(fates))
    np.testing.assert_allclose(np.asarray(one, np.float64), np.asarray(other, np.float64), atol=1e-12)


def test_flipping_every_second_cell_keeps_U_at_equal_fates_and_mirrors_alternation():
    """Why consensus and alternation score alike: S_rep never notices, S_pat does not when both fates are equally
    frequent on both sublattices, and unequal neighbours become equal ones."""
    fates = random_ensemble(8)
    fates = np.concatenate([fates, 1 - fates])  # as many on as off, in each cell
    flipped = fates ^ (np.arange(8) % 2)
    assert float(compute_hard_utility(flipped)[0]) == pytest.approx(float(compute_hard_utility(fates)[0]), abs=1e-12)
    assert float(alternation(flipped)) == pytest.approx(1.0 - float(alternation(fates)), abs=1e-12)


def test_hard_utility_works_under_jit_and_vmap():
    ensembles = np.stack([random_ensemble(7, seed=seed) for seed in range(3)])
    expected = [plain_utility(fates) for fates in ensembles]
    utilities = jax.jit(jax.vmap(compute_hard_utility))(ensembles)
    np.testing.assert_allclose(np.transpose(utilities), expected, atol=1e-12)


# --- alternation


@pytest.mark.parametrize("boundary", ["free", "pinned", "ring"])
@pytest.mark.parametrize("n_cells", [3, 7])
def test_alternation_is_the_share_of_unequal_neighbours(boundary, n_cells):
    fates = random_ensemble(n_cells)
    pairs = [(i, i + 1) for i in range(n_cells - 1)] + ([(n_cells - 1, 0)] if boundary == "ring" else [])
    expected = np.mean([[row[i] != row[j] for i, j in pairs] for row in fates])
    assert float(alternation(fates, boundary)) == pytest.approx(expected, abs=1e-12)


def test_an_estimate_on_a_ring_counts_the_pair_across_the_ends():
    fates = np.tile(ROW, (N_REPLICATES, 1))  # 0 at both ends: six pairs of six differ in a row, six of seven on a ring
    assert float(estimate_utility(fates).alternation) == pytest.approx(1.0, abs=1e-12)
    assert float(estimate_utility(fates, "ring").alternation) == pytest.approx(6 / 7, abs=1e-12)


@pytest.mark.filterwarnings("ignore::lateral.UndersampledWarning")
def test_a_lone_cell_has_no_neighbour_to_differ_from():
    fates = np.array([[0.0], [1.0], [1.0], [1.0]])
    assert float(alternation(fates)) == 0.0
    # One cell, one pattern: what is said pooled is what varies.
    np.testing.assert_allclose(compute_hard_utility(fates), [0.0, *[entropy_bits([0.25, 0.75])] * 2], atol=1e-12)


# --- positional and correlational information


def plain_information(fates):
    """Positional information as the mutual information of fate and position, correlational information as the total
    correlation of the cells, both per cell and from their definitions."""
    n_replicates, n_cells = fates.shape
    share = fates.mean()
    positional = 0.0
    for i, fate in itertools.product(range(n_cells), (0, 1)):
        joint = (fates[:, i] == fate).sum() / fates.size
        if joint > 0.0:
            positional += joint * math.log2(joint / ((share if fate else 1.0 - share) / n_cells))
    correlational = 0.0
    for pattern, count in Counter(map(tuple, fates.tolist())).items():
        independent = math.prod((fates[:, i] == fate).mean() for i, fate in enumerate(pattern))
        correlational += count / n_replicates * math.log2(count / n_replicates / independent) / n_cells
    return positional, correlational


@pytest.mark.parametrize("n_cells", [2, 7])
def test_information_matches_its_definitions_and_sums_to_the_utility(n_cells):
    fates = random_ensemble(n_cells)
    positional, correlational = plain_information(fates)
    assert positional > 1e-3 and correlational > 1e-3
    assert float(positional_information(fates)) == pytest.approx(positional, abs=1e-12)
    assert float(correlational_information(fates)) == pytest.approx(correlational, abs=1e-12)
    assert positional + correlational == pytest.approx(plain_utility(fates)[0], abs=1e-12)


# --- bias and standard error


def leave_one_out(fates):
    """Jackknife bias and standard error of U by an explicit loop, in double precision."""
    n_replicates, whole = len(fates), plain_utility(fates)[0]
    left_out = np.array([plain_utility(np.delete(fates, r, axis=0))[0] for r in range(n_replicates)])
    bias = (n_replicates - 1) * (left_out.mean() - whole)
    return bias, math.sqrt((n_replicates - 1) / n_replicates * ((left_out - left_out.mean()) ** 2).sum())


def test_bias_and_standard_error_match_a_leave_one_out_loop():
    fates = random_ensemble(7, 100, n_patterns=40)
    assert 1 in Counter(map(tuple, fates.tolist())).values()  # also a pattern that leaves the ensemble
    bias, standard_error = leave_one_out(fates)
    estimate = estimate_utility(fates)
    assert bias > 1e-3
    # The change of S_pat is written to second order in 1/R.
    assert float(estimate.utility - estimate.utility_corrected) == pytest.approx(bias, rel=2e-3)
    assert float(estimate.utility_se) == pytest.approx(standard_error, rel=2e-3)


def test_bias_and_standard_error_hold_in_single_precision_at_20000_replicates(float32, tanh_fates):
    """Replicates with equal patterns leave equal ensembles behind: one deletion for each pattern will do."""
    fates = tanh_fates[:20_000].astype(int)
    n_replicates, n_cells = fates.shape
    patterns = Counter(map(tuple, fates.tolist()))
    counts, ones = np.array(list(patterns.values()), float), np.array([sum(pattern) for pattern in patterns])

    def utility(counts):
        share = (counts * ones).sum() / (counts.sum() * n_cells)
        return entropy_bits([share, 1 - share]) - entropy_bits(counts / counts.sum()) / n_cells

    left_out = np.array([utility(counts - np.eye(len(counts))[k]) for k in range(len(counts))])
    mean = (counts * left_out).sum() / n_replicates
    bias = (n_replicates - 1) * (mean - utility(counts))
    standard_error = math.sqrt((n_replicates - 1) / n_replicates * (counts * (left_out - mean) ** 2).sum())

    estimate = estimate_utility(fates)
    assert estimate.utility.dtype == jnp.float32
    assert float(estimate.utility) == pytest.approx(utility(counts), abs=2e-6)
    assert float(estimate.utility - estimate.utility_corrected) == pytest.approx(bias, rel=0.02)
    assert float(estimate.utility_se) == pytest.approx(standard_error, rel=1e-3)


def test_correction_removes_bias_and_the_standard_error_is_the_spread_over_repeats(float32, tanh_fates):
    """400 ensembles of 50 replicates each. The spread over them is known to 1 / sqrt(2 * 400) = 3.5 %."""
    fates = tanh_fates[:20_000]
    truth = estimate_utility(fates).utility_corrected
    estimates = jax.jit(jax.vmap(estimate_utility))(fates.reshape(400, 50, 7))
    bias = estimates.utility.mean() - truth
    remaining = estimates.utility_corrected.mean() - truth
    assert 0.015 < bias < 0.035  # 0.637 instead of 0.614
    assert abs(remaining) < bias / 3.0
    assert float(estimates.utility_se.mean() / estimates.utility.std()) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("fate", [0, 1])
@pytest.mark.parametrize("n_replicates", [2, 41, 1000, 12_345, 19_999])
def test_tissues_that_are_all_alike_have_no_error_and_no_bias(float32, n_replicates, fate):
    """R / R as compiled code may compute it is not 1 for some R, and H has no curvature to lean on at p = 1."""
    estimate = estimate_utility(np.full((n_replicates, 7), fate))
    assert max(abs(estimate.utility), abs(estimate.utility_corrected), estimate.utility_se) < 1e-6


def test_one_replicate_has_an_infinite_standard_error(nan_allowed):
    estimate = estimate_utility(ROW[None])
    assert estimate.utility_se == jnp.inf
    assert estimate.n_patterns == 1


# --- undersampling


@pytest.mark.slow
def test_independent_cells_are_flagged_as_undersampled():
    """Every one of 20,000 patterns of 64 cells is new: S_rep = log2(20,000) / 64, and U reads 0.78 instead of 0."""
    fates = np.random.default_rng(0).integers(0, 2, size=(20_000, 64)).astype(np.int8)
    with pytest.warns(UndersampledWarning, match="20000 distinct patterns in 20000 replicates"):
        utility, _, s_rep = compute_hard_utility(fates)
    assert float(s_rep) == pytest.approx(math.log2(20_000) / 64, abs=1e-12)
    assert float(utility) == pytest.approx(0.78, abs=0.005)
    estimate = estimate_utility(fates)
    assert bool(estimate.undersampled) and int(estimate.n_patterns) == 20_000


def test_a_tenth_of_the_replicates_is_the_limit_of_undersampling():
    rows = np.repeat(np.eye(7)[:5], 20, axis=0)  # 5 patterns in 100 replicates
    rows[:5] = np.tile([1, 1, 0, 0, 0, 0, 0], (5, 1)) ^ np.eye(7, dtype=int)[2:]  # and 5 more: 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute_hard_utility(rows)
    assert not estimate_utility(rows).undersampled
    rows[5] = 1.0  # 11
    with pytest.warns(UndersampledWarning, match="11 distinct patterns in 100"):
        compute_hard_utility(rows)
    assert estimate_utility(rows).undersampled


# --- threshold


def test_threshold_is_one_half_and_inclusive():
    states = np.array([0.0, 0.4999, np.nextafter(0.5, 0.0), 0.5, 0.5001, 1.0])
    np.testing.assert_array_equal(apply_threshold(states), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(apply_threshold(states, 0.5001), [0, 0, 0, 0, 1, 1])


def test_threshold_is_inclusive_in_every_precision():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        states = jnp.asarray([0.3, 0.7], dtype)
        fates = apply_threshold(states, 0.7)
        assert fates.dtype == dtype
        np.testing.assert_array_equal(fates, [0, 1])


def test_straight_through_gradient_is_the_identity(precision):
    states, weights = np.random.default_rng(0).uniform(size=(2, 3, 5))
    value, gradient = jax.value_and_grad(lambda s: jnp.vdot(weights, apply_threshold(s)))(jnp.asarray(states))
    assert float(value) == pytest.approx((weights * (states >= 0.5)).sum(), rel=1e-6)
    np.testing.assert_allclose(gradient, weights, rtol=1e-6)


def test_soft_fates_follow_the_logistic_function():
    states = np.linspace(0.0, 1.0, 11)
    np.testing.assert_allclose(soften_fates(states), 1.0 / (1.0 + np.exp(-(states - 0.5) / 0.1)), rtol=1e-12)
    np.testing.assert_allclose(
        soften_fates(states, 0.02, 0.3), 1.0 / (1.0 + np.exp(-(states - 0.3) / 0.02)), rtol=1e-12
    )


# --- soft utility


def plain_soft_utility(patterns, bandwidth):
    """The definition as a double loop over replicates."""
    n_replicates, n_cells = patterns.shape
    s_rep = 0.0
    for row in patterns:
        density = sum(math.exp(-((row - other) ** 2).sum() / (2.0 * bandwidth**2)) for other in patterns)
        s_rep -= math.log2(density / n_replicates) / (n_replicates * n_cells)
    share = patterns.mean()
    s_pat = entropy_bits([share, 1.0 - share])
    return s_pat - s_rep, s_pat, s_rep


@pytest.fixture(scope="module")
def soft_patterns():
    """Seven cells of 20 replicates, scattered around four patterns so that the kernel sees them."""
    rng = np.random.default_rng(4)
    return np.clip(random_ensemble(7, 20, n_patterns=4) * 0.6 + 0.2 + 0.05 * rng.standard_normal((20, 7)), 0.0, 1.0)


def test_soft_utility_matches_a_plain_double_loop(precision, soft_patterns):
    tolerance = 1e-12 if precision == "float64" else 1e-5
    expected = plain_soft_utility(soft_patterns, 0.1)
    assert 0.01 < expected[2] < 0.9 * math.log2(20) / 7  # the kernel neither merges nor separates all
    np.testing.assert_allclose(compute_soft_utility(soft_patterns), expected, atol=tolerance)
    for bandwidth in (0.03, 0.5):
        expected = plain_soft_utility(soft_patterns, bandwidth)
        np.testing.assert_allclose(compute_soft_utility(soft_patterns, bandwidth), expected, atol=tolerance)


@pytest.mark.parametrize("bandwidth", [0.1, 0.01, 1e-3])
def test_soft_utility_equals_the_hard_one_on_exact_fates(precision, bandwidth):
    for n_cells in (7, 64):
        fates = random_ensemble(n_cells)
        np.testing.assert_allclose(compute_soft_utility(fates, bandwidth), plain_utility(fates), atol=1e-4)


def test_soft_utility_tends_to_the_hard_one_as_fates_harden(soft_patterns):
    hard = plain_utility(soft_patterns >= 0.5)[0]
    distances = [
        abs(float(compute_soft_utility(soften_fates(soft_patterns, width))[0]) - hard)
        for width in (0.1, 0.05, 0.02, 0.01)
    ]
    assert distances[0] > 1e-2
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4


EXTREMES = {
    "identical replicates": np.tile(ROW, (6, 1)),
    "exact fates": random_ensemble(7, 6),
    "an absent fate": np.zeros((6, 7)),
    "only one fate": np.ones((6, 7)),
    "fair coins": np.full((6, 7), 0.5),
    "identical soft replicates": np.tile(0.3 + 0.1 * ROW, (6, 1)),
    "a single replicate": ROW[None],
}


soft_and_gradient = jax.jit(jax.value_and_grad(lambda x, bandwidth: compute_soft_utility(x, bandwidth)[0]))
bernoulli_and_gradient = jax.jit(jax.value_and_grad(lambda x: compute_bernoulli_utility(x)[0]))
pairwise_and_gradient = jax.jit(jax.value_and_grad(lambda x: compute_pairwise_utility(x)[0]))


@pytest.mark.slow
@pytest.mark.parametrize("case", EXTREMES)
def test_soft_utilities_have_finite_gradients_everywhere(precision, case):
    patterns = np.asarray(EXTREMES[case], precision)
    for result in (
        soft_and_gradient(patterns, 0.1),
        soft_and_gradient(patterns, 1e-3),
        bernoulli_and_gradient(patterns),
        pairwise_and_gradient(patterns),
    ):
        value, gradient = map(np.asarray, result)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_soft_utility_gradient_matches_finite_difference(soft_patterns, check_gradient):
    for part in range(3):
        check_gradient(lambda x, part=part: compute_soft_utility(x, 0.1)[part], jnp.asarray(soft_patterns))
    check_gradient(lambda bandwidth: compute_soft_utility(soft_patterns, bandwidth)[0], jnp.asarray(0.1))


def test_on_exact_fates_only_the_pattern_entropy_has_a_gradient():
    """Distances are 0 or >= 1, where a kernel of bandwidth 0.1 is flat (e^-50), while S_pat = H(p) of the mean of RN
    fates has slope log2((1 - p) / p) / RN."""
    fates = random_ensemble(7, 20)
    _, pull = jax.vjp(compute_soft_utility, jnp.asarray(fates, float))
    of_s_pat, of_s_rep = (pull(tuple(jnp.eye(3)[part]))[0] for part in (1, 2))
    share = fates.mean()
    np.testing.assert_allclose(of_s_pat, math.log2((1.0 - share) / share) / fates.size, rtol=1e-10)
    assert jnp.abs(of_s_rep).max() < 1e-15


def test_soft_utility_does_not_depend_on_how_replicates_are_blocked():
    """700 x 700 x 7 distances exceed one block of memory; the sum over replicates is the same as pattern by pattern."""
    fates = random_ensemble(7, 1500)
    np.testing.assert_allclose(compute_soft_utility(fates), plain_utility(fates), atol=1e-4)


# --- Bernoulli utility


def enumerated_bernoulli_utility(probabilities):
    """All 2^N patterns, one after the other."""
    n_cells = probabilities.shape[1]
    pattern_probabilities = [
        np.mean(np.prod(np.where(pattern, probabilities, 1.0 - probabilities), axis=1))
        for pattern in itertools.product([False, True], repeat=n_cells)
    ]
    share = probabilities.mean()
    s_pat = entropy_bits([share, 1.0 - share])
    s_rep = entropy_bits(pattern_probabilities) / n_cells
    return s_pat - s_rep, s_pat, s_rep


@pytest.mark.parametrize("n_cells", [1, 4, 12])
def test_bernoulli_utility_matches_enumeration_of_all_patterns(precision, n_cells):
    probabilities = np.random.default_rng(n_cells).uniform(size=(6, n_cells))
    expected = enumerated_bernoulli_utility(probabilities)
    tolerance = 1e-12 if precision == "float64" else 1e-5
    np.testing.assert_allclose(compute_bernoulli_utility(probabilities), expected, atol=tolerance)


def test_bernoulli_utility_equals_the_hard_one_on_exact_fates():
    fates = random_ensemble(7)
    np.testing.assert_allclose(compute_bernoulli_utility(fates), plain_utility(fates), atol=1e-12)


def test_bernoulli_utility_of_coin_tosses_is_zero():
    np.testing.assert_allclose(compute_bernoulli_utility(np.full((5, 7), 0.5)), [0.0, 1.0, 1.0], atol=1e-12)


def test_bernoulli_utility_gradient_matches_finite_difference(check_gradient):
    probabilities = jnp.asarray(np.random.default_rng(2).uniform(0.05, 0.95, size=(6, 4)))
    for part in range(3):
        check_gradient(lambda x, part=part: compute_bernoulli_utility(x)[part], probabilities)


def test_bernoulli_utility_has_a_gradient_in_both_entropies_on_soft_fates(soft_patterns):
    _, pull = jax.vjp(compute_bernoulli_utility, jnp.asarray(soft_patterns))
    for part in (1, 2):
        assert jnp.abs(pull(tuple(jnp.eye(3)[part]))[0]).max() > 1e-4


# --- pairwise utility


def plain_pairwise_utility(probabilities):
    """The chance that two replicates toss the same pattern, summed over all 2^N patterns; the mean over replicates
    inside the logarithm."""
    n_cells = probabilities.shape[1]
    chances = np.array(
        [
            np.prod(np.where(pattern, probabilities, 1.0 - probabilities), axis=1)
            for pattern in itertools.product([False, True], repeat=n_cells)
        ]
    )
    s_rep = -np.log2(chances.T @ chances.mean(axis=1)).mean() / n_cells
    share = probabilities.mean()
    s_pat = entropy_bits([share, 1.0 - share])
    return s_pat - s_rep, s_pat, s_rep


@pytest.mark.parametrize("n_cells", [1, 4, 12])
def test_pairwise_utility_matches_enumeration_of_all_patterns(precision, n_cells):
    probabilities = np.random.default_rng(n_cells).uniform(size=(6, n_cells))
    tolerance = 1e-12 if precision == "float64" else 1e-5
    np.testing.assert_allclose(
        compute_pairwise_utility(probabilities), plain_pairwise_utility(probabilities), atol=tolerance
    )


@pytest.mark.parametrize("n_cells", [1, 7, 40])
def test_pairwise_utility_equals_the_hard_one_on_exact_fates(precision, n_cells):
    fates = random_ensemble(n_cells).astype(precision)
    tolerance = 1e-12 if precision == "float64" else 1e-5
    np.testing.assert_allclose(compute_pairwise_utility(fates), plain_utility(fates), atol=tolerance)


def test_pairwise_utility_lies_between_the_bernoulli_one_and_the_collision_entropy():
    """Jensen's inequality, twice, on fates from nearly fair to nearly sure."""
    rng = np.random.default_rng(6)
    for sharpness in (0.1, 1.0, 3.0, 10.0):
        probabilities = 1.0 / (1.0 + np.exp(-sharpness * rng.standard_normal((20, 5))))
        patterns = list(itertools.product([False, True], repeat=5))
        frequencies = [np.prod(np.where(p, probabilities, 1.0 - probabilities), axis=1).mean() for p in patterns]
        collision = -math.log2(np.square(frequencies).sum()) / 5
        exact, _, s_rep_exact = enumerated_bernoulli_utility(probabilities)
        utility, _, s_rep = map(float, compute_pairwise_utility(probabilities))
        assert collision < s_rep < s_rep_exact
        assert utility > exact


def test_pairwise_utility_equals_the_bernoulli_one_for_fair_coins_and_departs_for_loaded_ones():
    """Closed forms of independent cells that are on with probability p: log2 of p² + (1 - p)² instead of H(p)."""
    np.testing.assert_allclose(compute_pairwise_utility(np.full((5, 40), 0.5)), [0.0, 1.0, 1.0], atol=1e-12)
    s_rep = -math.log2(0.01**2 + 0.99**2)
    assert s_rep == pytest.approx(0.029, abs=5e-4) and entropy_bits([0.01, 0.99]) == pytest.approx(0.081, abs=5e-4)
    assert float(compute_pairwise_utility(np.full((5, 40), 0.01))[2]) == pytest.approx(s_rep, abs=1e-12)


@pytest.mark.parametrize("n_cells", [4, 40])
def test_pairwise_utility_gradient_matches_finite_difference(check_gradient, n_cells):
    rng = np.random.default_rng(2)
    probabilities = jnp.asarray(np.clip(random_ensemble(n_cells, 6, 3) * 0.8 + 0.2 * rng.random((6, n_cells)), 0.05, 1))
    for part in range(3):
        check_gradient(lambda x, part=part: compute_pairwise_utility(x)[part], 0.95 * probabilities)


def test_pairwise_utility_has_the_full_slope_on_exact_fates(precision):
    """Where the kernel has none: the enumeration is a smooth function of the probabilities beyond 0 and 1 too."""
    fates = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 0]], float)
    gradient = jax.grad(lambda x: compute_pairwise_utility(x)[2])(jnp.asarray(fates))
    expected = np.zeros_like(fates)
    for index in np.ndindex(fates.shape):
        step = 1e-6 * (np.arange(fates.size).reshape(fates.shape) == np.ravel_multi_index(index, fates.shape))
        expected[index] = (plain_pairwise_utility(fates + step)[2] - plain_pairwise_utility(fates - step)[2]) / 2e-6
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_pairwise_utility_does_not_depend_on_how_replicates_are_blocked():
    fates = random_ensemble(7, 1500).astype(float)
    np.testing.assert_allclose(compute_pairwise_utility(fates), plain_utility(fates), atol=1e-12)


# --- counts that no single-precision number can hold


@pytest.mark.slow
def test_more_replicates_than_single_precision_can_count_are_counted(float32):
    """Adding up ones in single precision stops at 2^24: 5/4 as many tissues, all off, had U = -log2(5/4)."""
    n, number = 2**24 + 2**22, jnp.zeros(2**24 + 2**22, jnp.int32)  # one pattern, and so no need to sort
    assert (group_sizes(number, jnp.float32) == n).all()
    value, of_each = influence("ensemble", jnp.zeros((n, 1)), PatternClasses(number, jnp.ones(n), jnp.array(False)))
    assert abs(value) < 1e-5 and (of_each == of_each[0]).all()
