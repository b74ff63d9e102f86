"""Backpropagation against finite differences, hand-written optax code, and runs that repeat bit by bit."""

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lateral import (
    MLP,
    NOISE_CURRICULA,
    Model,
    RegulatoryFunction,
    Score,
    TimeStepWarning,
    TrainingDiverged,
    compute_loss,
    make_train_step,
    preset,
    train_backprop,
    train_evolution,
    train_step,
)
from lateral.evaluation import fresh_objective, merit
from lateral.model import final_states

loss_and_gradient = jax.jit(jax.value_and_grad(compute_loss))


@partial(jax.jit, static_argnums=0)
def updated(optimizer, gradient, opt_state, params):
    """One step of optax, as its own documentation writes it."""
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


class Line(NamedTuple):
    """A user's own network, apply only; its rate is NaN where the shift exceeds `limit`."""

    limit: float = 1e9

    def apply(self, params, x):
        rate = params["gain"] * (0.5 - x) + params["shift"]
        return jnp.where(params["shift"] > self.limit, jnp.nan, rate)


LINE = {"gain": jnp.asarray(1.0, float), "shift": jnp.asarray(0.0, float)}
MODEL = Model(network=Line(), n_cells=3, n_replicates=16, n_steps=12, dt=0.05, noise_strength=0.2, relaxation="kernel")
N_EPOCHS = 6


def train(model=MODEL, **settings):
    given = dict(key=jax.random.key(8), n_epochs=N_EPOCHS, learning_rate=0.01, initial_params=LINE)
    return train_backprop(model, **given | settings)


@pytest.fixture(scope="module")
def run():
    return train()


def by_hand(optimizer, *, noises=(0.2,) * N_EPOCHS, dts=(0.05,) * N_EPOCHS, n_batches=1, model=MODEL):
    """The guide's loop: value and gradient, optax update, a fresh key each epoch. The losses, norms and parameters."""
    run_key = jax.random.split(jax.random.key(8))[1]
    params, opt_state, losses, norms = LINE, optimizer.init(LINE), [], []
    for epoch, (noise, dt) in enumerate(zip(noises, dts, strict=True)):
        noisy = dataclasses.replace(model, noise_strength=noise, dt=dt)
        keys = jax.random.split(jax.random.fold_in(run_key, epoch), n_batches)
        results = [loss_and_gradient(params, noisy, key) for key in keys]
        loss = sum(loss for loss, _ in results) / n_batches
        gradient = jax.tree.map(lambda *g: sum(g) / n_batches, *(gradient for _, gradient in results))
        params, opt_state = updated(optimizer, gradient, opt_state, params)
        losses.append(float(loss))
        norms.append(norm(gradient))
    return losses, norms, params


def norm(tree):
    return math.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(tree)))


def assert_trees_close(one, other, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-9)


def assert_trees_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


# --- loss and gradient


@pytest.mark.slow
@pytest.mark.parametrize("relaxation", ["raw", "kernel", "bernoulli", "pairwise"])
def test_gradient_of_the_loss_matches_finite_difference(key, check_gradient, relaxation):
    """Along random directions through all parameters, in double precision."""
    model = dataclasses.replace(MODEL, relaxation=relaxation)
    gradient = check_gradient(lambda params: compute_loss(params, model, key), LINE)
    assert norm(gradient) > 1e-3


@pytest.mark.slow
def test_gradient_of_the_loss_matches_finite_difference_through_a_network_and_its_table(key, check_gradient):
    rng = np.random.default_rng(0)
    shapes = [((1, 3), (3,)), ((3, 1), (1,))]
    params = tuple({"weights": rng.normal(size=w), "biases": rng.normal(size=b)} for w, b in shapes)
    model = dataclasses.replace(MODEL, network=MLP((3,), max_rate=5.0), n_knots=33)
    gradient = check_gradient(lambda params: compute_loss(params, model, key), params)
    assert norm(gradient) > 1e-3


