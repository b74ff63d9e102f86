"""Evolution strategy: a known optimum, elitism, mutation statistics, and runs that are reproducible bit by bit."""

import dataclasses
from collections import Counter
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import (
    EvolutionStrategy,
    Model,
    RegulatoryFunction,
    alternation,
    apply_threshold,
    population_fitness,
    run_multiple_replicates,
    train_evolution,
)

TARGET = {"a": np.array([0.7, -0.4, 0.2]), "b": np.array(1.5)}


class Line(NamedTuple):
    """A user's own network: rate = gain (1/2 - s̄) + shift, started at random."""

    scale: float = 1.0

    def apply(self, params, x):
        return params["gain"] * (0.5 - x) + params["shift"]

    def init(self, key):
        gain, shift = self.scale * jax.random.normal(key, (2,))
        return {"gain": gain, "shift": shift}


class Vector:
    """Parameters without a tissue."""

    def apply(self, params, x):
        raise NotImplementedError

    def init(self, key):
        return jax.tree.map(lambda x: jax.random.normal(key, x.shape), TARGET)


MODEL = Model(network=Line(scale=0.1), n_cells=5, n_replicates=40, n_steps=50, dt=0.05)
SMALL = EvolutionStrategy(population_size=8, n_parents=3, mutation_strength=0.5)
VECTOR = Vector()

# Compiled once for all tests of this file.
ask = jax.jit(EvolutionStrategy.ask)
init = jax.jit(EvolutionStrategy.init, static_argnums=1)


