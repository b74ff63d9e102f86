"""Pictures that simulate what they draw, for the sliders at the top of notebooks 06 and 07.

    explore(draw_push, mean=slider(-0.3, 0.3, 0.0, 0.02), baseline=slider(0.0, 1.0, 0.0, 0.1))

A student moves the sliders before the notebook has explained anything, so that each picture says what it found in its
titles.
"""

import jax
import numpy as np

from lateral.dynamics import run_trajectories
from lateral.network import DeadBand, TanhInhibition, tabulate
from lateral.plotting import COLOURS, FATE_COLOURS, Figure, new_figure, plot_curves, plot_regulatory_functions

__all__ = ["draw_push", "draw_waiting"]

NOISE = 0.1  # of the one step of the toy
N_TRIES = 4000
DT, EVERY = 0.01, 25


def draw_push(mean: float, baseline: float, seed: int = 0) -> Figure:
    """A cell makes one noisy step to x = mean + 0.1 z and takes fate 1 if x > 0: which z led to which fate?

    Args:
        mean: where the cell would land without noise.
        baseline: is taken off the fate before the noise is weighed by it.
        seed: of the noise.
    """
    z = np.random.default_rng(seed).standard_normal(N_TRIES)
    fate = mean + NOISE * z > 0.0
    figure, (left, right) = new_figure(2, width=10)
    colours, labels = [FATE_COLOURS(0), FATE_COLOURS(1)], ["led to fate 0", "led to fate 1"]
    left.hist([z[~fate], z[fate]], np.linspace(-4.0, 4.0, 41), stacked=True, color=colours, label=labels, ec="grey")
    left.set(xlabel="noise z of the step", ylabel="tries", title=f"Fate 1 in {fate.mean():.0%} of the tries")
    left.legend(fontsize=8)
    terms = (fate - baseline) * z / NOISE
    n = np.unique(np.geomspace(10, N_TRIES, 80).astype(int))
    running, error = np.cumsum(terms)[n - 1] / n, terms.std() / np.sqrt(terms.size)
    exact = np.exp(-(mean**2) / (2 * NOISE**2)) / (NOISE * np.sqrt(2 * np.pi))
    plot_curves(
        n, {"estimate": running}, f"Estimate {terms.mean():.2f} ± {error:.2f}, exact {exact:.2f}", "tries so far",
        "change of the share / change of μ", logx=True, reference=("exact", exact), ax=right,
    )  # fmt: skip
    right.set_ylim(-2.0, 9.0)
    return figure


def draw_waiting(width: float, noise_strength: float, seed: int = 6) -> Figure:
    """A dead band of this half width: the rule, and how decisions and walls come about in 3,000 tissues of seven cells.

    Args:
        width: half width of the flat piece; 0 is a step.
        noise_strength: noise of the tissue.
        seed: of starts and noise.
    """
    band = tabulate(DeadBand(width))
    path = np.asarray(
        run_trajectories(
            band, n_cells=7, n_replicates=3000, dt=DT, noise_strength=noise_strength, key=jax.random.key(seed),
            every=EVERY,
        )
    )  # fmt: skip
    fates = path >= 0.5
    free_of_walls = (fates[..., 1:] != fates[..., :-1]).all(axis=-1).mean(axis=0)
    undecided = (np.abs(path - 0.5) < 0.4).mean(axis=(0, 2))
    figure, (left, right) = new_figure(2, width=10)
    rules = {"dead band": band, "tanh target": TanhInhibition()}
    plot_regulatory_functions(rules, f"A dead band of half width {width:.2f}", ax=left)
    shares = {"tissues without a wall": free_of_walls, "undecided cells": undecided}
    title = f"In the end {free_of_walls[-1]:.0%} of the tissues have no wall"
    times, colours = np.arange(path.shape[1]) * DT * EVERY, COLOURS[2:]  # not those of the rules on the left
    plot_curves(times, shares, title, "time t (1 / rate)", "share", colours=colours, ax=right)
    right.set_ylim(-0.05, 1.05)
    return figure
