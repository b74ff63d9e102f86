"""docs/extending.md: its examples run, and what they define goes all the way that the package's own goes."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lateral
from lateral.fields import recorded
from lateral.objective import hard_value, relaxed_value
from lateral.readout import Readout

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "extending.md").read_text()
SECTIONS = dict(re.findall(r"^## Add an? (\w+)\n(.*?)(?=^## |\Z)", DOCUMENT, flags=re.DOTALL | re.MULTILINE))
SIZES = dict(n_steps=12, dt=0.05, n_replicates=8)


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled() -> Iterator[None]:
    """Nothing here runs long: what takes time is to compile it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def after(tmp_path_factory) -> dict[str, SimpleNamespace]:
    """The names that are defined after each section, in single precision, as a reader would run it."""
    scope, after = {"__name__": "extending"}, {}
    with contextlib.chdir(tmp_path_factory.mktemp("extending")), jax.enable_x64(False):
        (imports,) = blocks(DOCUMENT.split("\n## ")[0])
        exec(compile(imports, "extending.md", "exec"), scope)
        for title, text in SECTIONS.items():
            (example,) = blocks(text)
            exec(compile(example, f"extending.md, {title}", "exec"), scope)
            after[title] = SimpleNamespace(**scope)
    return after


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def toys(after) -> SimpleNamespace:
    """The classes of the document."""
    return after["setting"]


@pytest.fixture(scope="module")
def model(toys) -> lateral.Model:
    """Geometry, objective and network are all of one's own."""
    return lateral.Model(toys.Polynomial(3), geometry=toys.Star(5), objective=toys.ShareOn(), **SIZES)


@pytest.fixture(scope="module")
def params() -> jax.Array:
    return jnp.array([-3.0, 0.5, -2.0, 0.1])


@pytest.fixture
def f(model, params) -> lateral.RegulatoryFunction:
    return lateral.RegulatoryFunction(model.network, params)


@pytest.fixture(scope="module")
def run(model) -> lateral.Run:
    settings = dict(n_generations=2, population_size=4, n_parents=2, n_final=16, chunk_size=2)
    return lateral.train_evolution(model, key=jax.random.key(1), **settings)


# --- the document


def test_every_section_has_one_short_example_and_names_a_place_that_exists():
    assert list(SECTIONS) == ["geometry", "objective", "readout", "algorithm", "engine", "setting"]
    for text in SECTIONS.values():
        (example,) = blocks(text)
        assert len(example.splitlines()) < 40
    paths = re.findall(r"`(lateral/[\w/.]+)`", DOCUMENT)
    assert all((ROOT / path).exists() for path in paths)
    for registry, module in {
        "GEOMETRIES": lateral.geometry,
        "OBJECTIVES": lateral.objective,
        "RELAXATIONS": lateral.relaxation,
        "ALGORITHMS": lateral.training.session,
        "ENGINES": lateral.engine,
    }.items():
        assert f"`{registry}`" in DOCUMENT and isinstance(getattr(module, registry), dict)


@pytest.mark.slow
def test_the_example_of_a_geometry(after):
    states, Star = after["geometry"].states, after["geometry"].Star
    assert states.shape == (50, 5) and after["geometry"].model.geometry == Star(5)
    assert lateral.alternation(lateral.apply_threshold(states), geometry=Star(5)) == 1.0
    with pytest.raises(ValueError, match="n_cells must be >= 2, got 1"):
        Star(1)


@pytest.mark.slow
def test_the_example_of_an_objective(after):
    names = after["objective"]
    assert jax.tree.map(jnp.shape, names.gradient) == jax.tree.map(jnp.shape, names.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((names.gradient, names.scores)))
    assert any(np.any(leaf != 0.0) for leaf in jax.tree.leaves(names.gradient))


def test_the_example_of_a_readout(after):
    names = after["readout"]
    assert names.model.readout.fates(jnp.array([[0.9, 0.8, 0.3, 0.2, 0.7]])).tolist() == [[1.0, 1.0, 1.0, 0.0, 1.0]]
    assert any(np.any(leaf != 0.0) for leaf in jax.tree.leaves(names.gradient))
    assert np.isfinite(names.scores["loss"])


