"""Sliders for notebooks, plain ipywidgets that also work from a script.

    app = explore(draw, noise_strength=slider(0.0, 0.5, 0.1), seed=slider(0, 20, 0))

calls `draw(noise_strength=..., seed=...)`, which returns a `lateral.plotting.Figure` or a pair (figure, text), and
shows it again whenever a slider is released. The picture is a plain image: no `pyplot`, no flicker, nothing to clear.
"""

import math
from collections.abc import Callable

import ipywidgets
from IPython.display import display

from lateral._checks import check_callable

__all__ = ["Explorer", "explore", "slider"]


def slider(low: float, high: float, value: float, step: float | None = None, *, log: bool = False, label: str = ""):
    """A slider for a whole or a real number; `log=True` moves in powers of ten between `low` and `high`.

    It reports a new value when it is released, not on the way.
    """

    common = {"continuous_update": False, "description": label, "style": {"description_width": "180px"}}
    if not low <= value <= high:
        raise ValueError(f"value must lie between low = {low} and high = {high}, got {value}")
    if log:
        if low <= 0:
            raise ValueError(f"a logarithmic slider needs low > 0, got {low}")
        exponents = {"min": math.log10(low), "max": math.log10(high), "step": step or 0.25}
        return ipywidgets.FloatLogSlider(value=value, base=10, readout_format=".2g", **exponents, **common)
    if all(isinstance(number, int) for number in (low, high, value)):
        return ipywidgets.IntSlider(value=value, min=low, max=high, step=step or 1, **common)
    step = step or (high - low) / 20
    return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, readout_format=".3g", **common)


class Explorer(ipywidgets.VBox):
    """Controls above a picture that answers them. Made by `explore`.

    Attributes:
        controls: the sliders by name; set `app.controls["noise_strength"].value = 0.3` to move one.
        figure: the figure last drawn.
        text: the line of text last shown.
        n_drawn: how many pictures have been drawn.
        error: the error of the last picture, or None.
    """

    def __init__(self, draw: Callable, **controls):
        check_callable("draw", draw)
        self.controls = controls
        self.figure = None
        self.text = ""
        self.n_drawn = 0
        self.error = None
        self._draw = draw
        self._image = ipywidgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        self._line = ipywidgets.HTML()
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            control.layout.width = "560px"
            control.observe(self._answer, names="value")
        super().__init__([*controls.values(), self._image, self._line])
        self._answer()
        if self.error is not None:
            raise self.error

    def _answer(self, _change=None):
        try:
            result = self._draw(**{name: control.value for name, control in self.controls.items()})
        except Exception as error:  # shown where the user looks; a callback has no caller to raise to
            self.error = error
            self._line.value = f"<b>{type(error).__name__}</b>: {error}"
            return
        self.error = None
        self.figure, self.text = result if isinstance(result, tuple) else (result, "")
        self._image.value = self.figure.to_png()
        self._line.value = self.text
        self.n_drawn += 1

    def __repr__(self):
        return f"Explorer({', '.join(self.controls)})"

    def _repr_mimebundle_(self, **kwargs):
        # Beside the live widget a picture, for pages that show the notebook without a kernel.
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None and self.figure is not None:
            data["image/png"] = self.figure._repr_png_()
        return bundle


def explore(draw: Callable, **controls) -> Explorer:
    """Show controls above the picture that `draw(**values)` makes of them, and keep it up to date.

    Args:
        draw: from values of the controls, by name, to a `lateral.plotting.Figure` or a pair (figure, text).
        **controls: ipywidgets, for instance made by `slider`.

    Raises:
        Exception: what `draw` raises at the initial values. Later errors show below the picture, in `error`.
    """
    app = Explorer(draw, **controls)
    display(app)
    return app
