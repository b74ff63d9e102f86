"""Islands: step rules, evolved at several time steps at once (notebook 07).

A rule need not treat both fates alike. Under some rules one pattern alone is at rest, and U passes the 1 - 1/N of two
perfect patterns. The first such rules that a search finds work at the time step of the search only: the error of the
integrator is what keeps the other patterns moving. At a fine step a rule must do it by itself.

    4,096 random step rules ─→ the best 4, evolved on islands ─→ the best 2, evolved on ─→ the best

On an island a rule improves where no other kind of rule competes with it: at a fine step a rule that makes two patterns
is better than most that will make one. What follows counts each rule by the *worse* of two objectives: at the time
step, and at a tenth of it after two fifths of the duration. The finer its steps, the longer a tissue takes to find its
one pattern. Less time at dt/10 therefore stands for the whole time at dt/40, at a tenth of the work.

An odd rule makes both patterns equally often. Here none is rare: the islands keep a few kinds apart and find the
numbers of the best. The heats leave behind what lives off the time step (`refined_heats`), and rules count by the worse
of dt and dt/4. Three cuts leave few numbers to find. Edges may be as steep as one likes, since no gradient goes through
them (`preset("evolution", "odd-shape")`).

Islands run side by side, one thread each.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from lateral.checks import check_key
from lateral.evolution import EvolutionPlan, EvolutionStrategy, best_parent, check_divisors
from lateral.fields import documented, flag, recorded, settings, size, sort_settings, value
from lateral.model import Model, check_model
from lateral.runs import Run
from lateral.step_network import SMOOTH, StepNetwork
from lateral.training.checkpoint import Checkpoint, identity_of
from lateral.training.driver import Training, TrainingDiverged, advance_to
from lateral.training.halving import Heat, draw_and_halve
from lateral.training.parallel import side_by_side
from lateral.training.watch import Watch

__all__ = ["NETWORK", "PLAN", "STRATEGY", "Islands", "train_islands"]

NETWORK = StepNetwork(odd=False, **SMOOTH)


@settings
class Islands:
    """How many rules are drawn, on how many islands the best of them evolve, and how the best go on."""

    n_candidates: int = size(4096, "random step rules that are drawn")
    n_islands: int = size(4, "best of them that evolve, each by itself")
    n_survivors: int = size(2, "best of those that evolve on, at most n_islands")
    n_settling: int = size(8, "generations on each island")
    settling_divisors: tuple[int, ...] = value((10,), "`dt_divisors` of the strategy on the islands", check_divisors)
    refined_heats: bool = flag(
        False,
        "whether all heats but the first score rules at a quarter of the time step too; the lower objective less the "
        "difference counts. Rules that make one pattern at a finer step are too rare to be chosen by it",
    )
    n_threads: int | None = size(
        None, "islands that evolve at once; by default one for each core", optional=True, recorded=False
    )

    def check_together(self):
        if self.n_candidates < self.n_islands:
            raise ValueError(f"n_candidates must be >= n_islands = {self.n_islands}, got {self.n_candidates}")

    def heats(self) -> tuple[Heat, ...]:
        """How the random rules are halved."""
        later, n = partial(Heat, refine=self.refined_heats), self.n_islands
        return Heat(max(256, n), 16, share=0.5), later(max(16, n), 64), later(n, 512)


# How the best islands evolve on, if nothing else is said; on the islands themselves `n_settling` generations.
PLAN = EvolutionPlan(n_generations=90)
STRATEGY = EvolutionStrategy(
    population_size=16,
    n_parents=5,
    mutation_strength=1.0,
    mutation_decay=0.982,  # to a fifth of it
    recombination=True,
    dt_divisors=(1, 10),
    duration_shares=(1.0, 0.4),
)


@documented(Islands, EvolutionPlan, EvolutionStrategy)
def train_islands(
    model: Model | None = None,
    *,
    key: Array,
    initial_params: Any = None,
    progress: bool = False,
    checkpoint: str | PathLike | Checkpoint | None = None,
    callback: Callable[[Training], Any] | None = None,
    **settings_: Any,
) -> Run:
    """Evolve rules from several random starts at once, and return the best at several time steps.

    Args:
        model: what is trained; by default a `StepNetwork` that need not be odd, on 256 replicates with the objective
            `"tissue"`.
        key: random key; the same key gives the same run, whatever the number of threads.
        initial_params: a warm start from these instead of random rules: one island.
        progress: show a progress bar on stderr.
        checkpoint: a file to keep what is reached, and to go on from: see `lateral.Checkpoint`.
        callback: called with the `Training` of an island after each of its chunks, one call at a time; what it returns
            ends the training of that island if it is true.
        **settings_: settings of `lateral.training.islands.Islands`; of `EvolutionPlan` and `EvolutionStrategy`, for
            what follows on the islands: by default 90 generations of 16 rules, mutants of the weighted mean of the best
            5, at the time step, and at a tenth of it for two fifths of the duration. On the islands strategy and
            strength are the same, at `settling_divisors` and for the whole duration.

    Returns:
        The best `Run`. Its history is that of its island and of what followed, its `initial_params` are the rule that
        it grew from, and its settings hold `candidates` (lowest, median and highest objective of the random rules),
        `islands` (the objectives after settling) and `cell_updates`, all work together.

    Raises:
        TrainingDiverged: when no island stayed finite.
        TrainingInterrupted: at Ctrl-C; its `run` is the best so far.
    """
    model = Model(NETWORK, n_replicates=256, objective="tissue") if model is None else check_model(model)
    if initial_params is not None:
        settings_ |= {"n_islands": 1, "n_candidates": 1}
    plan, last, strategy = sort_settings(settings_, Islands(), PLAN, STRATEGY, of="train_islands")
    n_survivors = min(plan.n_survivors, plan.n_islands)
    kept = recorded(strategy) | recorded(last) | recorded(plan)
    identity = identity_of("islands", model, key, initial_params, kept)
    n_all = plan.n_islands * plan.n_settling + n_survivors * last.n_generations
    beside = {"checkpoint": checkpoint, "callback": callback, "progress": progress}
    with Watch(n_all, "generation", identity, model, **beside) as watch:
        if watch.finished is not None:
            return watch.finished
        return watch.finish(_settle_and_go_on(model, plan, last, strategy, watch, key, initial_params))


def _settle_and_go_on(model, plan: Islands, last: EvolutionPlan, strategy, watch, key, initial_params) -> Run:
    draw_key, settling_key, last_key = jax.random.split(check_key(key), 3)
    starts, candidates, work = [initial_params], None, 0
    if initial_params is None:
        starts, candidates, work = draw_and_halve(model, draw_key, plan.n_candidates, plan.heats())
    beside = {"model": model, "watch": watch, "n_threads": plan.n_threads}
    first = last.changed(n_generations=plan.n_settling)
    coarser = strategy.changed(dt_divisors=plan.settling_divisors, duration_shares=(1.0,))
    settled, spent = _evolve("island", starts, first, coarser, settling_key, **beside)
    settled, work = sorted(settled, key=_objective, reverse=True), work + spent
    survivors = settled[: plan.n_survivors]
    rules = [run.params for run in survivors]
    gone_on, spent = _evolve("survivor", rules, last, strategy, last_key, **beside)
    best = max(gone_on, key=_objective)
    island = next(run for run in survivors if best.initial_params is run.params)
    return dataclasses.replace(
        best,
        initial_params=island.initial_params,
        history={name: np.concatenate([run.history[name] for run in (island, best)]) for name in best.history},
        settings=best.settings
        | recorded(plan)
        | {"candidates": candidates, "islands": [*map(_objective, settled)], "cell_updates": work + spent},
    )


def _evolve(name, starts, how: EvolutionPlan, strategy, key, *, model, watch, n_threads) -> tuple[list[Run], int]:
    """Runs from the starts that stayed finite, and the work of all."""

    def evolve(number: int, start: Any) -> Run | TrainingDiverged:
        init_key, run_key, final_key = jax.random.split(jax.random.fold_in(key, number), 3)
        training = Training(strategy, model, strategy.init(model.network, init_key, start), run_key)
        advance_to(training, how.n_generations, watch=watch, part=f"{name} {number}", chunk_size=how.chunk_size)
        try:
            return dataclasses.replace(best_parent(training, how, final_key), initial_params=start)
        except TrainingDiverged as error:
            return error

    outcomes = side_by_side([partial(evolve, *of_one) for of_one in enumerate(starts)], watch, n_threads)
    runs = [outcome for outcome in outcomes if isinstance(outcome, Run)]
    if not runs:
        raise outcomes[0]
    all_runs = [outcome.run if isinstance(outcome, TrainingDiverged) else outcome for outcome in outcomes]
    return runs, sum(run.settings["cell_updates"] for run in all_runs)


def _objective(run: Run) -> float:
    return run.settings["final_objective"]
