"""The engine against plain Euler-Maruyama and its autodiff: values, gradients, memory, splits of the work."""

import itertools
import os
import subprocess
import sys
import threading
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from lateral import (
    MLP,
    Model,
    Numerics,
    Pinned,
    RegulatoryFunction,
    Row,
    Table,
    TanhInhibition,
    run_multiple_replicates,
    run_trajectories,
    tabulate,
    threads,
)
from lateral.engine import ENGINES, engine_of, simulation
from lateral.engine.noise import standard_normal
from lateral.model import final_states, scores_of
from lateral.static import as_floats
from lateral.tissue import Tissue, euler_maruyama_step

TISSUE = dict(n_cells=7, n_replicates=9, n_steps=60, dt=0.02, noise_strength=0.5)


@pytest.fixture(params=ENGINES)
def engine(request):
    """The name of an engine: all that can be said of one is said of all of them."""
    return request.param


def plain_simulation(f, initial, *, n_steps, dt, noise_strength, key, geometry=None):
    """A loop over the reference step, `(replicate, cell)` in and out; autodiff sees all of it."""
    noise_key = jax.random.split(key, 3)[1]
    n_replicates, n_cells = initial.shape
    geometry = Row(n_cells) if geometry is None else geometry
    tissue = Tissue(geometry=geometry, n_steps=n_steps, dt=dt, noise_strength=noise_strength)

    def step(states, number):
        z = standard_normal(noise_key, number, n_cells, n_replicates).astype(states.dtype)
        return euler_maruyama_step(f, states, z, tissue), None

    return jax.lax.scan(step, initial.T, jnp.arange(n_steps, dtype=jnp.uint32))[0].T


def simulate(f, initial, **settings):
    n_replicates, n_cells = initial.shape
    if "geometry" not in settings:
        settings["n_cells"] = n_cells
    return run_multiple_replicates(f, n_replicates=n_replicates, initial_states=initial, **settings)


def initial_states(n_replicates, n_cells):
    return jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (n_replicates, n_cells)), float)


def rough_table(n_knots=33):
    """Knots of slopes up to 8, so that every weight and slope of the interpolation counts."""
    return jnp.asarray(np.random.default_rng(1).normal(scale=0.1, size=n_knots), float)


def relative_error(ours, theirs):
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs) / scale


# --- values


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.GEOMETRIES)
def test_every_engine_gives_the_states_of_the_plain_loop_on_every_geometry(key, engine, name):
    compare_with_the_plain_loop(key, engine, name, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["row", "pinned unlike", "one way"])
def test_every_engine_gives_the_states_of_the_plain_loop_in_single_precision_too(key, float32, engine, name):
    compare_with_the_plain_loop(key, engine, name, atol=3e-5)


def compare_with_the_plain_loop(key, engine, name, atol):
    geometry = oracles.GEOMETRIES[name]
    table, initial = Table(rough_table()), initial_states(9, geometry.n_cells)
    settings = dict(n_steps=60, dt=0.02, noise_strength=0.5, key=key)
    ours = simulate(table, initial, geometry=geometry, engine=engine, **settings)
    theirs = oracles.euler_maruyama_on(geometry, lambda x: np.asarray(table(x)), initial, **settings)
    assert ours.dtype == initial.dtype
    assert ((theirs == 0.0) | (theirs == 1.0)).any()
    np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [13, 20])
def test_a_table_of_many_knots_gives_the_states_of_exact_evaluation(key, rounds, engine):
    """4,097 knots leave an error of f below max |f''| h² / 8 = 83 h² / 8 = 7e-7."""

    def steep(x):
        return 3.0 * jnp.tanh(6.0 * (0.5 - x))

    expected = oracles.euler_maruyama(lambda x: np.asarray(steep(x)), **TISSUE, key=key, rounds=rounds)
    for settings, atol in (({"n_knots": None}, 5e-6), ({"n_knots": 4097}, 2e-5)):
        path = run_trajectories(steep, **TISSUE, key=key, rounds=rounds, engine=engine, **settings)
        np.testing.assert_allclose(path, expected, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["row", "pinned unlike", "one way"])
