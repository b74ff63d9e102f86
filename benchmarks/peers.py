"""The same tissue simulated by others: what `benchmarks/speed.py` compares with.

Each peer is written as its users would write it. All but Numba evaluate the network in each step; Numba gets our table.
States are clipped to [0, 1], except by diffrax, whose fixed-step solver has no place for it (which saves it the work).
"""

from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numba
import numpy as np
import optax

import lateral
from lateral.engine.noise import SINE_COEFFICIENTS

DT, NOISE_STRENGTH = 0.01, 0.1


def mlp(params, s):
    activity = (8.0 * (s - 0.5))[..., None]
    for layer in params[:-1]:
        activity = jnp.tanh(activity @ layer["weights"] + layer["biases"])
    output = (activity @ params[-1]["weights"] + params[-1]["biases"])[..., 0]
    return 5.0 * jnp.tanh(output / 5.0)


def neighbour_mean(s):
    left = jnp.concatenate([s[1:2], s[:-1]])
    right = jnp.concatenate([s[1:], s[-2:-1]])
    return 0.5 * (left + right)


# --- (a) plain JAX, as a reader of the guide would write it


def one_tissue(params, key, n_cells, n_steps):
    start_key, noise_key = jax.random.split(key)
    states = jax.random.uniform(start_key, (n_cells,), minval=0.4, maxval=0.6)

    def step(states, step_key):
        z = jax.random.normal(step_key, (n_cells,))
        rates = mlp(params, neighbour_mean(states))
        return jnp.clip(states + rates * DT + NOISE_STRENGTH * jnp.sqrt(DT) * z, 0.0, 1.0), None

    return jax.lax.scan(step, states, jax.random.split(noise_key, n_steps))[0]


@partial(jax.jit, static_argnums=(2, 3, 4))
def plain_jax(params, key, n_cells, n_replicates, n_steps):
    keys = jax.random.split(key, n_replicates)
    return jax.vmap(lambda key: one_tissue(params, key, n_cells, n_steps))(keys)


def plain_loss(params, key, n_cells, n_replicates, n_steps):
    states = plain_jax(params, key, n_cells, n_replicates, n_steps)
    return -lateral.compute_soft_utility(lateral.apply_threshold(states))[0]


ADAM = optax.adam(1e-3)


@partial(jax.jit, static_argnums=(3, 4, 5))
def plain_epoch(params, opt_state, key, n_cells, n_replicates, n_steps):
    loss, grads = jax.value_and_grad(plain_loss)(params, key, n_cells, n_replicates, n_steps)
    updates, opt_state = ADAM.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


@partial(jax.jit, static_argnums=(2, 3, 4))
def plain_score(params, key, n_cells, n_replicates, n_steps):
    states = plain_jax(params, key, n_cells, n_replicates, n_steps)
    return lateral.compute_hard_utility(lateral.apply_threshold(states))[0]


# --- (b) diffrax


def diffrax_tissue(params, key, n_cells, n_steps, tree):
    start_key, noise_key = jax.random.split(key)
    states = jax.random.uniform(start_key, (n_cells,), minval=0.4, maxval=0.6)
    duration, shape = n_steps * DT, jax.ShapeDtypeStruct((n_cells,), jnp.float32)
    if tree:
        path = diffrax.VirtualBrownianTree(0.0, duration, tol=DT / 2.0, shape=shape, key=noise_key)
    else:
        path = diffrax.UnsafeBrownianPath(shape=shape, key=noise_key)
    noise = lineax.DiagonalLinearOperator(jnp.full(n_cells, NOISE_STRENGTH))
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda t, s, args: mlp(params, neighbour_mean(s))),
        diffrax.ControlTerm(lambda t, s, args: noise, path),
    )
    # The adjoint for forward solves only: the fastest loop that diffrax has.
    solution = diffrax.diffeqsolve(
        terms,
        diffrax.Euler(),
        t0=0.0,
        t1=duration,
        dt0=DT,
        y0=states,
        max_steps=n_steps + 2,
        adjoint=diffrax.ForwardMode(),
    )
    return solution.ys[0]


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def with_diffrax(params, key, n_cells, n_replicates, n_steps, tree):
    keys = jax.random.split(key, n_replicates)
    return jax.vmap(lambda key: diffrax_tissue(params, key, n_cells, n_steps, tree))(keys)


