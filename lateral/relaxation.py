"""Relaxations: what stands in for hard fates where a gradient is needed (notebooks 02, 05).

A relaxation replaces two things: the fate of a cell, and the entropy of whole patterns S_rep, for which hard patterns
are counted. It is one entry of `RELAXATIONS`; one's own is an object with the same three members. Of more than two
fates, soft ones are the shares of all of them, `(replicate, cell, fate)`, with a sigmoid for each threshold.

| relaxation | fates | S_rep |
|---|---|---|
| `straight_through` | hard, with the gradient of the identity | Gaussian kernel between replicates |
| `raw` | the states themselves | Gaussian kernel between replicates |
| `kernel` | `sigmoid((s - threshold) / soft_width)` | Gaussian kernel between replicates |
| `bernoulli` | the same, as probabilities | exact, all K^N patterns (K^N <= 2^12) |
| `pairwise` | the same, as probabilities | chance that two replicates match: an upper bound of U, for any N |
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.checks import check_matrix, check_number, check_real, check_unit_interval, is_float, is_traced
from lateral.numerics import SMALLEST, binary_entropy, entropy
from lateral.utility import THRESHOLD, apply_threshold

__all__ = [
    "RELAXATIONS",
    "Relaxation",
    "bernoulli_s_rep",
    "check_thresholds",
    "compute_bernoulli_utility",
    "compute_pairwise_utility",
    "compute_soft_utility",
    "exact_relaxation",
    "kernel_s_rep",
    "most_cells",
    "pairwise_s_rep",
    "soft_fates",
    "soften_fates",
]

MAX_CELLS_BERNOULLI = 12  # of two fates


class Relaxation(NamedTuple):
    """What stands in for hard fates where a gradient is needed.

    Attributes:
        fates: `(states, readout) -> fates`, both `(replicate, cell)`; of more than two fates the share of each,
            `(replicate, cell, fate)`.
        s_rep: `(fates, readout) -> entropy` of whole patterns, in bits per cell.
        max_cells: the largest number of cells of two fates that it can be computed for; of K, log2 K times fewer.
    """

    fates: Callable[[Array, Any], Array]
    s_rep: Callable[[Array, Any], Array]
    max_cells: float = math.inf


def soft_fates(states, readout: Any):
    return _soft(states, readout.cuts, readout.soft_width)


def _soft(states: Array, cuts: Sequence, width: ArrayLike) -> Array:
    return _between(cuts, lambda cut: jax.nn.sigmoid((states - cut) / width))


def _straight_through_fates(states, readout: Any):
    return _between(readout.cuts, lambda cut: apply_threshold(states, cut))


def _between(cuts: Sequence, reached: Callable) -> Array:
    """How surely the one threshold is reached; of more thresholds the share of each fate, on a last axis."""
    steps = [reached(cut) for cut in cuts]
    if len(steps) == 1:
        return steps[0]
    return -jnp.diff(jnp.stack([jnp.ones_like(steps[0]), *steps, jnp.zeros_like(steps[0])], axis=-1), axis=-1)


def kernel_s_rep(patterns: Float[Array, "replicate cell *fate"], bandwidth: ArrayLike) -> Float[Array, ""]:
    """`-mean_r log2 P_r / N` with the kernel density `P_r = mean_q exp(-|x_r - x_q|² / 2h²)`.

    The squared distance of shares is halved: two cells of different fates are at distance 1, whatever K is.
    """

    def log_kernel(row):
        squares = (patterns - row[None]) ** 2
        squares = squares if patterns.ndim == 2 else 0.5 * jnp.sum(squares, axis=2)
        return -jnp.sum(squares, axis=1) / (2.0 * bandwidth**2)

    return _entropy_of_replicates(patterns, log_kernel)


def pairwise_s_rep(probabilities: Float[Array, "replicate cell *fate"]) -> Float[Array, ""]:
    """`-mean_r log2 mean_q M_rq / N` with the chance M that the tosses of two replicates match."""
    of_two = probabilities.ndim == 2

    def log_match(row):
        chances = zip(_chances(probabilities, of_two), _chances(row, of_two), strict=True)
        match = sum(chance * of_row[None] for chance, of_row in chances)
        # Added, where a maximum would do for the value: where one cell alone never matches, the slope of the product
        # is that of the other cells, SMALLEST / SMALLEST times it; a maximum would make it 0.
        return jnp.sum(jnp.log(match + SMALLEST), axis=1)

    return _entropy_of_replicates(probabilities, log_match)


def bernoulli_s_rep(probabilities: Float[Array, "replicate cell *fate"]) -> Float[Array, ""]:
    """Exact, from the distribution over K^N patterns, built a cell at a time: `(replicate, K)`, `(replicate, K²)`..."""
    n_cells = probabilities.shape[1]
    distribution = jnp.ones((probabilities.shape[0], 1), probabilities.dtype)
    for cell in range(n_cells):
        chances = _chances(probabilities[:, cell], probabilities.ndim == 2)
        distribution = jnp.concatenate([distribution * chance[:, None] for chance in chances], axis=1)
    return entropy(jnp.mean(distribution, axis=0)) / n_cells


def _chances(probabilities: Array, of_two: bool) -> list[Array]:
    """The chance of each fate, from that of fate 1 of two, or from those of all on the last axis."""
    return [1.0 - probabilities, probabilities] if of_two else list(jnp.moveaxis(probabilities, -1, 0))


def _by_kernel(fates, readout: Any):
    return kernel_s_rep(fates, readout.soft_bandwidth)


RELAXATIONS: dict[str, Relaxation] = {
    "straight_through": Relaxation(_straight_through_fates, _by_kernel),
    "raw": Relaxation(lambda states, readout: states, _by_kernel),
    "kernel": Relaxation(soft_fates, _by_kernel),
    "bernoulli": Relaxation(soft_fates, lambda fates, readout: bernoulli_s_rep(fates), MAX_CELLS_BERNOULLI),
    "pairwise": Relaxation(soft_fates, lambda fates, readout: pairwise_s_rep(fates)),
}


def exact_relaxation(n_cells: int, n_fates: int = 2) -> str:
    """The relaxation to train so many cells by: exact pattern probabilities, and their bound where K^N is too many."""
    return "bernoulli" if n_cells <= most_cells(MAX_CELLS_BERNOULLI, n_fates) else "pairwise"


def most_cells(max_cells: float, n_fates: int) -> float:
    """How many cells of K fates make as many patterns as so many cells of two fates."""
    return max_cells if n_fates == 2 or max_cells == math.inf else int(max_cells / math.log2(n_fates))


def check_thresholds(name: str, thresholds: Any) -> tuple:
    """Two or more numbers in [0, 1] that rise."""
    try:
        thresholds = tuple(thresholds)
    except TypeError:
        thresholds = (thresholds,)
    if len(thresholds) < 2:
        raise ValueError(f"{name} must be two or more numbers, got {len(thresholds)}: one is `threshold`")
    numbers = tuple(check_number(f"{name}[{i}]", x, minimum=0.0, maximum=1.0) for i, x in enumerate(thresholds))
    concrete = [float(x) for x in numbers if not is_traced(x)]
    if len(concrete) == len(numbers) and any(b <= a for a, b in pairwise(concrete)):
        raise ValueError(f"{name} must rise, got {tuple(concrete)}")
    return numbers


def _entropy_of_replicates(patterns, log_likeness):
    """S_rep with the frequency of a row's pattern as its mean likeness, here a logarithm, to all replicates."""

    # A block of rows at a time, recomputed in the backward pass: the R x R likenesses are never stored at once.
    @jax.checkpoint
    def log_frequency(row):
        return jax.nn.logsumexp(log_likeness(row)) - math.log(patterns.shape[0])

    block = max(1, min(patterns.shape[0], 2**22 // patterns.size))
    log_frequencies = jax.lax.map(log_frequency, patterns, batch_size=block)
    return -jnp.mean(log_frequencies) / (math.log(2.0) * patterns.shape[1])


# --- the relaxed utilities as functions


def soften_fates(
    states: ArrayLike, width: ArrayLike = 0.1, threshold: ArrayLike | Sequence[ArrayLike] = THRESHOLD
) -> Array:
    """Soft fates `sigmoid((state - threshold) / width)` in [0, 1], any shape; they harden as width -> 0.

    By K - 1 > 1 thresholds, which rise, there are K fates: the shares of all, which sum to 1, on a last axis.
    """
    states = check_unit_interval("states", check_real("states", states))
    check_number("width", width, above=0.0)
    if np.ndim(threshold):
        cuts = check_thresholds("threshold", threshold)
    else:
        cuts = (check_number("threshold", threshold, minimum=0.0, maximum=1.0),)
    return _soft(states if is_float(states) else states.astype(float), cuts, width)


def compute_soft_utility(patterns: ArrayLike, bandwidth: ArrayLike = 0.1) -> tuple[Array, Array, Array]:
    """Differentiable utility of soft patterns, through a Gaussian kernel between replicates.

    The frequency of a pattern is replaced by its kernel density, `P_r = mean_q exp(-|x_r - x_q|² / 2h²)`, and
    S_rep by `-mean_r log2 P_r / N`. On exact fates and bandwidth <= 0.1 it equals the hard utility within 1e-4,
    since different patterns are at least 1 apart. It is finite in value and gradient everywhere; but on exact
    fates S_rep has *no* gradient (the kernel is flat at distance 0 and at distance >= 1), only S_pat has.

    Args:
        patterns: soft fates in [0, 1], `(replicate, cell)`, of any bool, integer or float dtype; of K > 2 fates the
            shares of all, `(replicate, cell, fate)`.
        bandwidth: h > 0, in units of state.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell. Work grows as R² N, memory as R.
    """
    check_number("bandwidth", bandwidth, above=0.0)
    return _kernel_utility(_check_shares("patterns", patterns), bandwidth)


def compute_bernoulli_utility(fate_probabilities: ArrayLike) -> tuple[Array, Array, Array]:
    """Differentiable utility of fates that are independent coin tosses given the final states.

    Each cell takes fate 1 with probability q_i (say `soften_fates(states)`); the probability of each of the K^N
    patterns, averaged over replicates, is exact, so no bandwidth is needed and both entropies have a gradient.
    It equals the hard utility when all probabilities are 0 or 1.

    Args:
        fate_probabilities: in [0, 1], `(replicate, cell)`, at most 12 cells; of K > 2 fates those of all, `(replicate,
            cell, fate)`, and at most 12 / log2 K cells.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell.
    """
    probabilities = _check_shares("fate_probabilities", fate_probabilities)
    n_cells, n_fates = probabilities.shape[1], 2 if probabilities.ndim == 2 else probabilities.shape[2]
    if n_cells > (most := most_cells(MAX_CELLS_BERNOULLI, n_fates)):
        raise ValueError(
            f"compute_bernoulli_utility sums over {n_fates}^N patterns and takes at most {most} cells, "
            f"got {n_cells}: use compute_pairwise_utility or compute_soft_utility"
        )
    return _bernoulli_utility(probabilities)


def compute_pairwise_utility(fate_probabilities: ArrayLike) -> tuple[Array, Array, Array]:
    """Differentiable utility of fates that are independent coin tosses, for any number of cells.

    The frequency of the pattern of replicate r is replaced by the probability that another toss shows the same one:

        M_rq = prod_i [a_ri a_qi + (1 - a_ri)(1 - a_qi)],        S_rep = -mean_r log2 mean_q M_rq / N,

    with a the probabilities of fate 1; of more fates, the bracket is the sum over all of them. On exact fates M is 1
    for equal patterns and 0 for others, and this is the hard utility; there, unlike in `compute_soft_utility`, S_rep
    has a gradient between replicates that differ in one cell.

    It is an upper bound of `compute_bernoulli_utility`. With P_r the distribution of the patterns of replicate r, and
    P its mean over replicates, mean_q M_rq is the mean of P under P_r. The Bernoulli S_rep is the mean over P_r of
    -log2 P; here the mean is inside the logarithm, so by Jensen's inequality

        -log2 sum_x P(x)²  <=  N S_rep here  <=  N S_rep of `compute_bernoulli_utility`,

    the left side being the collision (Rényi) entropy of P. Both S_rep are equal if each replicate is sure of its
    pattern, or if all patterns that a replicate may show are equally frequent, as for fair coins. They are apart where
    a replicate shows one pattern often and others rarely: if each cell is on with probability 0.01 whatever the others
    do, S_rep is 0.029 here and H(0.01) = 0.081 there, so that utility is 0.052 where it should be 0. S_pat is the same.

    Args:
        fate_probabilities: in [0, 1], `(replicate, cell)`, say `soften_fates(states)`; of K > 2 fates those of all,
            `(replicate, cell, fate)`.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell. Work grows as R² N, memory as R.
    """
    return _pairwise_utility(_check_shares("fate_probabilities", fate_probabilities))


def _check_shares(name: str, values: ArrayLike) -> Array:
    """Soft fates of two kinds, `(replicate, cell)`, or the shares of all of more, `(replicate, cell, fate)`."""
    array = check_real(name, values)
    if array.ndim != 3:
        array = check_matrix(name, array)
    elif 0 in array.shape or array.shape[2] < 2:
        raise ValueError(f"{name} must have shape (replicate, cell, fate) with two fates or more, got {array.shape}")
    array = check_unit_interval(name, array)
    array = array.astype(jnp.float64 if array.dtype == jnp.float64 else jnp.float32)
    if array.ndim == 3 and not is_traced(array):
        sums = np.asarray(array, np.float64).sum(axis=2)
        if np.abs(sums - 1.0).max() > 1e-3:
            worst = sums.flat[np.abs(sums - 1.0).argmax()]
            raise ValueError(f"{name} must sum to 1 over the fates of each cell, got {worst:g}")
    return array


def _utility_with(s_rep: Callable) -> Callable:
    """Compiled once for each shape; the size of the cache tells how often."""

    @jax.jit
    def utility(fates, *numbers):
        of_patterns = s_rep(fates, *numbers)
        s_pat = binary_entropy(jnp.mean(fates)) if fates.ndim == 2 else entropy(jnp.mean(fates, axis=(0, 1)))
        return s_pat - of_patterns, s_pat, of_patterns

    return utility


_kernel_utility, _bernoulli_utility, _pairwise_utility = map(
    _utility_with, (kernel_s_rep, bernoulli_s_rep, pairwise_s_rep)
)
