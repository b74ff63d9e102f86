"""Runs survive the disk, whatever happens on the way."""

import dataclasses
import io
import json
import math
import os
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import damage
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import Chain

from lateral import MLP, Graph, Model, RBFNetwork, Run, StepNetwork, evaluate, load_run, save_run, tabulate
from lateral.runs import check_storable, load_progress
from lateral.storage import machine
from lateral.storage.description import describe, rebuild

init = jax.jit(MLP.init)


class Line:
    """A user's network."""

    def apply(self, params, x):
        return params["gain"] * (0.5 - x) + params["nested"][0][1]


LINE_PARAMS = {
    "gain": np.float32(2.0),
    "nested": [(np.arange(3), np.float64(0.5)), None],
    "flags": np.array([True, False]),
    "half": jnp.ones((2, 1), jnp.float16),
}


@pytest.fixture
def run(key):
    network = MLP((3, 2), max_rate=5.0, input_scale=np.float32(4.0))
    return Run(
        method="backprop",
        params=init(network, key),
        model=Model(network=network, n_cells=5, dt=np.float64(0.02), noise_strength=jnp.asarray(0.2), boundary="ring"),
        history={"loss": np.linspace(0.0, -0.6, 4), "utility": np.zeros(4, np.float32)},
        settings={"n_epochs": 4, "learning_rate": 1e-3, "clip_norm": None},
        seed=17,
    )