def trees_equal(one, other):
    return all((a == b).all() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def plain_utility(fates):
    """U by counting, in NumPy."""
    counts = np.array(list(Counter(map(tuple, fates.tolist())).values())) / len(fates)
    share = np.array([fates.mean(), 1.0 - fates.mean()])
    s_pat, s_rep = (-(p[p > 0] * np.log2(p[p > 0])).sum() for p in (share, counts))
    return s_pat - s_rep / fates.shape[1]


# --- ask and tell


@pytest.mark.slow
def test_a_user_who_asks_and_tells_finds_a_known_optimum(float32):
    """-|x - x*|² of four parameters. With 15 mutants of strength 0.05 in 150 generations the parents settle within a
    mutation strength of the optimum, from about 1 away."""
    strategy = EvolutionStrategy(mutation_strength=0.05)

    def score(params):
        return -sum(jnp.sum((params[name] - TARGET[name]) ** 2) for name in TARGET)

    @jax.jit
    def search(key):
        def generation(state, key):
            population = strategy.ask(state, key)
            state = strategy.tell(state, population, jax.vmap(score)(population))
            return state, jnp.max(state.fitness)

        init_key, ask_key = jax.random.split(key)
        return jax.lax.scan(generation, strategy.init(VECTOR, init_key), jax.random.split(ask_key, 150))

    state, best = search(jax.random.key(3))
    assert best[0] < -0.2
    assert best[-1] > -(0.05**2)
    assert (jnp.diff(best) >= 0.0).all()  # exact scores: elitism never loses the best
    winner = jax.tree.map(lambda x: x[jnp.argmax(state.fitness)], state.population)
    for name in TARGET:
        np.testing.assert_allclose(winner[name], TARGET[name], atol=0.05)
    assert int(state.generation) == 150


@pytest.mark.slow
def test_the_first_question_is_about_the_random_networks_themselves(key):
    state = init(SMALL, VECTOR, key)
    assert trees_equal(ask(SMALL, state, jax.random.key(1)), state.population)
    assert len(np.unique(np.asarray(state.population["b"]))) == 8


@pytest.mark.slow
def test_elites_stay_as_they_are_and_only_they_are_mutated(key):
    """Parents 1000 apart: every child must lie within a few mutation strengths of one of the best three."""
    strategy = EvolutionStrategy(population_size=4000, n_parents=3, mutation_strength=0.5)
    population = {"x": 1000.0 * jnp.arange(4000.0)[:, None] + jnp.zeros(2)}
    fitness = jnp.zeros(4000).at[jnp.array([7, 100, 3000])].set(jnp.array([2.0, 3.0, 1.0]))
    state = strategy.tell(strategy.init_around({"x": jnp.zeros(2)}, key), population, fitness)
    asked = np.asarray(ask(strategy, state, key)["x"])
    np.testing.assert_array_equal(asked[:3, 0], [100_000.0, 7_000.0, 3_000_000.0])  # best first
    parents = np.round(asked[3:] / 1000.0)
    mutations = asked[3:] - 1000.0 * parents
    n = mutations.size
    assert abs(mutations.std() / 0.5 - 1.0) < 4.0 / np.sqrt(2.0 * n)
    assert abs(mutations.mean()) < 4.0 * 0.5 / np.sqrt(n)
    assert abs(np.corrcoef(mutations.T)[0, 1]) < 4.0 / np.sqrt(n / 2)
    for parent in (7, 100, 3000):  # each parent has a third of the children, within four standard errors
        assert abs((parents[:, 0] == parent).mean() - 1 / 3) < 4.0 * np.sqrt(2 / 9 / len(parents))


@pytest.mark.slow
def test_with_recombination_all_are_mutants_of_the_weighted_mean_of_the_best(key):
    """The best three at 0, 3 and 30: with the weights of Hansen 2016, log(3.5 / rank) of their sum, the mean is known.

    After two generations of a decay of 0.8 the mutation strength of 0.5 is 0.32.
    """
    strategy = EvolutionStrategy(4000, 3, 0.5, mutation_decay=0.8, recombination=True)
    population = {"x": 1000.0 + jnp.zeros((4000, 2)).at[jnp.array([7, 100, 3000]), 1].set(1.0)}
    population["x"] = population["x"].at[jnp.array([7, 100, 3000]), 0].set(jnp.array([3.0, 0.0, 30.0]))
    fitness = jnp.zeros(4000).at[jnp.array([7, 100, 3000])].set(jnp.array([2.0, 3.0, 1.0]))
    state = strategy.init_around({"x": jnp.zeros(2)}, key)
    for _ in range(2):
        state = strategy.tell(state, population, fitness)
    weights = np.log(3.5 / np.array([1.0, 2.0, 3.0]))
    mean = np.array([weights @ [0.0, 3.0, 30.0] / weights.sum(), 1001.0])
    np.testing.assert_allclose(strategy.params(state)["x"], mean, rtol=1e-5)
    mutations = np.asarray(ask(strategy, state, key)["x"]) - mean
    assert mutations.shape == (4000, 2)
    assert abs(mutations.std() / 0.32 - 1.0) < 4.0 / np.sqrt(2.0 * mutations.size)
    assert abs(mutations.mean()) < 4.0 * 0.32 / np.sqrt(mutations.size)


@pytest.mark.slow
def test_recombination_comes_closer_to_the_optimum_where_scores_are_noisy(float32):
    """-|x|² of ten parameters with an error of 1: mutants are nearly alike, and which of them seems best is luck."""

    @partial(jax.jit, static_argnames="recombination")
    def distance(key, recombination):
        strategy = EvolutionStrategy(16, 5, 0.5, recombination=recombination)
        state = strategy.init_around({"x": jnp.full(10, 1.0)}, key)

        def generation(state, key):
            population = strategy.ask(state, key)
            scores = -jnp.sum(population["x"] ** 2, axis=1) + jax.random.normal(key, 16)
            return strategy.tell(state, population, scores), None

        state = jax.lax.scan(generation, state, jax.random.split(key, 60))[0]
        return jnp.linalg.norm(strategy.params(state)["x"])

    keys = jax.random.split(jax.random.key(0), 40)
    with_it, without = (np.mean([distance(key, recombination) for key in keys]) for recombination in (True, False))
    assert with_it < 0.75 * without


@pytest.mark.slow
def test_a_lucky_score_does_not_survive(key):
    """The best of one generation is scored afresh in the next, and goes if it was luck."""
    state = init(SMALL, VECTOR, key)
    lucky = SMALL.tell(state, ask(SMALL, state, key), jnp.arange(8.0))
    second = ask(SMALL, lucky, jax.random.key(1))
    assert trees_equal(jax.tree.map(lambda x: x[0], second), jax.tree.map(lambda x: x[7], state.population))
    unlucky = SMALL.tell(lucky, second, jnp.arange(8.0))  # the former best is now the worst
    third = ask(SMALL, unlucky, jax.random.key(2))
    assert not (third["b"] == second["b"][0]).any()


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_score_that_is_not_finite_comes_last(nan_allowed, key, bad):
    state = init(SMALL, VECTOR, key)
    state = SMALL.tell(state, state.population, jnp.array([bad, -3.0, bad, -1.0, bad, -2.0, bad, bad]))
    parents = ask(SMALL, state, key)["b"][:3]
    np.testing.assert_array_equal(parents, state.population["b"][jnp.array([3, 5, 1])])


def test_a_start_around_given_parameters_keeps_them_and_mutates_the_others(key):
    strategy = EvolutionStrategy(population_size=2000, n_parents=3, mutation_strength=0.25)
    population = strategy.init_around(TARGET, key).population
    for name in TARGET:
        np.testing.assert_array_equal(population[name][0], TARGET[name])
    mutations = np.asarray(population["a"][1:] - TARGET["a"])
    assert abs(mutations.std() / 0.25 - 1.0) < 4.0 / np.sqrt(2.0 * mutations.size)


def test_new_mutation_strengths_do_not_retrace(key):
    traces = []

    @jax.jit
    def counted(strategy, state):
        traces.append(None)
        return strategy.tell(state, state.population, state.fitness)

    state = init(SMALL, VECTOR, key)
    for strength in (0.1, 0.2):
        counted(EvolutionStrategy(8, 3, strength), state)
    assert len(traces) == 1


def test_the_defaults_are_those_of_the_earlier_work():
    strategy = EvolutionStrategy()
    assert (strategy.population_size, strategy.n_parents, strategy.mutation_strength) == (20, 5, 0.1)


# --- the population in one call


class ApplyOnly:
    """A user's own network, a plain Python object that cannot draw its own parameters."""

    def apply(self, params, x):
        return params["gain"] * (0.5 - x) + params["shift"]


@pytest.mark.slow
def test_the_fitness_of_a_population_is_that_of_its_members(key):
    """Simulated one by one and scored by counting."""
    network = ApplyOnly()
    population = {"gain": jnp.array([4.0, -3.0, 0.5, 0.0]), "shift": jnp.array([0.0, 0.3, -0.2, 2.0])}
    utility, alternations = population_fitness(population, dataclasses.replace(MODEL, network=network), key)
    tissue = dict(n_cells=5, n_replicates=40, n_steps=50, dt=0.05, noise_strength=0.1)
    for member in range(4):
        f = RegulatoryFunction(network, jax.tree.map(lambda x, m=member: x[m], population))
        fates = np.asarray(apply_threshold(run_multiple_replicates(f, **tissue, key=key)))
        assert float(utility[member]) == pytest.approx(plain_utility(fates), abs=1e-6)
        assert float(alternations[member]) == pytest.approx(float(alternation(fates)), abs=1e-6)
    assert float(utility[3]) == pytest.approx(0.0, abs=1e-6)  # all on


# --- whole runs, in single precision, as users run them

N_GENERATIONS = 15


def evolve(seed=1, **settings):
    given = dict(n_generations=N_GENERATIONS, strategy=SMALL, n_final=100, chunk_size=4)
    with jax.enable_x64(False):
        return train_evolution(MODEL, key=jax.random.key(seed), **given | settings)


@pytest.fixture(scope="module")
def run():
    return evolve()


@pytest.mark.slow
def test_a_run_does_not_depend_on_its_chunks_and_repeats_bit_by_bit(run):
    for chunk_size in (N_GENERATIONS, 4):
        again = evolve(chunk_size=chunk_size)
        assert trees_equal(again.params, run.params)
        assert again.history.keys() == run.history.keys() == {"objective", "mean_objective", "utility", "alternation"}
        for name, values in run.history.items():
            assert values.shape == (N_GENERATIONS,)
            np.testing.assert_array_equal(again.history[name], values)


@pytest.mark.slow
def test_a_run_with_recombination_returns_the_mean_of_its_last_parents():
    trainings = []
    mean = evolve(strategy=dataclasses.replace(SMALL, recombination=True), callback=trainings.append)
    state = trainings[-1].state  # after the last generation
    best = np.argsort(-np.asarray(state.fitness), kind="stable")[:3]
    weights = np.log(3.5 / np.array([1.0, 2.0, 3.0]))
    for name, leaf in state.population.items():
        np.testing.assert_allclose(mean.params[name], weights @ np.asarray(leaf)[best] / weights.sum(), rtol=1e-5)
    with jax.enable_x64(False):
        only, final_key = jax.tree.map(lambda leaf: leaf[None], mean.params), jax.random.split(jax.random.key(1), 3)[2]
        (final,), _ = population_fitness(only, MODEL.changed(n_replicates=100), final_key)
    assert mean.settings["final_objective"] == pytest.approx(float(final), abs=1e-6)
    assert mean.settings["cell_updates"] == (8 * 40 * N_GENERATIONS + 100) * 5 * 50


def test_another_key_gives_another_run(run):
    assert not trees_equal(evolve(seed=2).params, run.params)


def test_history_is_sensible_and_the_settings_are_recorded(run):
    best, mean = run.history["objective"], run.history["mean_objective"]
    assert (best >= mean).all() and (best < 1.0).all()
    assert ((run.history["alternation"] >= 0.0) & (run.history["alternation"] <= 1.0)).all()
    settings = {"population_size": 8, "n_parents": 3, "mutation_strength": 0.5, "n_final": 100}
    work = (8 * 40 * N_GENERATIONS + 3 * 100) * 5 * 50  # the population, and the last parents once more
    settings |= {"n_generations": N_GENERATIONS, "cell_updates": work, "dt_divisors": [1]}
    settings |= {"duration_shares": [1.0], "mutation_decay": 1.0, "recombination": False}
    with jax.enable_x64(False):
        only = jax.tree.map(lambda leaf: leaf[None], run.params)
        final_key = jax.random.split(jax.random.key(1), 3)[2]
        (final,), _ = population_fitness(only, MODEL.changed(n_replicates=100), final_key)
    assert run.settings == settings | {"final_objective": pytest.approx(float(final), abs=1e-6)}
    np.testing.assert_allclose(run.history["utility"], best, atol=1e-6)  # the objective is the ensemble's
    assert run.method == "evolution"
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(run.params))


