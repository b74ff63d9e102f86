"""Finish: what a gradient found, taken further by a search.

The steeper the edges of a rule, the more the gradient of its score scatters, and a path through them has none. A search
sees scores alone, so that it may have edges as steep as it likes (`StepNetwork.sharpened`). It goes far at the time
step alone, where a generation is cheap. The last generations score at dt and dt/4 and count each rule by the worse of
the two, at which nothing is gained by living off the time step.
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

__all__ = ["COARSE", "FINE", "finish", "sharpened"]

COARSE = EvolutionStrategy(population_size=16, n_parents=5, mutation_strength=0.4, recombination=True)
FINE = COARSE.changed(mutation_strength=0.1, dt_divisors=(1, 4))
# Of the coarse and of the fine stage: strength of the mutations after the last, as a share of that of the first.
LAST = (0.25, 0.4)
OF_FINE = 0.3  # share of the generations
CHUNK = 5  # generations of a jitted call


def sharpened(network: Any) -> Any:
    """The network as it is finished: with edges that no gradient goes through, if it has any."""
    return network.sharpened() if hasattr(network, "sharpened") else network


def finish(run: Run, n_generations: int, n_fresh: int, watch: Watch, *, key: Array) -> Run:
    """The run with what evolution makes of its rule, if that has more merit on the same fresh replicates.

    The fine stage starts from what the coarse one made, if that has more merit. A stage ends early, with what it has
    found, if no rule of a generation has a finite objective. Rules are scored on half as many replicates as the run was
    trained on.

    Args:
        run: what is finished; its history is kept as it is.
        n_generations: how long, both stages together; the last 30 % are fine, one at least.
        n_fresh: fresh replicates on which the rules before and after each stage are compared.
        watch: what goes on beside.
        key: random key.

    Returns:
        The run, and in its settings `n_finished`, the generations that there were, and `finishing`, the fresh
        objectives before and after each stage; the work is counted.
    """
    fresh_key, *stage_keys = jax.random.split(key, 3)
    n_fine = max(1, round(OF_FINE * n_generations))
    stages = zip((COARSE, FINE), LAST, (n_generations - n_fine, n_fine), stage_keys, strict=True)
    sharp = run.model.changed(network=sharpened(run.model.network))
    scored_on = sharp.changed(n_replicates=max(1, sharp.n_replicates // 2))

    def scored(params, model):
        return params, model, tuple(map(float, fresh_objective(params, model, fresh_key, n_fresh)))

    rules, trainings = [scored(run.params, run.model)], []
    for number, (strategy, last, n_steps, stage_key) in enumerate(stages):
        if n_steps:
            start_key, run_key = jax.random.split(stage_key)
            decaying = strategy.changed(mutation_decay=last ** (1.0 / n_steps))
            state = decaying.init(sharp.network, start_key, _best(rules)[0])
            training = Training(decaying, scored_on, state, run_key)
            advance_to(training, n_steps, watch=watch, part=f"finish {number}", chunk_size=CHUNK)
            rules.append(scored(training.params, sharp))
            trainings.append(training)

    settings = run.settings | {"n_finished": sum(training.n_done for training in trainings)}
    settings["finishing"] = [objectives for *_, objectives in rules]
    settings["cell_updates"] += sum(training.work for training in trainings) + len(rules) * fresh_work(sharp, n_fresh)
    best = _best(rules)
    if best is rules[0]:
        return dataclasses.replace(run, settings=settings)
    params, model, settings["fresh_objective"] = best
    return dataclasses.replace(run, params=params, model=model, settings=settings)


def _best(rules: list[tuple]) -> tuple:
    """That of most merit, the first of equals."""
    return max(rules, key=lambda rule: merit(rule[-1]))
