"""The model that is trained: a tissue, the network that drives its cells, and how its patterns are scored.

Evolution and backpropagation optimise the same object. Numbers are traced and sizes are static: a new noise level
or time step never recompiles, a new number of cells compiles once. Change a setting with `dataclasses.replace`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral._checks import check_boundary, check_choice, check_number, check_range, check_size
from lateral._static import register_settings
from lateral.dynamics import START, run_multiple_replicates
from lateral.network import MLP, N_KNOTS, check_network
from lateral.noise import ROUNDS
from lateral.numerics import binary_entropy
from lateral.utility import (
    MAX_CELLS_BERNOULLI,
    THRESHOLD,
    apply_threshold,
    compute_bernoulli_utility,
    compute_pairwise_utility,
    compute_soft_utility,
    influence,
    soften_fates,
    unchecked_scores,
)

__all__ = ["OBJECTIVES", "RELAXATIONS", "Model", "final_states", "hard_scores", "soft_utility"]

OBJECTIVES = ("ensemble", "tissue")
RELAXATIONS = ("straight_through", "raw", "kernel", "bernoulli", "pairwise")


@register_settings(
    "n_cells", "n_replicates", "n_steps", "boundary", "objective", "relaxation", "n_knots", "rounds", "recompute_every"
)
@dataclass(frozen=True)
class Model:
    """Settings of a tissue and of its training; the defaults are those of `BACKPROP_GUIDE.md`.

    Attributes:
        network: anything with `apply(params, s̄) -> rates`, and `init(key) -> params` to start from nothing.
        n_cells: cells in the row, N >= 1.
        n_replicates: tissues simulated for one value of the utility, R >= 1.
        n_steps: time steps, >= 1; the duration is T = n_steps * dt.
        dt: time step, > 0.
        noise_strength: σ >= 0, per square root of time.
        boundary: `"free"`, `"ring"` or `"pinned"`, see `lateral.neighbour_mean`.
        edge_value: ghost neighbour of a pinned row, in [0, 1].
        start: initial states are uniform between these two numbers.
        threshold: fate 1 means state >= threshold, in [0, 1].
        objective: what training climbs. `"ensemble"`: U as the paper has it, with the fates of all replicates pooled,
            of which a consensus is an optimum too; `"tissue"`: the same with the entropy of fates taken inside each
            replicate and averaged, for which a consensus is worth nothing. Reported is always U of the ensemble.
        relaxation: what stands in for hard fates when a gradient is needed.
            `"straight_through"`: hard fates with the gradient of the identity, compared by the kernel;
            `"raw"`: the states themselves, compared by the kernel;
            `"kernel"`: soft fates `sigmoid((s - threshold) / soft_width)`, compared by the kernel;
            `"bernoulli"`: the same soft fates as probabilities, pattern probabilities exact (N <= 12);
            `"pairwise"`: the same probabilities, compared between two replicates at a time: an upper bound of
            `"bernoulli"` for any N.
        soft_bandwidth: bandwidth of the kernel, > 0, in units of state.
        soft_width: width of the soft fates, > 0, in units of state.
        n_knots, rounds, recompute_every: how it is computed, see `lateral.run_multiple_replicates`.
    """

    network: Any = field(default_factory=MLP)
    n_cells: int = 7
    n_replicates: int = 50
    n_steps: int = 1000
    dt: ArrayLike = 0.01
    noise_strength: ArrayLike = 0.1
    boundary: str = "free"
    edge_value: ArrayLike = 0.0
    start: tuple = START
    threshold: ArrayLike = THRESHOLD
    objective: str = "ensemble"
    relaxation: str = "straight_through"
    soft_bandwidth: ArrayLike = 0.1
    soft_width: ArrayLike = 0.1
    n_knots: int | None = N_KNOTS
    rounds: int = 13
    recompute_every: int | None = None

    def __post_init__(self):
        check_network(self.network)
        for name in ("n_cells", "n_replicates", "n_steps"):
            object.__setattr__(self, name, check_size(name, getattr(self, name)))
        check_boundary(self.boundary, self.n_cells)
        check_number("dt", self.dt, above=0.0)
        check_number("noise_strength", self.noise_strength, minimum=0.0)
        check_number("edge_value", self.edge_value, minimum=0.0, maximum=1.0)
        object.__setattr__(self, "start", check_range("start", self.start))
        check_number("threshold", self.threshold, minimum=0.0, maximum=1.0)
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("relaxation", self.relaxation, RELAXATIONS)
        if self.relaxation == "bernoulli" and self.n_cells > MAX_CELLS_BERNOULLI:
            raise ValueError(
                f'relaxation="bernoulli" takes at most {MAX_CELLS_BERNOULLI} cells, got {self.n_cells}: '
                'use "pairwise" or "kernel"'
            )
        check_number("soft_bandwidth", self.soft_bandwidth, above=0.0)
        check_number("soft_width", self.soft_width, above=0.0)
        if self.n_knots is not None:
            check_size("n_knots", self.n_knots, 2)
        if self.recompute_every is not None:
            check_size("recompute_every", self.recompute_every)
        check_choice("rounds", self.rounds, ROUNDS)


def check_model(model) -> Model:
    if not isinstance(model, Model):
        raise ValueError(f"model must be a lateral.Model, got {model!r}")
    return model


def final_states(f: Callable, model: Model, key: Array, **settings) -> Float[Array, "replicate cell"]:
    """Final states of the model's tissue when its cells follow `f`; keyword arguments override settings."""
    tissue = {
        name: getattr(model, name)
        for name in (
            "n_cells",
            "n_replicates",
            "n_steps",
            "dt",
            "noise_strength",
            "boundary",
            "edge_value",
            "start",
            "n_knots",
            "rounds",
            "recompute_every",
        )
    }
    return run_multiple_replicates(f, key=key, **(tissue | settings))


def soft_utility(states: Float[Array, "replicate cell"], model: Model) -> tuple[Array, Array, Array]:
    """`(utility, s_pat, s_rep)` of final states, relaxed as the model says so that it has a gradient.

    With the objective `"tissue"` s_pat is the mean entropy of the fates inside each replicate.
    """
    if model.relaxation == "raw":
        fates = states
    elif model.relaxation == "straight_through":
        fates = apply_threshold(states, model.threshold)
    else:
        fates = soften_fates(states, model.soft_width, model.threshold)
    if model.relaxation == "bernoulli":
        utility, s_pat, s_rep = compute_bernoulli_utility(fates)
    elif model.relaxation == "pairwise":
        utility, s_pat, s_rep = compute_pairwise_utility(fates)
    else:
        utility, s_pat, s_rep = compute_soft_utility(fates, model.soft_bandwidth)
    if model.objective == "tissue":
        s_pat = jnp.mean(binary_entropy(jnp.mean(fates, axis=1)))
        utility = s_pat - s_rep
    return utility, s_pat, s_rep


def hard_scores(states: Float[Array, "replicate cell"], model: Model) -> dict[str, Array]:
    """`utility` (hard, of the ensemble) and `alternation` of final states, without a gradient."""
    return unchecked_scores(hard_fates(states, model), model.boundary)


def hard_objective(states: Float[Array, "replicate cell"], model: Model) -> Array:
    """The objective of the model with hard fates."""
    return influence(hard_fates(states, model), model.objective)[0]


def hard_fates(states: Float[Array, "replicate cell"], model: Model) -> Float[Array, "replicate cell"]:
    return apply_threshold(jax.lax.stop_gradient(states), model.threshold)