def assert_same_tree(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_survives_the_round_trip(tmp_path, run):
    path = save_run(tmp_path / "run.npz", run)
    loaded = load_run(path)
    assert_same_tree(loaded.params, run.params)
    assert loaded.model == run.model
    assert loaded.history.keys() == run.history.keys()
    for name, values in run.history.items():
        assert loaded.history[name].dtype == values.dtype
        np.testing.assert_array_equal(loaded.history[name], values)
    assert (loaded.method, loaded.seed, loaded.settings) == (run.method, run.seed, run.settings)
    assert loaded.versions == run.versions
    assert loaded.versions["jax"] == jax.__version__


@pytest.mark.slow
@pytest.mark.parametrize("network", [RBFNetwork(9, odd=False, max_rate=None), StepNetwork(3, edge=0.1, odd=False)])
def test_where_a_run_started_survives_too_and_files_without_it_still_load(tmp_path, run, network):
    begun = dataclasses.replace(
        run,
        model=dataclasses.replace(run.model, network=network),
        params=network.init(jax.random.key(1)),
        initial_params=network.init(jax.random.key(2)),
    )
    loaded = load_run(save_run(tmp_path / "run.npz", begun))
    assert loaded.model == begun.model
    assert_same_tree(loaded.initial_params, begun.initial_params)
    x = np.linspace(0.0, 1.0, 7)
    np.testing.assert_array_equal(loaded.initial_regulatory_function(x), begun.initial_regulatory_function(x))
    assert load_run(save_run(tmp_path / "run.npz", run)).initial_regulatory_function is None


def test_a_path_may_be_a_string_without_suffix_and_is_kept_as_it_is(tmp_path, run):
    path = save_run(str(tmp_path / "my run"), run)
    assert os.listdir(tmp_path) == ["my run"]
    assert load_run(str(path)).seed == 17


@pytest.mark.parametrize(
    "number", [0.5, 1, np.float32(0.5), np.float64(0.5), np.int64(1), np.array(0.5), jnp.asarray(0.5)]
)
def test_numbers_of_a_model_may_have_any_type(tmp_path, number):
    model = Model(network=MLP((2,), max_rate=number), dt=number, soft_width=number, start=(0.25, number))
    path = save_run(tmp_path / "run.npz", Run("mine", model.network.init(jax.random.key(0)), model))
    loaded = load_run(path).model
    assert loaded == dataclasses.replace(model)
    assert (loaded.dt, loaded.soft_width, loaded.start[1], loaded.network.max_rate) == (float(number),) * 4


def test_a_run_with_a_network_of_ones_own_survives_the_round_trip(tmp_path):
    line = Line()
    path = save_run(tmp_path / "run.npz", Run("mine", LINE_PARAMS, Model(network=line)))
    loaded = load_run(path, network=line)
    assert_same_tree(loaded.params, LINE_PARAMS)
    assert loaded.model.network is line
    assert float(loaded.regulatory_function(0.25)) == 2.0 * 0.25 + 0.5
    with pytest.raises(ValueError, match=r"trained with .*Line.*network="):
        load_run(path)


@pytest.mark.parametrize("x", [0.3, np.zeros((2, 3, 4)), np.zeros((0, 7))])
def test_the_loaded_rule_takes_any_shape_and_gives_the_rates_of_the_saved_one(tmp_path, run, x):
    f = load_run(save_run(tmp_path / "run.npz", run)).regulatory_function
    assert f(x).shape == np.shape(x)
    with jax.disable_jit():  # which may round otherwise
        np.testing.assert_array_equal(f(x), run.model.network.apply(run.params, jnp.asarray(x, float)))
    np.testing.assert_array_equal(f(x), run.regulatory_function(x))
    np.testing.assert_array_equal(f(jnp.asarray(x)), f(x))
    assert (np.abs(np.asarray(f(1e6 + np.asarray(x)))) <= 5.0).all()  # the bound is part of the rule


def test_a_run_saved_in_double_precision_loads_in_single(tmp_path, run):
    path = save_run(tmp_path / "run.npz", run)
    with jax.enable_x64(False):
        rate = load_run(path).regulatory_function(np.array([0.3]))
    assert rate.dtype == jnp.float32
    np.testing.assert_allclose(rate, run.regulatory_function(np.array([0.3])), rtol=1e-4)


# --- files that are not runs


def write_npz(path, header, **arrays):
    np.savez(path, header=np.array(json.dumps(header)), **arrays)


def edit(path, header=lambda header: header, **arrays):
    """Change a file so that its checksum is right."""
    contents = {name: np.load(io.BytesIO(data)) for name, data in damage.members(path.read_bytes()).items()}
    old = json.loads(str(contents.pop("header")))
    del contents["checksum"]
    path.write_bytes(damage.pack(header(old), contents | arrays))


DAMAGE = {
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "without its last byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "random bytes": lambda path: path.write_bytes(np.random.default_rng(0).bytes(2000)),
    "text": lambda path: path.write_text("0,1,0\n"),
    "another npz": lambda path: np.savez(path, x=np.arange(3)),
    "another header": lambda path: write_npz(path, {"format": "else", "version": 1}),
    "no JSON": lambda path: np.savez(path, header=np.array("{")),
    "a header that is a list": lambda path: np.savez(path, header=np.array("[1]")),
    "a plain npy": lambda path: _save_npy(path, np.arange(3)),
}


def _save_npy(path, array):
    with open(path, "wb") as file:
        np.save(file, array)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_not_a_whole_run_is_refused(tmp_path, run, damage):
    path = save_run(tmp_path / "run.npz", run)
    DAMAGE[damage](path)
    with pytest.raises(ValueError, match=r"run\.npz is not a complete run file"):
        load_run(path)


def test_one_flipped_byte_in_the_numbers_is_noticed(tmp_path, run):
    path = save_run(tmp_path / "run.npz", run)
    content = bytearray(path.read_bytes())
    position = content.find(np.asarray(run.params[0]["weights"]).tobytes())
    assert position > 0
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a complete run file"):
        load_run(path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_run(tmp_path / "none.npz")


def test_a_newer_version_asks_for_an_update(tmp_path):
    path = tmp_path / "run.npz"
    write_npz(path, {"format": "lateral-run", "version": 99})
    with pytest.raises(ValueError, match=r"run\.npz has format version 99, this lateral reads up to 4: update it"):
        load_run(path)


@pytest.mark.parametrize("version", ["4", 4.0, True, -1, 0, 1, None])
def test_a_version_is_a_number_that_is_known(tmp_path, run, version):
    path = save_run(tmp_path / "run.npz", run)
    edit(path, lambda header: header | {"version": version})
    with pytest.raises(ValueError, match=r"run\.npz is not a complete run file .* whole number from 2 to 4, got"):
        load_run(path)


# --- writing


def test_an_unwritable_place_is_an_os_error(tmp_path, run):
    with pytest.raises(OSError, match="missing"):
        save_run(tmp_path / "missing" / "run.npz", run)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        save_run(tmp_path / "file" / "run.npz", run)


def test_an_interrupted_save_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, run, monkeypatch):
    path = save_run(tmp_path / "run.npz", run)
    old = path.read_bytes()

    def interrupt(file, *args, **kwargs):
        file.write(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_run(path, dataclasses.replace(run, seed=18))
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["run.npz"]


def test_a_saved_run_replaces_the_old_one_where_a_link_leads(tmp_path, run):
    path = save_run(tmp_path / "run.npz", run)
    (tmp_path / "link").symlink_to(path)
    assert save_run(tmp_path / "link", dataclasses.replace(run, seed=18)) == tmp_path / "link"
    assert load_run(path).seed == 18 and (tmp_path / "link").is_symlink()


def test_numpy_numbers_in_seed_and_settings_are_saved_as_numbers(tmp_path, run):
    settings = {"learning_rate": np.float32(0.5), "n_epochs": np.int64(3), "rates": np.arange(2)}
    loaded = load_run(save_run(tmp_path / "r", dataclasses.replace(run, seed=np.int64(1), settings=settings)))
    assert loaded.seed == 1 and loaded.settings == {"learning_rate": 0.5, "n_epochs": 3, "rates": [0, 1]}


def without(name):
    return lambda header: {other: value for other, value in header.items() if other != name}


def test_a_field_that_is_missing_unknown_or_of_another_type_is_named(tmp_path, run):
    for header, message in (
        (without("settings"), "it lacks 'settings'"),
        (lambda header: header | {"extra": 1}, "it has an unknown field 'extra'"),
        (lambda header: header | {"seed": "3"}, "seed must be int or None, got '3'"),
        (lambda header: header | {"versions": {"jax": 1}}, "versions must hold strings"),
    ):
        path = save_run(tmp_path / "r.npz", run)
        edit(path, header)
        with pytest.raises(ValueError, match=rf"r\.npz is not a complete run file of lateral: {message}"):
            load_run(path)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(MLP)])