@pytest.mark.slow
def test_the_straight_through_loss_is_pulled_by_the_pattern_entropy_alone(key):
    """Facts, section 2: on exact fates the kernel is flat, so the gradient is that of -H(p) with the mean state for
    the share p of fate 1: -log2((1 - p) / p) times the gradient of the mean state."""
    model = dataclasses.replace(MODEL, relaxation="straight_through", n_steps=30)
    params = {"gain": jnp.asarray(2.0, float), "shift": jnp.asarray(0.5, float)}

    @jax.jit
    def mean_state(params):
        states = final_states(RegulatoryFunction(Line(), params), model, key)
        return jnp.mean(states), jnp.mean(states >= 0.5)

    gradient_of_mean, share = jax.grad(mean_state, has_aux=True)(params)
    assert 0.55 < share < 0.95
    expected = jax.tree.map(lambda g: -math.log2((1.0 - share) / share) * g, gradient_of_mean)
    assert_trees_close(loss_and_gradient(params, model, key)[1], expected, rtol=1e-6)


@pytest.mark.slow
def test_the_loss_over_keys_by_vmap_as_in_the_guide(key):
    keys = jax.random.split(key, 3)
    batch_loss = jax.vmap(compute_loss, in_axes=(None, None, 0))
    losses = batch_loss(LINE, MODEL, keys)
    np.testing.assert_allclose(losses, [loss_and_gradient(LINE, MODEL, key)[0] for key in keys], atol=1e-6)
    assert len(set(losses.tolist())) == 3


@pytest.mark.slow
def test_the_loss_and_its_gradient_are_finite_when_a_fate_is_absent(precision, key):
    """All cells on: the default loss meets log 0 in its value and in its gradient."""
    model = dataclasses.replace(MODEL, relaxation="straight_through")
    loss, gradient = loss_and_gradient({"gain": jnp.asarray(0.0, float), "shift": jnp.asarray(9.0, float)}, model, key)
    assert float(loss) == pytest.approx(0.0, abs=1e-5)
    assert all(math.isfinite(g) for g in gradient.values())


# --- one step


@pytest.mark.slow
def test_a_train_step_is_adam_written_by_hand(key):
    """`train_step(params, opt_state, model, key) -> (params, opt_state, loss)`, Adam at 1e-3."""
    optimizer = optax.adam(1e-3)
    params = ours = LINE
    state = our_state = optimizer.init(LINE)
    for epoch in range(2):
        key = jax.random.fold_in(key, epoch)
        loss, gradient = loss_and_gradient(params, MODEL, key)
        params, state = updated(optimizer, gradient, state, params)
        ours, our_state, our_loss = train_step(ours, our_state, MODEL, key)
        assert float(our_loss) == pytest.approx(float(loss), rel=1e-6)
        assert_trees_close(ours, params, rtol=1e-6)
    assert_trees_close(our_state, state)


@pytest.mark.slow
def test_train_step_takes_a_chain_of_clipping_and_a_schedule(key):
    """The guide's extensions 1 and 2 together, against the same chain by hand."""
    optimizer = optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(optax.exponential_decay(0.5, 1, 0.5)))
    step = make_train_step(optimizer)
    params = ours = LINE
    state = our_state = optimizer.init(LINE)
    for epoch in range(3):
        gradient = loss_and_gradient(params, MODEL, key)[1]
        updates, state = optimizer.update(gradient, state, params)
        if epoch == 0:
            assert norm(gradient) > 0.01  # it is clipped, and sgd moves by rate * clip
            assert float(norm(updates)) == pytest.approx(0.5 * 0.01, rel=1e-6)
        params = optax.apply_updates(params, updates)
        ours, our_state, _ = step(ours, our_state, MODEL, key)
    assert_trees_close(ours, params)
    assert_trees_close(our_state, state)


@pytest.mark.slow
def test_train_step_over_several_parameter_sets_by_vmap(key):
    gains = jnp.array([-2.0, 0.5, 3.0])
    several = {"gain": gains, "shift": jnp.zeros(3)}
    states = jax.vmap(optax.adam(1e-3).init)(several)
    params, _, losses = jax.vmap(train_step, in_axes=(0, 0, None, None))(several, states, MODEL, key)
    for i, gain in enumerate(gains):
        one = LINE | {"gain": gain}
        new, _, loss = train_step(one, optax.adam(1e-3).init(one), MODEL, key)
        assert float(losses[i]) == pytest.approx(float(loss), abs=1e-6)
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], params), new, rtol=1e-5)


