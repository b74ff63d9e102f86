"""Backpropagation: learn f by the gradient of a soft utility through the noisy simulation (notebook 05).

    params -> f(s̄) -> dynamics -> final states -> soft fates -> soft utility -> loss = -utility

The noise is drawn first and held fixed (the reparametrisation trick), so that the final states are a differentiable
function of the parameters; a fresh key each epoch makes the gradient a fresh unbiased sample of the gradient of
the expected soft utility at `n_replicates`.

`compute_loss` and `train_step` are the two functions of `BACKPROP_GUIDE.md`; `train_backprop` is the loop around
them with a history, learning-rate schedules, clipping, batches, a noise curriculum, and a stop that loses nothing.
The same loop follows any other estimator of the gradient (`lateral.training`): `gradient=Score()`.
"""

from collections.abc import Callable
from os import PathLike
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array, Float

from lateral.checks import check_key
from lateral.evaluation import warn_of_time_step
from lateral.fields import documented, recorded, sort_settings
from lateral.model import Model, check_model, loss_and_scores
from lateral.runs import Run
from lateral.training.checkpoint import Checkpoint, digest, identity_of
from lateral.training.descent import GradientDescent, check_optimizer, descend, update_of
from lateral.training.driver import Training
from lateral.training.estimators import Pathwise, check_estimator
from lateral.training.schedule import Plan
from lateral.training.watch import Watch

__all__ = ["compute_loss", "make_train_step", "train_backprop", "train_step"]


def compute_loss(params: Any, model: Model, key: Array) -> Float[Array, ""]:
    """Negative soft utility, in bits per cell, of the patterns that the network with `params` makes.

    Args:
        params: parameters of `model.network`.
        model: tissue, network, readout and objective; see `Model`.
        key: random key of the initial states and of the noise.
    """
    return _loss(params, model, check_key(key))


# One compilation instead of one for each operation.
_loss = jax.jit(lambda params, model, key: loss_and_scores(params, model, key)[0], inline=True)


def make_train_step(optimizer: optax.GradientTransformation, gradient: Callable | None = None) -> Callable:
    """A jitted `train_step(params, opt_state, model, key) -> (params, opt_state, loss)` for an optax optimiser.

    Start it with `opt_state = optimizer.init(params)`, and give it a fresh key each epoch. Many seeds in one compiled
    call: `jax.vmap(train_step, in_axes=(0, 0, None, 0))`.

    Args:
        optimizer: any of optax, or a chain of several.
        gradient: estimator of the gradient, `Pathwise()` by default.
    """
    if check_optimizer("optimizer", optimizer) is None:
        raise ValueError("optimizer must be an optax optimiser such as optax.adam(1e-3), got None")
    gradient = check_estimator("gradient", Pathwise() if gradient is None else gradient)

    @jax.jit
    def train_step(params, opt_state, model, key):
        grads, scores = gradient(params, model, key)
        updates, opt_state = update_of(optimizer, grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, scores["loss"]

    return train_step


_guide_step = make_train_step(optax.adam(1e-3))


def train_step(params: Any, opt_state: Any, model: Model, key: Array) -> tuple[Any, Any, Array]:
    """One epoch of the guide: gradient of `compute_loss`, then Adam at learning rate 1e-3.

    `opt_state` starts as `optax.adam(1e-3).init(params)`. For any other optimiser, see `make_train_step`.
    """
    return _guide_step(params, opt_state, model, check_key(key))


@documented(Plan, GradientDescent)
def train_backprop(
    model: Model | None = None,
    *,
    key: Array,
    initial_params: Any = None,
    progress: bool = False,
    checkpoint: str | PathLike | Checkpoint | None = None,
    callback: Callable[[Training], Any] | None = None,
    **settings: Any,
) -> Run:
    """Train the network of `model` by Adam on a gradient of the utility; the defaults are the guide's.

    Args:
        model: what is trained; `Model()` by default.
        key: random key; the same key gives the same run, whatever the chunk size.
        initial_params: start from these instead of `network.init`.
        progress: show a progress bar on stderr.
        checkpoint: a file to keep what is reached, and to go on from: see `lateral.Checkpoint`.
        callback: called with the `Training` after each chunk; training ends when it returns something true.
        **settings: settings of `lateral.training.schedule.Plan` (`n_epochs`, `learning_rate`, `noise_curriculum`,
            `dt_cycle`, `n_training_steps`, `check_every`, `patience`, `n_fresh`, `chunk_size`) and of
            `lateral.training.descent.GradientDescent` (`gradient`, `b2`, `clip_norm`, `n_batches`, `optimizer`).

    Returns:
        A `Run` whose history holds, for each epoch, `loss`, `utility` (hard, on the same replicates, hence biased
        upward), `alternation`, `gradient_norm` (before clipping), `learning_rate`, `noise_strength` and `dt`; for
        `Combination()` also `pathwise_share`, the weight of the pathwise gradient.

    Raises:
        TrainingDiverged: when the loss or its gradient is not finite, or no check is; its `run` holds the last good
            parameters.
        TrainingInterrupted: at Ctrl-C; its `run` is the run so far.

    Warns:
        TimeStepWarning: with `check_every`, if the objective of the parameters that are returned changes by more than
            0.02 at a quarter of the time step.
    """
    model = Model() if model is None else check_model(model)
    plan, algorithm = sort_settings(settings, Plan(), GradientDescent(), of="train_backprop")
    plan.check(model, algorithm)
    numbers = digest(plan.numbers(model, algorithm.optimizer)(np.arange(plan.n_epochs)))
    recorded_ = recorded(algorithm) | plan.recorded(algorithm.optimizer) | {"epochs": numbers}
    identity = identity_of(algorithm.method, model, key, initial_params, recorded_)
    kept = {"checkpoint": checkpoint, "callback": callback, "progress": progress}
    with Watch(plan.n_epochs, "epoch", identity, model, **kept) as watch:
        run = watch.finished or watch.finish(
            descend(model, plan, algorithm, watch, key=key, initial_params=initial_params)
        )
    if run.settings["fresh_objective"] is not None:
        warn_of_time_step(*run.settings["fresh_objective"], model.dt, stacklevel=3)
    return run
