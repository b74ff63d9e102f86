"""The figure that all pictures are drawn on, and the colours that they share.

It shows itself in a notebook and saves itself with `figure.savefig(path)`. Nothing here uses `pyplot`, so nothing is
global: figures can be drawn in a worker thread and are never shown twice.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import ListedColormap
from matplotlib.container import ErrorbarContainer
from PIL import Image

from lateral.checks import check_size
from lateral.storage.files import whole_file

__all__ = ["COLOURS", "FATE_COLOURS", "MAX_FATES", "STATE_COLOURS", "Figure", "fate_colours", "new_figure", "png_of"]

# Okabe & Ito (2008), in the order in which curves take them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STATE_COLOURS = "cividis"
# Fates in their order, in colours of the same authors without that of the walls.
_FATES = ("#E8E8E8", "#0072B2", "#F0E442", "#009E73", "#CC79A7", "#56B4E9", "#000000")
MAX_FATES = len(_FATES)


def fate_colours(n_fates: int = 2) -> ListedColormap:
    """The colours of so many fates, at most 7."""
    if check_size("n_fates", n_fates, 2) > MAX_FATES:
        raise ValueError(f"n_fates must be at most {MAX_FATES}, so that colours can be told apart, got {n_fates}")
    return ListedColormap(_FATES[:n_fates])


FATE_COLOURS = fate_colours()


def png_of(drawn: FigureCanvasAgg | RendererAgg, compress_level: int) -> bytes:
    """PNG of what is drawn on a canvas."""
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB")
    picture.save(buffer, "png", compress_level=compress_level)
    return buffer.getvalue()


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that a notebook shows as a PNG, whatever backend is set."""

    def to_png(self, compress_level: int = 6) -> bytes:
        """The picture. Straight from the canvas, since `savefig` draws everything twice."""
        canvas = FigureCanvasAgg(self)
        canvas.draw()
        return png_of(canvas, compress_level)

    def savefig(self, fname: Any, *, format: str | None = None, **kwargs: Any) -> None:
        """As matplotlib's; a file is written completely or not at all, see `lateral.storage.files.whole_file`."""
        if not isinstance(fname, (str, os.PathLike)):
            return super().savefig(fname, format=format, **kwargs)
        path = Path(fname)
        if format is None and not path.suffix:  # as matplotlib does
            path = path.with_name(f"{path.name}.{matplotlib.rcParams['savefig.format']}")
        with whole_file(path) as file:
            super().savefig(file, format=format or path.suffix.removeprefix("."), **kwargs)

    def curves(self) -> dict[str, dict[str, Sequence]]:
        """The curves that have a label, a table with the columns `curve`, `x` and `y` for each panel with any."""
        tables = {}
        for number, ax in enumerate(self.axes, 1):
            lines = [(line.get_label(), line) for line in ax.lines]
            lines += [
                (bars.get_label(), bars.lines[0]) for bars in ax.containers if isinstance(bars, ErrorbarContainer)
            ]
            named = [(label, line) for label, line in lines if not label.startswith("_")]
            rows = [(label, x, y) for label, line in named for x, y in zip(*line.get_data(), strict=True)]
            if rows:
                tables[f"panel_{number}"] = dict(zip(("curve", "x", "y"), zip(*rows, strict=True), strict=True))
        return tables

    def _repr_png_(self) -> bytes:
        return self.to_png()


def new_figure(n_panels: int = 1, n_rows: int = 1, *, width: float | None = None, height: float = 3.2, **kwargs):
    """An empty figure in the style of the family and its axes (one, or an array of them)."""
    width = {1: 6.0, 2: 9.5}.get(n_panels, 12.0) if width is None else width
    # Set on each object: rcParams are global, and a worker thread may be drawing another figure just now.
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(n_rows, n_panels, **kwargs)
    for ax in figure.axes:
        ax.set_prop_cycle(color=COLOURS)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes
