"""Value gradients: backpropagation through short windows of time, each valued by a critic at its end.

A gradient through the whole simulation vanishes, or explodes where a tissue sits between two patterns. Cut into
windows, it only has to reach the end of its window, where a critic says what the states there are worth (Heess et al.
2015, stochastic value gradients; Xu et al. 2022, short-horizon actor-critic). The critic is linear in features of the
states that treat all cells alike, so that each epoch can fit it by least squares, for any number of cells.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.engine import engine_of
from lateral.fields import number, settings, size
from lateral.model import Model, objective_of_fates, scores_of_fates
from lateral.static import as_floats
from lateral.training.critic import features_of, fit_critic
from lateral.training.score import equal_stretches, returns_of, table_of

__all__ = ["ValueGradient"]


@settings
class ValueGradient:
    """Gradient through the dynamics in windows, by a critic that is fitted anew in each epoch.

    With V_k the critic at the end of window k, and the states at its start taken as given,

        dU/dθ = mean over replicates of the sum over windows of dV_k(s_k)/ds_k ds_k/dθ,

    where ds_k/dθ goes through the steps of that window only. For the true value V this is the gradient: what a rule
    changes in one window changes the states that the next one starts from, and V knows what these are worth. V_k is the
    regression of the return of a replicate, its influence on U (`objective.influence`), on features of its states
    (`features_of`). The bias is that of the critic, where its slope is not that of V.
    """

    n_windows: int = size(
        20, "windows of equal length; the largest divisor of the number of steps up to this number is taken"
    )
    ridge: ArrayLike = number(1e-3, "penalty of the regression, in units of the variance of a feature", above=0.0)

    method = "value-gradient"

    @property
    def n_simulations(self) -> int:
        """Work of one gradient in simulations: one to fit the critic, one once more and backwards, which counts two."""
        return 4

    def check_model(self, model: Model) -> None:
        """Refuse more than two fates: what the critic sees tells two apart, and of three its gradient led astray."""
        if (n_fates := model.readout.n_fates) > 2:
            raise ValueError(
                f"ValueGradient takes two fates, got {n_fates}: train by lateral.Score, lateral.Pathwise or evolution"
            )

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        self.check_model(model)
        n_windows = equal_stretches(model.n_steps, self.n_windows)
        table, pull_back = table_of(params, model)
        tissue = as_floats(model.tissue)
        engine, rounds, length = engine_of(model.numerics), model.rounds, tissue.n_steps // n_windows

        def states_after(table, start, window):
            end = engine.advance(table, start, tissue, rounds, window * jnp.uint32(length), length)
            return end, engine.states(end, model.n_replicates)

        def simulate(start, window):
            end, states = states_after(table, start, window)
            return end, (start, states)

        windows = jnp.arange(n_windows, dtype=jnp.uint32)
        start = engine.begin(key, tissue, rounds, model.n_replicates)
        _, (starts, ends) = jax.lax.scan(simulate, start, windows)
        final = model.readout.fates(ends[-1])
        returns = returns_of(final, table, model)

        def add(total, of_window):
            window, start, end = of_window
            weights, explained = fit_critic(features_of(end, model.geometry), returns, self.ridge)

            def loss(table):
                _, states = states_after(table, start, window)
                return -jnp.mean(features_of(states, model.geometry) @ weights)

            return jax.tree.map(jnp.add, total, jax.grad(loss)(table)), explained

        none = jax.tree.map(jnp.zeros_like, table)
        of_table, explained = jax.lax.scan(add, none, (windows, starts, ends))
        scores = {"loss": -objective_of_fates(final, model), "critic_r2": jnp.mean(explained)}
        return pull_back(of_table)[0], scores | scores_of_fates(final, model)
