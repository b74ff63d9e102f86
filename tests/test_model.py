"""The model as a pytree: its defaults are the guide's, numbers are traced, sizes are static."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import MLP, Model, RegulatoryFunction, TanhInhibition, compute_loss, run_multiple_replicates, tabulate
from lateral.model import final_states, scores_of
from lateral.objective import relaxed_value

NUMBERS = {"dt": 0.05, "noise_strength": 0.3, "start": (0.1, 0.8), "threshold": 0.4}
PINNED = {"boundary": "pinned", "edge_value": 0.2}
SIZES = {"n_cells": 3, "n_replicates": 10, "n_steps": 8}


class Line:
    """A user's network: a plain Python object."""

    def apply(self, params, x):
        return params["gain"] * (0.5 - x)


@dataclasses.dataclass  # with ==, hence unhashable
class UnhashableLine(Line):
    name: str = "line"


PARAMS = {"gain": 2.0}


def test_the_defaults_are_the_settings_of_the_guide():
    """The configuration of the user's document, and the start range and threshold of the model."""
    model = Model()
    assert (model.n_cells, model.n_replicates, model.n_steps) == (7, 50, 1000)
    assert (model.dt, model.noise_strength, model.soft_bandwidth) == (0.01, 0.1, 0.1)
    assert (model.boundary, model.start, model.threshold) == ("free", (0.4, 0.6), 0.5)
    assert model.relaxation == "straight_through"
    assert model.network.hidden_dims == (8, 8)


def test_numbers_are_leaves_and_sizes_are_structure():
    model = Model(network=Line(), **SIZES, **NUMBERS, **PINNED, soft_bandwidth=0.6, soft_width=0.7)
    assert sorted(jax.tree.leaves(model)) == sorted([0.05, 0.3, 0.2, 0.2, 0.1, 0.8, 0.4, 0.6, 0.7])
    structure = jax.tree.structure(model)
    assert jax.tree.structure(dataclasses.replace(model, dt=0.5, start=(0.0, 0.1))) == structure
    for change in ({"n_cells": 4}, {"boundary": "ring"}, {"relaxation": "raw"}, {"n_knots": 9}, {"network": Line()}):
        assert jax.tree.structure(dataclasses.replace(model, **change)) != structure


def test_a_model_survives_flattening():
    model = Model(**SIZES, **NUMBERS, boundary="ring", n_knots=65)
    leaves, structure = jax.tree.flatten(model)
    assert jax.tree.unflatten(structure, leaves) == model


def test_replace_changes_one_setting_and_keeps_the_others():
    model = Model(**SIZES, **NUMBERS)
    changed = dataclasses.replace(model, noise_strength=0.7)
    assert changed.noise_strength == 0.7
    assert dataclasses.replace(changed, noise_strength=0.3) == model


@pytest.mark.parametrize("network", [Line(), UnhashableLine(), MLP((2,))], ids=["hashable", "unhashable", "MLP"])
def test_jit_over_a_model_does_not_retrace_for_new_numbers(key, network):
    traces = []

    @jax.jit
    def first_noise(model):
        traces.append(id(model.network))
        return model.noise_strength * model.dt

    model = Model(network=network, **SIZES)
    for noise in (0.1, 0.2, 0.3):
        product = first_noise(dataclasses.replace(model, noise_strength=noise, dt=2.0, threshold=noise))
        assert float(product) == pytest.approx(2.0 * noise)
    assert len(traces) == 1
    assert traces[0] == id(network) or isinstance(network, MLP)
    first_noise(dataclasses.replace(model, n_steps=9))
    assert len(traces) == 2


def test_a_sweep_over_a_number_of_the_model_is_a_vmap(key):
    model = Model(network=UnhashableLine(), **SIZES, relaxation="raw")

    @jax.jit
    def loss(noise):
        return compute_loss(PARAMS, dataclasses.replace(model, noise_strength=noise), key)

    noises = jnp.array([0.0, 0.2, 0.5])
    np.testing.assert_allclose(jax.vmap(loss)(noises), [loss(noise) for noise in noises], atol=1e-6)


def test_final_states_are_those_of_the_settings(key):
    model = Model(network=Line(), **SIZES, **NUMBERS, **PINNED)
    f = RegulatoryFunction(Line(), PARAMS)
    simulated = {name: value for name, value in NUMBERS.items() if name != "threshold"}
    expected = run_multiple_replicates(f, **SIZES, **simulated, **PINNED, key=key)
    np.testing.assert_array_equal(final_states(f, model, key), expected)
    fewer = final_states(f, model, key, n_replicates=4)
    np.testing.assert_allclose(fewer, expected[:4], atol=1e-6)


