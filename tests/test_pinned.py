"""The constants of the model, held by a few stored numbers; `test_gate` proves that 2 % is enough to miss them.

Utilities forgive small changes of the model. The states of a short simulation do not. The numbers are those of the
plain model in double precision, `tests/oracles.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lateral
from lateral.model import final_states

pytestmark = pytest.mark.usefixtures("float32")


class _Target:
    def apply(self, params, neighbour_mean):
        return lateral.TanhInhibition()(neighbour_mean)


def test_fifty_steps_of_the_default_model_reach_the_stored_states():
    model = lateral.Model(n_steps=50, n_replicates=2)
    states = final_states(lateral.TanhInhibition(), model, jax.random.key(0))
    stored = [
        [0.5232784, 0.5130592, 0.5477782, 0.4369747, 0.3689482, 0.785991, 0.117589],
        [0.1614304, 0.7877259, 0.2051519, 0.7864089, 0.207871, 0.6085372, 0.4184656],
    ]
    np.testing.assert_allclose(states, stored, atol=2e-5)


def test_the_default_start_is_the_stored_one():
    start = lateral.run_trajectories(
        lateral.TanhInhibition(),
        n_cells=3,
        n_replicates=1,
        n_steps=1,
        dt=0.01,
        noise_strength=0.0,
        key=jax.random.key(0),
    )[0, 0]
    np.testing.assert_allclose(start, [0.4530433, 0.4873195, 0.5237474], atol=1e-6)


def test_the_default_threshold_is_one_half():
    states = jnp.array([0.49, 0.499999, 0.5, 0.51])
    np.testing.assert_array_equal(lateral.apply_threshold(states), [0, 0, 1, 1])
    np.testing.assert_allclose(lateral.soften_fates(jnp.array([0.5])), 0.5, atol=1e-6)
    assert lateral.Model().threshold == 0.5


def test_the_default_bandwidth_gives_the_stored_soft_utility():
    states = 0.5 + 0.2 * (jax.random.uniform(jax.random.key(1), (20, 7)) - 0.5)
    np.testing.assert_allclose(lateral.compute_soft_utility(states), [0.6372958, 0.9999627, 0.3626668], atol=1e-5)


def test_the_default_loss_is_the_stored_one():
    model = lateral.Model(network=_Target(), n_steps=50, relaxation="raw")
    assert lateral.compute_loss(None, model, jax.random.key(2)) == pytest.approx(-0.2096383, abs=1e-5)
