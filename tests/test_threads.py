"""Threads share the networks of a population: what comes out is the same to the last bit, however many there are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lateral
from lateral import threads
from lateral.model import final_states, hard_objective
from lateral.threads import in_threads, n_shares, n_threads
from lateral.training import chunk
from lateral.training.driver import Training
from lateral.training.parallel import side_by_side
from lateral.training.watch import Watch

MODEL = lateral.Model(lateral.MLP((4,)), n_cells=5, n_replicates=24, n_steps=40, dt=0.05)
STRATEGY = lateral.EvolutionStrategy(population_size=8, n_parents=3, mutation_strength=0.5)


class Limited(NamedTuple):
    """Not a number where its one parameter is large."""

    def apply(self, params, x):
        return jnp.where(jnp.abs(params) > 5.0, jnp.nan, params * (0.5 - x))

    def init(self, key):
        return jax.random.normal(key)


@pytest.fixture
def shares(monkeypatch):
    """Set the number of threads that share every little work; the numbers of parts that were made of it."""
    monkeypatch.setattr(threads, "LEAST_WORK", 1)
    made = []
    monkeypatch.setattr(chunk, "in_threads", lambda calls: made.append(len(calls)) or in_threads(calls))

    def use(n):
        monkeypatch.setenv(threads.VARIABLE, str(n))
        made.clear()
        return made

    return use


def leaves_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"recombination": True, "mutation_decay": 0.9}, {"dt_divisors": (1, 2), "duration_shares": (1.0, 0.5)}],
    ids=["parents", "recombination", "time steps"],
)
def test_evolution_is_the_same_however_many_threads_score_a_generation(shares, key, changes):
    strategy, runs = STRATEGY.changed(**changes), []
    for n, n_parts in ((1, []), (2, [2] * 5), (3, [3] * 5)):  # eight networks by three threads: 3, 3 and 2
        made = shares(n)
        runs.append(lateral.train_evolution(MODEL, key=key, strategy=strategy, n_generations=5, n_final=50))
        assert made == n_parts
    for run in runs[1:]:
        assert leaves_equal(run.params, runs[0].params) and leaves_equal(run.history, runs[0].history)
        assert run.settings == runs[0].settings


@pytest.mark.slow
@pytest.mark.usefixtures("nan_allowed")
def test_a_generation_that_is_not_finite_is_not_taken_by_threads_either(shares, key):
    strategy, model = STRATEGY.changed(recombination=True), MODEL.changed(network=Limited())
    numbers = {"mutation_strength": np.array([0.1, 0.2, 1e6, 0.1, 0.1])}
    trainings = []
    for n in (1, 2):
        made = shares(n)
        training = Training(strategy, model, strategy.init(model.network, key), key)
        assert training.advance(5, numbers, chunk_size=8) == 2 and not training.finite
        assert made == ([2] * 3 if n == 2 else [])
        trainings.append(training)
    one, two = trainings
    assert leaves_equal(one.state, two.state) and leaves_equal(one.history, two.history)
    assert two.history["mutation_strength"].tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.slow
def test_a_session_goes_on_in_threads_where_it_stood(shares, key):
    shares(1)
    whole = lateral.TrainingSession("evolution", MODEL, key=key, n_candidates=4)
    whole.advance(5)
    cut = lateral.TrainingSession("evolution", MODEL, key=key, n_candidates=4)
    cut.advance(2)
    made = shares(2)
    cut.advance(3)
    assert made == [2] * 3 and leaves_equal(whole.params, cut.params) and whole.history == cut.history


@pytest.mark.slow
def test_scores_of_a_population_are_the_same_however_many_threads_find_them(shares, key):
    population = STRATEGY.init(MODEL.network, key).population
    shares(1)
    alone = lateral.population_fitness(population, MODEL, key, refine=2)
    shares(3)
    assert leaves_equal(lateral.population_fitness(population, MODEL, key, refine=2), alone)
    compiled = jax.jit(lambda population: lateral.population_fitness(population, MODEL, key, 2))(population)
    np.testing.assert_allclose(np.array(compiled), np.array(alone), atol=1e-5)
    with pytest.raises(ValueError, match="refine must be >= 1, got 0"):
        lateral.population_fitness(population, MODEL, key, refine=0)


@pytest.mark.slow
def test_a_finer_time_step_of_a_population_is_that_of_each_network(key):
    population = STRATEGY.init(MODEL.network, key).population
    scores, _ = lateral.population_fitness(population, MODEL, key, refine=2)
    for number, score in enumerate(scores):
        f = lateral.RegulatoryFunction(MODEL.network, jax.tree.map(lambda leaf, i=number: leaf[i], population))
        states = final_states(f, MODEL, key, refine=2)
        assert float(hard_objective(states, MODEL)) == pytest.approx(float(score), abs=1e-5)


def test_threads_beside_each_other_have_their_part_of_all(shares, key):
    shares(4)
    assert n_threads() == 4 and n_shares(10**9) == 4
    with Watch(1, "part", {}, MODEL) as watch:
        assert side_by_side([n_threads, n_threads], watch) == [2, 2]
        assert side_by_side([n_threads] * 5, watch, n_at_once=5) == [1] * 5
        assert side_by_side([n_threads], watch, n_at_once=1) == [4]
    assert in_threads([n_threads, n_threads, n_threads]) == [1, 1, 1]
    assert n_threads() == 4
