"""Patterns of fates: how often each is seen, and which are equally frequent by symmetry.

A pattern is compared as 32-bit words, so that any number of cells can be told apart exactly; replicates are sorted by
them instead of compared pair by pair.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, UInt32

from lateral.geometry import Geometry
from lateral.numerics import binary_entropy, entropy

__all__ = [
    "PatternClasses",
    "PatternCounts",
    "alternation_of",
    "count_patterns",
    "each_its_own",
    "fate_entropy",
    "fate_shares",
    "group_sizes",
    "of_each_fate",
    "pattern_classes",
]

BITS_OF_A_WORD = 32


class PatternClasses(NamedTuple):
    """Which replicates show a pattern of the same class, from `pattern_classes`.

    Attributes:
        number: below R, the same for the same class.
        n_patterns: patterns in that class, all equally frequent.
        swapped: whether fates in reversed order (0 and 1 swapped) belong to the same class.
    """

    number: Int[Array, " replicate"]
    n_patterns: Float[Array, "*replicate"]
    swapped: Bool[Array, ""]


class PatternCounts(NamedTuple):
    """Replicates sorted by pattern, from `count_patterns`.

    Attributes:
        counts: how often each one's pattern occurs.
        shares: its share of fate 1; of more than two fates that of each.
        n_patterns: number of distinct patterns.
    """

    counts: Float[Array, " replicate"]
    shares: Float[Array, "replicate *fate"]
    n_patterns: Int[Array, ""]


@partial(jax.jit, static_argnames="n_fates")
def count_patterns(fates: Float[Array, "replicate cell"], n_fates: int = 2) -> PatternCounts:
    """How often each pattern is seen."""
    words, shares = _pattern_words(fates, n_fates), fate_shares(fates, n_fates, axis=1)
    if n_fates == 2:
        group, shares = _sort_by_words(words, shares)
    else:
        group, order = _sort_by_words(words, jnp.arange(len(fates)))
        shares = shares.T[order]
    return PatternCounts(group_sizes(group, shares.dtype), shares, group[-1] + 1)


def group_sizes(number: Int[Array, " replicate"], dtype=float) -> Float[Array, " replicate"]:
    """How many replicates have the same number as each. Counted in integers: float32 cannot add 1 to 2^24."""
    return jnp.zeros(number.shape, jnp.int32).at[number].add(1)[number].astype(dtype)


def fate_shares(
    fates: Float[Array, "replicate cell *fate"], n_fates: int = 2, axis: int | None = None
) -> Float[Array, "..."]:
    """Share of fate 1; of more than two fates that of each, on a first axis."""
    if n_fates == 2:
        return jnp.mean(fates, axis=axis)
    return jnp.stack([jnp.mean(share, axis=axis) for share in of_each_fate(fates, n_fates)])


def of_each_fate(fates: Float[Array, "replicate cell *fate"], n_fates: int) -> list[Float[Array, "replicate cell"]]:
    """For each fate its share of each cell, which is 0 or 1 where `fates` are whole numbers and not shares."""
    if fates.ndim == 3:
        return [fates[:, :, fate] for fate in range(n_fates)]
    return [(fates == fate).astype(fates.dtype) for fate in range(n_fates)]


def fate_entropy(
    fates: Float[Array, "replicate cell *fate"], n_fates: int = 2, axis: int | None = None
) -> Float[Array, "..."]:
    """Entropy in bits of one fate, pooled over all cells and replicates or over an axis."""
    shares = fate_shares(fates, n_fates, axis)
    return binary_entropy(shares) if n_fates == 2 else entropy(shares)


def each_its_own(fates: Float[Array, "replicate cell"], n_fates: int = 2) -> PatternClasses:
    """Classes of one pattern each."""
    return PatternClasses(_number(_pattern_words(fates, n_fates)), jnp.ones(()), jnp.array(False))


def pattern_classes(
    fates: Float[Array, "replicate cell"], geometry: Geometry, swap: ArrayLike = False, n_fates: int = 2
) -> PatternClasses:
    """Classes of the patterns that identical cells make equally often, whatever their rule.

    They are a pattern and its images under the symmetries of the geometry (those that leave the offset b as it is),
    and where `swap` says that fates 0 and 1 are alike all of these with fates swapped; of K fates, k is then alike to
    K - 1 - k.

    Where a pattern does not fit into one word, as of more than 32 cells of two fates, each is a class of its own.
    """
    n_cells, size = fates.shape[1], _bits_of_a_fate(n_fates)
    if n_cells > BITS_OF_A_WORD // size:
        return each_its_own(fates, n_fates)
    (pattern,) = _pattern_words(fates, n_fates)
    permutations = geometry.symmetries
    # Cell i of the image is cell permutation[i]: it adds its fate at place i.
    weights = jnp.asarray(np.uint32(1) << (size * np.argsort(permutations, axis=1)).astype(np.uint32))
    digits = fates.astype(jnp.uint32).T
    # (image, replicate), term by term: the compiler makes one loop of it, where a sum over cells would be slower.
    images = sum(weights[:, cell, None] * digits[cell][None] for cell in range(n_cells))
    offset = geometry.offset()
    kept = jnp.ones(len(permutations), bool)
    if offset is not None:
        kept = jnp.all(jnp.abs(offset[permutations] - offset[None]) < 1e-6, axis=1)
    last_of_all = jnp.uint32(sum((n_fates - 1) << (size * cell) for cell in range(n_cells)))
    images = jnp.where(kept[:, None], images, pattern[None])
    smallest = jnp.min(images, axis=0)
    smallest = jnp.where(swap, jnp.minimum(smallest, jnp.min(last_of_all - images, axis=0)), smallest)
    # Orbit and stabiliser: each pattern of the class stands among the images equally often.
    fixed = kept[:, None] & (images == pattern[None])
    fixed_by_swap = swap & kept[:, None] & (images == (last_of_all - pattern)[None])
    n_images = jnp.sum(kept) * jnp.where(swap, 2, 1)
    n_patterns = n_images / (jnp.sum(fixed, axis=0) + jnp.sum(fixed_by_swap, axis=0))
    return PatternClasses(_number([smallest]), n_patterns, jnp.asarray(swap))


def alternation_of(fates: Float[Array, "replicate cell"], geometry: Geometry, n_fates: int = 2) -> Float[Array, ""]:
    """Share of neighbour pairs whose fates differ; 0 where there is no pair, NaN where a fate is."""
    first, second = geometry.pairs.T
    if not len(first):
        return jnp.zeros((), fates.dtype)
    differ = jnp.abs(fates[:, first] - fates[:, second])
    return jnp.mean(differ if n_fates == 2 else jnp.minimum(differ, 1.0))


def _pattern_words(fates: Float[Array, "replicate cell"], n_fates: int = 2) -> list[UInt32[Array, " replicate"]]:
    """Each pattern as 32-bit words, one bit for each of two fates."""
    size = _bits_of_a_fate(n_fates)
    digits, cells_of_word = fates.astype(jnp.uint32), BITS_OF_A_WORD // size
    words = []
    for first in range(0, fates.shape[1], cells_of_word):
        block = digits[:, first : first + cells_of_word]
        weights = jnp.asarray([2 ** (size * i) for i in range(block.shape[1])], jnp.uint32)
        words.append(jnp.sum(block * weights[None], axis=1, dtype=jnp.uint32))
    return words


def _bits_of_a_fate(n_fates: int) -> int:
    return (n_fates - 1).bit_length()


def _number(words):
    group, order = _sort_by_words(words, jnp.arange(words[0].shape[0]))
    return jnp.zeros_like(group).at[order].set(group)


def _sort_by_words(words, values):
    """The number of the pattern of each replicate, and `values` of the replicates, both sorted by pattern."""
    *words, values = jax.lax.sort([*words, values], num_keys=len(words))
    changes = sum((word[1:] != word[:-1]).astype(jnp.int32) for word in words) > 0
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(changes, dtype=jnp.int32)]), values
