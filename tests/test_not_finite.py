"""NaN is worst everywhere: whatever chooses takes something finite, and says so where there is nothing finite."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lateral import (
    EvolutionStrategy,
    Model,
    TrainingDiverged,
    fit_network,
    population_fitness,
    train_backprop,
    train_evolution,
    train_restarts,
)
from lateral.evaluation import merit, what_was_found
from lateral.model import hard_objective, scores_of
from lateral.numerics import worst_if_not_finite
from lateral.training.fresh import Checks
from lateral.training.halving import best_candidates

pytestmark = pytest.mark.usefixtures("float32", "nan_allowed")

INF, NAN = math.inf, math.nan


class Line(NamedTuple):
    """Rate = gain (1/2 - s̄), not a number where the gain is above the limit."""

    limit: float = 1.0

    def apply(self, params, x):
        return jnp.where(params > self.limit, jnp.nan, params * (0.5 - x))

    def init(self, key):
        return 3.0 * jax.random.normal(key)


SOME, NONE = Line(1.0), Line(-100.0)
MODEL = Model(network=SOME, n_cells=3, n_replicates=16, n_steps=20, dt=0.05)
GAINS = np.array([5.0, 0.5, 7.0, -0.5, 6.0], np.float32)  # three of five are not finite


def test_the_merit_of_what_is_not_finite_is_the_lowest():
    assert merit((0.5, 0.4)) == pytest.approx(0.3)
    for fresh in ((NAN, NAN), (NAN, 0.5), (0.5, NAN), (INF, INF), (-INF, 0.5), (INF, 0.5)):
        assert merit(fresh) == merit(fresh[::-1]) == -INF


def test_argmax_takes_something_finite():
    scores = jnp.array([-3.0, NAN, -1.0, INF, -2.0])
    assert jnp.argmax(scores) != 2 and jnp.argmax(worst_if_not_finite(scores)) == 2


def test_a_first_check_that_is_not_finite_does_not_stay_best():
    scores = iter([(NAN, NAN), (0.2, NAN), (0.1, 0.1), (NAN, 0.9), (0.3, 0.3), (INF, INF)])
    checks = Checks(lambda params: next(scores), every=1)
    for params in "abcdef":
        checks.check(params)
    assert checks.at.best_params == "e" and checks.fresh_objective == (0.3, 0.3)


def test_what_is_not_a_number_is_no_pattern():
    assert what_was_found(NAN, 1.0) == what_was_found(NAN, NAN) == "nothing"


class Surprise(NamedTuple):
    """An objective that looks at whole patterns only."""

    def __call__(self, ensemble):
        return -ensemble.s_rep


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ensemble", "tissue", Surprise()])
def test_states_that_are_not_finite_are_no_fates(objective, key):
    """They would count as off, and hold an objective that is a number."""
    model = MODEL.changed(objective=objective)
    states = jnp.array([[NAN, 0.0, 1.0]] + 7 * [[0.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match=r"states must lie in \[0, 1\], got nan"):
        hard_objective(states, model)
    value, scores = jax.jit(lambda states: (hard_objective(states, model), scores_of(states, model)))(states)
    assert jnp.isnan(value) and jnp.isnan(scores["utility"]) and jnp.isnan(scores["alternation"])
    fitness, alternation = population_fitness(GAINS, model, key)
    for scores in (fitness, alternation):
        np.testing.assert_array_equal(jnp.isfinite(scores), GAINS < 1.0)


@pytest.mark.slow
def test_evolution_goes_on_with_the_networks_that_are_finite(key):
    run = train_evolution(MODEL, key=key, n_generations=6, population_size=12, n_parents=4, mutation_strength=2.0)
    assert all(np.isfinite(values).all() and len(values) == 6 for values in run.history.values())
    assert run.params <= 1.0 and jnp.isfinite(population_fitness(run.params[None], MODEL, key)[0]).all()


@pytest.mark.slow
def test_a_generation_is_recorded_by_its_finite_networks(key):
    strategy = EvolutionStrategy(population_size=5, n_parents=2)
    state = strategy.init_around(jnp.array(0.0), key)._replace(population=GAINS)  # scored as it is at generation 0
    state, record = strategy.step(state, MODEL, key)
    scores = population_fitness(GAINS, MODEL, jax.random.split(key)[1])[0]
    assert record["mean_objective"] == pytest.approx(float(scores[1] + scores[3]) / 2.0, abs=1e-6)
    assert record["objective"] == pytest.approx(float(jnp.nanmax(scores)), abs=1e-6)
    assert strategy.params(state) == GAINS[jnp.nanargmax(scores)]


@pytest.mark.slow
def test_evolution_without_a_finite_network_is_an_error_that_keeps_what_there_was(key):
    with pytest.raises(TrainingDiverged, match="no network of generation 1 has a finite objective") as caught:
        train_evolution(MODEL.changed(network=NONE), key=key, n_generations=3)
    assert caught.value.run.method == "evolution" and caught.value.epoch == 0


class Unstable(NamedTuple):
    """Finite while training; not a number on the final replicates."""

    def __call__(self, ensemble):
        n_replicates = ensemble.fates.shape[0]
        return -ensemble.s_rep if n_replicates == MODEL.n_replicates else ensemble.s_rep * jnp.nan


@pytest.mark.slow
def test_evolution_whose_last_parents_are_not_finite_is_an_error_that_keeps_the_history(key):
    with pytest.raises(TrainingDiverged, match="no parent of the last generation has a finite objective") as caught:
        train_evolution(MODEL.changed(objective=Unstable()), key=key, n_generations=3)
    assert len(caught.value.run.history["objective"]) == 3


@pytest.mark.slow
def test_a_training_whose_checks_are_not_finite_is_an_error_that_keeps_the_history(key):
    settings = dict(key=key, initial_params=0.5, n_epochs=4, check_every=2, n_fresh=50, learning_rate=1e-3)
    model = MODEL.changed(objective=Unstable(), relaxation="kernel")
    with pytest.raises(TrainingDiverged, match="no check on fresh replicates gave a finite objective") as caught:
        train_backprop(model, **settings)
    assert len(caught.value.run.history["loss"]) == 4


@pytest.mark.slow
def test_candidates_are_chosen_among_the_finite_ones(key):
    best, summary, _ = best_candidates(MODEL, key, 16, 2)
    assert all(params <= 1.0 for params in best) and np.isfinite(summary).all()
    none = MODEL.changed(network=NONE)
    for call in (lambda: best_candidates(none, key, 8, 2), lambda: train_restarts(none, key=key, n_candidates=8)):
        with pytest.raises(ValueError, match="none of 8 random networks has a finite objective"):
            call()


def test_a_fit_that_is_not_finite_is_refused(key):
    class Steep(Line):
        def apply(self, params, x):
            return jnp.exp(1e3 * params) * x

        def init(self, key):
            return jnp.array(0.2)

    with pytest.raises(ValueError, match=r"the fit is not finite with learning_rate = 0\.03: lower it"):
        fit_network(Steep(), lambda x: x, key=key, n_steps=5)


def test_a_schedule_is_checked_in_the_precision_that_it_is_used_in(key):
    schedule = optax.join_schedules([lambda epoch: 1e-3, lambda epoch: 1e39], [2])
    with pytest.raises(ValueError, match="learning_rate must be finite and >= 0 at every epoch, got"):
        train_backprop(MODEL, key=key, initial_params=0.5, n_epochs=4, learning_rate=schedule)
