"""Settings drawn by hypothesis from what their fields say: valid ones work, invalid ones are refused by name.

LATERAL_EXAMPLES=5000 draws so many instead of the few of the suite.
"""

import dataclasses
import math
import os
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lateral import MLP, EvolutionStrategy, Model, RBFNetwork, RegulatoryFunction, TanhInhibition, compute_loss
from lateral import run_multiple_replicates as simulate
from lateral.backprop import train_backprop
from lateral.checks import LARGEST_SIZE, working_range
from lateral.engine import Numerics
from lateral.evolution import EvolutionPlan, train_evolution
from lateral.fields import options_of
from lateral.geometry import Pinned, Ring, Row, RowWithEnds
from lateral.readout import Readout
from lateral.step_network import StepNetwork
from lateral.tissue import Tissue
from lateral.training.descent import GradientDescent
from lateral.training.estimators import ESTIMATORS
from lateral.training.restarts import Restarts, train_restarts
from lateral.training.schedule import Plan

pytestmark = [pytest.mark.bad_input, pytest.mark.usefixtures("nan_allowed")]

N_EXAMPLES = int(os.environ.get("LATERAL_EXAMPLES", "100"))
KEY = jax.random.key(0)
CLASSES = (Tissue, RowWithEnds, Row, Ring, Pinned, Numerics, Readout, Model, MLP, RBFNetwork, StepNetwork,
           EvolutionStrategy, EvolutionPlan, Plan, GradientDescent, Restarts, *ESTIMATORS.values())  # fmt: skip
FIELDS = [(cls, f.name, f.metadata["setting"]) for cls in CLASSES for f in dataclasses.fields(cls)]
DRAWN = [field for field in FIELDS if field[2].kind not in ("value", "part")]


def some(share: float):
    """So many of all examples, always the same ones."""
    quick = {"max_examples": max(1, round(share * N_EXAMPLES)), "derandomize": True, "deadline": None, "database": None}
    return settings(**quick, suppress_health_check=list(HealthCheck))


def numbers(above=None, minimum=None, maximum=None, **_):
    """Numbers within the bounds, of any kind that a user may have them in."""
    smallest, largest = working_range()
    low = smallest if above == 0.0 else -largest if minimum is None else minimum
    plain = st.floats(low, largest if maximum is None else maximum)
    return plain | plain.map(np.float64) | st.sampled_from([low, 0.5, 1 if maximum is None else maximum])


def valid(setting, largest: int = LARGEST_SIZE):
    """Values that a field takes; sizes up to `largest`."""
    limits = dict(setting.limits)
    values = {
        "size": lambda: st.integers(limits["minimum"], max(limits["minimum"], largest)),
        "number": lambda: numbers(**limits),
        "interval": lambda: st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(lambda pair: tuple(sorted(pair))),
        "choice": lambda: st.sampled_from(limits["choices"]),
        "flag": st.booleans,
    }[setting.kind]()
    return values | st.none() if limits.get("optional") else values


NEVER = st.sampled_from(["", "0.1", 1j, True, (1.0, 2.0), np.ones(3), {}, object(), math.nan, np.float32(math.inf)])


def invalid(setting):
    """Values that a field refuses."""
    limits = dict(setting.limits)
    smallest, largest = working_range()
    if setting.kind == "number":
        floors = [limits[name] for name in ("above", "minimum") if limits[name] is not None]
        out = [st.floats(largest, exclude_min=True), st.floats(max_value=-largest, exclude_max=True)]
        out += [st.floats(max_value=floor, exclude_max=limits["above"] is None) for floor in floors]
        out += [] if limits["maximum"] is None else [st.floats(limits["maximum"], exclude_min=True)]
        out += [st.floats(0.0, smallest, exclude_max=True)] if limits["above"] == 0.0 else []
        out += [st.integers(2 * int(largest), 10**400)]
        values = NEVER | st.one_of(out)
    elif setting.kind == "size":
        below = st.integers(max_value=limits["minimum"] - 1)
        values = NEVER | below | st.integers(LARGEST_SIZE + 1) | st.floats() | st.just(2.0)
    elif setting.kind == "interval":
        pairs = st.tuples(st.floats(), st.floats()).filter(lambda pair: not 0.0 <= pair[0] <= pair[1] <= 1.0)
        values = NEVER | pairs | st.tuples(st.floats(0.0, 1.0))
    elif setting.kind == "choice":
        values = NEVER | st.text() | st.integers()
        values = values.filter(lambda value: not isinstance(value, (str, int)) or value not in limits["choices"])
    else:
        values = NEVER.filter(lambda value: value is not True) | st.integers()
    return values if limits.get("optional") else values | st.none()


