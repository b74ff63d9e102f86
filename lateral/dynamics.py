"""Dynamics: a row of identical cells that see only the average of their neighbours (notebook 01).

Cell i has a state `s_i` in [0, 1] and sees `s̄_i`, the mean state of its neighbours. All cells follow one rule,

    ds_i = f(s̄_i) dt + σ dW_i,     clipped to [0, 1],

integrated by Euler–Maruyama. Time has no unit: it is measured in the time that a cell at unit rate needs from 0
to 1. `f` is any function from an array of neighbour means to rates of the same shape, built from `jax.numpy`.

Public arrays are `(replicate, cell)`. Inside, they are `(cell, replicate)`, so that replicates lie next to each
other in memory and one step of all of them is a single fused loop.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral._checks import (
    check_boundary,
    check_callable,
    check_key,
    check_number,
    check_range,
    check_real,
    check_size,
    check_unit_interval,
)
from lateral._static import combine, partition
from lateral.noise import standard_normal

__all__ = ["START", "euler_maruyama_step", "neighbour_mean", "run_multiple_replicates", "run_trajectories"]

START = (0.4, 0.6)


def euler_maruyama_step(
    f: Callable,
    states: Float[Array, "cell replicate"],
    normals: Float[Array, "cell replicate"],
    dt: ArrayLike,
    noise_strength: ArrayLike,
    boundary: str = "free",
    edge_value: ArrayLike = 0.0,
) -> Float[Array, "cell replicate"]:
    """One step of the whole model: `s + f(s̄) dt + σ sqrt(dt) z`, clipped to [0, 1].

    `normals` are independent standard normal numbers z, one for each cell and replicate.
    """
    rates = f(_neighbour_mean(states, boundary, edge_value))
    moved = states + rates * dt + noise_strength * jnp.sqrt(dt) * normals
    return jnp.clip(moved, 0.0, 1.0)


def neighbour_mean(states: ArrayLike, boundary: str = "free", edge_value: ArrayLike = 0.0) -> Array:
    """Mean state of the neighbours of each cell.

    Args:
        states: states in [0, 1]; cells on the last axis, any number of axes before it.
        boundary: what the two edge cells see. `"free"`: their one neighbour; `"ring"` (3 cells or more): each
            other; `"pinned"`: a ghost neighbour of fixed state `edge_value` beyond each end.
        edge_value: state of the ghost neighbours, in [0, 1].

    A lone cell with free ends has no neighbour: nothing inhibits it, and it sees 0.

    Returns:
        An array of the shape of `states`.
    """
    states = check_real("states", states)
    if states.ndim < 1 or states.shape[-1] < 1:
        raise ValueError(f"states must have cells on the last axis, got shape {states.shape}")
    check_boundary(boundary, states.shape[-1])
    check_number("edge_value", edge_value, minimum=0.0, maximum=1.0)
    states = check_unit_interval("states", states).astype(float)
    return jnp.moveaxis(_neighbour_mean(jnp.moveaxis(states, -1, 0), boundary, edge_value), 0, -1)


def run_multiple_replicates(
    f: Callable,
    *,
    n_cells: int,
    n_replicates: int,
    n_steps: int,
    dt: ArrayLike,
    noise_strength: ArrayLike,
    key: Array,
    boundary: str = "free",
    edge_value: ArrayLike = 0.0,
    start: tuple = START,
    initial_states: ArrayLike | None = None,
    refine: int = 1,
) -> Float[Array, "replicate cell"]:
    """Simulate independent replicates of a tissue and return their final states.

    Args:
        f: regulatory function, from neighbour means (an array of any shape) to rates of the same shape. A
            closure, a `lateral` regulatory function, or any callable pytree. Calling again with the same `f`
            and sizes does not compile again. A closure is recognised by identity: what it has captured when it
            is first called stays.
        n_cells: cells in the row, N >= 1.
        n_replicates: independent tissues, R >= 1.
        n_steps: Euler–Maruyama steps, >= 1; the duration is T = n_steps * dt.
        dt: time step, > 0.
        noise_strength: σ >= 0, per square root of time. 0 is a deterministic tissue.
        key: random key, `jax.random.key(seed)`. A replicate's noise depends on the key and its own index only.
        boundary: `"free"`, `"ring"` (N >= 3) or `"pinned"`, see `neighbour_mean`.
        edge_value: state in [0, 1] of the ghost neighbours of a pinned row.
        start: the initial states are drawn uniformly between these two numbers in [0, 1].
        initial_states: `(cell,)` or `(replicate, cell)` in [0, 1], instead of `start`.
        refine: split each step into this many on the *same* Brownian path, to see what the time step does.

    Returns:
        Final states in [0, 1], `(replicate, cell)`.

    Raises:
        ValueError: for a setting outside its range or arrays of wrong shape, before anything is traced.
    """
    return _run(**locals(), every=None)[1][-1].T


def run_trajectories(
    f: Callable,
    *,
    n_cells: int,
    n_replicates: int,
    n_steps: int,
    dt: ArrayLike,
    noise_strength: ArrayLike,
    key: Array,
    boundary: str = "free",
    edge_value: ArrayLike = 0.0,
    start: tuple = START,
    initial_states: ArrayLike | None = None,
    refine: int = 1,
    every: int = 1,
) -> Float[Array, "replicate time cell"]:
    """The same simulation as `run_multiple_replicates`, with the states on the way.

    Args:
        every: keep every so many steps; `n_steps` must be a multiple of it.

    All other arguments are those of `run_multiple_replicates`, and the last time of the result equals its result.

    Returns:
        States at times 0, every * dt, ..., n_steps * dt, shape `(replicate, n_steps // every + 1, cell)`.
    """
    start_states, later = _run(**locals())
    return jnp.transpose(jnp.concatenate([start_states[None], later]), (2, 0, 1))


class _Sizes(NamedTuple):
    """Static settings of a simulation: a new value compiles once."""

    n_cells: int
    n_replicates: int
    n_steps: int
    boundary: str
    refine: int
    every: int


class _Numbers(NamedTuple):
    """Traced settings of a simulation: a new value never compiles."""

    dt: Array
    noise_strength: Array
    edge_value: Array
    start: tuple[Array, Array]


def _run(
    f,
    n_cells,
    n_replicates,
    n_steps,
    dt,
    noise_strength,
    key,
    boundary,
    edge_value,
    start,
    initial_states,
    refine,
    every,
) -> tuple[Float[Array, "cell replicate"], Float[Array, "time cell replicate"]]:
    """Check everything, then simulate; `every=None` keeps the final states only."""
    check_callable("f", f)
    n_cells, n_replicates = check_size("n_cells", n_cells), check_size("n_replicates", n_replicates)
    if n_cells * n_replicates >= 2**32:
        raise ValueError(f"n_cells * n_replicates must be below 2^32, got {n_cells * n_replicates}")
    n_steps = check_size("n_steps", n_steps)
    every = n_steps if every is None else check_size("every", every)
    if n_steps % every:
        raise ValueError(f"n_steps must be a multiple of every, got n_steps = {n_steps} and every = {every}")
    check_boundary(boundary, n_cells)
    check_number("dt", dt, above=0.0)
    check_number("noise_strength", noise_strength, minimum=0.0)
    check_number("edge_value", edge_value, minimum=0.0, maximum=1.0)
    start = check_range("start", start)
    if initial_states is not None:
        initial_states = check_real("initial_states", initial_states)
        shapes = [(n_cells,), (n_replicates, n_cells)]
        if initial_states.shape not in shapes:
            raise ValueError(
                f"initial_states must have shape {shapes[0]} or {shapes[1]}, got shape {initial_states.shape}"
            )
        check_unit_interval("initial_states", initial_states)
        initial_states = jnp.broadcast_to(initial_states, shapes[1]).T.astype(float)
    sizes = _Sizes(n_cells, n_replicates, n_steps, boundary, check_size("refine", refine), every)
    # One dtype for all numbers: 0 and 0.0 and numpy's 0.0 must not compile three times.
    numbers = jax.tree.map(lambda x: jnp.asarray(x, float), _Numbers(dt, noise_strength, edge_value, start))
    arrays, static = partition(f)
    return _simulate(arrays, check_key(key), numbers, initial_states, f=static, sizes=sizes)


@partial(jax.jit, static_argnames=("f", "sizes"))
def _simulate(arrays, key, numbers, initial, *, f, sizes):
    initial, advance = _prepare(combine(arrays, f), key, numbers, initial, sizes)

    def advance_and_keep(states, steps):
        states = jax.lax.scan(lambda s, step: (advance(s, step), None), states, steps)[0]
        return states, states

    steps = jnp.arange(sizes.n_steps, dtype=jnp.uint32).reshape(-1, sizes.every)
    return initial, jax.lax.scan(advance_and_keep, initial, steps)[1]


def _prepare(f, key, numbers, initial, sizes):
    """Initial states `(cell, replicate)` and the function that advances them by one step."""
    dt, noise_strength, edge_value, start = numbers
    n_cells, n_replicates, _, boundary, refine, _ = sizes
    rate = _checked_rate(f)
    start_key, noise_key, bridge_key = jax.random.split(key, 3)
    if initial is None:
        uniform = jax.random.uniform(start_key, (n_replicates, n_cells), dtype=jnp.float32).T.astype(float)
        initial = start[0] + (start[1] - start[0]) * uniform
    dtype = initial.dtype

    def normals(key, step):
        return standard_normal(key, step, n_cells, n_replicates).astype(dtype)

    def one_step(states, step):
        z = normals(noise_key, step)
        return euler_maruyama_step(rate, states, z, dt, noise_strength, boundary, edge_value)

    def refined_step(states, step):
        # Fine normals whose sum is sqrt(refine) times the coarse one (a Brownian bridge): with `left` of them to go
        # and a sum `remaining`, the next is remaining / left + sqrt(1 - 1 / left) e, and the last is what remains.
        # An inner scan, since the compiler would fuse the substeps and compute each neighbour again and again.
        def substep(states, z):
            return euler_maruyama_step(rate, states, z, dt / refine, noise_strength, boundary, edge_value)

        def bridge(carry, j):
            states, remaining = carry
            left = (refine - j).astype(dtype)
            e = normals(bridge_key, step * jnp.uint32(refine) + j)
            z = remaining / left + jnp.sqrt(1.0 - 1.0 / left) * e
            return (substep(states, z), remaining - z), None

        coarse = (states, math.sqrt(refine) * normals(noise_key, step))
        (states, remaining), _ = jax.lax.scan(bridge, coarse, jnp.arange(refine - 1, dtype=jnp.uint32))
        return substep(states, remaining)

    return initial, one_step if refine == 1 else refined_step


def _checked_rate(f: Callable) -> Callable:
    """`f` with its result held to the shape of its argument; a constant rate may be a single number."""

    def rate(neighbours):
        rates = jnp.asarray(f(neighbours))
        if rates.shape not in ((), neighbours.shape) or jnp.issubdtype(rates.dtype, jnp.complexfloating):
            raise ValueError(
                "f must return one real rate for each neighbour average: "
                f"for an argument of shape {neighbours.shape} it returned {rates.dtype}{list(rates.shape)}"
            )
        return rates.astype(neighbours.dtype)

    return rate


def _neighbour_mean(states, boundary, edge_value):
    """`neighbour_mean` with cells on the *first* axis and no checks."""
    n_cells = states.shape[0]
    if boundary == "free":
        if n_cells == 1:
            return jnp.zeros_like(states)
        left = jnp.concatenate([states[1:2], states[:-1]])
        right = jnp.concatenate([states[1:], states[-2:-1]])
    elif boundary == "ring":
        left, right = jnp.roll(states, 1, axis=0), jnp.roll(states, -1, axis=0)
    else:
        ghost = jnp.full_like(states[:1], edge_value)
        left = jnp.concatenate([ghost, states[:-1]])
        right = jnp.concatenate([states[1:], ghost])
    return 0.5 * (left + right)
