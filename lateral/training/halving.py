"""Successive halving: many random rules scored on a few tissues each, the better ones on more, until few are left.

Most random rules are useless, and a few tissues are enough to see it (Jamieson & Talwalkar, AISTATS 2016). Any network
will do whose `init` draws random rules: the one that is trained, or one that draws rules of another kind.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lateral.model import Model
from lateral.network import initial_parameters
from lateral.numerics import worst_if_not_finite
from lateral.static import entries, in_parts, n_entries
from lateral.threads import in_threads
from lateral.training.population import population_fitness

__all__ = ["Drawn", "Heat", "best_candidates", "draw_and_halve", "heats"]

BATCH = 4096  # tissues that are simulated side by side


class Heat(NamedTuple):
    """One round of the selection.

    Attributes:
        n_best: rules that go on.
        n_replicates: tissues of each.
        share: of the duration of the model that is simulated, in which nearly all tissues choose.
        refine: whether they run at a quarter of the time step too; the lower objective less the difference counts.
    """

    n_best: int
    n_replicates: int
    share: float = 1.0
    refine: bool = False


class Drawn(NamedTuple):
    """What was drawn, and what is left of it.

    Attributes:
        best: parameters of the rules that are left, best first.
        candidates: lowest, median and highest objective of all that were drawn, in the first heat.
        work: cell updates that it took.
    """

    best: list[Any]
    candidates: list[float]
    work: int


def heats(n_candidates: int, n_best: int) -> tuple[Heat, ...]:
    """From 16 tissues for half of the time over 64 to 512 at two time steps, where there are thousands of rules."""
    first, second = max(n_candidates // 16, 4 * n_best), max(n_candidates // 256, 2 * n_best)
    return Heat(first, 16, share=0.5), Heat(second, 64), Heat(n_best, 512, refine=True)


def best_candidates(model: Model, key: Array, n_candidates: int, n_best: int) -> Drawn:
    """The best random networks, of hundreds: on 64 tissues, and the best of these on 1,024."""
    return draw_and_halve(model, key, n_candidates, (Heat(2 * n_best, 64), Heat(n_best, 1024)))


def draw_and_halve(model: Model, key: Array, n_candidates: int, selection: Sequence[Heat]) -> Drawn:
    """The best of `n_candidates` random rules of `model.network`.

    Raises:
        ValueError: if none has a finite objective.
    """
    init_key, *keys = jax.random.split(key, 1 + len(selection))
    rules, work, candidates = _drawn(model, init_key, n_candidates), 0, None
    for heat, heat_key in zip(selection, keys, strict=True):
        scores, spent = _scores(rules, model, heat, heat_key)
        work += spent
        if candidates is None:
            if not (finite := np.isfinite(scores)).any():
                raise ValueError(
                    f"none of {n_candidates} random networks has a finite objective: bound them with max_rate"
                )
            candidates = [float(np.quantile(scores[finite], q)) for q in (0.0, 0.5, 1.0)]
        order = jnp.argsort(-worst_if_not_finite(jnp.asarray(scores)))[: heat.n_best]
        rules = entries(rules, order)
    return Drawn([entries(rules, i) for i in range(n_entries(rules))], candidates, work)


@partial(jax.jit, static_argnames="n_candidates")  # one compilation instead of one for each operation
def _drawn(model: Model, key: Array, n_candidates: int) -> Any:
    """Random rules of the model's network, one for each key."""
    return jax.vmap(partial(initial_parameters, model.network))(jax.random.split(key, n_candidates))


def _scores(rules, model: Model, heat: Heat, key: Array) -> tuple[np.ndarray, int]:
    """Of each rule what counts in this heat, and the cell updates that it took."""
    model = model.changed(n_replicates=heat.n_replicates).shortened(heat.share)
    models = [model, model.changed(n_steps=4 * model.n_steps, dt=model.dt / 4)] if heat.refine else [model]
    batches = in_parts(rules, -(-n_entries(rules) * heat.n_replicates // BATCH))
    scored = in_threads([partial(population_fitness, some, of, key) for of in models for some in batches])
    objectives = np.concatenate([objective for objective, _ in scored]).reshape(len(models), -1)[:, : n_entries(rules)]
    work = sum(n_entries(some) * of.cell_updates for of in models for some in batches)
    return objectives.min(axis=0) - np.ptp(objectives, axis=0), work