def test_no_setting_is_taken_from_the_default_of_today(tmp_path, run, name):
    path = save_run(tmp_path / "r.npz", run)

    def forget(header):
        del header["model"]["network"][name]
        return header

    edit(path, forget)
    with pytest.raises(ValueError, match=f"MLP lacks '{name}'"):
        load_run(path)


# --- what came out and what it was made on


def test_numbers_of_the_evaluation_and_settings_survive_finite_or_not(tmp_path, run):
    numbers = {"utility": np.float32(0.5), "n": 3, "se": math.inf, "low": -math.inf, "all": [1.5, (math.nan,)]}
    full = dataclasses.replace(
        run, evaluation=numbers, settings=numbers, identity={"key": np.arange(2)}, finished=False
    )
    loaded = load_run(save_run(tmp_path / "r", full))
    for values in (loaded.evaluation, loaded.settings):
        assert math.isnan(values["all"][1].pop())
        assert values == {"utility": 0.5, "n": 3, "se": math.inf, "low": -math.inf, "all": [1.5, []]}
    assert loaded.identity == {"key": [0, 1]} and loaded.finished is False
    plain = load_run(save_run(tmp_path / "r", run))
    assert plain.evaluation is None and plain.finished is True and plain.identity == {}


@pytest.mark.parametrize("precision_", ["float32", "float64"])
def test_a_run_knows_what_it_was_made_on(tmp_path, run, monkeypatch, precision_):
    flags = "fpu sse4_2 avx avx2 fma notus"
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\nmodel name\t: A Chip @ 2 GHz\nflags\t\t: {flags}\n\nprocessor: 1\n"
    )
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    machine.processor.cache_clear()
    try:
        with jax.enable_x64(precision_ == "float64"):
            made = Run("mine", run.params, run.model)
    finally:
        machine.processor.cache_clear()
    loaded = load_run(save_run(tmp_path / "r", made)).platform
    assert loaded == made.platform
    assert (loaded["processor"], loaded["features"]) == ("A Chip @ 2 GHz", "sse4_2 avx avx2 fma")
    assert (loaded["precision"], loaded["backend"]) == (precision_, jax.default_backend())


