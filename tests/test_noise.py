"""The fused Threefry generator: published known answers, `jax.random` bit for bit, moments, independence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral.noise import standard_normal, threefry_2x32

pytestmark = pytest.mark.usefixtures("strict_ranks")

# Random123 (Salmon et al. 2011), tests/kat_vectors, "threefry2x32 20": counter, key, answer.
KNOWN_ANSWERS = {
    "zeros": ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    "ones": ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    "pi": ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
}

N_CELLS, N_REPLICATES = 7, 20_000
N_DRAWS = N_CELLS * N_REPLICATES

draw = jax.jit(standard_normal, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def normals():
    """Two successive steps of a large ensemble, `(step, cell, replicate)`."""
    key = jax.random.key(11)
    return np.stack([np.asarray(draw(key, np.uint32(step), N_CELLS, N_REPLICATES), np.float64) for step in (0, 1)])


@pytest.mark.parametrize("vector", KNOWN_ANSWERS)
def test_threefry_gives_the_published_known_answers(vector):
    counter, key, answer = (tuple(map(jnp.uint32, words)) for words in KNOWN_ANSWERS[vector])
    assert tuple(map(int, threefry_2x32(key, counter))) == tuple(map(int, answer))


@pytest.mark.parametrize(("n_cells", "n_replicates"), [(7, 50), (1, 1), (64, 9)])
def test_normals_are_those_of_jax_random_bit_for_bit(n_cells, n_replicates):
    _assert_bits_of_jax_random(n_cells, n_replicates)


def test_normals_are_those_of_jax_random_bit_for_bit_in_single_precision(float32):
    _assert_bits_of_jax_random(5, 3)


def _assert_bits_of_jax_random(n_cells, n_replicates):
    reference = jax.jit(
        lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (n_replicates, n_cells), jnp.float32)
    )
    for seed, step in [(0, 0), (3, 999), (2**31 + 5, 2**32 - 1)]:
        key = jax.random.key(seed)
        expected = reference(key, np.uint32(step)).T
        ours = draw(key, np.uint32(step), n_cells, n_replicates)
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours, expected)


def test_the_step_may_be_traced_in_a_scan(key):
    steps = jnp.arange(4, dtype=jnp.uint32)
    scanned = jax.lax.scan(lambda _, step: (None, standard_normal(key, step, 3, 5)), None, steps)[1]
    expected = [draw(key, np.uint32(step), 3, 5) for step in range(4)]
    np.testing.assert_allclose(scanned, expected, atol=1e-6)


def test_the_noise_of_a_replicate_does_not_depend_on_their_number(key):
    np.testing.assert_array_equal(draw(key, np.uint32(7), N_CELLS, 50)[:, :10], draw(key, np.uint32(7), N_CELLS, 10))


def test_moments_are_those_of_a_standard_normal(normals):
    """Each within four standard errors: 1, 2, 6 and 24 over n are the variances of the first four moments."""
    z = normals[0].ravel()
    assert abs(z.mean()) < 4.0 * np.sqrt(1.0 / N_DRAWS)
    assert abs(z.var() - 1.0) < 4.0 * np.sqrt(2.0 / N_DRAWS)
    assert abs((z**3).mean()) < 4.0 * np.sqrt(15.0 / N_DRAWS)
    assert abs((z**4).mean() - 3.0) < 4.0 * np.sqrt(96.0 / N_DRAWS)


def test_tails_have_the_normal_probability(normals):
    share = (np.abs(normals[0]) > 2.575829).mean()
    assert abs(share - 0.01) < 4.0 * np.sqrt(0.01 * 0.99 / N_DRAWS)


def test_cells_are_uncorrelated(normals):
    correlation = np.corrcoef(normals[0]) - np.eye(N_CELLS)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(N_REPLICATES)


def test_steps_and_replicates_are_uncorrelated(normals):
    first, second = normals
    bound = 4.0 / np.sqrt(N_DRAWS)
    assert abs((first * second).mean()) < bound
    assert abs((first[:, 1:] * first[:, :-1]).mean()) < bound


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
