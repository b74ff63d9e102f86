"""Scores of many networks at once, all on the same noise."""

from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float, Real

from lateral.checks import check_key, check_size, is_traced
from lateral.model import Model, final_states, objective_of_fates
from lateral.network import RegulatoryFunction
from lateral.patterns import alternation_of
from lateral.static import in_parts, joined, n_entries
from lateral.threads import in_threads, n_shares

__all__ = ["fates_of_all", "population_fitness"]


def population_fitness(
    population: Any, model: Model, key: Array, refine: int = 1
) -> tuple[Float[Array, " population"], Float[Array, " population"]]:
    """Hard utility (by `model.objective`) and alternation of every network of a population, all on the same noise.

    Args:
        population: parameters with a leading population axis on every leaf.
        model: tissue and network; `model.n_replicates` tissues are simulated for each network.
        key: random key, the same for all networks.
        refine: the time step is divided by it, for as many more steps.

    Returns:
        Both `(population,)`; NaN for a network under which states are not finite.
    """
    fates = fates_of_all(population, model, check_key(key), check_size("refine", refine))
    return _scores(fates, model.changed(n_steps=1))  # which do not matter here: compiled once for any number of them


def fates_of_all(
    population: Any, model: Model, key: Array, refine: int = 1
) -> Real[Array, "population replicates cells"]:
    """Fates of the tissues of every network, which threads share where that pays."""
    traced = any(map(is_traced, jax.tree.leaves((population, model, key))))
    n = n_entries(population)
    n_parts = 1 if traced else n_shares(n * refine * model.cell_updates)
    if n_parts == 1:
        return _fates(population, model, key, refine)
    return joined(in_threads([partial(_fates, part, model, key, refine) for part in in_parts(population, n_parts)]), n)


@partial(jax.jit, static_argnames="refine")
def _fates(population, model, key, refine):
    def fates(params):
        states = final_states(RegulatoryFunction(model.network, params), model, key, refine=refine)
        return model.readout.fates(states)

    return jax.vmap(fates)(population)


# Of all at once: by parts, the last bit of a score depends on how many share the work.
@jax.jit
def _scores(fates, model):
    def scores(fates):
        return objective_of_fates(fates, model), alternation_of(fates, model.geometry, model.readout.n_fates)

    return jax.vmap(scores)(fates)