@pytest.mark.slow
def test_evolution_improves_the_utility(run):
    """The first rules have slopes of about 0.1 and make no pattern. Scored by counting, on fresh replicates."""
    tissue = dict(n_cells=5, n_replicates=1000, n_steps=50, dt=0.05, noise_strength=0.1, key=jax.random.key(9))
    flat = RegulatoryFunction(Line(), jax.tree.map(lambda x: 0.0 * x, run.params))
    before, after = (
        plain_utility(np.asarray(apply_threshold(run_multiple_replicates(f, **tissue))))
        for f in (flat, RegulatoryFunction(Line(), run.params))
    )
    assert before < 0.05
    assert after > before + 0.3
    assert run.history["utility"][-1] > run.history["utility"][0] + 0.2


@pytest.mark.slow
def test_evolution_starts_around_given_parameters():
    """The best of one generation of weak mutants is within a few mutation strengths of what was given."""
    strategy = EvolutionStrategy(8, 3, 1e-3)
    run = evolve(n_generations=1, chunk_size=1, strategy=strategy, initial_params={"gain": 3.0, "shift": 0.5})
    assert float(run.params["gain"]) == pytest.approx(3.0, abs=0.005)
    assert float(run.regulatory_function(0.0)) == pytest.approx(0.5 * 3.0 + 0.5, abs=0.008)


@pytest.mark.slow
def test_the_fitness_follows_the_objective(key):
    """An activating rule makes a consensus: worth much in the ensemble, nothing inside each tissue."""

    class Activation:
        def apply(self, gain, x):
            return gain * (x - 0.5)

    model = Model(network=Activation(), n_replicates=400, n_steps=300, objective="tissue")
    population = jnp.array([10.0, -10.0])
    inside, _ = population_fitness(population, model, key)
    pooled, _ = population_fitness(population, dataclasses.replace(model, objective="ensemble"), key)
    assert inside[0] < 0.1 < 0.5 < inside[1]
    assert pooled.min() > 0.5


@pytest.mark.slow
def test_progress_is_shown_to_those_who_wait_and_not_where_tqdm_is_switched_off(key, monkeypatch, capsys):
    model = Model(n_cells=3, n_replicates=4, n_steps=5)
    small = dict(key=key, n_generations=2, population_size=4, n_parents=2, n_final=4, progress=True)
    train_evolution(model, **small)
    assert "2/2" in capsys.readouterr().err
    monkeypatch.setenv("TQDM_DISABLE", "1")
    train_evolution(model, **small)
    assert capsys.readouterr().err == ""
