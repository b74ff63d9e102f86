"""Readout: fates from states. `lateral` reports hard ones; relaxed ones have a gradient (`lateral.relaxation`)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.checks import check_choice, check_fates, check_real, check_size
from lateral.fields import number, settings, value
from lateral.relaxation import RELAXATIONS, Relaxation, check_thresholds, most_cells
from lateral.utility import THRESHOLD, apply_threshold

__all__ = ["Readout"]


def _check_relaxation(name: str, relaxation):
    members = [callable(getattr(relaxation, member, None)) for member in ("fates", "s_rep")]
    return relaxation if all(members) else check_choice(name, relaxation, RELAXATIONS)


def _check_classifier(name: str, classifier):
    if classifier is None:
        return None
    if not callable(classifier) or not hasattr(classifier, "n_fates"):
        raise ValueError(f"{name} must be a function of states with an attribute `n_fates`, got {classifier!r}")
    check_size(f"{name}.n_fates", classifier.n_fates, 2)
    return classifier


@settings
class Readout:
    """How states become fates, hard and relaxed: by one threshold, by several, or by any function."""

    threshold: ArrayLike = number(THRESHOLD, "fate 1 means state >= threshold", minimum=0.0, maximum=1.0)
    relaxation: Any = value(
        "straight_through",
        "what stands in for hard fates when a gradient is needed: a name in `lateral.relaxation.RELAXATIONS`, or a "
        "`Relaxation`",
        _check_relaxation,
        static=True,
        option={"choices": tuple(RELAXATIONS)},
    )
    soft_bandwidth: ArrayLike = number(0.1, "bandwidth of the kernel, in units of state", above=0.0)
    soft_width: ArrayLike = number(0.1, "width of the soft fates, in units of state", above=0.0)
    thresholds: tuple | None = value(
        None,
        "in place of `threshold`, two or more that make fates 0, 1, 2...",
        lambda name, thresholds: None if thresholds is None else check_thresholds(name, thresholds),
        option={"type": float, "nargs": "+"},
    )
    classifier: Any = value(
        None,
        "in place of thresholds, a function from states `(replicate, cell)` to as many whole numbers below its "
        "attribute `n_fates`; it has no relaxation but one of your own",
        _check_classifier,
        static=True,
    )

    def check_together(self):
        if self.classifier is not None and self.thresholds is not None:
            raise ValueError("a readout takes thresholds or a classifier, got both")
        if self.thresholds is not None and self.relaxation == "raw":
            raise ValueError('relaxation="raw" takes two fates, got thresholds for more: use "kernel" or "pairwise"')

    @property
    def cuts(self) -> tuple:
        """The thresholds, be they one or more."""
        return (self.threshold,) if self.thresholds is None else self.thresholds

    @property
    def relaxed(self) -> Relaxation:
        """The relaxation itself.

        Raises:
            ValueError: for a classifier without a relaxation of your own.
        """
        if not isinstance(self.relaxation, str):
            return self.relaxation
        if self.classifier is not None:
            raise ValueError(
                f"the fates of {self.classifier!r} have no gradient: give a lateral.relaxation.Relaxation, or train by "
                "evolution, lateral.Score or lateral.FiniteDifferences"
            )
        return RELAXATIONS[self.relaxation]

    def most_cells(self) -> float:
        """The largest number of cells that the relaxation can be computed for."""
        if self.classifier is not None and isinstance(self.relaxation, str):
            return math.inf
        return most_cells(self.relaxed.max_cells, self.n_fates)

    def fates(self, states: Float[Array, "replicate cell"]) -> Float[Array, "replicate cell"]:
        """Hard fates, without a gradient: how many thresholds the state has reached, or what the classifier says."""
        states = jax.lax.stop_gradient(states)
        if self.classifier is not None:
            fates = jnp.asarray(self.classifier(states), states.dtype)
            return jnp.where(jnp.isfinite(states), fates, jnp.nan)  # as thresholds do: nothing hides what has diverged
        first, *others = (apply_threshold(states, cut) for cut in self.cuts)
        return sum(others, first)

    def check_cells(self, n_cells: int) -> None:
        """That a classifier makes fates of so many cells, tried on random tissues."""
        if self.classifier is None:
            return
        states = np.random.default_rng(0).random((64, n_cells), np.float32)
        fates = check_real("classifier(states)", self.classifier(jnp.asarray(states)))
        if fates.shape != states.shape:
            raise ValueError(f"classifier(states) must have the shape of states, {states.shape}, got {fates.shape}")
        check_fates("classifier(states)", fates, self.n_fates)

    @property
    def n_fates(self) -> int:
        """The number of fates K."""
        return len(self.cuts) + 1 if self.classifier is None else self.classifier.n_fates
