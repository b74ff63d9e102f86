"""Restarts: many random networks, a few of them trained, the best trained on (notebooks 05 and 06).

Half of all random perceptrons turn every cell the same way, have U = 0 and no gradient; others lead to a slope that is
climbed slowly, or to a consensus. Which one a seed gives is luck, and luck is cheap to buy:

    256 random networks ─→ the best 4, explored smooth and noisy ─→ the best 2, trained on ─→ the best

Exploration climbs off the steep sigmoid, to which nearly all random networks lead, with half as much noise again (the
score estimator scatters by 1 / σ) and with a smoother network where there is one (`RBFNetwork.smoothed`): steep rules
exploit the time step there long before they find anything better. What follows makes the flanks steep. It starts with
twice the noise, which it takes back, and simulates half of the time only, in which nearly all tissues choose.

Each choice is made on fresh replicates, at the time step and at a quarter of it. Nothing knows which rule is wanted:
the networks are drawn by `network.init`, and the objective alone selects (`Model.objective="tissue"` asks for patterns
inside each tissue, where a consensus is worth nothing). All simulations, dropped ones too, are counted in
`run.settings["cell_updates"]`.

Restarts run side by side, one thread each, and not under one `vmap`: XLA does not share loops as small as theirs out
among the cores of a CPU.
"""

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from tqdm.auto import tqdm

from lateral._checks import check_choice, check_key, check_number, check_size
from lateral.backprop import NOISE_CURRICULA, TrainingDiverged, train_backprop
from lateral.evaluation import merit, warn_of_time_step
from lateral.evolution import population_fitness
from lateral.gradients import Score
from lateral.model import Model, check_model
from lateral.network import RBFNetwork, initial_parameters
from lateral.runs import Run

__all__ = ["train_restarts"]


