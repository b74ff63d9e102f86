"""The score estimator: a gradient of the hard utility that never runs backwards through time (notebook 06).

`Score` is the likelihood ratio of the Euler–Maruyama chain (Yang & Kushner 1991; Williams 1992): a rule that pushes a
cell where the noise happened to push it makes that noise likelier. The noise of a step counts by how much better than
expected the tissue did from then on. A critic says what to expect, and is made of the replicates themselves; see the
class.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import is_traced, working_range
from lateral.engine import engine_of
from lateral.fields import number, settings, size
from lateral.model import Model, objective_of_fates, scores_of_fates
from lateral.network import N_KNOTS, RegulatoryFunction, Table, tabulate
from lateral.objective import influence, objective_of
from lateral.patterns import each_its_own, group_sizes, pattern_classes
from lateral.static import as_floats
from lateral.training.critic import expected_by_others, features_of

__all__ = [
    "Score",
    "critic_classes",
    "critic_of",
    "equal_stretches",
    "expected_in_class",
    "fates_are_alike",
    "require_noise",
    "returns_of",
    "table_of",
]


def require_noise(estimator: Any, lowest: Any) -> None:
    """Refuse to weigh noise that is not there, or that vanishes in the working precision."""
    if getattr(estimator, "needs_noise", False) and not is_traced(lowest) and float(lowest) < working_range()[0]:
        raise ValueError(
            f"the {estimator.method} estimator needs noise_strength > 0 in every epoch, got {float(lowest):g}: without "
            "noise no path is likelier than another; use Pathwise()"
        )


@settings
class Score:
    """Score estimator of the hard utility with a critic.

    With z the standard normal number of a cell in a step, and A the advantage of its replicate in that stretch of time,

        dU/dθ = mean over replicates of the sum over steps and cells of A z sqrt(dt) / σ df(s̄)/dθ.

    The return of a replicate is its influence on U (`objective.influence`). The critic values the pattern that it shows
    at the start of each of `n_chunks` stretches by the mean return of the *other* replicates with such a pattern: the
    same, its images under the symmetries of the geometry (mirror image, on a ring rotations), and with fates swapped
    while the rule is odd about 1/2. Cells are identical, so that all of these are worth the same to an objective with
    these symmetries (`patterns.pattern_classes`), which leaves fewer patterns to know. A is the generalised advantage
    (Schulman et al. 2016): the sum of the changes of value from then on, with one more factor of `decay` for each
    stretch further on. A is 0 once the pattern no longer changes, so that late noise drops out by itself.

    In tissues of too many cells to count patterns, the critic is the regression of `ValueGradient` on features of the
    states, and each half of the replicates is valued by the critic of the other half.

    `decay=1` is unbiased up to O(patterns / R), since the value of the others does not depend on a replicate's own
    noise. Below 1 the noise of a stretch is credited with what happens soon, which is far less noisy, and biased as the
    pattern is not the whole state.
    """

    n_chunks: int = size(
        100,
        "stretches of time of equal length; the largest divisor of the number of steps up to this number is taken",
    )
    decay: ArrayLike = number(0.95, "weight of what happens a stretch later", minimum=0.0, maximum=1.0)

    method = "score"
    needs_noise = True

    @property
    def n_simulations(self) -> int:
        """Work of one gradient in simulations; the second pass, which weighs the noise, counts two."""
        return 3

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        require_noise(self, model.noise_strength)
        n_chunks = equal_stretches(model.n_steps, self.n_chunks)
        table, pull_back = table_of(params, model)
        tissue = as_floats(model.tissue)
        engine, rounds, chunk_steps = engine_of(model.numerics), model.rounds, tissue.n_steps // n_chunks
        start = engine.begin(key, tissue, rounds, model.n_replicates)
        seen, expected = critic_of(table, model)

        def chunk(now, number):
            later = engine.advance(table, now, tissue, rounds, number * jnp.uint32(chunk_steps), chunk_steps)
            return later, seen(engine.states(now, model.n_replicates))

        end, at_starts = jax.lax.scan(chunk, start, jnp.arange(n_chunks, dtype=jnp.uint32))
        final = model.readout.fates(engine.states(end, model.n_replicates))
        returns = returns_of(final, table, model)
        advantages = self._advantages(expected(at_starts, returns), returns) / model.n_replicates
        of_table = engine.accumulate_score(table, start, tissue, rounds, advantages)
        (gradient,) = pull_back(jax.tree.map(jnp.negative, of_table))
        return gradient, {"loss": -objective_of_fates(final, model)} | scores_of_fates(final, model)

    def _advantages(self, values, returns):
        """`(chunk, replicate)`, from what is expected at the start of each chunk."""
        changes = jnp.concatenate([values[1:], returns[None]]) - values

        def add(later, change):
            now = change + self.decay * later
            return now, now

        return jax.lax.scan(add, jnp.zeros_like(returns), changes, reverse=True)[1]


def equal_stretches(n_steps: int, most: int) -> int:
    """The largest number of stretches, at most `most`, that divide the steps into equal ones."""
    return max(n for n in range(1, most + 1) if n_steps % n == 0)


def table_of(params: Any, model: Model) -> tuple[Table, Callable]:
    """The rule as a table, and from a gradient by its knots to a tuple of that by the parameters."""
    n_knots = model.n_knots or N_KNOTS
    return jax.vjp(lambda params: tabulate(RegulatoryFunction(model.network, params), n_knots), params)


def fates_are_alike(table: Table, model: Model) -> Array:
    """Whether fates could be swapped, k and K - 1 - k: f odd about 1/2, in a tissue that starts, sees and is cut so.

    Swapped states are seen swapped, W (1 - s) + b = 1 - (W s + b) for all s, if the means of all cells at 0 and at 1
    add up to 1.
    """
    values, tissue = table.values, model.tissue
    if model.classifier is not None:
        return jnp.array(False)  # who knows what it makes of swapped states
    odd = jnp.max(jnp.abs(values + values[::-1])) <= 1e-4 * jnp.max(jnp.abs(values))
    cuts = jnp.stack([jnp.asarray(cut, values.dtype) for cut in model.readout.cuts])
    centred = (jnp.abs(sum(tissue.start) - 1.0) < 1e-6) & jnp.all(jnp.abs(cuts + cuts[::-1] - 1.0) < 1e-6)
    off, on = (tissue.geometry.mean(jnp.full((tissue.n_cells, 1), state)) for state in (0.0, 1.0))
    return odd & centred & jnp.all(jnp.abs(off + on - 1.0) < 1e-6)


def critic_of(table: Table, model: Model) -> tuple[Callable, Callable]:
    """What the critic sees of states, and what it expects at each stretch from what it saw, given all returns.

    Where patterns are counted it knows them by their classes, otherwise by features of the states.
    """
    if not model.counts_patterns:
        return lambda states: features_of(states, model.geometry), expected_by_others
    classes_of = critic_classes(table, model)
    return lambda states: classes_of(model.readout.fates(states)).number, expected_in_class


def expected_in_class(groups: Array, returns: Array) -> Array:
    """The mean return of the other replicates with a pattern of the same class; of all others where there is none.

    `groups` number the classes, `(stretch, replicate)`.
    """
    of_all_others = (jnp.sum(returns) - returns) / max(returns.shape[0] - 1, 1)

    def expected(group):
        size = group_sizes(group, returns.dtype)
        total = jnp.zeros_like(returns).at[group].add(returns)[group]
        return jnp.where(size > 1.0, (total - returns) / jnp.maximum(size - 1.0, 1.0), of_all_others)

    return jax.vmap(expected)(groups)


def critic_classes(table: Table, model: Model) -> Callable:
    """From fates to the classes that a critic may merge, given what the objective takes for alike."""
    objective = objective_of(model.objective)
    swap = fates_are_alike(table, model) if getattr(objective, "swappable", False) else jnp.array(False)
    n_fates = model.readout.n_fates
    if getattr(objective, "symmetric", False):
        return lambda fates: pattern_classes(fates, model.geometry, swap, n_fates)
    return lambda fates: each_its_own(fates, n_fates)


def returns_of(fates: Array, table: Table, model: Model) -> Array:
    """The influence of each replicate on the objective: what a critic learns to expect."""
    classes = critic_classes(table, model)(fates) if model.counts_patterns else None
    return influence(model.objective, fates, classes, model.readout.n_fates, model.contexts)[1]
