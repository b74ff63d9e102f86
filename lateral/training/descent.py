"""Gradient descent as an algorithm: an estimator of the gradient, and Adam or any other optimiser of optax."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from lateral.fields import number, settings, size, value
from lateral.training.driver import first_parameters
from lateral.training.estimators import Pathwise, check_estimator

__all__ = ["GradientDescent", "check_optimizer", "make_adam", "update_of"]


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
