"""Evolution strategy: learn f from scores alone (notebook 04).

A (mu + lambda) strategy: each generation scores a population of networks by the hard utility of the patterns they
make, keeps the best `n_parents` as they are and fills up with Gaussian mutants of them. All networks of a
generation see the same noise (common random numbers), so that they are compared on equal terms, and each generation
sees new noise: parents are scored afresh, so that a lucky score does not survive. Where scores are noisy it is better
not to choose parents at all but to breed from their weighted mean (`recombination`): luck averages out.

    strategy = EvolutionStrategy(mutation_strength=0.1)
    state = strategy.init(network, key)
    for generation in range(100):
        population = strategy.ask(state, ask_key)              # every leaf: (population, ...)
        state = strategy.tell(state, population, score(population))

`train_evolution` runs this loop in the driver of all trainings, a chunk of generations per jitted call.
"""

from collections.abc import Callable
from functools import partial, reduce
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from lateral.checks import check_each, check_key, check_kind, check_number, check_size
from lateral.fields import documented, flag, number, recorded, settings, size, sort_settings, value
from lateral.model import Model, check_model, objective_of_fates, scores_of_fates
from lateral.network import initial_parameters
from lateral.numerics import worst_if_not_finite
from lateral.runs import Run
from lateral.static import as_floats, entries
from lateral.training.checkpoint import Checkpoint, identity_of
from lateral.training.driver import Training, TrainingDiverged, advance_to
from lateral.training.population import fates_of_all, population_fitness
from lateral.training.watch import Watch

__all__ = [
    "EvolutionPlan",
    "EvolutionState",
    "EvolutionStrategy",
    "best_parent",
    "check_divisors",
    "train_evolution",
]


def check_divisors(name: str, divisors) -> tuple[int, ...]:
    """Whole numbers >= 1, one at least."""
    return check_each(name, divisors, check_size, "whole numbers, such as (1, 4)")


def _check_shares(name: str, shares) -> tuple[float, ...]:
    return check_each(name, shares, partial(check_number, above=0.0, maximum=1.0), "numbers, such as (1.0, 0.5)")


class EvolutionState(NamedTuple):
    """What the strategy remembers; plain arrays, to be carried through `jax.lax.scan`.

    Attributes:
        population: parameters of the last scored networks, a leading axis of `population_size` on every leaf.
        fitness: their scores, higher is better.
        generation: how many generations have been told.
    """

    population: Any
    fitness: Float[Array, " population"]
    generation: Int[Array, ""]


