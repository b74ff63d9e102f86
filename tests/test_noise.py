"""The fused Threefry generator: published known answers, `jax.random` bit for bit, moments, independence."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from lateral.engine import noise
from lateral.engine.noise import standard_normal, threefry_2x32

# Random123 (Salmon et al. 2011), tests/kat_vectors, "threefry2x32 13" and "20": rounds, counter, key, answer.
KNOWN_ANSWERS = {
    "13, zeros": (13, (0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x9D1C5EC6, 0x8BD50731)),
    "13, ones": (13, (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
    "13, pi": (13, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
    "20, zeros": (20, (0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    "20, ones": (20, (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    "20, pi": (20, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
}

N_CELLS, N_REPLICATES = 7, 40_000
N_DRAWS = N_CELLS * N_REPLICATES

draw = jax.jit(standard_normal, static_argnums=(2, 3, 4))


@pytest.fixture(scope="module", params=[13, 20])
def normals(request):
    """Two successive steps of a large ensemble, `(step, cell, replicate)`."""
    key = jax.random.key(11)
    draws = [draw(key, np.uint32(step), N_CELLS, N_REPLICATES, request.param) for step in (0, 1)]
    return np.stack([np.asarray(z, np.float64) for z in draws])


@pytest.mark.parametrize("vector", KNOWN_ANSWERS)
def test_threefry_gives_the_published_known_answers(vector):
    rounds, counter, key, answer = KNOWN_ANSWERS[vector]
    ours = threefry_2x32(tuple(map(jnp.uint32, key)), tuple(map(jnp.uint32, counter)), rounds)
    assert tuple(map(int, ours)) == answer
    assert oracles.threefry_2x32(key, counter, rounds) == answer


@pytest.mark.parametrize(("n_cells", "n_replicates"), [(7, 50), (1, 1), (5, 9)])
def test_normals_are_those_of_box_and_muller_in_double_precision(n_cells, n_replicates):
    """Up to the truncated series of the cosine, 6e-8 of a radius of at most 6.7."""
    for seed, step in [(0, 0), (3, 999), (2**31 + 5, 2**32 - 1)]:
        key = jax.random.key(seed)
        expected = oracles.normals(key, step, n_cells, n_replicates)
        ours = draw(key, np.uint32(step), n_cells, n_replicates)
        np.testing.assert_allclose(ours, expected.T, atol=5e-7)


def test_single_precision_has_the_same_normals(float32):
    key = jax.random.key(3)
    ours = standard_normal(key, jnp.uint32(9), 7, 50)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, oracles.normals(key, 9, 7, 50).T, atol=5e-6)


def test_the_largest_radius_and_every_quarter_of_the_angle():
    """Box-Muller's corner cases: words of all zeros and all ones, and the quarter turns."""
    quarter = 2**30
    words = np.array([0, 1, 2**32 - 1, quarter, 2 * quarter, 3 * quarter], np.uint32)
    cosine = noise._cosine(jnp.asarray(words))
    np.testing.assert_allclose(cosine, np.cos(2.0 * np.pi * words / 2.0**32), atol=2e-7)
    angle = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    np.testing.assert_allclose(noise._cosine(jnp.asarray(angle)), np.cos(2.0 * np.pi * angle / 2.0**32), atol=3e-7)


@pytest.mark.parametrize(("n_cells", "n_replicates"), [(7, 50), (1, 1), (64, 9)])
def test_normals_of_20_rounds_are_those_of_jax_random_bit_for_bit(n_cells, n_replicates):
    _assert_bits_of_jax_random(n_cells, n_replicates)


def test_normals_are_those_of_jax_random_bit_for_bit_in_single_precision(float32):
    _assert_bits_of_jax_random(5, 3)