def test_the_example_of_an_engine(after, float32):
    names = after["engine"]
    plain = lateral.run_multiple_replicates(
        names.f, n_replicates=50, n_steps=200, key=jax.random.key(0), engine="reference"
    )
    np.testing.assert_allclose(names.states, plain, atol=1e-5)


def test_the_example_of_a_setting(toys, params):
    Polynomial = toys.Polynomial
    assert toys.model.network == Polynomial(degree=5) and Polynomial(degree=5).max_rate == 5.0
    with pytest.raises(ValueError, match="max_rate must be > 0, got -1"):
        Polynomial(max_rate=-1.0)
    with pytest.raises(TypeError, match="Polynomial has no setting 'width'; it has degree, max_rate"):
        Polynomial(width=1.0)
    assert "    max_rate: bound on |f| (> 0; default 5.0)." in Polynomial.__doc__.splitlines()
    assert recorded(Polynomial()) == {"degree": 3, "max_rate": 5.0}


def test_a_number_is_traced_and_a_size_is_not(toys, params, count_traces):
    apply = count_traces(lambda network: network.apply(jnp.ones(network.degree + 1), 0.7))
    jitted = jax.jit(apply)
    jitted(toys.Polynomial())
    with apply.no_new_trace():
        jitted(toys.Polynomial(max_rate=2.0))
    jitted(toys.Polynomial(degree=2))
    assert apply.calls == 2


# --- a geometry, an objective and a network of one's own, all the way


def test_a_star_is_simulated_as_a_plain_loop_says(toys, f, key):
    start = np.array([0.3, 0.9, 0.4, 0.6, 0.2])
    expected = [start]
    for _ in range(6):
        s = expected[-1]
        seen = np.array([s[1:].mean(), *[s[0]] * 4])
        expected.append(np.clip(s + 0.1 * np.asarray(f(seen)), 0.0, 1.0))
    settings = dict(geometry=toys.Star(5), n_replicates=2, key=key, n_steps=6, dt=0.1, noise_strength=0.0)
    states = lateral.run_trajectories(f, initial_states=start, n_knots=None, **settings)
    np.testing.assert_allclose(states[1], expected, atol=1e-12)


