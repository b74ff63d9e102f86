"""A clock over what has been simulated: play it, or scrub through it with a slider."""

import math
from pathlib import Path

import anywidget
import matplotlib
import numpy as np
import traitlets
from matplotlib.colors import to_hex

from lateral.figure import COLOURS, STATE_COLOURS

__all__ = ["Clock"]


class Clock(anywidget.AnyWidget):
    """A button that plays, a slider of the time, and the cells with their states then, in a row or in the plane.

    The page draws them from the states, so that a move asks nothing of the kernel: no simulation and no figure.

    Attributes:
        value: the time; `clock.value = 2.0` shows the cells as they are then.
        dt: time between two rows of the states.
        states: of each time and cell, a byte each, 255 for a state of 1.
        n_cells: how many of them are one time.
        panel: left, bottom, width and height of the space–time plot that the cursor moves over, as shares of the
            picture.
        colours: of the 256 states.
        cells: of a tissue in the plane, for each cell the corners of its outline (x, y, x, y...), or place and radius
            of its disc (x, y, r); empty for a row.
        lines: where neighbours touch: two cells, and the ends of the line (x, y, x, y).
        canvas: left, bottom, width and height of the tissue in the plane, as shares of the picture.
        view: the coordinates of its left, right, bottom and top.
        ground, wall_colour: the colours behind it and of the lines between like neighbours.
    """

    _esm = (Path(__file__).parent / "clock.js").read_text(encoding="utf-8")
    value = traitlets.Float(0.0).tag(sync=True)
    dt = traitlets.Float(1.0).tag(sync=True)
    states = traitlets.Bytes(b"\0").tag(sync=True)
    n_cells = traitlets.Int(1).tag(sync=True)
    panel = traitlets.Tuple(default_value=(0.0, 0.0, 1.0, 1.0)).tag(sync=True)
    cells = traitlets.List([]).tag(sync=True)
    lines = traitlets.List([]).tag(sync=True)
    canvas = traitlets.Tuple(default_value=(0.0, 0.0, 1.0, 1.0)).tag(sync=True)
    view = traitlets.Tuple(default_value=(0.0, 1.0, 1.0, 0.0)).tag(sync=True)
    ground = traitlets.Unicode("white").tag(sync=True)
    wall_colour = traitlets.Unicode(COLOURS[1]).tag(sync=True)
    colours = traitlets.List([to_hex(c) for c in matplotlib.colormaps[STATE_COLOURS](np.arange(256))]).tag(sync=True)

    @property
    def end(self) -> float:
        """The last time."""
        return (len(self.states) // self.n_cells - 1) * self.dt

    @traitlets.validate("value")
    def _within(self, proposal) -> float:
        return min(max(proposal["value"], 0.0), self.end)

    def show(self, states, panel: tuple[float, float, float, float]) -> None:
        """Take the states `(time, cell)` of another tissue; a clock at its end goes to the new end."""
        at_end = self.value >= self.end
        states = np.asarray(states)
        with self.hold_sync():
            self.n_cells = states.shape[1]
            self.states = np.round(255 * np.clip(states, 0.0, 1.0)).astype(np.uint8).tobytes()
            self.panel = tuple(map(float, panel))
            self.value = self.end if at_end else min(self.value, self.end)

    def draw(self, canvas: tuple[float, ...], view: tuple[float, ...], cells, lines, ground: str) -> None:
        """Take the places of the cells of another tissue in the plane; sent once, and its states each time."""
        with self.hold_sync():
            self.canvas, self.view, self.ground = tuple(map(float, canvas)), tuple(map(float, view)), ground
            digits = max(0, 5 - math.floor(math.log10(self.view[1] - self.view[0])))  # more than there are pixels
            self.cells = [np.round(cell, digits).tolist() for cell in cells]
            self.lines = np.round(lines, digits).tolist()
