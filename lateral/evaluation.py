"""Evaluation: the utility of a rule on fresh replicates, with its error and with the time step put to the test.

The score that training reports is biased twice: the estimate from few replicates reads too high, and the best of many
scores was also lucky. This module measures what counts, on replicates that no training has seen, at the time step and
at a quarter of it.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.bounds import FEWEST, bound_utility
from lateral.checks import check_callable, check_key
from lateral.fields import documented, setting_names
from lateral.model import Model, check_model, final_states, hard_objective
from lateral.network import RegulatoryFunction
from lateral.utility import UndersampledWarning, UtilityEstimate, estimate_of_fates

__all__ = [
    "FINE_KNOTS",
    "TOLERANCE",
    "Evaluation",
    "TimeStepWarning",
    "evaluate",
    "fresh_estimates",
    "fresh_objective",
    "fresh_work",
    "merit",
    "warn_of_time_step",
    "what_was_found",
]

TOLERANCE = 0.02
NOTHING = 0.1  # utility below it, in bits per cell: no information to speak of
CONSENSUS = 0.25  # alternation below it: hardly any two neighbours differ
FINE_KNOTS = 4097  # of f in an evaluation: an error below 1e-8 times the largest curvature of f


class TimeStepWarning(UserWarning):
    """The utility changes by more than 0.02 when the time step is divided by four: the rule exploits the integrator."""


class Evaluation(NamedTuple):
    """Utility of a rule on fresh replicates; entropies and information in bits per cell.

    Attributes:
        utility: hard utility, plug-in estimate; of more than 12 cells whose patterns are too many to count the lower
            bound of `lateral.bound_utility`, and everything below belongs to that.
        utility_se: its standard error over replicates.
        utility_corrected: with the bias of the plug-in estimate removed.
        s_pat, s_rep: entropy of one fate, and of whole patterns per cell.
        positional_information, correlational_information: they add up to `utility`.
        alternation: share of neighbour pairs whose fates differ; near 0 the utility is that of a consensus.
        utility_refined: `utility` at a quarter of the time step, on the same replicates and Brownian paths.
        utility_refined_se: its standard error.
        n_replicates, n_patterns: replicates simulated and distinct patterns among them.
        undersampled: more than a tenth of the replicates show a pattern of their own, and U is an upper bound; or
            more replicates would raise the lower bound.
        lower_bound: whether `utility`, `utility_refined` and what is made of them are lower bounds.
    """

    utility: float
    utility_se: float
    utility_corrected: float
    s_pat: float
    s_rep: float
    positional_information: float
    correlational_information: float
    alternation: float
    utility_refined: float
    utility_refined_se: float
    n_replicates: int
    n_patterns: int
    undersampled: bool
    lower_bound: bool


@documented(Model, replaces=("network", "n_replicates"))
def evaluate(
    f: Callable, model: Model | None = None, *, key: Array, n_replicates: int = 20_000, **settings
) -> Evaluation:
    """Hard utility of the rule `f` on fresh replicates.

    Args:
        f: regulatory function, for instance `run.regulatory_function`; tabulated with 4,097 knots, or
            evaluated exactly with `n_knots=None`.
        model: the tissue in which f is run; `Model()` by default. Its network is not used.
        key: random key; take one that no training has used.
        n_replicates: fresh replicates.
        **settings: any setting of `Model` to change, for instance `noise_strength=0.2`.

    Warns:
        TimeStepWarning: if the utility changes by more than 0.02 at a quarter of the time step.
        UndersampledWarning: if there are more than n_replicates / 10 distinct patterns; where U is bounded from below,
            if more replicates would raise the bound.
    """
    check_callable("f", f)
    check_key(key)
    model = Model() if model is None else check_model(model)
    if unknown := settings.keys() - set(setting_names(Model)):
        raise ValueError(f"unknown setting {min(unknown)!r}: evaluate takes the settings of lateral.Model")
    # How the training relaxed the fates plays no part, and must not limit the number of cells here.
    own = {"n_knots": FINE_KNOTS} | settings | {"relaxation": "kernel", "n_replicates": n_replicates}
    model = model.changed(**own)
    (coarse, fine), bounded = _estimates(f, model, key)
    result = Evaluation(
        **{name: value.item() for name, value in coarse._asdict().items()},
        utility_refined=fine.utility.item(),
        utility_refined_se=fine.utility_se.item(),
        n_replicates=model.n_replicates,
        lower_bound=bounded,
    )
    warn_of_time_step(result.utility, result.utility_refined, model.dt, stacklevel=3)
    if result.undersampled:
        message = f"{result.n_patterns} distinct patterns in {n_replicates} replicates: U is only an upper bound"
        if bounded:
            message = f"{n_replicates} replicates are few for {model.n_cells} cells: more would raise the bound of U"
        warnings.warn(message, UndersampledWarning, stacklevel=2)
    return result


def fresh_estimates(f: Callable, model: Model, key: Array, divisors: Sequence[int] = (1, 4)) -> tuple:
    """The estimated utility at the time step divided by each of these, on the same replicates and Brownian paths.

    All are lower bounds where patterns are predicted in training and too many to count.
    """
    return _estimates(f, model, key, divisors)[0]


def _estimates(
    f: Callable, model: Model, key: Array, divisors: Sequence[int] = (1, 4)
) -> tuple[tuple[UtilityEstimate, ...], bool]:
    """The same, and whether they are lower bounds."""
    ensembles = [model.readout.fates(final_states(f, model, key, refine=divisor)) for divisor in divisors]
    estimates = tuple(estimate_of_fates(fates, model.geometry, model.readout.n_fates) for fates in ensembles)
    uncounted = any(bool(estimate.undersampled) and bool(jnp.isfinite(estimate.utility)) for estimate in estimates)
    if model.counts_patterns or model.n_replicates < FEWEST or not uncounted:
        return estimates, False
    return tuple(_bounded(*of, model) for of in zip(ensembles, estimates, strict=True)), True


def _bounded(fates: Array, estimate: UtilityEstimate, model: Model) -> UtilityEstimate:
    bound = bound_utility(fates, model.geometry, n_fates=model.readout.n_fates)
    utility, se, s_pat, s_rep = map(np.float64, (bound.utility, bound.utility_se, bound.s_pat, bound.s_rep))
    return estimate._replace(
        utility=utility,
        utility_corrected=utility,
        utility_se=se,
        s_pat=s_pat,
        s_rep=s_rep,
        correlational_information=utility - np.float64(estimate.positional_information),
        undersampled=np.bool_(bound.undersampled),
    )


def what_was_found(utility: float, alternation: float) -> str:
    """`"pattern"`, `"consensus"` (all cells agree, on in some tissues and off in others) or `"nothing"`."""
    if not utility >= NOTHING:  # or not a number
        return "nothing"
    return "pattern" if alternation >= CONSENSUS else "consensus"


def warn_of_time_step(utility: float, refined: float, dt: ArrayLike, stacklevel: int = 2) -> None:
    """Warn when the utility at a quarter of the time step is more than 0.02 away."""
    if abs(utility - refined) > TOLERANCE:
        message = (
            f"U is {utility:.3f} at dt = {float(dt):g} but {refined:.3f} at a quarter of it: the rule exploits the "
            "time step. Bound the rate (max_rate) or train with a smaller dt"
        )
        warnings.warn(message, TimeStepWarning, stacklevel=stacklevel)


@partial(jax.jit, static_argnames="n_replicates")
def fresh_objective(params: Any, model: Model, key: Array, n_replicates: int) -> tuple[Array, Array]:
    """The hard objective of parameters on replicates of their own, at the time step and at a quarter of it.

    For decisions during training: which parameters to keep, which restart to go on with.
    """
    model = model.changed(n_replicates=n_replicates)
    f = RegulatoryFunction(model.network, params)
    return tuple(hard_objective(final_states(f, model, key, refine=refine), model) for refine in (1, 4))


def fresh_work(model: Model, n_replicates: int) -> int:
    """Cell updates of a `fresh_objective`: once at the time step, four times as many at a quarter of it."""
    return (1 + 4) * model.changed(n_replicates=n_replicates).cell_updates


def merit(fresh: Sequence[ArrayLike]) -> ArrayLike:
    """The number that decides: the lower of the two objectives, less the difference between them.

    It does not reward a rule for exploiting the time step. Anything that is not a finite number counts as the worst,
    -infinity.
    """
    value = min(fresh) - abs(fresh[0] - fresh[1])
    return value if math.isfinite(value) else -math.inf
