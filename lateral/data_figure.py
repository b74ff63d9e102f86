"""The picture of a user's tables of fates: entropies with intervals, information at each place, frequent patterns."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from jaxtyping import Array
from matplotlib.ticker import MaxNLocator

from lateral.counting import check_table, context_for
from lateral.figure import COLOURS, Figure, new_figure
from lateral.geometry import Geometry
from lateral.intervals import UtilityIntervals, utility_intervals

__all__ = ["plot_conditions"]

LONGEST_PATTERN = 20  # cells that can be read beside a bar
N_PATTERNS = 8
SMALL_INFORMATION = 0.05  # bits; a panel that shows less would magnify noise


def plot_conditions(
    conditions: Mapping[str, np.ndarray],
    geometry: Geometry | None = None,
    *,
    key: Array,
    n_fates: int = 2,
    title: str = "",
) -> Figure:
    """Tables of fates, side by side.

    Left: U, S_pat and S_rep with their bootstrap intervals of 95 %; where patterns of any condition are too many to be
    counted, U is a lower bound and S_rep an upper one, of all conditions with the same context. Middle: for each cell
    what its place says about its fate. Right: the share of tissues with each of the most frequent patterns or, of more
    than 20 cells, the share of cells with each fate.

    Args:
        conditions: fates `(replicate, cell)` by name, whole numbers from 0 to `n_fates` - 1.
        geometry: which cells are neighbours; a row by default.
        key: random key of the resampling.
        n_fates: number of fates K.
        title: above the left panel, by default U of each condition.
    """
    if not isinstance(conditions, Mapping) or not conditions:
        raise ValueError('conditions must be a dict of fates by name, such as {"wild type": fates}')
    tables = {name: check_table(f"conditions[{name!r}]", fates, n_fates) for name, fates in conditions.items()}
    # One context for all, as in `compare_conditions`: a longer one would make a bound tighter, and look like an effect.
    context = context_for(list(tables.values()), n_fates)
    found = {
        name: utility_intervals(fates, geometry, key=key, n_fates=n_fates, context=context)
        for name, fates in tables.items()
    }
    figure, (left, middle, right) = new_figure(3, width=13.0, height=3.6)
    _plot_entropies(found, left)
    left.set_title(title or "; ".join(f"U = {some.utility.value:.2f}" for some in found.values()), fontsize=11)
    _plot_information(found, middle)
    if max(table.shape[1] for table in tables.values()) <= LONGEST_PATTERN:
        _plot_patterns(tables, right)
    else:
        _plot_shares(tables, n_fates, right)
    return figure


def _plot_entropies(found: Mapping[str, UtilityIntervals], ax) -> None:
    bounded = any(some.context is not None for some in found.values())
    names = ["U, at least", "S_pat", "S_rep, at most"] if bounded else ["U", "S_pat", "S_rep"]
    for number, (name, some) in enumerate(found.items()):
        intervals = (some.utility, some.s_pat, some.s_rep)
        values = np.array([interval.value for interval in intervals])
        errors = np.abs([[interval.low for interval in intervals], [interval.high for interval in intervals]] - values)
        places = np.arange(3) + 0.16 * (number - (len(found) - 1) / 2.0)
        ax.errorbar(places, values, errors, fmt="o", ms=4, color=COLOURS[number % len(COLOURS)], capsize=3, label=name)
    ax.set(xticks=range(3), xticklabels=names, ylabel="bits per cell", xlim=(-0.5, 2.5))
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.legend(fontsize=8, title="95 % intervals", title_fontsize=8)


def _plot_information(found: Mapping[str, UtilityIntervals], ax) -> None:
    for number, some in enumerate(found.values()):
        information = some.information
        cells = np.arange(1, len(information.value) + 1)
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(cells, information.value, "o-", ms=3, lw=1.0, color=colour)
        ax.fill_between(cells, information.low, information.high, color=colour, alpha=0.25, lw=0.0)
    ax.axhline(0.0, color="grey", lw=0.8, ls=":")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, -SMALL_INFORMATION), max(top, SMALL_INFORMATION))
    ax.set(xlabel="cell", ylabel="S_pat less S of this cell (bits)")
    means = " and ".join(f"{np.mean(some.information.value):.2f}" for some in found.values())
    ax.set_title(f"Positional information {means} bits".replace("-0.00", "0.00"), fontsize=11)


def _plot_patterns(tables: Mapping[str, np.ndarray], ax) -> None:
    """Bars for the patterns that are most frequent in any condition; ties in the order of the patterns."""
    shares = {}
    for name, table in tables.items():
        counts = Counter(map(tuple, table.tolist()))
        shares[name] = {pattern: count / len(table) for pattern, count in counts.items()}
    every = sorted({pattern for some in shares.values() for pattern in some})
    common = sorted(every, key=lambda pattern: -max(some.get(pattern, 0.0) for some in shares.values()))[:N_PATTERNS]
    height = 0.8 / len(shares)
    for number, some in enumerate(shares.values()):
        places = np.arange(len(common)) + height * (number - (len(shares) - 1) / 2.0)
        ax.barh(places, [some.get(pattern, 0.0) for pattern in common], height, color=COLOURS[number % len(COLOURS)])
    ax.set(yticks=range(len(common)), yticklabels=["".join(map(str, pattern)) for pattern in common])
    ax.tick_params(axis="y", labelfontfamily="monospace", labelsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="share of tissues", ylabel="pattern of fates")
    shown = [sum(some.get(pattern, 0.0) for pattern in common) for some in shares.values()]
    ax.set_title(f"These patterns are {' and '.join(f'{share:.0%}' for share in shown)} of tissues", fontsize=11)


def _plot_shares(tables: Mapping[str, np.ndarray], n_fates: int, ax) -> None:
    width = 0.8 / len(tables)
    for number, table in enumerate(tables.values()):
        places = np.arange(n_fates) + width * (number - (len(tables) - 1) / 2.0)
        heights = [np.mean(table == fate) for fate in range(n_fates)]
        ax.bar(places, heights, width, color=COLOURS[number % len(COLOURS)])
    last = " and ".join(f"{np.mean(table == n_fates - 1):.0%}" for table in tables.values())
    ax.set(xticks=range(n_fates), xlabel="fate", ylabel="share of cells")
    ax.set_title(f"{last} of the cells have fate {n_fates - 1}", fontsize=11)
