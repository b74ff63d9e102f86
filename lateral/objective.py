"""Objectives: what training climbs, as one function of an ensemble.

    class MyObjective:
        def __call__(self, ensemble):               # bits, or whatever is to be large
            return binary_entropy(ensemble.mean(ensemble.fates)) - ensemble.s_rep

This one function gives the hard value, the relaxed value (soft fates, and S_rep as the relaxation has it), and the
*influence* of a replicate: its derivative by the weight of that replicate, which the score estimator needs. An
objective states its own symmetries, since a critic may merge only patterns that the objective values alike.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lateral.checks import check_choice
from lateral.numerics import binary_entropy, entropy
from lateral.patterns import PatternClasses, each_its_own, fate_entropy, group_sizes, of_each_fate
from lateral.prediction import Contexts, predicted_s_rep
from lateral.readout import Readout

__all__ = [
    "OBJECTIVES",
    "Ensemble",
    "EnsembleUtility",
    "Objective",
    "TissueUtility",
    "check_objective",
    "hard_value",
    "influence",
    "objective_of",
    "relaxed_value",
]


class Ensemble(NamedTuple):
    """Fates of many tissues, hard or soft, in which each replicate has a weight.

    Attributes:
        fates: of all replicates, hard or soft. Of two they are in [0, 1]; of more, hard ones are whole numbers from 0
            to K - 1, and soft ones the share of each fate.
        s_rep: entropy of whole patterns in bits per cell, or an upper bound of it where they cannot be counted.
        weights: of the replicates, by which the influence is a derivative; None for 1 each.
        swapped: whether each tissue stands for itself and for the same with fates 0 and 1 swapped; of more fates, in
            reversed order.
        n_fates: number of fates K.
    """

    fates: Float[Array, "replicate cell ..."]
    s_rep: Float[Array, ""]
    weights: Float[Array, " replicate"] | None = None
    swapped: Bool[Array, ""] | bool = False
    n_fates: int = 2

    def mean(self, values: Array) -> Float[Array, ""]:
        """Weighted mean over replicates, and over cells where `values` are `(replicate, cell)`."""
        if self.weights is None:
            return jnp.mean(values)
        weights = self.weights.reshape((-1,) + (1,) * (values.ndim - 1))
        return jnp.sum(weights * values) / values.size

    @property
    def pooled_share(self) -> Float[Array, ""]:
        """Share of fate 1 over all cells and replicates."""
        if self.n_fates > 2:
            return self.pooled_shares[1]
        share = self.mean(self.fates)
        return share if self.swapped is False else jnp.where(self.swapped, 0.5, share)

    @property
    def pooled_shares(self) -> Float[Array, " fate"]:
        """Share of each fate over all cells and replicates."""
        if self.n_fates == 2:
            return jnp.stack([1.0 - self.pooled_share, self.pooled_share])
        shares = jnp.stack([self.mean(share) for share in of_each_fate(self.fates, self.n_fates)])
        return jnp.where(self.swapped, 0.5 * (shares + shares[::-1]), shares)

    @property
    def s_pat(self) -> Float[Array, ""]:
        """Entropy in bits of one fate, pooled over all cells and replicates."""
        return binary_entropy(self.pooled_share) if self.n_fates == 2 else entropy(self.pooled_shares)

    @property
    def s_pat_of_each(self) -> Float[Array, " replicate"]:
        """The same within each replicate."""
        return fate_entropy(self.fates, self.n_fates, axis=1)


@runtime_checkable
class Objective(Protocol):
    """A value of an ensemble, and what it takes for alike.

    Attributes:
        symmetric: whether a pattern is worth the same in all places that the symmetries of the tissue take it to;
            False where the objective does not say.
        swappable: whether it is worth the same with fates 0 and 1 swapped, or more fates in reversed order; likewise.
    """

    def __call__(self, ensemble: Ensemble) -> Float[Array, ""]: ...


class EnsembleUtility(NamedTuple):
    """U as the paper has it, with the fates of all replicates pooled; a consensus is an optimum too."""

    symmetric: bool = True
    swappable: bool = True

    def __call__(self, ensemble):
        return ensemble.s_pat - ensemble.s_rep


class TissueUtility(NamedTuple):
    """The same with the entropy of fates taken inside each replicate and averaged: a consensus is worth nothing."""

    symmetric: bool = True
    swappable: bool = True

    def __call__(self, ensemble):
        return ensemble.mean(ensemble.s_pat_of_each) - ensemble.s_rep


OBJECTIVES: dict[str, Objective] = {"ensemble": EnsembleUtility(), "tissue": TissueUtility()}


def check_objective(name: str, objective):
    return objective if callable(objective) else check_choice(name, objective, OBJECTIVES)


def objective_of(objective: Any) -> Objective:
    """The objective itself, of a name too."""
    return OBJECTIVES[objective] if isinstance(objective, str) else objective


def relaxed_value(objective: Any, states: Float[Array, "replicate cell"], readout: Readout) -> Float[Array, ""]:
    """Value of final states with relaxed fates, which has a gradient."""
    relaxation = readout.relaxed
    fates = relaxation.fates(states, readout)
    s_rep = relaxation.s_rep(fates, readout)
    return objective_of(objective)(Ensemble(fates, s_rep, n_fates=readout.n_fates))


def hard_value(
    objective: Any, fates: Float[Array, "replicate cell"], n_fates: int = 2, contexts: Contexts | None = None
) -> Float[Array, ""]:
    """Value of exact fates; NaN where one of them is, whatever the objective makes of it."""
    value, _ = influence(objective, fates, n_fates=n_fates, contexts=contexts)
    return jnp.where(jnp.all(jnp.isfinite(fates)), value, jnp.nan)


def influence(
    objective: Any,
    fates: Float[Array, "replicate cell"],
    classes: PatternClasses | None = None,
    n_fates: int = 2,
    contexts: Contexts | None = None,
) -> tuple[Float[Array, ""], Float[Array, " replicate"]]:
    """Value of exact fates, and the change of it for each replicate by which its share of the ensemble grows.

    The derivative by the weights of the replicates, up to a constant. U is a function of the frequencies P of
    patterns: for S_rep the derivative is `-log2(P) / N` of each one's pattern, less a constant.

    With `classes`, P is that of a class shared out equally among its patterns: value and influence are those of the
    ensemble that holds every replicate in all the images of its class, which scatters and is biased less.

    With `contexts`, no pattern is counted: S_rep is the upper bound that `lateral.prediction` finds from them, and the
    value therefore a lower bound.
    """
    n_replicates, n_cells = fates.shape
    swapped: Any = False
    if contexts is None:
        classes = each_its_own(fates, n_fates) if classes is None else classes
        counts, swapped = group_sizes(classes.number, fates.dtype), classes.swapped
        log_frequency = jnp.log2(counts / n_replicates / classes.n_patterns) / n_cells

    def value(weights):
        if contexts is None:
            # What is left out by holding log P fixed is the constant: sum_q of one's own class w_q / P_q / ln 2.
            s_rep = -jnp.sum(weights * log_frequency) / n_replicates
        else:
            s_rep = predicted_s_rep(fates, contexts, weights, n_fates)
        return objective_of(objective)(Ensemble(fates, s_rep, weights, swapped, n_fates))

    of_all, of_each = jax.value_and_grad(value)(jnp.ones(n_replicates, fates.dtype))
    return of_all, n_replicates * of_each