def test_a_machine_without_a_list_of_features_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    machine.processor.cache_clear()
    assert machine.processor()["features"] == ""
    machine.processor.cache_clear()


def test_the_progress_of_a_training_comes_back_with_its_run(tmp_path, run):
    state = {"mean": np.arange(6.0).reshape(2, 3), "best": np.array(-np.inf), "count": np.array(3, np.int32)}
    path = save_run(tmp_path / "r", run, ({"n_done": 7, "best": -math.inf}, state))
    kept = load_progress(path)
    assert (kept.finished, kept.identity, kept.made_with["versions"]) == (run.finished, run.identity, run.versions)
    facts, arrays = kept.facts, kept.arrays
    assert facts == {"n_done": 7, "best": -math.inf} and arrays.keys() == state.keys()
    for name, array in state.items():
        assert (arrays[name].dtype, arrays[name].tobytes()) == (array.dtype, array.tobytes())
    assert_same_tree(load_run(path).params, run.params)
    assert load_progress(save_run(tmp_path / "r", run))[-2:] == (None, {})
    line = save_run(tmp_path / "line", Run("mine", LINE_PARAMS, Model(network=Line())), ({}, {}))
    assert load_progress(line)[-2:] == ({}, {}), "the user's network is not needed for it"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"history": {"a": np.zeros(3), "b": np.zeros(4)}}, "history must hold arrays of one dimension"),
        ({"history": {"a": np.zeros((3, 1))}}, "history must hold arrays of one dimension"),
        ({"history": {"a": ["x"]}}, r"history\['a'\] must hold booleans, integers or floats"),
        ({"settings": {3: 1}}, "settings must have names that are strings, got 3"),
        ({"evaluation": {"u": np.array(1j)}}, r"evaluation\['u'\] holds a complex"),
        ({"seed": 0.5}, "seed must be int or None, got 0.5"),
        ({"method": None}, "method must be str, got None"),
        ({"platform": {"cores": 2}}, "platform must hold strings"),
        ({"finished": 1}, "finished must be bool, got 1"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved_over_the_old_run(tmp_path, run, changes, message):
    path = save_run(tmp_path / "r.npz", run)
    old = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        save_run(path, dataclasses.replace(run, **changes))
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["r.npz"]


# --- parameters


class Weights(NamedTuple):
    gain: jax.Array
    rest: dict


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    gain: jax.Array


class MyList(list):
    pass


class Drawn(Line):
    """A network that draws its parameters in a container of the user's own."""

    def __init__(self, container):
        self.container = container

    def init(self, key):
        return self.container(jax.random.normal(key, (3,)))


CONTAINERS = {
    "NamedTuple": lambda x: Weights(x, {"a": 2 * x}),
    "dataclass": Layer,
    "OrderedDict": lambda x: OrderedDict(z=x, a=2 * x),
    "dict by numbers": lambda x: {2: x, 1: x + 1},
    "inside": lambda x: [Layer(x), (Weights(x, {}), None)],
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_parameters_in_containers_of_ones_own_come_back_as_the_network_draws_them(tmp_path, kind):
    network = Drawn(CONTAINERS[kind])
    params = network.init(jax.random.key(5))
    check_storable(params, network)
    loaded = load_run(save_run(tmp_path / "r", Run("mine", params, Model(network), initial_params=params)), network)
    assert_same_tree(loaded.params, params)
    assert_same_tree(loaded.initial_params, params)


@pytest.mark.parametrize("params, name", [
    (Weights(np.ones(3), {}), "Weights"),
    (Layer(np.ones(3)), "Layer"),
    ([MyList([1.0, 2.0])], "MyList"),
    ({"a": OrderedDict(a=1.0)}, "OrderedDict"),
    ([object()], "object"),
    (["text"], "str"),
])  # fmt: skip
@pytest.mark.parametrize("network", [Line(), Drawn(lambda x: {"weights": x})], ids=["without init", "with another"])
def test_containers_that_could_not_be_rebuilt_are_refused_by_name(tmp_path, params, name, network):
    for refuse in (check_storable, lambda params, network: save_run(tmp_path / "r", Run("m", params, Model(network)))):
        with pytest.raises(ValueError, match=f"parameters must be dicts, lists and tuples of real arrays, got {name}"):
            refuse(params, network)
    assert os.listdir(tmp_path) == []


def test_a_key_of_jax_is_no_parameter():
    with pytest.raises(ValueError, match="a parameter must hold booleans, integers or floats"):
        check_storable([jax.random.key(0)], Line())


class ByNumPy(Line):
    def init(self, key):
        return {"weights": np.random.default_rng(np.asarray(jax.random.key_data(key))[1]).normal(size=4)}


class NeedsMore(Line):
    def init(self, key, n):
        return np.ones(n)


def test_a_network_that_draws_by_numpy_is_held_to_what_it_draws(tmp_path):
    with pytest.raises(ValueError, match=r"the shapes of .* got \(3,\) for \(4,\)"):
        check_storable({"weights": np.ones(3)}, ByNumPy())
    check_storable({"weights": np.ones(4)}, ByNumPy())
    check_storable(np.ones(7), NeedsMore())  # an init that nobody could call says nothing


def test_parameters_that_do_not_fit_the_network_are_refused(tmp_path, run):
    wrong = jax.tree.map(lambda x: x[..., None], run.params)
    for params, message in (
        (run.params[:1], "structure"),
        (wrong, r"shapes .* got \(3, 1\) for \(3,\)"),
        ({}, "structure"),
    ):
        with pytest.raises(ValueError, match=f"parameters must have the {message}"):
            save_run(tmp_path / "r", dataclasses.replace(run, params=params))
    path = save_run(tmp_path / "r.npz", run)
    edit(path, param_0=np.zeros(4))
    with pytest.raises(ValueError, match=r"r\.npz is not a complete run file .* got \(4,\) for \(3,\)"):
        load_run(path)
    path = save_run(path, Run("mine", {"weights": np.ones(4)}, Model(ByNumPy())))
    with pytest.raises(ValueError, match=r"r\.npz was trained with another network than the given one, .*structure"):
        load_run(path, Drawn(Layer))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, run, value):
    path = save_run(tmp_path / "r.npz", run)
    with pytest.raises(ValueError, match="parameters must be finite"):
        save_run(path, dataclasses.replace(run, params=jax.tree.map(lambda x: np.full(x.shape, value), run.params)))
    assert load_run(path).seed == 17
    edit(path, param_0=np.full(3, value))
    with pytest.raises(ValueError, match=r"r\.npz is not .*: its parameters are not finite"):
        load_run(path)


@pytest.mark.parametrize("value, dtype", [(np.array(1e39), "float32"), (np.array(2**40), "int32")])
def test_numbers_that_single_precision_cannot_hold_ask_for_double(tmp_path, value, dtype):
    path = save_run(tmp_path / "r.npz", Run("mine", {"gain": value}, Model(Line())))
    assert load_run(path, Line()).params["gain"] == value
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=rf"r\.npz .*exceed {dtype}: .*\(\"jax_enable_x64\", True"),
    ):
        load_run(path, Line())