@pytest.mark.slow
def test_many_seeds_of_the_score_gradient_in_one_call(key):
    """Each its own parameters and its own noise, as they would be alone."""
    optimizer = optax.adam(0.1)
    step = make_train_step(optimizer, Score(n_chunks=5))
    several = {"gain": jnp.array([-2.0, 3.0]), "shift": jnp.zeros(2)}
    keys = jax.random.split(key)
    params, _, losses = jax.vmap(step, in_axes=(0, 0, None, 0))(several, jax.vmap(optimizer.init)(several), MODEL, keys)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], several)
        gradient, scores = Score(n_chunks=5)(one, MODEL, keys[i])
        assert float(losses[i]) == pytest.approx(float(scores["loss"]), abs=1e-6)
        by_hand = updated(optimizer, gradient, optimizer.init(one), one)[0]
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], params), by_hand, rtol=1e-5)


@pytest.mark.slow
def test_new_noise_or_time_step_does_not_retrace_a_train_step(key):
    traces = []

    class Counted(Line):
        def apply(self, params, x):
            traces.append(None)
            return super().apply(params, x)

    model = dataclasses.replace(MODEL, network=Counted())
    state = optax.adam(1e-3).init(LINE)
    train_step(LINE, state, model, key)
    n_traces = len(traces)
    assert n_traces > 0
    for change in ({"noise_strength": 0.3}, {"dt": 0.01}, {"soft_bandwidth": 0.2}, {"start": (0.1, 0.2)}):
        train_step(LINE, state, dataclasses.replace(model, **change), jax.random.key(1))
    assert len(traces) == n_traces


# --- whole runs


