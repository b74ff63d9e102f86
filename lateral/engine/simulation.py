"""Simulations by any engine: checks, segments that are computed anew on the way back, and states on the way."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import (
    LARGEST_SIZE,
    check_callable,
    check_key,
    check_kind,
    check_number,
    check_real,
    check_size,
    check_unit_interval,
    is_traced,
)
from lateral.engine.protocol import Numerics, engine_of, evaluated, prepare_rule
from lateral.static import combine, joined, partition
from lateral.threads import in_threads, n_shares
from lateral.tissue import Tissue

__all__ = ["run_engine", "simulate", "size_of_share"]

LEAST_WIDTH = 7_000  # cells of all its replicates, which a thread computes side by side, from which on it pays


def simulate(
    f: Callable,
    tissue: Tissue,
    *,
    n_replicates: int,
    key: Array,
    numerics: Numerics | None = None,
    initial_states: ArrayLike | None = None,
    refine: int = 1,
    first_replicate: ArrayLike = 0,
    every: int | None = None,
) -> Array:
    """States of independent replicates of a tissue whose cells follow `f`.

    The arguments are those of `lateral.run_multiple_replicates`.

    Returns:
        Final states `(replicate, cell)`, or with `every` the states at every so many steps from the start on,
        `(replicate, time, cell)`.
    """
    check_callable("f", f)
    check_kind("tissue", tissue, Tissue)
    numerics = Numerics() if numerics is None else check_kind("numerics", numerics, Numerics)
    n_replicates, refine = check_size("n_replicates", n_replicates), check_size("refine", refine)
    first_replicate = _check_addresses(tissue.n_cells, n_replicates, first_replicate)
    if tissue.n_steps * refine > LARGEST_SIZE:
        raise ValueError(f"n_steps * refine must be below 2^31, got {tissue.n_steps * refine}")
    if every is not None and tissue.n_steps % check_size("every", every):
        raise ValueError(f"n_steps must be a multiple of every, got n_steps = {tissue.n_steps} and every = {every}")
    if initial_states is not None:
        initial_states = _check_initial(initial_states, n_replicates, tissue.n_cells)
    key = check_key(key)
    arrays, static = partition(evaluated(f, numerics.n_knots))
    numbers, of_tissue = partition(tissue)
    dtype = jnp.result_type(float)
    numbers = [_as_float(x, dtype) for x in numbers]
    sizes = dict(f=static, tissue=of_tissue, numerics=numerics, refine=refine, every=every)
    traced = any(map(is_traced, [*arrays, key, *numbers, initial_states, first_replicate]))
    size = n_replicates if traced else size_of_share(tissue, n_replicates, refine)

    def share(start: int) -> Array:
        initial = None if initial_states is None else _rows(initial_states, start, size)
        return run_engine(arrays, key, numbers, initial, first_replicate + np.uint32(start), n_replicates=size, **sizes)

    if size == n_replicates:
        return run_engine(arrays, key, numbers, initial_states, first_replicate, n_replicates=size, **sizes)
    return joined(in_threads([partial(share, start) for start in range(0, n_replicates, size)]), n_replicates)


def size_of_share(tissue: Tissue, n_replicates: int, refine: int) -> int:
    """Replicates that one thread simulates: all of them where there is one thread, or too little work for two."""
    width = n_replicates * tissue.n_cells
    n_parts = max(1, min(n_shares(width * tissue.n_steps * refine), width // LEAST_WIDTH))
    size = -(-n_replicates // n_parts)
    return n_replicates if n_parts == 1 else size + size % 2  # an even replicate begins each


def _rows(states: Array, start: int, size: int) -> Array:
    """Some rows; those beyond the last are the last."""
    return states[np.minimum(np.arange(start, start + size), len(states) - 1)]


@partial(jax.jit, static_argnames=("f", "tissue", "numerics", "n_replicates", "refine", "every"))
def run_engine(
    arrays, key, numbers, initial_states, first_replicate, *, f, tissue, numerics, n_replicates, refine, every
):
    """`simulate` without its checks; the size of its cache tells how often something was compiled."""
    engine, f = engine_of(numerics), prepare_rule(combine(arrays, f), numerics.n_knots)
    tissue = combine(numbers, tissue)
    start = engine.begin(key, tissue, numerics.rounds, n_replicates, first_replicate, initial_states)

    def advance(now, first_step, n_steps):
        return engine.advance(f, now, tissue, numerics.rounds, first_step, n_steps, refine)

    if every is None:
        end = _in_segments(advance, start, jnp.uint32(0), tissue.n_steps, numerics.recompute_every)
        return engine.states(end, n_replicates)

    def keep(now, first_step):
        now = _in_segments(advance, now, first_step, every, numerics.recompute_every)
        return now, engine.states(now, n_replicates)

    first_steps = jnp.arange(0, tissue.n_steps, every, dtype=jnp.uint32)
    later = jax.lax.scan(keep, start, first_steps)[1]
    return jnp.moveaxis(jnp.concatenate([engine.states(start, n_replicates)[None], later]), 0, 1)


def _in_segments(advance: Callable, now: Any, first_step, n_steps: int, length: int | None):
    """All steps at once, or in segments that the backward pass simulates anew, to keep few states in memory."""
    if length is None or length >= n_steps:
        return advance(now, first_step, n_steps)
    n_segments, rest = divmod(n_steps, length)
    one = jax.checkpoint(lambda now, first: advance(now, first, length), prevent_cse=False)
    first_steps = first_step + jnp.arange(0, n_segments * length, length, dtype=jnp.uint32)
    now = jax.lax.scan(lambda now, first: (one(now, first), None), now, first_steps)[0]
    if rest:
        last_first = first_step + jnp.uint32(n_segments * length)
        now = jax.checkpoint(lambda now, first: advance(now, first, rest))(now, last_first)
    return now


def _check_addresses(n_cells: int, n_replicates: int, first_replicate) -> ArrayLike:
    """The first replicate. The noise of each needs an address of 32 bits, and two replicates share one block."""
    check_number("first_replicate", first_replicate, minimum=0.0)
    known = not is_traced(first_replicate)
    if known and first_replicate % 2:
        raise ValueError(f"first_replicate must be an even whole number >= 0, got {first_replicate:g}")
    last = n_replicates + (int(first_replicate) if known else 0)
    if n_cells * (last + last % 2) >= 2**32:
        raise ValueError(f"n_cells * (first_replicate + n_replicates) must be below 2^32, got {n_cells * last}")
    return np.uint32(first_replicate) if known else first_replicate


def _check_initial(states, n_replicates: int, n_cells: int) -> Array:
    states = check_real("initial_states", states)
    shapes = [(n_cells,), (n_replicates, n_cells)]
    if states.shape not in shapes:
        raise ValueError(f"initial_states must have shape {shapes[0]} or {shapes[1]}, got shape {states.shape}")
    check_unit_interval("initial_states", states)
    return jnp.broadcast_to(states, shapes[1]).astype(float)


def _as_float(x, dtype):
    """One dtype for all numbers: 0 and 0.0 and numpy's 0.0 must not compile three times. NumPy's is quick to make."""
    if type(x) in (float, int):
        return np.asarray(x, dtype)
    if np.ndim(x):
        return x
    return jnp.asarray(x, dtype) if is_traced(x) else np.asarray(x, dtype)
