"""The reference engine: a loop over the plain step, differentiated by JAX. The others are held against it."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lateral.engine.noise import Stream, make_stream, paired_normal, paired_uniform, unpair
from lateral.network import Table
from lateral.tissue import euler_maruyama_step

__all__ = ["ReferenceEngine"]


class _Now(NamedTuple):
    states: Float[Array, "cell replicate"]
    noise: Stream
    bridge: Stream


class ReferenceEngine:
    """`lateral.tissue.euler_maruyama_step`, one step after the other."""

    def begin(self, key, tissue, rounds, n_replicates, first_replicate=0, initial_states=None):
        start_key, *noise_keys = jax.random.split(key, 3)
        first_pair = jnp.asarray(first_replicate).astype(jnp.uint32) // jnp.uint32(2)
        streams = [make_stream(key, first_pair) for key in noise_keys]
        if initial_states is None:
            n_pairs = -(-n_replicates // 2)
            uniform = paired_uniform(make_stream(start_key, first_pair), tissue.n_cells, n_pairs, rounds)
            low, high = tissue.start
            states = low + (high - low) * unpair(uniform)[:, :n_replicates].astype(jnp.result_type(float))
        else:
            states = initial_states.T
        return _Now(states, *streams)

    def advance(self, f, now, tissue, rounds, first_step, n_steps, refine=1):
        def step(states, number):
            z = _normals(now.noise, number, states.shape, rounds)
            if refine == 1:
                return euler_maruyama_step(f, states, z, tissue), None
            return _refined_step(f, states, z, tissue, now.bridge, number, rounds, refine), None

        return now._replace(states=jax.lax.scan(step, now.states, _numbers(first_step, n_steps))[0])

    def states(self, now, n_replicates):
        return now.states.T

    def accumulate_score(self, table, start, tissue, rounds, advantages):
        chunk_steps = tissue.n_steps // advantages.shape[0]

        def log_probability(table):
            """Of the path, up to a constant: its derivative by f(s̄) in one step is z sqrt(dt) / σ."""

            def step(carry, number):
                states, total = carry
                z = _normals(start.noise, number, states.shape, rounds)
                seen = jax.lax.stop_gradient(tissue.geometry.mean(states))
                total = total + jnp.sum(advantages[number // chunk_steps][None] * z * table(seen))
                fixed = Table(jax.lax.stop_gradient(table.values))
                return (euler_maruyama_step(fixed, states, z, tissue), total), None

            carry = (start.states, jnp.zeros((), table.values.dtype))
            (_, total), _ = jax.lax.scan(step, carry, _numbers(0, tissue.n_steps))
            return jnp.sqrt(tissue.dt) / tissue.noise_strength * total

        return jax.grad(log_probability)(table)


def _refined_step(f, states, z, tissue, bridge, number, rounds, refine):
    """One step in `refine` substeps whose noise adds up to that of the whole (a Brownian bridge)."""
    fine = tissue.changed(dt=tissue.dt / refine)
    remaining = math.sqrt(refine) * z  # of `refine` standard normal numbers
    for j in range(refine):
        left = refine - j
        e = _normals(bridge, number * jnp.uint32(refine) + jnp.uint32(j), states.shape, rounds)
        part = remaining if left == 1 else remaining / left + math.sqrt(1.0 - 1.0 / left) * e
        states, remaining = euler_maruyama_step(f, states, part, fine), remaining - part
    return states


def _numbers(first_step, n_steps):
    return jnp.asarray(first_step, jnp.uint32) + jnp.arange(n_steps, dtype=jnp.uint32)


def _normals(stream, number, shape, rounds):
    n_cells, n_replicates = shape
    return unpair(paired_normal(stream, number, n_cells, -(-n_replicates // 2), rounds))[:, :n_replicates]
