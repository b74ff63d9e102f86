"""Utility: how much a pattern says, less how much it varies from tissue to tissue (notebook 02).

    U = S_pat - S_rep      in bits per cell          (Brückner & Tkačik, PNAS 2024)

S_pat is the entropy of one fate, pooled over cells and replicates: patterns should use both fates. S_rep is the
entropy of whole patterns over replicates, divided by the number of cells: development should come out the same
every time. Equivalently U = positional + correlational information.

`compute_hard_utility` is what is reported. It has no gradient. The functions that train by gradient replace the
hard fates by something smooth: `compute_soft_utility` compares patterns through a Gaussian kernel,
`compute_bernoulli_utility` takes fates as independent coin tosses whose probabilities depend on the states, and
`compute_pairwise_utility` does so for any number of cells, by comparing the tosses of two replicates at a time.
"""

import math
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, UInt32

from lateral._checks import (
    check_boundary,
    check_fates,
    check_matrix,
    check_number,
    check_real,
    check_unit_interval,
    is_float,
    is_traced,
)
from lateral.numerics import SMALLEST, binary_entropy, entropy

__all__ = [
    "MAX_CELLS_BERNOULLI",
    "THRESHOLD",
    "UndersampledWarning",
    "UtilityEstimate",
    "alternation",
    "apply_threshold",
    "compute_bernoulli_utility",
    "compute_hard_utility",
    "compute_pairwise_utility",
    "compute_soft_utility",
    "correlational_information",
    "estimate_utility",
    "positional_information",
    "soften_fates",
]

THRESHOLD = 0.5
MAX_CELLS_BERNOULLI = 12


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
    fates = (states >= jnp.asarray(threshold, states.dtype)).astype(states.dtype)
    # states - stop_gradient(states) is exactly 0 forward and carries the identity backward.
    return fates + (states - jax.lax.stop_gradient(states))


def soften_fates(states: ArrayLike, width: ArrayLike = 0.1, threshold: ArrayLike = THRESHOLD) -> Array:
    """Soft fates `sigmoid((state - threshold) / width)` in [0, 1], any shape; they harden as width -> 0."""
    states = check_unit_interval("states", check_real("states", states))
    check_number("width", width, above=0.0)
    check_number("threshold", threshold, minimum=0.0, maximum=1.0)
    return jax.nn.sigmoid((states - threshold) / width)


def compute_hard_utility(patterns: ArrayLike) -> tuple[Array, Array, Array]:
    """Utility of an ensemble of fates: the plug-in estimate, exact in the frequencies for any number of cells.

    Args:
        patterns: fates `(replicate, cell)`, exactly 0 or 1, of any bool, integer or float dtype.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell.

    Raises:
        ValueError: for values other than 0 and 1 (use `apply_threshold`) or a wrong shape.

    Warns:
        UndersampledWarning: for more than R / 10 distinct patterns, on concrete arrays. The estimate is then only
            an upper bound: independent cells, truly 0, read 0.78 at N = 64 and R = 20,000. See
            `estimate_utility` for the flag, a bias correction and a standard error.
    """
    fates = _check_patterns(patterns)
    counts, _ = _count_patterns(fates)
    if not is_traced(fates):
        n_replicates, n_patterns = fates.shape[0], int(_n_patterns(counts))
        if n_patterns > n_replicates / 10:
            message = (
                f"{n_patterns} distinct patterns in {n_replicates} replicates: "
                "too few replicates, the utility is only an upper bound"
            )
            warnings.warn(message, UndersampledWarning, stacklevel=2)
    return _entropies(fates, counts)


def estimate_utility(patterns: ArrayLike, boundary: str = "free") -> UtilityEstimate:
    """Everything about the utility of an ensemble of fates: bias-corrected, with error and decomposition.

    Args:
        patterns: fates `(replicate, cell)`, exactly 0 or 1, of any bool, integer or float dtype.
        boundary: of the tissue; on a `"ring"` the first and the last cell are neighbours for `alternation`.

    Raises:
        ValueError: as `compute_hard_utility`.
    """
    fates = _check_patterns(patterns)
    check_boundary(boundary, fates.shape[1])
    return _estimate(fates, boundary)


