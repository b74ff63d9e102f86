"""Regulatory functions against closed forms, hand-written NumPy, error bounds and symmetry."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import (
    HIDDEN_DIMS,
    MLP,
    DeadBand,
    Model,
    RBFNetwork,
    RegulatoryFunction,
    StepNetwork,
    Table,
    TanhInhibition,
    fit_network,
    tabulate,
    tanh_as_network,
)
from lateral.model import final_states, scores_of
from lateral.step_network import CUT_UNIT, stretches

X = np.linspace(0.0, 1.0, 13)

init = jax.jit(MLP.init)  # compiled once for each size


# --- tanh


def test_tanh_inhibition_is_its_formula_with_slope_5_and_amplitude_1():
    np.testing.assert_allclose(TanhInhibition()(X), -np.tanh(5.0 * (X - 0.5)), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(TanhInhibition(20.0, -2.0, 0.3)(X), 2.0 * np.tanh(20.0 * (X - 0.3)), rtol=1e-13)


def test_a_dead_band_waits_in_the_middle_and_is_odd():
    x = np.array([0.0, 0.37, 0.39, 0.5, 0.61, 0.63, 1.0])
    np.testing.assert_array_equal(DeadBand()(x), [5.0, 5.0, 0.0, 0.0, 0.0, -5.0, -5.0])
    np.testing.assert_array_equal(DeadBand(0.2, 2.0)(x), [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0])


# --- table


def test_a_table_is_linear_interpolation_and_constant_beyond_its_ends():
    values = np.array([3.0, -1.0, 2.0, 0.5])
    x = np.concatenate([np.random.default_rng(0).uniform(-0.5, 1.5, 200), [0.0, 1 / 3, 2 / 3, 1.0]])
    np.testing.assert_allclose(Table(values)(x), np.interp(x, np.linspace(0.0, 1.0, 4), values), atol=1e-13)


@pytest.mark.parametrize("n_knots", [2, 33, 513])
def test_the_error_of_a_table_is_within_the_bound_of_linear_interpolation(n_knots):
    """max |f - table| <= max |f''| h² / 8, with f'' = 4 slope² / (3 sqrt 3) at most for a tanh of amplitude 1."""
    f = TanhInhibition(slope=10.0)
    x = np.linspace(0.0, 1.0, 20_001)
    error = np.abs(tabulate(f, n_knots)(x) - f(x)).max()
    bound = 100.0 * 4.0 / (3.0 * np.sqrt(3.0)) / (8.0 * (n_knots - 1) ** 2)
    assert error <= bound
    if n_knots > 2:
        assert error > 0.5 * bound  # the bound is tight: no knot is wasted


def test_tabulate_keeps_the_values_at_the_knots_and_takes_a_constant():
    knots = np.linspace(0.0, 1.0, 513)
    np.testing.assert_allclose(tabulate(TanhInhibition()).values, TanhInhibition()(knots), rtol=1e-12)
    np.testing.assert_array_equal(tabulate(lambda x: 2.0, 5).values, np.full(5, 2.0))


def test_gradient_of_a_table_goes_to_both_neighbouring_knots(check_gradient):
    """A value between knots k and k + 1, a share w of the way, is (1 - w) v_k + w v_(k+1)."""
    gradient = jax.grad(lambda values: Table(values)(jnp.asarray(0.3)))(jnp.zeros(5))
    np.testing.assert_allclose(gradient, [0.0, 0.8, 0.2, 0.0, 0.0], atol=1e-12)
    table = Table(jnp.array([3.0, -1.0, 2.0]))
    check_gradient(lambda x: table(x), jnp.asarray(0.3))


# --- multilayer perceptron


def numpy_mlp(params, x, centre=0.5, scale=8.0, max_rate=None):
    """One neighbour mean at a time, one unit at a time."""
    activity = [scale * (x - centre)]
    for k, layer in enumerate(params):
        weights, biases = np.asarray(layer["weights"]), np.asarray(layer["biases"])
        summed = [
            biases[j] + sum(activity[i] * weights[i, j] for i in range(len(activity))) for j in range(len(biases))
        ]
        activity = summed if k == len(params) - 1 else np.tanh(summed)
    return activity[0] if max_rate is None else max_rate * np.tanh(activity[0] / max_rate)


@pytest.mark.slow
@pytest.mark.parametrize("hidden_dims", [(8, 8), (3, 5, 2)])
def test_the_network_matches_a_hand_written_one(key, hidden_dims):
    params = init(MLP(hidden_dims), key)
    for settings in ({}, {"input_centre": 0.0, "input_scale": 1.0}, {"max_rate": 0.5}):
        given = {name.removeprefix("input_"): value for name, value in settings.items()}
        expected = [numpy_mlp(params, x, **given) for x in X]
        rates = MLP(hidden_dims, **settings).apply(params, jnp.asarray(X))
        np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_the_default_network_has_two_layers_of_eight_and_97_weights(key):
    params = init(MLP(), key)
    assert HIDDEN_DIMS == (8, 8)
    assert [layer["weights"].shape for layer in params] == [(1, 8), (8, 8), (8, 1)]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 16 + 72 + 9 == 97


def test_max_rate_bounds_the_rate_and_leaves_small_rates_alone(key):
    params = jax.tree.map(lambda x: 100.0 * x, init(MLP(), key))
    x = jnp.asarray(np.linspace(0.0, 1.0, 301))
    assert jnp.abs(MLP().apply(params, x)).max() > 5.0
    assert jnp.abs(MLP(max_rate=5.0).apply(params, x)).max() <= 5.0
    np.testing.assert_allclose(MLP(max_rate=1e6).apply(params, x), MLP().apply(params, x), rtol=1e-6)


@pytest.fixture(scope="module")
def random_networks():
    """Parameters of 4,000 random networks, and their rates on a symmetric grid, `(network, s̄)`."""
    network = MLP()

    @jax.jit
    @jax.vmap
    def draw(key):
        params = network.init(key)
        return params, network.apply(params, jnp.asarray(X))

    return jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(1), 4000)))


@pytest.mark.slow
def test_random_networks_know_nothing_of_the_answer(random_networks):
    """As many random rules rise as fall around s̄ = 1/2, as many are positive as negative, and on average they are 0;
    within four standard errors."""
    rates = random_networks[1]
    n = len(rates)
    rising = (rates[:, 7] > rates[:, 5]).mean()
    positive = (rates[:, 6] > 0.0).mean()
    assert abs(rising - 0.5) < 4.0 * 0.5 / np.sqrt(n)
    assert abs(positive - 0.5) < 4.0 * 0.5 / np.sqrt(n)
    assert (np.abs(rates.mean(axis=0)) < 4.0 * rates.std(axis=0) / np.sqrt(n)).all()


def test_random_parameters_have_the_variance_of_their_layer(random_networks):
    """Variance 1 / inputs for weights and 1/4 for biases, within four standard errors."""
    for layer, n_inputs in zip(random_networks[0], (1, 8, 8), strict=True):
        for leaf, variance in ((layer["weights"], 1.0 / n_inputs), (layer["biases"], 0.25)):
            assert abs(leaf.var() / variance - 1.0) < 4.0 * np.sqrt(2.0 / leaf.size)
            assert abs(leaf.mean()) < 4.0 * np.sqrt(variance / leaf.size)


def test_other_keys_give_other_networks():
    one, other = (init(MLP(), jax.random.key(seed)) for seed in (0, 1))
    assert all((a != b).all() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


# --- complete rules


@pytest.mark.parametrize("x", [0.3, 1, np.float32(0.3), X, X[:12].reshape(2, 3, 2), np.zeros((0, 7))])
def test_a_regulatory_function_takes_numbers_numpy_and_jax_of_any_shape(key, x):
    network = MLP(max_rate=5.0)
    f = RegulatoryFunction(network, init(network, key))
    rate = f(x)
    assert rate.shape == np.shape(x)
    expected = [numpy_mlp(f.params, value, max_rate=5.0) for value in np.ravel(x)]
    np.testing.assert_allclose(np.ravel(rate), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(f(jnp.asarray(x, float)), rate)


@pytest.mark.slow
def test_a_regulatory_function_in_single_precision(float32, key):
    network = MLP(max_rate=5.0)
    f = RegulatoryFunction(network, init(network, key))
    assert f(X).dtype == jnp.float32
    np.testing.assert_allclose(f(X), [numpy_mlp(f.params, x, max_rate=5.0) for x in X], rtol=1e-4, atol=1e-6)


def test_new_weights_and_scales_do_not_retrace_but_new_sizes_do(key):
    traces = []

    @jax.jit
    def rate(f):
        traces.append(None)
        return f(0.3)

    for network in (MLP(), MLP(input_scale=4.0), MLP(input_centre=0.4)):
        for seed in (0, 1):
            rate(RegulatoryFunction(network, init(MLP(), jax.random.key(seed))))
    assert len(traces) == 1
    rate(RegulatoryFunction(MLP((3,)), init(MLP((3,)), key)))
    assert len(traces) == 2


def test_a_rule_itself_can_be_jitted_differentiated_and_mapped(key):
    f = RegulatoryFunction(MLP(), init(MLP(), key))
    step = 1e-6
    slope = float(f(0.3 + step) - f(0.3 - step)) / (2.0 * step)
    assert float(jax.jit(f)(0.3)) == pytest.approx(float(f(0.3)), rel=1e-12)
    assert float(jax.grad(f)(0.3)) == pytest.approx(slope, rel=1e-6)
    np.testing.assert_allclose(jax.vmap(f)(jnp.asarray(X)), f(X), rtol=1e-12)


# --- radial basis functions


@pytest.mark.parametrize("odd", [True, False])
def test_radial_basis_functions_are_their_formula(odd):
    """Gaussian bumps over their sum, weighted; an odd network mirrors its weights with the opposite sign."""
    network = RBFNetwork(n_features=5, width=0.8, odd=odd, max_rate=None)
    weights = np.array([1.0, -3.0]) if odd else np.array([1.0, -3.0, 0.5, 2.0, 4.0])
    every = np.array([1.0, -3.0, 0.0, 3.0, -1.0]) if odd else weights
    bumps = np.exp(-0.5 * ((X[:, None] - np.linspace(0.0, 1.0, 5)) / (0.8 / 4.0)) ** 2)
    expected = bumps @ every / bumps.sum(axis=1)
    np.testing.assert_allclose(network.apply({"weights": jnp.asarray(weights)}, X), expected, atol=1e-12)
    bounded = RBFNetwork(n_features=5, width=0.8, odd=odd, max_rate=2.0).apply({"weights": jnp.asarray(weights)}, X)
    np.testing.assert_allclose(bounded, 2.0 * np.tanh(expected / 2.0), atol=1e-12)


def test_an_odd_rule_treats_on_and_off_alike_and_its_draw_knows_no_sign(key):
    network = RBFNetwork()
    f = RegulatoryFunction(network, network.init(key))
    np.testing.assert_allclose(f(1.0 - X), -f(X), atol=1e-12)
    weights = jax.vmap(network.init)(jax.random.split(key, 4000))["weights"]
    assert weights.shape == (4000, 15)
    assert jnp.abs(weights.mean(axis=0)).max() < 5.0 / np.sqrt(4000)
    np.testing.assert_allclose(weights.std(axis=0), 1.0, rtol=0.1)


def test_any_shape_goes_through_radial_basis_functions(key):
    f = RegulatoryFunction(RBFNetwork(4, odd=False), RBFNetwork(4, odd=False).init(key))
    x = np.linspace(0.0, 1.0, 24).reshape(2, 3, 4)
    np.testing.assert_allclose(f(x), f(x.ravel()).reshape(x.shape), atol=1e-14)
    assert f(0.3).shape == ()


@pytest.mark.parametrize("odd", [True, False])
def test_converted_weights_are_what_the_bumps_add_up_to_at_the_centres_of_the_others(key, odd):
    """Before the bound; an odd rule stays odd, a constant one constant."""
    fine, coarse = RBFNetwork(9, odd=odd), RBFNetwork(5, odd=odd)
    params = fine.init(key)
    unbounded = dataclasses.replace(fine, max_rate=None)
    expected = unbounded.apply(params, np.linspace(0.0, 1.0, 5))[: 2 if odd else 5]
    np.testing.assert_allclose(fine.converted(params, coarse)["weights"], expected, atol=1e-12)
    if not odd:
        constant = fine.converted({"weights": jnp.full(9, 7.0)}, coarse)["weights"]
        np.testing.assert_allclose(constant, 7.0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("odd", [True, False])
def test_a_smoothed_network_is_less_steep_and_a_smooth_rule_survives_the_way_back(key, odd):
    network = RBFNetwork(max_rate=None, odd=odd)
    smooth = network.smoothed()
    assert (smooth.n_features, smooth.width) == (21, 1.0)
    params, x = network.init(key), np.linspace(0.0, 1.0, 1001)
    there = network.converted(params, smooth)
    steepest = [np.abs(np.diff(n.apply(p, x))).max() for n, p in ((network, params), (smooth, there))]
    assert steepest[1] < 0.8 * steepest[0]
    back = smooth.converted(there, network)
    np.testing.assert_allclose(network.apply(back, x), smooth.apply(there, x), atol=0.2)


# --- steps


@pytest.mark.slow
@pytest.mark.parametrize("odd", [True, False])
def test_a_step_rule_is_constant_between_its_cuts(odd):
    """Cuts in any order, levels bounded, edges too narrow to be seen; an odd rule has a mirror image beyond 1/2."""
    network = StepNetwork(n_cuts=2, edge=1e-4, odd=odd, max_rate=2.0)
    params = {"cuts": jnp.array([0.3, 0.1]) / CUT_UNIT, "levels": jnp.array([1.0, -3.0, 8.0])}
    left = 2.0 * np.tanh(np.array([1.0, -3.0, 8.0]) / 2.0)
    x = np.array([0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
    right = -left[::-1] if odd else np.full(3, left[2])
    np.testing.assert_allclose(network.apply(params, x), np.concatenate([left, right]), atol=1e-6)
    np.testing.assert_allclose(network.apply(params, x.reshape(2, 3)).ravel(), network.apply(params, x), atol=1e-14)
    unbounded = dataclasses.replace(network, max_rate=None)
    assert float(unbounded.apply(params, 0.4)) == pytest.approx(8.0)


def test_an_edge_is_a_logistic_function_of_the_neighbour_mean():
    network = StepNetwork(n_cuts=1, edge=0.02, odd=False, max_rate=None)
    params = {"cuts": jnp.array([0.4]) / CUT_UNIT, "levels": jnp.array([-1.0, 2.0])}
    np.testing.assert_allclose(network.apply(params, X), -1.0 + 3.0 / (1.0 + np.exp((0.4 - X) / 0.02)), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("odd", [True, False])
def test_random_step_rules_have_cuts_of_three_kinds_and_levels_of_either_sign(key, odd):
    """Cuts lie where the three distributions say, a third each; an odd rule folds the right half onto the left."""
    drawn = jax.vmap(StepNetwork(odd=odd, highest=8.0).init)(jax.random.split(key, 20_000))
    cuts, levels = CUT_UNIT * np.asarray(drawn["cuts"]).ravel(), np.asarray(drawn["levels"]).ravel()
    normal = [0.5 * (1.0 + math.erf(x / 0.15 / math.sqrt(2.0))) for x in (-0.4, -0.1, 0.0)]
    near_an_end = [0.5 * (1.0 - math.exp(-x / 0.08)) for x in (0.1, 0.4, 0.5)]
    for x, of_normal, of_end in zip((0.1, 0.4, 0.5), normal, near_an_end, strict=True):
        below = (x + of_normal + of_end) / 3.0
        expected = below + (x + of_normal + of_end) / 3.0 if odd else below
        assert (cuts < x).mean() == pytest.approx(min(expected, 1.0), abs=0.01)
    values, counts = np.unique(levels, return_counts=True)
    np.testing.assert_allclose(values, [-8.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 8.0], rtol=1e-6)
    np.testing.assert_allclose(counts / counts.sum(), 1.0 / 9.0, atol=0.01)


@pytest.mark.slow
def test_the_highest_rate_of_a_random_step_rule_is_its_bound(key):
    """5 tanh(20 / 5) is 5.00, while 8 is cut to 4.6: such a rule would never be as fast as it may."""
    for highest, rate in ((20.0, 4.997), (8.0, 4.608)):
        network = StepNetwork(highest=highest)
        drawn = jax.vmap(network.init)(jax.random.split(key, 100))
        rates = jax.vmap(network.apply, (0, None))(drawn, X)
        assert float(jnp.abs(rates).max()) == pytest.approx(rate, abs=0.002)


@pytest.mark.slow
def test_steep_edges_make_a_dead_band_good(key, float32):
    """What the default edge of a step rule rests on."""
    model, utilities = Model(n_replicates=4000), []
    for edge, expected in ((0.005, 0.77), (0.015, 0.73), (0.03, 0.66)):
        network = StepNetwork(n_cuts=1, edge=edge, max_rate=None)
        f = RegulatoryFunction(network, {"cuts": jnp.array([0.38 / CUT_UNIT]), "levels": jnp.array([5.0, 0.0])})
        utilities.append(float(scores_of(final_states(f, model, key), model)["utility"]))
        assert utilities[-1] == pytest.approx(expected, abs=0.015)
    assert utilities[0] > utilities[1] + 0.02 > utilities[2] + 0.05


def test_sharpened_edges_are_never_wider_than_they_were():
    for edge, sharp in ((0.02, 0.001), (0.0005, 0.0005)):
        network = StepNetwork(n_cuts=2, edge=edge, odd=False)
        assert network.sharpened() == StepNetwork(n_cuts=2, edge=sharp, odd=False)


# --- a network close to a rule


@pytest.mark.parametrize("odd", [True, False])
def test_step_rules_fit_a_step_rule_exactly_and_any_other_as_well_as_cuts_can(key, odd):
    network = StepNetwork(n_cuts=4, edge=1e-4, odd=odd)
    fit = RegulatoryFunction(network, fit_network(network, DeadBand(0.121, 4.0), key=key))
    x = np.concatenate([[0.002, 0.498, 0.502, 0.998], np.arange(0.01, 1.0, 0.01)])
    x = x[(abs(abs(x - 0.5) - 0.121) > 0.002)]  # cuts lie between two of the 513 neighbour means
    np.testing.assert_allclose(fit(x), DeadBand(0.121, 4.0)(x), atol=1e-5)
    fastest = network.fitted(DeadBand(0.121, 5.0))["levels"]
    assert float(jnp.abs(fastest).max()) == pytest.approx(network.highest, rel=1e-6), "5 itself is out of reach"

    values = np.sin(np.arange(11.0) ** 1.5)

    def error(starts):
        return sum(((stretch - stretch.mean()) ** 2).sum() for stretch in np.split(values, starts))

    best = min(itertools.combinations(range(1, 11), 3), key=error)
    np.testing.assert_array_equal(stretches(values, 4), [0, *best])


@pytest.mark.parametrize("odd", [True, False])
def test_a_fit_is_that_of_least_squares(key, odd):
    """Without a bound the bumps are linear in their weights, so that NumPy solves it exactly."""
    network, x = RBFNetwork(9, odd=odd, max_rate=None), np.linspace(0.0, 1.0, 513)

    def f(x):
        return jnp.sin(7.0 * x) + x

    n_weights = 4 if odd else 9
    bumps = np.stack([network.apply({"weights": row}, x) for row in jnp.eye(n_weights)], axis=1)
    best = np.linalg.lstsq(bumps, np.asarray(f(x)), rcond=None)[0]
    fitted = fit_network(network, f, key=key)["weights"]
    np.testing.assert_allclose(bumps @ fitted, bumps @ best, atol=1e-10)


@pytest.mark.slow
def test_a_fit_within_a_bound_takes_rates_beyond_it_as_nearly_at_it():
    """Steps of 8 under a bound of 5, by bumps that are narrow enough to follow them."""
    network, rule = RBFNetwork(), StepNetwork(n_cuts=1, edge=0.02, max_rate=None)
    f = RegulatoryFunction(rule, {"cuts": jnp.array([0.36]) / CUT_UNIT, "levels": jnp.array([8.0, 0.0])})
    fitted = network.apply(network.fitted(f), X)
    away = np.abs(np.abs(X - 0.5) - 0.14) > 0.08
    np.testing.assert_allclose(fitted[away], 5.0 * np.clip(np.asarray(f(X)) / 5.0, -0.98, 0.98)[away], atol=0.35)


@pytest.mark.slow
def test_a_perceptron_comes_close_to_a_dead_band(key):
    network, x = MLP(max_rate=5.0), np.linspace(0.0, 1.0, 513)
    error = network.apply(fit_network(network, DeadBand(0.12), key=key), x) - DeadBand(0.12)(x)
    away_from_the_jumps = np.abs(np.abs(x - 0.5) - 0.12) > 0.03
    assert np.abs(error[away_from_the_jumps]).max() < 0.25


@pytest.mark.slow
def test_the_tanh_target_as_a_network_is_the_same_rule():
    for target in (TanhInhibition(), TanhInhibition(slope=7.0, amplitude=2.0, centre=0.4)):
        x = np.linspace(0.0, 1.0, 101)
        np.testing.assert_allclose(tanh_as_network(target)(x), target(x), atol=1e-12)
