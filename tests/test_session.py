"""A training in hand: chunks change nothing, numbers may change in between, and nothing is compiled for them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lateral
from lateral.training.chunk import run_chunk
from lateral.training.session import CHUNK, SESSION_METHODS, TrainingSession

MODEL = lateral.Model(
    lateral.RBFNetwork(n_features=5), n_cells=4, n_replicates=32, n_steps=40, dt=0.05, objective="tissue"
)


def _session(method="score", **settings):
    return TrainingSession(method, MODEL, **{"key": jax.random.key(3), "n_candidates": 4} | settings)


@pytest.mark.slow
@pytest.mark.parametrize("method", SESSION_METHODS)
def test_the_cut_into_chunks_changes_nothing(method, float32):
    at_once, in_pieces = _session(method), _session(method)
    at_once.advance(CHUNK + 4)
    for n_epochs in (1, 3, CHUNK):
        in_pieces.advance(n_epochs)
    assert at_once.history == in_pieces.history and at_once.n_done == CHUNK + 4
    jax.tree.map(np.testing.assert_array_equal, at_once.params, in_pieces.params)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["score", "evolution"])
def test_learning_rate_and_noise_take_effect_in_the_next_epoch_and_compile_nothing(method, float32):
    steered, left_alone = _session(method, learning_rate=0.1), _session(method, learning_rate=0.1)
    steered.advance(2)
    left_alone.advance(4)
    n_compiled = run_chunk._cache_size()
    steered.learning_rate, steered.noise_strength = 0.4, 0.2
    steered.advance(2)
    assert run_chunk._cache_size() == n_compiled
    assert steered.history[steered.algorithm.steered] == pytest.approx([0.1, 0.1, 0.4, 0.4])
    assert steered.history["noise_strength"] == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert steered.history["utility"][:2] == left_alone.history["utility"][:2]
    assert steered.history["utility"][2:] != left_alone.history["utility"][2:]


def test_adam_moves_each_weight_by_about_the_learning_rate_in_its_first_step(float32):
    """The first step of Adam is the learning rate times the sign of the gradient, whatever its size."""
    session = _session(learning_rate=0.25)
    session.advance(1)
    for before, after in zip(jax.tree.leaves(session.initial_params), jax.tree.leaves(session.params), strict=True):
        moved = np.abs(np.asarray(after - before))
        np.testing.assert_allclose(moved[moved > 0.0], 0.25, rtol=1e-3)


@pytest.mark.slow
def test_the_start_is_the_best_of_the_candidates(float32):
    """One candidate is the first of four: the best of four scores at least as much on many replicates."""
    many = dataclasses.replace(MODEL, n_replicates=4000)
    scores = [
        lateral.population_fitness(
            jax.tree.map(lambda x: x[None], _session(n_candidates=n).initial_params), many, jax.random.key(0)
        )[0][0]
        for n in (1, 64)
    ]
    assert scores[1] > scores[0] + 0.05


def test_what_comes_out_is_a_run_that_can_be_saved(tmp_path, float32):
    session = _session()
    session.advance(3)
    session.noise_strength = 0.3
    run = lateral.load_run(lateral.save_run(tmp_path / "run.npz", session.run()))
    assert run.method == "score" and float(run.model.noise_strength) == pytest.approx(0.3)
    np.testing.assert_allclose(run.history["utility"], session.history["utility"])
    np.testing.assert_allclose(
        run.regulatory_function(np.linspace(0, 1, 5)), session.regulatory_function(np.linspace(0, 1, 5)), rtol=1e-6
    )


class Circle:
    """Real on the unit interval of its parameter only: a step of 2 leaves it, in either direction."""

    def init(self, key):
        return jnp.array(0.1)

    def apply(self, params, neighbour_mean):
        return jnp.sqrt(1.0 - params**2) * (0.5 - neighbour_mean)


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_ends_it_with_the_last_good_parameters(float32, nan_allowed):
    model = dataclasses.replace(MODEL, network=Circle())
    session = TrainingSession("pathwise", model, key=jax.random.key(0), learning_rate=0.01, n_candidates=1)
    session.advance(2)
    session.learning_rate = 2.0
    with pytest.raises(lateral.TrainingDiverged, match="not finite at epoch") as caught:
        session.advance(5)
    assert {len(values) for values in session.history.values()} == {session.n_done} and 3 <= session.n_done < 7
    assert abs(float(caught.value.run.params)) < 1.0 and float(session.params) == float(caught.value.run.params)


@pytest.mark.slow
@pytest.mark.bad_input
def test_rejects_what_cannot_be_trained():
    with pytest.raises(ValueError, match="'gradient descent'"):
        _session("gradient descent")
    with pytest.raises(ValueError, match="learning_rate must be > 0, got -1"):
        _session(learning_rate=-1)
    session = _session()
    with pytest.raises(ValueError, match="score estimator needs noise_strength > 0"):
        session.noise_strength = 0.0
    with pytest.raises(ValueError, match="n_epochs must be >= 1, got 0"):
        session.advance(0)
    assert session.noise_strength == 0.1
