"""Named ways to train: `guide` is the literal configuration of the document, `recipe` the best that we teach."""

import dataclasses
from typing import Any

import optax

from lateral._checks import check_choice, check_number, check_size
from lateral.model import Model
from lateral.network import HIDDEN_DIMS, MLP
from lateral.utility import MAX_CELLS_BERNOULLI

__all__ = ["METHODS", "PRESETS", "preset"]

METHODS = ("evolution", "backprop")
PRESETS = ("recipe", "guide")


def preset(method: str, name: str = "recipe", **changes) -> tuple[Model, dict[str, Any]]:
    """The model and the keyword arguments of `train_evolution` or `train_backprop`.

    `guide` gives the network the neighbour mean as it is and leaves the rate unbounded, as the document does.
    `recipe` scales the input, bounds |f| to 5 and, for backpropagation, scores soft fates by exact pattern
    probabilities (through a kernel above 12 cells) on 256 replicates of a simulation of 300 steps, with a falling
    learning rate and clipped gradients.

    Args:
        method: `"evolution"` or `"backprop"`.
        name: `"recipe"` or `"guide"`.
        **changes: any setting of `Model`, `hidden_dims`, and any keyword argument of the training function.

    Example:
        model, settings = preset("backprop", n_cells=9)
        run = train_backprop(model, key=jax.random.key(0), **settings)
    """
    check_choice("method", method, METHODS)
    check_choice("preset", name, PRESETS)
    hidden_dims = changes.pop("hidden_dims", HIDDEN_DIMS)
    model_fields = {field.name for field in dataclasses.fields(Model)}
    of_model = {setting: value for setting, value in changes.items() if setting in model_fields}
    of_training = {setting: value for setting, value in changes.items() if setting not in model_fields}
    if name == "guide":
        network = MLP(hidden_dims, input_centre=0.0, input_scale=1.0)
        return Model(**{"network": network} | of_model), of_training

    of_model = {"network": MLP(hidden_dims, max_rate=5.0)} | of_model
    if method == "evolution":
        return Model(**of_model), of_training
    few_cells = of_model.get("n_cells", 0) <= MAX_CELLS_BERNOULLI
    model = Model(**{"n_replicates": 256, "relaxation": "bernoulli" if few_cells else "kernel"} | of_model)
    training = {"n_epochs": 200, "clip_norm": 1.0, "n_training_steps": min(300, model.n_steps)} | of_training
    rate = training.get("learning_rate", 0.03)
    if not callable(rate):
        check_number("learning_rate", rate, above=0.0)
        training["learning_rate"] = optax.cosine_decay_schedule(rate, check_size("n_epochs", training["n_epochs"]))
    return model, training
