"""Dynamics: a row of identical cells that see only the average of their neighbours (notebook 01).

Cell i has a state `s_i` in [0, 1] and sees `s̄_i`, the mean state of its neighbours. All cells follow one rule,

    ds_i = f(s̄_i) dt + σ dW_i,     clipped to [0, 1],

integrated by Euler–Maruyama. Time has no unit: it is measured in the time that a cell at unit rate needs from 0
to 1. `f` is any function from an array of neighbour means to rates of the same shape, built from `jax.numpy`.

`lateral.step` holds one step as plain as it can be written, `lateral.engine` computes many of them fast, and this file
is what users call. Public arrays are `(replicate, cell)`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral._checks import (
    check_boundary,
    check_callable,
    check_choice,
    check_key,
    check_number,
    check_range,
    check_real,
    check_size,
    check_unit_interval,
    is_traced,
)
from lateral._static import combine, partition
from lateral.engine import Tissue, advance, advance_refined
from lateral.network import N_KNOTS, Table, checked_rate, tabulate
from lateral.noise import ROUNDS, make_stream, pair, paired_uniform, unpair
from lateral.step import mean_of_neighbours

__all__ = ["START", "neighbour_mean", "run_multiple_replicates", "run_trajectories"]

START = (0.4, 0.6)


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
    return jnp.moveaxis(mean_of_neighbours(jnp.moveaxis(states, -1, 0), boundary, edge_value), 0, -1)


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
    n_knots: int | None = N_KNOTS,
    rounds: int = 13,
    recompute_every: int | None = None,
    first_replicate: ArrayLike = 0,
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
        n_knots: f is tabulated with so many knots, >= 2, and interpolated linearly, with an error of at most
            `max |f''| / (8 (n_knots - 1)²)`; a jump of f is smeared over one interval. None evaluates f in each step,
            which also allows forward-mode derivatives.
        rounds: of the noise generator, Threefry-2x32: 13, or 20 for the numbers of `jax.random` (`lateral.noise`).
        recompute_every: for gradients of long simulations: keep the states at every so many steps only, and simulate
            what lies between anew on the way back. Memory is least at about sqrt(n_steps). None keeps all states.
        first_replicate: number of the first replicate, even: replicates 100 to 149 of a larger ensemble are those
            with `n_replicates=50, first_replicate=100`.

    Returns:
        Final states in [0, 1], `(replicate, cell)`.

    Raises:
        ValueError: for a setting outside its range or arrays of wrong shape, before anything is traced.
    """
    return _run(**locals(), every=None)


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
    n_knots: int | None = N_KNOTS,
    rounds: int = 13,
    recompute_every: int | None = None,
    first_replicate: ArrayLike = 0,
    every: int = 1,
) -> Float[Array, "replicate time cell"]:
    """The same simulation as `run_multiple_replicates`, with the states on the way.

    Args:
        every: keep every so many steps; `n_steps` must be a multiple of it.

    All other arguments are those of `run_multiple_replicates`, and the last time of the result equals its result.

    Returns:
        States at times 0, every * dt, ..., n_steps * dt, shape `(replicate, n_steps // every + 1, cell)`.
    """
    return _run(**locals())


class _Sizes(NamedTuple):
    """Static settings of a simulation: a new value compiles once."""

    n_cells: int
    n_replicates: int
    n_steps: int
    boundary: str
    refine: int
    every: int | None
    n_knots: int | None
    rounds: int
    recompute_every: int | None


class _Numbers(NamedTuple):
    """Traced settings of a simulation: a new value never compiles."""

    tissue: Tissue
    start: tuple[Array, Array]
    first_replicate: ArrayLike


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
    n_knots,
    rounds,
    recompute_every,
    first_replicate,
    every,
) -> Array:
    """Check everything, then simulate; `every=None` keeps the final states only."""
    check_callable("f", f)
    n_cells, n_replicates = check_size("n_cells", n_cells), check_size("n_replicates", n_replicates)
    check_number("first_replicate", first_replicate, minimum=0.0)
    last = n_replicates
    if not is_traced(first_replicate):
        if first_replicate % 2:
            raise ValueError(f"first_replicate must be an even whole number >= 0, got {first_replicate:g}")
        last += int(first_replicate)
    if n_cells * (last + last % 2) >= 2**32:
        raise ValueError(f"n_cells * (first_replicate + n_replicates) must be below 2^32, got {n_cells * last}")
    n_steps = check_size("n_steps", n_steps)
    if every is not None and n_steps % check_size("every", every):
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
    if n_knots is not None:
        n_knots = check_size("n_knots", n_knots, 2)
    if recompute_every is not None:
        recompute_every = check_size("recompute_every", recompute_every)
    rounds = check_choice("rounds", rounds, ROUNDS)
    refine = check_size("refine", refine)
    sizes = _Sizes(n_cells, n_replicates, n_steps, boundary, refine, every, n_knots, rounds, recompute_every)
    tissue, start = jax.tree.map(_as_float, (Tissue(dt, noise_strength, edge_value), start))
    numbers = _Numbers(tissue, start, first_replicate)
    arrays, static = partition(f)
    return _simulate(arrays, check_key(key), numbers, initial_states, f=static, sizes=sizes)


