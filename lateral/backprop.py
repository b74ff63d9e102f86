"""Backpropagation: learn f by the gradient of a soft utility through the noisy simulation (notebook 05).

    params -> f(s̄) -> dynamics -> final states -> soft fates -> soft utility -> loss = -utility

The noise is drawn first and held fixed (the reparametrisation trick), so that the final states are a differentiable
function of the parameters; a fresh key each epoch makes the gradient a fresh unbiased sample of the gradient of
the expected soft utility at `n_replicates`.

`compute_loss` and `train_step` are the two functions of `BACKPROP_GUIDE.md`; `train_backprop` is the loop around
them with a history, learning-rate schedules, clipping, batches, a noise curriculum, and a stop that loses nothing.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from lateral._checks import check_choice, check_key, check_number, check_size
from lateral._progress import chunks, scan_chunk
from lateral.evaluation import fresh_objective, merit, warn_of_time_step
from lateral.gradients import ESTIMATORS, Combination, Pathwise, Score, loss_and_scores
from lateral.model import Model, check_model
from lateral.network import initial_parameters
from lateral.runs import Run

__all__ = [
    "NOISE_CURRICULA",
    "TrainingDiverged",
    "compute_loss",
    "make_train_step",
    "train_backprop",
    "train_step",
]

# Factor on the model's noise as a function of training progress in [0, 1).
NOISE_CURRICULA: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "guide": lambda progress: 1.0 + progress,
    "rising": lambda progress: progress,
    "falling": lambda progress: 3.0 - 2.0 * progress,
    "raised": lambda progress: 1.5,
    "cooling": lambda progress: max(1.0, 2.0 - progress / 0.75),
}


class TrainingDiverged(FloatingPointError):
    """The loss or its gradient was no longer finite.

    Attributes:
        run: the `Run` up to that epoch, with the last good parameters; nothing is lost.
        epoch: the epoch (from 0) at which it happened.
    """

    def __init__(self, message: str, run: Run, epoch: int):
        super().__init__(message)
        self.run = run
        self.epoch = epoch


def compute_loss(params: Any, model: Model, key: Array) -> Float[Array, ""]:
    """Negative soft utility, in bits per cell, of the patterns that the network with `params` makes.

    Args:
        params: parameters of `model.network`.
        model: tissue, network and relaxation; see `Model`.
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
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"optimizer must be an optax optimiser such as optax.adam(1e-3), got {optimizer!r}")
    gradient = _checked_estimator(gradient)

    @jax.jit
    def train_step(params, opt_state, model, key):
        grads, scores = gradient(params, model, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, scores["loss"]

    return train_step


def _checked_estimator(gradient):
    gradient = Pathwise() if gradient is None else gradient
    if not isinstance(gradient, tuple(ESTIMATORS.values())):
        names = ", ".join(f"{estimator.__name__}()" for estimator in ESTIMATORS.values())
        raise ValueError(f"gradient must be one of {names}, got {gradient!r}")
    return gradient


_guide_step = make_train_step(optax.adam(1e-3))


def train_step(params: Any, opt_state: Any, model: Model, key: Array) -> tuple[Any, Any, Array]:
    """One epoch of the guide: gradient of `compute_loss`, then Adam at learning rate 1e-3.

    `opt_state` starts as `optax.adam(1e-3).init(params)`. For any other optimiser, see `make_train_step`.
    """
    return _guide_step(params, opt_state, model, check_key(key))


def train_backprop(
    model: Model | None = None,
    *,
    key: Array,
    n_epochs: int = 500,
    learning_rate: float | Callable[[int], float] = 1e-3,
    b2: float = 0.999,
    clip_norm: float | None = None,
    n_batches: int = 1,
    n_training_steps: int | None = None,
    noise_curriculum: str = "constant",
    dt_cycle: tuple[float, ...] = (1.0,),
    gradient: Callable | None = None,
    optimizer: optax.GradientTransformation | None = None,
    initial_params: Any = None,
    check_every: int | None = None,
    patience: int | None = None,
    n_fresh: int = 4000,
    chunk_size: int = 25,
    progress: bool = False,
    warn: bool = True,
) -> Run:
    """Train the network of `model` by Adam on a gradient of the utility; the defaults are the guide's.

    Args:
        model: what is trained; `Model()` by default.
        key: random key; the same key gives the same run, whatever the chunk size.
        n_epochs: epochs, >= 1, each on fresh noise.
        learning_rate: Adam's step, > 0, or an optax schedule from epoch to step. Neither ever recompiles.
        b2: Adam's decay of the mean squared gradient, in [0, 1). Its memory is about 1 / (1 - b2) epochs.
        clip_norm: bound on the global norm of the gradient, > 0; None for none.
        n_batches: independent ensembles of `model.n_replicates` tissues, by vmap, whose losses are averaged.
        n_training_steps: time steps to simulate while training, at most `model.n_steps`; None for all of them. Over
            long simulations the gradient vanishes, since a tissue that has chosen its pattern no longer moves.
        noise_curriculum: how the noise changes over training, a factor on the model's:
            `"constant"` 1; `"guide"` 1 + epoch / n_epochs, the guide's formula; `"rising"` from 0 to 1;
            `"falling"` from 3 to 1; `"raised"` 1.5; `"cooling"` from 2 to 1 over three quarters, then 1.
        dt_cycle: factors on the time step, taken in turn from epoch to epoch. A rule that is trained at several time
            steps cannot exploit one. The number of steps stays, so that a shorter step simulates a shorter time.
        gradient: estimator of the gradient, `lateral.gradients.Pathwise()` by default, or any other of
            `lateral.gradients.ESTIMATORS`; a new decay or step does not recompile.
        optimizer: any optax optimiser instead of Adam; it brings its own learning rate and clipping.
        initial_params: start from these instead of `network.init`.
        check_every: score the parameters on fresh replicates after every so many epochs and at the end, and return the
            best of them instead of the last: by the hard objective at the time step or at a quarter of it, whichever is
            lower, less the difference. None returns the last parameters, unchecked.
        patience: stop when so many checks in a row brought nothing better; None for never.
        n_fresh: fresh replicates of each check, the same for all checks.
        chunk_size: epochs per jitted call; only the progress bar sees it.
        progress: show a progress bar on stderr.
        warn: False keeps back the `TimeStepWarning`, for runs of which most are dropped.

    Returns:
        A `Run` whose history holds, for each epoch, `loss`, `utility` (hard, on the same replicates, hence biased
        upward), `alternation`, `gradient_norm` (before clipping), `learning_rate` and `noise_strength`; for
        `Combination()` also `pathwise_share`, the weight of the pathwise gradient.

    Raises:
        TrainingDiverged: when the loss or its gradient is not finite; its `run` holds the last good parameters.

    Warns:
        TimeStepWarning: with `check_every`, if the objective of the parameters that are returned changes by more than
            0.02 at a quarter of the time step.
    """
    model = Model() if model is None else check_model(model)
    n_epochs = check_size("n_epochs", n_epochs)
    n_batches = check_size("n_batches", n_batches)
    chunk_size = check_size("chunk_size", chunk_size)
    n_training_steps = check_size("n_training_steps", model.n_steps if n_training_steps is None else n_training_steps)
    if n_training_steps > model.n_steps:
        raise ValueError(f"n_training_steps must be <= n_steps = {model.n_steps}, got {n_training_steps}")
    check_choice("noise_curriculum", noise_curriculum, NOISE_CURRICULA)
    if not isinstance(dt_cycle, (tuple, list)) or not dt_cycle:
        raise ValueError(f"dt_cycle must be a tuple of factors such as (1.0, 0.5), got {dt_cycle!r}")
    for i, factor in enumerate(dt_cycle):
        check_number(f"dt_cycle[{i}]", factor, above=0.0)
    n_fresh = check_size("n_fresh", n_fresh)
    if patience is not None:
        patience = check_size("patience", patience)
        if check_every is None:
            raise ValueError("patience counts the checks on fresh replicates: give check_every too")
    if check_every is not None:
        check_every = min(check_size("check_every", check_every), n_epochs)
        chunk_size = math.gcd(chunk_size, check_every)
    learning_rates = _learning_rates(learning_rate, n_epochs)
    rate_setting = "schedule" if callable(learning_rate) else float(learning_rate)
    check_number("b2", b2, minimum=0.0, maximum=0.999999)
    if clip_norm is not None:
        check_number("clip_norm", clip_norm, above=0.0)
    gradient = _checked_estimator(gradient)
    factor = NOISE_CURRICULA[noise_curriculum]
    noise = float(model.noise_strength) * np.array([factor(epoch / n_epochs) for epoch in range(n_epochs)])

    if isinstance(gradient, (Combination, Score)) and not noise.min() > 0.0:
        raise ValueError(f"the score estimator needs noise_strength > 0 in every epoch, got {noise.min():g}")
    init_key, run_key = jax.random.split(check_key(key))
    fresh_key = jax.random.fold_in(run_key, 2**31)  # no epoch has that number
    params = initial_parameters(model.network, init_key) if initial_params is None else initial_params
    params = first_params = jax.tree.map(lambda x: jnp.asarray(x, float), params)
    if optimizer is None:
        optimizer = make_adam(float(b2), clip_norm is not None)
    elif clip_norm is not None:
        raise ValueError("clip_norm goes with the built-in Adam; chain optax.clip_by_global_norm into your optimizer")
    else:
        learning_rates, rate_setting = np.ones(n_epochs), "of the optimizer"
    carry = (params, optimizer.init(params), params, jnp.array(True))
    training_model = dataclasses.replace(model, n_steps=n_training_steps)

    records, checks, best = [], [], None
    for epochs in chunks(n_epochs, chunk_size, progress, "epoch"):
        schedule = {
            "epoch": epochs,
            "learning_rate": np.asarray(learning_rates[epochs], np.float32),
            "noise_strength": np.asarray(noise[epochs], np.float32),
            "dt": np.asarray(float(model.dt) * np.take(dt_cycle, epochs % len(dt_cycle)), np.float32),
        }
        clip = jnp.asarray(clip_norm or 1.0, float)
        carry, record = run_epochs(
            carry, training_model, gradient, run_key, schedule, clip, optimizer=optimizer, n_batches=n_batches
        )
        good = np.asarray(record.pop("good"))
        records.append(jax.tree.map(lambda x, good=good: np.asarray(x)[good], record))
        if not carry[3]:
            break
        last = int(epochs.max())
        if check_every is not None and ((last + 1) % check_every == 0 or last + 1 == n_epochs):
            objective = fresh_objective(carry[0], model, fresh_key, n_fresh)
            checks.append(tuple(float(value) for value in objective))
            if best is None or merit(checks[-1]) > merit(checks[best[0]]):
                best = len(checks) - 1, carry[0]
            elif patience is not None and len(checks) - 1 - best[0] >= patience:
                break
    history = {name: np.concatenate([record[name] for record in records]) for name in records[0]}
    settings = {
        "n_epochs": n_epochs,
        "learning_rate": rate_setting,
        "b2": float(b2),
        "clip_norm": clip_norm,
        "n_batches": n_batches,
        "n_training_steps": n_training_steps,
        "noise_curriculum": noise_curriculum,
        "dt_cycle": [float(factor) for factor in dt_cycle],
        "gradient": {"estimator": type(gradient).__name__} | _numbers(gradient),
        "checks": checks,
        "fresh_objective": checks[best[0]] if best else None,
    }
    n_good = len(history["loss"])
    finite = bool(carry[3])
    per_simulation = model.n_replicates * model.n_cells * n_training_steps
    settings["cell_updates"] = gradient.n_simulations * n_batches * n_good * per_simulation + (
        # at the time step once, at a quarter of it four times
        5 * len(checks) * n_fresh * model.n_cells * model.n_steps
    )
    params = best[1] if best else carry[0] if finite else carry[2]
    run = Run(
        method="backprop",
        params=params,
        model=model,
        history=history,
        settings=settings,
        initial_params=first_params,
    )
    if not finite:
        raise TrainingDiverged(
            f"loss or gradient not finite at epoch {n_good} of {n_epochs}: lower learning_rate, set clip_norm=1.0 or "
            "bound the network with max_rate; the last good parameters are in the exception's .run",
            run,
            n_good,
        )
    if warn and best:
        warn_of_time_step(*settings["fresh_objective"], model.dt, stacklevel=3)
    return run


def _numbers(gradient) -> dict[str, float]:
    return {name: float(value) for name, value in dataclasses.asdict(gradient).items()}


@lru_cache
def make_adam(b2: float, clipped: bool) -> optax.GradientTransformation:
    """Adam whose learning rate and clipping norm are arguments of its update, so that neither recompiles."""
    adam = optax.scale_by_adam(b2=b2)

    def update(grads, state, params=None, *, learning_rate, clip_norm):
        if clipped:
            factor = jnp.minimum(1.0, clip_norm / jnp.maximum(optax.tree.norm(grads), 1e-30))
            grads = jax.tree.map(lambda g: factor * g, grads)
        updates, state = adam.update(grads, state, params)
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    return optax.GradientTransformationExtraArgs(adam.init, update)


def _learning_rates(learning_rate, n_epochs: int) -> np.ndarray:
    if callable(learning_rate):
        rates = np.array([float(learning_rate(epoch)) for epoch in range(n_epochs)])
    else:
        check_number("learning_rate", learning_rate, above=0.0)
        rates = np.full(n_epochs, float(learning_rate))
    if not (np.isfinite(rates) & (rates >= 0.0)).all():
        raise ValueError(
            f"learning_rate must be finite and >= 0 at every epoch, got {rates.min():g} to {rates.max():g}"
        )
    return rates


@partial(jax.jit, static_argnames=("optimizer", "n_batches"))
def run_epochs(carry, model, gradient, key, schedule, clip_norm, *, optimizer, n_batches):
    optimizer = optax.with_extra_args_support(optimizer)

    def mean_gradient(params, model, key):
        if n_batches == 1:
            return gradient(params, model, jax.random.split(key, 1)[0])
        batch = jax.vmap(gradient, in_axes=(None, None, 0))(params, model, jax.random.split(key, n_batches))
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), batch)

    def one_epoch(carry, now):
        params, opt_state, last_good, _ = carry
        noisy = dataclasses.replace(model, noise_strength=now["noise_strength"], dt=now["dt"])
        epoch_key = jax.random.fold_in(key, now["epoch"])
        grads, scores = mean_gradient(params, noisy, epoch_key)
        loss = scores["loss"]
        norm = optax.tree.norm(grads)
        updates, new_opt_state = optimizer.update(
            grads, opt_state, params, learning_rate=now["learning_rate"], clip_norm=clip_norm
        )
        good = jnp.isfinite(loss) & jnp.isfinite(norm)
        # A step that is not finite is not taken. The parameters that it started from may be at fault: the last good
        # ones are those of the epoch before, whose loss was finite.
        params, opt_state, last_good = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (optax.apply_updates(params, updates), new_opt_state, params),
            (params, opt_state, last_good),
        )
        record = {**scores, "gradient_norm": norm, "good": good}
        record |= {name: now[name] for name in ("learning_rate", "noise_strength")}
        return (params, opt_state, last_good, good), record

    return scan_chunk(one_epoch, carry, schedule, lambda carry, now: (now["epoch"] >= 0) & carry[3])
