"""Finish: what a gradient found, taken further by a search.

The steeper the edges of a rule, the more the gradient of its score scatters, and a path through them has none. A search
sees scores alone, so that it may have edges as steep as it likes (`StepNetwork.sharpened`). It counts each rule by the
worse of dt and dt/4, at which nothing is gained by living off the time step.
"""

import dataclasses

import jax
from jaxtyping import Array

from lateral.evaluation import fresh_objective, fresh_work, merit
from lateral.evolution import EvolutionStrategy
from lateral.runs import Run
from lateral.training.driver import Training, advance_to
from lateral.training.watch import Watch

__all__ = ["STRATEGY", "finish"]

STRATEGY = EvolutionStrategy(
    population_size=16, n_parents=5, mutation_strength=0.4, recombination=True, dt_divisors=(1, 4)
)
LAST = 0.1  # strength of the last mutations, as a share of that of the first
CHUNK = 5  # generations of a jitted call


def finish(run: Run, n_generations: int, n_fresh: int, watch: Watch, *, key: Array) -> Run:
    """The run with what evolution makes of its rule, if that has more merit on the same fresh replicates.

    Rules are scored on half as many replicates as the run was trained on, since dt/4 takes four times the work.

    Args:
        run: what is finished; its history is kept as it is.
        n_generations: how long.
        n_fresh: fresh replicates on which the rules before and after are compared.
        watch: what goes on beside.
        key: random key.

    Returns:
        The run, and in its settings `finished`, the fresh objectives before and after; the work is counted.
    """
    before, network = run.model, run.model.network
    after = before.changed(network=network.sharpened() if hasattr(network, "sharpened") else network)
    start_key, run_key, fresh_key = jax.random.split(key, 3)
    strategy = STRATEGY.changed(mutation_decay=LAST ** (1.0 / n_generations))
    model = after.changed(n_replicates=max(1, after.n_replicates // 2))
    training = Training(strategy, model, strategy.init(model.network, start_key, run.params), run_key)
    advance_to(training, n_generations, watch=watch, part="finish", chunk_size=CHUNK)
    rules = (run.params, before), (training.params, after)
    fresh = [tuple(map(float, fresh_objective(*rule, fresh_key, n_fresh))) for rule in rules]
    work = training.n_done * strategy.work(model) + len(fresh) * fresh_work(model, n_fresh)
    settings = run.settings | {"finished": fresh, "cell_updates": run.settings["cell_updates"] + work}
    if merit(fresh[1]) <= merit(fresh[0]):
        return dataclasses.replace(run, settings=settings)
    return dataclasses.replace(
        run, params=training.params, model=after, settings=settings | {"fresh_objective": fresh[1]}
    )