@settings
class EvolutionStrategy:
    """The (mu + lambda) strategy, or (mu/mu_w, lambda) with recombination.

    With recombination a generation consists of mutants of one network, the mean of the best of the last, which weigh
    `log(n_parents + 1/2) - log(rank)` (Hansen 2016, arXiv:1604.00772, eq. 49). It is also what is returned at the end.
    """

    population_size: int = size(20, "networks scored in each generation, parents included", minimum=2)
    n_parents: int = size(5, "best networks that survive and are mutated, fewer than the population")
    mutation_strength: ArrayLike = number(0.1, "standard deviation of the mutation of each parameter", above=0.0)
    mutation_decay: ArrayLike = number(1.0, "factor on it after each generation", above=0.0, maximum=1.0)
    recombination: bool = flag(False, "breed from the weighted mean of the parents in place of each of them")
    dt_divisors: tuple[int, ...] = value(
        (1,), "each rule counts by its worst objective at the time step divided by these", check_divisors, static=True
    )
    duration_shares: tuple[float, ...] = value(
        (1.0,), "shares of the duration after which it does, one for all divisors or one for each", _check_shares,
        static=True,
    )  # fmt: skip

    method = "evolution"
    unit = "generation"
    steered = "mutation_strength"

    def check_together(self):
        if self.n_parents >= self.population_size:
            raise ValueError(f"n_parents must be below population_size = {self.population_size}, got {self.n_parents}")
        if len(self.duration_shares) not in (1, len(self.dt_divisors)):
            raise ValueError(
                f"duration_shares must be one number or one for each of dt_divisors = {self.dt_divisors}, "
                f"got {self.duration_shares}"
            )

    def init(self, network, key: Array, params: Any = None) -> EvolutionState:
        """A first population of independent random networks, or of `params` and mutants of them."""
        if params is not None:
            return self.init_around(params, key)
        keys = jax.random.split(check_key(key), self.population_size)
        return self._first(jax.vmap(partial(initial_parameters, network))(keys))

    def init_around(self, params: Any, key: Array) -> EvolutionState:
        """A first population of `params` itself and mutants of it."""
        params = as_floats(params)
        copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.population_size, *x.shape)), params)
        mutants = _mutate(copies, self.mutation_strength, check_key(key))
        return self._first(jax.tree.map(lambda old, new: new.at[0].set(old[0]), copies, mutants))

    def ask(self, state: EvolutionState, key: Array) -> Any:
        """The networks to score next: at first the initial ones, later the best parents and mutants of them.

        With recombination only mutants, of the mean of the parents.
        """
        check_key(key)
        parent_key, mutation_key = jax.random.split(key)
        parents = self.parents(state)
        strength = self.mutation_strength * jnp.asarray(self.mutation_decay, float) ** state.generation.astype(float)
        n_kept, n_bred_from = (0, 1) if self.recombination else (self.n_parents, self.n_parents)
        chosen = jax.random.randint(parent_key, (self.population_size - n_kept,), 0, n_bred_from)
        children = _mutate(entries(parents, chosen), strength, mutation_key)
        bred = jax.tree.map(lambda a, b: jnp.concatenate([a[:n_kept], b]), parents, children)
        first = state.generation == 0
        return jax.tree.map(lambda old, new: jnp.where(first, old, new), state.population, bred)

    def parents(self, state: EvolutionState) -> Any:
        """What is bred from: the best networks of the last generation, best first, or their weighted mean alone."""
        order = jnp.argsort(-state.fitness)[: self.n_parents]
        best = entries(state.population, order)
        if not self.recombination:
            return best
        weights = np.log(self.n_parents + 0.5) - np.log(np.arange(1, self.n_parents + 1))
        return jax.tree.map(lambda x: jnp.tensordot(jnp.asarray(weights / weights.sum(), x.dtype), x, 1)[None], best)

    def tell(self, state: EvolutionState, population: Any, fitness: ArrayLike) -> EvolutionState:
        """Remember the scores of `population`, one for each network; a score that is not finite comes last."""
        fitness = jnp.asarray(fitness, float)
        if fitness.shape != (self.population_size,):
            raise ValueError(f"fitness must have shape ({self.population_size},), got {fitness.shape}")
        return EvolutionState(population, worst_if_not_finite(fitness), state.generation + 1)

    def step(self, state: EvolutionState, model: Model, key: Array) -> tuple[EvolutionState, dict[str, Array]]:
        """One generation on fresh noise. It records the objectives, and U and alternation of the best network.

        A network whose objective is not finite comes last and does not count in the mean. If no objective is finite,
        the record is not finite either. U and alternation are those at the last of `dt_divisors`.
        """
        population, score_key = self.breed(state, key)
        return self.choose(state, population, self.fates(population, model, score_key), model)

    def breed(self, state: EvolutionState, key: Array) -> tuple[Any, Array]:
        """The networks of a generation, and the random key on which all are scored."""
        ask_key, score_key = jax.random.split(key)
        return self.ask(state, ask_key), score_key

    def fates(self, population: Any, model: Model, key: Array) -> list[Array]:
        """Fates of the tissues of each network in each of `trials`, all on the same noise."""
        return [fates_of_all(population, shorter, key, divisor) for shorter, divisor in self.trials(model)]

    def choose(
        self, state: EvolutionState, population: Any, fates: list[Array], model: Model
    ) -> tuple[EvolutionState, dict[str, Array]]:
        """The generation with its scores, and the record of it."""
        objectives = [jax.vmap(partial(objective_of_fates, model=model))(of_trial) for of_trial in fates]
        objective = reduce(jnp.minimum, objectives)  # NaN where one of them is
        state = self.tell(state, population, objective)
        best = jnp.argmax(state.fitness)
        record = {"objective": objective[best], "mean_objective": jnp.mean(objective, where=jnp.isfinite(objective))}
        return state, record | scores_of_fates(fates[-1][best], model)

    def params(self, state: EvolutionState) -> Any:
        """Parameters of the network with the highest score of the last generation; with recombination the mean."""
        return entries(self.parents(state), 0)

    def trials(self, model: Model) -> list[tuple[Model, int]]:
        """What each network is scored in: the model, for a share of its duration, and by what its step is divided."""
        shares = self.duration_shares * (len(self.dt_divisors) if len(self.duration_shares) == 1 else 1)
        return [(model.shortened(share), n) for share, n in zip(shares, self.dt_divisors, strict=True)]

    def work(self, model: Model, n_networks: int | None = None) -> int:
        """Cell updates to score so many networks, by default those of one generation."""
        of_one = sum(divisor * shorter.cell_updates for shorter, divisor in self.trials(model))
        return of_one * (self.population_size if n_networks is None else n_networks)

    def _first(self, population):
        unscored = jnp.full(self.population_size, jnp.finfo(jnp.result_type(float)).min)
        return EvolutionState(population, unscored, jnp.zeros((), jnp.int32))


