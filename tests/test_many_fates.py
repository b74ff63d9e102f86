"""More than two fates against closed forms, counting in plain Python, and the two fates of before."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ensembles import coin, entropy_bits, square_sheet, triangular_sheet
from jax.flatten_util import ravel_pytree

import lateral
from lateral import Readout, Row, alternation, bound_utility, compute_hard_utility, estimate_utility
from lateral.model import hard_objective
from lateral.objective import Ensemble, hard_value, influence, relaxed_value
from lateral.patterns import alternation_of, count_patterns, each_its_own
from lateral.relaxation import Relaxation, exact_relaxation, most_cells, pairwise_s_rep

N_REPLICATES = 384


def thirds(n_cells):
    """0 1 2 0 1 2..."""
    return np.arange(n_cells) % 3


def plain_entropies(fates):
    """S_pat, S_rep and the mean entropy of each cell's fate, by counting."""
    fates = np.asarray(fates).astype(int)
    n_cells = fates.shape[1]

    def entropy(values):
        values = list(values)
        return entropy_bits(*(count / len(values) for count in Counter(values).values()))

    of_cells = np.mean([entropy(column) for column in fates.T.tolist()])
    return entropy(fates.reshape(-1).tolist()), entropy(map(tuple, fates.tolist())) / n_cells, of_cells


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::lateral.UndersampledWarning")
@pytest.mark.parametrize(
    ("fates", "expected"),
    {
        "the same three in turn, always": (np.tile(thirds(9), (N_REPLICATES, 1)), math.log2(3)),
        "in turn from any of the three": (
            (thirds(9)[None] + np.arange(N_REPLICATES)[:, None]) % 3,
            math.log2(3) * (1.0 - 1.0 / 9.0),
        ),
        "one of two by a coin": (
            np.repeat([thirds(6), 2 - thirds(6)], N_REPLICATES // 2, axis=0),
            math.log2(3) - 1.0 / 6.0,
        ),
        "every pattern equally often": (np.array(list(itertools.product(range(3), repeat=5))), 0.0),
        "two of the three, always": (np.tile([0, 2, 0, 2, 0], (N_REPLICATES, 1)), coin(0.4)),
        "a single fate": (np.full((N_REPLICATES, 5), 2), 0.0),
    }.values(),
)
def test_closed_forms_of_three_fates(precision, fates, expected):
    tolerance = 1e-12 if precision == "float64" else 2e-6
    assert float(compute_hard_utility(fates, 3)[0]) == pytest.approx(expected, abs=tolerance)
    estimate = estimate_utility(fates, n_fates=3)
    assert float(estimate.utility) == pytest.approx(expected, abs=tolerance)
    assert float(estimate.positional_information + estimate.correlational_information) == pytest.approx(
        expected, abs=2.0 * tolerance
    )


@pytest.mark.slow
@pytest.mark.parametrize("side", [4, 6, 12])
def test_colourings_of_sheets_score_what_they_should(side):
    """A checkerboard, and the three colours of a triangular sheet, always and from any of the colours."""
    row, column = np.divmod(np.arange(side * side), side)
    for colours, sheet in ((2, square_sheet(side, side)), (3, triangular_sheet(side, side))):
        pattern = (row + (colours - 1) * column) % colours
        always = np.tile(pattern, (60, 1))
        by_chance = (pattern[None] + np.arange(60)[:, None]) % colours
        share = np.bincount(pattern) / side**2
        for fates, truth in (
            (always, entropy_bits(*share)),
            (by_chance, math.log2(colours) * (1.0 - 1.0 / side**2)),
        ):
            estimate = estimate_utility(fates, geometry=sheet, n_fates=colours)
            assert float(estimate.utility) == pytest.approx(truth, abs=1e-12)
            assert float(estimate.alternation) == pytest.approx(1.0, abs=1e-12)
            bound = bound_utility(fates, sheet, n_fates=colours)
            assert truth - 0.1 < bound.utility < truth + 1e-6


def test_independent_cells_of_three_fates_score_zero():
    fates = np.random.default_rng(1).integers(0, 3, (20_000, 5))
    estimate = estimate_utility(fates, n_fates=3)
    bias = (3**5 - 1) / (2.0 * math.log(2.0) * 5 * 20_000)
    assert abs(float(estimate.utility) - bias) < 4.0 * float(estimate.utility_se)
    assert abs(float(estimate.utility_corrected)) < 4.0 * float(estimate.utility_se)


@pytest.mark.slow
@pytest.mark.parametrize("n_fates", [3, 4, 5, 17])
@pytest.mark.parametrize("n_cells", [1, 7, 40])
def test_entropies_of_any_number_of_fates_match_counting(n_fates, n_cells):
    rng = np.random.default_rng(n_fates)
    pool = rng.integers(0, n_fates, (12, n_cells))
    fates = pool[rng.choice(12, N_REPLICATES, p=rng.dirichlet(np.ones(12)))]
    s_pat, s_rep, of_cells = plain_entropies(fates)
    estimate = estimate_utility(fates, n_fates=n_fates)
    assert float(estimate.s_pat) == pytest.approx(s_pat, abs=1e-12)
    assert float(estimate.s_rep) == pytest.approx(s_rep, abs=1e-12)
    assert float(estimate.positional_information) == pytest.approx(s_pat - of_cells, abs=1e-12)
    assert float(lateral.positional_information(fates, n_fates)) == pytest.approx(s_pat - of_cells, abs=1e-12)
    assert float(lateral.correlational_information(fates, n_fates)) == pytest.approx(of_cells - s_rep, abs=1e-12)
    unlike = (np.diff(fates) != 0).mean() if n_cells > 1 else 0.0
    assert float(alternation(fates, n_fates=n_fates)) == pytest.approx(unlike, abs=1e-12)


@pytest.mark.slow
def test_bias_and_error_match_a_leave_one_out_loop():
    fates = np.random.default_rng(3).integers(0, 3, (150, 2))
    whole = plain_entropies(fates)
    without = [plain_entropies(np.delete(fates, r, axis=0)) for r in range(150)]
    changes = np.array([149.0 * ((a - b) - (whole[0] - whole[1])) for a, b, _ in without])
    estimate = estimate_utility(fates, n_fates=3)
    assert float(estimate.utility - estimate.utility_corrected) == pytest.approx(changes.mean(), abs=1e-4)
    error = math.sqrt(np.sum((changes - changes.mean()) ** 2) / (150 * 149))
    assert float(estimate.utility_se) == pytest.approx(error, rel=1e-3)


# --- two fates are what they were


@pytest.mark.slow
def test_two_fates_told_as_two_of_three_score_the_same(precision):
    fates = np.random.default_rng(4).integers(0, 2, (200, 6))
    two, three = estimate_utility(fates), estimate_utility(fates, n_fates=3)
    for one, other in zip(two, three, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12 if precision == "float64" else 2e-5)


def test_two_fates_take_the_path_they_took():
    """The same jaxpr, whether the number of fates is said or not, without any sum over fates."""
    fates = jnp.zeros((20, 5))
    for function, arguments in ((count_patterns, ()), (alternation_of, (Row(5),)), (each_its_own, ())):
        said = jax.make_jaxpr(lambda x, f=function, a=arguments: f(x, *a, n_fates=2))(fates)
        assert str(said) == str(jax.make_jaxpr(lambda x, f=function, a=arguments: f(x, *a))(fates))
        more = jax.make_jaxpr(lambda x, f=function, a=arguments: f(x, *a, n_fates=3))(fates)
        assert function is each_its_own or len(str(more)) > len(str(said))


# --- thresholds


def test_thresholds_part_the_states():
    states = jnp.array([[0.0, 0.3, 1 / 3, 0.5, 2 / 3, 1.0]])
    readout = Readout(thresholds=(1 / 3, 2 / 3))
    assert readout.n_fates == 3
    np.testing.assert_array_equal(readout.fates(states), [[0, 0, 1, 1, 2, 2]])
    assert Readout().n_fates == 2 and Readout().fates(states).tolist() == [[0, 0, 0, 1, 1, 1]]


MODEL = lateral.Model(
    lateral.RBFNetwork(), n_cells=5, n_replicates=64, n_steps=20, dt=0.05, thresholds=(0.3, 0.45, 0.55)
)


@pytest.mark.slow
def test_a_model_of_four_fates_is_scored_evolved_and_evaluated(key):
    states = jax.random.uniform(key, (200, 5))
    fates = np.digitize(np.asarray(states), MODEL.thresholds)
    s_pat, s_rep, _ = plain_entropies(fates)
    assert float(hard_objective(states, MODEL)) == pytest.approx(s_pat - s_rep, abs=1e-9)
    within = np.mean([plain_entropies(row[None])[0] for row in fates])
    assert float(hard_value("tissue", jnp.asarray(fates, float), 4)) == pytest.approx(within - s_rep, abs=1e-9)
    run = lateral.train_evolution(MODEL, key=key, population_size=8, n_generations=2, progress=False)
    assert np.isfinite(np.asarray(run.history["objective"])).all()
    with pytest.warns(Warning):
        result = lateral.evaluate(run.regulatory_function, MODEL, key=key, n_replicates=100)
    assert 1.0 < result.s_pat <= 2.0


@pytest.mark.slow
def test_the_influence_of_a_replicate_is_the_change_by_its_weight():
    fates = np.random.default_rng(5).integers(0, 3, (12, 2))

    def value(weights):
        weights = weights / weights.sum()
        cells = [sum(weights[:, None] * (fates == k)).sum() / 2 for k in range(3)]
        patterns = Counter()
        for row, w in zip(map(tuple, fates.tolist()), weights, strict=True):
            patterns[row] += w
        return entropy_bits(*cells) - entropy_bits(*patterns.values()) / 2

    of_all, of_each = influence("ensemble", jnp.asarray(fates, float), n_fates=3)
    assert float(of_all) == pytest.approx(value(np.ones(12)), abs=1e-12)
    slopes = [12 * (value(np.ones(12) + h) - value(np.ones(12) - h)) / 2e-6 for h in 1e-6 * np.eye(12)]
    np.testing.assert_allclose(of_each - of_each.mean(), slopes, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "gradient", [lateral.Pathwise(), lateral.Score(), lateral.FiniteDifferences(), lateral.Combination()]
)
def test_training_by_gradients_knows_any_number_of_fates(gradient, key):
    run = lateral.train_backprop(MODEL, key=key, n_epochs=2, gradient=gradient, progress=False)
    assert all(np.isfinite(values).all() for values in run.history.values())
    assert np.abs(ravel_pytree(run.params)[0] - ravel_pytree(MODEL.network.init(key))[0]).max() > 1e-3


def test_value_gradients_know_two_fates_and_say_so(key):
    for attempt in (
        lambda: lateral.train_backprop(MODEL, key=key, gradient=lateral.ValueGradient()),
        lambda: lateral.ValueGradient()(MODEL.network.init(key), MODEL, key),
    ):
        with pytest.raises(ValueError, match=r"ValueGradient takes two fates, got 4: train by lateral.Score"):
            attempt()


# --- soft fates

CUTS = (0.3, 0.45, 0.55)


def soft(n_replicates=9, n_cells=2, seed=6):
    """Shares of four fates of random states."""
    states = np.random.default_rng(seed).uniform(0.2, 0.7, (n_replicates, n_cells))
    return states, np.asarray(lateral.soften_fates(states, 0.05, CUTS))


def test_soft_fates_are_shares_between_two_sigmoids():
    states, shares = soft()
    steps = [1.0 / (1.0 + np.exp(-(states - cut) / 0.05)) for cut in CUTS]
    expected = [1.0 - steps[0], steps[0] - steps[1], steps[1] - steps[2], steps[2]]
    np.testing.assert_allclose(shares, np.stack(expected, axis=2), atol=1e-12)
    hard = lateral.soften_fates(states, 1e-6, CUTS)
    np.testing.assert_array_equal(jnp.argmax(hard, axis=2), np.digitize(states, CUTS))


RELAXED = {
    "kernel": lateral.compute_soft_utility,
    "bernoulli": lateral.compute_bernoulli_utility,
    "pairwise": lateral.compute_pairwise_utility,
}


@pytest.mark.parametrize("name", RELAXED)
def test_on_hard_fates_the_relaxed_utility_is_the_hard_one(name):
    fates = np.random.default_rng(7).integers(0, 3, (60, 4))
    relaxed, hard = RELAXED[name](np.eye(3)[fates]), estimate_utility(fates, n_fates=3)
    np.testing.assert_allclose(relaxed, (hard.utility, hard.s_pat, hard.s_rep), atol=1e-9)


@pytest.mark.parametrize("name", RELAXED)
def test_the_shares_of_two_fates_score_as_those_of_one(name):
    shares = np.random.default_rng(8).uniform(0.0, 1.0, (20, 5))
    of_both = np.stack([1.0 - shares, shares], axis=2)
    np.testing.assert_allclose(RELAXED[name](of_both), RELAXED[name](shares), atol=1e-12)


def test_relaxed_entropies_match_sums_over_patterns_and_replicates():
    _, shares = soft()
    _, n_cells, n_fates = shares.shape
    s_pat = entropy_bits(*shares.mean(axis=(0, 1)))
    patterns = list(itertools.product(range(n_fates), repeat=n_cells))
    chances = np.array([[np.prod([shares[r, i, k] for i, k in enumerate(p)]) for p in patterns] for r in range(9)])
    exact = entropy_bits(*chances.mean(axis=0)) / n_cells
    match = np.array([[(chances[r] * chances[q]).sum() for q in range(9)] for r in range(9)])
    pairwise = -np.log2(match.mean(axis=1)).mean() / n_cells
    squares = ((shares[:, None] - shares[None]) ** 2).sum(axis=(2, 3)) / 2.0
    kernel = -np.log2(np.exp(-squares / (2.0 * 0.1**2)).mean(axis=1)).mean() / n_cells
    for name, s_rep in (("bernoulli", exact), ("pairwise", pairwise), ("kernel", kernel)):
        np.testing.assert_allclose(RELAXED[name](shares), (s_pat - s_rep, s_pat, s_rep), atol=1e-12)
    assert pairwise < exact


@pytest.mark.slow
@pytest.mark.parametrize("relaxation", ["straight_through", *RELAXED])
@pytest.mark.parametrize("objective", ["ensemble", "tissue"])
def test_the_relaxed_objective_of_many_fates(relaxation, objective, check_gradient):
    """It is what the function says, has the gradient of finite differences, and is hard where fates are sure."""
    readout = Readout(thresholds=CUTS, relaxation=relaxation, soft_width=0.05)
    states, shares = soft()
    value = relaxed_value(objective, jnp.asarray(states), readout)
    if relaxation == "straight_through":
        hard = hard_value(objective, readout.fates(jnp.asarray(states)), 4)
        assert float(value) == pytest.approx(float(hard), abs=1e-9)
        return
    _, s_pat, s_rep = RELAXED[relaxation](shares)
    if objective == "tissue":
        s_pat = np.mean([entropy_bits(*of_one.mean(axis=0)) for of_one in shares])
    assert float(value) == pytest.approx(float(s_pat - s_rep), abs=1e-9)
    check_gradient(lambda states: relaxed_value(objective, states, readout), jnp.asarray(states))


def test_straight_through_fates_have_the_gradient_of_their_thresholds():
    """A state counts up at each threshold with slope 1: the first fate loses, the last gains."""
    readout = Readout(thresholds=CUTS)
    fates = readout.relaxed.fates(jnp.array([[0.4]]), readout)
    assert fates.tolist() == [[[0.0, 1.0, 0.0, 0.0]]]
    slopes = jax.jacobian(lambda s: readout.relaxed.fates(s[None, None], readout)[0, 0])(jnp.array(0.4))
    assert slopes.tolist() == [-1.0, 0.0, 0.0, 1.0]


def test_pooled_shares_of_an_ensemble_and_of_its_image():
    fates = jnp.array([[0.0, 0.0, 1.0, 2.0]])
    assert Ensemble(fates, 0.0, n_fates=3).pooled_shares.tolist() == [0.5, 0.25, 0.25]
    assert Ensemble(fates, 0.0, n_fates=3).pooled_share == 0.25
    both = Ensemble(fates, 0.0, swapped=jnp.array(True), n_fates=3)
    assert both.pooled_shares.tolist() == [0.375, 0.25, 0.375]
    assert float(both.s_pat) == pytest.approx(entropy_bits(0.375, 0.25, 0.375), abs=1e-12)
    two = Ensemble(jnp.array([[0.0, 1.0, 1.0, 1.0]]), 0.0)
    assert two.pooled_shares.tolist() == [0.25, 0.75]


def test_exact_pattern_probabilities_are_for_as_many_patterns_whatever_the_number_of_fates():
    assert [most_cells(12, n_fates) for n_fates in (2, 3, 4, 5)] == [12, 7, 6, 5]
    assert exact_relaxation(7, 3) == "bernoulli" and exact_relaxation(8, 3) == "pairwise"
    three = {"thresholds": (0.3, 0.6), "relaxation": "bernoulli"}
    assert lateral.Model(n_cells=7, **three).n_cells == 7
    with pytest.raises(ValueError, match="takes at most 7 cells of 3 fates, got 8"):
        lateral.Model(n_cells=8, **three)
    with pytest.raises(ValueError, match=r"sums over 3\^N patterns and takes at most 7 cells, got 8"):
        lateral.compute_bernoulli_utility(np.full((4, 8, 3), 1.0 / 3.0))


@pytest.mark.bad_input
@pytest.mark.parametrize("name", RELAXED)
@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (np.full((4, 2, 3), 0.3), "must sum to 1 over the fates of each cell, got 0.9"),
        (np.ones((4, 2, 1)), r"must have shape \(replicate, cell, fate\) with two fates or more, got \(4, 2, 1\)"),
        (np.full((1, 1, 2), 1.5) - [0.0, 2.0], r"must lie in \[0, 1\], got 1.5"),
    ],
)
def test_what_are_no_shares_is_refused(name, shares, message):
    with pytest.raises(ValueError, match=message):
        RELAXED[name](shares)


