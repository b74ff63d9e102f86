"""Readout: fates from states. `lateral` reports hard ones; relaxed ones have a gradient (notebooks 02, 05).

A relaxation replaces two things: the fate of a cell, and the entropy of whole patterns S_rep, for which hard patterns
are counted. It is one entry of `RELAXATIONS`; one's own is an object with the same three members.

| relaxation | fates | S_rep |
|---|---|---|
| `straight_through` | hard, with the gradient of the identity | Gaussian kernel between replicates |
| `raw` | the states themselves | Gaussian kernel between replicates |
| `kernel` | `sigmoid((s - threshold) / soft_width)` | Gaussian kernel between replicates |
| `bernoulli` | the same, as probabilities | exact, all 2^N patterns (N <= 12) |
| `pairwise` | the same, as probabilities | chance that two replicates match: an upper bound of U, for any N |
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.checks import (
    check_choice,
    check_matrix,
    check_number,
    check_real,
    check_unit_interval,
    is_float,
    is_traced,
)
from lateral.fields import number, settings, value
from lateral.numerics import SMALLEST, binary_entropy, entropy
from lateral.utility import THRESHOLD, apply_threshold

__all__ = [
    "MAX_CELLS_BERNOULLI",
    "RELAXATIONS",
    "Readout",
    "Relaxation",
    "bernoulli_s_rep",
    "compute_bernoulli_utility",
    "compute_pairwise_utility",
    "compute_soft_utility",
    "exact_relaxation",
    "kernel_s_rep",
    "pairwise_s_rep",
    "soft_fates",
    "soften_fates",
]

MAX_CELLS_BERNOULLI = 12


class Relaxation(NamedTuple):
    """What stands in for hard fates where a gradient is needed.

    Attributes:
        fates: `(states, readout) -> fates`, both `(replicate, cell)`.
        s_rep: `(fates, readout) -> entropy` of whole patterns, in bits per cell.
        max_cells: the largest number of cells that it can be computed for.
    """

    fates: Callable[[Array, "Readout"], Array]
    s_rep: Callable[[Array, "Readout"], Array]
    max_cells: float = math.inf


def soft_fates(states, readout: "Readout"):
    return jax.nn.sigmoid((states - readout.threshold) / readout.soft_width)


def kernel_s_rep(patterns: Float[Array, "replicate cell"], bandwidth: ArrayLike) -> Float[Array, ""]:
    """`-mean_r log2 P_r / N` with the kernel density `P_r = mean_q exp(-|x_r - x_q|² / 2h²)`."""

    def log_kernel(row):
        return -jnp.sum((patterns - row[None]) ** 2, axis=1) / (2.0 * bandwidth**2)

    return _entropy_of_replicates(patterns, log_kernel)


def pairwise_s_rep(probabilities: Float[Array, "replicate cell"]) -> Float[Array, ""]:
    """`-mean_r log2 mean_q M_rq / N` with the chance M that the tosses of two replicates match."""

    def log_match(row):
        match = probabilities * row[None] + (1.0 - probabilities) * (1.0 - row[None])
        # Added, where a maximum would do for the value: where one cell alone never matches, the slope of the product
        # is that of the other cells, SMALLEST / SMALLEST times it; a maximum would make it 0.
        return jnp.sum(jnp.log(match + SMALLEST), axis=1)

    return _entropy_of_replicates(probabilities, log_match)


def bernoulli_s_rep(probabilities: Float[Array, "replicate cell"]) -> Float[Array, ""]:
    """Exact, from the distribution over 2^N patterns, built a cell at a time: `(replicate, 2)`, `(replicate, 4)`..."""
    n_cells = probabilities.shape[1]
    distribution = jnp.ones((probabilities.shape[0], 1), probabilities.dtype)
    for cell in range(n_cells):
        q = probabilities[:, cell, None]
        distribution = jnp.concatenate([distribution * (1.0 - q), distribution * q], axis=1)
    return entropy(jnp.mean(distribution, axis=0)) / n_cells


def _by_kernel(fates, readout: "Readout"):
    return kernel_s_rep(fates, readout.soft_bandwidth)


RELAXATIONS: dict[str, Relaxation] = {
    "straight_through": Relaxation(lambda states, readout: apply_threshold(states, readout.threshold), _by_kernel),
    "raw": Relaxation(lambda states, readout: states, _by_kernel),
    "kernel": Relaxation(soft_fates, _by_kernel),
    "bernoulli": Relaxation(soft_fates, lambda fates, readout: bernoulli_s_rep(fates), MAX_CELLS_BERNOULLI),
    "pairwise": Relaxation(soft_fates, lambda fates, readout: pairwise_s_rep(fates)),
}


def _check_relaxation(name: str, relaxation):
    members = [callable(getattr(relaxation, member, None)) for member in ("fates", "s_rep")]
    return relaxation if all(members) else check_choice(name, relaxation, RELAXATIONS)


def _check_thresholds(name: str, thresholds):
    if thresholds is None:
        return None
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


@settings
class Readout:
    """How states become fates, hard and relaxed."""

    threshold: ArrayLike = number(THRESHOLD, "fate 1 means state >= threshold", minimum=0.0, maximum=1.0)
    relaxation: Any = value(
        "straight_through",
        "what stands in for hard fates when a gradient is needed: a name in `lateral.readout.RELAXATIONS`, or a "
        "`Relaxation`",
        _check_relaxation,
        static=True,
        option={"choices": tuple(RELAXATIONS)},
    )
    soft_bandwidth: ArrayLike = number(0.1, "bandwidth of the kernel, in units of state", above=0.0)
    soft_width: ArrayLike = number(0.1, "width of the soft fates, in units of state", above=0.0)
    thresholds: tuple | None = value(
        None,
        "in place of `threshold`, two or more that make fates 0, 1, 2...; these have no relaxation",
        _check_thresholds,
        option={"type": float, "nargs": "+"},
    )

    @property
    def relaxed(self) -> Relaxation:
        """The relaxation itself, of two fates."""
        self.refuse_many_fates("a relaxation")
        return RELAXATIONS[self.relaxation] if isinstance(self.relaxation, str) else self.relaxation

    def fates(self, states: Float[Array, "replicate cell"]) -> Float[Array, "replicate cell"]:
        """Hard fates, without a gradient: 0 and 1, or how many of the `thresholds` the state has reached."""
        states = jax.lax.stop_gradient(states)
        if self.thresholds is None:
            return apply_threshold(states, self.threshold)
        return sum(apply_threshold(states, threshold) for threshold in self.thresholds)

    @property
    def n_fates(self) -> int:
        """The number of fates K."""
        return 2 if self.thresholds is None else len(self.thresholds) + 1

    def refuse_many_fates(self, what: str) -> None:
        """Say so where something is made for two fates."""
        if self.n_fates > 2:
            raise ValueError(
                f"{what} takes two fates, and {self.n_fates - 1} thresholds make {self.n_fates}: "
                "train by evolution, or by lateral.FiniteDifferences"
            )


def exact_relaxation(n_cells: int) -> str:
    """The relaxation to train so many cells by: exact pattern probabilities, and their bound where 2^N is too many."""
    return "bernoulli" if n_cells <= MAX_CELLS_BERNOULLI else "pairwise"


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


def soften_fates(states: ArrayLike, width: ArrayLike = 0.1, threshold: ArrayLike = THRESHOLD) -> Array:
    """Soft fates `sigmoid((state - threshold) / width)` in [0, 1], any shape; they harden as width -> 0."""
    states = check_unit_interval("states", check_real("states", states))
    check_number("width", width, above=0.0)
    check_number("threshold", threshold, minimum=0.0, maximum=1.0)
    states = states if is_float(states) else states.astype(float)
    return jax.nn.sigmoid((states - threshold) / width)


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
    return _kernel_utility(_as_float(patterns), bandwidth)


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
    return _bernoulli_utility(_as_float(probabilities))


def compute_pairwise_utility(fate_probabilities: ArrayLike) -> tuple[Array, Array, Array]:
    """Differentiable utility of fates that are independent coin tosses, for any number of cells.

    The frequency of the pattern of replicate r is replaced by the probability that another toss shows the same one:

        M_rq = prod_i [a_ri a_qi + (1 - a_ri)(1 - a_qi)],        S_rep = -mean_r log2 mean_q M_rq / N,

    with a the probabilities of fate 1. On exact fates M is 1 for equal patterns and 0 for others, and this is the hard
    utility; there, unlike in `compute_soft_utility`, S_rep has a gradient between replicates that differ in one
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
    return _pairwise_utility(_as_float(probabilities))


def _as_float(values):
    return values.astype(jnp.float64 if values.dtype == jnp.float64 else jnp.float32)


def _utility_with(s_rep: Callable) -> Callable:
    """Compiled once for each shape; the size of the cache tells how often."""

    @jax.jit
    def utility(fates, *numbers):
        s_pat, of_patterns = binary_entropy(jnp.mean(fates)), s_rep(fates, *numbers)
        return s_pat - of_patterns, s_pat, of_patterns

    return utility


_kernel_utility, _bernoulli_utility, _pairwise_utility = map(
    _utility_with, (kernel_s_rep, bernoulli_s_rep, pairwise_s_rep)
)
