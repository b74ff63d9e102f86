"""Evolution strategy: learn f from scores alone (notebook 04).

A (mu + lambda) strategy: each generation scores a population of networks by the hard utility of the patterns they
make, keeps the best `n_parents` as they are and fills up with Gaussian mutants of them. All networks of a
generation see the same noise (common random numbers), so that they are compared on equal terms, and each generation
sees new noise: parents are scored afresh, so that a lucky score does not survive.

    strategy = EvolutionStrategy(mutation_strength=0.1)
    state = strategy.init(network, key)
    for generation in range(100):
        population = strategy.ask(state, ask_key)              # every leaf: (population, ...)
        state = strategy.tell(state, population, score(population))

`train_evolution` runs this loop, a chunk of generations per jitted call.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from lateral._checks import check_key, check_number, check_size
from lateral._progress import chunks, scan_chunk
from lateral._static import register_settings
from lateral.model import Model, check_model, final_states, hard_objective, hard_scores
from lateral.network import RegulatoryFunction, initial_parameters
from lateral.runs import Run

__all__ = ["EvolutionState", "EvolutionStrategy", "population_fitness", "train_evolution"]


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


@register_settings("population_size", "n_parents")
@dataclass(frozen=True)
class EvolutionStrategy:
    """Settings of the (mu + lambda) strategy.

    Attributes:
        population_size: networks scored in each generation, parents included.
        n_parents: best networks that survive and are mutated, 1 <= n_parents < population_size.
        mutation_strength: standard deviation of the Gaussian mutation of each parameter, > 0.
    """

    population_size: int = 20
    n_parents: int = 5
    mutation_strength: ArrayLike = 0.1

    def __post_init__(self):
        check_size("population_size", self.population_size, 2)
        check_size("n_parents", self.n_parents)
        if self.n_parents >= self.population_size:
            raise ValueError(f"n_parents must be below population_size = {self.population_size}, got {self.n_parents}")
        check_number("mutation_strength", self.mutation_strength, above=0.0)

    def init(self, network, key: Array) -> EvolutionState:
        """A first population of independent random networks."""
        keys = jax.random.split(check_key(key), self.population_size)
        return self._first(jax.vmap(partial(initial_parameters, network))(keys))

    def init_around(self, params: Any, key: Array) -> EvolutionState:
        """A first population of `params` itself and mutants of it."""
        params = jax.tree.map(lambda x: jnp.asarray(x, float), params)
        copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.population_size, *x.shape)), params)
        mutants = self._mutate(copies, check_key(key))
        return self._first(jax.tree.map(lambda old, new: new.at[0].set(old[0]), copies, mutants))

    def ask(self, state: EvolutionState, key: Array) -> Any:
        """The networks to score next: at first the initial ones, later the best parents and mutants of them."""
        check_key(key)
        parent_key, mutation_key = jax.random.split(key)
        order = jnp.argsort(-state.fitness)[: self.n_parents]
        parents = jax.tree.map(lambda x: x[order], state.population)
        chosen = jax.random.randint(parent_key, (self.population_size - self.n_parents,), 0, self.n_parents)
        children = self._mutate(jax.tree.map(lambda x: x[chosen], parents), mutation_key)
        bred = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), parents, children)
        first = state.generation == 0
        return jax.tree.map(lambda old, new: jnp.where(first, old, new), state.population, bred)

    def tell(self, state: EvolutionState, population: Any, fitness: ArrayLike) -> EvolutionState:
        """Remember the scores of `population`, one for each network; a score that is not finite comes last."""
        fitness = jnp.asarray(fitness, float)
        if fitness.shape != (self.population_size,):
            raise ValueError(f"fitness must have shape ({self.population_size},), got {fitness.shape}")
        fitness = jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)
        return EvolutionState(population, fitness, state.generation + 1)

    def _first(self, population):
        return EvolutionState(population, jnp.full(self.population_size, -jnp.inf), jnp.zeros((), jnp.int32))

    def _mutate(self, population, key):
        leaves, treedef = jax.tree.flatten(population)
        keys = jax.random.split(key, len(leaves))
        mutated = [
            leaf + self.mutation_strength * jax.random.normal(leaf_key, leaf.shape, leaf.dtype)
            for leaf, leaf_key in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(treedef, mutated)


def population_fitness(
    population: Any, model: Model, key: Array
) -> tuple[Float[Array, " population"], Float[Array, " population"]]:
    """Hard utility (by `model.objective`) and alternation of every network of a population, all on the same noise.

    Args:
        population: parameters with a leading population axis on every leaf.
        model: tissue and network; `model.n_replicates` tissues are simulated for each network.
        key: random key, the same for all networks.
    """
    return _population_fitness(population, model, check_key(key))


def best_of(state: EvolutionState) -> Any:
    """Parameters of the network with the highest score of the last generation."""
    return jax.tree.map(lambda x: x[jnp.argmax(state.fitness)], state.population)


def train_evolution(
    model: Model | None = None,
    *,
    key: Array,
    n_generations: int = 100,
    strategy: EvolutionStrategy | None = None,
    initial_params: Any = None,
    n_final: int = 1000,
    chunk_size: int = 10,
    progress: bool = False,
) -> Run:
    """Evolve the network of `model` for a high hard utility.

    Args:
        model: what is trained; `Model()` by default.
        key: random key; the same key gives the same run, whatever the chunk size.
        n_generations: generations, >= 1.
        strategy: sizes and mutation strength; by default 20 networks, 5 parents, strength 0.1.
        initial_params: start from mutants of these instead of random networks.
        n_final: replicates on which the last parents are scored once more, to return the best of them.
        chunk_size: generations per jitted call; only the progress bar sees it.
        progress: show a progress bar on stderr.

    Returns:
        A `Run` whose history holds, for each generation, `best_utility`, `mean_utility` (both at
        `model.n_replicates`, hence biased upward) and the `alternation` of the best.
    """
    model = Model() if model is None else check_model(model)
    strategy = EvolutionStrategy() if strategy is None else strategy
    if not isinstance(strategy, EvolutionStrategy):
        raise ValueError(f"strategy must be a lateral.EvolutionStrategy, got {strategy!r}")
    n_generations = check_size("n_generations", n_generations)
    n_final = check_size("n_final", n_final)
    chunk_size = check_size("chunk_size", chunk_size)
    init_key, run_key, final_key = jax.random.split(check_key(key), 3)
    if initial_params is None:
        state = strategy.init(model.network, init_key)
    else:
        state = strategy.init_around(initial_params, init_key)

    first_params = jax.tree.map(lambda x: x[0], state.population)
    records = []
    for generations in chunks(n_generations, chunk_size, progress, "generation"):
        state, record = run_generations(state, strategy, model, run_key, generations)
        records.append(jax.tree.map(lambda x, n=int((generations >= 0).sum()): np.asarray(x)[:n], record))
    parents = jax.tree.map(lambda x: x[jnp.argsort(-state.fitness)[: strategy.n_parents]], state.population)
    final_scores, _ = population_fitness(parents, dataclasses.replace(model, n_replicates=n_final), final_key)
    best = int(jnp.argmax(final_scores))
    return Run(
        method="evolution",
        params=jax.tree.map(lambda x: x[best], parents),
        model=model,
        settings={
            "n_generations": n_generations,
            "population_size": strategy.population_size,
            "n_parents": strategy.n_parents,
            "mutation_strength": float(strategy.mutation_strength),
            "n_final": n_final,
        },
        history={name: np.concatenate([record[name] for record in records]) for name in records[0]},
        initial_params=first_params,
    )


@jax.jit
def _population_fitness(population, model, key):
    def score(params):
        states = final_states(RegulatoryFunction(model.network, params), model, key)
        return hard_objective(states, model), hard_scores(states, model)["alternation"]

    return jax.vmap(score)(population)


@jax.jit
def run_generations(state, strategy, model, key, generations):
    def one_generation(state, generation):
        ask_key, score_key = jax.random.split(jax.random.fold_in(key, generation))
        population = strategy.ask(state, ask_key)
        utility, alternation = _population_fitness(population, model, score_key)
        best = jnp.argmax(utility)
        record = {
            "best_utility": utility[best],
            "mean_utility": jnp.mean(utility),
            "alternation": alternation[best],
        }
        return strategy.tell(state, population, utility), record

    return scan_chunk(one_generation, state, generations, lambda _, generation: generation >= 0)
