"""Named ways to train: `guide` is the literal configuration of the document, `recipe` the best that we teach."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import optax

from lateral.backprop import train_backprop
from lateral.checks import check_choice, check_number, check_size
from lateral.evolution import EvolutionPlan, EvolutionStrategy, train_evolution
from lateral.fields import setting_names, sort_settings
from lateral.model import Model
from lateral.network import HIDDEN_DIMS, MLP, RBFNetwork
from lateral.readout import exact_relaxation
from lateral.training.descent import GradientDescent
from lateral.training.restarts import Restarts, train_restarts
from lateral.training.schedule import Plan
from lateral.training.value_gradient import ValueGradient

__all__ = [
    "FROM_STEPS",
    "IN_WINDOWS",
    "MAX_RATE",
    "METHODS",
    "PRESETS",
    "RenamedWarning",
    "preset",
    "settings_classes",
    "trainer",
]

MAX_RATE = 5.0
# For each method its presets, the default first.
METHODS: dict[str, tuple[str, ...]] = {
    "evolution": ("recipe", "guide", "pathwise"),
    "backprop": ("recipe", "windows", "pathwise", "guide"),
    "score": ("recipe", "steps"),
}
PRESETS = ("recipe", "guide", "pathwise", "steps", "windows")
FROM_STEPS = {"draw_from": "steps", "n_candidates": 4096, "n_restarts": 2, "n_exploration": 0, "n_epochs": 600}
IN_WINDOWS = FROM_STEPS | {"gradient": ValueGradient(), "n_epochs": 300, "learning_rate": 0.1}
# What each training function takes as loose settings.
_SETTINGS = {
    train_evolution: (EvolutionPlan, EvolutionStrategy),
    train_backprop: (Plan, GradientDescent),
    train_restarts: (Restarts,),
}


class RenamedWarning(FutureWarning):
    """A call uses a former spelling, which `lateral` still understands."""


def _method(method: str, name: str) -> str:
    """The method that is meant: what was the recipe of `backprop` never runs backwards, and is the method `score`."""
    check_choice("method", method, METHODS)
    check_choice("preset", name, PRESETS)
    if (method, name) == ("backprop", "recipe"):
        warnings.warn(
            'the recipe of "backprop" weighs noise by outcome and is the method "score" now; gradients through the '
            'dynamics are the presets "windows", "pathwise" and "guide" of "backprop"',
            RenamedWarning,
            stacklevel=4,
        )
        return "score"
    check_choice("preset", name, METHODS[method])
    return "score" if name == "windows" else method  # from restarts, as the score


def trainer(method: str, name: str = "recipe") -> Callable:
    """The function that a preset is for: `train_evolution`, `train_restarts` or `train_backprop`."""
    return _trainer(_method(method, name))


def _trainer(method: str) -> Callable:
    return {"evolution": train_evolution, "backprop": train_backprop, "score": train_restarts}[method]


def settings_classes(method: str) -> tuple[type, ...]:
    """The classes whose settings the training function of a method takes."""
    return _SETTINGS[_trainer(check_choice("method", method, METHODS))]


def preset(method: str, name: str = "recipe", **changes) -> tuple[Model, dict[str, Any]]:
    """The model and the keyword arguments of the function that `trainer` names.

    `guide` gives the network the neighbour mean as it is and leaves the rate unbounded, as the document does.
    `recipe` bounds |f| to 5. For evolution it scales the input of the network; for the method `"score"` it trains an
    `RBFNetwork` by the score estimator of the hard utility, from restarts.
    `pathwise` is the best found for the gradient through the simulation: scaled input, |f| up to 5, soft fates scored
    by exact pattern probabilities (above 12 cells by their pairwise bound) on 256 replicates of a simulation of 300
    steps, with a falling learning rate and clipped gradients. For evolution it is the recipe.
    `steps` is the recipe of the score without exploration: its two starts are the best of 4,096 random step rules.
    `windows` starts from these too, and differentiates through windows of the simulation with a critic at the end of
    each (`ValueGradient`).

    Args:
        method: `"evolution"`, `"backprop"` or `"score"`.
        name: `"recipe"`, `"guide"`, `"pathwise"`, `"steps"` or `"windows"`.
        **changes: any setting of `Model`; `hidden_dims`, for an `MLP` of these layers (which the recipe of the score
            trains at a tenth of the learning rates), and `max_rate`, a bound on |f| or infinity; and any setting of
            the training function.

    Raises:
        ValueError: for a setting outside its range, settings that do not go together, and one that nothing has.

    Example:
        model, settings = preset("score", objective="tissue", n_cells=9)
        run = train_restarts(model, key=jax.random.key(0), **settings)
    """
    method = _method(method, name)
    train = _trainer(method)
    if "network" in changes and (others := changes.keys() & {"hidden_dims", "max_rate"}):
        raise ValueError(
            f"{min(others)} is a setting of the network: give it to the network that is given, or leave it out"
        )
    hidden_dims = changes.pop("hidden_dims", None)
    network = _network(method, name, hidden_dims, changes.pop("max_rate", math.inf if name == "guide" else MAX_RATE))
    of_model = {setting: changes.pop(setting) for setting in setting_names(Model) if setting in changes}
    known = {"strategy", "initial_params", "progress", *(n for c in _SETTINGS[train] for n in setting_names(c))}
    if unknown := changes.keys() - known:
        raise ValueError(f"{train.__name__}, which the preset {name!r} is for, has no setting {min(unknown)!r}")
    of_model = {"network": network} | of_model
    if name == "guide" or method == "evolution":
        model, settings = Model(**of_model), changes
    else:
        of_preset = {"steps": FROM_STEPS, "windows": IN_WINDOWS}.get(name, {})
        model, settings = _by_gradient(method, of_model, of_preset | changes, hidden_dims)
    _check(train, model, settings)
    return model, settings


def _check(train: Callable, model: Model, settings: dict[str, Any]) -> None:
    """Refuse what training would refuse, which may be after a warm start has been fitted."""
    classes = _SETTINGS[train]
    names = {name for cls in classes for name in setting_names(cls)}
    given = {name: value for name, value in settings.items() if name in names}
    plan, *others = sort_settings(given, *(cls() for cls in classes), of=train.__name__)
    if hasattr(plan, "check"):
        plan.check(model, *others)


def _network(method: str, name: str, hidden_dims, max_rate):
    max_rate = None if max_rate == math.inf else check_number("max_rate", max_rate, above=0.0)
    layers = HIDDEN_DIMS if hidden_dims is None else hidden_dims
    if name == "guide":
        return MLP(layers, input_centre=0.0, input_scale=1.0, max_rate=max_rate)
    if method == "score" and hidden_dims is None:
        return RBFNetwork(max_rate=max_rate)
    return MLP(layers, max_rate=max_rate)


def _by_gradient(method: str, of_model: dict, changes: dict, hidden_dims) -> tuple[Model, dict[str, Any]]:
    model = Model(**{"n_replicates": 256} | of_model)
    if "relaxation" not in of_model and "readout" not in of_model:
        model = model.changed(relaxation=exact_relaxation(model.n_cells))
    if method == "score":
        # Every weight of a perceptron moves f everywhere: with the rates of bumps it jumps to a rule of one sign.
        rates = {} if hidden_dims is None else {"exploration_rate": 0.03, "learning_rate": 0.02}
        return model, rates | changes
    training = {"n_epochs": 200, "clip_norm": 1.0, "n_training_steps": min(300, model.n_steps)} | changes
    rate = training.get("learning_rate", 0.03)
    if not callable(rate):
        check_number("learning_rate", rate, above=0.0)
        training["learning_rate"] = optax.cosine_decay_schedule(rate, check_size("n_epochs", training["n_epochs"]))
    return model, training
