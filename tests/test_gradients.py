"""Gradient estimators against brute force, against each other's definitions, and against estimators that are wrong."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import (
    Combination,
    FiniteDifferences,
    Model,
    Pathwise,
    Score,
    ValueGradient,
    compute_loss,
    train_backprop,
)
from lateral.geometry import row_with_ends
from lateral.model import final_states, hard_objective
from lateral.network import RegulatoryFunction, tabulate
from lateral.objective import influence as influence_of
from lateral.objective import relaxed_value
from lateral.patterns import each_its_own, pattern_classes
from lateral.training.score import fates_are_alike

pytestmark = pytest.mark.slow


class Line:
    """f = gain (1/2 - s̄) + shift, two numbers."""

    def init(self, key):
        return {"gain": jnp.asarray(0.0), "shift": jnp.asarray(0.0)}

    def apply(self, params, x):
        return params["gain"] * (0.5 - x) + params["shift"]


LINE = {"gain": np.float32(1.0), "shift": np.float32(0.2)}
SMALL = Model(network=Line(), n_cells=2, n_replicates=50_000, n_steps=20, dt=0.1, noise_strength=0.3)
N_BATCHES = 8


def mean_and_error(draws):
    draws = np.asarray(draws, float)
    return draws.mean(axis=0), draws.std(axis=0, ddof=1) / math.sqrt(len(draws))


def flat(tree):
    return jnp.stack([tree["gain"], tree["shift"]])


@pytest.fixture(scope="module", params=["ensemble", "tissue"])
def brute_force(request):
    """Central differences of the hard objective on 2 x 8 x 50,000 tissues with the same noise ahead and behind."""
    model = dataclasses.replace(SMALL, objective=request.param)
    step = 0.03

    @jax.jit
    def one(key, name):
        def at(distance):
            params = {k: v + distance * (name == i) for i, (k, v) in enumerate(LINE.items())}
            return hard_objective(final_states(RegulatoryFunction(Line(), params), model, key), model)

        return (at(step) - at(-step)) / (2.0 * step)

    with jax.enable_x64(False):
        keys = jax.random.split(jax.random.key(7), 2 * N_BATCHES)
        draws = [[float(one(key, name)) for name in range(2)] for key in keys]
    return model, *mean_and_error(draws)


@jax.jit  # as arguments: estimators that differ in numbers are compiled once
def estimated(estimator, model, key):
    return estimator(LINE, model, key)


def estimate(estimator, model, factor=1.0):
    with jax.enable_x64(False):
        keys = jax.random.split(jax.random.key(11), N_BATCHES)
        return mean_and_error([-factor * flat(estimated(estimator, model, key)[0]) for key in keys])


def distance_in_errors(ours, theirs):
    return np.abs(ours[0] - theirs[0]) / np.hypot(ours[1], theirs[1])


def test_the_score_with_decay_1_is_the_derivative_of_the_utility(brute_force):
    model, *theirs = brute_force
    ours = estimate(Score(n_chunks=10, decay=1.0), model)
    assert (theirs[1] < 0.05 * np.abs(theirs[0])).all() and (ours[1] < 0.05 * np.abs(theirs[0])).all()
    assert (distance_in_errors(ours, theirs) < 3.0).all()


def test_wrong_scores_are_told_from_the_derivative(brute_force):
    """A critic that discounts too much, and a weight without sqrt(dt)."""
    model, *theirs = brute_force
    discounted = estimate(Score(n_chunks=10, decay=0.2), model)
    assert distance_in_errors(discounted, theirs).max() > 3.0
    unscaled = estimate(Score(n_chunks=10, decay=1.0), model, factor=1.0 / math.sqrt(0.1))
    assert distance_in_errors(unscaled, theirs).max() > 3.0


@pytest.mark.parametrize("n_windows", [2, 20])
def test_the_value_gradient_is_the_derivative_of_the_utility(brute_force, n_windows):
    """But for its critic, which knows tissues of two cells well; one that is half blind does not pass."""
    model, *theirs = brute_force
    ours = estimate(ValueGradient(n_windows), model)
    assert (np.abs(ours[0] - theirs[0]) < 0.05 * np.abs(theirs[0])).all()
    half_blind = estimate(ValueGradient(n_windows, ridge=10.0), model)
    assert (np.abs(half_blind[0] - theirs[0]) > 0.05 * np.abs(theirs[0])).any()


def test_finite_differences_along_random_directions_agree_too(brute_force):
    model, *theirs = brute_force
    ours = estimate(FiniteDifferences(n_directions=8, step=0.03), model)
    assert (distance_in_errors(ours, theirs) < 3.5).all()


def test_the_critic_lowers_the_variance():
    """The same estimate with one stretch, whose critic knows the initial pattern only, is noisier."""
    model = dataclasses.replace(SMALL, n_replicates=2000, n_steps=40)
    blind, seeing = (estimate(Score(n_chunks=n, decay=1.0), model)[1] for n in (1, 20))
    assert (estimate(Score(n_chunks=20, decay=0.5), model)[1] < 0.8 * blind).all()
    assert seeing.shape == blind.shape


@pytest.mark.parametrize("objective", ["ensemble", "tissue"])
def test_the_influence_is_the_derivative_by_the_weight_of_a_replicate(objective):
    """Written out for weighted replicates: the change of the objective when the share of one grows and of all others
    falls in proportion is its influence less the mean influence."""
    fates = np.random.default_rng(0).integers(0, 2, (12, 3)).astype(float)

    def weighted(weights):
        weights = weights / weights.sum()
        frequency = {}
        for row, weight in zip(fates, weights, strict=True):
            frequency[tuple(row)] = frequency.get(tuple(row), 0.0) + weight

        def entropy(ps):
            return -sum(p * math.log2(p) for p in ps if p > 0)

        s_rep = entropy(frequency.values()) / 3
        shares = fates.mean(axis=1)
        if objective == "ensemble":
            p = float(weights @ shares)
            return entropy([p, 1 - p]) - s_rep
        return float(sum(w * entropy([p, 1 - p]) for w, p in zip(weights, shares, strict=True))) - s_rep

    value, influence = influence_of(objective, jnp.asarray(fates))
    assert float(value) == pytest.approx(weighted(np.ones(12)), abs=1e-12)
    for r in range(12):
        step = 1e-5
        change = [weighted(np.ones(12) + s * step * (np.arange(12) == r)) for s in (1, -1)]
        slope = (change[0] - change[1]) / (2.0 * step) * 12
        assert float(influence[r] - influence.mean()) == pytest.approx(slope, abs=1e-7)


def test_groups_are_those_of_equal_patterns():
    fates = np.random.default_rng(1).integers(0, 2, (50, 40)).astype(float)
    fates[::3] = fates[0]
    groups = np.asarray(each_its_own(jnp.asarray(fates)).number)
    same = (fates[:, None] == fates[None]).all(axis=2)
    np.testing.assert_array_equal(groups[:, None] == groups[None], same)


def images_of(fates, boundary, odd, n_fates=2):
    """Every replicate in all the images that identical cells make as often, one stack of replicates per image."""
    shifts = range(fates.shape[1] if boundary == "ring" else 1)
    images = [np.roll(image, shift, axis=1) for image in (fates, fates[:, ::-1]) for shift in shifts]
    return images + [n_fates - 1.0 - image for image in images] if odd else images


@pytest.mark.parametrize("n_fates", [2, 3, 5])
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("boundary", ["free", "ring"])
def test_classes_hold_the_images_of_a_pattern_and_nothing_else(boundary, odd, n_fates):
    fates = np.random.default_rng(2).integers(0, n_fates, (60, 6 if n_fates == 2 else 4)).astype(float)
    classes = pattern_classes(jnp.asarray(fates), row_with_ends(fates.shape[1], boundary), odd, n_fates)
    images = np.stack(images_of(fates, boundary, odd, n_fates))
    same = (images[:, :, None] == fates[None, None]).all(axis=3).any(axis=0)
    number = np.asarray(classes.number)
    np.testing.assert_array_equal(number[:, None] == number[None], same)
    np.testing.assert_allclose(classes.n_patterns, [len(np.unique(images[:, r], axis=0)) for r in range(60)])


@pytest.mark.parametrize("n_fates", [2, 3])
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("boundary", ["free", "ring"])
@pytest.mark.parametrize("objective", ["ensemble", "tissue"])
def test_the_influence_of_classes_is_that_of_all_images(objective, boundary, odd, n_fates):
    fates = np.random.default_rng(3).integers(0, n_fates, (40, 5 if n_fates == 2 else 3)).astype(float)
    classes = pattern_classes(jnp.asarray(fates), row_with_ends(fates.shape[1], boundary), odd, n_fates)
    value, influence = jax.jit(lambda classes: influence_of(objective, jnp.asarray(fates), classes, n_fates))(classes)
    images = np.concatenate(images_of(fates, boundary, odd, n_fates))
    of_all, influences = jax.jit(lambda images: influence_of(objective, images, n_fates=n_fates))(jnp.asarray(images))
    assert float(value) == pytest.approx(float(of_all), abs=1e-12)
    np.testing.assert_allclose(influence, influences[:40], atol=1e-12)


@pytest.mark.parametrize("n_cells", [1, 32, 33])
def test_classes_of_any_number_of_cells(n_cells):
    """One cell has but two patterns, 32 fill the word, and more than that are left as they are."""
    fates = np.random.default_rng(4).integers(0, 2, (2, n_cells)).astype(float)
    fates = jnp.asarray(np.concatenate([fates, fates[:, ::-1], 1.0 - fates]))
    for boundary in ("free", "ring") if n_cells > 2 else ("free",):
        classes = pattern_classes(fates, row_with_ends(n_cells, boundary), True)
        expected = {1: 1, 32: 2, 33: 6}[n_cells]
        assert len(np.unique(classes.number)) == expected
        assert (classes.n_patterns == (1 if n_cells == 33 else len(images_of(fates, boundary, n_cells > 1)))).all()


def test_fates_are_alike_under_a_rule_that_is_odd_about_a_half_only():
    odd = {"gain": np.float32(1.0), "shift": np.float32(0.0)}
    for params, changes, expected in (
        (odd, {}, True),
        (LINE, {}, False),
        (odd, {"threshold": 0.4}, False),
        (odd, {"thresholds": (0.25, 0.75)}, True),
        (odd, {"thresholds": (0.25, 0.5, 0.75)}, True),
        (odd, {"thresholds": (0.25, 0.5)}, False),
        (odd, {"classifier": AnyOf(3)}, False),
        (odd, {"start": (0.4, 0.7)}, False),
        (odd, {"boundary": "pinned", "edge_value": 1.0}, False),
        (odd, {"boundary": "pinned", "edge_value": 0.5}, True),
    ):
        table = tabulate(RegulatoryFunction(Line(), params), 513)
        assert bool(fates_are_alike(table, SMALL.changed(**changes))) is expected, changes


class AnyOf(NamedTuple):
    """As many fates as asked for."""

    n_fates: int

    def __call__(self, states):
        return jnp.floor(states * 0.999 * self.n_fates)


@pytest.mark.parametrize(
    "readout", [{}, {"thresholds": (0.4, 0.6)}, {"classifier": AnyOf(3)}], ids=["2 fates", "3 fates", "classifier"]
)
def test_the_score_of_an_odd_rule_is_unbiased_too(readout):
    """The gain of an odd rule changes S_rep; classes must not change the mean of the estimate, only its scatter."""
    params = {"gain": np.float32(1.0), "shift": np.float32(0.0)}
    model = SMALL.changed(n_cells=3, objective="tissue", n_replicates=50_000, **readout)
    with jax.enable_x64(False):
        seen = jax.jit(lambda key: -flat(Score(10, 1.0)(params, model, key)[0])[0])
        near = {name: jnp.float32(value) for name, value in params.items()}

        @jax.jit
        def slope(key):
            def at(gain):
                f = RegulatoryFunction(Line(), near | {"gain": gain})
                return hard_objective(final_states(f, model, key), model)

            return (at(1.05) - at(0.95)) / 0.1

        ours = mean_and_error([seen(key) for key in jax.random.split(jax.random.key(11), N_BATCHES)])
        theirs = mean_and_error([slope(key) for key in jax.random.split(jax.random.key(7), 2 * N_BATCHES)])
    assert theirs[1] < 0.05 * abs(theirs[0]) and ours[1] < 0.05 * abs(theirs[0])
    assert distance_in_errors(ours, theirs) < 3.0


def test_the_tissue_objective_gives_nothing_for_a_consensus():
    """Half the tissues on, half off: U = 6/7 pooled, -1/7 inside; both alternating rows: H(3/7) less 1/7 inside."""
    consensus = jnp.repeat(jnp.array([[0.0], [1.0]]), 7, axis=1)
    alternating = jnp.stack([jnp.arange(7) % 2, (jnp.arange(7) + 1) % 2]).astype(float)
    h = -(3 / 7) * math.log2(3 / 7) - (4 / 7) * math.log2(4 / 7)
    for fates, objective, expected in (
        (consensus, "ensemble", 6 / 7),
        (consensus, "tissue", -1 / 7),
        (alternating, "ensemble", 6 / 7),
        (alternating, "tissue", h - 1 / 7),
    ):
        model = Model(objective=objective, relaxation="bernoulli", soft_width=1e-3)
        assert float(hard_objective(fates, model)) == pytest.approx(expected, abs=1e-6)
        assert float(relaxed_value(objective, fates, model.readout)) == pytest.approx(expected, abs=1e-6)


def test_pathwise_is_the_gradient_of_the_loss(key):
    model = dataclasses.replace(SMALL, n_replicates=30, relaxation="bernoulli", objective="tissue")
    gradient, scores = estimated(Pathwise(), model, key)
    assert float(scores["loss"]) == pytest.approx(float(compute_loss(LINE, model, key)), abs=1e-12)
    np.testing.assert_allclose(flat(gradient), flat(jax.jit(jax.grad(compute_loss))(LINE, model, key)), atol=1e-12)


@pytest.mark.parametrize("boundary", ["ring", "pinned"])
@pytest.mark.parametrize("n_replicates", [64, 65])
def test_the_score_runs_on_any_boundary_and_any_number_of_replicates(key, boundary, n_replicates):
    settings = dict(n_cells=5, boundary=boundary, edge_value=1.0, n_replicates=n_replicates, n_steps=17)
    model = dataclasses.replace(SMALL, **settings)
    gradient, scores = estimated(Score(n_chunks=5), model, key)
    assert np.isfinite(flat(gradient)).all() and np.abs(flat(gradient)).min() > 0.0
    expected = hard_objective(final_states(RegulatoryFunction(Line(), LINE), model, key), model)
    assert float(scores["loss"]) == pytest.approx(-float(expected), abs=1e-12)


def test_training_by_the_score_climbs_from_a_rule_that_does_nothing(float32):
    """Cells diffuse on their own at first: no pattern, U near 0. Inhibition is found."""
    model = Model(network=Line(), n_replicates=500, n_steps=200, dt=0.05, objective="tissue", noise_strength=0.3)
    run = train_backprop(model, key=jax.random.key(0), n_epochs=60, learning_rate=0.1, gradient=Score())
    assert run.history["utility"][0] < 0.3
    assert run.history["utility"][-10:].mean() > 0.5
    assert run.history["alternation"][-10:].mean() > 0.85
    assert run.settings["gradient"] == {"type": "Score", "n_chunks": 100, "decay": 0.95}


MIXED = dataclasses.replace(SMALL, n_replicates=60, relaxation="pairwise")


def run_each(estimator, model, key, n_batches):
    """In every ensemble: gradients as rows, scores, and the variance of the mean of the rows."""
    ensemble = dataclasses.replace(model, n_replicates=model.n_replicates // n_batches)
    results = [estimated(estimator, ensemble, key) for key in jax.random.split(key, n_batches)]
    rows = np.array([flat(gradient) for gradient, _ in results], float)
    variance = ((rows - rows.mean(axis=0)) ** 2).sum() / (n_batches - 1) / n_batches
    return rows.mean(axis=0), [scores for _, scores in results], variance


def test_the_combination_weighs_the_two_estimators_by_the_variance_of_the_other(key):
    settings = {"decay": 0.9, "n_chunks": 5}
    pathwise, _, of_pathwise = run_each(Pathwise(), MIXED, key, 5)
    score, each, of_score = run_each(Score(**settings), MIXED, key, 5)
    share = of_score / (of_score + of_pathwise)
    gradient, scores = estimated(Combination(n_batches=5, **settings), MIXED, key)
    assert float(scores["pathwise_share"]) == pytest.approx(share, rel=1e-5)
    assert 0.1 < share < 0.9 and np.abs(pathwise - score).max() > 0.05
    np.testing.assert_allclose(flat(gradient), share * pathwise + (1.0 - share) * score, rtol=1e-5)
    assert set(scores) == {*each[0], "pathwise_share"}
    for name in each[0]:
        assert float(scores[name]) == pytest.approx(np.mean([float(one[name]) for one in each]), abs=1e-9)


def test_the_combination_trusts_the_estimator_that_varies_less(key):
    """With little noise the score, which divides by it, explodes. With nearly hard fates, and enough tissues that a few
    are undecided, the gradient through the simulation does. One seed in eight gave 0.14, the others less than 0.05."""
    share = jax.jit(lambda model: Combination()(LINE, model, key)[1]["pathwise_share"])
    model = dataclasses.replace(MIXED, n_replicates=4000, relaxation="bernoulli")
    assert float(share(dataclasses.replace(model, noise_strength=1e-4, start=(0.45, 0.55)))) > 0.99
    assert float(share(dataclasses.replace(model, soft_width=1e-3))) < 0.25


def test_a_pathwise_gradient_that_is_not_finite_has_no_weight(float32, nan_allowed, key):
    """A bandwidth whose square is 0 in single precision makes the kernel 0 / 0; the score does not use it. As a setting
    it is refused, but a number that is traced passes unseen."""
    model = dataclasses.replace(MIXED, relaxation="raw")
    narrow = jax.jit(lambda bandwidth: Combination()(LINE, dataclasses.replace(model, soft_bandwidth=bandwidth), key))
    gradient, scores = narrow(1e-30)
    assert float(scores["pathwise_share"]) == 0.0
    np.testing.assert_allclose(flat(gradient), run_each(Score(), model, key, 4)[0], rtol=1e-5)


def test_training_by_the_combination_records_the_share(float32):
    run = train_backprop(MIXED, key=jax.random.key(0), n_epochs=2, n_batches=2, gradient=Combination())
    assert run.history["pathwise_share"].shape == (2,)
    assert ((run.history["pathwise_share"] > 0.0) & (run.history["pathwise_share"] < 1.0)).all()
    settings = {"type": "Combination", "n_batches": 4, "n_chunks": 100, "decay": 0.95}
    assert run.settings["gradient"] == settings


def test_a_new_decay_does_not_recompile(float32, count_traces):
    counted = count_traces(Line().apply)

    class Network(Line):
        apply = staticmethod(counted)

    model = Model(network=Network(), n_replicates=10, n_steps=20)
    train_backprop(model, key=jax.random.key(0), n_epochs=2, gradient=Score(decay=0.5))
    with counted.no_new_trace():
        train_backprop(model, key=jax.random.key(0), n_epochs=2, gradient=Score(decay=0.9))


MISTAKES = {
    "no noise": (lambda key: Score()(LINE, Model(network=Line(), noise_strength=0.0), key), "needs noise_strength > 0"),
    "no noise while training": (
        lambda key: train_backprop(Model(network=Line()), key=key, gradient=Score(), noise_curriculum="rising"),
        "needs noise_strength > 0 in every epoch, got 0",
    ),
    "no noise for the combination": (
        lambda key: Combination()(LINE, Model(network=Line(), noise_strength=0.0), key),
        "needs noise_strength > 0",
    ),
    "no noise while training by the combination": (
        lambda key: train_backprop(Model(network=Line()), key=key, gradient=Combination(), noise_curriculum="rising"),
        "needs noise_strength > 0 in every epoch, got 0",
    ),
    "one ensemble": (lambda key: Combination(n_batches=1), "n_batches must be >= 2, got 1"),
    "decay of the combination": (lambda key: Combination(decay=1.5), "decay must be <= 1, got 1.5"),
    "ensembles of one": (
        lambda key: Combination()(LINE, Model(network=Line(), n_replicates=7), key),
        "n_batches = 4 ensembles of at least 2 replicates need n_replicates >= 8, got 7",
    ),
    "decay": (lambda key: Score(decay=1.5), "decay must be <= 1, got 1.5"),
    "chunks": (lambda key: Score(n_chunks=0), "n_chunks must be >= 1, got 0"),
    "step": (lambda key: FiniteDifferences(step=0.0), "step must be > 0, got 0"),
    "directions": (lambda key: FiniteDifferences(n_directions=1.5), "n_directions must be a whole number"),
    "gradient": (lambda key: train_backprop(key=key, gradient="score"), "gradient must be one of Pathwise"),
    "objective": (lambda key: Model(objective="both"), "objective must be one of 'ensemble', 'tissue', got 'both'"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused(name, key):
    mistake, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        mistake(key)
