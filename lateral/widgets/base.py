"""What all apps share: controls and numbers above a picture, and a way to save both.

From top to bottom: controls (the tissue, then the rule or the training, then the sample and its seed), a row of buttons
and of numbers, what an app adds, the picture, and the row that saves.
"""

import gc
import html
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import matplotlib.figure
from IPython.display import HTML, display

from lateral.checks import check_callable
from lateral.plotting import Figure, new_figure
from lateral.widgets.backdrop import Backdrops
from lateral.widgets.controls import MAX_SEED
from lateral.widgets.export import EXPORTS, free_path, write_table
from lateral.widgets.looks import NARROW, dark_if, in_two_rows
from lateral.widgets.page import Page

__all__ = ["App", "Explorer", "Picture", "error_text", "explore"]

# Stands beside each app, outside of it: what is inside is gone when the kernel is.
HINT = (
    '<small style="opacity: 0.75">A live app. If its controls are missing, crossed out or do not answer: '
    "run this cell again. They live as long as the kernel that made them.</small>"
)


class Picture(NamedTuple):
    """What an explorer draws.

    Attributes:
        figure: the picture.
        text: a line of HTML above it.
        numbers: what the picture says, by name; `app.last`.
        tables: its data, for each table its columns by name; what `app.export("NAME.csv")` writes. Without any, the
            curves of each panel are written.
    """

    figure: Figure
    text: str = ""
    numbers: Mapping[str, Any] = {}
    tables: Mapping[str, Mapping[str, Sequence]] = {}


def error_text(error: BaseException) -> str:
    """An error as a line of HTML. What a control cannot be set to says so itself; of other errors the kind helps."""
    kind = "Not possible" if type(error) is ValueError else type(error).__name__
    return f"<b>{kind}</b>: {html.escape(str(error))}"