def _as_float(x: ArrayLike):
    """One dtype for all numbers: 0 and 0.0 and numpy's 0.0 must not compile three times. NumPy's is quick to make."""
    return jnp.asarray(x, float) if isinstance(x, jax.Array) else np.asarray(x, jnp.result_type(float))


@partial(jax.jit, static_argnames=("f", "sizes"))
def _simulate(arrays, key, numbers, initial, *, f, sizes):
    """Final states `(replicate, cell)`, or with `every` the trajectory `(replicate, time, cell)`."""
    f = combine(arrays, f)
    if not isinstance(f, Table):
        f = checked_rate(f) if sizes.n_knots is None else tabulate(f, sizes.n_knots)
    first_pair = jnp.asarray(numbers.first_replicate).astype(jnp.uint32) // jnp.uint32(2)
    pairs, stream, bridge = begin(key, sizes.n_cells, sizes.n_replicates, numbers.start, sizes.rounds, first_pair)
    if initial is not None:
        pairs = pair(initial)
    move = partial(
        advance if sizes.refine == 1 else advance_refined,
        f,
        tissue=numbers.tissue,
        stream=stream,
        boundary=sizes.boundary,
        rounds=sizes.rounds,
        **({} if sizes.refine == 1 else {"bridge": bridge, "refine": sizes.refine}),
    )

    def states_of(pairs):
        return unpair(pairs).T[: sizes.n_replicates]

    if sizes.every is None:
        return states_of(_in_segments(move, pairs, jnp.uint32(0), sizes.n_steps, sizes.recompute_every))

    def keep(pairs, first_step):
        pairs = _in_segments(move, pairs, first_step, sizes.every, sizes.recompute_every)
        return pairs, states_of(pairs)

    first_steps = jnp.arange(0, sizes.n_steps, sizes.every, dtype=jnp.uint32)
    later = jax.lax.scan(keep, pairs, first_steps)[1]
    return jnp.moveaxis(jnp.concatenate([states_of(pairs)[None], later]), 0, 1)


def begin(key, n_cells, n_replicates, start, rounds, first_pair=0):
    """Initial states in pairs, the stream of the noise, and that of Brownian bridges."""
    start_key, noise_key, bridge_key = jax.random.split(key, 3)
    uniform = paired_uniform(make_stream(start_key, first_pair), n_cells, -(-n_replicates // 2), rounds)
    low, high = start
    dtype = jnp.result_type(float)
    initial = [low + (high - low) * half.astype(dtype) for half in (uniform.real, uniform.imag)]
    return jax.lax.complex(*initial), make_stream(noise_key, first_pair), make_stream(bridge_key, first_pair)


def _in_segments(move: Callable, pairs, first_step, n_steps: int, length: int | None):
    """All steps at once, or in segments that the backward pass simulates anew, to keep few states in memory."""
    if length is None or length >= n_steps:
        return move(pairs, first_step=first_step, n_steps=n_steps)

    def segment(n_steps, pairs, first_step):
        return move(pairs, first_step=first_step, n_steps=n_steps)

    n_segments, rest = divmod(n_steps, length)
    one = jax.checkpoint(partial(segment, length), prevent_cse=False)
    first_steps = first_step + jnp.arange(0, n_segments * length, length, dtype=jnp.uint32)
    pairs = jax.lax.scan(lambda pairs, first: (one(pairs, first), None), pairs, first_steps)[0]
    if rest:
        last_first = first_step + jnp.uint32(n_segments * length)
        pairs = jax.checkpoint(partial(segment, rest))(pairs, last_first)
    return pairs
