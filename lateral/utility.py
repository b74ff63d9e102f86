"""Utility: how much a pattern says, less how much it varies from tissue to tissue (notebook 02).

    U = S_pat - S_rep      in bits per cell          (Brückner & Tkačik, PNAS 2024)

S_pat is the entropy of one fate, pooled over cells and replicates: patterns should use both fates. S_rep is the
entropy of whole patterns over replicates, divided by the number of cells: development should come out the same
every time. Equivalently U = positional + correlational information.

`lateral` reports `compute_hard_utility`, which has no gradient. `lateral.relaxation` holds what stands in for it where
a gradient is needed, and `lateral.objective` what training climbs.
"""

import math
import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from lateral.checks import (
    check_fates,
    check_matrix,
    check_number,
    check_real,
    check_size,
    check_unit_interval,
    is_float,
    is_traced,
)
from lateral.geometry import Geometry, check_geometry, row_with_ends
from lateral.jackknife import bias_and_error
from lateral.patterns import alternation_of, count_patterns, fate_entropy

__all__ = [
    "THRESHOLD",
    "UndersampledWarning",
    "UtilityEstimate",
    "alternation",
    "apply_threshold",
    "compute_hard_utility",
    "correlational_information",
    "estimate_of_fates",
    "estimate_utility",
    "hard_scores",
    "positional_information",
]

THRESHOLD = 0.5


class UndersampledWarning(UserWarning):
    """More distinct patterns than a tenth of the replicates: the utility is only an upper bound."""


class UtilityEstimate(NamedTuple):
    """The utility of an ensemble of fates with its error; entropies and information in bits per cell.

    Attributes:
        utility: plug-in estimate S_pat - S_rep, biased upward by about (patterns - 1) / (2 ln2 N R).
        utility_corrected: the same with its bias removed (jackknife; Zahl 1977), unreliable if undersampled.
        utility_se: standard error of `utility` over replicates (jackknife); infinite for one replicate.
        s_pat: entropy of one fate, pooled over cells and replicates.
        s_rep: entropy of whole patterns, divided by N.
        positional_information: S_pat - mean over cells of the entropy of their fate.
        correlational_information: what cells know of each other; positional + correlational = utility.
        alternation: share of neighbour pairs whose fates differ.
        n_patterns: number of distinct patterns seen.
        undersampled: more than R / 10 distinct patterns; the estimate is then only an upper bound.
    """

    utility: Float[Array, ""]
    utility_corrected: Float[Array, ""]
    utility_se: Float[Array, ""]
    s_pat: Float[Array, ""]
    s_rep: Float[Array, ""]
    positional_information: Float[Array, ""]
    correlational_information: Float[Array, ""]
    alternation: Float[Array, ""]
    n_patterns: Int[Array, ""]
    undersampled: Bool[Array, ""]


def apply_threshold(states: ArrayLike, threshold: ArrayLike = THRESHOLD) -> Array:
    """Fates of states: 1 where state >= threshold, else 0, as floats of the dtype of the states.

    Straight-through estimator (Bengio, Léonard & Courville 2013): hard fates forward, and the gradient of the
    identity backward.

    Args:
        states: states in [0, 1], any shape.
        threshold: in [0, 1].
    """
    states = check_real("states", states)
    check_number("threshold", threshold, minimum=0.0, maximum=1.0)
    states = check_unit_interval("states", states).astype(states.dtype if is_float(states) else jnp.float16)
    return _straight_through(states, jnp.asarray(threshold, states.dtype))


@partial(jax.jit, inline=True)
def _straight_through(states, threshold):
    # states - stop_gradient(states) is exactly 0 forward and carries the identity backward.
    return (states >= threshold).astype(states.dtype) + (states - jax.lax.stop_gradient(states))


def compute_hard_utility(patterns: ArrayLike, n_fates: int = 2) -> tuple[Array, Array, Array]:
    """Utility of an ensemble of fates: the plug-in estimate, exact in the frequencies for any number of cells.

    Args:
        patterns: fates `(replicate, cell)`, exactly 0 or 1, of any bool, integer or float dtype.
        n_fates: number of fates K; with more than two, fates are whole numbers from 0 to K - 1.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell.

    Raises:
        ValueError: for values other than 0 and 1 (use `apply_threshold`) or a wrong shape.

    Warns:
        UndersampledWarning: for more than R / 10 distinct patterns, on concrete arrays. The estimate is then only
            an upper bound: independent cells, truly 0, read 0.78 at N = 64 and R = 20,000. See
            `estimate_utility` for the flag, a bias correction and a standard error, and `lateral.bound_utility` for a
            lower bound.
    """
    fates = _check_patterns(patterns, n_fates)
    counts = count_patterns(fates, n_fates)
    if not is_traced(fates):
        n_replicates, n_patterns = fates.shape[0], int(counts.n_patterns)
        if n_patterns > n_replicates / 10:
            message = (
                f"{n_patterns} distinct patterns in {n_replicates} replicates: "
                "too few replicates, the utility is only an upper bound"
            )
            warnings.warn(message, UndersampledWarning, stacklevel=2)
    return _entropies(fates, counts.counts, n_fates)


