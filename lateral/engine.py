"""The engine: many steps of many replicates, and the gradient back through them. Everything simulates with it.

It computes what a loop over `lateral.step.euler_maruyama_step` computes. What makes it fast, measured by `make bench`:

- *Replicates in pairs.* One block of Threefry gives two words, and Box–Muller makes two normal numbers of them. A pair
  of replicates is stored as one complex number, so that one fused loop writes both.
- *f as a table.* f is a function of one number in [0, 1]. Tabulated once per simulation, it costs the same for any
  network, and the gradient runs through the network once instead of once for each cell and step.
- *A backward pass of its own.* The forward pass keeps one number for each state, the one before clipping, and the
  backward pass computes the rest from it: 4 bytes for each replicate, cell and step, where autodiff of the plain step
  keeps 32 with a table and more with a network. The result is that of autodiff, whose rules it writes out.

`advance` is the one function that a kernel for an accelerator would replace: the noise is addressed by (key, step,
cell, replicate), so that any order of computation gives the same tissue.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, UInt32

from lateral.network import Table, locate, take
from lateral.noise import Stream, paired_normal
from lateral.step import mean_of_neighbours, mean_of_neighbours_transposed

__all__ = ["Tissue", "accumulate_score", "advance", "advance_refined"]

Pairs = Complex[Array, "cell pair"]


class Tissue(NamedTuple):
    """Numbers of the model, all traced."""

    dt: Float[Array, ""]
    noise_strength: Float[Array, ""]
    edge_value: Float[Array, ""]

    @property
    def noise_scale(self):
        """Standard deviation of the noise of one step."""
        return self.noise_strength * jnp.sqrt(self.dt)


def advance(
    f: Callable,
    pairs: Pairs,
    tissue: Tissue,
    stream: Stream,
    first_step: UInt32[Array, ""],
    *,
    n_steps: int,
    boundary: str,
    rounds: int,
) -> Pairs:
    """States after `n_steps` more steps, the first of which is number `first_step`.

    A `Table` takes the fast backward pass, which has no forward-mode derivative. Any other f is evaluated in each step
    and differentiated by autodiff, which keeps the states and computes each step again on the way back.
    """
    scale, edge_value = tissue.noise_scale, tissue.edge_value
    if isinstance(f, Table):
        sizes, halves = (n_steps, boundary, rounds), (pairs.real, pairs.imag)
        return jax.lax.complex(
            *_advance_table(sizes, tissue.dt * f.values, halves, scale, edge_value, stream, first_step)
        )
    drift = _drift(f, tissue.dt)

    def step(pairs, number):
        neighbours = _neighbours(pairs, boundary, edge_value)
        return _clip(_move(drift, pairs, neighbours, scale * _normals(stream, number, pairs, rounds))), None

    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), pairs, _numbers(first_step, n_steps))[0]


def advance_refined(f, pairs, tissue, stream, bridge, first_step, *, n_steps, boundary, rounds, refine) -> Pairs:
    """`advance` with each step split into `refine` on the same Brownian path, whose bridge is drawn from `bridge`."""
    drift, scale = _drift(f, tissue.dt / refine), tissue.noise_scale / math.sqrt(refine)

    def substep(pairs, normals):
        return _clip(_move(drift, pairs, _neighbours(pairs, boundary, tissue.edge_value), scale * normals))

    def step(pairs, number):
        # Fine normals whose sum is sqrt(refine) times the coarse one (a Brownian bridge): with `left` of them to go
        # and a sum `remaining`, the next is remaining / left + sqrt(1 - 1 / left) e, and the last is what remains.
        # An inner scan, since the compiler would fuse the substeps and compute each neighbour again and again.
        def bridge_step(carry, j):
            pairs, remaining = carry
            left = (refine - j).astype(pairs.real.dtype)
            e = _normals(bridge, number * jnp.uint32(refine) + j, pairs, rounds)
            z = remaining / left + jnp.sqrt(1.0 - 1.0 / left) * e
            return (substep(pairs, z), remaining - z), None

        coarse = (pairs, math.sqrt(refine) * _normals(stream, number, pairs, rounds))
        (pairs, remaining), _ = jax.lax.scan(bridge_step, coarse, jnp.arange(refine - 1, dtype=jnp.uint32))
        return substep(pairs, remaining), None

    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), pairs, _numbers(first_step, n_steps))[0]


def _numbers(first_step, n_steps):
    return first_step + jnp.arange(n_steps, dtype=jnp.uint32)


def _normals(stream, number, pairs, rounds) -> Pairs:
    return paired_normal(stream, number, *pairs.shape, rounds)


def _neighbours(pairs, boundary, edge_value) -> Pairs:
    return mean_of_neighbours(pairs, boundary, jax.lax.complex(edge_value, edge_value))


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


def accumulate_score(table, pairs, tissue, stream, advantages, *, chunk_steps, boundary, rounds):
    """Sum over steps, cells and replicates of `advantage z sqrt(dt) / σ ∂f(s̄)/∂knot`, one number for each knot.

    The derivative of the log probability of the noisy path by the table, each chunk of `chunk_steps` steps of each
    replicate weighted by its own advantage (`advantages`: `(chunk, pair)`, the two replicates of a pair in one complex
    number). The simulation is that of `advance`, drawn again from its addresses.
    """
    scale = tissue.noise_scale
    increments = tissue.dt * table.values
    drift = _lookup(increments)

    def step(carry, number):
        pairs, neighbours, table, advantage = carry
        normals = _normals(stream, number, pairs, rounds)
        for x, z, a in (
            (neighbours.real, normals.real, advantage.real),
            (neighbours.imag, normals.imag, advantage.imag),
        ):
            table = table + _to_knots(a[None] * z, *locate(increments, x), increments)
        pairs = _clip(_move(drift, pairs, neighbours, scale * normals))
        return (pairs, _neighbours(pairs, boundary, tissue.edge_value), table, advantage), None

    def chunk(carry, first_step_and_advantage):
        first_step, advantage = first_step_and_advantage
        carry = jax.lax.scan(step, (*carry, advantage), _numbers(first_step, chunk_steps))[0]
        return carry[:3], None

    first_steps = jnp.arange(advantages.shape[0], dtype=jnp.uint32) * jnp.uint32(chunk_steps)
    carry = (pairs, _neighbours(pairs, boundary, tissue.edge_value), jnp.zeros(increments.shape, pairs.dtype))
    table = jax.lax.scan(chunk, carry, (first_steps, advantages))[0][2]
    return jnp.sqrt(tissue.dt) / tissue.noise_strength * _at_knots(table)


# --- f as a table: a backward pass of its own


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _advance_table(sizes, increments, halves, scale, edge_value, stream, first_step):
    """`increments` is the table of f(s̄) dt, `sizes` the number of steps, the boundary and the rounds."""
    n_steps, boundary, rounds = sizes
    drift = _lookup(increments)

    # The neighbour means are carried along: computed from finished states, they are not fused with the look-up.
    def step(carry, number):
        pairs, neighbours = carry
        pairs = _clip(_move(drift, pairs, neighbours, scale * _normals(stream, number, pairs, rounds)))
        return (pairs, _neighbours(pairs, boundary, edge_value)), None

    pairs = jax.lax.complex(*halves)
    carry = (pairs, _neighbours(pairs, boundary, edge_value))
    (pairs, _), _ = jax.lax.scan(step, carry, _numbers(first_step, n_steps))
    return pairs.real, pairs.imag


def _advance_table_forward(sizes, increments, halves, scale, edge_value, stream, first_step):
    """The same, keeping the states before clipping: they tell the states, and where the gradient stops."""
    n_steps, boundary, rounds = sizes
    drift = _lookup(increments)

    def step(unclipped, number):
        pairs = _clip(unclipped)
        neighbours = _neighbours(pairs, boundary, edge_value)
        return _move(drift, pairs, neighbours, scale * _normals(stream, number, pairs, rounds)), unclipped

    last, history = jax.lax.scan(step, jax.lax.complex(*halves), _numbers(first_step, n_steps))
    pairs = _clip(last)
    return (pairs.real, pairs.imag), (increments, history, last, edge_value, stream, first_step)


def _advance_table_backward(sizes, residuals, cotangents):
    """Reverse-mode rules of `s' = clip(s + f(s̄) dt + σ sqrt(dt) z)` with f dt a table, written out.

    The cotangent of f(s̄) dt goes to the two knots on either side of s̄ with the weights of the interpolation, and on
    to s̄ with the slope between them. `of_neighbours`, the cotangent of s̄, is handed to the neighbours at the start of
    the next iteration instead of the end of this one: a stencil of an array in memory is cheap, while a stencil of one
    that is being computed would compute it again for each of its terms.
    """
    n_steps, boundary, rounds = sizes
    increments, history, last, edge_value, stream, first_step = residuals
    slopes = (increments[1:] - increments[:-1]) * (increments.shape[0] - 1)

    def side_by_side(pairs):
        return jnp.concatenate([pairs.real, pairs.imag], axis=1)

    def step(carry, history_and_number):
        cotangent, of_neighbours, after, table, of_scale, of_edge = carry
        pairs, number = history_and_number
        before = side_by_side(pairs)
        cotangent = cotangent + mean_of_neighbours_transposed(of_neighbours, boundary)
        (cotangent,) = jax.vjp(_clip_states, after)[1](cotangent)
        knot, weight = locate(increments, mean_of_neighbours(_clip_states(before), boundary, edge_value))
        table = table + _to_knots(cotangent, knot, weight, increments)
        of_neighbours = cotangent * take(slopes, knot)
        # The compiler removes what the caller does not differentiate by, and then draws no noise.
        of_scale = of_scale + jnp.sum(cotangent * side_by_side(_normals(stream, number, pairs, rounds)))
        if boundary == "pinned":
            of_edge = of_edge + 0.5 * jnp.sum(of_neighbours[0] + of_neighbours[-1])
        return (cotangent, of_neighbours, before, table, of_scale, of_edge), None

    cotangent = jnp.concatenate(cotangents, axis=1)
    zero = jnp.zeros((), increments.dtype)
    no_table = jnp.zeros(increments.shape, last.dtype)
    carry = (cotangent, jnp.zeros_like(cotangent), side_by_side(last), no_table, zero, zero)
    carry, _ = jax.lax.scan(step, carry, (history, _numbers(first_step, n_steps)), reverse=True)
    cotangent, of_neighbours, _, table, of_scale, of_edge = carry
    cotangent = cotangent + mean_of_neighbours_transposed(of_neighbours, boundary)
    return _at_knots(table), tuple(jnp.split(cotangent, 2, axis=1)), of_scale, of_edge, None, None


_advance_table.defvjp(_advance_table_forward, _advance_table_backward)