def _mutate(population, strength: ArrayLike, key: Array):
    leaves, treedef = jax.tree.flatten(population)
    keys = jax.random.split(key, len(leaves))
    mutated = [
        leaf + jnp.asarray(strength, leaf.dtype) * jax.random.normal(leaf_key, leaf.shape, leaf.dtype)
        for leaf, leaf_key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(treedef, mutated)


@settings
class EvolutionPlan:
    """The generations of a training by evolution."""

    n_generations: int = size(100, "generations")
    n_final: int = size(1000, "replicates on which the last parents are scored once more, to return the best of them")
    chunk_size: int = size(10, "generations per jitted call; only the progress bar sees it", recorded=False)


@documented(EvolutionPlan, EvolutionStrategy)
def train_evolution(
    model: Model | None = None,
    *,
    key: Array,
    strategy: EvolutionStrategy | None = None,
    initial_params: Any = None,
    progress: bool = False,
    checkpoint: str | PathLike | Checkpoint | None = None,
    callback: Callable[[Training], Any] | None = None,
    **settings_: Any,
) -> Run:
    """Evolve the network of `model` for a high hard utility.

    Args:
        model: what is trained; `Model()` by default.
        key: random key; the same key gives the same run, whatever the chunk size.
        strategy: sizes and mutation strength; by default 20 networks, 5 parents, strength 0.1.
        initial_params: start from mutants of these instead of random networks.
        progress: show a progress bar on stderr.
        checkpoint: a file to keep what is reached, and to go on from: see `lateral.Checkpoint`.
        callback: called with the `Training` after each chunk; training ends when it returns something true.
        **settings_: settings of `EvolutionPlan` (`n_generations`, `n_final`, `chunk_size`) and of the strategy.

    Returns:
        A `Run` whose history holds, for each generation, the `objective` of the best network and the
        `mean_objective` of all, and `utility` and `alternation` of the best; all at `model.n_replicates`, hence biased
        upward. `run.settings["final_objective"]` is that of the network returned, on `n_final` replicates; as the
        best of several it is a little too high, unless it is the mean of the last parents (`recombination`).

    Raises:
        TrainingDiverged: when no network of a generation, or none of the last parents, has a finite objective; its
            `run` holds the generations before.
        TrainingInterrupted: at Ctrl-C; its `run` is the run so far.
    """
    model = Model() if model is None else check_model(model)
    strategy = EvolutionStrategy() if strategy is None else strategy
    check_kind("strategy", strategy, EvolutionStrategy)
    plan, strategy = sort_settings(settings_, EvolutionPlan(), strategy, of="train_evolution")
    init_key, run_key, final_key = jax.random.split(check_key(key), 3)
    state = strategy.init(model.network, init_key, initial_params)
    training = Training(strategy, model, state, run_key)
    identity = identity_of("evolution", model, key, initial_params, recorded(strategy) | recorded(plan))
    kept = {"checkpoint": checkpoint, "callback": callback, "progress": progress}
    with Watch(plan.n_generations, "generation", identity, model, **kept) as watch:
        if watch.finished is not None:
            return watch.finished
        advance_to(training, plan.n_generations, watch=watch, chunk_size=plan.chunk_size)
        return watch.finish(best_parent(training, plan, final_key))


def best_parent(training: Training, plan: EvolutionPlan, key: Array) -> Run:
    """The best of the last parents, all scored once more, with the history of them all."""
    if not training.finite:
        raise _nothing_finite(f"network of generation {training.n_done + 1}", training, plan)
    strategy, final = training.algorithm, training.model.changed(n_replicates=plan.n_final)
    parents = strategy.parents(training.state)
    scores = reduce(jnp.minimum, [population_fitness(parents, m, key, n)[0] for m, n in strategy.trials(final)])
    if not jnp.isfinite(scores).any():
        raise _nothing_finite("parent of the last generation", training, plan)
    work = training.work + strategy.work(final, scores.size)
    scores = worst_if_not_finite(scores)
    best = entries(parents, jnp.argmax(scores))
    kept = recorded(plan) | {"cell_updates": work, "final_objective": float(jnp.max(scores))}
    return training.run(kept, params=best)


def _nothing_finite(what: str, training: Training, plan: EvolutionPlan) -> TrainingDiverged:
    message = (
        f"no {what} has a finite objective: bound the network with max_rate or lower mutation_strength; the "
        "generations before are in the exception's .run"
    )
    return TrainingDiverged(message, training.run(recorded(plan)), training.n_done)
