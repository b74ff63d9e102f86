"""Named ways to train: `guide` is the literal configuration of the document, `recipe` the best that we teach."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import optax

from lateral.backprop import train_backprop
from lateral.checks import check_choice, check_number, check_size
from lateral.evolution import EvolutionPlan, EvolutionStrategy, train_evolution
from lateral.fields import setting_names, sort_settings
from lateral.model import Model
from lateral.network import HIDDEN_DIMS, MLP, RBFNetwork
from lateral.relaxation import exact_relaxation
from lateral.step_network import SHARP, StepNetwork
from lateral.training import islands
from lateral.training.descent import GradientDescent
from lateral.training.restarts import Restarts, train_restarts
from lateral.training.schedule import Plan
from lateral.training.score import Score
from lateral.training.value_gradient import ValueGradient

__all__ = [
    "FROM_STEPS",
    "MAX_RATE",
    "METHODS",
    "PRESETS",
    "preset",
    "settings_classes",
    "trainer",
]

MAX_RATE = 5.0
# For each method its presets, the default first.
METHODS: dict[str, tuple[str, ...]] = {
    "evolution": ("recipe", "guide", "pathwise", "any-shape", "odd-shape"),
    "backprop": ("recipe", "pathwise", "guide"),
    "score": ("recipe", "exploration"),
}
PRESETS = ("recipe", "guide", "pathwise", "exploration", "any-shape", "odd-shape")
# Within the tissue a consensus is worth nothing; for the ensemble the best random step rules make one.
OF_MODEL = {
    ("score", "exploration"): {"n_replicates": 256, "objective": "tissue"},
    ("score", "recipe"): {"n_replicates": 512, "objective": "tissue"},
    ("backprop", "recipe"): {"n_replicates": 512, "objective": "tissue"},
    ("evolution", "any-shape"): {"n_replicates": 256, "objective": "tissue"},
    ("evolution", "odd-shape"): {"n_replicates": 512, "objective": "tissue"},
}
FROM_STEPS = {"draw_from": "steps", "n_candidates": 4096, "n_restarts": 2, "n_exploration": 0}
FROM_STEPS |= {"n_epochs": 200}
OF_RECIPE = {
    "score": FROM_STEPS | {"gradient": Score(n_chunks=50), "learning_rate": 0.15, "n_finishing": 20},
    "backprop": FROM_STEPS | {"gradient": ValueGradient(), "learning_rate": 0.1},
}
# The last mutations are a twentieth as strong as the first.
ODD = {"refined_heats": True, "n_survivors": 1, "n_settling": 6, "n_generations": 60, "mutation_decay": 0.95}
ODD |= {"settling_divisors": (1, 4), "dt_divisors": (1, 4), "duration_shares": (1.0,)}
OF_SHAPE = {"any-shape": {}, "odd-shape": ODD}
# What each training function takes as loose settings, with its defaults.
_SETTINGS = {
    train_evolution: (EvolutionPlan(), EvolutionStrategy()),
    train_backprop: (Plan(), GradientDescent()),
    train_restarts: (Restarts(),),
    islands.train_islands: (islands.Islands(), islands.PLAN, islands.STRATEGY),
}


def trainer(method: str, name: str = "recipe") -> Callable:
    """The function that a preset is for: `train_evolution`, `train_islands`, `train_restarts` or `train_backprop`."""
    check_choice("preset", name, PRESETS)
    check_choice("preset", name, METHODS[check_choice("method", method, METHODS)])
    if method == "evolution":
        return islands.train_islands if name in OF_SHAPE else train_evolution
    return train_restarts if method == "score" or name == "recipe" else train_backprop


def settings_classes(method: str) -> tuple[type, ...]:
    """The classes whose settings the presets of a method take, those of its recipe first."""
    functions = dict.fromkeys(trainer(method, name) for name in METHODS[check_choice("method", method, METHODS)])
    return tuple(dict.fromkeys(type(settings) for function in functions for settings in _SETTINGS[function]))


def preset(method: str, name: str = "recipe", **changes) -> tuple[Model, dict[str, Any]]:
    """The model and the keyword arguments of the function that `trainer` names.

    `guide` gives the network the neighbour mean as it is and leaves the rate unbounded, as the document does.
    `recipe` bounds |f| to 5. For evolution it scales the input of a perceptron. For the two gradients it starts from
    the best two of 4,096 random step rules, for patterns within the tissue (`objective="tissue"`): for `"score"` it
    trains these very rules (`StepNetwork` of three cuts) by the score estimator, and a search finishes the best with
    steeper edges (`training.finish`); for `"backprop"` an `RBFNetwork` that is fitted to them, since no path goes
    through edges as steep, by windows of the dynamics with a critic at the end of each (`ValueGradient`).
    `exploration` trains by the score too, from random networks of the kind that is trained, which it explores first.
    `pathwise` is the best found for the gradient through the whole simulation: scaled input, |f| up to 5, soft fates
    scored by exact pattern probabilities (above 12 cells by their pairwise bound) on 256 replicates of a simulation of
    300 steps, with a falling learning rate and clipped gradients. For evolution it is the recipe.
    `any-shape` evolves step rules that need not be odd, for the worst objective at several time steps: such rules can
    make one pattern only. `odd-shape` evolves odd ones of three cuts on the same islands, with steep edges, for the
    worse objective of dt and dt/4.

    Args:
        method: `"evolution"`, `"backprop"` or `"score"`.
        name: `"recipe"`, `"guide"`, `"pathwise"`, `"exploration"`, `"any-shape"` or `"odd-shape"`.
        **changes: any setting of `Model`; `hidden_dims`, for an `MLP` of these layers (whose restarts are trained at
            lower learning rates), and `max_rate`, a bound on |f| or infinity; and any setting of the training
            function.

    Raises:
        ValueError: for a setting outside its range, settings that do not go together, and one that nothing has.

    Example:
        model, settings = preset("score", n_cells=9)
        run = train_restarts(model, key=jax.random.key(0), **settings)
    """
    train = trainer(method, name)
    if "network" in changes and (others := changes.keys() & {"hidden_dims", "max_rate"}):
        raise ValueError(
            f"{min(others)} is a setting of the network: give it to the network that is given, or leave it out"
        )
    hidden_dims = changes.pop("hidden_dims", None)
    max_rate = changes.pop("max_rate", math.inf if name == "guide" else MAX_RATE)
    network = _network(method, name, hidden_dims, max_rate)
    of_model = {setting: changes.pop(setting) for setting in setting_names(Model) if setting in changes}
    known = {"initial_params", "progress", *_names(train)} | ({"strategy"} if train is train_evolution else set())
    if unknown := changes.keys() - known:
        raise ValueError(f"{train.__name__}, which the preset {name!r} is for, has no setting {min(unknown)!r}")
    of_model = {"network": network} | of_model
    if train is islands.train_islands:
        model, settings = Model(**OF_MODEL[method, name] | of_model), OF_SHAPE[name] | changes
    elif name == "guide" or method == "evolution":
        model, settings = Model(**of_model), changes
    elif train is train_restarts:
        model, settings = _relaxed(OF_MODEL[method, name] | of_model), _restarts(method, name, hidden_dims) | changes
    else:
        model = _relaxed({"n_replicates": 256} | of_model)
        settings = _pathwise(model, changes)
    _check(train, model, settings)
    return model, settings


def _names(train: Callable) -> set[str]:
    return {name for settings in _SETTINGS[train] for name in setting_names(type(settings))}


def _check(train: Callable, model: Model, settings: dict[str, Any]) -> None:
    """Refuse what training would refuse, which may be after a warm start has been fitted."""
    given = {name: settings[name] for name in settings.keys() & _names(train)}
    plan, *others = sort_settings(given, *_SETTINGS[train], of=train.__name__)
    if hasattr(plan, "check"):
        plan.check(model, *others)


def _network(method: str, name: str, hidden_dims, max_rate):
    max_rate = None if max_rate == math.inf else check_number("max_rate", max_rate, above=0.0)
    if hidden_dims is None:
        if (method, name) == ("score", "recipe"):
            return StepNetwork(n_cuts=3, edge=0.003, max_rate=max_rate)
        if name == "any-shape":
            return dataclasses.replace(islands.NETWORK, max_rate=max_rate)
        if name == "odd-shape":
            return StepNetwork(n_cuts=3, edge=SHARP, max_rate=max_rate)
        if trainer(method, name) is train_restarts:
            return RBFNetwork(max_rate=max_rate)
    layers = HIDDEN_DIMS if hidden_dims is None else hidden_dims
    if name == "guide":
        return MLP(layers, input_centre=0.0, input_scale=1.0, max_rate=max_rate)
    return MLP(layers, max_rate=max_rate)


def _relaxed(of_model: dict) -> Model:
    """With exact pattern probabilities where there are not too many cells, unless a relaxation is given."""
    model = Model(**of_model)
    if "relaxation" in of_model or "readout" in of_model:
        return model
    return model.changed(relaxation=exact_relaxation(model.n_cells, model.readout.n_fates))


def _restarts(method: str, name: str, hidden_dims) -> dict[str, Any]:
    settings = OF_RECIPE[method] if name == "recipe" else {}
    # Every weight of a perceptron moves f everywhere: with the rates of bumps it jumps to a rule of one sign.
    return settings if hidden_dims is None else settings | {"exploration_rate": 0.03, "learning_rate": 0.02}


def _pathwise(model: Model, changes: dict) -> dict[str, Any]:
    training = {"n_epochs": 200, "clip_norm": 1.0, "n_training_steps": min(300, model.n_steps)} | changes
    rate = training.get("learning_rate", 0.03)
    if not callable(rate):
        check_number("learning_rate", rate, above=0.0)
        training["learning_rate"] = optax.cosine_decay_schedule(rate, check_size("n_epochs", training["n_epochs"]))
    return training