# --- any function of the states


class Rank(NamedTuple):
    """Fate 2 for the highest cell of a tissue, 0 for the lowest: no threshold makes these fates."""

    n_fates: int = 3

    def __call__(self, states):
        rank = jnp.argsort(jnp.argsort(states, axis=1), axis=1)
        return jnp.where(rank == 0, 0, jnp.where(rank == states.shape[1] - 1, 2, 1))


RANKED = lateral.Model(lateral.RBFNetwork(), n_cells=4, n_replicates=64, n_steps=20, dt=0.05, classifier=Rank())


@pytest.mark.slow
def test_a_classifier_makes_fates_of_states_that_are_trained_measured_and_remembered(tmp_path, key):
    states = jnp.array([[0.1, 0.9, 0.2, 0.3]])
    assert RANKED.readout.fates(states).tolist() == [[0.0, 2.0, 1.0, 1.0]] and RANKED.readout.n_fates == 3
    run = lateral.train_backprop(RANKED, key=key, n_epochs=2, gradient=lateral.Score(), progress=False)
    evolved = lateral.train_evolution(RANKED, key=key, population_size=8, n_generations=1, progress=False)
    for trained in (run, evolved):
        assert np.isfinite(trained.history["utility"]).all()
    lateral.save_run(tmp_path / "run.npz", run)
    with pytest.raises(ValueError, match="pass it as classifier="):
        lateral.load_run(tmp_path / "run.npz")
    again = lateral.load_run(tmp_path / "run.npz", classifier=Rank())
    assert again.model.classifier == Rank() and again.model.readout.n_fates == 3