def test_what_a_geometry_derives_from_what_its_cells_see(toys):
    star, some = toys.Star(4), jnp.array([[1.0], [2.0], [3.0], [4.0]])
    matrix = np.array([[0, 1 / 3, 1 / 3, 1 / 3], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(star.matrix(), matrix)
    np.testing.assert_allclose(star.transpose(some), matrix.T @ some)
    assert star.pairs.tolist() == [[0, 1], [0, 2], [0, 3]] and star.symmetries.tolist() == [[0, 1, 2, 3]]
    states = np.array([[0.3, 0.9, 0.4, 0.5]])
    np.testing.assert_allclose(lateral.neighbour_mean(states, geometry=star), states @ matrix.T)
    assert lateral.alternation(np.array([[0, 1, 1, 0]]), geometry=star) == pytest.approx(2 / 3)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [lateral.Pathwise(), lateral.Score()])
def test_gradients_of_all_engines_are_those_of_the_plain_one(estimator, toys, model, params, key):
    estimate = jax.jit(estimator)
    plain, plain_scores = estimate(params, model.changed(engine="reference"), key)
    assert plain.shape == params.shape and jnp.all(plain != 0.0)
    for engine in ("table", toys.engine):
        gradient, scores = estimate(params, model.changed(engine=engine), key)
        np.testing.assert_allclose(gradient, plain, rtol=1e-8)
        assert scores.keys() == plain_scores.keys() == {"loss", "utility", "alternation"}
        assert all(scores[name] == pytest.approx(plain_scores[name]) for name in scores)


def test_the_value_of_an_objective_against_a_count_by_hand(toys):
    """Three tissues of two patterns: 100 twice, 111 once."""
    fates = jnp.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    p, q = np.array([5 / 9, 4 / 9]), np.array([1 / 3, 2 / 3])
    utility = -np.sum(p * np.log2(p)) + np.sum(q * np.log2(q)) / 3
    by_hand = utility - 4 * (1 - 1 / 3) ** 2 / 3
    hard, relaxed = jax.jit(hard_value), jax.jit(relaxed_value)
    assert hard(toys.ShareOn(), fates) == pytest.approx(by_hand)
    assert relaxed(toys.ShareOn(), fates, Readout()) == pytest.approx(by_hand, abs=1e-4)
    assert hard(toys.ShareOn(1.0), fates) == pytest.approx(utility - 4 * (2 / 3) ** 2 * 2 / 3)


@pytest.mark.slow
def test_evolution_trains_it(run, model):
    assert run.model == model and run.params.shape == (4,)
    assert {"objective", "mean_objective", "utility", "alternation"} == set(run.history)
    assert np.all(run.history["objective"] <= run.history["utility"])  # less what the share of the cells is off


@pytest.mark.slow
def test_a_session_trains_it_by_the_score(model, params, key):
    session = lateral.TrainingSession("score", model, key=key, initial_params=params, learning_rate=0.3)
    session.advance(3)
    assert session.n_done == 3 and np.isfinite(session.history["loss"]).all()
    assert jnp.all(session.params != session.initial_params)
    assert session.run().model == model


def test_it_is_evaluated(f, model, key):
    result = lateral.evaluate(f, model.changed(n_steps=120), key=key, n_replicates=200)
    assert result.n_replicates == 200 and 0.0 < result.utility <= 1.0 and 0.0 <= result.alternation <= 1.0
    assert result.utility_refined == pytest.approx(result.utility, abs=0.02)


@pytest.mark.slow
def test_a_saved_run_asks_for_what_is_of_ones_own_and_is_the_same_with_it(run, toys, tmp_path):
    path = lateral.save_run(tmp_path / "run.npz", run)
    own = dict(network=toys.Polynomial(3), geometry=toys.Star(5), objective=toys.ShareOn())
    loaded = lateral.load_run(path, **own)
    assert loaded.model == run.model and loaded.settings == run.settings
    neighbours = np.linspace(0.0, 1.0, 11)
    np.testing.assert_array_equal(loaded.regulatory_function(neighbours), run.regulatory_function(neighbours))
    for name, value in own.items():
        with pytest.raises(ValueError, match=rf"trained with extending\.{type(value).__name__}: pass it as {name}="):
            lateral.load_run(path, **own | {name: None})


# --- an algorithm of one's own


def test_a_session_steers_an_algorithm_that_keeps_what_is_not_bettered(after, float32):
    session, kept = after["algorithm"].session, []
    n_done = session.n_done
    session.learning_rate = 0.05
    for _ in range(12):
        before = session.params["weights"]
        session.advance(1)
        same = session.params["weights"] == before
        assert same.all() or not same.any()
        kept.append(bool(same.all()))
    assert 0 < sum(kept) < 12
    assert session.history["distance"][n_done:] == pytest.approx([0.05] * 12)
    assert session.run().settings["distance"] == pytest.approx(0.05)
    assert np.isfinite(session.history["objective"]).all()


def test_a_run_by_an_algorithm_of_ones_own_is_saved(after):
    run, session = after["algorithm"].run, after["algorithm"].session
    assert run.method == "hill climbing" and run.model == after["algorithm"].model
    work = 2 * 50 * 5 * 200  # rules, replicates, cells, steps
    assert session.algorithm.work(run.model) == work
    assert run.settings == {"distance": pytest.approx(0.3), "n_trials": 20, "cell_updates": 20 * work}
    assert {"objective", "utility", "alternation", "distance", "noise_strength"} == set(run.history)
    assert all(values.shape == (20,) for values in run.history.values())


# --- an engine of one's own


@pytest.mark.slow
def test_a_run_with_an_engine_of_ones_own_is_saved(toys, tmp_path, key):
    model = lateral.Model(numerics=lateral.Numerics(engine=toys.engine))
    run = lateral.Run("mine", model.network.init(key), model)
    path = lateral.save_run(tmp_path / "run.npz", run)
    assert lateral.load_run(path, engine=toys.engine).model == run.model
    with pytest.raises(ValueError, match=r"trained with extending\.UnrolledEngine: pass it as engine="):
        lateral.load_run(path)
    with pytest.raises(ValueError, match="engine must be one of 'table', 'reference', got <object"):
        lateral.Numerics(engine=object())