def compute_soft_utility(patterns: ArrayLike, bandwidth: ArrayLike = 0.1) -> tuple[Array, Array, Array]:
    """Differentiable utility of soft patterns, through a Gaussian kernel between replicates.

    The frequency of a pattern is replaced by its kernel density, `P_r = mean_q exp(-|x_r - x_q|² / 2h²)`, and
    S_rep by `-mean_r log2 P_r / N`. On exact fates and bandwidth <= 0.1 it equals the hard utility within 1e-4,
    since different patterns are at least 1 apart. It is finite in value and gradient everywhere; but on exact
    fates S_rep has *no* gradient (the kernel is flat at distance 0 and at distance >= 1), only S_pat has.

    Args:
        patterns: soft fates in [0, 1], `(replicate, cell)`, of any bool, integer or float dtype.
        bandwidth: h > 0, in units of state.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell. Work grows as R² N, memory as R.
    """
    patterns = check_unit_interval("patterns", check_matrix("patterns", patterns))
    check_number("bandwidth", bandwidth, above=0.0)
    return _soft_utility(patterns.astype(jnp.result_type(patterns, jnp.float32)), bandwidth)


def compute_bernoulli_utility(fate_probabilities: ArrayLike) -> tuple[Array, Array, Array]:
    """Differentiable utility of fates that are independent coin tosses given the final states.

    Each cell takes fate 1 with probability q_i (say `soften_fates(states)`); the probability of each of the 2^N
    patterns, averaged over replicates, is exact, so no bandwidth is needed and both entropies have a gradient.
    It equals the hard utility when all probabilities are 0 or 1.

    Args:
        fate_probabilities: in [0, 1], `(replicate, cell)`, at most 12 cells.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell.
    """
    probabilities = check_unit_interval("fate_probabilities", check_matrix("fate_probabilities", fate_probabilities))
    n_cells = probabilities.shape[1]
    if n_cells > MAX_CELLS_BERNOULLI:
        raise ValueError(
            f"compute_bernoulli_utility sums over 2^N patterns and takes at most {MAX_CELLS_BERNOULLI} cells, "
            f"got {n_cells}: use compute_pairwise_utility or compute_soft_utility"
        )
    return _bernoulli_utility(probabilities.astype(jnp.result_type(probabilities, jnp.float32)))


def compute_pairwise_utility(fate_probabilities: ArrayLike) -> tuple[Array, Array, Array]:
    """Differentiable utility of fates that are independent coin tosses, for any number of cells.

    The frequency of the pattern of replicate r is replaced by the probability that another toss shows the same one:

        M_rq = prod_i [a_ri a_qi + (1 - a_ri)(1 - a_qi)],        S_rep = -mean_r log2 mean_q M_rq / N,

    with a the probabilities of fate 1. On exact fates M is 1 for equal patterns and 0 for others, and this is the hard
    utility; there, other than in `compute_soft_utility`, S_rep has a gradient between replicates that differ in one
    cell.

    It is an upper bound of `compute_bernoulli_utility`. With P_r the distribution of the patterns of replicate r, and
    P its mean over replicates, mean_q M_rq is the mean of P under P_r. The Bernoulli S_rep is the mean over P_r of
    -log2 P; here the mean is inside the logarithm, so by Jensen's inequality

        -log2 sum_x P(x)²  <=  N S_rep here  <=  N S_rep of `compute_bernoulli_utility`,

    the left side being the collision (Rényi) entropy of P. Both S_rep are equal if each replicate is sure of its
    pattern, or if all patterns that a replicate may show are equally frequent, as for fair coins. They are apart where
    a replicate shows one pattern often and others rarely: if each cell is on with probability 0.01 whatever the others
    do, S_rep is 0.029 here and H(0.01) = 0.081 there, so that utility is 0.052 where it should be 0. S_pat is the same.

    Args:
        fate_probabilities: in [0, 1], `(replicate, cell)`, say `soften_fates(states)`.

    Returns:
        `(utility, s_pat, s_rep)` in bits per cell. Work grows as R² N, memory as R.
    """
    probabilities = check_unit_interval("fate_probabilities", check_matrix("fate_probabilities", fate_probabilities))
    return _pairwise_utility(probabilities.astype(jnp.result_type(probabilities, jnp.float32)))