@pytest.mark.slow
def test_training_is_the_loop_of_the_guide(run):
    losses, norms, params = by_hand(optax.adam(0.01))
    np.testing.assert_allclose(run.history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(run.history["gradient_norm"], norms, rtol=1e-4)
    assert_trees_close(run.params, params)
    assert run.method == "backprop"


@pytest.mark.slow
def test_all_options_together_are_the_loop_by_hand():
    """A schedule, clipping, three batches, the guide's noise curriculum and a shortened simulation."""
    schedule = optax.exponential_decay(0.05, 2, 0.5)
    options = dict(learning_rate=schedule, clip_norm=0.03, n_batches=3, noise_curriculum="guide", n_training_steps=7)
    run = train(**options)
    noises = [0.2 * (1.0 + epoch / N_EPOCHS) for epoch in range(N_EPOCHS)]
    losses, norms, params = by_hand(
        optax.chain(optax.clip_by_global_norm(0.03), optax.adam(schedule)),
        noises=noises,
        n_batches=3,
        model=dataclasses.replace(MODEL, n_steps=7),
    )
    assert max(norms) > 0.03 > min(norms)  # some epochs are clipped, some are not
    np.testing.assert_allclose(run.history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(run.history["gradient_norm"], norms, rtol=1e-4)  # before clipping
    np.testing.assert_allclose(run.history["noise_strength"], noises, rtol=1e-6)
    np.testing.assert_allclose(
        run.history["learning_rate"], [0.05 * 0.5 ** (e / 2) for e in range(N_EPOCHS)], rtol=1e-6
    )
    assert_trees_close(run.params, params)
    assert run.model == MODEL  # the run keeps the full simulation
    assert run.settings == {
        "n_epochs": N_EPOCHS,
        "learning_rate": "schedule",
        "clip_norm": 0.03,
        "n_batches": 3,
        "n_training_steps": 7,
        "noise_curriculum": "guide",
        "gradient": {"type": "Pathwise"},
        "b2": 0.999,
        "dt_cycle": [1.0],
        "check_every": None,
        "patience": None,
        "n_fresh": 4000,
        "checks": [],
        "fresh_objective": None,
        "cell_updates": 3 * 3 * N_EPOCHS * 16 * 3 * 7,  # a gradient costs three simulations
    }


@pytest.mark.slow
def test_the_time_step_goes_round_its_cycle_and_b2_is_adams():
    run = train(dt_cycle=(1.0, 0.5, 0.25), b2=0.9)
    dts = [0.05, 0.025, 0.0125] * 2
    losses, _, params = by_hand(optax.adam(0.01, b2=0.9), dts=dts)
    np.testing.assert_allclose(run.history["loss"], losses, rtol=1e-5)
    assert_trees_close(run.params, params)


@pytest.mark.slow
def test_checks_return_the_best_of_the_parameters_seen_and_patience_stops():
    """A learning rate that is far too high brings a good start nothing: the first check counts, two more do not."""
    steep = {"gain": jnp.asarray(20.0), "shift": jnp.asarray(0.0)}
    model = dataclasses.replace(MODEL, n_steps=40, dt=0.02)
    settings = dict(initial_params=steep, n_epochs=12, check_every=2, n_fresh=500)
    rates = optax.piecewise_constant_schedule(1e-6, {2: 3e7})  # from the third epoch 30
    run = train(model, learning_rate=rates, patience=2, **settings)
    merits = [merit(check) for check in run.settings["checks"]]
    assert len(merits) == 3 and merits[0] >= max(merits[1:])
    assert len(run.history["loss"]) == 6
    assert_trees_close(run.params, steep, rtol=1e-3)
    assert run.settings["fresh_objective"] == run.settings["checks"][0]
    fresh = fresh_objective(run.params, model, jax.random.key(99), 20_000)
    np.testing.assert_allclose(run.settings["fresh_objective"], fresh, atol=0.1)


@pytest.mark.slow
def test_a_rule_that_exploits_the_time_step_is_warned_of():
    """Overshooting by two in each step, a cell is thrown from 0 to 1 and back."""
    steep = {"gain": jnp.asarray(60.0), "shift": jnp.asarray(0.0)}
    model = dataclasses.replace(MODEL, n_steps=40, dt=0.05)
    with pytest.warns(TimeStepWarning, match="at a quarter of it"):
        train(model, initial_params=steep, learning_rate=1e-6, n_epochs=1, check_every=1)


@pytest.mark.slow
def test_a_custom_optimizer_is_used_as_it_is(run):
    custom = train(optimizer=optax.adam(0.01), learning_rate=123.0)
    assert_trees_close(custom.params, run.params)
    np.testing.assert_allclose(custom.history["loss"], run.history["loss"], rtol=1e-5)


@pytest.mark.slow
def test_a_run_does_not_depend_on_its_chunks_and_repeats_bit_by_bit(run):
    for chunk_size in (4, N_EPOCHS):
        again = train(chunk_size=chunk_size)
        assert_trees_equal(again.params, run.params)
        assert again.history.keys() == run.history.keys()
        for name, values in run.history.items():
            assert values.shape == (N_EPOCHS,)
            np.testing.assert_array_equal(again.history[name], values)


def test_another_key_gives_another_run(run):
    assert (train(key=jax.random.key(9)).history["loss"] != run.history["loss"]).all()


CURRICULA = {
    "constant": lambda progress: 1.0,
    "guide": lambda progress: 1.0 + progress,
    "rising": lambda progress: progress,
    "falling": lambda progress: 3.0 - 2.0 * progress,
    "raised": lambda progress: 1.5,
    "cooling": lambda progress: 2.0 - progress / 0.75 if progress < 0.75 else 1.0,
}


@pytest.mark.parametrize("name", CURRICULA)
def test_noise_follows_its_curriculum(name):
    """`"guide"` is the formula of the document, noise = initial_noise (1 + epoch / N_EPOCHS)."""
    assert NOISE_CURRICULA.keys() == CURRICULA.keys()
    expected = [0.2 * CURRICULA[name](epoch / N_EPOCHS) for epoch in range(N_EPOCHS)]
    np.testing.assert_allclose(train(noise_curriculum=name).history["noise_strength"], expected, rtol=1e-6)


@pytest.mark.slow
def test_new_learning_rates_noise_and_clipping_do_not_retrace():
    traces = []

    class Counted(Line):
        def apply(self, params, x):
            traces.append(None)
            return super().apply(params, x)

    model = dataclasses.replace(MODEL, network=Counted())
    train(model, n_epochs=2, clip_norm=1.0)
    n_traces = len(traces)
    assert n_traces > 0
    train(model, n_epochs=2, clip_norm=1.0, learning_rate=0.5)
    train(model, n_epochs=2, clip_norm=0.1, learning_rate=optax.linear_schedule(0.1, 0.0, 2))
    train(dataclasses.replace(model, noise_strength=0.5), n_epochs=2, clip_norm=1.0, noise_curriculum="falling")
    assert len(traces) == n_traces


# An optimizer that ignores the gradient and raises every parameter by 0.1.
CLIMB = optax.GradientTransformation(
    lambda params: (),
    lambda updates, state, params=None: (jax.tree.map(lambda u: jnp.full_like(u, 0.1), updates), state),
)


@pytest.mark.slow
def test_divergence_stops_with_the_epoch_and_keeps_the_last_good_parameters(nan_allowed):
    """The shift is 0, 0.1, ... and the rate is NaN above 0.45: epochs 0 to 4 are good, epoch 5 is not."""
    model = dataclasses.replace(MODEL, network=Line(limit=0.45))
    with pytest.raises(
        TrainingDiverged, match="not finite at epoch 5 of 20: lower learning_rate, set clip_norm"
    ) as caught:
        train(model, n_epochs=20, chunk_size=7, optimizer=CLIMB)
    stopped = caught.value
    assert stopped.epoch == 5
    assert len(stopped.run.history["loss"]) == 5
    assert np.isfinite(stopped.run.history["loss"]).all()
    assert float(stopped.run.params["shift"]) == pytest.approx(0.4)
    assert math.isfinite(compute_loss(stopped.run.params, model, jax.random.key(0)))


@pytest.mark.slow
def test_divergence_at_the_first_epoch_keeps_the_initial_parameters(nan_allowed):
    model = dataclasses.replace(MODEL, network=Line(limit=-1.0))
    with pytest.raises(TrainingDiverged, match="epoch 0 of 20") as caught:
        train(model, n_epochs=20, chunk_size=7, optimizer=CLIMB)
    assert caught.value.run.params == LINE


def test_a_run_that_comes_to_a_finite_end_keeps_its_last_step():
    """Every epoch's step is taken, also the last one."""
    model = dataclasses.replace(MODEL, network=Line(limit=10.0))
    ended = train(model, n_epochs=20, chunk_size=7, optimizer=CLIMB)
    assert float(ended.params["shift"]) == pytest.approx(2.0)


# --- what users run


@pytest.mark.slow
def test_the_default_training_runs_in_single_precision(float32):
    """The guide's literal settings but for sizes, with Adam at 1e-3: no weight moves further than 1e-3 an epoch."""
    key = jax.random.key(0)
    model = Model(n_steps=40)
    run = train_backprop(model, key=key, n_epochs=4)
    assert run.history["loss"].shape == (4,)
    assert np.isfinite(run.history["gradient_norm"]).all()
    np.testing.assert_allclose(run.history["learning_rate"], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(run.history["noise_strength"], 0.1, rtol=1e-6)
    initial = model.network.init(jax.random.split(key)[0])
    for before, after in zip(jax.tree.leaves(initial), jax.tree.leaves(run.params), strict=True):
        assert after.dtype == jnp.float32
        assert jnp.abs(after - before).max() <= 4.05e-3
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(initial), jax.tree.leaves(run.params), strict=True))


@pytest.mark.slow
def test_the_recipe_improves_the_loss_in_single_precision(float32):
    """40 epochs on five cells: the mean loss of the last ten is lower than that of the first ten."""
    model, settings = preset(
        "backprop", "pathwise", n_cells=5, n_steps=100, n_replicates=128, n_epochs=40, chunk_size=40
    )
    run = train_backprop(model, key=jax.random.key(2), **settings)
    loss = run.history["loss"]
    assert loss[-10:].mean() < loss[:10].mean() - 0.05
    assert jnp.abs(run.regulatory_function(np.linspace(0.0, 1.0, 50))).max() <= 5.0


def test_a_network_without_init_asks_for_initial_parameters(key):
    for trainer in (train_backprop, train_evolution):
        with pytest.raises(ValueError, match=r"Line has no init\(key\): pass initial_params"):
            trainer(MODEL, key=key)