def test_all_engines_refine_the_same_brownian_path(key, name):
    geometry = oracles.GEOMETRIES[name]
    settings = dict(geometry=geometry, n_replicates=9, n_steps=40, dt=0.02, noise_strength=0.5, key=key, refine=3)
    ours, theirs = (run_multiple_replicates(TanhInhibition(), engine=name, **settings) for name in ENGINES)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("hidden_dims", [(8, 8), (64, 64)])
def test_513_knots_follow_a_random_network_within_the_bound(hidden_dims):
    """Within max |f''| h² / 8, the bound of linear interpolation, for each of 20 random networks; by exact second
    derivatives. No error reaches 2e-4, in rates of up to 5."""
    x = jnp.linspace(0.0, 1.0, 4 * 512 + 1)  # the knots, and three points between each two
    network = MLP(hidden_dims, max_rate=5.0)

    @jax.jit
    def measure(key):
        f = RegulatoryFunction(network, network.init(key))
        curvature = jax.vmap(jax.grad(jax.grad(lambda x: f(x))))(x)
        return jnp.abs(tabulate(f)(x) - f(x)).max(), jnp.abs(curvature).max()

    for seed in range(20):
        with jax.numpy_rank_promotion("allow"):  # biases are added to a layer of any shape
            error, curvature = measure(jax.random.key(seed))
        assert error <= curvature / (8.0 * 512**2) * 1.01
        assert error < 2e-4


@pytest.mark.slow
@pytest.mark.parametrize(("n_cells", "n_replicates"), [(1, 1), (1, 2), (2, 1), (2, 3), (10_000, 2), (10_000, 3)])
def test_any_number_of_cells_and_replicates(float32, key, n_cells, n_replicates, engine):
    settings = dict(n_steps=5, dt=0.05, noise_strength=0.3, key=key)
    initial = initial_states(n_replicates, n_cells)
    ours = simulate(TanhInhibition(), initial, engine=engine, **settings)
    np.testing.assert_allclose(ours, plain_simulation(TanhInhibition(), initial, **settings), atol=1e-5)


def test_a_rule_that_is_not_a_number_gives_states_that_are_not(key, nan_allowed, engine):
    """Under a transformation, where rates are not known before; elsewhere they are refused."""
    simulate = jax.jit(lambda values: run_multiple_replicates(Table(values), **TISSUE, key=key, engine=engine))
    assert jnp.isnan(simulate(jnp.array([0.0, jnp.nan]))).all()


# --- splits of the work


