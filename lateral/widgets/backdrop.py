"""Axes as a backdrop: ticks and their labels take most of the time of a picture, and they rarely change.

They are drawn once and kept as pixels. The next picture with the same axes puts the pixels back and draws only what
stands within them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.legend import Legend

from lateral.figure import Figure, png_of
from lateral.widgets.looks import dark_if

__all__ = ["Backdrops"]

N_KEPT = 20  # backdrops, a megabyte each


class Backdrops:
    """Draws figures whose axes have no grid, and ticks and labels in the style that they were made with.

    A legend below zorder 0 belongs to the backdrop; one above is drawn over the curves.
    """

    def __init__(self):
        self._kept: dict[tuple, np.ndarray] = {}
        self._renderers: dict[tuple, RendererAgg] = {}  # for each size one: it remembers how wide each text is

    def png(self, figure: Figure, *, dark: bool = False) -> bytes:
        """The picture; its backdrop is from before if there was one like it."""
        size = (*figure.bbox.size, figure.dpi)
        inside = [artist for ax in figure.axes for artist in ax.get_children()]
        behind = [artist for artist in inside if isinstance(artist, Axis) or _is_below(artist)]
        looks = (size, dark, *map(_look, behind))
        behind += [figure.patch, *(ax.patch for ax in figure.axes)]
        if size not in self._renderers:
            self._renderers[size] = FigureCanvasAgg(figure).get_renderer()
        renderer = self._renderers[size]
        pixels = np.asarray(renderer.buffer_rgba())
        if looks not in self._kept:
            if len(self._kept) == N_KEPT:
                self._kept.clear()
            renderer.clear()
            with _hidden(artist for artist in inside if artist not in behind), dark_if(dark, figure):
                figure.draw(renderer)
            self._kept[looks] = pixels.copy()
        pixels[:] = self._kept[looks]
        with _hidden(behind), dark_if(dark, figure):
            figure.draw(renderer)
        return png_of(renderer, compress_level=1)


def _is_below(artist: Artist) -> bool:
    return isinstance(artist, Legend) and artist.get_zorder() < 0


def _look(artist: Axis | Legend) -> tuple:
    """What tells one backdrop from another."""
    where = artist.axes.get_position().bounds
    if isinstance(artist, Legend):
        return (*where, *(text.get_text() for text in artist.get_texts()))
    ends = (*artist.axes.get_xlim(), *artist.axes.get_ylim())  # first: the ticks follow from them
    labels = []  # of the formatters: to ask for the ticks themselves would make them
    for places, ticks in ((artist.get_majorticklocs(), artist.major), (artist.get_minorticklocs(), artist.minor)):
        labels += [*places, *ticks.formatter.format_ticks(places), ticks.formatter.get_offset()]
    return (*where, *ends, *labels, artist.get_label_text())


@contextmanager
def _hidden(artists: Iterable[Artist]) -> Iterator[None]:
    """Meanwhile these artists are not drawn."""
    shown = [artist for artist in artists if artist.get_visible()]
    for artist in shown:
        artist.set_visible(False)
    try:
        yield
    finally:
        for artist in shown:
            artist.set_visible(True)
