"""The gradient in windows against plain autodiff, its critic against NumPy, and its features against symmetries."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import MLP, Graph, Model, RBFNetwork, ValueGradient, run_multiple_replicates, train_backprop
from lateral.engine import ENGINES
from lateral.geometry import Pinned, Ring, Row
from lateral.network import RegulatoryFunction, tabulate
from lateral.objective import influence
from lateral.training.critic import features_of, fit_critic
from lateral.training.score import critic_classes

RIDGE = 1e-3
MODEL = Model(
    network=MLP((3,), max_rate=3.0), n_cells=5, n_replicates=40, n_steps=12, dt=0.1, noise_strength=0.0, n_knots=65
)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_windows", [1, 4])
def test_it_is_the_sum_over_windows_of_what_autodiff_gives(key, n_windows, engine):
    """Without noise each window can be simulated on its own; the critics and the starts are held fixed."""
    model = dataclasses.replace(MODEL, engine=engine)
    params = model.network.init(jax.random.key(1))
    length = model.n_steps // n_windows

    def simulate(params, n_steps, **given):
        f = RegulatoryFunction(model.network, params)
        tissue = dataclasses.replace(model.tissue, n_steps=n_steps)
        return run_multiple_replicates(f, tissue=tissue, numerics=model.numerics, n_replicates=40, key=key, **given)

    # After as many steps as the windows before it; a step of noise 0 and rate 0 is none at all.
    still = jax.tree.map(jnp.zeros_like, params)
    starts = [simulate(still, 1), *(simulate(params, length * k) for k in range(1, n_windows + 1))]
    fates = model.readout.fates(starts[-1])
    table = tabulate(RegulatoryFunction(model.network, params), model.n_knots)
    returns = influence(model.objective, fates, critic_classes(table, model)(fates))[1]
    expected = jax.tree.map(jnp.zeros_like, params)
    for start, end in itertools.pairwise(starts):
        weights, _ = fit_critic(features_of(end, model.geometry), returns, RIDGE)

        def loss(params, start=start, weights=weights):
            states = simulate(params, length, initial_states=start)
            return -jnp.mean(features_of(states, model.geometry) @ weights)

        expected = jax.tree.map(jnp.add, expected, jax.grad(loss)(params))
    gradient, scores = ValueGradient(n_windows, RIDGE)(params, model, key)
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 1e-4
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
    assert set(scores) == {"loss", "critic_r2", "utility", "alternation"}


def test_the_critic_is_ridge_regression_on_features_of_unit_variance():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 4)) * [1.0, 10.0, 0.1, 3.0] + 5.0
    returns = features @ [1.0, 0.2, -7.0, 0.0] + rng.normal(size=200)
    weights, explained = fit_critic(jnp.asarray(features), jnp.asarray(returns), 0.1)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    rows = np.vstack([scaled, np.sqrt(0.1 * 200) * np.eye(4)])
    expected = np.linalg.lstsq(rows, np.append(returns - returns.mean(), np.zeros(4)), rcond=None)[0]
    np.testing.assert_allclose(weights, expected / features.std(axis=0), rtol=1e-9)
    left = returns - returns.mean() - scaled @ expected
    assert float(explained) == pytest.approx(1.0 - left.var() / returns.var(), abs=1e-9)


def test_a_value_that_is_linear_is_known_exactly_and_what_never_varies_has_no_weight():
    features = np.random.default_rng(1).normal(size=(60, 3))
    features[:, 1] = 0.25
    weights, explained = fit_critic(jnp.asarray(features), jnp.asarray(features @ [2.0, 9.0, -1.0]), 1e-12)
    np.testing.assert_allclose(weights, [2.0, 0.0, -1.0], atol=1e-6)
    assert float(explained) == pytest.approx(1.0, abs=1e-9)
    weights, explained = fit_critic(jnp.asarray(features), jnp.full(60, 0.7), 1e-3)
    np.testing.assert_allclose(weights, 0.0, atol=1e-12)
    assert np.isfinite(explained), "tissues that are all worth the same"


GEOMETRIES = {
    "row": (Row(6), np.arange(6)[::-1]),
    "ring": (Ring(6), np.roll(np.arange(6), 2)),
    "pinned at a half": (Pinned(6, 0.5, 0.5), np.arange(6)[::-1]),
    "star": (Graph(((1, 2, 3), (0,), (0,), (0,))), np.array([0, 3, 1, 2])),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_cells_that_are_alike_may_change_places(key, name):
    """A symmetry of the geometry leaves all features as they are; another order of cells does not."""
    geometry, places = GEOMETRIES[name]
    states = jax.random.uniform(key, (10, geometry.n_cells))
    features = features_of(states, geometry)
    np.testing.assert_allclose(features_of(states[:, places], geometry), features, atol=1e-12)
    swapped = np.arange(geometry.n_cells)
    swapped[:2] = 1, 0
    assert np.abs(features_of(states[:, swapped], geometry) - features).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n_cells", [1, 2, 40])
def test_any_number_of_cells_has_a_gradient(key, n_cells):
    model = Model(network=RBFNetwork(5), n_cells=n_cells, n_replicates=16, n_steps=10, dt=0.05, relaxation="kernel")
    gradient, scores = ValueGradient(7)(model.network.init(key), model, key)
    assert np.isfinite(gradient["weights"]).all() and np.isfinite(scores["critic_r2"])


@pytest.mark.slow
def test_training_climbs_from_a_rule_that_does_nothing(float32):
    """As the score does: no pattern at first, inhibition in the end; the run records how well the critic knows."""

    class Line:
        def init(self, key):
            return jnp.zeros(2)

        def apply(self, params, x):
            return params[0] * (0.5 - x) + params[1]

    model = Model(network=Line(), n_replicates=500, n_steps=200, dt=0.05, objective="tissue", noise_strength=0.3)
    run = train_backprop(model, key=jax.random.key(0), n_epochs=60, learning_rate=0.1, gradient=ValueGradient())
    assert run.history["utility"][0] < 0.3
    assert run.history["utility"][-10:].mean() > 0.5
    assert run.history["alternation"][-10:].mean() > 0.85
    assert run.history["critic_r2"][-10:].mean() > 0.5
    assert run.settings["gradient"] == {"type": "ValueGradient", "n_windows": 20, "ridge": 1e-3}
    assert run.method == "value-gradient"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_windows": 0}, "n_windows must be >= 1, got 0"),
        ({"ridge": 0.0}, "ridge must be > 0, got 0"),
    ],
)
def test_a_mistake_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ValueGradient(**settings)
