"""Backpropagation: learn f by the gradient of a soft utility through the noisy simulation (notebook 05).

    params -> f(s̄) -> dynamics -> final states -> soft fates -> soft utility -> loss = -utility

The noise is drawn first and held fixed (the reparametrisation trick), so that the final states are a differentiable
function of the parameters; a fresh key each epoch makes the gradient a fresh unbiased sample of the gradient of
the expected soft utility at `n_replicates`.

`compute_loss` and `train_step` are the two functions of `BACKPROP_GUIDE.md`; `train_backprop` is the loop around
them with a history, learning-rate schedules, clipping, batches, a noise curriculum, and a stop that loses nothing.
The same loop follows any other estimator of the gradient (`lateral.training`): `gradient=Score()`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Array, Float

from lateral.checks import check_key
from lateral.evaluation import fresh_objective, merit, warn_of_time_step
from lateral.fields import documented, sort_settings
from lateral.model import Model, check_model, loss_and_scores
from lateral.runs import Run
from lateral.training.descent import GradientDescent, check_optimizer, update_of
from lateral.training.driver import Checks, Training, TrainingDiverged, advance_to
from lateral.training.estimators import Pathwise, check_estimator
from lateral.training.schedule import Plan

__all__ = ["compute_loss", "make_train_step", "train_backprop", "train_step"]


def compute_loss(params: Any, model: Model, key: Array) -> Float[Array, ""]:
    """Negative soft utility, in bits per cell, of the patterns that the network with `params` makes.

    Args:
        params: parameters of `model.network`.
        model: tissue, network, readout and objective; see `Model`.
        key: random key of the initial states and of the noise.
    """
    return loss_and_scores(params, model, check_key(key))[0]


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
    warn: bool = True,
    **settings: Any,
) -> Run:
    """Train the network of `model` by Adam on a gradient of the utility; the defaults are the guide's.

    Args:
        model: what is trained; `Model()` by default.
        key: random key; the same key gives the same run, whatever the chunk size.
        initial_params: start from these instead of `network.init`.
        progress: show a progress bar on stderr.
        warn: False keeps back the `TimeStepWarning`, for runs of which most are dropped.
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

    Warns:
        TimeStepWarning: with `check_every`, if the objective of the parameters that are returned changes by more than
            0.02 at a quarter of the time step.
    """
    model = Model() if model is None else check_model(model)
    plan, algorithm = sort_settings(settings, Plan(), GradientDescent(), of="train_backprop")
    plan.check(model, algorithm)
    numbers, training_model = plan.numbers(model, algorithm.optimizer), plan.training_model(model)
    init_key, run_key = jax.random.split(check_key(key))
    state = algorithm.init(model.network, init_key, initial_params)
    training, checks = Training(algorithm, training_model, state, run_key), None
    if plan.check_every is not None:
        fresh_key = jax.random.fold_in(run_key, 2**31)  # no epoch has that number
        checks = Checks(
            lambda params: fresh_objective(params, model, fresh_key, plan.n_fresh), plan.check_interval, plan.patience
        )
    advance_to(training, plan.n_epochs, numbers=numbers, chunk_size=plan.chunk, checks=checks, progress=progress)
    run = _run_of(training, model, plan, checks)
    if not training.finite:
        raise TrainingDiverged(
            f"loss or gradient not finite at epoch {training.n_done} of {plan.n_epochs}: lower learning_rate, set "
            "clip_norm=1.0 or bound the network with max_rate; the last good parameters are in the exception's .run",
            run,
            training.n_done,
        )
    if checks is not None and merit(checks.fresh_objective) == -math.inf:
        raise TrainingDiverged(
            "no check on fresh replicates gave a finite objective: bound the network with max_rate",
            run,
            training.n_done,
        )
    if warn and checks is not None:
        warn_of_time_step(*checks.fresh_objective, model.dt, stacklevel=3)
    return run


def _run_of(training: Training, model: Model, plan: Plan, checks: Checks | None) -> Run:
    algorithm, done = training.algorithm, [] if checks is None else checks.done
    work = training.n_done * algorithm.work(training.model) + (
        # at the time step once, at a quarter of it four times
        5 * len(done) * model.changed(n_replicates=plan.n_fresh).cell_updates
    )
    settings = plan.recorded(algorithm.optimizer) | {"n_training_steps": training.model.n_steps, "cell_updates": work}
    settings |= {"checks": done, "fresh_objective": checks.fresh_objective if done else None}
    return training.run(settings, params=checks.best_params if done else None, model=model)
