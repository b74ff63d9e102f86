"""What an engine is: how a tissue is simulated, with its own layout of the states and its own addressing of the noise.

Everything that simulates asks `simulate`; everything else about the states of a simulation (segments that are computed
anew, trajectories, the score gradient) is written once on top of the four functions here. `now` is the simulation at
one time, a pytree that only the engine looks into.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from lateral.checks import check_choice, is_traced
from lateral.engine.noise import ROUNDS
from lateral.fields import choice, settings, size, value
from lateral.network import N_KNOTS, Table, tabulate
from lateral.rules import EvaluatedRule, holds_traced, is_plain, rates_of
from lateral.tissue import Tissue

__all__ = ["ENGINES", "Engine", "Numerics", "engine_of", "evaluated", "prepare_rule"]


@runtime_checkable
class Engine(Protocol):
    """How a tissue is simulated. `numerics` holds knots and rounds; replicates are numbered from `first_replicate`."""

    def begin(self, key, tissue: Tissue, rounds: int, n_replicates: int, first_replicate=0, initial_states=None) -> Any:
        """The simulation at time 0, its states drawn or given as `(replicate, cell)`."""

    def advance(
        self, f: Callable, now: Any, tissue: Tissue, rounds: int, first_step, n_steps: int, refine: int = 1
    ) -> Any:
        """`n_steps` steps later, the first of which is number `first_step`, each split into `refine`.

        Reverse-mode differentiable by the numbers of f, of `tissue` and of `now`.
        """

    def states(self, now: Any, n_replicates: int) -> Float[Array, "replicate cell"]:
        """The states of all cells."""

    def accumulate_score(
        self, table: Table, start: Any, tissue: Tissue, rounds: int, advantages: Float[Array, "chunk replicate"]
    ) -> Table:
        """Sum over steps, cells and replicates of `advantage z sqrt(dt) / σ ∂f(s̄)/∂knot`, a number for each knot.

        It is the derivative of the log probability of the noisy path by the table, in which each stretch of
        `tissue.n_steps / n_chunks` steps of a replicate has its own advantage.
        """


# By name; filled in by `lateral.engine`.
ENGINES: dict[str, Engine] = {}


def _check_engine(name: str, engine):
    if isinstance(engine, str) or not isinstance(engine, Engine):
        return check_choice(name, engine, ENGINES)
    return engine


@settings
class Numerics:
    """How a simulation is computed; it changes no result by more than the errors that are named here."""

    engine: Any = value(
        "table",
        '`"table"`, fast; `"reference"`, a loop over `euler_maruyama_step`; or an `Engine` of one\'s own',
        _check_engine,
        static=True,
    )
    n_knots: int | None = size(
        N_KNOTS,
        "f is tabulated with so many knots and interpolated linearly, with an error of at most "
        "`max |f''| / (8 (n_knots - 1)²)`; a jump of f is smeared over one interval. None evaluates f in each step, "
        "which also allows forward-mode derivatives",
        minimum=2,
        optional=True,
    )
    rounds: int = choice(
        13,
        "of the noise generator, Threefry-2x32: 13, or 20 for the numbers of `jax.random` (`lateral.engine.noise`)",
        ROUNDS,
    )
    recompute_every: int | None = size(
        None,
        "for gradients of long simulations: keep the states at every so many steps only, and simulate what lies "
        "between anew on the way back; memory is least at about sqrt(n_steps). None keeps all states",
        optional=True,
    )


def engine_of(numerics: Numerics) -> Engine:
    """The engine itself."""
    return ENGINES[numerics.engine] if isinstance(numerics.engine, str) else numerics.engine


def evaluated(f: Callable, n_knots: int | None) -> Callable:
    """f as it is handed to `jax.jit`: as a table where its numbers are known, so that all rules share one compilation.

    A pytree with numbers that JAX traces is tabulated there.

    Raises:
        ValueError: for an f that is no rule, see `lateral.rules`.
    """
    if holds_traced(f):
        return f
    table = tabulate(f, n_knots or N_KNOTS)
    if n_knots is not None:
        return f if isinstance(f, Table) else table
    # A function whose numbers JAX traces is what it was.
    return f if not is_plain(f) or is_traced(table.values) else EvaluatedRule(f, table.values)


def prepare_rule(f: Callable, n_knots: int | None) -> Callable:
    """f as it is simulated: a table of `n_knots`, or f itself with its result checked."""
    if isinstance(f, Table):
        return f
    return partial(rates_of, f) if n_knots is None else tabulate(f, n_knots)
