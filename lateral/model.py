"""The model that is trained: a tissue, the network that drives its cells, and how its patterns are read and valued.

Evolution and backpropagation optimise the same object. Numbers are traced and sizes are static: a new noise level or
time step never recompiles, and a new number of cells compiles once. Change a setting with `dataclasses.replace`. You
can give and read the settings of the tissue, the readout and the numerics as if they were the model's own.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from lateral.checks import check_kind
from lateral.engine import Numerics, simulate
from lateral.fields import choice, part, settings, size, value
from lateral.network import MLP, RegulatoryFunction, check_network
from lateral.objective import OBJECTIVES, EnsembleUtility, check_objective, hard_value, relaxed_value
from lateral.patterns import alternation_of
from lateral.prediction import MAX_COUNTED, Contexts, known_contexts
from lateral.readout import Readout
from lateral.tissue import Tissue
from lateral.utility import hard_scores

__all__ = [
    "Model",
    "check_model",
    "final_states",
    "hard_objective",
    "loss_and_scores",
    "objective_of_fates",
    "scores_of",
    "scores_of_fates",
]


@settings
class Model:
    """What is trained; the defaults are those of `BACKPROP_GUIDE.md`."""

    network: Any = value(
        help="anything with `apply(params, s̄) -> rates`, and `init(key) -> params` to start from nothing",
        check=lambda name, network: check_network(network),
        factory=MLP,
    )
    tissue: Tissue = part(Tissue, "a `Tissue`", Tissue)
    n_replicates: int = size(50, "tissues simulated for one value of the utility, R")
    readout: Readout = part(Readout, "how states become fates, a `Readout`", Readout)
    objective: Any = value(
        "ensemble",
        "what training climbs, a name or an `Objective`: utility of the `ensemble`, as the paper has it, of which a "
        "consensus is an optimum too, or the same with the entropy of fates taken inside each `tissue`, for which a "
        "consensus is worth nothing. The reported U is always that of the ensemble",
        check_objective,
        option={"choices": tuple(OBJECTIVES)},
    )
    numerics: Numerics = part(Numerics, "how it is computed, a `Numerics`", Numerics)
    patterns: str = choice(
        "auto",
        "how the entropy of whole patterns is found in training: they are `counted`, or each fate is `predicted` from "
        "its neighbours (`lateral.prediction`), which makes U a lower bound; by default counted up to 12 cells",
        ("auto", "counted", "predicted"),
    )

    @property
    def counts_patterns(self) -> bool:
        """Whether training counts whole patterns."""
        return self.n_cells <= MAX_COUNTED if self.patterns == "auto" else self.patterns == "counted"

    @property
    def contexts(self) -> Contexts | None:
        """What each fate is predicted from, None where whole patterns are counted."""
        return None if self.counts_patterns else known_contexts(self.geometry, self.readout.n_fates)

    @property
    def cell_updates(self) -> int:
        """Work of simulating all replicates once: cells times replicates times steps."""
        return self.n_replicates * self.n_cells * self.n_steps

    def shortened(self, share: float) -> "Model":
        """The model with a share of its duration, one step at least."""
        return self.changed(n_steps=max(1, round(share * self.n_steps)))

    def check_together(self):
        self.readout.check_cells(self.n_cells)
        most, n_fates = self.readout.most_cells(), self.readout.n_fates
        if self.n_cells > most:
            cells = "cells" if n_fates == 2 else f"cells of {n_fates} fates"
            raise ValueError(
                f'relaxation="{self.relaxation}" takes at most {most} {cells}, got {self.n_cells}: '
                'use "pairwise" or "kernel"'
            )


def check_model(model) -> Model:
    return check_kind("model", model, Model)


def final_states(
    f: Callable, model: Model, key: Array, *, refine: int = 1, **changes
) -> Float[Array, "replicate cell"]:
    """Final states of the model's tissue when its cells follow `f`, with some settings of the model changed.

    `refine` splits each step on the same Brownian path, see `lateral.run_multiple_replicates`.
    """
    model = model.changed(**changes) if changes else model
    return simulate(f, model.tissue, n_replicates=model.n_replicates, key=key, numerics=model.numerics, refine=refine)


def hard_objective(states: Float[Array, "replicate cell"], model: Model) -> Float[Array, ""]:
    """The objective of the model with hard fates."""
    return objective_of_fates(model.readout.fates(states), model)


def objective_of_fates(fates: Float[Array, "replicate cell"], model: Model) -> Float[Array, ""]:
    """The same of fates."""
    return hard_value(model.objective, fates, model.readout.n_fates, model.contexts)


def scores_of(states: Float[Array, "replicate cell"], model: Model) -> dict[str, Array]:
    """`utility` (hard, of the ensemble) and `alternation` of final states, without a gradient."""
    return scores_of_fates(model.readout.fates(states), model)


def scores_of_fates(fates: Float[Array, "replicate cell"], model: Model) -> dict[str, Array]:
    """The same of fates; the utility is a lower bound where patterns are predicted and not counted."""
    n_fates = model.readout.n_fates
    if model.counts_patterns:
        return hard_scores(fates, model.geometry, n_fates)
    utility = hard_value(EnsembleUtility(), fates, n_fates, model.contexts)
    return {"utility": utility, "alternation": alternation_of(fates, model.geometry, n_fates)}


def loss_and_scores(params: Any, model: Model, key: Array) -> tuple[Array, dict[str, Array]]:
    """Negative relaxed objective, and hard scores of the same tissues."""
    states = final_states(RegulatoryFunction(model.network, params), model, key)
    return -relaxed_value(model.objective, states, model.readout), scores_of(states, model)
