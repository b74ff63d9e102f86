"""Counter-based noise: every random number is a function of (key, step, cell, replicate).

Drawing the noise is what limits the speed of the simulation. `jax.random.normal` computes a whole array at a
time and writes it to memory; written as plain integer arithmetic on the index of each entry, the same generator
(Threefry-2x32, 20 rounds; Salmon, Moraes, Dror & Shaw, SC 2011) is fused by the compiler into the step of the
simulation, about three times faster. The numbers are those of `jax.random`, bit for bit:

    standard_normal(key, step, n_cells, n_replicates)
        == jax.random.normal(jax.random.fold_in(key, step), (n_replicates, n_cells)).T

A replicate's noise depends on its own index only, so that the first 50 of 1,000 replicates are the 50 replicates
of a smaller run.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

__all__ = ["standard_normal", "threefry_2x32"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ROUNDS = 20


def threefry_2x32(
    key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    counter: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Two random words for each pair of counter words, elementwise (Salmon et al. 2011, section 3.3).

    The key is two words, scalars or arrays that broadcast against the counters.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x0, x1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(_ROUNDS // 4):
        for distance in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << jnp.uint32(distance)) | (x1 >> jnp.uint32(32 - distance)))
        injection = group + 1
        x0 = x0 + schedule[injection % 3]
        x1 = x1 + schedule[(injection + 1) % 3] + jnp.uint32(injection)
    return x0, x1


def key_words(key: Array) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """The two Threefry words of a random key; a key of another generator seeds Threefry with two of its words."""
    is_threefry = jax.random.key_impl(key) == "threefry2x32"
    words = jax.random.key_data(key) if is_threefry else jax.random.bits(key, (2,), jnp.uint32)
    return words[0], words[1]


def standard_normal(
    key: Array, step: UInt32[Array, ""], n_cells: int, n_replicates: int
) -> Float[Array, "cell replicate"]:
    """Standard normal numbers of one time step, float32, independent over steps, cells and replicates."""
    zero = jnp.uint32(0)
    step_key = threefry_2x32(key_words(key), (zero, jnp.asarray(step, jnp.uint32)))
    shape = (n_cells, n_replicates)
    cell = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    replicate = jax.lax.broadcasted_iota(jnp.uint32, shape, 1)
    index = replicate * jnp.uint32(n_cells) + cell
    words = threefry_2x32(step_key, (jnp.zeros(shape, jnp.uint32), index))
    return _normal_from_bits(words[0] ^ words[1])


def _normal_from_bits(bits: UInt32[Array, "..."]) -> Float[Array, "..."]:
    # 23 random bits become the mantissa of a float in [1, 2), then a uniform number in (-1, 1).
    mantissa = (bits >> jnp.uint32(9)) | jnp.uint32(0x3F800000)
    fraction = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - jnp.float32(1.0)
    lowest = jnp.nextafter(jnp.float32(-1.0), jnp.float32(0.0))
    uniform = jnp.maximum(lowest, fraction * (jnp.float32(1.0) - lowest) + lowest)
    return jnp.float32(2.0**0.5) * jax.lax.erf_inv(uniform)