@st.composite
def one_of_any_class(draw, values):
    cls, name, setting = draw(st.sampled_from(DRAWN))
    return cls, name, draw(values(setting))


def test_every_kind_of_field_is_drawn():
    assert {setting.kind for *_, setting in DRAWN} == {"size", "number", "interval", "choice", "flag"}
    assert len(DRAWN) > 60 and {name for name, _ in options_of(*CLASSES)} >= {"dt", "n_cells", "b2", "n_restarts"}


@pytest.mark.slow
@pytest.mark.parametrize("double", [False, True])
def test_a_valid_setting_is_kept_and_an_invalid_one_refused_by_name(double):
    """What holds between settings may refuse a valid one; it names it too."""
    with jax.enable_x64(double):

        @some(0.15)
        @given(one_of_any_class(valid))
        def takes(case):
            cls, name, value = case
            try:
                kept = getattr(cls(**{name: value}), name)
            except ValueError as error:
                assert name in str(error) and hasattr(cls, "check_together")
            else:
                assert kept == value or math.isclose(kept, value)

        @some(0.2)
        @given(one_of_any_class(invalid))
        def refuses(case):
            cls, name, value = case
            with pytest.raises(ValueError, match=name) as caught:
                cls(**{name: value})
            assert "\n" not in str(caught.value)

        takes()
        refuses()


def untouched(x):
    raise AssertionError("f was called before the settings were checked")


CALLS = {
    Tissue: lambda **changes: simulate(untouched, n_replicates=2, key=KEY, **changes),
    RowWithEnds: lambda **changes: simulate(untouched, n_replicates=2, key=KEY, **changes),
    Numerics: lambda **changes: simulate(untouched, n_replicates=2, key=KEY, **changes),
    Readout: lambda **changes: train_evolution(Model(**changes), key=KEY),
    EvolutionStrategy: lambda **changes: train_evolution(key=KEY, **changes),
    EvolutionPlan: lambda **changes: train_evolution(key=KEY, **changes),
    Plan: lambda **changes: train_backprop(key=KEY, **changes),
    GradientDescent: lambda **changes: train_backprop(key=KEY, **changes),
    Restarts: lambda **changes: train_restarts(key=KEY, **changes),
}


@pytest.mark.slow
@some(0.15)
@given(st.data())
def test_an_invalid_setting_is_refused_by_what_is_called_before_anything_is_traced(data):
    cls, name, setting = data.draw(st.sampled_from([field for field in DRAWN if field[0] in CALLS]))
    value = data.draw(invalid(setting))
    with pytest.raises(ValueError, match=name):
        CALLS[cls](**{name: value})


# Sizes compile anew: few of them, each with any numbers.
SIZES = (
    dict(n_cells=1, n_steps=1, n_knots=2),
    dict(n_cells=3, n_steps=4, boundary="ring", rounds=20),
    dict(n_cells=2, n_steps=5, boundary="pinned", recompute_every=2, refine=2),
    dict(n_cells=3, n_steps=3, n_knots=None, engine="reference"),
)
RULES = (
    lambda slope, height, centre: lambda s: height * np.tanh(slope * (np.asarray(s, float) - centre)),
    lambda slope, height, centre: RegulatoryFunction(
        MLP((2,), centre, slope, max(abs(height), 0.1)), MLP((2,)).init(KEY)
    ),
    TanhInhibition,
    TanhInhibition,
)