def test_long_doubles_and_foreign_byte_order_are_saved_as_what_every_machine_reads(tmp_path):
    params = {"long": np.array([1.5], np.longdouble), "big": np.array([2.5], ">f4")}
    loaded = load_run(save_run(tmp_path / "r", Run("mine", params, Model(Line()))), Line()).params
    assert (loaded["long"].dtype, loaded["big"].dtype) == (np.float64, np.float32)
    assert (float(loaded["long"][0]), float(loaded["big"][0])) == (1.5, 2.5)


# --- files of earlier versions, written by the package as it was then


def test_a_step_rule_saved_before_it_had_a_highest_level_is_the_rule_that_it_was():
    described = describe(StepNetwork(3, edge=0.1))
    del described["highest"]
    assert rebuild(described, "", {}) == StepNetwork(3, edge=0.1, highest=8.0)


# Version 2: before its model had parts.
VERSION_2, VERSION_3 = (Path(__file__).parent / name for name in ("version2", "version3"))
EXPECTED, EXPECTED_3 = (json.loads((folder / "expected.json").read_text()) for folder in (VERSION_2, VERSION_3))
# What was called "backprop" then.
METHODS = {"recipe_ring": "score", "not_odd": "score", "session_score": "score", "own_network": "combination"}


class LineOfVersion2:
    def apply(self, params, s):
        return params["gain"] * (0.5 - s) + params["bias"][0]


