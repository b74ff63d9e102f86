"""Presets: the guide to the letter, and a recipe whose every part can be changed."""

import dataclasses
import re

import jax
import optax
import pytest

from lateral import (
    MLP,
    EvolutionStrategy,
    Model,
    RBFNetwork,
    Score,
    StepNetwork,
    ValueGradient,
    preset,
    train_backprop,
    train_evolution,
    train_restarts,
)
from lateral.presets import FROM_STEPS, METHODS, trainer
from lateral.training.estimators import Combination

GUIDE_NETWORK = MLP((8, 8), input_centre=0.0, input_scale=1.0)


@pytest.mark.parametrize("method", ["evolution", "backprop"])
def test_the_guide_is_the_document_to_the_letter(method):
    """Its settings are the defaults of Model and of the trainers; its network sees s̄ as it is and is not bounded."""
    model, settings = preset(method, "guide")
    assert model == Model(network=GUIDE_NETWORK, n_knots=model.n_knots)
    assert settings == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name", "network"),
    [
        ("evolution", "recipe", MLP((8, 8), max_rate=5.0)),
        ("backprop", "pathwise", MLP((8, 8), max_rate=5.0)),
        ("score", "recipe", StepNetwork(n_cuts=3, edge=0.003, max_rate=5.0)),
        ("score", "exploration", RBFNetwork(max_rate=5.0)),
        ("backprop", "recipe", RBFNetwork(max_rate=5.0)),
        ("evolution", "any-shape", StepNetwork(odd=False, edge=0.015, highest=8.0, max_rate=5.0)),
        ("evolution", "odd-shape", StepNetwork(n_cuts=3, edge=0.001, max_rate=5.0)),
    ],
)
def test_all_but_the_guide_bound_the_rate(method, name, network):
    model, _ = preset(method, name)
    assert model.network == network
    assert (model.n_cells, model.n_steps, model.dt, model.noise_strength) == (7, 1000, 0.01, 0.1)
    assert preset(method, name, max_rate=2.0)[0].network == dataclasses.replace(network, max_rate=2.0)
    assert preset(method, name, max_rate=float("inf"))[0].network == dataclasses.replace(network, max_rate=None)


def test_hidden_dims_ask_for_a_multilayer_perceptron():
    model, settings = preset("score", "exploration", hidden_dims=(4,))
    assert model.network == MLP((4,), max_rate=5.0) and settings == {"exploration_rate": 0.03, "learning_rate": 0.02}
    assert preset("score", hidden_dims=(4,))[1].items() >= settings.items()
    assert preset("score", hidden_dims=(4,), learning_rate=0.1)[1]["learning_rate"] == 0.1


def test_both_gradients_start_from_the_best_of_thousands_of_step_rules_and_make_patterns():
    model, settings = preset("score", n_epochs=300)
    assert model.objective == "tissue" and preset("score", objective="ensemble")[0].objective == "ensemble"
    own = {"n_epochs": 300, "gradient": Score(n_chunks=50), "learning_rate": 0.15, "n_finishing": 20}
    assert settings == FROM_STEPS | own
    assert preset("backprop")[0] == model.changed(network=RBFNetwork(max_rate=5.0)), "no path through steep edges"
    assert preset("backprop")[1].items() >= (FROM_STEPS | {"gradient": ValueGradient()}).items()


def test_exploration_draws_the_network_that_is_trained():
    model, settings = preset("score", "exploration")
    assert model == preset("backprop")[0].changed(n_replicates=256) and settings == {}


def test_each_preset_is_for_one_function():
    assert trainer("evolution", "guide") is train_evolution
    assert trainer("score") is trainer("score", "exploration") is trainer("backprop") is train_restarts
    assert trainer("backprop", "pathwise") is trainer("backprop", "guide") is train_backprop


def test_a_setting_of_another_trainer_is_refused_by_name():
    for method, name in (("score", "recipe"), ("evolution", "odd-shape")):
        with pytest.raises(ValueError, match="has no setting 'strategy'"):
            preset(method, name, strategy=EvolutionStrategy())
    with pytest.raises(ValueError, match="train_restarts, which the preset 'recipe' is for, has no setting 'n_batch"):
        preset("score", n_batches=2)
    with pytest.raises(ValueError, match="train_backprop, which the preset 'guide' is for, has no setting 'n_rest"):
        preset("backprop", "guide", n_restarts=2)


def test_the_pathwise_recipe_trains_by_exact_pattern_probabilities():
    model, settings = preset("backprop", "pathwise")
    assert (model.relaxation, model.n_replicates) == ("bernoulli", 256)
    assert (settings["n_epochs"], settings["clip_norm"], settings["n_training_steps"]) == (200, 1.0, 300)


