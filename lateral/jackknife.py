"""Bias and standard error of the utility when one replicate at a time is left out (Zahl 1977; Efron & Stein 1981).

The changes (R - 1) (U_without_r - U) are written out: in float32 the difference of two utilities times 20,000 has no
digit left.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lateral.numerics import SMALLEST, binary_entropy
from lateral.patterns import PatternCounts

__all__ = ["bias_and_error"]


def bias_and_error(counted: PatternCounts, n_cells: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Bias of the plug-in estimate of U, to be taken off, and its standard error over replicates."""
    counts = counted.counts
    n_replicates = counts.shape[0]
    others = n_replicates - 1.0

    # S_rep N = log2 R - sum_k c_k log2 c_k / R. Without one replicate of a pattern seen c times the sum falls by
    # c log2 c - (c - 1) log2 (c - 1), here in a form that holds for c = 1 too.
    fall = jnp.log2(counts) - (counts - 1.0) * jnp.log1p(-1.0 / jnp.maximum(counts, 2.0)) / math.log(2.0)
    change_rep = (others * math.log2(others / n_replicates) + fall - jnp.mean(jnp.log2(counts))) / n_cells

    of_two = counted.shares.ndim == 1
    change = (_change_of_two if of_two else _change_of_many)(counted.shares, n_cells) - change_rep
    bias = jnp.mean(change)
    standard_error = jnp.sqrt(jnp.sum((change - bias) ** 2) / (n_replicates * others))
    return bias, standard_error


def _change_of_two(shares, n_cells):
    """Of S_pat = H(p), to second order: without replicate r the pooled share p moves by (p - p_r) / (R - 1)."""
    p, offset = _pooled(shares, n_cells)
    slope = jax.grad(binary_entropy)(p)
    curvature = -1.0 / (math.log(2.0) * jnp.maximum(p * (1.0 - p), SMALLEST))
    return slope * offset + curvature * offset**2 / (2.0 * (shares.shape[0] - 1.0))


def _change_of_many(shares, n_cells):
    """The same of more than two fates, one term for each; fates that nobody has take no part."""
    p, offset = _pooled(shares, n_cells)
    seen = jnp.maximum(p, SMALLEST)
    terms = -jnp.log2(seen) * offset - offset**2 / (2.0 * math.log(2.0) * seen * (shares.shape[0] - 1.0))
    return jnp.sum(terms, axis=1)


def _pooled(shares, n_cells):
    """Pooled share of each fate, and by how much that of each replicate is less."""
    # Counted in integers: the curvature is without bound at p = 0 and 1, where the compiler's R / R need not be 1.
    n_replicates = shares.shape[0]
    of_each = jnp.round(shares * n_cells).astype(jnp.int32)
    total = jnp.sum(of_each, axis=0, dtype=jnp.int32)
    dtype = shares.dtype  # in 64-bit mode the ratio of two integers is wider than float32 fates
    p = total.astype(dtype) / (n_replicates * n_cells)
    offset = (total[None] - n_replicates * of_each).astype(dtype) / (n_replicates * n_cells)
    return p, offset