def positional_information(patterns: ArrayLike) -> Array:
    """What a cell's fate says about its position: S_pat less the mean entropy of each cell's fate, in bits."""
    return _decompose(_check_patterns(patterns))[0]


def correlational_information(patterns: ArrayLike) -> Array:
    """What the fates of the cells say about each other (total correlation per cell), in bits."""
    return _decompose(_check_patterns(patterns))[1]


def alternation(patterns: ArrayLike, boundary: str = "free") -> Array:
    """Share of neighbour pairs whose fates differ: N - 1 pairs, or N on a `"ring"`; 0 for a lone cell."""
    fates = _check_patterns(patterns)
    check_boundary(boundary, fates.shape[1])
    return _alternation(fates, boundary)


def unchecked_scores(fates: Float[Array, "replicate cell"], boundary: str) -> dict[str, Array]:
    """Hard utility and alternation of exact fates, for the inside of training loops."""
    return {
        "utility": _entropies(fates, _count_patterns(fates)[0])[0],
        "alternation": _alternation(fates, boundary),
    }


class PatternClasses(NamedTuple):
    """Which replicates show a pattern of the same class, from `pattern_classes`."""

    number: Int[Array, " replicate"]  # below R, the same for the same class
    n_patterns: Float[Array, " replicate"]  # patterns in that class, all equally frequent
    odd: Bool[Array, ""]  # whether swapped fates belong to the same class


def influence(
    fates: Float[Array, "replicate cell"], objective: str, classes: PatternClasses | None = None
) -> tuple[Float[Array, ""], Float[Array, " replicate"]]:
    """Value of an objective, and the change of it for each replicate by which its share of the ensemble grows.

    U is a function of the frequencies P of patterns, and `r` its derivative by P of the pattern of each replicate, up
    to a constant: `r = S_pat part + log2(P) / N`, with `S_pat part = log2((1 - p) / p) p_r` for the fates pooled over
    replicates (`"ensemble"`) and `H(p_r)` for the entropy inside each replicate (`"tissue"`).

    With `classes`, P is that of a class shared out equally among its patterns: value and influence are those of the
    ensemble that holds every replicate in all the images of its class, which scatters and is biased less.
    """
    n_replicates, n_cells = fates.shape
    classes = PatternClasses(pattern_groups(fates), jnp.ones(()), jnp.array(False)) if classes is None else classes
    counts = jnp.zeros(n_replicates, fates.dtype).at[classes.number].add(1.0)[classes.number]
    log_frequency = jnp.log2(counts / n_replicates / classes.n_patterns)
    share = jnp.mean(fates, axis=1)
    if objective == "tissue":
        of_fates = binary_entropy(share)
        s_pat = jnp.mean(of_fates)
    else:
        s_pat, slope = jax.value_and_grad(binary_entropy)(jnp.where(classes.odd, 0.5, jnp.mean(share)))
        of_fates = slope * share
    return s_pat + jnp.mean(log_frequency) / n_cells, of_fates + log_frequency / n_cells


def _check_patterns(patterns: ArrayLike) -> Float[Array, "replicate cell"]:
    array = check_fates("patterns", check_matrix("patterns", patterns))
    return array.astype(float)


def _alternation(fates, boundary):
    n_cells = fates.shape[1]
    if n_cells == 1:
        return jnp.zeros((), fates.dtype)
    unequal = (fates != jnp.roll(fates, -1, axis=1)).astype(fates.dtype)
    return jnp.mean(unequal if boundary == "ring" else unequal[:, :-1])


def _pattern_words(fates: Float[Array, "replicate cell"]) -> list[UInt32[Array, " replicate"]]:
    """Each pattern as 32-bit words, so that any number of cells can be compared exactly."""
    n_cells = fates.shape[1]
    bits = fates.astype(jnp.uint32)
    words = []
    for first in range(0, n_cells, 32):
        block = bits[:, first : first + 32]
        weights = jnp.asarray([2**i for i in range(block.shape[1])], jnp.uint32)
        words.append(jnp.sum(block * weights[None], axis=1, dtype=jnp.uint32))
    return words


