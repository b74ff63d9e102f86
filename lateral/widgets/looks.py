"""How a figure looks on the page of an app: bright on a dark one, in two rows on a narrow one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import matplotlib.colors
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

__all__ = ["BACKGROUND", "NARROW", "dark_if", "in_two_rows"]

BACKGROUND = "#111111"  # of a notebook in JupyterLab's dark theme
NARROW = (6.0, 4.3)  # inches of a figure on a narrow page


def dark_if(dark: bool, figure: Figure) -> AbstractContextManager:
    """Meanwhile a figure is in the colours of its page."""
    return _in_dark(figure) if dark else nullcontext()


@contextmanager
def _in_dark(figure: Figure) -> Iterator[None]:
    """Meanwhile what is black in a figure is bright and what is white is dark; colours that stand for data stay."""
    undo = []

    def paint(artist, name):
        old = getattr(artist, f"get_{name}")()
        if isinstance(old, str) and old in ("auto", "none"):
            return
        new = _on_dark(old)
        if new is not None:
            undo.append((getattr(artist, f"set_{name}"), old))
            undo[-1][0](new)

    for artist in _drawn(figure):
        if isinstance(artist, Text):
            names = ("color",)
        elif isinstance(artist, Line2D):
            names = ("color", "markeredgecolor", "markerfacecolor")
        elif isinstance(artist, Patch):
            names = ("facecolor", "edgecolor")
        else:
            continue
        for name in names:
            paint(artist, name)
    ticks = [(axis, axis.get_tick_params()) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    for axis, _ in ticks:
        axis.set_tick_params(color=_on_dark("black"), labelcolor=_on_dark("black"))
    try:
        yield
    finally:
        for axis, old in ticks:
            axis.set_tick_params(color=old.get("color", "black"), labelcolor=old.get("labelcolor", "black"))
        for put_back, old in reversed(undo):
            put_back(old)


def _drawn(artist: Artist) -> Iterator[Artist]:
    """An artist and all within it, but for what is invisible: to ask an axis for its ticks makes them."""
    if artist.get_visible():
        yield artist
        for child in artist.get_children():
            yield from _drawn(child)


def _on_dark(colour):
    """The colour in which a grey is drawn on a dark page; None for what can stay."""
    *rgb, alpha = matplotlib.colors.to_rgba(colour)
    if max(rgb) - min(rgb) > 0.02 or alpha == 0.0:
        return None
    if rgb[0] > 0.99:
        return (*matplotlib.colors.to_rgb(BACKGROUND), alpha)
    return (*(3 * (0.92 - 0.6 * rgb[0],)), alpha) if rgb[0] < 0.45 else None


def in_two_rows(figure: Figure, n_above: int, size: tuple[float, float] = NARROW) -> None:
    """Lay the panels of a figure out anew, `n_above` of them above the others, if they are three or more in a row.

    The lower row keeps its height; what `size`, in inches, has more of it is for the upper one.
    """
    axes = [ax for ax in figure.axes if ax.get_subplotspec() is not None]
    if len(axes) < 3 or axes[0].get_gridspec().get_geometry() != (1, len(axes)):
        return
    ratios = axes[0].get_gridspec().get_width_ratios()
    rows = figure.add_gridspec(2, 1, height_ratios=(size[1] - NARROW[1] / 2, NARROW[1] / 2))
    for row, places in zip(rows, (slice(0, n_above), slice(n_above, None)), strict=True):
        panels = axes[places]
        inner = row.subgridspec(1, len(panels), width_ratios=ratios[places])
        for ax, place in zip(panels, inner, strict=True):
            ax.set_subplotspec(place)
    for ax in figure.axes:  # a scale of colours that is taller than its panel would leave no room for any
        if parents := getattr(ax, "_colorbar_info", {}).get("parents"):
            place, panel = ax.get_position(), parents[0].get_position()
            ax.set_position([place.x0, panel.y0, place.width, panel.height])
    figure.set_size_inches(*size)