def train_restarts(
    model: Model | None = None,
    *,
    key: Array,
    n_candidates: int = 256,
    n_restarts: int = 4,
    n_survivors: int = 2,
    n_exploration: int = 200,
    n_epochs: int = 1200,
    learning_rate: float = 0.2,
    exploration_rate: float = 0.3,
    exploration_noise: str = "raised",
    training_noise: str = "cooling",
    dt_cycle: tuple[float, ...] = (1.0, 0.5),
    n_training_steps: int | None = None,
    gradient: Callable | None = None,
    clip_norm: float | None = None,
    check_every: int = 600,
    n_fresh: int = 4000,
    initial_params: Any = None,
    n_threads: int | None = None,
    progress: bool = False,
) -> Run:
    """Train by gradient from several random networks at once and return the best.

    Args:
        model: what is trained; by default an `RBFNetwork` on 256 replicates with the objective `"tissue"`.
        key: random key; the same key gives the same run, whatever the number of threads.
        n_candidates: random networks that are scored, >= n_restarts, on 64 replicates each; the best
            2 n_restarts once more on 1,024.
        n_restarts: networks that are explored, >= 1.
        n_survivors: explored networks that are trained on, between 1 and n_restarts.
        n_exploration: epochs of exploration, at a constant learning rate; of `model.network.smoothed()` where the
            network has that method, with the parameters that `model.network.converted(params, network)` makes for it
            (and makes back) where there is that method too, otherwise with the same.
        n_epochs: epochs of the training that follows, with the learning rate falling along a cosine to 3 %.
        learning_rate: Adam's step after exploration, > 0.
        exploration_rate: Adam's step in exploration, > 0.
        exploration_noise, training_noise: noise curriculum of the exploration and of the training that follows, see
            `train_backprop`.
        dt_cycle: factors on the time step in exploration, see `train_backprop`.
        n_training_steps: time steps to simulate after exploration, half of `model.n_steps` by default. All choices
            are made on tissues of `model.n_steps`.
        gradient: estimator, `Score()` by default.
        clip_norm: bound on the norm of the gradient, see `train_backprop`.
        check_every, n_fresh: see `train_backprop`.
        initial_params: a warm start from these instead of random networks: one restart, no candidates.
        n_threads: restarts that run at once; by default one for each core.
        progress: show a progress bar on stderr.

    Returns:
        The best `Run`: its history is that of its exploration and of what followed, its `initial_params` are the
        random network that it grew from, and its settings hold `candidates` (lowest, median and highest
        objective of the random networks), `restarts` (fresh objectives after exploration, best first), and
        `cell_updates`, all work together. Where nothing that followed was better than an explored network, that is
        the result, and `run.model` holds the smoothed network.

    Raises:
        TrainingDiverged: when no restart stayed finite.

    Warns:
        TimeStepWarning: if the objective of the result changes by more than 0.02 at a quarter of the time step.
    """
    model = Model(RBFNetwork(), n_replicates=256, objective="tissue") if model is None else check_model(model)
    n_restarts = check_size("n_restarts", n_restarts) if initial_params is None else 1
    n_survivors = min(check_size("n_survivors", n_survivors), n_restarts)
    n_candidates = check_size("n_candidates", n_candidates, n_restarts)
    n_exploration, n_epochs = check_size("n_exploration", n_exploration), check_size("n_epochs", n_epochs)
    check_number("learning_rate", learning_rate, above=0.0)
    check_number("exploration_rate", exploration_rate, above=0.0)
    check_choice("exploration_noise", exploration_noise, NOISE_CURRICULA)
    check_choice("training_noise", training_noise, NOISE_CURRICULA)
    check_every = check_size("check_every", check_every)
    n_threads = check_size("n_threads", n_threads or os.cpu_count() or 1)
    half = max(1, model.n_steps // 2)
    n_training_steps = check_size("n_training_steps", half if n_training_steps is None else n_training_steps)
    if n_training_steps > model.n_steps:
        raise ValueError(f"n_training_steps must be <= n_steps = {model.n_steps}, got {n_training_steps}")
    network = model.network
    smooth = dataclasses.replace(model, network=network.smoothed() if hasattr(network, "smoothed") else network)
    x64 = jax.config.jax_enable_x64  # as a context it holds in this thread only
    candidate_key, *train_keys = jax.random.split(check_key(key), 1 + n_restarts + n_survivors)
    common = {
        "b2": 0.99,  # gradients shrink tenfold once a slope is climbed: 1,000 epochs would be too long a memory
        "clip_norm": clip_norm,
        "gradient": Score() if gradient is None else gradient,
        "n_fresh": n_fresh,
        "chunk_size": 50,  # one compilation for all
        "warn": False,
    }
    exploration = common | {
        "n_epochs": n_exploration,
        "learning_rate": exploration_rate,
        "noise_curriculum": exploration_noise,
        "dt_cycle": dt_cycle,
        "check_every": n_exploration,
    }
    refinement = common | {
        "n_epochs": n_epochs,
        "learning_rate": optax.cosine_decay_schedule(learning_rate, n_epochs, alpha=0.03),
        "noise_curriculum": training_noise,
        "n_training_steps": n_training_steps,
        "check_every": check_every,
    }

    with tqdm(total=n_restarts * n_exploration + n_survivors * n_epochs, unit="epoch", disable=not progress) as bar:

        def train_all(starts, keys, model, settings) -> list[Run | TrainingDiverged]:
            """What became of each start."""

            def train(start, key):
                try:
                    with jax.enable_x64(x64):
                        run = train_backprop(model, key=key, initial_params=start, **settings)
                except TrainingDiverged as error:
                    run = error
                bar.update(settings["n_epochs"])
                return run

            if n_threads == 1:
                return list(map(train, starts, keys))
            with ThreadPoolExecutor(min(n_threads, len(starts))) as pool:
                return list(pool.map(train, starts, keys))

        if initial_params is None:
            starts, candidates, work = best_candidates(model, candidate_key, n_candidates, n_restarts)
        else:
            starts, candidates, work = [initial_params], None, 0
        explored_from = [_converted(start, network, smooth.network) for start in starts]
        outcomes = train_all(explored_from, train_keys[:n_restarts], smooth, exploration)
        explored = [(run, start) for run, start in zip(outcomes, starts, strict=True) if isinstance(run, Run)]
        explored.sort(key=lambda of_one: _merit(of_one[0]), reverse=True)
        if not explored:
            raise outcomes[0]
        survivors = explored[:n_survivors]
        refined_from = [_converted(run.params, smooth.network, network) for run, _ in survivors]
        refined = train_all(refined_from, train_keys[n_restarts:], model, refinement)

    # What went wrong later, or brought nothing, must not cost what exploration had found.
    lines = [
        ((parent, run) if isinstance(run, Run) and _merit(run) > _merit(parent) else (parent,), start)
        for (parent, start), run in zip(survivors, refined, strict=True)
    ]
    line, start = max(lines, key=lambda of_one: _merit(of_one[0][-1]))
    best = line[-1]
    run = dataclasses.replace(
        best,
        # In the parametrisation of the network that the run ends with.
        initial_params=line[0].initial_params if len(line) == 1 else start,
        history={name: np.concatenate([run.history[name] for run in line]) for name in best.history},
        settings={
            "n_candidates": 0 if candidates is None else n_candidates,
            "n_restarts": n_restarts,
            "n_survivors": n_survivors,
            "n_exploration": n_exploration,
            "n_epochs": n_epochs,
            "learning_rate": float(learning_rate),
            "exploration_rate": float(exploration_rate),
            "exploration_noise": exploration_noise,
            "training_noise": training_noise,
            "clip_norm": clip_norm,
            "check_every": check_every,
            "candidates": candidates,
            "restarts": [run.settings["fresh_objective"] for run, _ in explored],
            "cell_updates": work + sum(_work(outcome) for outcome in [*outcomes, *refined]),
        }
        | {"dt_cycle": line[0].settings["dt_cycle"], "n_training_steps": n_training_steps}
        | {name: best.settings[name] for name in ("gradient", "checks", "fresh_objective")},
    )
    warn_of_time_step(*run.settings["fresh_objective"], model.dt, stacklevel=3)
    return run


def best_candidates(model: Model, key: Array, n_candidates: int, n_best: int) -> tuple[list, list[float], int]:
    """The best random networks, the lowest, median and highest objective of all of them, and the work it took."""
    init_key, first_key, second_key = jax.random.split(key, 3)
    population = jax.vmap(lambda key: initial_parameters(model.network, key))(jax.random.split(init_key, n_candidates))
    work = 0

    def best_of(population, n_best, n_replicates, key):
        scores, _ = population_fitness(population, dataclasses.replace(model, n_replicates=n_replicates), key)
        nonlocal work
        work += scores.shape[0] * n_replicates * model.n_cells * model.n_steps
        order = jnp.argsort(-scores)[:n_best]
        return jax.tree.map(lambda x: x[order], population), scores

    some, scores = best_of(population, 2 * n_best, 64, first_key)
    few, _ = best_of(some, n_best, 1024, second_key)
    summary = [float(np.quantile(scores, q)) for q in (0.0, 0.5, 1.0)]
    return [jax.tree.map(lambda x, i=i: x[i], few) for i in range(n_best)], summary, work


def _converted(params, network, other):
    return network.converted(params, other) if hasattr(network, "converted") else params


def _merit(run: Run) -> float:
    return merit(run.settings["fresh_objective"])


def _work(outcome: Run | TrainingDiverged) -> int:
    return (outcome.run if isinstance(outcome, TrainingDiverged) else outcome).settings["cell_updates"]