class App(ipywidgets.VBox):
    """Controls above a picture. Made by subclasses.

    Args:
        controls: by name, in their order.
        buttons: what stands beside the line of numbers.
        groups: short headings, and the names of the controls below each; by default no headings.

    Attributes:
        controls: the controls by name. Each is an attribute too: `app.noise_strength.value = 0.3` moves a slider.
        new_seed: the button that goes on to the next seed, where there is a control `seed`.
        figure: the figure last drawn.
        text: the line of text last shown.
        last: the numbers last shown, by name.
        n_drawn: how many pictures have been drawn.
        error: the last error, or None if the last picture could be drawn.
    """

    N_ABOVE = 1  # of three panels, how many stand in the upper row where the page is narrow
    NARROW = NARROW  # inches of the figure there
    PLAIN_AXES = False  # whether `Backdrops` may keep the axes of all its figures
    FORMATS = ("png", "svg", "pdf", "csv")  # to save as

    def __init__(
        self,
        controls: Mapping[str, ipywidgets.Widget],
        buttons: Sequence[ipywidgets.Widget] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
    ):
        self.controls = dict(controls)
        self.figure, self.text, self.last, self.n_drawn, self.error = None, "", {}, 0, None
        self._tables: Mapping = {}
        self._places_of_axes: dict[tuple, list] = {}
        self._backdrops = Backdrops()
        self._lock = threading.RLock()  # callbacks of newer kernels come from several threads
        self._page = Page()
        self._page.observe(self._page_changed, names=("dark", "narrow"))
        self._image = ipywidgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        self._line = ipywidgets.HTML(layout={"flex": "1 1 280px", "margin": "2px 2px 2px 8px"}).add_class(
            "lateral-line"
        )
        self._format = ipywidgets.Dropdown(
            options=[(name.upper(), name) for name in self.FORMATS], description="save as", layout={"width": "170px"}
        )
        self._save = ipywidgets.Button(description="Save", icon="download", tooltip="the picture, or its data as CSV")
        self._saved = ipywidgets.HTML()
        self._save.on_click(lambda _: self._save_next(self.export, type(self).__name__, self._format.value))
        if "seed" in self.controls:
            self.new_seed = ipywidgets.Button(
                description="new seed", icon="random", tooltip="the next seed", layout={"width": "110px"}
            )
            self.new_seed.on_click(lambda _: self._next_seed())
            buttons = [*buttons, self.new_seed]
        for name, control in self.controls.items():
            if hasattr(self, name):
                raise ValueError(f"{name!r} is taken by the app itself: give the control another name")
            setattr(self, name, control)
            control.description = control.description or name.replace("_", " ")
            control.layout.width = "98%"
        row = ipywidgets.HBox([*buttons, self._line], layout={"flex_flow": "row wrap"})
        picture = ipywidgets.Box([self._image]).add_class("lateral-picture")
        footer = ipywidgets.HBox([self._format, self._save, self._saved], layout={"flex_flow": "row wrap"})
        super().__init__([self._page, _grid(self.controls, groups), row, picture, footer])
        self.add_class("lateral-app")

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not self.__dict__.get("controls", {}).get(name, value):
            raise AttributeError(f"{name} is a control of this app: write app.{name}.value = {value!r}")
        super().__setattr__(name, value)

    def export(self, path: str | os.PathLike) -> list[Path]:
        """Save the picture (`.png`, `.svg`, `.pdf`), or its data (`.csv`): a file for each table, `NAME_TABLE.csv`.

        Each file is written completely or not at all.

        Raises:
            ValueError: for another ending, or data of a picture without tables and curves.
            OSError: if a file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in self.FORMATS:
            endings = ", ".join(f".{name}" for name in self.FORMATS)
            raise ValueError(f"path must end in one of {endings}, got {str(path)!r}")
        with self._lock:
            if self.figure is None:
                raise ValueError("there is no picture to save yet")
            if kind != "csv":
                self.figure.savefig(path)
                return [path]
            tables = self._tables or self.figure.curves()
            if not tables:
                raise ValueError("this picture holds no curves to save: choose png, svg or pdf")
            return [write_table(path.with_name(f"{path.stem}_{name}.csv"), columns) for name, columns in tables.items()]

    def values(self) -> dict[str, Any]:
        """The values of all controls by name."""
        return {name: control.value for name, control in self.controls.items()}

    def _show(self, picture: Picture, png: bytes | None = None) -> None:
        self.figure, self.text, self.last, self._tables = picture
        self._image.value = self._render(picture.figure) if png is None else png
        self._line.value = self.text
        self._fade(False)
        self.n_drawn += 1

    def _render(self, figure: Figure) -> bytes:
        """PNG of a figure, laid out as the first one of its kind: to solve the layout takes half of the time."""
        if self._page.narrow:
            in_two_rows(figure, self.N_ABOVE, self.NARROW)
        # A number of two digits needs more room at an axis than one of one digit.
        shapes = tuple(tuple(len(str(n)) for n in image.get_array().shape) for ax in figure.axes for image in ax.images)
        kind = (len(figure.axes), self._page.narrow, shapes)
        places = self._places_of_axes.get(kind)
        if places is None:
            figure.draw_without_rendering()
            places = self._places_of_axes[kind] = [ax.get_position() for ax in figure.axes]
        figure.set_layout_engine("none")
        for ax, place in zip(figure.axes, places, strict=False):
            ax.set_position(place)
        if self.PLAIN_AXES:
            return self._backdrops.png(figure, dark=self._page.dark)
        with dark_if(self._page.dark, figure):
            return figure.to_png(compress_level=1)

    def _page_changed(self, _change=None) -> None:
        """The page is another: draw what there is again."""

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._line.value = error_text(error)

    def _fade(self, faded: bool) -> None:
        """A picture of other controls, where these cannot be drawn, fades and is not saved by accident."""
        (self._image.add_class if faded else self._image.remove_class)("lateral-old")
        self._save.disabled = faded

    def _next_seed(self) -> None:
        self.controls["seed"].value = (self.controls["seed"].value + 1) % (MAX_SEED + 1)

    def _save_next(self, save: Callable, stem: str, ending: str) -> None:
        """Let `save` write `exports/STEM-NUMBER.ENDING` with the first number that is free: a button overwrites none.

        What `save` returns, a path or a list of them, shows beside the button; so does an error.
        """
        self._saved.value = "saving …"
        try:
            EXPORTS.mkdir(exist_ok=True)
            written = save(free_path(stem, ending))
        except Exception as error:  # a button has no caller to raise to
            self._saved.value = error_text(error)
        else:
            paths = written if isinstance(written, list) else [written]
            self._saved.value = "saved " + ", ".join(f"<code>{path}</code>" for path in paths)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(self.controls)})"

    def _ipython_display_(self):
        display(HTML(HINT))
        display(self._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, **kwargs):
        # Beside the live widget a picture, for pages that show the notebook without a kernel.
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        with self._lock:
            if data is not None and self.figure is not None:
                data["image/png"] = self.figure._repr_png_()
        return data


class Explorer(App):
    """Controls above a picture that answers them.

    Args:
        draw: from values of the controls, by name, to a `Picture`, any figure of matplotlib or a pair (figure, text).
        sizes: names of controls of which a new value compiles; the line above the picture says so meanwhile.
        groups: headings above the controls, see `App`.
        **controls: for instance made by `slider`.

    Raises:
        Exception: what `draw` raises at the initial values. Later errors show above the picture, in `error`.
    """

    LAYOUT: Mapping[str, Any] = {}  # what `new_figure` is given, for `_empty_figure`

    def __init__(self, draw: Callable, *, sizes: Sequence[str] = (), groups: Mapping | None = None, **controls):
        check_callable("draw", draw)
        super().__init__(controls, groups=groups)
        self._draw, self._sizes, self._compiled = draw, tuple(sizes), set()
        self._spare: tuple | None = None
        self._answer()
        if self.error is not None:
            raise self.error
        self._limit()
        self._limiting = False
        for control in controls.values():
            control.observe(self._moved, names="value")

    def _limit(self) -> None:
        """Leave only values that can be drawn in reach of the controls, given the others."""

    def _moved(self, _change=None) -> None:
        with self._lock:
            if self._limiting:  # answered below
                return
            self._limiting = True
            try:
                self._limit()
            finally:
                self._limiting = False
            self._answer()

    def _answer(self) -> None:
        with self._lock:
            values = self.values()
            sizes = tuple(values[name] for name in self._sizes)
            compiles = self._sizes and sizes not in self._compiled
            self._old(f"compiling for {', '.join(map(str, sizes))} …" if compiles else "drawing …")
            try:
                with _without_garbage_collection():
                    result = self._draw(**values)
                    picture = Picture(*result) if isinstance(result, tuple) else Picture(result)
                    self._show(picture._replace(figure=_ours(picture.figure)))
            except Exception as error:  # shown where the user looks; a callback has no caller to raise to
                self._fail(error)
                self._fade(True)
            else:
                self.error = None
                self._compiled.add(sizes)
            if self.LAYOUT and self._spare is None:  # on the page the picture is there already
                self._spare = new_figure(**self.LAYOUT)

    def _empty_figure(self) -> tuple:
        """A figure of this layout and its axes, made after the last picture: axes take longer to make than to fill."""
        spare, self._spare = self._spare, None
        return spare or new_figure(**self.LAYOUT)

    def _old(self, why: str) -> None:
        """The picture is not that of the controls: say so, and let its numbers fade but keep their place."""
        self._line.value = f'<i>{why}</i> <span style="opacity: 0.4">{self.text}</span>'

    def _page_changed(self, _change=None) -> None:
        self._answer()


def _grid(controls: Mapping[str, ipywidgets.Widget], groups: Mapping[str, Sequence[str]] | None) -> ipywidgets.GridBox:
    """The controls in as many columns as there is room for, with headings over groups of them."""
    children = []
    for heading, names in (groups or {"": tuple(controls)}).items():
        if heading:
            children.append(ipywidgets.Label(heading).add_class("lateral-heading"))
        children += [controls[name] for name in names]
    columns = "repeat(auto-fill, minmax(258px, 1fr))"
    return ipywidgets.GridBox(children, layout={"grid_template_columns": columns, "width": "100%"})


@contextmanager
def _without_garbage_collection():
    """A figure is thousands of objects that refer to each other; to look through them can wait until it is shown."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def explore(draw: Callable, **controls) -> Explorer:
    """Show controls above the picture that `draw(**values)` makes of them, and keep it up to date.

    See `Explorer`. For instance

        app = explore(draw, noise_strength=slider(0.0, 0.5, 0.1), seed=slider(0, 20, 0))
    """
    app = Explorer(draw, **controls)
    display(app)
    return app


def _ours(figure: matplotlib.figure.Figure) -> Figure:
    """Any figure of matplotlib as one that shows and saves itself; ours has only methods beside its own."""
    if not isinstance(figure, matplotlib.figure.Figure):
        raise ValueError(f"draw must return a figure of matplotlib, got {type(figure).__name__}")
    if not isinstance(figure, Figure):
        figure.__class__ = Figure
    return figure