def same_model_and_evaluation(run, expected):
    for setting, value in expected["model"].items():
        ours = getattr(run.model, setting)
        assert (list(ours) if isinstance(ours, tuple) else ours) == value, setting
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = evaluate(run.regulatory_function, run.model, key=jax.random.key(3), n_replicates=500)
    for quantity, value in expected["evaluation"].items():
        assert getattr(result, quantity) == pytest.approx(value, abs=2e-3), quantity


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_version_2_loads_to_the_same_rule_and_evaluation(float32, name):
    expected = EXPECTED[name]
    own = {"network": LineOfVersion2()} if name == "own_network" else {}
    run = load_run(VERSION_2 / f"{name}.npz", **own)
    assert run.method == METHODS.get(name, expected["method"]) and run.seed == 7
    x = np.linspace(0.0, 1.0, 33)
    np.testing.assert_allclose(run.regulatory_function(x), expected["rates"], rtol=1e-5, atol=1e-6)
    if run.model.boundary != "pinned":
        del expected["model"]["edge_value"]
    same_model_and_evaluation(run, expected)
    for old, values in expected["history"].items():
        of_population = {"best_utility": "objective", "mean_utility": "mean_objective"}
        new = of_population.get(old, old)
        if name == "session_evolution" and run.model.objective == "ensemble":
            assert {"objective", "utility"} < run.history.keys()
        np.testing.assert_allclose(run.history[new], values)


class LineOfVersion3(Line):
    def init(self, key):
        return {"gain": jax.random.normal(key), "bias": (jnp.zeros(2), [jnp.ones(1)])}

    def apply(self, params, s):
        return params["gain"] * (0.5 - s) + params["bias"][0][0] * params["bias"][1][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED_3)