# --- (c) Numba, written by hand: f as a table, one thread for each half of the replicates, and noise of two kinds:
# addressed by (key, step, cell, replicate) as ours, or from a generator with a state (xoshiro128+ and a ziggurat), the
# fastest that we know, whose numbers depend on what was drawn before and on how the replicates are split.


def _ziggurat(layers=128):
    """Tables of Marsaglia & Tsang (2000) for normal numbers: right ends, their ratios, and densities of the layers."""
    r, area = 3.442619855899, 9.91256303526217e-3
    x = np.zeros(layers + 1)
    x[0], x[1] = area / np.exp(-0.5 * r * r), r
    for i in range(2, layers):
        x[i] = np.sqrt(-2.0 * np.log(area / x[i - 1] + np.exp(-0.5 * x[i - 1] ** 2)))
    return x.astype(np.float32), np.exp(-0.5 * x**2).astype(np.float32)


_X, _DENSITY = _ziggurat()


@numba.njit(inline="always", fastmath=True)
def _random_word(state):
    word = np.uint32(state[0] + state[3])
    shifted = state[1] << np.uint32(9)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = np.uint32(state[3] << np.uint32(11)) | (state[3] >> np.uint32(21))
    return word


@numba.njit(inline="always", fastmath=True)
def _random_normal(state, x, density):
    while True:
        word = _random_word(state)
        layer = np.int32(word & np.uint32(127))
        uniform = np.float32(np.int32(word)) * np.float32(2.0**-31)
        z = uniform * x[layer]
        if abs(z) < x[layer + 1]:
            return z
        fraction = np.float32(_random_word(state) >> np.uint32(8)) * np.float32(2.0**-24)
        if layer == 0:  # the tail beyond r
            while True:
                a = -np.log(np.float32(1.0) - fraction) / x[1]
                other = np.float32(_random_word(state) >> np.uint32(8)) * np.float32(2.0**-24)
                if -np.float32(2.0) * np.log(np.float32(1.0) - other) > a * a:
                    return (x[1] + a) if z > 0 else -(x[1] + a)
                fraction = np.float32(_random_word(state) >> np.uint32(8)) * np.float32(2.0**-24)
        if density[layer] + fraction * (density[layer + 1] - density[layer]) < np.exp(np.float32(-0.5) * z * z):
            return z


@numba.njit(parallel=True, fastmath=True)
def _numba_tissues(values, seeds, x, density, n_steps, dt, scale, states):
    n_replicates, n_cells = states.shape
    n_threads = seeds.shape[0]
    last = np.float32(values.shape[0] - 1)
    for thread in numba.prange(n_threads):
        state = seeds[thread].copy()
        now, moved = np.empty(n_cells, np.float32), np.empty(n_cells, np.float32)
        for r in range(thread * n_replicates // n_threads, (thread + 1) * n_replicates // n_threads):
            for i in range(n_cells):
                now[i] = states[r, i]
            for _ in range(n_steps):
                for i in range(n_cells):
                    left = now[i - 1] if i > 0 else now[1]
                    right = now[i + 1] if i < n_cells - 1 else now[n_cells - 2]
                    position = np.float32(0.5) * (left + right) * last
                    knot = min(np.int32(position), np.int32(last) - np.int32(1))
                    rate = values[knot] + (position - np.float32(knot)) * (values[knot + 1] - values[knot])
                    s = now[i] + rate * dt + scale * _random_normal(state, x, density)
                    moved[i] = min(max(s, np.float32(0.0)), np.float32(1.0))
                now, moved = moved, now
            for i in range(n_cells):
                states[r, i] = now[i]


def with_numba(values, seed, n_cells, n_replicates, n_steps, n_threads=2):
    rng = np.random.default_rng(seed)
    states = rng.uniform(0.4, 0.6, (n_replicates, n_cells)).astype(np.float32)
    seeds = rng.integers(1, 2**32, (n_threads, 4), dtype=np.uint32)
    scale = np.float32(NOISE_STRENGTH * np.sqrt(DT))
    numba.set_num_threads(n_threads)
    _numba_tissues(values, seeds, _X, _DENSITY, n_steps, np.float32(DT), scale, states)
    return states


@numba.njit(inline="always", fastmath=True)
def _threefry_13(key, step, index):
    schedule = (key[0], key[1], np.uint32(key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)))
    x, y = np.uint32(step + schedule[0]), np.uint32(index + schedule[1])
    for number in range(13):
        turn = np.uint32((13, 15, 26, 6, 17, 29, 16, 24)[number % 8])
        x = np.uint32(x + y)
        y = np.uint32((y << turn) | (y >> np.uint32(np.uint32(32) - turn))) ^ x
        if number % 4 == 3:
            injection = number // 4 + 1
            x = np.uint32(x + schedule[injection % 3])
            y = np.uint32(y + schedule[(injection + 1) % 3] + np.uint32(injection))
    return x, y


