"""Training from restarts: nothing is picked by luck that cannot be checked, nothing is lost, nothing goes uncounted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import (
    MLP,
    Model,
    RBFNetwork,
    RegulatoryFunction,
    Score,
    StepNetwork,
    TrainingDiverged,
    train_restarts,
)
from lateral.evaluation import fresh_objective, merit
from lateral.step_network import SMOOTH
from lateral.training import finish, restarts
from lateral.training.halving import best_candidates, draw_and_halve, heats

pytestmark = [pytest.mark.usefixtures("float32"), pytest.mark.filterwarnings("ignore::lateral.TimeStepWarning")]

MODEL = Model(network=RBFNetwork(9), n_cells=4, n_replicates=64, n_steps=60, dt=0.02, objective="tissue")
STEPS = MODEL.changed(network=StepNetwork(3, edge=0.02), n_replicates=65)
SIZES = dict(n_candidates=16, n_restarts=3, n_survivors=2, n_exploration=4, n_epochs=6, check_every=3, n_fresh=400)
FROM_STEPS = dict(draw_from="steps", n_candidates=64, n_restarts=2, n_exploration=0)


def train(model=MODEL, **settings):
    return train_restarts(model, key=jax.random.key(3), **SIZES | {"gradient": Score(n_chunks=6)} | settings)


@pytest.fixture(scope="module")
def run():
    with jax.enable_x64(False):
        return train()


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_threads(run):
    alone = train(n_threads=1)
    np.testing.assert_array_equal(alone.params["weights"], run.params["weights"])
    np.testing.assert_array_equal(alone.history["loss"], run.history["loss"])
    assert alone.settings == run.settings


@pytest.mark.slow
def test_what_follows_cannot_lose_what_exploration_found(run):
    """At an absurd learning rate after exploration, the best explored network is returned."""
    explored = max(merit(fresh) for fresh in run.settings["restarts"])
    assert merit(run.settings["fresh_objective"]) >= explored
    ruined = train(n_exploration=1, n_epochs=3, learning_rate=1e4, n_threads=1)
    assert merit(ruined.settings["fresh_objective"]) >= merit(ruined.settings["restarts"][0])


@pytest.mark.slow
def test_the_history_is_that_of_the_winner_and_the_start_is_a_random_network(run):
    noise = 4 * [0.15] + [0.1 * max(1.0, 2.0 - epoch / 6 / 0.75) for epoch in range(6)]
    assert len(run.history["loss"]) in (4, 10)
    np.testing.assert_allclose(run.history["noise_strength"], noise[: len(run.history["loss"])], rtol=1e-6)
    init_key = jax.random.split(jax.random.split(jax.random.key(3), 6)[0], 3)[0]
    drawn = jax.vmap(MODEL.network.init)(jax.random.split(init_key, 16))
    if run.model.network != MODEL.network:  # an explored network won
        drawn = jax.vmap(lambda params: MODEL.network.converted(params, run.model.network))(drawn)
    distance = jnp.abs(drawn["weights"] - run.initial_params["weights"][None]).max(axis=1)
    assert float(distance.min()) < 1e-6


@pytest.mark.slow
def test_restarts_are_ranked_and_the_best_check_is_returned(run):
    merits = [merit(fresh) for fresh in run.settings["restarts"]]
    assert merits == sorted(merits, reverse=True) and len(merits) == 3
    assert merit(run.settings["fresh_objective"]) == max(merit(check) for check in run.settings["checks"])
    again = fresh_objective(run.params, run.model, jax.random.key(77), 20_000)
    np.testing.assert_allclose(again, run.settings["fresh_objective"], atol=0.12)  # 400 replicates against 20,000


@pytest.mark.slow
def test_all_work_is_counted(run):
    """In simulated cell updates: candidates, gradients at three simulations each, half as long after exploration."""
    per_replicate = 4 * 60
    candidates = 16 * 64 + 6 * 1024
    gradients = 3 * 64 * (3 * 4 + 2 * 6 // 2)
    checks = 5 * 400 * (3 + 2 * 2)  # at dt and dt / 4
    assert run.settings["cell_updates"] == per_replicate * (candidates + gradients + checks)
    whole = train(n_training_steps=60).settings["cell_updates"]
    assert whole - run.settings["cell_updates"] == per_replicate * 3 * 64 * 2 * 3


@pytest.mark.slow
def test_thebest_candidates_are_those_that_score_best_on_many_replicates():
    key = jax.random.key(5)
    best, (low, median, high), _ = best_candidates(MODEL, key, 32, 2)
    scores = [merit(fresh_objective(params, MODEL, jax.random.key(6), 20_000)) for params in best]
    assert low <= median <= high and scores[0] > median
    one = best_candidates(MODEL, key, 32, 1)[0][0]
    assert merit(fresh_objective(one, MODEL, jax.random.key(6), 20_000)) > median


@pytest.mark.slow
def test_random_rules_of_another_kind_are_halved_and_the_network_is_fitted_to_the_best():
    """By default step rules, odd and bounded as the network is; or those of any network. What they cost is counted."""
    sizes = dict(n_candidates=64, n_restarts=2, n_exploration=0)
    run = train(draw_from="steps", **sizes)
    assert (run.settings["draw_from"], run.settings["n_exploration"]) == ("steps", 0)
    key = jax.random.split(jax.random.key(3), 1 + 2 + 2)[0]
    drawing = MODEL.changed(network=StepNetwork(odd=True, max_rate=5.0, **SMOOTH))
    drawn = draw_and_halve(drawing, key, 64, heats(64, 2))
    fits = [MODEL.network.fitted(RegulatoryFunction(drawing.network, best))["weights"] for best in drawn.best]
    assert any(np.array_equal(run.initial_params["weights"], fit) for fit in fits)
    assert run.settings["candidates"] == drawn.candidates and len(run.settings["restarts"]) == 2
    training = 2 * 4 * 60 * (3 * 64 * 6 // 2 + 2 * 5 * 400)
    assert run.settings["cell_updates"] == drawn.work + training
    assert len(run.history["loss"]) == 6

    trained = train(STEPS, draw_from="steps", **sizes)
    drawn = draw_and_halve(STEPS, key, 64, heats(64, 2))
    cuts = [best["cuts"] for best in drawn.best]
    assert any(np.array_equal(trained.initial_params["cuts"], of_one) for of_one in cuts), "no fit, but the rule itself"

    own = train(draw_from=MLP((3,), max_rate=5.0), **sizes)
    assert own.settings["draw_from"]["type"] == "MLP" and own.model.network == MODEL.network
    same = train(draw_from=MODEL.network, **sizes)
    assert same.settings["cell_updates"] == run.settings["cell_updates"]


@pytest.mark.slow
def test_evolution_finishes_the_best_with_steeper_edges_at_dt_and_then_at_two_time_steps():
    """It is the same training before, what follows is counted, and it does not depend on the number of threads."""
    before, run = train(STEPS, **FROM_STEPS), train(STEPS, **FROM_STEPS, n_finishing=7)
    assert before.settings["finishing"] is None
    assert (before.settings["n_finished"], run.settings["n_finished"]) == (0, 7)
    was, *became = run.settings["finishing"]
    best = max(became, key=merit)
    assert len(became) == 2 and merit(best) > merit(was), "of this key"
    assert run.settings["fresh_objective"] == best
    assert run.model == STEPS.changed(network=StepNetwork(3, edge=0.001))
    np.testing.assert_array_equal(run.history["loss"], before.history["loss"])
    np.testing.assert_array_equal(run.initial_params["cuts"], before.initial_params["cuts"])
    generations, checks = (5 + 2 * 5) * 16 * 32, 3 * 400 * 5  # five at dt, two at dt and dt/4
    assert run.settings["cell_updates"] - before.settings["cell_updates"] == 4 * 60 * (generations + checks)
    for params, model, stored in ((before.params, STEPS, was), (run.params, run.model, best)):
        again = fresh_objective(params, model, jax.random.key(77), 20_000)
        np.testing.assert_allclose(again, stored, atol=0.12)  # 400 replicates against 20,000
    alone = train(STEPS, **FROM_STEPS, n_finishing=7, n_threads=1)
    np.testing.assert_array_equal(alone.params["cuts"], run.params["cuts"])


@pytest.mark.slow
@pytest.mark.parametrize("strength", [1e4, 1e12])
def test_a_finish_that_gains_nothing_changes_nothing(monkeypatch, strength):
    for name in ("COARSE", "FINE"):
        monkeypatch.setattr(finish, name, getattr(finish, name).changed(mutation_strength=strength))
    before, run = train(STEPS, **FROM_STEPS), train(STEPS, **FROM_STEPS, n_finishing=2)
    assert run.settings["n_finished"] == 2
    jax.tree.map(np.testing.assert_array_equal, run.params, before.params)
    assert run.model == before.model
    assert run.settings["fresh_objective"] == before.settings["fresh_objective"]
    assert run.settings["cell_updates"] > before.settings["cell_updates"]


@pytest.mark.slow
@pytest.mark.parametrize("n_finishing", [1, 3])
def test_a_network_without_sharper_edges_is_finished_as_it_is(n_finishing):
    """One generation is of the fine stage, and there is no coarse one."""
    run = train(n_finishing=n_finishing, n_threads=1)
    assert run.model.network in (MODEL.network, MODEL.network.smoothed())
    fresh = run.settings["finishing"]
    assert len(fresh) == min(n_finishing, 2) + 1 and merit(run.settings["fresh_objective"]) >= min(map(merit, fresh))


@pytest.mark.slow
def test_without_exploration_a_start_that_diverges_is_dropped(monkeypatch):
    train_one, calls = restarts.descend, []

    def all_but_the_second(*how, **given):
        calls.append(None)
        run = train_one(*how, **given)
        if len(calls) != 2:
            raise TrainingDiverged("not finite", run, 0)
        return run

    monkeypatch.setattr(restarts, "descend", all_but_the_second)
    assert len(train(n_threads=1, n_exploration=0).settings["restarts"]) == 1
    with pytest.raises(TrainingDiverged, match="not finite"):
        train(n_threads=1, n_exploration=0)


@pytest.mark.slow
def test_a_warm_start_is_one_restart_without_candidates():
    start = {"weights": jnp.array([4.0, 3.0, 2.0, 1.0])}
    run = train(initial_params=start)
    np.testing.assert_array_equal(run.initial_params["weights"], start["weights"])
    assert (run.settings["n_candidates"], run.settings["candidates"]) == (0, None)
    assert len(run.settings["restarts"]) == 1


@pytest.mark.slow
def test_exploration_sees_the_smoothed_network_and_the_result_says_which_it_is(monkeypatch):
    """Fewer and wider bumps; a result that nothing improved on is the smooth rule that was explored."""
    train_one, widths = restarts.descend, []

    def recorded(model, *how, **given):
        widths.append(float(model.network.width))
        return train_one(model, *how, **given)

    monkeypatch.setattr(restarts, "descend", recorded)
    train(n_threads=1)
    np.testing.assert_allclose(widths, 3 * [1.0] + 2 * [0.45])
    ruined = train(n_epochs=3, learning_rate=1e4, n_threads=1)
    explored = len(ruined.history["loss"]) == 4
    assert float(ruined.model.network.width) == pytest.approx(1.0 if explored else 0.45)
    assert ruined.initial_params["weights"].shape == ruined.params["weights"].shape
    again = fresh_objective(ruined.params, ruined.model, jax.random.key(77), 20_000)
    np.testing.assert_allclose(again, ruined.settings["fresh_objective"], atol=0.12)


@pytest.mark.slow
def test_restarts_that_diverge_are_dropped_and_raise_when_none_is_left(monkeypatch):
    """Every second call fails, then every call."""
    train_one, calls = restarts.descend, []

    def every_second(*how, **given):
        calls.append(None)
        run = train_one(*how, **given)
        if len(calls) % 2:
            raise TrainingDiverged("not finite", run, 0)
        return run

    monkeypatch.setattr(restarts, "descend", every_second)
    run = train(n_threads=1, n_restarts=4)
    assert len(run.settings["restarts"]) == 2
    assert len(run.history["loss"]) in (4, 10), "with what followed, or as exploration left it"

    def always(*how, **given):
        raise TrainingDiverged("not finite", run, 0)

    monkeypatch.setattr(restarts, "descend", always)
    with pytest.raises(TrainingDiverged, match="not finite"):
        train()


def test_a_network_that_cannot_be_fitted_is_refused_before_rules_are_drawn(monkeypatch):
    class Own:
        def apply(self, params, s):
            return params * s

    monkeypatch.setattr(restarts, "draw_and_halve", None)
    for family in ("steps", StepNetwork(2)):
        with pytest.raises(ValueError, match=r"network needs a method init\(key\) or fitted\(f\)"):
            train(MODEL.changed(network=Own()), draw_from=family, n_exploration=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_restarts": 0}, "n_restarts must be >= 1, got 0"),
        ({"n_candidates": 2}, "n_candidates must be >= n_restarts = 3, got 2"),
        ({"n_survivors": 0}, "n_survivors must be >= 1, got 0"),
        ({"n_training_steps": 0}, "n_training_steps must be >= 1, got 0"),
        ({"n_training_steps": 61}, "n_training_steps must be <= n_steps = 60, got 61"),
        ({"learning_rate": -1.0}, "learning_rate must be > 0, got -1"),
        ({"dt_cycle": ()}, "dt_cycle must be a tuple of factors"),
        ({"exploration_noise": "loud"}, "exploration_noise must be one of"),
        ({"training_noise": "loud"}, "training_noise must be one of"),
        ({"draw_from": "hats"}, "draw_from must be one of 'network', 'steps', got 'hats'"),
        ({"draw_from": 3}, "draw_from must have a method apply"),
        ({"n_finishing": -1}, "n_finishing must be >= 0, got -1"),
        ({"n_exploration": -1}, "n_exploration must be >= 0, got -1"),
    ],
)
def test_a_mistake_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        train(**settings)


@pytest.mark.slow
def test_a_network_of_ones_own_is_trained_too():
    run = train(dataclasses.replace(MODEL, network=MLP((3,), max_rate=5.0)), n_threads=1)
    assert jnp.isfinite(run.regulatory_function(np.linspace(0.0, 1.0, 9))).all()