@jax.jit
def _count_patterns(fates: Float[Array, "replicate cell"]):
    """Replicates sorted by pattern: how often each one's pattern occurs, and its share of fate 1."""
    group, shares = _sort_by_words(_pattern_words(fates), jnp.mean(fates, axis=1))
    sizes = jnp.zeros_like(shares).at[group].add(1.0)
    return sizes[group], shares


def pattern_groups(fates: Float[Array, "replicate cell"]) -> Int[Array, " replicate"]:
    """A number below R for each replicate, the same for the same pattern."""
    return _number(_pattern_words(fates))


def pattern_classes(fates: Float[Array, "replicate cell"], boundary: str, odd: ArrayLike) -> PatternClasses:
    """Classes of the patterns that identical cells make equally often, whatever their rule.

    They are a pattern and its mirror image, on a ring also all of their rotations, and where `odd` says that fates 0
    and 1 are alike (a rule that is odd about 1/2, in a tissue that prefers neither) all of these with fates swapped.

    Above 32 cells each pattern is taken as a class of its own.
    """
    n_replicates, n_cells = fates.shape
    if n_cells > 32:
        return PatternClasses(pattern_groups(fates), jnp.ones(n_replicates), jnp.array(False))
    ((pattern,), (mirrored,)) = _pattern_words(fates), _pattern_words(fates[:, ::-1])
    all_cells = jnp.uint32(2**n_cells - 1)
    images = jnp.stack([pattern, mirrored])
    if boundary == "ring":
        turn = jnp.arange(n_cells, dtype=jnp.uint32)[:, None, None]
        images = ((images[None] << turn) | (images[None] >> (n_cells - turn))) & all_cells
        images = images.reshape(-1, n_replicates)
    images = jnp.concatenate([images, jnp.where(odd, images ^ all_cells, images)])
    # Orbit and stabiliser: each pattern of the class stands in the list equally often.
    n_patterns = images.shape[0] / jnp.sum(images == pattern[None], axis=0)
    return PatternClasses(_number([jnp.min(images, axis=0)]), n_patterns, jnp.asarray(odd))


def _number(words):
    group, order = _sort_by_words(words, jnp.arange(words[0].shape[0]))
    return jnp.zeros_like(group).at[order].set(group)


def _sort_by_words(words, values):
    """The number of the pattern of each replicate, and `values` of the replicates, both sorted by pattern."""
    *words, values = jax.lax.sort([*words, values], num_keys=len(words))
    changes = sum((word[1:] != word[:-1]).astype(jnp.int32) for word in words) > 0
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(changes, dtype=jnp.int32)]), values


def _n_patterns(counts):
    return jnp.round(jnp.sum(1.0 / counts)).astype(jnp.int32)


@jax.jit
def _entropies(fates, counts):
    n_replicates, n_cells = fates.shape
    s_pat = binary_entropy(jnp.mean(fates))
    s_rep = (math.log2(n_replicates) - jnp.mean(jnp.log2(counts))) / n_cells
    return s_pat - s_rep, s_pat, s_rep


@jax.jit
def _decompose(fates):
    utility, s_pat, _ = _entropies(fates, _count_patterns(fates)[0])
    positional = s_pat - jnp.mean(binary_entropy(jnp.mean(fates, axis=0)))
    return positional, utility - positional


@jax.jit(static_argnames="boundary")
def _estimate(fates, boundary):
    n_replicates, n_cells = fates.shape
    counts, shares = _count_patterns(fates)
    utility, s_pat, s_rep = _entropies(fates, counts)
    positional, correlational = _decompose(fates)
    if n_replicates > 1:
        bias, standard_error = _jackknife(counts, shares, n_cells)
    else:
        bias, standard_error = jnp.zeros_like(utility), jnp.full_like(utility, jnp.inf)
    n_patterns = _n_patterns(counts)
    return UtilityEstimate(
        utility=utility,
        utility_corrected=utility - bias,
        utility_se=standard_error,
        s_pat=s_pat,
        s_rep=s_rep,
        positional_information=positional,
        correlational_information=correlational,
        alternation=_alternation(fates, boundary),
        n_patterns=n_patterns,
        undersampled=n_patterns > n_replicates / 10,
    )