def _assert_bits_of_jax_random(n_cells, n_replicates):
    shape, n_pairs = (n_replicates, n_cells), -(-n_replicates // 2)
    for seed, step in [(0, 0), (3, 999), (2**31 + 5, 2**32 - 1)]:
        key = jax.random.key(seed)
        step_key = jax.random.fold_in(key, np.uint32(step))
        halves = noise._words(noise.make_stream(key), jnp.uint32(step), n_cells, n_pairs, 20)
        bits = np.stack(halves, axis=-1).reshape(n_cells, -1)[:, :n_replicates]
        np.testing.assert_array_equal(bits, jax.random.bits(step_key, shape, jnp.uint32).T)
        normals = draw(key, jnp.uint32(step), n_cells, n_replicates, 20)
        np.testing.assert_allclose(normals, jax.random.normal(step_key, shape, jnp.float32).T, rtol=1e-6, atol=1e-7)


def test_the_step_may_be_traced_in_a_scan(key):
    steps = jnp.arange(4, dtype=jnp.uint32)
    scanned = jax.lax.scan(lambda _, step: (None, standard_normal(key, step, 3, 5)), None, steps)[1]
    expected = [draw(key, np.uint32(step), 3, 5) for step in range(4)]
    np.testing.assert_allclose(scanned, expected, atol=1e-6)


def test_the_noise_of_a_replicate_does_not_depend_on_their_number(key):
    np.testing.assert_array_equal(draw(key, np.uint32(7), N_CELLS, 50)[:, :10], draw(key, np.uint32(7), N_CELLS, 10))


def test_moments_are_those_of_a_standard_normal(normals):
    """Each within four standard errors: 1, 2, 15 and 96 over n are the variances of the first four."""
    z = normals[0].ravel()
    assert abs(z.mean()) < 4.0 * np.sqrt(1.0 / N_DRAWS)
    assert abs(z.var() - 1.0) < 4.0 * np.sqrt(2.0 / N_DRAWS)
    assert abs((z**3).mean()) < 4.0 * np.sqrt(15.0 / N_DRAWS)
    assert abs((z**4).mean() - 3.0) < 4.0 * np.sqrt(96.0 / N_DRAWS)


@pytest.mark.parametrize(("quantile", "probability"), [(0.0, 0.5), (1.281552, 0.1), (2.575829, 5e-3), (3.719016, 1e-4)])
def test_tails_have_the_normal_probability(normals, quantile, probability):
    """On either side, within four standard errors of a binomial share."""
    bound = 4.0 * np.sqrt(probability * (1.0 - probability) / N_DRAWS)
    assert abs((normals[0] > quantile).mean() - probability) < bound
    assert abs((normals[0] < -quantile).mean() - probability) < bound


def test_the_whole_distribution_is_normal(normals):
    """Kolmogorov-Smirnov: sqrt(n) times the distance exceeds 1.95 with probability 0.001."""
    z = np.sort(normals[1].ravel())
    normal = 0.5 * (1.0 + np.vectorize(math.erf)(z / math.sqrt(2.0)))
    assert np.abs(normal - (np.arange(N_DRAWS) + 0.5) / N_DRAWS).max() < 1.95 / np.sqrt(N_DRAWS)


def test_cells_are_uncorrelated(normals):
    """21 pairs of cells, and of their squares: the largest of 42 beyond 4.5 standard errors has probability 3e-4."""
    for z in (normals[0], normals[0] ** 2):
        correlation = np.corrcoef(z) - np.eye(N_CELLS)
        assert np.abs(correlation).max() < 4.5 / np.sqrt(N_REPLICATES)


@pytest.mark.parametrize("lag", [1, 2, 3, 17])
def test_replicates_are_uncorrelated_also_within_a_pair(normals, lag):
    for z in (normals[0], (normals[0] ** 2 - 1.0) / np.sqrt(2.0)):
        products = z[:, lag:] * z[:, :-lag]
        assert abs(products.mean()) < 4.0 / np.sqrt(products.size)
        of_pairs = z[:, ::2] * z[:, 1::2]
        assert abs(of_pairs.mean()) < 4.0 / np.sqrt(of_pairs.size)


def test_steps_are_uncorrelated(normals):
    """Also across neighbouring cells and replicates, in value and in square."""
    first, second = normals
    for one, other in ((first, second), (first[1:], second[:-1]), (first[:, 1:], second[:, :-1])):
        assert abs((one * other).mean()) < 4.0 / np.sqrt(one.size)
        assert abs(((one**2 - 1.0) * (other**2 - 1.0)).mean()) < 4.0 * 2.0 / np.sqrt(one.size)


def test_a_cell_is_uncorrelated_in_time(key):
    """1,000 steps of 40 numbers, at lags up to 10 steps."""
    z = np.asarray(
        jax.jit(jax.vmap(lambda step: standard_normal(key, step, 4, 10)))(jnp.arange(1000, dtype=jnp.uint32))
    )
    for lag in range(1, 11):
        products = z[lag:] * z[:-lag]
        assert abs(products.mean()) < 4.0 / np.sqrt(products.size)


def test_other_keys_give_other_noise(key):
    one, other = draw(key, np.uint32(0), N_CELLS, 50), draw(jax.random.key(1), np.uint32(0), N_CELLS, 50)
    assert not np.isin(np.asarray(one), np.asarray(other)).any()


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_of_another_generator_seed_the_same_one(implementation):
    """They give normal numbers of their own: neither those of another seed nor those of Threefry's key."""
    normals = partial(draw, step=np.uint32(0), n_cells=N_CELLS, n_replicates=400)
    z = np.asarray(normals(jax.random.key(0, impl=implementation)))
    assert abs(z.mean()) < 4.0 / np.sqrt(z.size)
    assert abs(z.var() - 1.0) < 4.0 * np.sqrt(2.0 / z.size)
    for other in (jax.random.key(1, impl=implementation), jax.random.key(0)):
        assert abs((z * np.asarray(normals(other))).mean()) < 4.0 / np.sqrt(z.size)
