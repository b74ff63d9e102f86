"""Dynamics against a plain Euler–Maruyama loop, closed forms, theorems, finite differences and counts of traces."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from lateral import (
    Model,
    RegulatoryFunction,
    TanhInhibition,
    neighbour_mean,
    run_multiple_replicates,
    run_trajectories,
    tabulate,
)
from lateral.engine.simulation import run_engine

# f evaluated exactly: tables are held to it in test_engine.py.
TISSUE = dict(n_cells=5, n_replicates=6, n_steps=30, dt=0.02, noise_strength=0.5, n_knots=None)
BOUNDARIES = [("free", 1), ("free", 2), ("free", 7), ("ring", 3), ("ring", 8), ("pinned", 1), ("pinned", 5)]
# The normals are float32, good to 6e-7; rates up to 18 pass an error on to neighbours.
ATOL = 5e-6


def steep(x):
    return 3.0 * jnp.tanh(6.0 * (0.5 - x))


@pytest.fixture(scope="module")
def noisy():
    """The plain loop on TISSUE, once for all tests of the module."""
    return oracles.euler_maruyama(lambda x: np.asarray(steep(x)), **TISSUE, key=jax.random.key(0))


# --- against the plain loop


@pytest.mark.parametrize(("boundary", "n_cells"), BOUNDARIES)
def test_neighbour_mean_matches_plain_loops_on_any_leading_axes(boundary, n_cells):
    states = np.random.default_rng(n_cells).uniform(size=(2, 3, n_cells))
    expected = [[oracles.neighbour_mean(row, boundary, 0.3) for row in plane] for plane in states]
    np.testing.assert_allclose(neighbour_mean(states, boundary, 0.3), expected, atol=1e-15)


def test_a_lone_cell_with_free_ends_sees_nothing():
    assert neighbour_mean(np.array([0.7])).tolist() == [0.0]


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [13, 20])
@pytest.mark.parametrize(("boundary", "n_cells"), [("free", 1), ("free", 2), ("ring", 4), ("pinned", 1), ("pinned", 5)])
def test_simulation_matches_plain_euler_maruyama(key, boundary, n_cells, rounds):
    settings = TISSUE | dict(n_cells=n_cells, boundary=boundary, edge_value=0.3, key=key, rounds=rounds)
    expected = oracles.euler_maruyama(lambda x: np.asarray(steep(x)), **settings)
    assert ((expected == 0.0) | (expected == 1.0)).any()  # cells are clipped
    np.testing.assert_allclose(run_trajectories(steep, **settings), expected, atol=ATOL)


def test_simulation_matches_plain_euler_maruyama_in_single_precision(float32, key, noisy):
    states = run_multiple_replicates(steep, **TISSUE, key=key)
    assert states.dtype == jnp.float32
    np.testing.assert_allclose(states, noisy[:, -1], atol=2e-5)


# NumPy's plain loop in double precision: TanhInhibition(slope 5, amplitude 1), dt 0.01, noise 0.1, start [0.4, 0.6],
# 20 steps, jax.random.key(2024), two replicates of seven cells.
PINNED = [
    [0.6458064, 0.3487568, 0.4539661, 0.4558215, 0.6754441, 0.4021157, 0.5303006],
    [0.5929691, 0.4985139, 0.5178406, 0.6006022, 0.3093819, 0.5896872, 0.3849242],
]


def test_a_short_trajectory_with_all_defaults_is_pinned(precision):
    """A change of dt, noise, start, slope or amplitude by 2 % moves it by more than a hundred times the tolerance."""
    model = Model()
    tissue = dict(n_cells=model.n_cells, n_replicates=2, n_steps=20, dt=model.dt, noise_strength=model.noise_strength)
    pinned = jax.random.key(2024)
    states = run_multiple_replicates(TanhInhibition(), **tissue, key=pinned)
    np.testing.assert_allclose(states, PINNED, atol=1e-5)
    states = run_multiple_replicates(TanhInhibition(), **tissue, key=pinned, start=model.start)
    np.testing.assert_allclose(states, PINNED, atol=1e-5)


# --- closed forms and distributions


def test_a_constant_rate_moves_in_a_straight_line_and_stops_at_the_bound(key):
    still = TISSUE | dict(noise_strength=0.0, n_cells=3, key=key, initial_states=np.array([0.1, 0.5, 0.9]))
    path = run_trajectories(lambda x: 0.5 * jnp.ones_like(x), **still)
    time = 0.02 * np.arange(31)[:, None]
    np.testing.assert_allclose(path[0], np.minimum([0.1, 0.5, 0.9] + 0.5 * time, 1.0), atol=1e-12)
    np.testing.assert_array_equal(path, jnp.broadcast_to(path[:1], path.shape))  # all replicates alike


def test_a_rate_may_be_one_number_or_whole_numbers(key):
    still = TISSUE | dict(noise_strength=0.0, n_cells=3, key=key, initial_states=np.array([0, 1, 0]))
    constant = run_multiple_replicates(lambda x: 1.0, **still)
    np.testing.assert_allclose(constant[0], [0.6, 1.0, 0.6], atol=1e-12)
    whole = run_multiple_replicates(lambda x: jnp.where(x > 0.5, -1, 1), **still)
    np.testing.assert_allclose(whole[0], [0.0, 1.0, 0.0], atol=1e-12)


def test_a_uniform_tissue_relaxes_geometrically_without_noise(key):
    """With f = -k (s̄ - 1/2) and all cells alike, s_n - 1/2 = (s_0 - 1/2) (1 - k dt)^n."""
    still = TISSUE | dict(noise_strength=0, n_cells=7, key=key, initial_states=np.full(7, 0.9))
    states = run_multiple_replicates(lambda x: -2.0 * (x - 0.5), **still)
    np.testing.assert_allclose(states, 0.5 + 0.4 * (1.0 - 2.0 * 0.02) ** 30, atol=1e-12)


def test_two_cells_obey_the_variance_of_an_ornstein_uhlenbeck_chain(key):
    """With f = -k (s̄ - 1/2) the sum of two cells is a linear chain with factor a = 1 - k dt and noise of variance
    2 σ² dt: after n steps its variance is 2 σ² dt (1 - a^2n) / (1 - a²). Held within four standard errors."""
    n_replicates, n_steps, dt, sigma, k = 20_000, 20, 0.05, 0.05, 2.0
    tissue = dict(n_cells=2, n_replicates=n_replicates, n_steps=n_steps, dt=dt, noise_strength=sigma)
    states = run_multiple_replicates(lambda x: -k * (x - 0.5), **tissue, key=key, initial_states=np.full(2, 0.5))
    a = 1.0 - k * dt
    expected = 2.0 * sigma**2 * dt * (1.0 - a ** (2 * n_steps)) / (1.0 - a**2)
    total = np.asarray(states).sum(axis=1)
    assert abs(total.mean() - 1.0) < 4.0 * np.sqrt(expected / n_replicates)
    assert abs(total.var() / expected - 1.0) < 4.0 * np.sqrt(2.0 / n_replicates)


def test_initial_states_are_uniform_in_their_range(key):
    """Mean and variance of a uniform number on [a, b], (a + b) / 2 and (b - a)² / 12, within four standard errors."""
    tissue = dict(n_cells=7, n_replicates=4000, n_steps=1, dt=0.01, noise_strength=0.1, key=key)
    for settings, (low, high) in [
        ({}, (0.4, 0.6)),
        ({"start": (0.1, 0.9)}, (0.1, 0.9)),
        ({"start": (0.3, 0.3)}, (0.3, 0.3)),
    ]:
        first = np.asarray(run_trajectories(jnp.zeros_like, **tissue, **settings))[:, 0]
        width, n = high - low, first.size
        assert first.min() >= low - 1e-12 and first.max() <= high + 1e-12
        assert abs(first.mean() - (low + high) / 2.0) <= 4.0 * width / np.sqrt(12.0 * n) + 1e-12
        # The kurtosis of a uniform number is 9/5: the variance has relative standard error sqrt(4/5 / n).
        assert abs(first.var() - width**2 / 12.0) <= 4.0 * width**2 / 12.0 * np.sqrt(0.8 / n) + 1e-12


@pytest.mark.parametrize("shape", [(5,), (6, 5)])
def test_initial_states_are_taken_as_given(key, shape):
    initial = np.random.default_rng(0).uniform(size=shape)
    path = run_trajectories(steep, **TISSUE, key=key, initial_states=initial)
    np.testing.assert_array_equal(path[:, 0], np.broadcast_to(initial, (6, 5)))


def test_replicates_do_not_depend_on_their_number(key, noisy):
    states = run_multiple_replicates(steep, **TISSUE | {"n_replicates": 2}, key=key)
    np.testing.assert_allclose(states, noisy[:2, -1], atol=ATOL)


def test_an_older_key_gives_the_same_simulation(noisy):
    states = run_multiple_replicates(steep, **TISSUE, key=jax.random.PRNGKey(0))
    np.testing.assert_allclose(states, noisy[:, -1], atol=ATOL)


# --- trajectories and refinement


def test_the_last_time_of_a_trajectory_is_the_final_state_and_every_skips(key, noisy):
    np.testing.assert_allclose(run_multiple_replicates(steep, **TISSUE, key=key), noisy[:, -1], atol=ATOL)
    for every in (10, 30):
        path = run_trajectories(steep, **TISSUE, key=key, every=every)
        assert path.shape == (6, 30 // every + 1, 5)
        np.testing.assert_allclose(path, noisy[:, ::every], atol=ATOL)


@pytest.mark.slow
def test_refinement_keeps_the_brownian_path(key):
    """Without drift and clipping the final state is the sum of the noise: the same, however fine the steps."""
    tissue = TISSUE | dict(noise_strength=0.05, key=key)
    coarse, fine = (run_trajectories(jnp.zeros_like, **tissue, refine=refine) for refine in (1, 3))
    assert np.std(coarse[:, -1]) > 0.01
    np.testing.assert_allclose(fine, coarse, atol=ATOL)


def test_refined_increments_are_those_of_a_brownian_bridge(key):
    """Two half steps of two cells from 1/2 with f = k (s̄ - 1/2): the first adds the noise w to the neighbour, which
    moves the cell by k w dt/2 in the second, while the whole step has no drift. So w can be read off: its variance is
    σ² dt/2, and it is independent of the other half. Within four standard errors."""
    n, dt, sigma, k = 20_000, 0.5, 0.05, 1.0
    tissue = dict(n_cells=2, n_replicates=n, n_steps=1, dt=dt, noise_strength=sigma, initial_states=np.full(2, 0.5))
    coarse, fine = (
        np.asarray(run_multiple_replicates(lambda x: k * (x - 0.5), **tissue, key=key, refine=r)) for r in (1, 2)
    )
    first_half = ((fine - coarse) / (k * dt / 2.0))[:, ::-1]
    second_half = coarse - 0.5 - first_half
    for half in (first_half, second_half):
        assert abs(half.var() / (sigma**2 * dt / 2.0) - 1.0) < 4.0 * np.sqrt(2.0 / half.size)
    assert abs(np.corrcoef(first_half.ravel(), second_half.ravel())[0, 1]) < 4.0 / np.sqrt(first_half.size)


@pytest.mark.slow
def test_refinement_shows_an_error_of_strong_order_one(key):
    """Additive noise: the pathwise error of Euler–Maruyama is O(dt) (Kloeden & Platen 1992), so that at half the time
    step the change under refinement is half as large."""
    tissue = dict(n_cells=5, n_replicates=400, noise_strength=0.05, key=key)
    f = TanhInhibition(3.0, 0.4)
    changes = []
    for n_steps, dt in ((6, 0.2), (12, 0.1)):
        coarse, fine = (run_multiple_replicates(f, **tissue, n_steps=n_steps, dt=dt, refine=r) for r in (1, 4))
        changes.append(float(jnp.mean(jnp.abs(fine - coarse))))
    assert changes[1] > 1e-3
    assert changes[0] / changes[1] == pytest.approx(2.0, rel=0.15)


# --- transformations


def test_new_numbers_do_not_recompile_but_a_new_size_does(key):
    settings = TISSUE | dict(boundary="pinned", edge_value=0.0, key=key)
    changes = (
        {"dt": 0.01},
        {"dt": np.float32(0.01)},
        {"noise_strength": 0},
        {"noise_strength": jnp.asarray(0.3)},
        {"key": jax.random.key(1)},
        {"edge_value": 1},
        {"start": (0.0, 1)},
    )
    for simulate in (run_multiple_replicates, run_trajectories):
        simulate(steep, **settings)
        compiled = run_engine._cache_size()
        for change in ({}, *changes):
            simulate(steep, **settings | change)
        assert run_engine._cache_size() == compiled
    run_multiple_replicates(steep, **settings | {"n_steps": 31})
    assert run_engine._cache_size() > compiled


def test_new_parameters_of_a_regulator_do_not_retrace(key):
    calls = []

    class Line(NamedTuple):
        slope: float

        def __call__(self, x):
            calls.append("traced")
            return self.slope * (0.5 - x)

    run_multiple_replicates(Line(1.0), **TISSUE, key=key)
    n_calls = len(calls)
    one, other = (run_multiple_replicates(Line(slope), **TISSUE, key=key) for slope in (2.0, 3.0))
    assert len(calls) == n_calls
    assert not np.allclose(one, other)


@pytest.mark.slow
def test_simulation_works_under_jit_and_vmap(key, noisy):
    @jax.jit
    def jitted(dt, noise_strength, key):
        return run_multiple_replicates(steep, **TISSUE | dict(dt=dt, noise_strength=noise_strength), key=key)

    np.testing.assert_allclose(jitted(0.02, 0.5, key), noisy[:, -1], atol=ATOL)
    noise = jnp.array([0.5, 0.0, 0.2])
    keys = jnp.stack([key, jax.random.key(1), jax.random.key(2)])
    swept = jax.vmap(jitted, in_axes=(None, 0, 0))(0.02, noise, keys)
    np.testing.assert_allclose(
        swept, jnp.stack([jitted(0.02, n, k) for n, k in zip(noise, keys, strict=True)]), atol=ATOL
    )


@pytest.mark.slow
def test_gradient_matches_finite_difference_also_where_cells_are_clipped(key, check_gradient):
    """With respect to slope, amplitude, dt, noise and initial states at once."""
    initial = np.random.default_rng(0).uniform(0.2, 0.8, size=(6, 5))
    x = {"f": (6.0, 3.0), "dt": 0.02, "noise_strength": 0.5, "initial_states": jnp.asarray(initial)}

    def final(x):
        settings = {name: x[name] for name in x if name != "f"}
        return run_multiple_replicates(TanhInhibition(*x["f"]), **TISSUE | settings, key=key)

    assert jnp.isin(final(x), jnp.array([0.0, 1.0])).any()
    check_gradient(lambda x: jnp.mean((final(x) - 0.3) ** 2), x, rtol=1e-5, atol=1e-8)


def test_gradient_vanishes_for_a_cell_that_is_pushed_against_a_bound(key):
    """Finite differences say 0 beyond the bound and 1 within."""
    still = TISSUE | dict(n_steps=1, dt=0.01, noise_strength=0.0, n_cells=3, n_replicates=1, key=key)

    def total(initial):
        return jnp.sum(run_multiple_replicates(lambda x: jnp.ones_like(x), **still, initial_states=initial))

    gradient = jax.grad(total)(jnp.array([0.999, 0.5, 0.0]))
    np.testing.assert_array_equal(gradient, [0.0, 1.0, 1.0])


def test_gradient_on_the_bound_itself_lies_between_its_one_sided_slopes(key):
    """At rest exactly on 0 or 1 the slope is 1 to one side and 0 to the other."""
    still = TISSUE | dict(n_steps=1, noise_strength=0.0, n_cells=3, n_replicates=1, key=key)
    gradient = jax.grad(
        lambda initial: jnp.sum(run_multiple_replicates(jnp.zeros_like, **still, initial_states=initial))
    )(jnp.array([0.0, 0.5, 1.0]))
    assert ((gradient >= 0.0) & (gradient <= 1.0)).all()
    assert gradient[1] == 1.0


# --- every kind of regulator


class Steep(NamedTuple):
    rate: float

    def __call__(self, x):
        return self.rate * jnp.tanh(6.0 * (0.5 - x))


@dataclasses.dataclass  # with ==, hence unhashable
class Unhashable:
    rate: float

    def __call__(self, x):
        return self.rate * jnp.tanh(6.0 * (0.5 - x))


class Network:
    def apply(self, params, x):
        return params["rate"] * jnp.tanh(6.0 * (0.5 - x))


def scaled(rate, x):
    return rate * jnp.tanh(6.0 * (0.5 - x))


REGULATORS = {
    "closure": steep,
    "NamedTuple": Steep(3.0),
    "TanhInhibition": TanhInhibition(6.0, 3.0),
    "unhashable": Unhashable(3.0),
    "Partial": jax.tree_util.Partial(scaled, 3.0),
    "RegulatoryFunction": RegulatoryFunction(Network(), {"rate": jnp.asarray(3.0)}),
}


@pytest.mark.parametrize("kind", REGULATORS)
def test_every_kind_of_regulator_gives_the_same_simulation(kind, key, noisy):
    states = run_multiple_replicates(REGULATORS[kind], **TISSUE, key=key)
    np.testing.assert_allclose(states, noisy[:, -1], atol=ATOL)


def test_a_table_gives_the_simulation_of_its_function(key, noisy):
    """4,097 knots leave an error of f below max |f''| h² / 8 = 83 h² / 8 = 7e-7."""
    states = run_multiple_replicates(tabulate(steep, 4097), **TISSUE, key=key)
    np.testing.assert_allclose(states, noisy[:, -1], atol=1e-5)


def test_an_unhashable_regulator_does_not_recompile(key):
    @dataclasses.dataclass
    class Line:
        rate: float

        def __call__(self, x):
            return self.rate * (0.5 - x)

    f = Line(3.0)
    run_multiple_replicates(f, **TISSUE, key=key)
    compiled = run_engine._cache_size()
    run_multiple_replicates(f, **TISSUE | {"dt": 0.01}, key=key)
    assert run_engine._cache_size() == compiled
