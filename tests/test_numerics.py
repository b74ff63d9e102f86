"""Entropies in bits: closed forms, and the values and gradients at probability 0 and 1."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral.numerics import binary_entropy, entropy, plogp

INSIDE = np.array([0.01, 0.1, 0.25, 3 / 7, 0.5, 0.7, 0.999])


def test_plogp_matches_math_log2():
    expected = [p * math.log2(p) for p in INSIDE]
    np.testing.assert_allclose(plogp(jnp.asarray(INSIDE)), expected, rtol=1e-14)


def test_slope_of_plogp_is_log2_p_plus_one_over_ln2():
    slopes = jax.vmap(jax.grad(plogp))(jnp.asarray(INSIDE))
    np.testing.assert_allclose(slopes, np.log2(INSIDE) + 1.0 / math.log(2.0), rtol=1e-13)


def test_entropy_of_three_sevenths_is_the_closed_form_of_the_project():
    assert float(binary_entropy(jnp.asarray(3 / 7))) == pytest.approx(0.98523, abs=5e-6)


def test_slope_of_binary_entropy_is_the_log_odds():
    slopes = jax.vmap(jax.grad(binary_entropy))(jnp.asarray(INSIDE))
    np.testing.assert_allclose(slopes, np.log2((1.0 - INSIDE) / INSIDE), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_entropy_of_n_equal_outcomes_is_log2_n(n):
    assert float(entropy(jnp.full(n, 1.0 / n))) == pytest.approx(math.log2(n), abs=1e-13)


def test_entropy_runs_along_the_chosen_axis():
    table = jnp.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    expected = [1.0, 2.0 - 0.75 * math.log2(3.0), 0.0]
    np.testing.assert_allclose(entropy(table, axis=1), expected, atol=1e-14)
    np.testing.assert_allclose(entropy(table.T), expected, atol=1e-14)


def test_entropy_obeys_the_grouping_theorem():
    """Shannon's third axiom: H(p1, p2, p3) = H(p1, p2 + p3) + (p2 + p3) H(p2 / (p2 + p3))."""
    p1, p2, p3 = 0.2, 0.3, 0.5
    grouped = binary_entropy(jnp.asarray(p1)) + (p2 + p3) * binary_entropy(jnp.asarray(p2 / (p2 + p3)))
    assert float(entropy(jnp.array([p1, p2, p3]))) == pytest.approx(float(grouped), abs=1e-14)


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-300, 1e-30, 1.0 - 1e-16])
def test_certainty_has_no_entropy(precision, p):
    assert float(binary_entropy(jnp.asarray(p, float))) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("function", [plogp, binary_entropy, lambda p: entropy(jnp.stack([p, 1.0 - p]))])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_gradient_is_finite_when_a_fate_is_absent(precision, function, p):
    """Also with `jit` inside `grad`, where the compiler once turned 0 / ln2 / 2^-126 into 0 / 0 in float32."""
    for gradient in (jax.jit(jax.grad(function)), jax.grad(jax.jit(function))):
        assert math.isfinite(gradient(jnp.asarray(p, float)))


def test_gradient_points_away_from_the_absent_fate(precision):
    slope = jax.grad(jax.jit(binary_entropy))
    assert slope(jnp.asarray(0.0, float)) > 50.0
    assert slope(jnp.asarray(1.0, float)) < -50.0