@pytest.mark.slow
def test_a_classifier_takes_a_relaxation_of_ones_own(key):
    own = Relaxation(
        lambda states, readout: jax.nn.softmax(jnp.stack([-states, 0.0 * states, states], axis=2) / 0.1, axis=2),
        lambda fates, readout: pairwise_s_rep(fates),
    )
    run = lateral.train_backprop(RANKED.changed(relaxation=own), key=key, n_epochs=2, progress=False)
    assert np.isfinite(run.history["loss"]).all()
    assert RANKED.changed(relaxation=own).readout.most_cells() == math.inf


def test_what_is_not_finite_has_no_fate_by_a_classifier(nan_allowed):
    fates = RANKED.readout.fates(jnp.array([[0.1, jnp.nan, 0.2, 0.3]]))
    assert np.isnan(fates).tolist() == [[False, True, False, False]]


class Wrong(NamedTuple):
    """A classifier by any function."""

    classify: Callable
    n_fates: int = 3

    def __call__(self, states):
        return self.classify(states)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("classify", "message"),
    [
        (lambda states: states, r"classifier\(states\) must hold fates, whole numbers from 0 to 2, got 0\.\d+ at"),
        (lambda states: jnp.round(4.0 * states), r"whole numbers from 0 to 2, got \d at index .*: say n_fates=5 if"),
        (lambda states: states[:, 0] > 0.5, r"must have the shape of states, \(64, 4\), got \(64,\)"),
    ],
)
def test_a_classifier_that_makes_no_fates_is_refused_before_anything_is_simulated(classify, message):
    with pytest.raises(ValueError, match=message):
        RANKED.changed(classifier=Wrong(classify))


