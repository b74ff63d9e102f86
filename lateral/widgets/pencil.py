"""A curve that is drawn with the mouse, a pen or a finger."""

from pathlib import Path

import anywidget
import traitlets

from lateral.plotting import COLOURS

__all__ = ["Pencil"]


class Pencil(anywidget.AnyWidget):
    """The rule on a canvas; what is drawn over replaces it. It fetches nothing from the network.

    Attributes:
        values: rates at evenly spaced neighbour means from 0 to 1; new ones are reported when the pointer is released.
        reference: rates of the dashed curve, of which `reference_name` is the name.
        bound: the rate that can't be exceeded; the axis ends there.
        odd: whether the mirror image is drawn along, so that f(1 - s̄) = -f(s̄).
    """

    _esm = (Path(__file__).parent / "pencil.js").read_text(encoding="utf-8")
    values = traitlets.List(traitlets.Float()).tag(sync=True)
    reference = traitlets.List(traitlets.Float()).tag(sync=True)
    reference_name = traitlets.Unicode("").tag(sync=True)
    bound = traitlets.Float(5.0).tag(sync=True)
    odd = traitlets.Bool(True).tag(sync=True)
    colour = traitlets.Unicode(COLOURS[0]).tag(sync=True)
