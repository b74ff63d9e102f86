"""Rules as users write them: what works, and what is refused in one sentence instead of meaning something else."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import (
    MLP,
    Model,
    RBFNetwork,
    RegulatoryFunction,
    StepNetwork,
    Table,
    TanhInhibition,
    compute_loss,
    evaluate,
    fit_network,
    run_multiple_replicates,
    run_trajectories,
    tabulate,
)
from lateral.engine.simulation import run_engine
from lateral.plotting import plot_regulatory_functions
from lateral.widgets import Comparison

TISSUE = dict(n_cells=3, n_replicates=4, n_steps=8, dt=0.05, noise_strength=0.3, key=jax.random.key(0))
SMALL = Model(n_cells=3, n_steps=8, dt=0.05)
USES = {
    "simulate": lambda f: run_multiple_replicates(f, **TISSUE),
    "every step": lambda f: run_multiple_replicates(f, **TISSUE, n_knots=None),
    "reference": lambda f: run_multiple_replicates(f, **TISSUE, engine="reference"),
    "trajectories": lambda f: run_trajectories(f, **TISSUE),
    "evaluate": lambda f: evaluate(f, SMALL, key=jax.random.key(1), n_replicates=10),
    "tabulate": lambda f: tabulate(f, 9),
    "fit": lambda f: fit_network(MLP((2,)), f, key=jax.random.key(2), n_steps=1),
    "plot": lambda f: plot_regulatory_functions({"f": f}, "title"),
    "compare": lambda f: Comparison({"f": f}, n_cells=3, duration=0.4),
}


def tanh(x):
    return -jnp.tanh(5.0 * (x - 0.5))


POINTS = np.array([0.0, 0.4, 0.6, 1.0]), np.array([1.0, 0.2, -0.2, -1.0])


def in_place(x):
    rates = np.zeros(x.shape)
    rates[np.asarray(x) < 0.5] = 1.0
    return rates


def step(s):
    if s < 0.5:
        return 1.0
    return -1.0


NUMPY = {
    "tanh": (lambda x: -np.tanh(5.0 * (np.asarray(x) - 0.5)), tanh),
    "interpolation": (lambda x: np.interp(x, *POINTS), lambda x: jnp.interp(x, *POINTS)),
    "vectorised": (np.vectorize(lambda s: -math.tanh(5.0 * (s - 0.5)), otypes=[float]), tanh),
    "partial": (partial(np.multiply, -2.0), lambda x: -2.0 * x),
    "whole numbers": (lambda x: np.where(np.asarray(x) < 0.5, 1, -1), lambda x: jnp.where(x < 0.5, 1.0, -1.0)),
    "written in place": (in_place, lambda x: jnp.where(x < 0.5, 1.0, 0.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMPY)
def test_a_rule_of_numpy_is_the_same_as_one_of_jax(name, precision):
    f, same = NUMPY[name]
    np.testing.assert_allclose(run_multiple_replicates(f, **TISSUE), run_multiple_replicates(same, **TISSUE), atol=1e-6)
    with pytest.raises(ValueError, match=r"f must be built from jax\.numpy where JAX traces it") as caught:
        run_multiple_replicates(f, **TISSUE, n_knots=None)
    assert len(str(caught.value)) < 250 and caught.value.__suppress_context__


NOT_ITS_OWN = "f must give each neighbour average a rate of its own, whatever else is in the array"
ONE_NUMBER = "f must take an array of neighbour averages, and takes single numbers only"
NOT_FINITE = r"f must be finite, and at most 1e\+12 in size, for every neighbour average from 0 to 1, got "
NOT_ONE_EACH = "f must return one real rate for each neighbour average"
NO_RULES = {
    "softmax": (jax.nn.softmax, NOT_ITS_OWN),
    "sum": (lambda s: s.sum(), NOT_ITS_OWN),
    "mean": (lambda s: s - s.mean(), NOT_ITS_OWN),
    "largest": (lambda s: s / s.max(), NOT_ITS_OWN),
    "smallest": (lambda s: s - s.min(), NOT_ITS_OWN),
    "ranks": (lambda s: jnp.argsort(jnp.argsort(s)) / s.size, NOT_ITS_OWN),
    "order": (lambda s: s[::-1], NOT_ITS_OWN),
    "running sum": (jnp.cumsum, NOT_ITS_OWN),
    "math": (lambda s: -math.tanh(5.0 * (s - 0.5)), ONE_NUMBER),
    "if": (step, ONE_NUMBER),
    "NaN on a part": (lambda s: np.sqrt(0.5 - np.asarray(s)), NOT_FINITE + "nan at 0.[56]"),
    "too large": (lambda s: 1e30 * s, NOT_FINITE + "1[.e].* at "),
    "infinite": (lambda s: 1.0 / np.asarray(s), NOT_FINITE + "inf at 0"),
    "nothing": (lambda s: None, NOT_ONE_EACH),
    "text": (lambda s: "fast", NOT_ONE_EACH),
    "one less": (lambda s: s[1:], NOT_ONE_EACH),
}
EVERYWHERE = ("softmax", "math", "NaN on a part")


@pytest.mark.slow
@pytest.mark.bad_input
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "use"),
    [(name, "simulate") for name in NO_RULES] + [(name, use) for name in EVERYWHERE for use in USES],
)
def test_what_is_no_rule_is_refused_everywhere(name, use, float32, nan_allowed):
    f, message = NO_RULES[name]
    with pytest.raises(ValueError, match=message) as caught:
        USES[use](f)
    assert len(str(caught.value)) < 330 and "\n" not in str(caught.value)


def test_what_is_not_finite_in_single_precision_is_refused_there(float32, nan_allowed):
    with pytest.raises(ValueError, match="got inf at 0"):
        run_multiple_replicates(lambda s: np.full(np.shape(s), 1e39), **TISSUE)


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_a_constant_is_a_rule_everywhere(use, float32):
    USES[use](lambda s: -0.3)


def test_a_constant_is_the_line_that_it_says():
    (rule,) = plot_regulatory_functions({"f": lambda s: -0.3}, "title").curves().values()
    assert set(rule["y"]) == {-0.3} and len(rule["x"]) == 401


class Line:
    def __init__(self, slope):
        self.slope = slope

    def __call__(self, x):
        return self.slope * (0.5 - x)


@pytest.mark.parametrize("n_knots", [513, None])
def test_a_changed_attribute_is_another_rule(n_knots):
    f = Line(1.0)
    first = run_multiple_replicates(f, **TISSUE, n_knots=n_knots)
    f.slope = 4.0
    second = run_multiple_replicates(f, **TISSUE, n_knots=n_knots)
    np.testing.assert_array_equal(second, run_multiple_replicates(Line(4.0), **TISSUE, n_knots=n_knots))
    assert (first != second).any()


@pytest.mark.slow
def test_a_new_rule_does_not_compile_the_simulation_again():
    run_multiple_replicates(Line(1.0), **TISSUE)
    compiled = run_engine._cache_size()
    for slope in (2.0, 3.0):
        run_multiple_replicates(lambda x, slope=slope: slope * (0.5 - x), **TISSUE)
        run_multiple_replicates(Table(slope * jnp.linspace(0.5, -0.5, 513)), **TISSUE)
    for network in (MLP((2,)), RBFNetwork(5), StepNetwork()):
        run_multiple_replicates(RegulatoryFunction(network, network.init(jax.random.key(1))), **TISSUE)
    run_multiple_replicates(TanhInhibition(), **TISSUE)
    assert run_engine._cache_size() == compiled


@pytest.mark.slow
def test_a_plain_function_may_hold_what_is_traced():
    def total(slope, key):
        return run_multiple_replicates(lambda x: slope * (0.5 - x), **TISSUE | {"key": key}).sum()

    gradient = jax.grad(total)(2.0, jax.random.key(0))
    ahead, behind = (total(2.0 + h, jax.random.key(0)) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(gradient, (ahead - behind) / 2e-5, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(2.0, jax.random.key(0)), gradient, rtol=1e-9)
    slopes = jnp.array([1.0, 2.0])
    both = jax.vmap(total, (0, None))(slopes, jax.random.key(0))
    np.testing.assert_allclose(both, [total(slope, jax.random.key(0)) for slope in slopes])


def test_a_rule_of_numpy_needs_no_more_than_a_key_to_be_traced_by_vmap():
    keys = jax.random.split(jax.random.key(0), 2)
    both = jax.vmap(lambda key: run_multiple_replicates(NUMPY["tanh"][0], **TISSUE | {"key": key}))(keys)
    np.testing.assert_allclose(both[1], run_multiple_replicates(tanh, **TISSUE | {"key": keys[1]}), atol=1e-6)


class Softmax(NamedTuple):
    scale: float

    def __call__(self, x):
        return self.scale * jax.nn.softmax(x)


class Branch(NamedTuple):
    low: float

    def __call__(self, x):
        return self.low if x < 0.5 else -self.low


class OfNumPy:
    def apply(self, params, x):
        return params * np.tanh(x)


@pytest.mark.slow
def test_pytrees_are_held_to_the_same(float32, nan_allowed):
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, MLP().init(jax.random.key(0)))
    cases = {
        "f must give each neighbour average a rate of its own": Softmax(1.0),
        NOT_FINITE + "nan at 0$": TanhInhibition(slope=np.nan),
        "got nan at 0$": RegulatoryFunction(MLP(), params),
        "got nan at ": Table(np.array([0.0, np.inf])),
        "takes single numbers only": Branch(1.0),
        "f must be built from jax.numpy": RegulatoryFunction(OfNumPy(), 1.0),
    }
    for message, f in cases.items():
        for n_knots in (2, 513, None):
            with pytest.raises(ValueError, match=message):
                run_multiple_replicates(f, **TISSUE, n_knots=n_knots)


def test_what_goes_wrong_in_f_itself_is_told_as_it_is():
    def broken(x):
        return undefined * x

    with pytest.raises(NameError, match="undefined"):
        run_multiple_replicates(broken, **TISSUE)


class Steep:
    """A network that JAX does not know: a static object."""

    def __init__(self, slope):
        self.settings = {"slopes": [slope], "at": np.array([0.5])}

    def apply(self, params, x):
        return params * self.settings["slopes"][0] * (self.settings["at"][0] - x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda network: setattr(network, "settings", {"slopes": [9.0], "at": np.array([0.5])}),
        lambda network: network.settings["slopes"].append(network.settings["slopes"].pop() * 9.0),
        lambda network: network.settings["at"].__setitem__(0, 0.1),
    ],
)
def test_a_network_is_trained_and_scored_as_it_is_now(change, key):
    network = Steep(1.0)
    model = SMALL.changed(network=network, relaxation="kernel")
    scored = jax.jit(lambda *args: compute_loss(*args))
    before = scored(1.0, model, key)
    assert scored(1.0, model, key) == before and scored._cache_size() == 1
    change(network)
    after = scored(1.0, model, key)
    assert after != pytest.approx(before) and scored._cache_size() == 2
    assert after == pytest.approx(compute_loss(1.0, model, key))
