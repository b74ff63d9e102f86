"""Named ways to train: `guide` is the literal configuration of the document, `recipe` the best that we teach."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import optax

from lateral._checks import check_choice, check_number, check_size
from lateral.backprop import train_backprop
from lateral.evolution import train_evolution
from lateral.model import Model
from lateral.network import HIDDEN_DIMS, MLP, RBFNetwork
from lateral.restarts import train_restarts
from lateral.utility import MAX_CELLS_BERNOULLI

__all__ = ["METHODS", "PRESETS", "preset", "trainer"]

METHODS = ("evolution", "backprop")
PRESETS = ("recipe", "guide", "pathwise")
MAX_RATE = 5.0


def trainer(method: str, name: str = "recipe") -> Callable:
    """The function that a preset is for: `train_evolution`, `train_restarts` or `train_backprop`."""
    check_choice("method", method, METHODS)
    check_choice("preset", name, PRESETS)
    if method == "evolution":
        return train_evolution
    return train_restarts if name == "recipe" else train_backprop


def preset(method: str, name: str = "recipe", **changes) -> tuple[Model, dict[str, Any]]:
    """The model and the keyword arguments of the function that `trainer` names.

    `guide` gives the network the neighbour mean as it is and leaves the rate unbounded, as the document does.
    `recipe` bounds |f| to 5. For evolution it scales the input of the network; for backpropagation it trains an
    `RBFNetwork` by the score estimator of the hard utility, from restarts.
    `pathwise` is the best found for the gradient through the simulation: scaled input, |f| up to 5, soft fates scored
    by exact pattern probabilities (through a kernel above 12 cells) on 256 replicates of a simulation of 300 steps,
    with a falling learning rate and clipped gradients. For evolution it is the recipe.

    Args:
        method: `"evolution"` or `"backprop"`.
        name: `"recipe"`, `"guide"` or `"pathwise"`.
        **changes: any setting of `Model`; `hidden_dims`, for an `MLP` of these layers (which the recipe of
            backpropagation trains at a tenth of the learning rates), and `max_rate`, a bound on |f| or infinity; and
            any keyword argument of the training function.

    Example:
        model, settings = preset("backprop", objective="tissue", n_cells=9)
        run = train_restarts(model, key=jax.random.key(0), **settings)
    """
    train = trainer(method, name)
    max_rate = changes.pop("max_rate", math.inf if name == "guide" else MAX_RATE)
    max_rate = None if max_rate == math.inf else check_number("max_rate", max_rate, above=0.0)
    hidden_dims = changes.pop("hidden_dims", None)
    model_fields = {field.name for field in dataclasses.fields(Model)}
    of_model = {setting: value for setting, value in changes.items() if setting in model_fields}
    of_training = {setting: value for setting, value in changes.items() if setting not in model_fields}
    unknown = of_training.keys() - inspect.signature(train).parameters.keys()
    if unknown:
        raise ValueError(f"{train.__name__}, which the preset {name!r} is for, has no setting {sorted(unknown)[0]!r}")

    if name == "guide":
        network = MLP(hidden_dims or HIDDEN_DIMS, input_centre=0.0, input_scale=1.0, max_rate=max_rate)
    elif train is train_restarts and hidden_dims is None:
        network = RBFNetwork(max_rate=max_rate)
    else:
        network = MLP(hidden_dims or HIDDEN_DIMS, max_rate=max_rate)
    of_model = {"network": network} | of_model
    if name == "guide" or method == "evolution":
        return Model(**of_model), of_training

    few_cells = of_model.get("n_cells", 0) <= MAX_CELLS_BERNOULLI
    model = Model(**{"n_replicates": 256, "relaxation": "bernoulli" if few_cells else "kernel"} | of_model)
    if train is train_restarts:
        # Every weight of a perceptron moves f everywhere: with the rates of bumps it jumps to a rule of one sign.
        rates = {} if hidden_dims is None else {"exploration_rate": 0.03, "learning_rate": 0.02}
        return model, rates | of_training
    training = {"n_epochs": 200, "clip_norm": 1.0, "n_training_steps": min(300, model.n_steps)} | of_training
    rate = training.get("learning_rate", 0.03)
    if not callable(rate):
        check_number("learning_rate", rate, above=0.0)
        training["learning_rate"] = optax.cosine_decay_schedule(rate, check_size("n_epochs", training["n_epochs"]))
    return model, training
