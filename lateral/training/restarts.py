"""Restarts: many random networks, a few of them trained, the best trained on (notebooks 05 and 06).

Half of all random perceptrons turn every cell the same way, and have U = 0 and no gradient. Others lead to a slope that
training climbs slowly, or to a consensus. A seed gives one of these by luck, and luck is cheap to buy:

    256 random networks ─→ the best 4, explored smooth and noisy ─→ the best 2, trained on ─→ the best

Exploration climbs off the steep sigmoid, to which nearly all random networks lead, with half as much noise again (the
score estimator scatters by 1 / σ) and with a smoother network where there is one (`RBFNetwork.smoothed`): steep rules
exploit the time step there long before they find anything better. What follows makes the flanks steep. It starts with
twice the noise, which it takes back, and simulates half of the time only, in which nearly all tissues choose.

Every choice uses fresh replicates, at the time step and at a quarter of it. Nothing in the method knows which rule we
want: the networks are drawn by `network.init`, and the objective alone selects (`Model.objective="tissue"` asks for
patterns inside each tissue, where a consensus is worth nothing). All simulations, dropped ones too, are counted in
`run.settings["cell_updates"]`.

Exploration finds steep flanks and a flat piece between them. A start that has this shape already does without it:

    4,096 random step rules ─→ 256 ─→ 16 ─→ the best 2, fitted by the network, trained on ─→ the best

This is `draw_from="steps"` with `n_exploration=0`; any other network may draw the rules too (`training.halving`). No
fit is needed where the network that is trained is a `StepNetwork` itself, whose edges may be steeper than any bump.

A search can finish what the gradient found (`n_finishing`, `training.finish`).

Restarts run side by side, one thread each, and not under one `vmap`: XLA does not share loops as small as theirs out
among the cores of a CPU.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array

from lateral.checks import check_choice, check_key
from lateral.evaluation import merit, warn_of_time_step
from lateral.fields import choice, documented, number, recorded, settings, size, sort_settings, value
from lateral.model import Model, check_model
from lateral.network import RBFNetwork, RegulatoryFunction, check_network
from lateral.runs import Run
from lateral.step_network import SMOOTH, StepNetwork
from lateral.training.checkpoint import Checkpoint, identity_of
from lateral.training.descent import GradientDescent, descend
from lateral.training.driver import Training, TrainingDiverged
from lateral.training.estimators import Score, check_estimator
from lateral.training.finish import finish
from lateral.training.fit import check_fittable, fit_network
from lateral.training.halving import Drawn, best_candidates, draw_and_halve, heats
from lateral.training.parallel import side_by_side
from lateral.training.schedule import NOISE_CURRICULA, Plan, check_training_steps
from lateral.training.watch import Watch

__all__ = ["B2", "Restarts", "train_restarts"]

# Gradients shrink tenfold once a slope is climbed: 1,000 epochs would be too long a memory.
B2 = 0.99
CHUNK = 25  # epochs of a jitted call: one compilation for all


def _check_family(name: str, family):
    if isinstance(family, str):
        return check_choice(name, family, ("network", "steps"))
    return check_network(family, name)


@settings
class Restarts:
    """How many networks are drawn, explored and trained on, and how."""

    draw_from: Any = value(
        "network",
        "what draws the random rules: the `network` that is trained; `steps`, a `StepNetwork`; or any other network. "
        "From another one the best are found by successive halving, and the network that is trained is fitted to them",
        _check_family,
        option={"choices": ("network", "steps")},
    )
    n_candidates: int = size(256, "random rules that are scored; the best are scored again on more replicates")
    n_restarts: int = size(4, "best of them that are explored")
    n_survivors: int = size(2, "best of those that are trained on, at most n_restarts")
    n_exploration: int = size(200, "epochs of exploration, at a constant learning rate; 0 for none", minimum=0)
    n_epochs: int = size(
        1200, "epochs of the training that follows, with the learning rate falling along a cosine to 3 %"
    )
    learning_rate: float = number(0.2, "Adam's step after exploration", above=0.0)
    exploration_rate: float = number(0.3, "Adam's step in exploration", above=0.0)
    exploration_noise: str = choice("raised", "noise curriculum of the exploration, see `Plan`", NOISE_CURRICULA)
    training_noise: str = choice("cooling", "noise curriculum of what follows, see `Plan`", NOISE_CURRICULA)
    dt_cycle: tuple[float, ...] = value(
        (1.0, 0.5),
        "factors on the time step in exploration, see `Plan`",
        lambda name, cycle: Plan(dt_cycle=cycle).dt_cycle,
    )
    n_training_steps: int | None = size(
        None,
        "time steps to simulate after exploration, half of `n_steps` by default. All choices are made on tissues of "
        "`n_steps`",
        optional=True,
    )
    gradient: Callable = value(help="estimator of the gradient", check=check_estimator, factory=Score)
    clip_norm: float | None = number(None, "bound on the global norm of the gradient", above=0.0, optional=True)
    check_every: int = size(600, "epochs between two checks on fresh replicates, see `Plan`")
    n_fresh: int = size(4000, "fresh replicates of each check")
    n_finishing: int = size(
        0,
        "generations of evolution that finish the best of all, the last of them at dt and dt/4, as "
        "`network.sharpened()` where there is that method; 0 for none",
        minimum=0,
    )
    n_threads: int | None = size(
        None, "restarts that run at once; by default one for each core", optional=True, recorded=False
    )

    def check_together(self):
        if self.n_candidates < self.n_restarts:
            raise ValueError(f"n_candidates must be >= n_restarts = {self.n_restarts}, got {self.n_candidates}")

    @property
    def n_refined(self) -> int:
        """Networks that are trained on."""
        return min(self.n_survivors, self.n_restarts)

    def exploration(self) -> tuple[Plan, GradientDescent]:
        """How each restart is trained."""
        plan = Plan(
            n_epochs=self.n_exploration,
            learning_rate=self.exploration_rate,
            noise_curriculum=self.exploration_noise,
            dt_cycle=self.dt_cycle,
            check_every=self.n_exploration,
            n_fresh=self.n_fresh,
            chunk_size=CHUNK,
        )
        return plan, self._descent()

    def refinement(self, model: Model) -> tuple[Plan, GradientDescent]:
        """How each survivor is trained."""
        half = max(1, model.n_steps // 2)
        plan = Plan(
            n_epochs=self.n_epochs,
            learning_rate=optax.cosine_decay_schedule(self.learning_rate, self.n_epochs, alpha=0.03),
            noise_curriculum=self.training_noise,
            n_training_steps=check_training_steps(self.n_training_steps, model, half),
            check_every=self.check_every,
            n_fresh=self.n_fresh,
            chunk_size=CHUNK,
        )
        return plan, self._descent()

    def check(self, model: Model) -> None:
        """Refuse what the training of this model would stumble over, before anything is compiled."""
        stages = [self.refinement(model)]
        if self.n_exploration:
            stages.insert(0, self.exploration())
        for plan, algorithm in stages:
            plan.check(model, algorithm)

    def _descent(self):
        return GradientDescent(gradient=self.gradient, clip_norm=self.clip_norm, b2=B2)


@documented(Restarts)
def train_restarts(
    model: Model | None = None,
    *,
    key: Array,
    initial_params: Any = None,
    progress: bool = False,
    checkpoint: str | PathLike | Checkpoint | None = None,
    callback: Callable[[Training], Any] | None = None,
    **settings: Any,
) -> Run:
    """Train by gradient from several random networks at once and return the best.

    Networks are explored as `model.network.smoothed()` where there is that method, with the parameters that
    `model.network.converted(params, network)` makes for it (and makes back), otherwise as they are.

    Args:
        model: what is trained; by default an `RBFNetwork` on 256 replicates with the objective `"tissue"`.
        key: random key; the same key gives the same run, whatever the number of threads.
        initial_params: a warm start from these instead of random networks: one restart, no candidates.
        progress: show a progress bar on stderr.
        checkpoint: a file to keep what is reached, and to go on from: see `lateral.Checkpoint`.
        callback: called with the `Training` of a network after each of its chunks, one call at a time; what it returns
            ends the training of that network if it is true. What finishes the best is a `Training` of an evolution.
        **settings: settings of `lateral.training.restarts.Restarts`.

    Returns:
        The best `Run`: its history is that of its exploration and of the training that followed, its `initial_params`
        are the random network that it grew from, and its settings hold `candidates` (lowest, median and highest
        objective of the random networks), `restarts` (fresh objectives after exploration, or after training where
        nothing was explored, best first), `n_finished` (generations that finished the best), `finishing` (fresh
        objectives before and after each stage of these, on the same replicates, or None) and `cell_updates`, all work
        together. Where nothing that followed was better than an explored network, that is the result, and `run.model`
        holds the smoothed network. Where finishing made it better, `run.model` holds the sharpened one if there is one,
        with whose edges `run.initial_regulatory_function` is shown as well.

    Raises:
        TrainingDiverged: when no restart stayed finite.
        TrainingInterrupted: at Ctrl-C; its `run` is the best so far.

    Warns:
        TimeStepWarning: if the objective of the result changes by more than 0.02 at a quarter of the time step.
    """
    model = Model(RBFNetwork(), n_replicates=256, objective="tissue") if model is None else check_model(model)
    if initial_params is not None:
        settings |= {"n_restarts": 1, "n_candidates": 1}
    (plan,) = sort_settings(settings, Restarts(), of="train_restarts")
    plan.check(model)
    if initial_params is None and _family(model.network, plan.draw_from) != model.network:
        check_fittable(model.network)  # before thousands of rules are scored
    method = plan.refinement(model)[1].method
    identity = identity_of(method, model, key, initial_params, recorded(plan))
    n_all = plan.n_restarts * plan.n_exploration + plan.n_refined * plan.n_epochs + plan.n_finishing
    kept = {"checkpoint": checkpoint, "callback": callback, "progress": progress}
    with Watch(n_all, "epoch", identity, model, **kept) as watch:
        run = watch.finished or watch.finish(_explore_and_refine(model, plan, watch, check_key(key), initial_params))
    warn_of_time_step(*run.settings["fresh_objective"], model.dt, stacklevel=3)
    return run


def _explore_and_refine(model: Model, plan: Restarts, watch: Watch, key: Array, initial_params: Any) -> Run:
    candidate_key, *keys, finish_key = jax.random.split(key, 2 + plan.n_restarts + plan.n_refined)
    if initial_params is None:
        starts, candidates, work = _starts(model, plan, candidate_key)
    else:
        starts, candidates, work = [initial_params], None, 0

    survivors, outcomes = [(None, start) for start in starts[: plan.n_refined]], []
    refined_from = [start for _, start in survivors]
    if plan.n_exploration:
        survivors, outcomes = _explore(model, plan, watch, keys[: plan.n_restarts], starts)
        survivors = survivors[: plan.n_refined]
        smooth = _smoothed(model.network)
        refined_from = [_converted(run.params, smooth, model.network) for run, _ in survivors]
    refinement = plan.refinement(model)
    refined = _train_all("refined", refined_from, keys[plan.n_restarts :], model, refinement, plan, watch)

    work += sum(_work(outcome) for outcome in [*outcomes, *refined])
    ranked = sorted((_fresh(run) for run in outcomes or refined if isinstance(run, Run)), key=merit, reverse=True)
    kept = recorded(plan) | {"n_training_steps": refinement[0].n_training_steps, "candidates": candidates}
    kept |= {"n_candidates": 0 if candidates is None else plan.n_candidates, "n_survivors": plan.n_refined}
    kept |= {"restarts": ranked, "cell_updates": work, "n_finished": 0, "finishing": None}
    best = _best_line(survivors, refined, kept)
    if not plan.n_finishing:
        return best
    return finish(best, plan.n_finishing, plan.n_fresh, watch, key=finish_key)


def _explore(model: Model, plan: Restarts, watch: Watch, keys, starts: list) -> tuple[list, list]:
    """What was explored, with what it grew from, best first; and what became of all, those that diverged too."""
    smooth = _smoothed(model.network)
    explored_from = [_converted(start, model.network, smooth) for start in starts]
    how = plan.exploration()
    outcomes = _train_all("explored", explored_from, keys, model.changed(network=smooth), how, plan, watch)
    explored = [(run, start) for run, start in zip(outcomes, starts, strict=True) if isinstance(run, Run)]
    if not explored:
        raise outcomes[0]
    return sorted(explored, key=lambda of_one: merit(_fresh(of_one[0])), reverse=True), outcomes


def _starts(model: Model, plan: Restarts, key: Array) -> Drawn:
    """Parameters of the best candidates, for the network that is trained."""
    network = model.network
    if plan.draw_from == "network":
        return best_candidates(model, key, plan.n_candidates, plan.n_restarts)
    drawing = model.changed(network=_family(network, plan.draw_from))
    drawn = draw_and_halve(drawing, key, plan.n_candidates, heats(plan.n_candidates, plan.n_restarts))
    if drawing.network == network:
        return drawn
    keys = jax.random.split(jax.random.fold_in(key, 0), plan.n_restarts)
    rules = [RegulatoryFunction(drawing.network, params) for params in drawn.best]
    return drawn._replace(best=[fit_network(network, rule, key=key) for rule, key in zip(rules, keys, strict=True)])


def _family(network: Any, draw_from: Any) -> Any:
    """The network that draws; step rules for bumps are odd and bounded as these are, and no steeper."""
    if draw_from == "network" or (draw_from == "steps" and isinstance(network, StepNetwork)):
        return network
    if draw_from == "steps":
        return StepNetwork(odd=getattr(network, "odd", False), max_rate=getattr(network, "max_rate", None), **SMOOTH)
    return draw_from


def _train_all(name, starts, keys, model, how, plan, watch) -> list[Run | TrainingDiverged]:
    """What became of each start."""

    def train(number, start, key):
        try:
            return descend(model, *how, watch, key=key, initial_params=start, part=f"{name} {number}")
        except TrainingDiverged as error:
            return error

    calls = [partial(train, *of_one) for of_one in zip(range(len(starts)), starts, keys, strict=True)]
    return side_by_side(calls, watch, plan.n_threads)


def _best_line(survivors, refined, kept: dict[str, Any]) -> Run:
    """The best of the explored networks and of what became of them, with the history of both.

    If the training after exploration fails, or gains nothing, the result of exploration is kept.

    Raises:
        TrainingDiverged: if nothing was explored, and nothing that was trained stayed finite.
    """
    lines = []
    for (parent, start), run in zip(survivors, refined, strict=True):
        line = [] if parent is None else [parent]
        if isinstance(run, Run) and (not line or merit(_fresh(run)) > merit(_fresh(parent))):
            line.append(run)
        if line:
            lines.append((line, start))
    if not lines:
        raise refined[0]
    line, start = max(lines, key=lambda of_one: merit(_fresh(of_one[0][-1])))
    best = line[-1]
    return dataclasses.replace(
        best,
        # In the parametrisation of the network that the run ends with.
        initial_params=line[0].initial_params if len(line) == 1 else start,
        history={name: np.concatenate([run.history[name] for run in line]) for name in best.history},
        settings=kept | {name: best.settings[name] for name in ("checks", "fresh_objective")},
    )


def _converted(params, network, other):
    return network.converted(params, other) if hasattr(network, "converted") else params


def _fresh(run: Run):
    return run.settings["fresh_objective"]


def _smoothed(network):
    return network.smoothed() if hasattr(network, "smoothed") else network


def _work(outcome: Run | TrainingDiverged) -> int:
    return (outcome.run if isinstance(outcome, TrainingDiverged) else outcome).settings["cell_updates"]