@pytest.mark.bad_input
def test_what_a_classifier_cannot_do_is_said(key):
    for gradient in (lateral.Pathwise(), lateral.Combination()):
        with pytest.raises(ValueError, match=r"the fates of Rank\(n_fates=3\) have no gradient: give a lateral.relax"):
            lateral.train_backprop(RANKED, key=key, gradient=gradient)
    with pytest.raises(ValueError, match="takes thresholds or a classifier, got both"):
        Readout(thresholds=(0.3, 0.6), classifier=Rank())
    with pytest.raises(ValueError, match="classifier must be a function of states with an attribute `n_fates`, got 3"):
        Readout(classifier=3)
    with pytest.raises(ValueError, match=r"classifier.n_fates must be >= 2, got 1"):
        Readout(classifier=Rank(1))
    with pytest.raises(ValueError, match='relaxation="raw" takes two fates'):
        Readout(thresholds=(0.3, 0.6), relaxation="raw")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        (0.5, "thresholds must be two or more numbers, got 1: one is `threshold`"),
        ((0.6, 0.4), r"thresholds must rise, got \(0.6, 0.4\)"),
        ((0.2, 1.5), r"thresholds\[1\] must be <= 1, got 1.5"),
    ],
)
def test_thresholds_are_refused_with_the_reason(thresholds, message):
    with pytest.raises(ValueError, match=message):
        Readout(thresholds=thresholds)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("fates", "n_fates", "message"),
    [
        ([[0, 1], [2, 0]], 2, "exactly 0 or 1, got 2 at index .1, 0.: say n_fates=3 if there are so many"),
        ([[0, 1], [4, 0]], 3, "whole numbers from 0 to 2, got 4 at index .1, 0.: say n_fates=5 if there are so many"),
        ([[0, 1.5]], 3, "whole numbers from 0 to 2, got 1.5 at index .0, 1.: turn states into fates"),
        ([[0, -1]], 3, "got -1 at index .0, 1.: turn states into fates"),
        ([[0, 1]], 1, "n_fates must be >= 2, got 1"),
    ],
)
def test_what_is_no_fate_is_refused(fates, n_fates, message):
    for function in (compute_hard_utility, lateral.positional_information):
        with pytest.raises(ValueError, match=message):
            function(fates, n_fates)


@pytest.mark.slow
def test_a_run_remembers_its_thresholds_and_older_files_have_none(tmp_path, key):
    run = lateral.train_evolution(MODEL, key=key, population_size=8, n_generations=1, progress=False)
    lateral.save_run(tmp_path / "run.npz", run)
    assert lateral.load_run(tmp_path / "run.npz").model.thresholds == pytest.approx((0.3, 0.45, 0.55))