def _jackknife(counts, shares, n_cells):
    """Bias and standard error of U when one replicate at a time is left out.

    The changes (R - 1) (U_without_r - U) are written out: in float32 the difference of two utilities times 20,000
    has no digit left.
    """
    n_replicates = counts.shape[0]
    others = n_replicates - 1.0

    # S_rep N = log2 R - sum_k c_k log2 c_k / R. Without one replicate of a pattern seen c times the sum falls by
    # c log2 c - (c - 1) log2 (c - 1), here in a form that holds for c = 1 too.
    fall = jnp.log2(counts) - (counts - 1.0) * jnp.log1p(-1.0 / jnp.maximum(counts, 2.0)) / math.log(2.0)
    change_rep = (others * math.log2(others / n_replicates) + fall - jnp.mean(jnp.log2(counts))) / n_cells

    # S_pat = H(p), to second order: without replicate r the pooled share p moves by (p - p_r) / (R - 1).
    p = jnp.mean(shares)
    slope = jax.grad(binary_entropy)(p)
    curvature = -1.0 / (math.log(2.0) * jnp.maximum(p * (1.0 - p), SMALLEST))
    offset = p - shares
    change_pat = slope * offset + curvature * offset**2 / (2.0 * others)

    change = change_pat - change_rep
    bias = jnp.mean(change)
    standard_error = jnp.sqrt(jnp.sum((change - bias) ** 2) / (n_replicates * others))
    return bias, standard_error


@jax.jit
def _soft_utility(patterns, bandwidth):
    def log_kernel(row):
        return -jnp.sum((patterns - row[None]) ** 2, axis=1) / (2.0 * bandwidth**2)

    s_pat = binary_entropy(jnp.mean(patterns))
    s_rep = _entropy_of_replicates(patterns, log_kernel)
    return s_pat - s_rep, s_pat, s_rep


@jax.jit
def _pairwise_utility(probabilities):
    def log_match(row):
        match = probabilities * row[None] + (1.0 - probabilities) * (1.0 - row[None])
        # Added, where a maximum would do for the value: where one cell alone never matches, the slope of the product
        # is that of the other cells, SMALLEST / SMALLEST times it; a maximum would make it 0.
        return jnp.sum(jnp.log(match + SMALLEST), axis=1)

    s_pat = binary_entropy(jnp.mean(probabilities))
    s_rep = _entropy_of_replicates(probabilities, log_match)
    return s_pat - s_rep, s_pat, s_rep


def _entropy_of_replicates(patterns, log_likeness):
    """S_rep with the frequency of a row's pattern as its mean likeness, here a logarithm, to all replicates."""

    # A block of rows at a time, recomputed in the backward pass: the R x R likenesses are never stored at once.
    @jax.checkpoint
    def log_frequency(row):
        return jax.nn.logsumexp(log_likeness(row)) - math.log(patterns.shape[0])

    block = max(1, min(patterns.shape[0], 2**22 // patterns.size))
    log_frequencies = jax.lax.map(log_frequency, patterns, batch_size=block)
    return -jnp.mean(log_frequencies) / (math.log(2.0) * patterns.shape[1])


@jax.jit
def _bernoulli_utility(probabilities):
    n_cells = probabilities.shape[1]
    s_pat = binary_entropy(jnp.mean(probabilities))
    # The distribution over 2^N patterns, built one cell at a time: (replicate, 2), (replicate, 4), ...
    distribution = jnp.ones((probabilities.shape[0], 1), probabilities.dtype)
    for cell in range(n_cells):
        q = probabilities[:, cell, None]
        distribution = jnp.concatenate([distribution * (1.0 - q), distribution * q], axis=1)
    s_rep = entropy(jnp.mean(distribution, axis=0)) / n_cells
    return s_pat - s_rep, s_pat, s_rep
