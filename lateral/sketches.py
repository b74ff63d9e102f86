"""Drawings that explain the model; what is measured is drawn by `lateral.plotting`."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from lateral.checks import check_matrix, check_size, check_unit_interval
from lateral.figure import COLOURS, STATE_COLOURS, Figure, new_figure
from lateral.rules import checked_rates

__all__ = ["plot_view"]


def plot_view(states, cell: int, rule: Callable) -> Figure:
    """What one cell of a row with free ends sees, and what its rule makes of it.

    On the left the row, each cell in the colour of its state, with arrows from the neighbours to the cell; on the right
    the rule, with a point at the mean of these neighbours.

    Args:
        states: of at least two cells, in [0, 1].
        cell: which of them looks, counted from 1 as in all pictures.
        rule: a function of neighbour means.
    """
    row = check_unit_interval("states", check_matrix("states", jnp.atleast_2d(jnp.asarray(states, float))))
    states = np.asarray(row)[0]
    cell, n_cells = check_size("cell", cell), len(states)
    if n_cells < 2 or cell > n_cells:
        raise ValueError(f"cell must be one of at least two cells, got cell {cell} of {n_cells}")
    neighbours = [place for place in (cell - 1, cell + 1) if 1 <= place <= n_cells]
    mean = float(np.mean([states[place - 1] for place in neighbours]))
    rate = float(checked_rates(rule, jnp.asarray([mean], float))[0])

    figure, (left, right) = new_figure(2, height=2.6, width_ratios=(1.6, 1.0))
    _draw_row(left, states, cell, neighbours)
    left.set_title(f"Cell {cell} sees a mean of {mean:.2f}")
    s = np.linspace(0.0, 1.0, 401)
    right.plot(s, np.asarray(checked_rates(rule, jnp.asarray(s, float))), color=COLOURS[0])
    right.plot([mean], [rate], "o", ms=9, color=COLOURS[1])
    right.axhline(0.0, color="grey", lw=0.8, ls=":")
    does = "rises" if rate > 0.0 else "falls" if rate < 0.0 else "stays"
    right.set(xlabel="neighbour mean s̄", ylabel="rate f(s̄) (1 / time)", xlim=(0, 1), title=f"so its state {does}")
    return figure


def _draw_row(ax, states: np.ndarray, cell: int, neighbours: list[int]) -> None:
    """Circles in a line; the cell that looks has a coloured rim, and what it does not see is faint."""
    n_cells = len(states)
    diameter = min(34.0, 260.0 / n_cells)  # in points
    for place, state in enumerate(states, 1):
        faint = {} if place in (cell, *neighbours) else {"alpha": 0.3}
        rim = {"edgecolors": COLOURS[1], "linewidths": 3.0} if place == cell else {"edgecolors": "grey"}
        ax.scatter([place], [0.0], s=diameter**2, c=[state], vmin=0, vmax=1, cmap=STATE_COLOURS, **rim, **faint)
        ax.annotate(f"{state:.1f}", (place, -0.75), ha="center", fontsize=9, **faint)
    for place in neighbours:
        bend = "arc3,rad=-0.4" if place < cell else "arc3,rad=0.4"
        arrow = {"arrowstyle": "->", "lw": 1.8, "color": COLOURS[1], "connectionstyle": bend, "shrinkB": diameter / 2}
        ax.annotate("", (cell, 0.1), (place, 0.35), arrowprops=arrow)
    ax.set(xlim=(0.4, n_cells + 0.6), ylim=(-1.0, 1.2), xlabel="cell (above it, its state)", yticks=[])
    ax.set_xticks(np.arange(1, n_cells + 1))
    ax.spines["left"].set_visible(False)
