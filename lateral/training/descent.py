"""Gradient descent as an algorithm: an estimator of the gradient, and Adam or any other optimiser of optax."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import check_key
from lateral.evaluation import fresh_objective, fresh_work, merit
from lateral.fields import number, settings, size, value
from lateral.model import Model
from lateral.runs import Run
from lateral.training.driver import Training, TrainingDiverged, advance_to, first_parameters
from lateral.training.estimators import Pathwise, check_estimator
from lateral.training.fresh import Checks
from lateral.training.schedule import Plan
from lateral.training.watch import Watch

__all__ = ["GradientDescent", "check_optimizer", "descend", "make_adam", "update_of"]


def check_optimizer(name: str, optimizer):
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"{name} must be an optax optimiser such as optax.adam(1e-3), got {optimizer!r}")
    return optimizer


@settings
class GradientDescent:
    """Steps of Adam along an estimated gradient of the objective."""

    gradient: Callable = value(
        help="estimator of the gradient, one of `training.estimators.ESTIMATORS`: `Pathwise()`, `Score()`, ...; "
        "a new decay or step does not recompile",
        check=check_estimator,
        factory=Pathwise,
    )
    learning_rate: ArrayLike = number(1e-3, "Adam's step", above=0.0)
    b2: float = number(
        0.999,
        "Adam's decay of the mean squared gradient. Its memory is about 1 / (1 - b2) epochs",
        minimum=0.0,
        maximum=0.999999,
        static=True,
    )
    clip_norm: ArrayLike | None = number(
        None, "bound on the global norm of the gradient; None for none", above=0.0, optional=True
    )
    n_batches: int = size(1, "independent ensembles of `n_replicates` tissues, by vmap, whose losses are averaged")
    optimizer: Any = value(
        None,
        "any optax optimiser instead of Adam; it brings its own learning rate and clipping",
        check_optimizer,
        static=True,
        recorded=False,
    )

    unit = "epoch"
    steered = "learning_rate"

    def check_together(self):
        if self.optimizer is not None and self.clip_norm is not None:
            raise ValueError(
                "clip_norm goes with the built-in Adam; chain optax.clip_by_global_norm into your optimizer"
            )

    @property
    def method(self) -> str:
        return getattr(self.gradient, "method", type(self.gradient).__name__)

    def init(self, network, key, params=None):
        params = first_parameters(network, key, params)
        return params, self._optimizer().init(params)

    def step(self, state, model, key):
        params, opt_state = state
        keys = jax.random.split(key, self.n_batches)
        if self.n_batches == 1:
            gradient, scores = self.gradient(params, model, keys[0])
        else:
            batch = jax.vmap(self.gradient, in_axes=(None, None, 0))(params, model, keys)
            gradient, scores = jax.tree.map(lambda x: jnp.mean(x, axis=0), batch)
        numbers = {"learning_rate": self.learning_rate, "clip_norm": self.clip_norm}
        optimizer = optax.with_extra_args_support(self._optimizer())
        updates, opt_state = update_of(optimizer, gradient, opt_state, params, **numbers)
        record = {**scores, "gradient_norm": optax.tree.norm(gradient)}
        return (optax.apply_updates(params, updates), opt_state), record

    def params(self, state):
        return state[0]

    def work(self, model):
        return self.gradient.n_simulations * self.n_batches * model.cell_updates

    def _optimizer(self):
        return self.optimizer or make_adam(float(self.b2), self.clip_norm is not None)


def update_of(optimizer: optax.GradientTransformation, gradient: Any, state: Any, params: Any, **numbers) -> tuple:
    """The update of an optimiser of optax and its next state.

    Optax takes a float to the power of a whole number, which JAX's strict promotion of dtypes refuses.
    """
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(gradient, state, params, **numbers)


@lru_cache
def make_adam(b2: float, clipped: bool) -> optax.GradientTransformation:
    """Adam whose learning rate and clipping norm are arguments of its update, so that neither recompiles."""
    adam = optax.scale_by_adam(b2=b2)

    def update(grads, state, params=None, *, learning_rate, clip_norm):
        if clipped:
            factor = jnp.minimum(1.0, clip_norm / jnp.maximum(optax.tree.norm(grads), 1e-30))
            grads = jax.tree.map(lambda g: factor * g, grads)
        updates, state = update_of(adam, grads, state, params)
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    return optax.GradientTransformationExtraArgs(adam.init, update)


def descend(
    model: Model,
    plan: Plan,
    algorithm: GradientDescent,
    watch: Watch,
    *,
    key: Array,
    initial_params: Any = None,
    part: str = "training",
) -> Run:
    """One training by gradient, as a part of what `watch` has in hand; see `train_backprop`."""
    numbers, training_model = plan.numbers(model, algorithm.optimizer), plan.training_model(model)
    init_key, run_key = jax.random.split(check_key(key))
    state = algorithm.init(model.network, init_key, initial_params)
    training, checks = Training(algorithm, training_model, state, run_key), None
    if plan.check_every is not None:
        fresh_key = jax.random.fold_in(run_key, 2**31)  # no epoch has that number
        checks = Checks(
            lambda params: fresh_objective(params, model, fresh_key, plan.n_fresh), plan.check_interval, plan.patience
        )

    def so_far() -> Run:
        return _run_of(training, model, plan, checks)

    beside = {"watch": watch, "part": part, "so_far": so_far, "checks": checks}
    advance_to(training, plan.n_epochs, numbers=numbers, chunk_size=plan.chunk, **beside)
    if not training.finite:
        raise TrainingDiverged(
            f"loss or gradient not finite at epoch {training.n_done} of {plan.n_epochs}: lower learning_rate, set "
            "clip_norm=1.0 or bound the network with max_rate; the last good parameters are in the exception's .run",
            so_far(),
            training.n_done,
        )
    if checks is not None and checks.at.done and merit(checks.fresh_objective) == -math.inf:
        raise TrainingDiverged(
            "no check on fresh replicates gave a finite objective: bound the network with max_rate",
            so_far(),
            training.n_done,
        )
    return so_far()


def _run_of(training: Training, model: Model, plan: Plan, checks: Checks | None) -> Run:
    algorithm, done = training.algorithm, [] if checks is None else list(checks.at.done)
    work = training.work + len(done) * fresh_work(model, plan.n_fresh)
    settings = plan.recorded(algorithm.optimizer) | {"n_training_steps": training.model.n_steps, "cell_updates": work}
    settings |= {"checks": done, "fresh_objective": checks.fresh_objective if done else None}
    return training.run(settings, params=checks.at.best_params if done else None, model=model)
