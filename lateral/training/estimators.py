"""Gradient estimators: how the utility changes with the rule, estimated from simulated tissues.

Five answers to the same question, behind one interface:

    gradient, scores = estimator(params, model, key)       # gradient of the *loss*, to be given to an optimiser

`Pathwise` estimates the gradient of the *relaxed* utility of R replicates, through every step of the simulation. Its
bias is that of the relaxation: soft fates are not fates. Its variance comes from the few tissues that sit between two
patterns, whose gradients explode while all others vanish (Metz et al. 2021; Suh et al. 2022).

`Score` estimates the gradient of the *hard* utility of infinitely many replicates. Its bias is O(patterns / R), and
with `decay` below 1 that of a critic which sees the pattern only. Its variance comes from the noise of every step,
weighted by what became of the tissue.

`ValueGradient` estimates the gradient of the *hard* utility too, by derivatives through short windows of time. Its bias
is that of the critic which values the states at the end of each window. Its variance is that of the fit of this critic,
since no gradient has far to go.

`FiniteDifferences` estimates the gradient of the hard utility of R replicates, smoothed over a Gaussian around the
parameters. Its bias is O(step²); its variance comes from the random directions, since the same noise ahead and behind
cancels much of the rest (Salimans et al. 2017).

`Combination` weighs the first two by the inverse of their variances, measured in the same epoch (Parmas et al. 2018).
It estimates a mixture of their two gradients, whose bias is the weighted bias.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.fields import number, settings, size
from lateral.model import Model, final_states, hard_objective, loss_and_scores, scores_of
from lateral.network import RegulatoryFunction
from lateral.training.score import Score
from lateral.training.value_gradient import ValueGradient

__all__ = ["ESTIMATORS", "Combination", "FiniteDifferences", "Pathwise", "Score", "check_estimator"]


@settings
class Pathwise:
    """Backpropagation through the simulation, with noise held fixed and fates relaxed (`Readout.relaxation`)."""

    method = "backprop"

    @property
    def n_simulations(self) -> int:
        """Work of one gradient in simulations of `model.n_replicates` tissues; a step back counts two."""
        return 3

    def check_model(self, model: Model) -> None:
        """Refuse fates that have no relaxation."""
        _ = model.readout.relaxed

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        (loss, scores), gradient = jax.value_and_grad(loss_and_scores, has_aux=True)(params, model, key)
        return gradient, {"loss": loss} | scores


@settings
class Combination:
    """`Pathwise` and `Score`, weighted by the inverse of their variances (total propagation; Parmas et al. 2018).

    The replicates are split into `n_batches` independent ensembles, and both estimators run on the tissues of each.
    With V the variance of the mean over ensembles, summed over parameters, the gradient is

        w pathwise + (1 - w) score,        w = V_score / (V_score + V_pathwise),

    and w = 0 where a pathwise gradient or its variance is not finite. This is done once, on the whole gradient; Parmas
    et al. do it at every step on the way back.

    What it estimates is a mixture, the gradient of neither the relaxed nor the hard utility: its bias is w
    bias_pathwise + (1 - w) bias_score, and w changes from epoch to epoch. V knows nothing of bias or scale: a
    pathwise gradient that is small because it has vanished gets nearly all the weight. The weight is made of the
    same numbers as the gradients, which adds a bias of O(1 / n_batches) unless they are symmetrically distributed:
    an ensemble with a rare large gradient lowers the weight of that very gradient. The ensembles are smaller than
    `n_replicates`, so that whatever is biased by O(patterns / R) is `n_batches` times as biased, the scores that are
    recorded too.

    If the variances were known and the two gradients independent, its variance would be V_score V_pathwise / (V_score +
    V_pathwise), below both. But they are made of the same noise, and few ensembles tell little about a variance: for
    one parameter, 4 ensembles and normal gradients, V_score / V_pathwise is off by a factor of 3 or more in two epochs
    of five. It costs both estimators on `n_replicates` tissues, in the memory of one ensemble.
    """

    n_batches: int = size(
        4, "ensembles of n_replicates // n_batches >= 2 replicates each; a remainder is not simulated", minimum=2
    )
    n_chunks: int = size(100, "of `Score`")
    decay: ArrayLike = number(0.95, "of `Score`", minimum=0.0, maximum=1.0)

    method = "combination"
    needs_noise = True

    @property
    def n_simulations(self) -> int:
        """That of both."""
        return Pathwise().n_simulations + Score().n_simulations

    def check_model(self, model: Model) -> None:
        """Refuse a model with too few replicates."""
        if model.n_replicates // self.n_batches < 2:
            raise ValueError(
                f"n_batches = {self.n_batches} ensembles of at least 2 replicates need n_replicates >= "
                f"{2 * self.n_batches}, got {model.n_replicates}"
            )

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        self.check_model(model)
        ensemble = model.changed(n_replicates=model.n_replicates // self.n_batches)

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


@settings
class FiniteDifferences:
    """Hard utility ahead and behind along random directions, on the same noise: evolution strategies' gradient.

    The mean over Gaussian directions d of `d (U(θ + step d) - U(θ - step d)) / (2 step)` (Salimans et al. 2017).
    """

    n_directions: int = size(10, "random directions; each costs two simulations")
    step: ArrayLike = number(0.1, "distance ahead and behind, in units of the parameters", above=0.0)

    method = "finite-differences"

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
        return gradient, {"loss": -hard_objective(states, model)} | scores_of(states, model)


ESTIMATORS: dict[str, type] = {
    "pathwise": Pathwise, "score": Score, "value-gradient": ValueGradient, "finite-differences": FiniteDifferences,
    "combination": Combination
}  # fmt: skip


def check_estimator(name: str, gradient) -> Callable:
    """One of ours or of the user's own: `gradient(params, model, key) -> (gradient of the loss, scores)`."""
    if not callable(gradient) or isinstance(gradient, type) or not hasattr(gradient, "n_simulations"):
        names = ", ".join(f"{estimator.__name__}()" for estimator in ESTIMATORS.values())
        raise ValueError(f"{name} must be one of {names}, got {gradient!r}")
    return gradient
