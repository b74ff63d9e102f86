"""Optimisers that spend the same work, drawn side by side: the picture of what `benchmarks/compare.py` stores.

Stored runs have, for each "METHOD, F" (F: what the rule f is, one of `KINDS`) and each seed, an entry whose
`points` are the checkpoints of that run: cell updates and seconds so far, and the utilities on fresh replicates.
Presets and random step rules have one point, their end.
"""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from lateral.plotting import COLOURS, Figure

__all__ = ["KINDS", "METHODS", "ONE_POINT", "finding", "median_of", "plot_equal_work", "stored_runs", "that_counts"]

# A reader's name and the colour of each method, in the order of tables and pictures. Two time steps: dashed.
METHODS = {
    "exploration": ("score, exploration", COLOURS[0]),
    "recipe": ("score, recipe", COLOURS[3]),
    "windows": ("backprop, recipe", COLOURS[4]),
    "steps": ("random step rules", COLOURS[6]),
    "evolution": ("evolution", COLOURS[1]),
    "evolution, two dt": ("evolution, two time steps", COLOURS[1]),
    "CMA-ES": ("CMA-ES", COLOURS[2]),
    "CMA-ES, two dt": ("CMA-ES, two time steps", COLOURS[2]),
    "score": ("score, from one start", COLOURS[3]),
    "combination": ("combination, from one start", COLOURS[5]),
    "pathwise": ("through the dynamics, from one start", COLOURS[4]),
}
KINDS = ("network", "table", "step rule")
ONE_POINT = ("exploration", "recipe", "windows", "steps")
LEVEL = 0.005  # utilities that differ by less are called level
TITLE_WIDTH = 150  # characters


def stored_runs(runs: Mapping, networks: Sequence[str] = KINDS) -> Iterator[tuple[str, str, list[dict]]]:
    """`(method, network, entries over seeds)` of what is stored, in the order of tables and pictures."""
    for network in networks:
        for method in METHODS:
            if entries := list(runs.get(f"{method}, {network}", {}).values()):
                yield method, network, entries


def that_counts(point: Mapping) -> float:
    """The lower of U at dt and at dt/4: what is there at one of them only belongs to the integrator."""
    return min(point["utility"], point["utility_refined"])


def median_of(values) -> float:
    """The median of what was measured; not-a-number if nothing was."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else np.nan


def finding(ends: Mapping[str, float]) -> str:
    """Who is ahead, in words, from the median utility at the end of each method."""
    order = sorted(ends, key=ends.get, reverse=True)
    ahead = [method for method in order if ends[order[0]] - ends[method] < LEVEL]
    *names, last = (f"“{METHODS[method][0]}”" for method in ahead)
    names = f"{', '.join(names)} and {last}" if names else last
    lowest, highest = ends[ahead[-1]], ends[ahead[0]]
    reached = f"{highest:.3f}" if len(ahead) == 1 else f"{lowest:.3f} to {highest:.3f}"
    text = f"{names} {'ends' if len(ahead) == 1 else 'end'} at {reached} bits per cell"
    if len(order) > len(ahead):
        follower = order[len(ahead)]
        text += f", “{METHODS[follower][0]}” at {ends[follower]:.3f}"
    return text


def plot_equal_work(runs: Mapping, networks: Sequence[str] = KINDS) -> Figure:
    """A row of panels for each kind of f: medians over cell updates, over seconds if known, and all seeds at the end.

    Args:
        runs: `["runs"]` of `benchmarks/compare.json`.
        networks: the kinds of f to draw, each in a row of its own.
    """
    rows = list(stored_runs(runs, networks))
    networks = list(dict.fromkeys(network for _, network, _ in rows))
    figure = Figure(figsize=(13.0, 0.5 + 3.5 * len(networks)), layout="constrained", facecolor="white")
    for network, row in zip(networks, figure.subfigures(len(networks), squeeze=False)[:, 0], strict=True):
        ends = _draw_row({method: entries for method, name, entries in rows if name == network}, row)
        title = fill(f"f is a {network}: {finding(ends)}", TITLE_WIDTH)
        row.suptitle(title, x=0.01, ha="left", fontsize=12)
    works = [entry["points"][-1]["work"] / 1e9 for *_, entries in rows for entry in entries]
    spent = " to ".join(dict.fromkeys(f"{work:.3g}" for work in (min(works), max(works))))
    text = f"{spent} billion cell updates for each method and seed (seeds in brackets); U: the lower of dt and dt/4"
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)
    return figure


def _draw_row(of_network: Mapping[str, list[dict]], row) -> dict[str, float]:
    """Draws all methods in the panels of one kind of f; the median utility at the end of each."""
    # Several workers leave no seconds.
    timed = any(entry["points"][-1]["seconds"] is not None for entries in of_network.values() for entry in entries)
    spent = {"work": "simulated cell updates"} | ({"seconds": "time (s)"} if timed else {})
    *curves, at_the_end = row.subplots(1, len(spent) + 1, width_ratios=[2.0 / len(spent)] * len(spent) + [1.1])
    ends = {}
    for place, (method, entries) in enumerate(of_network.items()):
        label, colour = METHODS[method]
        dashed = method.endswith(", two dt")
        style = dict(color=colour, ls="--" if dashed else "-", mfc="white" if dashed else colour)
        style |= dict(marker="*", ms=15, zorder=5) if method in ONE_POINT else dict(marker="o", ms=4.5)
        # Only checkpoints that all seeds have; a run with another budget has other ones.
        n_points = min(len(entry["points"]) for entry in entries)
        points = [entry["points"][-n_points:] for entry in entries]
        utility = np.array([[that_counts(point) for point in of_seed] for of_seed in points])
        medians, last = np.median(utility, axis=0), utility[:, -1]
        for ax, name in zip(curves, spent, strict=True):
            x = [median_of(of_seed[i][name] for of_seed in points) for i in range(n_points)]
            if np.isfinite(x).all():
                ax.plot(x, medians, label=label, **style)
        at_the_end.plot([last.min(), last.max()], [place, place], color=colour, ls=style["ls"], lw=1.5)
        at_the_end.plot(last, np.full(last.size, place), "|", color=colour, ms=9)
        at_the_end.plot(medians[-1:], [place], label=label, **style | {"ms": 12 if method in ONE_POINT else 8})
        ends[method] = float(medians[-1])
    for ax, xlabel in zip(curves, spent.values(), strict=True):
        ax.set(xscale="log", xlabel=xlabel, ylabel="U, median of the seeds (bits per cell)")
        ax.xaxis.set_minor_formatter(NullFormatter())  # in less than a decade their labels overlap
        ax.set_ylim(curves[0].get_ylim())
    at_the_end.set_title("At the end, median and every seed; legend of all panels", loc="left", fontsize=10)
    at_the_end.set(xlabel="U (bits per cell)", ylim=(len(of_network) - 0.5, -0.5))
    at_the_end.set_yticks(range(len(of_network)), [f"{METHODS[m][0]} ({len(of_network[m])})" for m in of_network])
    at_the_end.xaxis.set_major_locator(MaxNLocator(5))
    at_the_end.yaxis.tick_right()
    at_the_end.tick_params(axis="y", length=0)
    at_the_end.grid(alpha=0.3)
    for ax in (*curves, at_the_end):
        ax.spines[["top", "right"]].set_visible(False)
    return ends