@pytest.mark.slow
def test_knots_tabulate_the_rule(key):
    """9 knots of a steep tanh: another rule, the one of the table; 4,097 knots: the same within the table's error."""
    f = TanhInhibition(slope=20.0)
    exact, coarse, fine = (final_states(f, Model(**SIZES, dt=0.05, n_knots=n), key) for n in (None, 9, 4097))
    by_table = final_states(tabulate(f, 9), Model(**SIZES, dt=0.05), key)
    np.testing.assert_allclose(coarse, by_table, atol=1e-9)
    assert jnp.abs(coarse - exact).max() > 1e-3
    np.testing.assert_allclose(fine, exact, atol=2e-5)


# --- the four relaxations, on two replicates of two cells, where everything can be written down

STATES = np.array([[0.9, 0.2], [0.6, 0.7]])
H = 0.3


def entropy_bits(probabilities):
    return -sum(p * math.log2(p) for p in probabilities)


def two_replicate_utility(patterns):
    """Two patterns at distance d: the density of both is (1 + exp(-d²/2h²)) / 2."""
    share = patterns.mean()
    density = (1.0 + math.exp(-((patterns[0] - patterns[1]) ** 2).sum() / (2.0 * H**2))) / 2.0
    return entropy_bits([share, 1.0 - share]) + math.log2(density) / 2.0


def logistic(x):
    return 1.0 / (1.0 + np.exp(-x))


def by_relaxation():
    soft = logistic((STATES - 0.55) / 0.2)
    both = [np.mean([a * b for a, b in pair]) for pair in _pairs(soft)]
    share = soft.mean()
    match = np.prod(soft[:, None] * soft[None] + (1 - soft[:, None]) * (1 - soft[None]), axis=2)
    return {
        "straight_through": two_replicate_utility((STATES >= 0.55).astype(float)),
        "raw": two_replicate_utility(STATES),
        "kernel": two_replicate_utility(soft),
        "bernoulli": entropy_bits([share, 1.0 - share]) - entropy_bits(both) / 2.0,
        "pairwise": entropy_bits([share, 1.0 - share]) + np.log2(match.mean(axis=1)).mean() / 2.0,
    }


def _pairs(q):
    """For each of the patterns 00, 01, 10, 11 the factors of its probability in both replicates."""
    left, right = (1.0 - q[:, 0], q[:, 0]), (1.0 - q[:, 1], q[:, 1])
    return [list(zip(a, b, strict=True)) for a in left for b in right]


@pytest.mark.parametrize(("relaxation", "expected"), by_relaxation().items())
def test_every_relaxation_matches_its_definition(relaxation, expected):
    settings = {"threshold": 0.55, "soft_width": 0.2, "soft_bandwidth": H}
    model = Model(n_cells=2, n_replicates=2, relaxation=relaxation, **settings)
    utility = relaxed_value(model.objective, jnp.asarray(STATES), model.readout)
    assert float(utility) == pytest.approx(expected, abs=1e-12)


def test_the_default_width_of_soft_fates_is_a_tenth():
    """Soft fates of states 0.1 off the threshold are 1 / (1 + e^-1) and 1 / (1 + e) at width 0.1."""
    readout = Model(n_cells=1, n_replicates=2, relaxation="bernoulli").readout
    soft = readout.relaxed.fates(jnp.array([[0.6], [0.6]]), readout)
    np.testing.assert_allclose(soft, logistic(1.0), atol=1e-12)


def test_hard_scores_use_the_threshold_of_the_model_and_have_no_gradient():
    model = Model(n_cells=2, n_replicates=2, threshold=0.55)
    scores = scores_of(jnp.asarray(STATES), model)  # fates 10 and 11: one bit in two cells
    assert float(scores["utility"]) == pytest.approx(entropy_bits([0.75, 0.25]) - 0.5, abs=1e-12)
    assert float(scores["alternation"]) == 0.5
    assert float(scores_of(jnp.asarray(STATES), dataclasses.replace(model, threshold=0.65))["alternation"]) == 1.0
    gradient = jax.grad(lambda states: scores_of(states, model)["utility"])(jnp.asarray(STATES))
    np.testing.assert_array_equal(gradient, 0.0)
