"""Pictures of how a training went."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lateral.figure import COLOURS, Figure, new_figure

__all__ = ["plot_history", "unit_of"]


def unit_of(history: Mapping[str, Any]) -> str:
    """What a step of a training is called: only a population has a mean objective."""
    return "generation" if "mean_objective" in history else "epoch"


def plot_history(history: Mapping[str, Any], title: str) -> Figure:
    """Training curves: utility (or loss) on the left; gradient norm, where there is one, on the right.

    Args:
        history: of a `Run` or a `TrainingSession`, by any method.
    """
    unit, with_gradient = unit_of(history), "gradient_norm" in history
    figure, axes = new_figure(2 if with_gradient else 1)
    left = axes[0] if with_gradient else axes
    own = "hard utility of the epoch's replicates" if unit == "epoch" else "utility of the best of the population"
    labels = {
        "utility": own,
        "relaxed": "objective that is climbed (-loss)",
        "objective": "objective of the best of the population",
        "mean_objective": "mean objective of the population",
        "alternation": "alternation",
    }
    curves = {"relaxed": -np.asarray(history["loss"])} if "loss" in history else {}
    curves |= {name: np.asarray(history[name]) for name in labels if name in history}
    if "objective" in curves and np.allclose(curves["objective"], curves["utility"], atol=1e-4):
        del curves["objective"]  # the objective is the utility
    for i, (name, values) in enumerate(curves.items()):
        style = {"ls": ":", "color": COLOURS[6]} if name == "alternation" else {"color": COLOURS[i]}
        left.plot(np.arange(1, len(values) + 1), values, lw=1.2, label=labels[name], **style)
    left.set(xlabel=unit, ylabel="utility (bits per cell), alternation", title=title, ylim=(None, 1.02))
    left.legend(fontsize=8)
    if with_gradient:
        norms = np.maximum(np.asarray(history["gradient_norm"]), 1e-8)
        axes[1].semilogy(np.arange(1, len(norms) + 1), norms, lw=1, color=COLOURS[1])
        axes[1].set(xlabel=unit, ylabel="gradient norm (bits per unit weight)", title="Gradient norm")
    return figure
