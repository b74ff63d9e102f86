"""Gradient estimators: how the utility changes with the rule, estimated from simulated tissues.

Four answers to the same question, behind one interface:

    gradient, scores = estimator(params, model, key)       # gradient of the *loss*, to be given to an optimiser

`Pathwise` estimates the gradient of the *relaxed* utility of R replicates, through every step of the simulation. Its
bias is that of the relaxation: soft fates are not fates. Its variance comes from the few tissues that sit between two
patterns, whose gradients explode while all others vanish (Metz et al. 2021; Suh et al. 2022).

`Score` estimates the gradient of the *hard* utility of infinitely many replicates. Its bias is O(patterns / R), and
with `decay` below 1 that of a critic which sees the pattern only. Its variance comes from the noise of every step,
weighted by what became of the tissue.

`FiniteDifferences` estimates the gradient of the hard utility of R replicates, smoothed over a Gaussian around the
parameters. Its bias is O(step²); its variance comes from the random directions, since the same noise ahead and behind
cancels much of the rest (Salimans et al. 2017).

`Combination` weighs the first two by the inverse of their variances, measured in the same epoch (Parmas et al. 2018).
It estimates a mixture of their two gradients, whose bias is the weighted bias.

`Score` is the likelihood ratio of the Euler–Maruyama chain (Yang & Kushner 1991; Williams 1992): a rule that pushes a
cell where the noise happened to push it makes that noise likelier. Each step's noise counts as much as the tissue did
better than expected from then on. What is expected is the critic, and both are made of the replicates themselves; see
the class.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral._checks import check_number, check_size, is_traced
from lateral._static import register_settings
from lateral.dynamics import begin
from lateral.engine import Tissue, accumulate_score, advance
from lateral.model import Model, final_states, hard_fates, hard_objective, hard_scores, soft_utility
from lateral.network import N_KNOTS, RegulatoryFunction, tabulate
from lateral.noise import pair, unpair
from lateral.utility import influence, pattern_classes, unchecked_scores

__all__ = ["ESTIMATORS", "Combination", "FiniteDifferences", "Pathwise", "Score"]


@register_settings()
@dataclass(frozen=True)
class Pathwise:
    """Backpropagation through the simulation, with noise held fixed and fates relaxed (`Model.relaxation`)."""

    @property
    def n_simulations(self) -> int:
        """Work of one gradient in simulations of `model.n_replicates` tissues; a step back counts two."""
        return 3

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        (loss, scores), gradient = jax.value_and_grad(loss_and_scores, has_aux=True)(params, model, key)
        return gradient, {"loss": loss} | scores


@register_settings("n_chunks")
@dataclass(frozen=True)
class Score:
    """Score estimator of the hard utility with a critic.

    With z the standard normal number of a cell in a step, and A the advantage of its replicate in that stretch of time,

        dU/dθ = mean over replicates of the sum over steps and cells of A z sqrt(dt) / σ df(s̄)/dθ.

    The return of a replicate is its influence on U (`utility.influence`). The critic values the pattern that it shows
    at the start of each of `n_chunks` stretches by the mean return of the *other* replicates with such a pattern: the
    same, its mirror image, on a ring a rotation of it, and with fates swapped while the rule is odd about 1/2. Cells
    are identical, so that all of these are worth the same (`utility.pattern_classes`), which leaves fewer patterns to
    know. A is the generalised advantage (Schulman et al. 2016): the sum of the changes of value from then on, each
    stretch further weighted once more by `decay`. Once the pattern no longer changes A is 0: late noise drops out by
    itself.

    `decay=1` is unbiased up to O(patterns / R), since the value of the others does not depend on a replicate's own
    noise. Below 1 the noise of a stretch is credited with what happens soon, which is far less noisy, and biased as the
    pattern is not the whole state.

    Attributes:
        n_chunks: stretches of time of equal length, >= 1; the largest divisor of `n_steps` up to this number is taken.
        decay: in [0, 1].
    """

    n_chunks: int = 100
    decay: ArrayLike = 0.95

    def __post_init__(self):
        check_size("n_chunks", self.n_chunks)
        check_number("decay", self.decay, minimum=0.0, maximum=1.0)

    @property
    def n_simulations(self) -> int:
        """Work of one gradient in simulations; the second pass, which weighs the noise, counts two."""
        return 3

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        if not is_traced(model.noise_strength) and not float(model.noise_strength) > 0.0:
            raise ValueError(
                "the score estimator needs noise_strength > 0, got 0: without noise no path is likelier than another; "
                "use Pathwise"
            )
        n_chunks = max(n for n in range(1, self.n_chunks + 1) if model.n_steps % n == 0)
        chunk_steps = model.n_steps // n_chunks
        table, pull_back = jax.vjp(
            lambda params: tabulate(RegulatoryFunction(model.network, params), model.n_knots or N_KNOTS), params
        )
        tissue = Tissue(*(jnp.asarray(x, float) for x in (model.dt, model.noise_strength, model.edge_value)))
        pairs, stream, _ = begin(key, model.n_cells, model.n_replicates, model.start, model.rounds)
        settings = dict(boundary=model.boundary, rounds=model.rounds)
        alike = _fates_are_alike(table, model)

        def fates(pairs):
            return hard_fates(unpair(pairs).T[: model.n_replicates], model)

        def classes(fates):
            return pattern_classes(fates, model.boundary, alike)

        def chunk(now, number):
            later = advance(
                table, now, tissue, stream, number * jnp.uint32(chunk_steps), n_steps=chunk_steps, **settings
            )
            return later, classes(fates(now)).number

        end, groups = jax.lax.scan(chunk, pairs, jnp.arange(n_chunks, dtype=jnp.uint32))
        final = fates(end)
        _, returns = influence(final, model.objective, classes(final))
        advantages = self._advantages(groups, returns) / model.n_replicates
        advantages = jnp.pad(advantages, ((0, 0), (0, model.n_replicates % 2)))
        of_table = accumulate_score(
            table,
            pairs,
            tissue,
            stream,
            pair(advantages),
            chunk_steps=chunk_steps,
            **settings,
        )
        (gradient,) = pull_back(type(table)(-of_table))
        loss = -influence(final, model.objective)[0]
        return gradient, {"loss": loss} | unchecked_scores(final, model.boundary)

    def _advantages(self, groups, returns):
        """`(chunk, replicate)`; groups number the classes of patterns at the start of each chunk."""
        n_replicates = returns.shape[0]
        of_all_others = (jnp.sum(returns) - returns) / max(n_replicates - 1, 1)

        def expected(group):
            size = jnp.zeros_like(returns).at[group].add(1.0)[group]
            total = jnp.zeros_like(returns).at[group].add(returns)[group]
            return jnp.where(size > 1.0, (total - returns) / jnp.maximum(size - 1.0, 1.0), of_all_others)

        values = jax.vmap(expected)(groups)
        changes = jnp.concatenate([values[1:], returns[None]]) - values

        def add(later, change):
            now = change + self.decay * later
            return now, now

        return jax.lax.scan(add, jnp.zeros_like(returns), changes, reverse=True)[1]


@register_settings("n_batches", "n_chunks")
@dataclass(frozen=True)
class Combination:
    """`Pathwise` and `Score`, weighted by the inverse of their variances (total propagation; Parmas et al. 2018).

    The replicates are split into `n_batches` independent ensembles, and both estimators run on the tissues of each.
    With V the variance of the mean over ensembles, summed over parameters, the gradient is

        w pathwise + (1 - w) score,        w = V_score / (V_score + V_pathwise),

    and w = 0 where a pathwise gradient or its variance is not finite. This is done once, on the whole gradient; Parmas
    et al. do it at every step on the way back.

    What it estimates is a mixture, the gradient of neither the relaxed nor the hard utility: its bias is
    w bias_pathwise + (1 - w) bias_score, and w changes from epoch to epoch. V knows nothing of bias nor of scale: a
    pathwise gradient that is small because it has vanished is given nearly all the weight. The weight is made of the
    same numbers as the gradients, which adds a bias of O(1 / n_batches) unless they are symmetrically distributed: an
    ensemble with a rare large gradient lowers the weight of that very gradient. The ensembles are smaller than
    `n_replicates`, so that whatever is biased by O(patterns / R) is `n_batches` times as biased, the scores that are
    recorded too.

    With the variances known and the two independent its variance would be V_score V_pathwise / (V_score + V_pathwise),
    below both. They are made of the same noise, and a variance of few ensembles is known badly: for one parameter, 4
    ensembles and normal gradients, V_score / V_pathwise is off by a factor of 3 or more in two epochs of five. It costs
    both estimators on `n_replicates` tissues, in the memory of one ensemble.

    Attributes:
        n_batches: ensembles, >= 2, of n_replicates // n_batches >= 2 replicates each; a remainder is not simulated.
        n_chunks, decay: of `Score`.
    """

    n_batches: int = 4
    n_chunks: int = Score.n_chunks
    decay: ArrayLike = Score.decay

    def __post_init__(self):
        check_size("n_batches", self.n_batches, 2)
        Score(self.n_chunks, self.decay)

    @property
    def n_simulations(self) -> int:
        """That of both."""
        return Pathwise().n_simulations + Score().n_simulations

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        n_replicates = model.n_replicates // self.n_batches
        if n_replicates < 2:
            raise ValueError(
                f"n_batches = {self.n_batches} ensembles of at least 2 replicates need n_replicates >= "
                f"{2 * self.n_batches}, got {model.n_replicates}"
            )
        ensemble = dataclasses.replace(model, n_replicates=n_replicates)

        def both(key):
            score, scores = Score(self.n_chunks, self.decay)(params, ensemble, key)
            return Pathwise()(params, ensemble, key)[0], score, scores

        pathwise, score, scores = jax.lax.map(both, jax.random.split(key, self.n_batches))
        scores = jax.tree.map(lambda x: jnp.mean(x, axis=0), scores)
        of_pathwise, of_score = self._variance(pathwise), self._variance(score)
        total = of_pathwise + of_score
        # A gradient that is not finite has no finite variance either.
        usable = jnp.isfinite(of_pathwise) & (total > 0.0)
        share = jnp.where(usable, of_score / jnp.where(usable, total, 1.0), 0.0)

        def weighted(pathwise, score):
            pathwise = jnp.where(usable, jnp.mean(pathwise, axis=0), 0.0)  # 0 times NaN is not 0
            return share * pathwise + (1.0 - share) * jnp.mean(score, axis=0)

        return jax.tree.map(weighted, pathwise, score), scores | {"pathwise_share": share}

    def _variance(self, gradients):
        """Of the mean over ensembles, summed over parameters."""
        of_one = jax.tree.map(lambda x: jnp.sum(jnp.var(x, axis=0, ddof=1)), gradients)
        return sum(jax.tree.leaves(of_one)) / self.n_batches


@register_settings("n_directions")
@dataclass(frozen=True)
class FiniteDifferences:
    """Hard utility ahead and behind along random directions, on the same noise: evolution strategies' gradient.

    The mean over Gaussian directions d of `d (U(θ + step d) - U(θ - step d)) / (2 step)` (Salimans et al. 2017).

    Attributes:
        n_directions: random directions, >= 1; each costs two simulations.
        step: > 0, in units of the parameters.
    """

    n_directions: int = 10
    step: ArrayLike = 0.1

    def __post_init__(self):
        check_size("n_directions", self.n_directions)
        check_number("step", self.step, above=0.0)

    @property
    def n_simulations(self) -> int:
        """Two for each direction, and one for the scores."""
        return 2 * self.n_directions + 1

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        direction_key, key = jax.random.split(key)
        leaves, treedef = jax.tree.flatten(params)

        def states_at(params):
            return final_states(RegulatoryFunction(model.network, params), model, key)

        def one_direction(key):
            keys = jax.random.split(key, len(leaves))
            direction = jax.tree.unflatten(
                treedef, [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
            )

            def objective_at(distance):
                return hard_objective(states_at(jax.tree.map(lambda x, d: x + distance * d, params, direction)), model)

            ahead, behind = objective_at(self.step), objective_at(-self.step)
            return jax.tree.map(lambda d: (behind - ahead) / (2.0 * self.step) * d, direction)

        along = jax.lax.map(one_direction, jax.random.split(direction_key, self.n_directions))
        gradient = jax.tree.map(lambda x: jnp.mean(x, axis=0), along)
        states = states_at(params)
        return gradient, {"loss": -hard_objective(states, model)} | hard_scores(states, model)


ESTIMATORS = {"pathwise": Pathwise, "score": Score, "finite-differences": FiniteDifferences, "combination": Combination}


def _fates_are_alike(table, model) -> Array:
    """Whether fates 0 and 1 could be swapped: f odd about 1/2, in a tissue that starts, ends and is cut there."""
    values = table.values
    odd = jnp.max(jnp.abs(values + values[::-1])) <= 1e-4 * jnp.max(jnp.abs(values))
    centred = (jnp.abs(sum(model.start) - 1.0) < 1e-6) & (jnp.asarray(model.threshold) == 0.5)
    return odd & centred & ((model.boundary != "pinned") | (jnp.asarray(model.edge_value) == 0.5))


def loss_and_scores(params: Any, model: Model, key: Array) -> tuple[Array, dict[str, Array]]:
    """Negative relaxed utility, and hard scores of the same tissues."""
    states = final_states(RegulatoryFunction(model.network, params), model, key)
    return -soft_utility(states, model)[0], hard_scores(states, model)
