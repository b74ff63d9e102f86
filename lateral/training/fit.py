"""Warm starts: parameters with which a network comes close to a given rule."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from lateral.checks import check_key, check_number, check_size
from lateral.network import check_network, initial_parameters, tabulate
from lateral.training.descent import update_of

__all__ = ["check_fittable", "fit_network"]


def check_fittable(network: Any) -> None:
    """Refuse a network that can neither fit itself nor draw the parameters that a fit starts from."""
    if not any(callable(getattr(network, name, None)) for name in ("init", "fitted")):
        needed = "a method init(key) or fitted(f) to be fitted to a rule"
        raise ValueError(f"network needs {needed}; {type(network).__name__} has no init(key)")


def fit_network(network, f: Callable, *, key: Array, n_steps: int = 3000, learning_rate: float = 0.03) -> Any:
    """Parameters with which `network` comes close to the rule `f`: a warm start for the training functions.

    Least squares over 513 neighbour means from 0 to 1: by the network itself where it has a method `fitted(f)`, as
    `RBFNetwork` has, otherwise by Adam with a rate that falls to 0, from `network.init(key)`. A network cannot be
    closer than its kind allows: an odd one takes the odd part of f about 1/2.

    Args:
        network: anything with `apply(params, s̄)` and `init(key)`.
        f: rule, `f(s̄) -> rate`.
        key: random key of the initial parameters.
        n_steps: steps of Adam, >= 1.
        learning_rate: its step at the start, > 0.

    Raises:
        ValueError: for an f that is no rule (`lateral.rules`), and for a fit that is not finite.

    Example:
        params = fit_network(MLP(max_rate=5.0), DeadBand(0.12), key=jax.random.key(0))
        run = train_evolution(model, key=key, initial_params=params)
    """
    n_steps = check_size("n_steps", n_steps)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(check_number("learning_rate", learning_rate, above=0.0), n_steps)
    )
    check_fittable(check_network(network))
    if callable(getattr(network, "fitted", None)):
        return network.fitted(f)
    params = initial_parameters(network, check_key(key))
    target = tabulate(f).values
    neighbours = jnp.linspace(0.0, 1.0, target.size)

    @jax.jit
    def fit(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda p: jnp.mean((network.apply(p, neighbours) - target) ** 2))(params)
            updates, state = update_of(optimizer, gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=n_steps)[0][0]

    params = fit(params)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
        raise ValueError(f"the fit is not finite with learning_rate = {learning_rate:g}: lower it")
    return params