@pytest.mark.slow
def test_a_batch_holds_the_replicates_of_the_whole(key, engine):
    whole = run_multiple_replicates(TanhInhibition(), **TISSUE, key=key, engine=engine)
    for first, n in ((0, 4), (4, 5), (8, 1)):
        batch = run_multiple_replicates(
            TanhInhibition(), **TISSUE | {"n_replicates": n}, key=key, first_replicate=first, engine=engine
        )
        np.testing.assert_allclose(batch, whole[first : first + n], atol=0.0 if engine == "table" else 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", ["2", "3"])
@pytest.mark.parametrize("n_replicates", [9, 12])
def test_threads_share_the_replicates_and_change_no_tissue(key, monkeypatch, n_threads, n_replicates):
    """Bit for bit, with states given or drawn, on the way or final; under a transformation nothing is shared."""
    tissue = TISSUE | {"n_replicates": n_replicates, "key": key, "first_replicate": 4}
    initial = jax.random.uniform(key, (n_replicates, 7))

    def everything():
        return (
            run_multiple_replicates(TanhInhibition(), **tissue, refine=2),
            run_multiple_replicates(TanhInhibition(), **tissue, initial_states=initial),
            run_trajectories(TanhInhibition(), **tissue, every=20),
        )

    monkeypatch.setenv("LATERAL_THREADS", "1")
    alone = everything()
    monkeypatch.setenv("LATERAL_THREADS", n_threads)
    monkeypatch.setattr(threads, "LEAST_WORK", 1)
    monkeypatch.setattr(simulation, "LEAST_WIDTH", 1)
    seen = []
    monkeypatch.setattr(simulation, "in_threads", lambda calls: seen.append(len(calls)) or threads.in_threads(calls))
    for shared, whole in zip(everything(), alone, strict=True):
        np.testing.assert_array_equal(shared, whole)
    assert seen == 3 * [int(n_threads)]
    seen.clear()
    jax.grad(lambda slope: run_multiple_replicates(TanhInhibition(slope), **tissue).sum())(5.0)
    assert not seen


def test_little_work_is_not_shared_and_the_number_of_threads_is_checked(monkeypatch):
    monkeypatch.setenv("LATERAL_THREADS", "4")
    tissue = Tissue(n_cells=7, n_steps=1000)
    assert simulation.size_of_share(tissue, 50, 1) == 50, "one score of evolution"
    assert simulation.size_of_share(tissue, 20_000, 1) == 5000
    assert simulation.size_of_share(tissue, 20_002, 1) == 5002, "each begins with an even replicate"
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("LATERAL_THREADS", wrong)
        with pytest.raises(ValueError, match=f"LATERAL_THREADS must be a whole number >= 1, got '{wrong}'"):
            simulation.size_of_share(tissue, 20_000, 1)
    monkeypatch.delenv("LATERAL_THREADS")
    assert threads.n_threads() >= 1


def test_no_more_threads_run_at_once_than_there_may(monkeypatch):
    """Three calls for each thread: their results come in order, and one thread is this one."""

    def call(number):
        time.sleep(0.01)
        return number, threading.get_ident()

    monkeypatch.setenv("LATERAL_THREADS", "2")
    numbers, idents = zip(*threads.in_threads([partial(call, number) for number in range(6)]), strict=True)
    assert numbers == tuple(range(6)) and len(set(idents)) <= 2
    monkeypatch.setenv("LATERAL_THREADS", "1")
    assert threads.in_threads([threading.get_ident] * 3) == 3 * [threading.get_ident()]


_ON_TWO_DEVICES = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import lateral

assert jax.device_count() == 2
tissue = dict(n_cells=7, n_steps=100, dt=0.02, noise_strength=0.5)
f, key = lateral.TanhInhibition(), jax.random.key(0)
whole = lateral.run_multiple_replicates(f, n_replicates=40, key=key, **tissue)
mesh = jax.make_mesh((2,), ("replicate",), axis_types=(AxisType.Auto,))

@jax.jit
@jax.shard_map(mesh=mesh, in_specs=(), out_specs=PartitionSpec("replicate"))
def halves():
    first = 20 * jax.lax.axis_index("replicate")
    return lateral.run_multiple_replicates(f, n_replicates=20, first_replicate=first, key=key, **tissue)

split = halves()
assert len(split.sharding.device_set) == 2
np.testing.assert_allclose(split, whole, atol=1e-6)  # the same noise; sums round as the loops are cut
"""


@pytest.mark.slow
def test_two_devices_give_the_states_of_one():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", _ON_TWO_DEVICES]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stderr


def test_a_population_by_vmap_gives_each_rule_its_own_table(key):
    slopes = jnp.array([2.0, -3.0, 8.0])
    model = Model(**TISSUE)
    population = jax.jit(jax.vmap(lambda slope: final_states(TanhInhibition(slope), model, key)))(slopes)
    for slope, states in zip(slopes, population, strict=True):
        np.testing.assert_allclose(states, final_states(TanhInhibition(slope), model, key), atol=1e-9)


# --- the gradient


def gradients(simulate, values, key, geometry, **settings):
    """With respect to knots, initial states, dt, noise and the numbers of the geometry at once, through a function of
    all final states."""
    n_cells = geometry.n_cells
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(9, n_cells)), float)
    numbers = {name: settings.pop(name) for name in ("dt", "noise_strength")} | {"geometry": geometry}

    def value(values, initial, numbers):
        return jnp.sum(weights * jnp.sin(3.0 * simulate(Table(values), initial, key=key, **settings, **numbers)))

    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2)))
    return gradient(values, initial_states(9, n_cells), jax.tree.map(lambda x: jnp.asarray(x, float), numbers))


GRADIENTS = [*(("table", name, 1e-10) for name in oracles.GEOMETRIES), ("reference", "pinned unlike", 1e-10)]
GRADIENTS += [("table", name, 1e-5) for name in ("row", "pinned unlike", "one way")]  # in single precision


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "name", "tolerance"), GRADIENTS)
def test_the_gradient_is_that_of_the_plain_step_with_the_same_table(key, engine, name, tolerance):
    with jax.enable_x64(tolerance < 1e-5):
        compare_gradients(key, engine, name, tolerance)


def compare_gradients(key, engine, name, tolerance):
    settings = dict(geometry=oracles.GEOMETRIES[name], n_steps=60, dt=0.02, noise_strength=0.5)
    ours = gradients(partial(simulate, engine=engine), rough_table(), key, **settings)
    theirs = gradients(plain_simulation, rough_table(), key, **settings)
    assert relative_error(ours[0], theirs[0]) < tolerance
    assert relative_error(ours[1:], theirs[1:]) < tolerance


@pytest.mark.slow
def test_the_gradient_of_users_settings_is_that_of_the_plain_step(float32, key):
    """50 replicates, 1,000 steps, 513 knots of the target, single precision."""
    values, initial = tabulate(TanhInhibition()).values, initial_states(50, 7)

    def value(values, simulate):
        states = simulate(Table(values), initial, n_steps=1000, dt=0.01, noise_strength=0.1, key=key)
        return jnp.mean(jax.nn.sigmoid((states[:, 0] - 0.45) / 0.1) * states[:, 3])

    ours, theirs = (jax.jit(jax.grad(value), static_argnums=1)(values, s) for s in (simulate, plain_simulation))
    assert relative_error(ours, theirs) < 1e-5


@pytest.mark.slow
def test_the_gradient_by_exact_evaluation_is_that_of_the_plain_step(key, precision):
    initial = initial_states(9, 7)

    def value(numbers, simulate, **settings):
        f = TanhInhibition(*numbers)
        states = simulate(f, initial, n_steps=60, dt=0.02, noise_strength=0.5, key=key, **settings)
        return jnp.sum(jnp.sin(3.0 * states))

    numbers = tuple(jnp.asarray(x, float) for x in (6.0, 3.0, 0.45))
    ours = jax.jit(jax.grad(partial(value, simulate=simulate, n_knots=None)))(numbers)
    theirs = jax.jit(jax.grad(partial(value, simulate=plain_simulation)))(numbers)
    assert relative_error(ours, theirs) < (1e-5 if precision == "float32" else 1e-10)


@pytest.mark.slow
def test_more_knots_bring_the_gradient_closer_to_exact_evaluation(key):
    """The slope of a table is that of f somewhere in the interval: off by max |f''| h at most, first order in h."""

    def gradient(n_knots):
        def value(numbers, initial):
            f = TanhInhibition(*numbers)
            states = simulate(f, initial, n_steps=60, dt=0.02, noise_strength=0.1, key=key, n_knots=n_knots)
            return jnp.sum(jnp.sin(3.0 * states))

        return jax.jit(jax.grad(value, argnums=(0, 1)))((4.0, 2.0, 0.5), initial_states(9, 7))

    exact = gradient(None)
    errors = [relative_error(gradient(n), exact) for n in (17, 65, 257, 1025)]
    assert all(more < 0.5 * fewer for fewer, more in itertools.pairwise(errors))
    assert errors[-1] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "recompute_every"), [("table", n) for n in (1, 7, 20, 60, 100)] + [("reference", 7)]
)
def test_simulating_anew_on_the_way_back_changes_nothing(key, recompute_every, engine):
    settings = dict(geometry=Pinned(7, 0.3, 0.3), n_steps=60, dt=0.02, noise_strength=0.5)
    again = partial(simulate, recompute_every=recompute_every, engine=engine)
    ours = gradients(again, rough_table(), key, **settings)
    theirs = gradients(partial(simulate, engine=engine), rough_table(), key, **settings)
    assert relative_error(ours, theirs) < 1e-12


@pytest.mark.slow
def test_the_gradient_of_a_trajectory_sees_the_times_in_between(key):
    initial, weights = initial_states(4, 7), jnp.asarray(np.random.default_rng(3).normal(size=(4, 4, 7)))

    def value(values):
        path = run_trajectories(
            Table(values), **TISSUE | {"n_replicates": 4}, key=key, initial_states=initial, every=20
        )
        return jnp.sum(weights * path)

    def by_hand(values):
        # final states after 20, 40 and 60 steps, each a simulation of its own
        ends = [simulate(Table(values), initial, n_steps=n, dt=0.02, noise_strength=0.5, key=key) for n in (20, 40, 60)]
        return jnp.sum(weights * jnp.stack([initial, *ends], axis=1))

    ours, theirs = jax.jit(jax.grad(value))(rough_table()), jax.jit(jax.grad(by_hand))(rough_table())
    assert relative_error(ours, theirs) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("n_knots", [None, 65])
def test_clipping_has_the_derivative_of_jnp_clip_also_exactly_on_a_bound(n_knots):
    """Without noise: cells that are pushed beyond a bound, that stand on it, that reach it exactly, and within."""
    initial = jnp.array([[0.0, 0.0, 0.25, 0.75, 1.0, 1.0, 0.5]])
    rates = jnp.array([-1.0, 0.0, -0.25, 0.25, 0.0, 1.0, 0.1])  # one step of dt = 1

    def value(shift):
        moved = simulate(lambda s: 0.0 * s, initial, n_steps=1, dt=1.0, noise_strength=0.0, key=jax.random.key(0))
        return moved + shift

    def clipped(rate):
        still = dict(n_steps=1, dt=1.0, noise_strength=0.0, key=jax.random.key(0), n_knots=n_knots)
        return jax.vmap(lambda s, r: simulate(Table(jnp.stack([r, r])), s[None, None], **still)[0, 0])(initial[0], rate)

    slopes = jax.jacrev(clipped)(rates)
    expected = jax.jacrev(lambda rate: jnp.clip(initial[0] + rate, 0.0, 1.0))(rates)
    np.testing.assert_array_equal(slopes, expected)
    assert sorted(set(np.diag(expected).tolist())) == [0.0, 0.5, 1.0]


# --- the score


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lone cell", "row", "ring", "pinned unlike", "one way", "chain"])
def test_all_engines_accumulate_the_same_score(key, name):
    """The fast one adds up on the knots as it goes; the reference differentiates the log probability of the path."""
    tissue = Tissue(geometry=oracles.GEOMETRIES[name], n_steps=60, dt=0.02, noise_strength=0.5)
    advantages = jnp.asarray(np.random.default_rng(4).normal(size=(6, 9)))
    scores = []
    for engine in ENGINES.values():
        start = engine.begin(key, tissue, 13, 9)
        scores.append(engine.accumulate_score(Table(rough_table()), start, tissue, 13, advantages).values)
    assert relative_error(*scores) < 1e-6 and jnp.abs(scores[0]).max() > 1.0


def test_an_engine_of_ones_own_is_handed_over(key):
    class Own(type(ENGINES["reference"])):
        n_begun = 0

        def begin(self, *args, **settings):
            Own.n_begun += 1
            return super().begin(*args, **settings)

    own = Own()
    ours = run_multiple_replicates(TanhInhibition(), **TISSUE, key=key, engine=own)
    assert Own.n_begun == 1 and Numerics(engine=own).engine is own
    np.testing.assert_allclose(ours, run_multiple_replicates(TanhInhibition(), **TISSUE, key=key), atol=1e-6)


# --- memory and compilation


def bytes_of_gradient(n_steps=1000, **settings):
    model = Model(n_replicates=200, n_steps=n_steps, **settings)
    values = tabulate(TanhInhibition()).values

    def value(values, key):
        return jnp.mean(jax.nn.sigmoid(final_states(Table(values), model, key)))

    compiled = jax.jit(jax.grad(value)).lower(values, jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_a_gradient_keeps_one_number_for_each_state(precision):
    """4 bytes in single precision, 8 in double; plain autodiff keeps eight times as much."""
    states = 200 * 7 * 1000
    per_state = 4 if precision == "float32" else 8
    assert bytes_of_gradient() < 1.1 * per_state * states
    assert bytes_of_gradient(recompute_every=32) < 0.1 * per_state * states


@pytest.mark.slow
def test_memory_with_recomputation_grows_as_the_square_root_of_the_steps(float32):
    short, long = (bytes_of_gradient(n**2, recompute_every=n) for n in (30, 60))
    assert long < 2.2 * short


def test_new_numbers_do_not_retrace_the_gradient(key, count_traces):
    f = count_traces(lambda x: jnp.tanh(0.5 - x))

    @jax.jit
    def gradient(scale, dt, noise_strength, key, first):
        def value(scale):
            tissue = TISSUE | dict(dt=dt, noise_strength=noise_strength, first_replicate=first)
            return jnp.sum(run_multiple_replicates(lambda x: scale * f(x), **tissue, key=key))

        return jax.grad(value)(scale)

    gradient(1.0, 0.02, 0.5, key, 0)
    with f.no_new_trace():
        for numbers in ((2.0, 0.02, 0.5, key, 0), (1.0, 0.01, 0.0, jax.random.key(1), 8)):
            gradient(*numbers)


@pytest.mark.slow
def test_no_number_is_drawn_again_for_each_of_its_uses(float32):
    """Nor the noise of neighbours, where the compiler fuses two substeps.

    Threefry shifts words, and nothing else in a simulation does. The first count is of two draws, one for the initial
    states and one in each step; those of substeps and of the score draw the first number of a loop besides.
    """
    model, f = Model(geometry=Row(64), n_replicates=100), tabulate(TanhInhibition(), 513)
    tissue = as_floats(model.tissue)

    def shifts(function):
        return jax.jit(function).lower(jax.random.key(0)).compile().as_text().count(" shift-left(")

    def accumulated(key):
        engine = engine_of(model.numerics)
        start = engine.begin(key, tissue, model.rounds, model.n_replicates)
        return engine.accumulate_score(f, start, tissue, model.rounds, jnp.ones((50, model.n_replicates)))

    of_two_draws = shifts(partial(final_states, f, model))
    assert shifts(partial(final_states, f, model, refine=2)) <= 1.8 * of_two_draws
    assert shifts(partial(final_states, f, model, refine=4)) <= 1.8 * of_two_draws
    assert shifts(accumulated) <= 1.5 * of_two_draws


@pytest.mark.slow
def test_a_consensus_is_told_from_a_pattern_by_the_engine_too(float32, key):
    """An activating rule: all cells of a tissue agree; an inhibiting one: neighbours differ."""
    model = Model(n_replicates=200, n_steps=500)
    for amplitude, expected in ((-3.0, 0.0), (3.0, 0.85)):
        scores = scores_of(final_states(TanhInhibition(5.0, amplitude), model, key), model)
        assert scores["alternation"] == pytest.approx(expected, abs=0.12)