@cache
def of(cls, name):
    return {f.name: f.metadata["setting"] for f in dataclasses.fields(cls)}[name]


def drawn(data, cls, *names):
    return {name: data.draw(valid(of(cls, name)), label=name) for name in names}


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_valid_settings_simulate_tissues_whose_states_stay_in_range():
    @some(0.35)
    @given(st.data())
    def check(data):
        sizes, rule = data.draw(st.sampled_from(list(zip(SIZES, RULES, strict=True))))
        f = rule(*(data.draw(numbers()) for _ in range(3)))
        changes = drawn(data, Tissue, "dt", "noise_strength", "start")
        changes |= drawn(data, RowWithEnds, "edge_value") if sizes.get("boundary") == "pinned" else {}
        states = np.asarray(simulate(f, n_replicates=3, key=KEY, **sizes, **changes))
        assert states.shape == (3, sizes["n_cells"]) and states.dtype == np.float32
        assert ((states >= 0.0) & (states <= 1.0)).all()

    check()


SMALL = Model(network=MLP((2,)), n_cells=3, n_steps=4, n_replicates=4)


@cache
def compiled_loss():
    return jax.jit(compute_loss)


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_valid_readouts_score_tissues_by_finite_losses():
    params = SMALL.network.init(KEY)

    @some(0.15)
    @given(st.data())
    def check(data):
        changes = drawn(data, Readout, "threshold", "soft_bandwidth", "soft_width")
        changes |= drawn(data, Tissue, "dt", "noise_strength", "start")
        relaxation = data.draw(st.sampled_from(("straight_through", "bernoulli", "pairwise")))
        loss = compiled_loss()(params, SMALL.changed(relaxation=relaxation, **changes), KEY)
        # U is at most 1 bit; S_rep, of soft fates, at most 1 + log2(R) / N.
        assert -1.001 <= float(loss) <= 1.001 + math.log2(4) / 3

    check()


def test_a_number_is_checked_in_the_precision_that_it_is_used_in():
    wrong = {
        "dt": [
            (1e-46, "dt must be >= 1e-12 to be computed in single precision, got 1e-46"),
            (1e39, "dt must be at most"),
        ],
        "soft_bandwidth": [(1e-30, "soft_bandwidth must be >= 1e-12 to be computed in single precision, got 1e-30")],
        "noise_strength": [(1e39, "noise_strength must be at most 1e.12 in size to be computed in single precision")],
        "n_steps": [(2**31, "n_steps must be below 2.31, got 2147483648")],
    }
    for name, cases in wrong.items():
        for value, message in cases:
            with jax.enable_x64(False), pytest.raises(ValueError, match=message):
                Model(**{name: value})
            if not isinstance(value, int):
                assert getattr(Model(**{name: value}), name) == value  # in double precision it is a number
    for number in (1e-103, 1e103, 1e-320):
        with pytest.raises(ValueError, match="to be computed in double precision"):
            Model(dt=number)
    assert Model(dt=1).dt == 1.0 and jnp.isfinite(jnp.asarray(Model(noise_strength=2**31).noise_strength, jnp.float32))


def test_a_replicate_may_have_a_number_beyond_a_signed_word(key):
    tissue = dict(n_cells=1, n_steps=2, n_replicates=2, key=key)
    far = simulate(TanhInhibition(), **tissue, first_replicate=2**31)
    assert (far != simulate(TanhInhibition(), **tissue)).any()
    with pytest.raises(ValueError, match=r"must be below 2\^32"):
        simulate(TanhInhibition(), **tissue, first_replicate=2**32)
    with pytest.raises(ValueError, match=r"n_steps \* refine must be below 2\^31"):
        simulate(TanhInhibition(), **tissue | {"n_steps": 2**20}, refine=2**11)
