"""Figures: one function for each kind of picture, all in one family of colours that the colour-blind can tell apart.

The functions return a `lateral.figure.Figure`, which shows itself in a notebook and saves itself with
`figure.savefig(path)`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import Locator, MaxNLocator, MultipleLocator

from lateral.animation import save_animation
from lateral.checks import check_fates, check_matrix
from lateral.data_figure import plot_conditions
from lateral.evaluation import Evaluation
from lateral.figure import COLOURS, FATE_COLOURS, STATE_COLOURS, Figure, fate_colours, new_figure, png_of
from lateral.model import final_states
from lateral.mosaic import plot_tissue
from lateral.network import TanhInhibition
from lateral.rules import checked_rates
from lateral.runs import Run
from lateral.sketches import plot_view
from lateral.training_curves import plot_history, unit_of
from lateral.utility import THRESHOLD, UtilityEstimate

__all__ = [
    "COLOURS",
    "FATE_COLOURS",
    "Figure",
    "cell_ticks",
    "new_figure",
    "plot_bars",
    "plot_bundles",
    "plot_conditions",
    "plot_curves",
    "plot_evaluations",
    "plot_fates",
    "plot_groups",
    "plot_history",
    "plot_pattern_frequencies",
    "plot_regulatory_functions",
    "plot_run",
    "plot_scores",
    "plot_space_time",
    "plot_states",
    "plot_tissue",
    "plot_view",
    "png_of",
    "save_animation",
    "unit_of",
]


def plot_states(states, dt: float, title: str, *, threshold: float = THRESHOLD, ax=None) -> Figure:
    """States of the cells of one tissue over time, one line a cell.

    Args:
        states: `(time, cell)` in [0, 1].
        dt: time between two rows.
        threshold: between the fates, drawn as a dotted line.
    """
    states = _two_dimensional("states", states, "(time, cell)")
    figure, ax = (ax.figure, ax) if ax is not None else new_figure()
    times = np.arange(states.shape[0]) * dt
    for cell, trace in enumerate(states.T):
        ax.plot(times, trace, lw=1.2, color=COLOURS[cell % len(COLOURS)], label=f"cell {cell + 1}")
    ax.axhline(float(threshold), color="grey", lw=0.8, ls=":")
    ax.set(xlabel="time t (1 / rate)", ylabel="state s", xlim=(0, times[-1]), ylim=(-0.03, 1.03), title=title)
    if states.shape[1] <= len(COLOURS):
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def plot_space_time(states, dt: float, title: str, *, with_scale: bool = True, ax=None) -> Figure:
    """Space–time plot of one tissue: cells from top to bottom, time from left to right, state as colour.

    Args:
        states: `(time, cell)` in [0, 1].
        dt: time between two rows.
        with_scale: with the scale of colours; one is enough for plots side by side.
    """
    states = _two_dimensional("states", states, "(time, cell)")
    figure, ax = (ax.figure, ax) if ax is not None else new_figure()
    n_times, n_cells = states.shape
    extent = (0, (n_times - 1) * dt, n_cells + 0.5, 0.5)
    picture = ax.imshow(
        states.T, aspect="auto", interpolation="nearest", extent=extent, vmin=0, vmax=1, cmap=STATE_COLOURS
    )
    if with_scale:
        figure.colorbar(picture, ax=ax, label="state s")
    ax.set(xlabel="time t (1 / rate)", ylabel="cell", title=title)
    ax.yaxis.set_major_locator(cell_ticks(n_cells))
    return figure


def cell_ticks(n_cells: int) -> Locator:
    """Ticks of an axis of cells: each cell of a short row, every fifth or tenth of a long one."""
    return MultipleLocator(1) if n_cells <= 10 else MultipleLocator(5 if n_cells <= 30 else 10 * -(-n_cells // 100))


def plot_fates(fates, title: str, *, n_shown: int = 40, n_fates: int = 2, ax=None) -> Figure:
    """Heat map of the fates of the first replicates, one row a tissue; of more than two, whole numbers below K <= 7."""
    fates, colours = _fates(fates, n_fates)[:n_shown], fate_colours(n_fates)
    figure, ax = (ax.figure, ax) if ax is not None else new_figure(width=4.5)
    extent = (0.5, fates.shape[1] + 0.5, fates.shape[0] + 0.5, 0.5)
    ax.imshow(fates, aspect="auto", interpolation="nearest", cmap=colours, vmin=0, vmax=n_fates - 1, extent=extent)
    ax.set(xlabel="cell", ylabel="replicate", title=title)
    ax.xaxis.set_major_locator(cell_ticks(fates.shape[1]))
    # Half a tissue is none, and people count in tens.
    ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    for fate in range(n_fates):
        ax.plot([], [], "s", color=colours(fate), markeredgecolor="grey", label=f"fate {fate}")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def plot_pattern_frequencies(fates, title: str, *, n_shown: int = 10, ax=None) -> Figure:
    """The most frequent patterns of an ensemble and their share of the replicates."""
    fates = _fates(fates)
    figure, ax = (ax.figure, ax) if ax is not None else new_figure()
    counts = Counter(map(bytes, fates.astype(np.uint8)))
    # Ties in the order of the patterns, so that the picture does not depend on the order of the replicates.
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n_shown]
    names = ["".join(map(str, pattern)) for pattern, _ in common]
    ax.barh(names, [count / len(fates) for _, count in common], color=COLOURS[0])
    ax.invert_yaxis()
    ax.tick_params(axis="y", labelfontfamily="monospace")
    ax.set(xlabel="share of replicates", ylabel="pattern of fates", title=title)
    return figure


def plot_regulatory_functions(
    functions: Mapping[str, Callable], title: str, *, with_legend: bool = True, ax=None
) -> Figure:
    """Rules f(s̄), one curve each, over the whole range of neighbour means.

    Args:
        with_legend: with the names of the rules; without where they stand beside the plot.

    Raises:
        ValueError: for what no simulation would take for a rule either.
    """
    beside = len(functions) > 3  # no corner is left free
    figure, ax = (ax.figure, ax) if ax is not None else new_figure(width=9.0 if beside else None)
    neighbour_means = np.linspace(0.0, 1.0, 401)
    for i, (label, f) in enumerate(functions.items()):
        rates = np.asarray(checked_rates(f, jnp.asarray(neighbour_means, float)))
        ax.plot(neighbour_means, rates, color=COLOURS[i % len(COLOURS)], label=label)
    ax.axhline(0.0, color="grey", lw=0.8, ls=":")
    ax.set(xlabel="neighbour mean s̄", ylabel="rate f(s̄) (1 / time)", xlim=(0, 1), title=title)
    if with_legend:
        ax.legend(**{"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if beside else {})
    return figure


def plot_curves(
    x,
    curves: Mapping[str, object],
    title: str,
    xlabel: str,
    ylabel: str,
    *,
    logx: bool = False,
    joined: bool = True,
    colours: Sequence[str] = COLOURS,
    reference=None,
    ax=None,
) -> Figure:
    """Curves over a common x.

    Args:
        curves: for each label the values, or a pair (values, standard errors).
        joined: whether lines lead from point to point.
        colours: of the curves, in their order.
        reference: a pair (label, value) drawn as a horizontal line, for instance a closed form.
    """
    figure, ax = (ax.figure, ax) if ax is not None else new_figure()
    for i, (label, curve) in enumerate(curves.items()):
        values, errors = curve if isinstance(curve, tuple) else (curve, None)
        style = {"marker": "o" if len(x) <= 20 or not joined else None, "ls": "-" if joined else "none"}
        ax.errorbar(x, values, errors, color=colours[i % len(colours)], ms=4, capsize=2, label=label, **style)
    if reference is not None:
        label, value = reference
        ax.axhline(value, color="grey", ls="--", lw=1, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, **({"xscale": "log"} if logx else {}))
    if logx and len(x) <= 8:  # the few values themselves say more than powers of ten
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()
    elif not logx and np.issubdtype(np.asarray(x).dtype, np.integer):
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if len(curves) > 1 or reference is not None:
        ax.legend()
    return figure


def plot_groups(x, y, groups: Mapping[str, Any], title: str, xlabel: str, ylabel: str) -> Figure:
    """Points in the colours of their groups; those of no group are grey.

    Args:
        groups: for each label which of the points belong to it, as truth values; the label is shown with their share.
    """
    x, y = np.asarray(x), np.asarray(y)
    members = {label: np.asarray(group, bool) for label, group in groups.items()}
    rest = ~np.any([*members.values(), np.zeros(len(x), bool)], axis=0)
    figure, ax = new_figure(width=7.5)
    for i, (label, group) in enumerate((members | {"none of these": rest}).items()):
        colour = "grey" if i == len(members) else COLOURS[i % len(COLOURS)]
        ax.scatter(x[group], y[group], s=14, color=colour, alpha=0.6, label=f"{label}: {group.mean():.0%}")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return figure


def plot_bundles(bundles: Mapping[str, Any]) -> Figure:
    """Many rules in each panel, as thin curves of one colour.

    Args:
        bundles: for the title of each panel an array of rates, `(rule, s̄)`, at equally spaced s̄ from 0 to 1.
    """
    figure, axes = new_figure(len(bundles), squeeze=False, sharey=True)
    for i, (ax, (title, rates)) in enumerate(zip(axes[0], bundles.items(), strict=True)):
        rates = np.asarray(rates)
        ax.plot(np.linspace(0.0, 1.0, rates.shape[1]), rates.T, color=COLOURS[i % len(COLOURS)], lw=0.8, alpha=0.5)
        ax.axhline(0.0, color="grey", lw=0.8, ls=":")
        ax.set(xlabel="neighbour mean s̄", ylabel="rate f(s̄) (1 / time)", xlim=(0, 1), title=title)
    return figure


def plot_evaluations(evaluations: Mapping[str, Evaluation], title: str, *, ax=None) -> Figure:
    """Utility with its standard error and alternation, side by side for several rules.

    Args:
        evaluations: results of `lateral.evaluate`, by label.
    """
    figure, ax = (ax.figure, ax) if ax is not None else new_figure()
    places = np.arange(len(evaluations))
    results = list(evaluations.values())
    ax.bar(
        places - 0.2,
        [result.utility for result in results],
        0.4,
        yerr=[result.utility_se for result in results],
        capsize=3,
        color=COLOURS[0],
        label="utility U (bits per cell)",
    )
    ax.bar(
        places + 0.2, [result.alternation for result in results], 0.4, color=COLOURS[4], hatch="//", label="alternation"
    )
    for place, result in zip(places, results, strict=True):
        ax.annotate(f"{result.utility:.3f}", (place - 0.2, result.utility), ha="center", va="bottom", fontsize=9)
    ax.set_xticks(places, list(evaluations))
    ax.set(ylim=(0, 1.15), title=title)
    ax.legend(ncols=2, fontsize=8, loc="upper left")
    return figure


def plot_scores(scores: Mapping[str, Evaluation | UtilityEstimate], title: str, n_cells: int, *, ax=None) -> Figure:
    """U with its standard error and alternation as points, beside what two perfect patterns score.

    Args:
        scores: results of `lateral.evaluate` or `lateral.estimate_utility`, by label.
        n_cells: cells in the row, N: both alternating patterns, half each, score 1 - 1/N.
    """
    figure, ax = (ax.figure, ax) if ax is not None else new_figure(width=3.0)
    perfect = 1.0 - 1.0 / n_cells
    ax.plot([-0.4, 0.4], [perfect, perfect], color="grey", ls="--", lw=1)
    # Above 1, where no point can be.
    ax.annotate("- - two perfect patterns", (-0.4, 1.08), fontsize=8, color="dimgrey")
    for i, (label, result) in enumerate(scores.items()):
        shift = 0.16 * (i - (len(scores) - 1) / 2)
        values, errors = (result.utility, result.alternation), (result.utility_se, 0.0)
        ax.errorbar(
            np.arange(2) + shift,
            values,
            errors,
            fmt="oD^vs"[i % 5],
            ms=6,
            capsize=4,
            color=COLOURS[i % len(COLOURS)],
            label=label,
        )
    ax.set_xticks([0, 1], ["U ± s.e.", "alternation"])
    ax.set(ylabel="bits per cell; share", xlim=(-0.5, 1.5), ylim=(-0.05, 1.18), title=title)
    if len(scores) > 1:
        ax.legend(fontsize=8, loc="lower center")
    return figure


def plot_bars(categories: Sequence[str], rows: Mapping[str, Sequence[float]], title: str, ylabel: str, *, ax=None):
    """Several values for each category, side by side; not-a-number leaves a gap."""
    figure, ax = (ax.figure, ax) if ax is not None else new_figure()
    places, width = np.arange(len(categories)), 0.84 / len(rows)
    for i, (label, values) in enumerate(rows.items()):
        offset = (i - (len(rows) - 1) / 2) * width
        ax.bar(places + offset, values, width, color=COLOURS[i % len(COLOURS)], label=label)
    ax.axhline(0.0, color="grey", lw=0.8)
    ax.set_xticks(places, categories)
    ax.set(ylabel=ylabel, title=title)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_run(run: Run, *, key) -> Figure:
    """A saved run at a glance: training curves, the learned rule, and the fates of fresh tissues."""
    figure, axes = new_figure(3)
    history = run.history
    styles = {"utility": {"color": COLOURS[0]}, "alternation": {"color": COLOURS[6], "ls": ":"}}
    for name in [name for name in styles if name in history]:
        axes[0].plot(np.arange(1, len(history[name]) + 1), history[name], label=name, **styles[name])
        axes[0].legend(fontsize=8)
    axes[0].set(
        xlabel=unit_of(history), ylabel="utility (bits per cell), alternation", title=f"Training by {run.method}"
    )
    functions = {"learned": run.regulatory_function, "tanh target": TanhInhibition()}
    plot_regulatory_functions(functions, "Learned rule", ax=axes[1])
    states = final_states(run.regulatory_function, run.model.changed(n_replicates=40), key)
    readout = run.model.readout
    plot_fates(readout.fates(states), "Fates of 40 fresh tissues", n_fates=readout.n_fates, ax=axes[2])
    return figure


def _two_dimensional(name: str, values, axes: str) -> np.ndarray:
    return np.asarray(check_matrix(name, values, axes))


def _fates(fates, n_fates: int = 2) -> np.ndarray:
    return np.asarray(check_fates("fates", check_matrix("fates", fates), n_fates)).astype(np.uint8)
