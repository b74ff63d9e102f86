"""The fast engine: pairs of replicates, f as a table, and a backward pass of its own.

It computes what a loop over `lateral.tissue.euler_maruyama_step` computes. Three things make it fast (`make bench`):

- *Replicates in pairs.* One block of Threefry gives two words, and Box–Muller makes two normal numbers of them. A pair
  of replicates is stored as one complex number, so that one fused loop writes both.
- *f as a table.* f is a function of one number in [0, 1]. Tabulated once per simulation, it costs the same for any
  network, and the gradient runs through the network once instead of once for each cell and step.
- *A backward pass of its own.* The forward pass keeps one number for each state, the one before clipping, and the
  backward pass computes the rest from it: 4 bytes for each replicate, cell and step, where autodiff of the plain step
  keeps 32 with a table and more with a network. The result is that of autodiff, whose rules it writes out.

The noise is addressed by (key, step, cell, replicate), so that any order of computation gives the same tissue.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex

from lateral.engine.noise import Stream, make_stream, pair, paired_normal, paired_uniform, unpair
from lateral.network import Table, locate, take
from lateral.static import combine, partition

__all__ = ["TableEngine"]

Pairs = Complex[Array, "cell pair"]


class _Now(NamedTuple):
    pairs: Pairs
    noise: Stream
    bridge: Stream


class TableEngine:
    """Pairs of replicates and a table for f. Another f is evaluated in each step, and differentiated by autodiff."""

    def begin(self, key, tissue, rounds, n_replicates, first_replicate=0, initial_states=None):
        first_pair = jnp.asarray(first_replicate).astype(jnp.uint32) // jnp.uint32(2)
        start_key, noise_key, bridge_key = jax.random.split(key, 3)
        if initial_states is None:
            uniform = paired_uniform(make_stream(start_key, first_pair), tissue.n_cells, -(-n_replicates // 2), rounds)
            low, high = tissue.start
            dtype = jnp.result_type(float)
            pairs = jax.lax.complex(*(low + (high - low) * half.astype(dtype) for half in (uniform.real, uniform.imag)))
        else:
            pairs = pair(initial_states.T)
        return _Now(pairs, make_stream(noise_key, first_pair), make_stream(bridge_key, first_pair))

    def advance(self, f, now, tissue, rounds, first_step, n_steps, refine=1):
        if refine > 1:
            return now._replace(pairs=_advance_refined(f, now, tissue, rounds, first_step, n_steps, refine))
        if not isinstance(f, Table):
            return now._replace(pairs=_advance_rule(f, now, tissue, rounds, first_step, n_steps))
        arrays, geometry = partition(tissue.geometry)
        halves = _advance_table(
            (n_steps, geometry, rounds),
            tissue.dt * f.values,
            (now.pairs.real, now.pairs.imag),
            tissue.noise_scale,
            tissue.geometry.offset(),
            arrays,
            now.noise,
            first_step,
        )
        return now._replace(pairs=jax.lax.complex(*halves))

    def states(self, now, n_replicates):
        return unpair(now.pairs).T[:n_replicates]

    def accumulate_score(self, table, start, tissue, rounds, advantages):
        chunk_steps = tissue.n_steps // advantages.shape[0]
        advantages = pair(jnp.pad(advantages, ((0, 0), (0, advantages.shape[1] % 2))))
        scale, increments = tissue.noise_scale, tissue.dt * table.values
        drift, neighbours_of = _lookup(increments), _seen(tissue.geometry)

        # The normals are drawn one step ahead: else the compiler would draw them for each of their three uses.
        def step(carry, number):
            pairs, neighbours, normals, table, advantage = carry
            for half in (jnp.real, jnp.imag):
                weights, seen = half(advantage)[None] * half(normals), half(neighbours)
                table = table + _to_knots(weights, *locate(increments, seen), increments)
            pairs = _clip(_move(drift, pairs, neighbours, _times(scale, normals)))
            later = _normals(start.noise, number + jnp.uint32(1), pairs, rounds)
            return (pairs, neighbours_of(pairs), later, table, advantage), None

        def chunk(carry, first_step_and_advantage):
            first_step, advantage = first_step_and_advantage
            return jax.lax.scan(step, (*carry, advantage), _numbers(first_step, chunk_steps))[0][:4], None

        first_steps = jnp.arange(advantages.shape[0], dtype=jnp.uint32) * jnp.uint32(chunk_steps)
        carry = (start.pairs, neighbours_of(start.pairs), _normals(start.noise, jnp.uint32(0), start.pairs, rounds))
        no_table = jnp.zeros(increments.shape, start.pairs.dtype)
        both = jax.lax.scan(chunk, (*carry, no_table), (first_steps, advantages))[0][3]
        return Table(jnp.sqrt(tissue.dt) / tissue.noise_strength * _at_knots(both))


def _advance_rule(f, now, tissue, rounds, first_step, n_steps) -> Pairs:
    """By any f. Autodiff keeps the states and computes each step again on the way back."""
    scale, drift, neighbours_of = tissue.noise_scale, _drift(f, tissue.dt), _seen(tissue.geometry)

    def step(pairs, number):
        noise = _times(scale, _normals(now.noise, number, pairs, rounds))
        return _clip(_move(drift, pairs, neighbours_of(pairs), noise)), None

    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), now.pairs, _numbers(first_step, n_steps))[0]


def _advance_refined(f, now, tissue, rounds, first_step, n_steps, refine) -> Pairs:
    """With each step split into `refine` on the same Brownian path, by any f."""
    drift, scale = _drift(f, tissue.dt / refine), tissue.noise_scale / math.sqrt(refine)
    neighbours_of = _seen(tissue.geometry)

    def step(carry, number):
        # Fine normals whose sum is sqrt(refine) times the coarse one (a Brownian bridge): with `left` of them to go
        # and a sum `remaining`, the next is remaining / left + sqrt(1 - 1 / left) e, and the last is what remains.
        # A loop also for two substeps, and e drawn one ahead: else the compiler would draw it for each of its uses.
        def substep(carry, j):
            pairs, neighbours, remaining, e = carry
            left = (refine - j).astype(pairs.real.dtype)
            z = _both(lambda r, e: r / left + jnp.sqrt(1.0 - 1.0 / left) * e, remaining, e)
            pairs = _clip(_move(drift, pairs, neighbours, _times(scale, z)))
            later = _normals(now.bridge, number * jnp.uint32(refine) + j + jnp.uint32(1), pairs, rounds)
            return (pairs, neighbours_of(pairs), remaining - z, later), None

        coarse = math.sqrt(refine) * _normals(now.noise, number, carry[0], rounds)
        carry = (*carry, coarse, _normals(now.bridge, number * jnp.uint32(refine), coarse, rounds))
        return jax.lax.scan(substep, carry, jnp.arange(refine, dtype=jnp.uint32))[0][:2], None

    carry = (now.pairs, neighbours_of(now.pairs))
    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), carry, _numbers(first_step, n_steps))[0][0]


def _seen(geometry) -> Callable:
    """Neighbour means of pairs."""
    return partial(_neighbour_means, geometry, _for_both(geometry.offset()))


def _for_both(offset):
    return None if offset is None else jax.lax.complex(offset, offset)


def _neighbour_means(geometry, offset, states):
    seen = geometry.linear(states)
    return seen if offset is None else seen + offset[:, None]


def _numbers(first_step, n_steps):
    return jnp.asarray(first_step, jnp.uint32) + jnp.arange(n_steps, dtype=jnp.uint32)


@partial(jax.jit, static_argnames="rounds")  # traced once for all loops that draw
def _normals(stream, number, pairs, rounds) -> Pairs:
    return paired_normal(stream, number, *pairs.shape, rounds)


def _times(number, pairs: Pairs) -> Pairs:
    """A real number times pairs, also where JAX refuses to promote dtypes."""
    return number.astype(pairs.dtype) * pairs


def _both(function: Callable, *arrays: Pairs) -> Pairs:
    """A function of real arrays on both replicates of each pair."""
    return jax.lax.complex(function(*(x.real for x in arrays)), function(*(x.imag for x in arrays)))


def _move(drift, pairs, neighbours, noise) -> Pairs:
    """One Euler–Maruyama step before clipping."""
    return _both(lambda s, x, z: s + drift(x) + z, pairs, neighbours, noise)


def _clip(pairs) -> Pairs:
    return _both(_clip_states, pairs)


def _clip_states(states):
    return jnp.clip(states, 0.0, 1.0)


def _drift(f: Callable, dt) -> Callable:
    """f(s̄) dt as a function of s̄. A table is multiplied once instead of in each step."""
    return _lookup(dt * f.values) if isinstance(f, Table) else lambda neighbours: f(neighbours) * dt


def _lookup(values) -> Callable:
    """Linear interpolation. The rises between knots are an array of their own: two look-ups at the same place."""
    rises = values[1:] - values[:-1]

    def interpolate(neighbours):
        knot, weight = locate(values, neighbours)
        return take(values, knot) + weight * take(rises, knot)

    return interpolate


def _to_knots(cotangents, knot, weight, values):
    """The transpose of `_lookup`, in one pass: cotangents of looked-up values, added up for the knots on either side.

    The real part is for the knot itself, the imaginary part for the next one; `_at_knots` adds the two.
    """
    to_next = weight * cotangents
    both = jax.lax.complex(cotangents - to_next, to_next)
    return jnp.zeros(values.shape, both.dtype).at[knot].add(both, mode="promise_in_bounds", wrap_negative_indices=False)


def _at_knots(table):
    return table.real + jnp.roll(table.imag, 1)  # the last knot has no next: nothing wraps around


# --- f as a table: a backward pass of its own


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _advance_table(sizes, increments, halves, scale, offset, arrays, stream, first_step):
    """`increments` is the table of f(s̄) dt, `sizes` the number of steps, the geometry less its arrays, the rounds."""
    n_steps, geometry, rounds = sizes
    drift, neighbours_of = _lookup(increments), partial(_neighbour_means, combine(arrays, geometry), _for_both(offset))

    # The neighbour means are carried along: computed from finished states, they are not fused with the look-up.
    def step(carry, number):
        pairs, neighbours = carry
        noise = _times(scale, _normals(stream, number, pairs, rounds))
        pairs = _clip(_move(drift, pairs, neighbours, noise))
        return (pairs, neighbours_of(pairs)), None

    pairs = jax.lax.complex(*halves)
    carry = (pairs, neighbours_of(pairs))
    (pairs, _), _ = jax.lax.scan(step, carry, _numbers(first_step, n_steps))
    return pairs.real, pairs.imag


def _advance_table_forward(sizes, increments, halves, scale, offset, arrays, stream, first_step):
    """The same, keeping the states before clipping: they tell the states, and where the gradient stops."""
    n_steps, geometry, rounds = sizes
    drift, neighbours_of = _lookup(increments), partial(_neighbour_means, combine(arrays, geometry), _for_both(offset))

    def step(unclipped, number):
        pairs = _clip(unclipped)
        noise = _times(scale, _normals(stream, number, pairs, rounds))
        return _move(drift, pairs, neighbours_of(pairs), noise), unclipped

    last, history = jax.lax.scan(step, jax.lax.complex(*halves), _numbers(first_step, n_steps))
    pairs = _clip(last)
    return (pairs.real, pairs.imag), (increments, history, last, offset, arrays, stream, first_step)


def _advance_table_backward(sizes, residuals, cotangents):
    """Reverse-mode rules of `s' = clip(s + f(s̄) dt + σ sqrt(dt) z)` with f dt a table, written out.

    The cotangent of f(s̄) dt goes to the two knots on either side of s̄ with the weights of the interpolation, and on
    to s̄ with the slope between them. `of_neighbours`, the cotangent of s̄, is handed to the neighbours at the start of
    the next iteration instead of the end of this one: a stencil of an array in memory is cheap, while a stencil of one
    that is being computed would compute it again for each of its terms.
    """
    n_steps, geometry, rounds = sizes
    increments, history, last, offset, arrays, stream, first_step = residuals
    geometry = combine(arrays, geometry)
    slopes = (increments[1:] - increments[:-1]) * (increments.shape[0] - 1)

    def side_by_side(pairs):
        return jnp.concatenate([pairs.real, pairs.imag], axis=1)

    def step(carry, history_and_number):
        cotangent, of_neighbours, after, table, of_scale, of_offset = carry
        pairs, number = history_and_number
        before = side_by_side(pairs)
        cotangent = cotangent + geometry.transpose(of_neighbours)
        (cotangent,) = jax.vjp(_clip_states, after)[1](cotangent)
        knot, weight = locate(increments, _neighbour_means(geometry, offset, _clip_states(before)))
        table = table + _to_knots(cotangent, knot, weight, increments)
        of_neighbours = cotangent * take(slopes, knot)
        # The compiler removes what the caller does not differentiate by, and then draws no noise.
        of_scale = of_scale + jnp.sum(cotangent * side_by_side(_normals(stream, number, pairs, rounds)))
        if offset is not None:
            of_offset = of_offset + jnp.sum(of_neighbours, axis=1)
        return (cotangent, of_neighbours, before, table, of_scale, of_offset), None

    cotangent = jnp.concatenate(cotangents, axis=1)
    no_table = jnp.zeros(increments.shape, last.dtype)
    carry = (cotangent, jnp.zeros_like(cotangent), side_by_side(last), no_table, jnp.zeros((), increments.dtype))
    carry = (*carry, None if offset is None else jnp.zeros_like(offset))
    carry, _ = jax.lax.scan(step, carry, (history, _numbers(first_step, n_steps)), reverse=True)
    cotangent, of_neighbours, _, table, of_scale, of_offset = carry
    cotangent = cotangent + geometry.transpose(of_neighbours)
    return _at_knots(table), tuple(jnp.split(cotangent, 2, axis=1)), of_scale, of_offset, None, None, None


_advance_table.defvjp(_advance_table_forward, _advance_table_backward)