def test_a_file_of_version_3_loads_to_the_same_rule_and_evaluation(float32, name):
    expected = EXPECTED_3[name]
    run = load_run(VERSION_3 / f"{name}.npz", LineOfVersion3() if name == "own_network" else None)
    assert (run.method, run.seed, run.settings) == (expected["method"], 7, expected["settings"])
    assert (run.evaluation, run.platform, run.finished, run.identity) == (None, {}, True, {})
    x = np.linspace(0.0, 1.0, 33)
    np.testing.assert_allclose(run.regulatory_function(x), expected["rates"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run.initial_regulatory_function(x), expected["initial_rates"], rtol=1e-5, atol=1e-6)
    graph = {name: expected["model"].pop(name) for name in ("neighbours", "weights") if name in expected["model"]}
    if graph:
        assert run.model.geometry == Graph(**graph)
    same_model_and_evaluation(run, expected)
    assert run.history.keys() == expected["history"].keys()
    for quantity, values in expected["history"].items():
        np.testing.assert_allclose(run.history[quantity], values)


@pytest.mark.parametrize("path", [VERSION_2 / "pathwise.npz", VERSION_3 / "graph.npz"], ids=["version 2", "version 3"])
@pytest.mark.parametrize("place", ["header", "model"])
def test_a_field_too_many_or_too_few_of_an_earlier_version_is_refused(tmp_path, path, place):
    with np.load(path) as file:
        contents = {name: file[name] for name in file.files}
    header = json.loads(str(contents.pop("header")))
    inner = header if place == "header" else header["model"]
    damaged = [inner | {"finished": False}, *({n: v for n, v in inner.items() if n != name} for name in inner)]
    for fields in damaged:
        if header["version"] == 2 and "initial_params" not in fields and place == "header":
            continue  # the first files of version 2 had none
        write_npz(tmp_path / "x.npz", fields if place == "header" else header | {"model": fields}, **contents)
        with pytest.raises(ValueError, match=r"x\.npz is not a complete run file of lateral"):
            load_run(tmp_path / "x.npz")


def test_a_run_of_version_2_is_saved_as_one_of_this_version(tmp_path):
    run = load_run(VERSION_2 / "guide_pinned.npz")
    again = load_run(save_run(tmp_path / "again.npz", run))
    assert again.model == run.model and float(again.model.geometry.left) == 0.25
    assert_same_tree(again.params, run.params)


def test_an_object_of_ones_own_must_be_the_one_that_was_trained_with(tmp_path):
    model = Model(network=Line(), geometry=Chain(4), n_steps=3)
    path = save_run(tmp_path / "run.npz", Run("mine", LINE_PARAMS, model))
    assert load_run(path, network=Line(), geometry=Chain(4)).model.geometry == Chain(4)
    with pytest.raises(ValueError, match=r"was trained with geometry .*'n_cells': 4.*, got .*'n_cells': 5"):
        load_run(path, network=Line(), geometry=Chain(5))
    with pytest.raises(ValueError, match=r"run\.npz was trained with .*Chain: pass it as geometry="):
        load_run(path, network=Line())
    with pytest.raises(TypeError, match=r"load_run takes network, geometry, .* not 'netwrok'"):
        load_run(path, netwrok=Line())


def test_a_run_says_in_a_few_lines_what_it_is_and_prints_no_weights(run):
    evaluated = dataclasses.replace(run, evaluation={"utility": 0.71234, "utility_se": 0.002, "alternation": 0.95})
    for shown, found in ((repr(run), "lateral.evaluate("), (repr(evaluated), "utility 0.712, utility_se 0.002")):
        assert 3 <= len(shown.splitlines()) <= 6 and max(map(len, shown.splitlines())) < 160
        for said in ("'backprop', seed 17, 4 epochs", "MLP(", "loss, utility", "lateral.save_run(", found):
            assert said in shown
        assert "Array" not in shown and "array" not in shown and "weights" not in shown
    n_parameters = 3 + 3 + 3 * 2 + 2 + 2 + 1  # weights and biases of 1-3-2-1
    assert repr(run.regulatory_function).endswith(f"max_rate=5.0), {n_parameters} parameters)")
    assert "not finished" in repr(dataclasses.replace(run, finished=False))


def test_what_holds_many_numbers_does_not_print_them(tmp_path, run):
    assert repr(tabulate(run.regulatory_function, 65)) == "Table(65 values)"
    path = save_run(tmp_path / "run.npz", run, ({"n_done": 4}, {"moments": np.arange(5.0)}))
    assert repr(load_progress(path)) == "Progress(finished=True, arrays: moments)"
