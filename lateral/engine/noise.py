"""Counter-based noise: every random number is a function of (key, step, cell, replicate).

Nothing is stored and nothing depends on what was drawn before: a rerun, a backward pass or another device draws the
same number again from its address. The generator is Threefry-2x32 (Salmon, Moraes, Dror & Shaw, *Parallel random
numbers: as easy as 1, 2, 3*, SC 2011), written as plain integer arithmetic on arrays so that the compiler fuses it into
the time step; `jax.random.normal` would write an array of normals to memory in each step.

| `rounds` | a block of two 32-bit words gives | normals by |
|---|---|---|
| 13 (default), enough for the crush batteries (Salmon et al. 2011, table 2) | two replicates | Box–Muller |
| 20 | one replicate | inverse error function |

With 20 rounds, at half the speed, the random bits are those of `jax.random`, bit for bit. So are the normal numbers,
except for the last digit, which the compiler may round differently:

    standard_normal(key, step, n_cells, n_replicates, rounds=20)
        == jax.random.normal(jax.random.fold_in(key, step), (n_replicates, n_cells)).T

Both words of a block are used by letting replicates travel in pairs: 2p is the real and 2p + 1 the imaginary part of
one complex number. It is a way to store two numbers; no complex arithmetic is meant.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, UInt32

__all__ = [
    "ROUNDS",
    "SINE_COEFFICIENTS",
    "Stream",
    "make_stream",
    "pair",
    "paired_normal",
    "paired_uniform",
    "standard_normal",
    "threefry_2x32",
    "unpair",
]

ROUNDS = (13, 20)

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
# sin(2 pi y) for |y| <= 1/4, Taylor to degree 11: off by less than 6e-8.
SINE_COEFFICIENTS = tuple((-1) ** (k // 2) * (2.0 * math.pi) ** k / math.factorial(k) for k in range(1, 12, 2))

Stream = tuple[UInt32[Array, ""], UInt32[Array, ""], UInt32[Array, ""]]
"""Where numbers are drawn: the two words of the key, and the number of the first pair of replicates."""


def threefry_2x32(
    key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    counter: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    rounds: int = 13,
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Two random words for each pair of counter words, elementwise (Salmon et al. 2011, section 3.3).

    The key is two words, scalars or arrays that broadcast against the counters.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x0, x1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for round_ in range(rounds):
        distance = _ROTATIONS[round_ // 4 % 2][round_ % 4]
        x0 = x0 + x1
        x1 = x0 ^ ((x1 << jnp.uint32(distance)) | (x1 >> jnp.uint32(32 - distance)))
        if round_ % 4 == 3:
            injection = round_ // 4 + 1
            x0 = x0 + schedule[injection % 3]
            x1 = x1 + schedule[(injection + 1) % 3] + jnp.uint32(injection)
    return x0, x1


def make_stream(key: Array, first_pair: UInt32[Array, ""] | int = 0) -> Stream:
    """The stream of a random key; a key of another generator than Threefry seeds it with two of its words."""
    is_threefry = jax.random.key_impl(key) == "threefry2x32"
    words = jax.random.key_data(key) if is_threefry else jax.random.bits(key, (2,), jnp.uint32)
    return words[0], words[1], jnp.asarray(first_pair, jnp.uint32)


def standard_normal(
    key: Array, step: UInt32[Array, ""], n_cells: int, n_replicates: int, rounds: int = 13
) -> Float[Array, "cell replicate"]:
    """Standard normal numbers of one time step, independent over steps, cells and replicates.

    Single precision, or double where JAX computes in it (only the arithmetic: the random bits are the same, and with
    20 rounds the numbers of `jax.random.normal` in single precision).
    """
    pairs = paired_normal(make_stream(key), step, n_cells, -(-n_replicates // 2), rounds)
    return unpair(pairs)[:, :n_replicates]


def paired_normal(
    stream: Stream, step: UInt32[Array, ""], n_cells: int, n_pairs: int, rounds: int
) -> Complex[Array, "cell pair"]:
    """Standard normal numbers of one time step for pairs of replicates."""
    words, other_words = _words(stream, step, n_cells, n_pairs, rounds)
    if rounds == 20:
        return jax.lax.complex(_normal_of_jax(words), _normal_of_jax(other_words)).astype(jnp.result_type(complex))
    # Box & Muller (1958): 31 bits for the radius, at most 6.7, and 32 for the angle.
    uniform = (_signed(words >> jnp.uint32(1)) + 0.5) * 2.0**-31
    radius = jnp.sqrt(-2.0 * jnp.log(uniform))
    quarter_turn = jnp.uint32(1 << 30)
    return jax.lax.complex(radius * _cosine(other_words), radius * _cosine(other_words - quarter_turn))


def paired_uniform(stream: Stream, n_cells: int, n_pairs: int, rounds: int) -> Complex[Array, "cell pair"]:
    """Uniform numbers on [0, 1) for pairs of replicates, complex64; with 20 rounds those of `jax.random.uniform`."""
    words, other_words = _words(stream, None if rounds == 20 else jnp.uint32(0), n_cells, n_pairs, rounds)
    return jax.lax.complex(_uniform(words), _uniform(other_words))


def pair(values: Float[Array, "cell replicate"]) -> Complex[Array, "cell pair"]:
    """Replicates 2p and 2p + 1 as one complex number; the last of an odd number is doubled."""
    if values.shape[1] % 2:
        values = jnp.concatenate([values, values[:, -1:]], axis=1)
    return jax.lax.complex(values[:, ::2], values[:, 1::2])


def unpair(pairs: Complex[Array, "cell pair"]) -> Float[Array, "cell replicate"]:
    """The inverse of `pair`."""
    return jnp.stack([pairs.real, pairs.imag], axis=-1).reshape(pairs.shape[0], -1)


def _words(stream, step, n_cells, n_pairs, rounds):
    """Two arrays of random words, `(cell, pair)`."""
    key, first_pair = stream[:2], stream[2]
    cell = jax.lax.broadcasted_iota(jnp.uint32, (n_cells, n_pairs), 0)
    pair = first_pair + jax.lax.broadcasted_iota(jnp.uint32, (n_cells, n_pairs), 1)
    if rounds == 13:
        return threefry_2x32(key, (jnp.asarray(step, jnp.uint32), pair * jnp.uint32(n_cells) + cell), rounds)
    # jax.random folds the step into the key, counts through an array (replicate, cell) and joins the two words.
    zero = jnp.uint32(0)
    if step is not None:
        key = threefry_2x32(key, (zero, jnp.asarray(step, jnp.uint32)), rounds)
    halves = []
    for half in range(2):
        replicate = pair * jnp.uint32(2) + jnp.uint32(half)
        words = threefry_2x32(key, (jnp.zeros_like(cell), replicate * jnp.uint32(n_cells) + cell), rounds)
        halves.append(words[0] ^ words[1])
    return tuple(halves)


def _signed(words):
    return words.astype(jnp.int32).astype(jnp.result_type(float))


def _cosine(words):
    """cos(2 pi w / 2^32) for 32-bit words w, as sin(2 pi y) with |y| <= 1/4."""
    y = 0.25 - jnp.abs(_signed(words)) * 2.0**-32
    square = y * y
    series = SINE_COEFFICIENTS[-1]
    for coefficient in SINE_COEFFICIENTS[-2::-1]:
        series = series * square + coefficient
    return y * series


def _uniform(words):
    # 23 random bits become the mantissa of a float in [1, 2).
    mantissa = (words >> jnp.uint32(9)) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(mantissa, jnp.float32) - jnp.float32(1.0)


def _normal_of_jax(words):
    lowest = jnp.nextafter(jnp.float32(-1.0), jnp.float32(0.0))
    uniform = jnp.maximum(lowest, _uniform(words) * (jnp.float32(1.0) - lowest) + lowest)
    return jnp.float32(2.0**0.5) * jax.lax.erf_inv(uniform)
