"""S_rep where whole patterns cannot be counted: each fate is predicted from its neighbours in other tissues.

This is `lateral.bounds` for the inside of training: any number of cells, traced, and with a derivative by the weight of
each replicate. By the chain rule the entropy of patterns is at most the sum of what it costs to predict each cell from
some of the cells before it (`lateral.contexts`), and predictions made of other tissues cost no less on the average,
however few the tissues. Here the replicates are dealt into folds, and each is predicted from the other folds.

What is known of a cell grows in levels: nothing, its nearest earlier cell, the nearest two, and so on. All cells follow
one rule, so that cells are first taken together that have as many neighbours and earlier cells at the same distances.
The last level is the cell alone, since cells near an end are not like others. Each level mixes what it has counted with
what the level before says, and half a tissue in all fates alike, so that no fate is ever impossible.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from lateral.contexts import contexts_and_distances
from lateral.geometry import Geometry

__all__ = ["FOLDS", "MAX_COUNTED", "WEIGHT", "WEIGHT_OF_OTHERS", "Contexts", "known_contexts", "predicted_s_rep"]

MAX_COUNTED = 12  # cells
MOST_EARLIER, MOST_CASES = 4, 16  # earlier cells, and cases of their fates
FOLDS = 8
WEIGHT = 2.0  # of the level before, in cells
WEIGHT_OF_OTHERS = 16.0  # of all cells that are alike, in tissues


class Contexts(NamedTuple):
    """What each cell is predicted from.

    Attributes:
        earlier: earlier cells, the nearest first.
        there: which of them there are; the first cells have fewer.
        alike: for each level the number of the group of cells that are predicted alike.
        bins: for each level, of each cell and all fates that its earlier cells may have, where it is counted.
    """

    earlier: Int[np.ndarray, "cell slot"]
    there: Bool[np.ndarray, "cell slot"]
    alike: tuple[Int[np.ndarray, " cell"], ...]
    bins: Int[np.ndarray, "level cell code"]


def known_contexts(geometry: Geometry, n_fates: int = 2) -> Contexts:
    """The contexts of the cells of a tissue: four earlier cells of two fates, fewer of more."""
    size = max(n for n in range(1, MOST_EARLIER + 1) if n == 1 or n_fates**n <= MOST_CASES)
    cells = np.arange(geometry.n_cells)
    earlier, there = np.tile(cells[:, None], (1, size)), np.zeros((len(cells), size), bool)
    kinds = [()] * len(cells)
    n_neighbours = np.bincount(geometry.pairs.reshape(-1), minlength=len(cells))
    for cell, found, distances in contexts_and_distances(geometry, size):
        earlier[cell, : len(found)], there[cell, : len(found)] = found, True
        kinds[cell] = (n_neighbours[cell], *distances)
    levels = [[kind[: level + 1] for kind in kinds] for level in range(size + 1)]
    groups = [[sorted(set(level)).index(kind) for kind in level] for level in levels]
    alike, n_codes = (*map(np.array, groups), cells), n_fates**size
    codes = np.arange(n_codes)
    prefixes = [codes // n_fates ** (size - min(level, size)) for level in range(len(alike))]
    bins = [group[:, None] * n_codes + prefix for group, prefix in zip(alike, prefixes, strict=True)]
    return Contexts(earlier, there, alike, np.array(bins, np.int32))


def predicted_s_rep(
    fates: Float[Array, "replicate cell"],
    contexts: Contexts,
    weights: Float[Array, " replicate"],
    n_fates: int = 2,
) -> Float[Array, ""]:
    """Upper bound of S_rep in bits per cell, of replicates with weights; its expectation is never below S_rep."""
    n_replicates, n_cells = fates.shape
    digits = fates.T.astype(jnp.int32)
    codes = _codes(digits, contexts, n_fates)
    fold, cells = (jnp.arange(n_replicates) % FOLDS)[None], jnp.arange(n_cells)[:, None]
    n_codes = n_fates ** contexts.earlier.shape[1]
    counts = jnp.zeros((FOLDS, n_cells, n_codes, n_fates), fates.dtype)
    counts = counts.at[fold, cells, codes, digits].add(weights[None])
    others = jnp.sum(counts, axis=0, keepdims=True) - counts

    def level(q, of_level):
        bins, weight = of_level
        together = jnp.zeros((FOLDS, n_cells * n_codes, n_fates), fates.dtype).at[:, bins].add(others)
        found = together[fold, bins[cells, codes]]  # (cell, replicate, fate)
        seen = jnp.take_along_axis(found, digits[:, :, None], axis=2)[:, :, 0]
        return (seen + weight * q) / (jnp.sum(found, axis=2) + weight), None

    # A loop over the levels, which is compiled once, and fast.
    level_weights = np.full(len(contexts.bins), WEIGHT)
    level_weights[-1] = WEIGHT_OF_OTHERS
    chances = jnp.full((n_cells, n_replicates), 1.0 / n_fates, fates.dtype)
    q, _ = jax.lax.scan(level, chances, (jnp.asarray(contexts.bins), jnp.asarray(level_weights, fates.dtype)))
    chance = 0.5 / n_replicates
    bits = -jnp.sum(jnp.log2((1.0 - chance) * q + chance / n_fates), axis=0)
    return jnp.sum(weights * bits) / (n_replicates * n_cells)


def _codes(digits: Int[Array, "cell replicate"], contexts: Contexts, n_fates: int) -> Int[Array, "cell replicate"]:
    """The fates of the earlier cells as one number, the nearest first; a cell that is not there has fate 0."""
    known = jnp.where(contexts.there[:, :, None], digits[contexts.earlier], 0)
    places = n_fates ** np.arange(contexts.earlier.shape[1], dtype=np.int32)[::-1]
    return jnp.sum(known * places[None, :, None], axis=1)
