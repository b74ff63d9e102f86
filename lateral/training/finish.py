"""Finish: what a gradient found, taken further by a search.

The steeper the edges of a rule, the more the gradient of its score scatters, and a path through them has none. A search
sees scores alone, so that it may have edges as steep as it likes (`StepNetwork.sharpened`). It counts each rule by the
worse of dt and dt/4, at which nothing is gained by living off the time step.
"""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array

from lateral.evaluation import fresh_objective, fresh_work, merit
from lateral.evolution import EvolutionStrategy
from lateral.runs import Run
from lateral.training.driver import Training, advance_to
from lateral.training.watch import Watch

__all__ = ["STRATEGY", "finish", "sharpened"]

STRATEGY = EvolutionStrategy(
    population_size=16, n_parents=5, mutation_strength=0.4, recombination=True, dt_divisors=(1, 4)
)
LAST = 0.1  # strength of the mutations that would come after the last, as a share of that of the first
CHUNK = 5  # generations of a jitted call


def sharpened(network: Any) -> Any:
    """The network as it is finished: with edges that no gradient goes through, if it has any."""
    return network.sharpened() if hasattr(network, "sharpened") else network


def finish(run: Run, n_generations: int, n_fresh: int, watch: Watch, *, key: Array) -> Run:
    """The run with what evolution makes of its rule, if that has more merit on the same fresh replicates.

    Rules are scored on half as many replicates as the run was trained on, since dt/4 takes four times the work. The
    search ends early, with what it has found, if no rule of a generation has a finite objective.

    Args:
        run: what is finished; its history is kept as it is.
        n_generations: how long.
        n_fresh: fresh replicates on which the rules before and after are compared.
        watch: what goes on beside.
        key: random key.

    Returns:
        The run, and in its settings `n_finished`, the generations that there were, and `finishing`, the fresh
        objectives before and after; the work is counted.
    """
    before, network = run.model, run.model.network
    after = before.changed(network=sharpened(network))
    start_key, run_key, fresh_key = jax.random.split(key, 3)
    strategy = STRATEGY.changed(mutation_decay=LAST ** (1.0 / n_generations))
    model = after.changed(n_replicates=max(1, after.n_replicates // 2))
    training = Training(strategy, model, strategy.init(model.network, start_key, run.params), run_key)
    advance_to(training, n_generations, watch=watch, part="finish", chunk_size=CHUNK)
    rules = (run.params, before), (training.params, after)
    fresh = [tuple(map(float, fresh_objective(*rule, fresh_key, n_fresh))) for rule in rules]
    work = run.settings["cell_updates"] + training.work + len(fresh) * fresh_work(model, n_fresh)
    settings = run.settings | {"n_finished": training.n_done, "finishing": fresh, "cell_updates": work}
    if merit(fresh[1]) <= merit(fresh[0]):
        return dataclasses.replace(run, settings=settings)
    return dataclasses.replace(
        run, params=training.params, model=after, settings=settings | {"fresh_objective": fresh[1]}
    )