@numba.njit(inline="always", fastmath=True)
def _cosine(word):
    y = np.float32(0.25) - abs(np.float32(np.int32(word))) * np.float32(2.0**-32)
    square, series = y * y, np.float32(SINE_COEFFICIENTS[-1])
    for i in range(len(SINE_COEFFICIENTS) - 2, -1, -1):
        series = series * square + np.float32(SINE_COEFFICIENTS[i])
    return y * series


@numba.njit(parallel=True, fastmath=True)
def _numba_addressed(values, key, n_steps, dt, scale, n_threads, states):
    n_replicates, n_cells = states.shape
    n_pairs = n_replicates // 2
    last = np.float32(values.shape[0] - 1)
    for thread in numba.prange(n_threads):
        now, moved = np.empty((2, n_cells), np.float32), np.empty((2, n_cells), np.float32)
        for pair in range(thread * n_pairs // n_threads, (thread + 1) * n_pairs // n_threads):
            now[:] = states[2 * pair : 2 * pair + 2]
            for step in range(n_steps):
                for i in range(n_cells):
                    word, other = _threefry_13(key, np.uint32(step), np.uint32(pair * n_cells + i))
                    uniform = (np.float32(np.int32(word >> np.uint32(1))) + np.float32(0.5)) * np.float32(2.0**-31)
                    radius = scale * np.sqrt(np.float32(-2.0) * np.log(uniform))
                    for half in range(2):
                        s = now[half]
                        left = s[i - 1] if i > 0 else s[1]
                        right = s[i + 1] if i < n_cells - 1 else s[n_cells - 2]
                        position = np.float32(0.5) * (left + right) * last
                        knot = min(np.int32(position), np.int32(last) - np.int32(1))
                        rate = values[knot] + (position - np.float32(knot)) * (values[knot + 1] - values[knot])
                        noise = radius * _cosine(other if half == 0 else np.uint32(other - np.uint32(1 << 30)))
                        moved[half, i] = min(max(s[i] + rate * dt + noise, np.float32(0.0)), np.float32(1.0))
                now, moved = moved, now
            states[2 * pair : 2 * pair + 2] = now


def with_numba_addressed(values, seed, n_cells, n_replicates, n_steps, n_threads=2):
    rng = np.random.default_rng(seed)
    states = rng.uniform(0.4, 0.6, (n_replicates, n_cells)).astype(np.float32)
    scale = np.float32(NOISE_STRENGTH * np.sqrt(DT))
    numba.set_num_threads(n_threads)
    _numba_addressed(
        values, rng.integers(0, 2**32, 2, dtype=np.uint32), n_steps, np.float32(DT), scale, n_threads, states
    )
    return states


# --- (d) NumPy, all replicates at once


def with_numpy(params, seed, n_cells, n_replicates, n_steps):
    rng = np.random.default_rng(seed)
    layers = [(np.asarray(layer["weights"]), np.asarray(layer["biases"])) for layer in params]
    scale = np.float32(NOISE_STRENGTH * np.sqrt(DT))
    states = rng.uniform(0.4, 0.6, (n_replicates, n_cells)).astype(np.float32)
    for _ in range(n_steps):
        padded = np.concatenate([states[:, 1:2], states, states[:, -2:-1]], axis=1)
        activity = (np.float32(8.0) * (np.float32(0.5) * (padded[:, :-2] + padded[:, 2:]) - np.float32(0.5)))[..., None]
        for weights, biases in layers[:-1]:
            activity = np.tanh(activity @ weights + biases)
        output = (activity @ layers[-1][0] + layers[-1][1])[..., 0]
        rates = np.float32(5.0) * np.tanh(output / np.float32(5.0))
        z = rng.standard_normal(states.shape, dtype=np.float32)
        states = np.clip(states + rates * np.float32(DT) + scale * z, 0.0, 1.0)
    return states