def estimate_utility(
    patterns: ArrayLike, boundary: str = "free", *, geometry: Geometry | None = None, n_fates: int = 2
) -> UtilityEstimate:
    """Everything about the utility of an ensemble of fates: bias-corrected, with error and decomposition.

    Args:
        patterns: fates `(replicate, cell)`, exactly 0 or 1, of any bool, integer or float dtype.
        boundary: of a row; on a `"ring"` the first and the last cell are neighbours for `alternation`.
        geometry: of any other tissue.
        n_fates: number of fates K; with more than two, fates are whole numbers from 0 to K - 1.

    Raises:
        ValueError: as `compute_hard_utility`.
    """
    fates = _check_patterns(patterns, n_fates)
    return estimate_of_fates(fates, _neighbours(fates, boundary, geometry), n_fates)


def positional_information(patterns: ArrayLike, n_fates: int = 2) -> Array:
    """What a cell's fate says about its position: S_pat less the mean entropy of each cell's fate, in bits."""
    return _decompose(_check_patterns(patterns, n_fates), n_fates)[0]


def correlational_information(patterns: ArrayLike, n_fates: int = 2) -> Array:
    """What the fates of the cells say about each other (total correlation per cell), in bits."""
    return _decompose(_check_patterns(patterns, n_fates), n_fates)[1]


def alternation(
    patterns: ArrayLike, boundary: str = "free", *, geometry: Geometry | None = None, n_fates: int = 2
) -> Array:
    """Share of neighbour pairs whose fates differ: N - 1 pairs, or N on a `"ring"`; 0 for a lone cell."""
    fates = _check_patterns(patterns, n_fates)
    return alternation_of(fates, _neighbours(fates, boundary, geometry), n_fates)


def _neighbours(fates, boundary: str, geometry: Geometry | None) -> Geometry:
    n_cells = fates.shape[1]
    geometry = row_with_ends(n_cells, boundary) if geometry is None else geometry
    return check_geometry("geometry", geometry, n_cells)


def hard_scores(fates: Float[Array, "replicate cell"], geometry: Geometry, n_fates: int = 2) -> dict[str, Array]:
    """Hard utility and alternation of exact fates, unchecked, for the inside of training loops."""
    return {
        "utility": _entropies(fates, count_patterns(fates, n_fates).counts, n_fates)[0],
        "alternation": alternation_of(fates, geometry, n_fates),
    }


def _check_patterns(patterns: ArrayLike, n_fates: int) -> Float[Array, "replicate cell"]:
    array = check_fates("patterns", check_matrix("patterns", patterns), check_size("n_fates", n_fates, 2))
    return array.astype(float)


@partial(jax.jit, static_argnames="n_fates")
def _entropies(fates, counts, n_fates=2):
    n_replicates, n_cells = fates.shape
    s_pat = fate_entropy(fates, n_fates)
    s_rep = (math.log2(n_replicates) - jnp.mean(jnp.log2(counts))) / n_cells
    return s_pat - s_rep, s_pat, s_rep


@partial(jax.jit, static_argnames="n_fates")
def _decompose(fates, n_fates=2):
    utility, s_pat, _ = _entropies(fates, count_patterns(fates, n_fates).counts, n_fates)
    positional = s_pat - jnp.mean(fate_entropy(fates, n_fates, axis=0))
    return positional, utility - positional


@partial(jax.jit, static_argnames="n_fates")
def estimate_of_fates(fates, geometry, n_fates=2):
    """`estimate_utility` without its checks; the size of its cache tells how often something was compiled."""
    n_replicates, n_cells = fates.shape
    counted = count_patterns(fates, n_fates)
    utility, s_pat, s_rep = _entropies(fates, counted.counts, n_fates)
    positional, correlational = _decompose(fates, n_fates)
    if n_replicates > 1:
        bias, standard_error = bias_and_error(counted, n_cells)
    else:
        bias, standard_error = jnp.zeros_like(utility), jnp.full_like(utility, jnp.inf)
    return UtilityEstimate(
        utility=utility,
        utility_corrected=utility - bias,
        utility_se=standard_error,
        s_pat=s_pat,
        s_rep=s_rep,
        positional_information=positional,
        correlational_information=correlational,
        alternation=alternation_of(fates, geometry, n_fates),
        n_patterns=counted.n_patterns,
        undersampled=counted.n_patterns > n_replicates // 10,
    )
