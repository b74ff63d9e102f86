"""Runs survive the disk, whatever happens on the way."""

import dataclasses
import json
import os
import stat
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import Chain

from lateral import MLP, Model, RBFNetwork, Run, evaluate, load_run, save_run

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


def test_where_a_run_started_survives_too_and_files_without_it_still_load(tmp_path, run, monkeypatch):
    network = RBFNetwork(9, odd=False, max_rate=None)
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
    path = save_run(tmp_path / "run.npz", Run("mine", {}, model))
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
    np.testing.assert_array_equal(f(x), run.model.network.apply(run.params, jnp.asarray(x, float)))
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
    with pytest.raises(ValueError, match="version 99, this lateral reads up to 3: update"):
        load_run(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_inside_is_refused_and_not_executed(tmp_path, run, monkeypatch):
    path, crater = save_run(tmp_path / "run.npz", run), tmp_path / "crater"
    monkeypatch.setenv("BOMB", str(crater))
    with np.load(path) as file:
        contents = dict(file)
    np.savez(path, **contents | {"param_0": np.array([Bomb()], dtype=object)})
    with pytest.raises(ValueError, match="not a complete run file"):
        load_run(path)
    assert not crater.exists()


# --- writing


def test_an_unwritable_place_is_an_os_error(tmp_path, run):
    with pytest.raises(OSError, match="missing"):
        save_run(tmp_path / "missing" / "run.npz", run)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        save_run(tmp_path / "file" / "run.npz", run)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_os_error(tmp_path, run):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(PermissionError):
            save_run(tmp_path / "run.npz", run)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("moment", ["savez", "replace"])
def test_an_interrupted_save_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, run, monkeypatch, moment):
    path = save_run(tmp_path / "run.npz", run)
    old = path.read_bytes()

    def interrupt(file, *args, **kwargs):
        if moment == "savez":
            file.write(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(np if moment == "savez" else os, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_run(path, dataclasses.replace(run, seed=18))
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["run.npz"]


def test_a_saved_run_replaces_the_old_one_and_obeys_the_umask(tmp_path, run):
    path = save_run(tmp_path / "run.npz", run)
    mask = os.umask(0o027)
    try:
        save_run(path, dataclasses.replace(run, seed=18))
    finally:
        os.umask(mask)
    assert load_run(path).seed == 18
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["run.npz"]


def test_numpy_numbers_in_seed_and_settings_are_saved_as_numbers(tmp_path, run):
    settings = {"learning_rate": np.float32(0.5), "n_epochs": np.int64(3), "rates": np.arange(2)}
    loaded = load_run(save_run(tmp_path / "r", dataclasses.replace(run, seed=np.int64(1), settings=settings)))
    assert loaded.seed == 1 and loaded.settings == {"learning_rate": 0.5, "n_epochs": 3, "rates": [0, 1]}


def test_a_header_that_lacks_a_field_is_named(tmp_path, run):
    path = save_run(tmp_path / "r.npz", run)
    contents = dict(np.load(path))
    header = json.loads(str(contents["header"]))
    del header["settings"]
    np.savez(path, **contents | {"header": np.array(json.dumps(header))})
    with pytest.raises(ValueError, match="lacks 'settings'"):
        load_run(path)


# --- files of version 2, written by the package as it was before its model had parts (in tests/version2)

VERSION_2 = Path(__file__).parent / "version2"
EXPECTED = json.loads((VERSION_2 / "expected.json").read_text())
# What was called "backprop" then.
METHODS = {"recipe_ring": "score", "not_odd": "score", "session_score": "score", "own_network": "combination"}


class LineOfVersion2:
    def apply(self, params, s):
        return params["gain"] * (0.5 - s) + params["bias"][0]


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
    for setting, value in expected["model"].items():
        ours = getattr(run.model, setting)
        assert (list(ours) if isinstance(ours, tuple) else ours) == value, setting
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = evaluate(run.regulatory_function, run.model, key=jax.random.key(3), n_replicates=500)
    for quantity, value in expected["evaluation"].items():
        assert getattr(result, quantity) == pytest.approx(value, abs=2e-3), quantity
    for old, values in expected["history"].items():
        of_population = {"best_utility": "objective", "mean_utility": "mean_objective"}
        new = of_population.get(old, old)
        if name == "session_evolution" and run.model.objective == "ensemble":
            assert {"objective", "utility"} < run.history.keys()
        np.testing.assert_allclose(run.history[new], values)


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
    with pytest.raises(ValueError, match=r"was trained with .*Chain: pass it as geometry="):
        load_run(path, network=Line())
