"""The methods that `compare.py` compares, behind one interface: `step`, `answer`, and what each of them costs.

Work is counted in cell updates of simulations; see `compare.py`.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

import cma
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import lateral
from lateral.training.estimators import Combination, Pathwise, Score
from lateral.training.halving import draw_and_halve, heats

MODEL = lateral.Model(
    n_cells=7, n_steps=1000, dt=0.01, noise_strength=0.1, objective="tissue", relaxation="bernoulli", n_replicates=256
)
N_RANDOM, R_RANDOM = 256, 64
R_RESCORE = 1000


@dataclass(frozen=True)
class Knots:
    """f by its values at equally spaced knots, straight lines between them, bounded smoothly.

    All values are free, f need not be odd. Exploration is among odd tables with fewer knots (`smoothed`), as it
    is among fewer bumps with the network.
    """

    n_values: int = 25
    max_rate: float = 5.0
    odd: bool = False

    def init(self, key):
        return jax.random.normal(key, (self._n_free,))

    def apply(self, params, neighbour_mean):
        return lateral.Table(self.max_rate * jnp.tanh(self._values(params) / self.max_rate))(neighbour_mean)

    def smoothed(self):
        return dataclasses.replace(self, n_values=2 * (self.n_values - 1) // 3 + 1, odd=True)

    def converted(self, params, other):
        values = lateral.Table(self._values(params))(jnp.linspace(0.0, 1.0, other.n_values))
        return 0.5 * (values - values[::-1])[: other._n_free] if other.odd else values

    @property
    def _n_free(self):
        return self.n_values // 2 if self.odd else self.n_values

    def _values(self, params):
        return jnp.concatenate([params, jnp.zeros(self.n_values % 2), -params[::-1]]) if self.odd else params


STEP_RULE = "step rule"
NETWORKS = {"network": lateral.RBFNetwork(), "table": Knots(), STEP_RULE: lateral.preset("score")[0].network}


def simulations(n_replicates: int) -> int:
    """Cell updates of so many simulated tissues."""
    return n_replicates * MODEL.n_cells * MODEL.n_steps


# Trained as a user does it, to the end that the preset has.
PRESETS = {"exploration": ("score", "exploration"), "recipe": ("score", "recipe"), "windows": ("backprop", "recipe")}
N_STEP_RULES = 73_728  # so many take the work of the others
N_STEP_STARTS = 4096  # where training of a step rule starts, as the recipes do


def trained_by_preset(method: str, seed: int, network) -> tuple[Any, Any, int]:
    """Parameters, their network, and the work."""
    model, settings = lateral.preset(*PRESETS[method], network=network)
    run = lateral.train_restarts(model, key=jax.random.key(seed), **settings)
    return run.params, run.model.network, int(run.settings["cell_updates"])


def best_step_rule(key, n_rules: int = N_STEP_RULES) -> tuple[Any, lateral.StepNetwork, int]:
    """The best of many random step rules, by successive halving: no gradient and no mutation. The same three."""
    network = NETWORKS[STEP_RULE]
    drawn = draw_and_halve(dataclasses.replace(MODEL, network=network), key, n_rules, heats(n_rules, 1))
    return drawn.best[0], network, drawn.work


def start_of(model, key) -> tuple[Any, int]:
    """Where everybody else starts, and its work: the best of many random networks, or of more step rules, halved."""
    if isinstance(model.network, lateral.StepNetwork):
        params, _, work = best_step_rule(key, N_STEP_STARTS)
        return params, work
    init_key, score_key = jax.random.split(key)
    population = jax.vmap(model.network.init)(jax.random.split(init_key, N_RANDOM))
    scores, _ = lateral.population_fitness(population, dataclasses.replace(model, n_replicates=R_RANDOM), score_key)
    return jax.tree.map(lambda x: x[jnp.nanargmax(scores)], population), simulations(N_RANDOM * R_RANDOM)


@jax.jit
def generation(strategy, state, model, key):
    ask_key, score_key = jax.random.split(key)
    population = strategy.ask(state, ask_key)
    return strategy.tell(state, population, lateral.population_fitness(population, model, score_key)[0])


def at_each_time_step(model, dt_cycle):
    """The model at each of the time steps that generations take in turn, as the epochs of exploration do."""
    return [dataclasses.replace(model, dt=model.dt * factor) for factor in dt_cycle]


class Evolution:
    """The package's strategy; its answer is the best parent on fresh replicates, whose cost counts.

    With recombination mutations shrink to a thirtieth until the end, and the answer is the mean of the parents.
    """

    n_skipped = 0

    def __init__(self, model, start, key, seed, mutation_strength, dt_cycle=(1.0,), recombination=False):
        self.strategy = lateral.EvolutionStrategy(mutation_strength=mutation_strength, recombination=recombination)
        self.models, self.key = at_each_time_step(model, dt_cycle), key
        self.state = self.strategy.init_around(start, jax.random.fold_in(key, 0))
        self.step_work = simulations(self.strategy.population_size * model.n_replicates)
        n_rescored = 0 if recombination else self.strategy.n_parents
        self.answer_work = simulations(n_rescored * R_RESCORE * len(dt_cycle))

    def step(self, number, n_steps):
        model = self.models[number % len(self.models)]
        decay = (1.0 / 30.0) ** (1.0 / n_steps) if self.strategy.recombination else 1.0
        strategy = self.strategy.changed(mutation_decay=decay)
        self.state = generation(strategy, self.state, model, jax.random.fold_in(self.key, 2 * number + 1))
        return self.state

    def answer(self, number):
        if self.strategy.recombination:
            return self.strategy.params(self.state)
        best = jnp.argsort(-self.state.fitness)[: self.strategy.n_parents]
        parents = jax.tree.map(lambda x: x[best], self.state.population)
        key = jax.random.fold_in(self.key, 2 * number + 2)
        fresh = [dataclasses.replace(model, n_replicates=R_RESCORE) for model in self.models]
        scores = jnp.stack([lateral.population_fitness(parents, model, key)[0] for model in fresh])
        return jax.tree.map(lambda x: x[jnp.nanargmax(scores.min(axis=0))], parents)


class CMAES:
    """Covariance matrix adaptation with common random numbers in a generation; its answer is the mean."""

    answer_work = n_skipped = 0

    def __init__(self, model, start, key, seed, sigma0, dt_cycle=(1.0,)):
        flat, self.unravel = ravel_pytree(start)
        self.models, self.key = at_each_time_step(model, dt_cycle), key
        self.strategy = cma.CMAEvolutionStrategy(np.asarray(flat), sigma0, {"seed": seed + 1, "verbose": -9})
        self.step_work = simulations(self.strategy.popsize * model.n_replicates)

    def step(self, number, n_steps):
        asked = self.strategy.ask()
        population = jax.vmap(self.unravel)(jnp.asarray(np.array(asked), float))
        model = self.models[number % len(self.models)]
        scores, _ = lateral.population_fitness(population, model, jax.random.fold_in(self.key, number))
        self.strategy.tell(asked, -np.asarray(scores, float))
        return scores

    def answer(self, number):
        return self.unravel(jnp.asarray(self.strategy.mean, float))


ADAM = optax.apply_if_finite(optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam()), 10**6)


@jax.jit
def epoch(estimator, params, opt_state, model, learning_rate, key):
    gradient, _ = estimator(params, model, key)
    updates, opt_state = ADAM.update(gradient, opt_state, params)
    return jax.tree.map(lambda p, u: p - learning_rate * u, params, updates), opt_state


class Gradient:
    """What `train_backprop` does with clip_norm=1 and cosine decay, an epoch at a time, to stop at checkpoints.

    A gradient that is not finite is skipped and counted, where `train_backprop` gives up.
    """

    answer_work = 0

    def __init__(self, estimator, model, start, key, seed, learning_rate):
        self.estimator, self.model, self.learning_rate = estimator, model, learning_rate
        self.key = jax.random.split(key)[1]
        self.params, self.state = start, ADAM.init(start)
        self.step_work = estimator.n_simulations * simulations(model.n_replicates)

    def step(self, number, n_steps):
        rate = 0.5 * self.learning_rate * (1.0 + np.cos(np.pi * number / n_steps))
        key = jax.random.split(jax.random.fold_in(self.key, number), 1)[0]
        self.params, self.state = epoch(self.estimator, self.params, self.state, self.model, rate, key)
        return self.params

    def answer(self, number):
        return self.params

    @property
    def n_skipped(self):
        return int(self.state.total_notfinite)


# For each method that is tuned: how to make it, and two values of two settings to try. The searches come twice: with
# the time step dt alone, and with dt and dt/2 from generation to generation in turn.
METHODS = {}
TWO_DT = ", two dt"
for name, make, strength, values in (
    ("evolution", Evolution, "mutation_strength", (0.1, 0.3)),
    ("CMA-ES", CMAES, "sigma0", (0.3, 1.0)),
):
    for suffix, dt_cycle in (("", [1.0]), (TWO_DT, [1.0, 0.5])):
        METHODS[name + suffix] = (make, {strength: values, "n_replicates": (50, 250), "dt_cycle": (dt_cycle,)})
SEARCHES = tuple(METHODS)
for name, estimator in {"score": Score(), "pathwise": Pathwise(), "combination": Combination()}.items():
    METHODS[name] = (partial(Gradient, estimator), {"learning_rate": (0.03, 0.1), "n_replicates": (256, 1024)})
STEPS = "steps"
AS_THEY_ARE = (*PRESETS, STEPS)
ALL = (*AS_THEY_ARE, *METHODS)


# What is compared for each kind of f. Of step rules, where good ones are drawn, what starts from the best drawn.
COMPARED = {
    "network": ("exploration", "windows", *METHODS),
    "table": ("exploration", *METHODS),
    STEP_RULE: ("recipe", STEPS, "evolution", "evolution" + TWO_DT, "CMA-ES" + TWO_DT, "score"),
}


def settings_to_try(method: str, network: str) -> list[dict]:
    grid = METHODS[method][1]
    if network == STEP_RULE and METHODS[method][0] is Evolution:
        grid = grid | {"mutation_strength": (0.3, 1.0), "recombination": (True,)}
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