def test_the_learning_rate_falls_along_a_cosine_to_zero():
    rate = preset("backprop", "pathwise", n_epochs=100)[1]["learning_rate"]
    assert [float(rate(epoch)) for epoch in (0, 50, 100)] == pytest.approx([0.03, 0.015, 0.0], abs=1e-8)
    rate = preset("backprop", "pathwise", learning_rate=0.5)[1]["learning_rate"]
    assert float(rate(0)) == pytest.approx(0.5)


def test_a_schedule_of_ones_own_is_kept():
    schedule = optax.constant_schedule(0.1)
    assert preset("backprop", "pathwise", learning_rate=schedule)[1]["learning_rate"] is schedule


@pytest.mark.parametrize(("method", "name"), [("backprop", "pathwise"), ("score", "recipe")])
def test_above_twelve_cells_patterns_are_compared_in_pairs(method, name):
    assert preset(method, name, n_cells=12)[0].relaxation == "bernoulli"
    assert preset(method, name, n_cells=13)[0].relaxation == "pairwise"
    assert preset(method, name, n_cells=13, relaxation="kernel")[0].relaxation == "kernel"


@pytest.mark.parametrize("name", ["guide", "pathwise"])
def test_the_score_has_no_other_presets(name):
    with pytest.raises(ValueError, match=f"preset must be one of 'recipe', 'exploration', got '{name}'"):
        preset("score", name)


def test_the_recipe_never_trains_on_more_steps_than_there_are():
    assert preset("backprop", "pathwise", n_steps=120)[1]["n_training_steps"] == 120


@pytest.mark.parametrize(("method", "name"), [(method, name) for method in METHODS for name in METHODS[method]])
def test_changes_go_where_they_belong(method, name):
    training = {"progress": True}
    model, settings = preset(method, name, n_cells=5, boundary="ring", n_replicates=9, hidden_dims=(4,), **training)
    assert (model.n_cells, model.boundary, model.n_replicates) == (5, "ring", 9)
    assert model.network.hidden_dims == (4,)
    assert training.items() <= settings.items()
    own = MLP((2,))
    assert preset(method, name, network=own)[0].network is own


@pytest.mark.parametrize(
    ("hidden_dims", "message"), [(0, "must be a tuple of layer sizes"), ((), "at least one hidden")]
)
@pytest.mark.parametrize(("method", "name"), [("evolution", "guide"), ("backprop", "pathwise"), ("score", "recipe")])
def test_no_hidden_layer_is_not_the_default(method, name, hidden_dims, message):
    with pytest.raises(ValueError, match=f"hidden_dims .*{message}.*, got {re.escape(str(hidden_dims))}"):
        preset(method, name, hidden_dims=hidden_dims)


@pytest.mark.parametrize("setting", [{"hidden_dims": (4,)}, {"max_rate": 2.0}, {"max_rate": float("inf")}])
def test_a_setting_of_the_network_is_not_given_beside_a_network(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is a setting of the network: give it to the network"):
        preset("evolution", network=MLP((2,)), **setting)


REFUSED = {
    "no noise": ("score", {"noise_strength": 0.0}, "needs noise_strength > 0 in every epoch, got 0"),
    "noise that vanishes": ("score", {"noise_strength": 1e-30}, "needs noise_strength > 0 in every epoch"),
    "no noise to explore with": (
        "exploration",
        {"exploration_noise": "rising"},
        "needs noise_strength > 0 in every epoch",
    ),
    "no noise to train with": ("score", {"training_noise": "rising"}, "needs noise_strength > 0 in every epoch"),
    "small ensembles": ("score", {"gradient": Combination(), "n_replicates": 7}, "need n_replicates >= 8, got 7"),
    "small ensembles of backprop": (
        "pathwise",
        {"gradient": Combination(), "n_replicates": 7},
        "need n_replicates >= 8",
    ),
    "more steps than there are": ("score", {"n_training_steps": 2000}, "n_training_steps must be <= n_steps = 1000"),
    "patience without checks": ("pathwise", {"patience": 2}, "give check_every too"),
    "as many parents as networks": ("evolution", {"n_parents": 20}, "n_parents must be below population_size = 20"),
    "more restarts than candidates": ("exploration", {"n_restarts": 300}, "n_candidates must be >= n_restarts = 300"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_training_would_refuse_is_refused_before_it(name):
    method, changes, message = REFUSED[name]
    arguments = {"pathwise": ("backprop", "pathwise"), "exploration": ("score", "exploration")}.get(method, (method,))
    with jax.enable_x64(False), pytest.raises(ValueError, match=re.escape(message)):
        preset(*arguments, **changes)


def test_the_functions_refuse_it_before_they_compile():
    class Untouched(MLP):
        def apply(self, params, neighbour_mean):
            raise AssertionError("a network was simulated")

    key = jax.random.key(0)
    with pytest.raises(ValueError, match="needs noise_strength > 0"):
        train_restarts(Model(network=Untouched(), noise_strength=0.0), key=key)
    with pytest.raises(ValueError, match="need n_replicates >= 8"):
        train_backprop(Model(network=Untouched(), n_replicates=7), key=key, gradient=Combination())
