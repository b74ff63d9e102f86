"""Apps without a kernel: each control is an attribute, and a picture answers it."""

import csv
import dataclasses
import io
import itertools
import random
import re
import threading
import time

import ipywidgets
import jax
import matplotlib.axis
import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

import lateral
from lateral import plotting
from lateral.engine.simulation import run_engine
from lateral.training.session import SESSION_METHODS
from lateral.widgets import (
    Comparison,
    DynamicsExplorer,
    Explorer,
    Picture,
    RuleExplorer,
    TissueExplorer,
    TrainingStudio,
    UtilityExplorer,
    slider,
)
from lateral.widgets.page import Page
from lateral.widgets.studio import NETWORKS

EXPLORERS = {app.__name__: app for app in (DynamicsExplorer, UtilityExplorer, RuleExplorer, Comparison, TissueExplorer)}
SMALL = lateral.Model(n_cells=4, n_steps=30, dt=0.05)


def _line(slope, offset=0.0):
    return plotting.plot_curves([0, 1], {"y": [offset, slope + offset]}, "line", "x", "y"), f"slope {slope}"


def _inside(widget):
    """All widgets of an app, in the order in which they stand on the page."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _inside(child)


def _of_class(app, name: str):
    (found,) = (widget for widget in _inside(app) if name in getattr(widget, "_dom_classes", ()))
    return found


def _shown(app) -> bytes:
    """The picture, as the page has it."""
    (image,) = (widget for widget in _inside(app) if isinstance(widget, ipywidgets.Image))
    return bytes(image.value)


def _said(app) -> str:
    """The line beside the buttons."""
    return _of_class(app, "lateral-line").value


def _page(app) -> Page:
    """What the page tells the app."""
    (page,) = (widget for widget in _inside(app) if isinstance(widget, Page))
    return page


def _pixels(app) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(_shown(app))).convert("RGB"), float)


def _save_row(app):
    """The format, the button that saves, and what it says."""
    return app.children[-1].children


@pytest.fixture
def compiled():
    """The names of all functions that JAX compiles from here on, in any thread."""
    names = []

    def listen(event, duration, *, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration" and fun_name != "jit(stage)":  # a mere copy to JAX
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x + 1.0)(1.0)
    assert names == ["jit(<lambda>)"]
    names.clear()
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_moving_a_slider_draws_a_new_picture():
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0))
    picture = _shown(app)
    assert app.n_drawn == 1 and app.text == "slope 1.0" and picture.startswith(b"\x89PNG")
    app.controls["slope"].value = 2.0
    assert app.n_drawn == 2 and app.text == "slope 2.0" and _shown(app) != picture


def test_sliders_keep_the_type_of_their_range():
    assert isinstance(slider(0, 10, 3).value, int)
    assert isinstance(slider(0.0, 1.0, 0.5).value, float)
    assert slider(1e-4, 1.0, 1e-2, log=True).value == pytest.approx(1e-2)


def test_sliders_answer_when_they_are_released():
    for control in (slider(0, 10, 3), slider(0.0, 1.0, 0.5), slider(0.1, 1.0, 0.5, log=True)):
        assert control.continuous_update is False


def test_controls_are_named_after_their_argument():
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0), offset=slider(0.0, 1.0, 0.0, label="offset (bits)"))
    assert [control.description for control in app.controls.values()] == ["slope", "offset (bits)"]


def test_a_failure_shows_below_the_picture_and_the_app_lives_on():
    def draw(value):
        if value == 2:
            raise ValueError("two is too many")
        return _line(value)

    app = Explorer(draw, value=slider(0, 3, 1))
    app.controls["value"].value = 2
    assert isinstance(app.error, ValueError) and _said(app) == "<b>Not possible</b>: two is too many"
    assert "lateral-old" in app._image._dom_classes and app._save.disabled, "the picture is that of 1"
    app.controls["value"].value = 3
    assert app.error is None and "slope 3" in _said(app)
    assert "lateral-old" not in app._image._dom_classes and not app._save.disabled


def test_a_failure_at_the_start_is_raised():
    def draw(value):
        raise ZeroDivisionError("at once")

    with pytest.raises(ZeroDivisionError, match="at once"):
        Explorer(draw, value=slider(0, 3, 1))


def test_the_stored_output_holds_a_picture_and_a_stable_text():
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0))
    data = app._repr_mimebundle_()
    data = data[0] if isinstance(data, tuple) else data
    assert data["image/png"] == app.figure._repr_png_() and data["text/plain"] == "Explorer(slope)"


@pytest.mark.slow
def test_a_slider_of_a_number_never_compiles_again(key, float32):
    def draw(noise_strength):
        states = lateral.run_trajectories(
            lambda x: 0.5 - x, n_cells=3, n_replicates=2, n_steps=5, dt=0.1, noise_strength=noise_strength, key=key
        )
        return plotting.plot_space_time(states[0], 0.1, "title")

    app = Explorer(draw, noise_strength=slider(0.0, 1.0, 0.1))
    compiled = run_engine._cache_size()
    for noise in (0.0, 0.3, 0.7, 1.0):
        app.controls["noise_strength"].value = noise
    assert app.n_drawn == 5 and run_engine._cache_size() == compiled


@pytest.mark.bad_input
def test_rejects_a_value_outside_the_slider():
    with pytest.raises(ValueError, match="got 3"):
        slider(0, 2, 3)
    with pytest.raises(ValueError, match="low > 0, got 0"):
        slider(0.0, 2.0, 1.0, log=True)


MISTAKES = {
    "a name that is none": (
        lambda: DynamicsExplorer(noise=0.3),
        "DynamicsExplorer has no setting 'noise': choose among noise_strength, n_cells, duration, boundary, strength, "
        "steepness, seed",
    ),
    "one of another app": (
        lambda: UtilityExplorer(n_cells=5),
        "UtilityExplorer has no setting 'n_cells': choose among",
    ),
    "too many cells": (lambda: RuleExplorer(n_cells=50), "n_cells must be a number between 2 and 30, got 50"),
    "a text": (
        lambda: Comparison(noise_strength="0.3"),
        "noise_strength must be a number between 0.0 and 1.0, got '0.3'",
    ),
    "ends that are none": (
        lambda: DynamicsExplorer(boundary="open"),
        "boundary must be among free, ring, pinned, got 'open'",
    ),
    "a seed": (lambda: DynamicsExplorer(seed=-1), "seed must be a whole number from 0 to 999,999, got -1"),
    "a rule for a dict": (lambda: RuleExplorer(np.tanh), 'rules must be a dict of rules by name, such as {"mine": f}'),
    "a rule for a dict, compared": (lambda: Comparison(np.tanh), "rules must be a dict of rules by name"),
    "no rule": (lambda: DynamicsExplorer(rule=3.0), "rule"),
    "a rule and a steepness": (lambda: DynamicsExplorer(np.tanh, steepness=3.0), "strength and steepness are those of"),
    "replicates": (lambda: TrainingStudio(n_replicates=7), "n_replicates must be among 50, 128, 256, 512, 1024, got 7"),
    "a kind of tissue": (
        lambda: TissueExplorer(kind="triangles"),
        "kind must be among row, ring, square, hexagonal, voronoi, got 'triangles'",
    ),
    "a size of another app": (
        lambda: TissueExplorer(n_cells=7),
        "TissueExplorer has no setting 'n_cells': choose among kind, rows, columns, ends, noise_strength, duration, "
        "rule, seed",
    ),
    "too many rows": (lambda: TissueExplorer(rows=21), "rows must be a number between 1 and 20, got 21"),
    "a row that is closed": (
        lambda: TissueExplorer(kind="row", ends="periodic"),
        "ends must be free for a row, got 'periodic'",
    ),
    "an odd torus": (
        lambda: TissueExplorer(rows=5, ends="periodic"),
        "a periodic sheet of hexagons needs an even number of rows",
    ),
    "a rule that is none": (
        lambda: TissueExplorer(rule="step"),
        "rule must be among tanh target, steep tanh, dead band, got 'step'",
    ),
    "no geometry": (lambda: TissueExplorer(geometry=7), "geometry must be a geometry such as lateral.Row(7), got 7"),
    "a geometry without places": (
        lambda: TissueExplorer(geometry=lateral.Graph([[1], [0]])),
        "geometry must know the positions of its cells to be drawn",
    ),
    "a geometry and a size": (
        lambda: TissueExplorer(geometry=lateral.Row(7), rows=3),
        "are those of the app's own tissues: leave out rows beside a geometry",
    ),
    "no figure": (
        lambda: Explorer(lambda x: "text", x=slider(0, 2, 1)),
        "draw must return a figure of matplotlib, got str",
    ),
}


@pytest.mark.slow
@pytest.mark.bad_input
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_setting_and_what_would_be_right(mistake, float32):
    make, said = MISTAKES[mistake]
    with pytest.raises((ValueError, TypeError), match=re.escape(said)):
        make()


def test_a_control_is_not_replaced_by_a_number():
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0))
    with pytest.raises(AttributeError, match=re.escape("write app.slope.value = 0.5")):
        app.slope = 0.5
    app.slope.value = 0.5
    assert app.n_drawn == 2


@pytest.mark.slow
def test_whole_numbers_of_numpy_are_whole_numbers(float32):
    app = DynamicsExplorer(n_cells=np.int64(5), seed=np.int32(2))
    assert isinstance(app.n_cells, ipywidgets.IntSlider) and app.last["alternation"] >= 0.0


@pytest.mark.slow
def test_any_rule_takes_the_place_of_the_tanh(float32):
    app = DynamicsExplorer(lambda s: np.where(s < 0.5, 5.0, -5.0))
    assert "steepness" not in app.controls and "strength" not in app.controls
    steep = DynamicsExplorer(strength=5.0, steepness=20.0)
    assert app.last["alternation"] == pytest.approx(steep.last["alternation"], abs=0.05)
    app.noise_strength.value = 0.3
    assert app.error is None and app.n_drawn == 2


def test_any_figure_of_matplotlib_is_shown_and_saved(tmp_path):
    def draw(slope):
        figure = matplotlib.figure.Figure()
        figure.subplots().plot([0, 1], [0, slope], label="y")
        return figure

    app = Explorer(draw, slope=slider(0.0, 2.0, 1.0))
    assert app.error is None and _shown(app).startswith(b"\x89PNG")
    assert [path.name for path in app.export(tmp_path / "a.csv")] == ["a_panel_1.csv"]


# --- the family


@pytest.fixture(params=EXPLORERS)
def explorer(request, float32):
    return EXPLORERS[request.param]()


@pytest.mark.slow
def test_an_explorer_shows_something_at_once(explorer):
    assert explorer.error is None and explorer.n_drawn == 1 and _shown(explorer).startswith(b"\x89PNG")
    assert re.search("U [=≥] ", explorer.text) and all(np.isfinite(value) for value in explorer.last.values())


@pytest.mark.slow
def test_each_control_is_an_attribute_with_a_label(explorer):
    for name, control in explorer.controls.items():
        assert getattr(explorer, name) is control and control.description


@pytest.mark.slow
def test_numbers_never_compile_again(explorer, compiled):
    """Every slider of a number, seeds and the duration included, is answered by what is compiled already."""
    sizes = {"n_cells", "n_replicates", "rows", "columns"}
    lists = {"boundary", "left", "right", "start_from", "keep_odd", "kind", "ends", "rule"}
    moved = [name for name in explorer.controls if name not in sizes | lists]
    assert {"seed"} < set(moved)
    for name in moved:
        control = explorer.controls[name]
        picture = _shown(explorer)
        value = control.min + 0.6 * (control.max - control.min) if name != "seed" else 3
        control.value = 10.0**value if isinstance(control, ipywidgets.FloatLogSlider) else value
        assert explorer.error is None and _shown(explorer) != picture, name
    assert compiled == []


@pytest.mark.slow
@pytest.mark.parametrize("app", [DynamicsExplorer, RuleExplorer, Comparison])
def test_a_ring_of_two_is_out_of_reach(app, float32):
    explorer = app(n_cells=2, duration=2.0)
    explorer.boundary.value = "ring"
    assert explorer.error is None and (explorer.n_cells.value, explorer.n_cells.min) == (3, 3)
    explorer.boundary.value = "free"
    explorer.n_cells.value = 2
    assert explorer.error is None and explorer.n_drawn == 4
    with pytest.raises(ValueError, match="a ring needs n_cells >= 3"):
        app(n_cells=2, boundary="ring")


@pytest.mark.slow
def test_a_picture_on_axes_from_before_is_that_of_a_whole_drawing(explorer, monkeypatch):
    """Ticks are drawn once; pixel by pixel the picture is what matplotlib draws, and new axes are drawn anew."""
    ticks, draw = [], matplotlib.axis.Tick.draw
    monkeypatch.setattr(matplotlib.axis.Tick, "draw", lambda tick, *args: (ticks.append(tick), draw(tick, *args)))

    def ticks_of_next(name, value):
        ticks.clear()
        getattr(explorer, name).value = value
        seen = len(ticks)
        whole = PIL.Image.open(io.BytesIO(explorer.figure.to_png())).convert("RGB")
        np.testing.assert_array_equal(_pixels(explorer), np.asarray(whole, float))
        return seen

    assert ticks_of_next("seed", 1) == 0
    other_axes = next(name for name in ("n_cells", "n_replicates", "duration") if name in explorer.controls)
    assert ticks_of_next(other_axes, 10) > 0
    assert ticks_of_next("seed", 2) == 0
    _page(explorer).narrow = True
    assert ticks_of_next("seed", 3) == 0


@pytest.mark.slow
def test_new_seed_is_the_next_one_and_another_picture(explorer):
    picture = _shown(explorer)
    explorer.new_seed.click()
    assert explorer.seed.value == 1 and _shown(explorer) != picture
    explorer.seed.value = explorer.seed.max
    explorer.new_seed.click()
    assert explorer.seed.value == 0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_is_saved(kind, magic, tmp_path, float32):
    (path,) = DynamicsExplorer().export(tmp_path / f"tissue.{kind}")
    assert path.read_bytes().startswith(magic) and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_data_of_a_picture_is_saved_as_one_table_each(explorer, tmp_path):
    paths = explorer.export(tmp_path / "data.csv")
    assert len(paths) >= 2 and all(path.name.startswith("data_") for path in paths)
    for path in paths:
        rows = list(csv.reader(path.open(newline="")))
        assert len(rows) > 2 and {len(row) for row in rows} == {len(rows[0])}


@pytest.mark.slow
def test_the_saved_states_are_those_of_the_picture(tmp_path, float32):
    app = DynamicsExplorer(n_cells=5, duration=4.0)
    states, fates = (np.genfromtxt(path, delimiter=",", names=True) for path in app.export(tmp_path / "a.csv"))
    assert states["time"][-1] == pytest.approx(4.0) and states.dtype.names[1:] == tuple(
        f"cell_{i}" for i in range(1, 6)
    )
    assert [round(states[f"cell_{i}"][-1]) for i in range(1, 6)] == [fates[f"cell_{i}"][0] for i in range(1, 6)]


def test_the_save_button_never_overwrites(tmp_path, monkeypatch, float32):
    monkeypatch.chdir(tmp_path)
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0))
    _, button, saved = _save_row(app)
    button.click()
    button.click()
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == ["Explorer-1.png", "Explorer-2.png"]
    monkeypatch.setattr(app, "figure", None)
    button.click()
    assert "no picture to save" in saved.value


def test_a_picture_without_tables_gives_its_curves(tmp_path):
    (path,) = Explorer(_line, slope=slider(0.0, 2.0, 1.5)).export(tmp_path / "a.csv")
    assert path.name == "a_panel_1.csv"
    assert list(csv.reader(path.open(newline=""))) == [["curve", "x", "y"], ["y", "0", "0.0"], ["y", "1", "1.5"]]


def test_a_new_size_is_marked_while_it_compiles():
    shown = []
    app = None

    def draw(n):
        shown.append("" if app is None else _said(app))
        return _line(n)

    app = Explorer(draw, sizes=("n",), n=slider(1, 5, 1))
    for n in (2, 1):
        app.n.value = n
    assert "compiling for 2" in shown[1] and "compiling" not in shown[2] and _said(app) == "slope 1"


def test_a_control_cannot_take_a_name_of_the_app():
    with pytest.raises(ValueError, match="'export' is taken"):
        Explorer(_line, export=slider(0, 1, 0))


@pytest.mark.bad_input
def test_rejects_a_file_of_another_kind_or_without_data(tmp_path):
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0))
    with pytest.raises(ValueError, match=r"path must end in one of .png, .svg, .pdf, .csv, got '.*a.gif'"):
        app.export(tmp_path / "a.gif")
    empty = Explorer(lambda slope: plotting.new_figure()[0], slope=slider(0.0, 2.0, 1.0))
    with pytest.raises(ValueError, match="holds no curves"):
        empty.export(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def _contrast(first, second) -> float:
    """Of two colours, as the Web Content Accessibility Guidelines define it."""
    low, high = sorted(
        np.dot([0.2126, 0.7152, 0.0722], [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour])
        for colour in (np.asarray(first) / 255, np.asarray(second) / 255)
    )
    return (high + 0.05) / (low + 0.05)


def _extremes(app) -> tuple:
    """The colour of most pixels, and the grey that differs most from it: text."""
    colours, counts = np.unique(_pixels(app).reshape(-1, 3), axis=0, return_counts=True)
    ground = colours[np.argmax(counts)]
    greys = colours[np.ptp(colours, axis=1) == 0.0]
    return ground, greys[np.argmax(np.abs(greys - ground).sum(axis=1))]


@pytest.mark.slow
@pytest.mark.parametrize("app", [*EXPLORERS, "TrainingStudio"])
def test_on_a_dark_page_the_picture_is_dark_and_its_text_bright(app, float32):
    app = TrainingStudio(SMALL) if app == "TrainingStudio" else EXPLORERS[app]()
    light, on_light = _pixels(app), _extremes(app)
    stored = app.figure._repr_png_()
    _page(app).dark = True
    ground, text = _extremes(app)
    assert ground.max() < 40 and _contrast(ground, text) > 7.0 < _contrast(*on_light)
    for colour in plotting.COLOURS[:6]:
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], float)
        assert _contrast(ground, rgb) > 3.0, colour
    assert app.figure._repr_png_() == stored, "what is stored in the notebook, and exported, stays as it was"
    _page(app).dark = False
    np.testing.assert_array_equal(_pixels(app), light)


@pytest.mark.slow
def test_colours_that_stand_for_data_stay_on_a_dark_page(float32):
    app = DynamicsExplorer()
    light = {tuple(colour) for colour in _pixels(app).reshape(-1, 3)}
    _page(app).dark = True
    dark = {tuple(colour) for colour in _pixels(app).reshape(-1, 3)}
    for fate in (0, 1):
        rgb = tuple(round(255 * c) for c in plotting.FATE_COLOURS(fate)[:3])
        assert rgb in light and rgb in dark


@pytest.mark.slow
@pytest.mark.filterwarnings("error:constrained_layout")
def test_on_a_narrow_page_the_picture_has_two_rows_and_its_text_keeps_its_size(explorer):
    wide = _pixels(explorer).shape
    _page(explorer).narrow = True
    narrow = _pixels(explorer).shape
    assert narrow[1] <= 600 < 850 <= wide[1]
    heights = {round(ax.get_position().y0, 2) for ax in explorer.figure.axes}
    assert len(heights) >= 2 and explorer.error is None
    _page(explorer).narrow = False
    assert _pixels(explorer).shape == wide


@pytest.mark.slow
@pytest.mark.filterwarnings("error:constrained_layout")
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("app", [DynamicsExplorer, RuleExplorer, Comparison])
def test_nothing_is_cut_off_or_overprinted_with_thirty_cells(app, narrow, float32):
    """The layout of seven cells, found first, leaves too little room for labels of two digits."""
    app = app()
    _page(app).narrow = narrow
    app.n_cells.value = 30
    renderer = app.figure._get_renderer()
    frame = app.figure.bbox
    for ax in app.figure.axes:
        box = ax.get_tightbbox(renderer)
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= frame.x1 + 1 and box.y1 <= frame.y1 + 1
        for axis in (ax.xaxis, ax.yaxis):
            labels = [t.get_window_extent(renderer) for t in axis.get_ticklabels() if t.get_text()]
            labels = [box for box in labels if ax.get_window_extent(renderer).padded(30).overlaps(box)]
            assert not any(first.overlaps(second) for first, second in itertools.pairwise(labels))


# --- what the explorers show


@pytest.mark.slow
def test_the_tissue_explorer_shows_what_the_package_computes(float32):
    app = DynamicsExplorer(noise_strength=0.2, duration=20.0, steepness=7.0, strength=2.0, seed=4)
    states = lateral.run_multiple_replicates(
        lateral.TanhInhibition(slope=7.0, amplitude=2.0), n_cells=7, n_replicates=500, n_steps=2000, dt=0.01,
        noise_strength=0.2, key=jax.random.key(4),
    )  # fmt: skip
    expected = lateral.compute_hard_utility(lateral.apply_threshold(states))[0]
    assert app.last["utility"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.slow
def test_coins_of_a_long_row_are_not_called_a_pattern(float32):
    app = DynamicsExplorer(n_cells=30, strength=0.0, noise_strength=1.0)
    assert app.last["utility"] > 0.5 and "too few tissues" in app.text


def test_exact_information_agrees_with_the_closed_forms():
    distribution, information = UtilityExplorer.distribution, UtilityExplorer.information
    two = information(distribution({"alternating": 1.0, "mirrored": 1.0}, 0.0))
    assert two["utility"] == pytest.approx(6 / 7) and two["positional"] == pytest.approx(0.0, abs=1e-12)
    one = information(distribution({"alternating": 0.3}, 0.0))
    assert one["utility"] == pytest.approx(0.985228) == pytest.approx(one["positional"])
    coins = information(distribution({"scrambled": 1.0}, 0.1))
    assert coins["utility"] == pytest.approx(0.0, abs=1e-12) and coins["s_rep"] == pytest.approx(1.0)


def test_exact_information_is_the_limit_of_many_replicates():
    weights = {"alternating": 0.6, "mirrored": 0.3, "halves": 0.5, "scrambled": 0.2}
    probabilities = UtilityExplorer.distribution(weights, 0.05)
    exact = UtilityExplorer.information(probabilities)
    patterns = np.array(list(itertools.product((0, 1), repeat=7)))
    estimate = lateral.estimate_utility(patterns[np.random.default_rng(0).choice(128, 200_000, p=probabilities)])
    assert float(estimate.utility_corrected) == pytest.approx(
        float(exact["utility"]), abs=4 * float(estimate.utility_se)
    )
    assert float(estimate.positional_information) == pytest.approx(float(exact["positional"]), abs=0.003)


def test_weights_that_are_all_zero_say_so_and_the_app_lives_on(float32):
    app = UtilityExplorer()
    app.alternating.value = app.mirrored.value = 0.0
    assert "all weights are 0" in _said(app)
    app.all_on.value = 1.0
    assert app.error is None and app.last["exact_utility"] < 0.2


@pytest.mark.slow
def test_a_bent_rule_is_the_drawn_one_and_stays_odd(tmp_path, float32):
    app = RuleExplorer()
    assert [point.value for point in app.points][::5] == pytest.approx([1.0, 0.0, -1.0], abs=0.05)
    app.points[2].value = 3.0
    assert app.start_from.value == app.DRAWN and app.points[8].value == -3.0 and app.n_drawn == 2
    app.keep_odd.value = False
    app.points[5].value = 1.0
    rule = np.genfromtxt(app.export(tmp_path / "a.csv")[0], delimiter=",", names=True)
    np.testing.assert_allclose(rule["rate"][::40], [point.value for point in app.points], atol=0.05)


@pytest.mark.slow
def test_what_the_pencil_draws_is_the_rule(tmp_path, float32):
    app = RuleExplorer()
    app.keep_odd.value = False
    drawn = np.round(4.0 * np.cos(np.linspace(0.0, 9.0, app.N_DRAWN)), 3)
    pictures = app.n_drawn
    app.pencil.values = drawn.tolist()
    assert app.start_from.value == app.DRAWN and app.n_drawn == pictures + 1
    rule = np.genfromtxt(app.export(tmp_path / "a.csv")[0], delimiter=",", names=True)
    np.testing.assert_allclose(rule["rate"][::10], drawn, atol=0.05)
    assert [point.value for point in app.points] == pytest.approx(drawn[::4], abs=1e-6)
    states = lateral.run_multiple_replicates(
        lateral.Table(drawn), n_cells=7, n_replicates=500, n_steps=1000, dt=0.01, noise_strength=0.1,
        key=jax.random.key(0),
    )  # fmt: skip
    expected = lateral.compute_hard_utility(lateral.apply_threshold(states))[0]
    assert app.last["utility"] == pytest.approx(float(expected), abs=0.05)


@pytest.mark.slow
def test_a_handle_leaves_what_was_drawn_beside_it_as_it_was(float32):
    app = RuleExplorer()
    app.keep_odd.value = False
    zigzag = np.resize([1.0, -1.0], app.N_DRAWN)
    app.pencil.values = zigzag.tolist()
    app.points[5].value = 3.0
    moved = np.array(app.pencil.values) - zigzag
    np.testing.assert_allclose(moved[16:25], 2.0 * np.array([0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0]), atol=1e-6)
    assert np.all(moved[:16] == 0.0) and np.all(moved[25:] == 0.0)


@pytest.mark.slow
def test_the_odd_switch_makes_the_drawn_rule_odd_and_leaves_others_alone(float32):
    app = RuleExplorer(start_from="random perceptron")
    rates = np.array(app.pencil.values)
    assert np.abs(rates + rates[::-1]).max() > 0.05, "chosen, not drawn"
    app.points[0].value = 4.0
    rates = np.array(app.pencil.values)
    np.testing.assert_allclose(rates, -rates[::-1], atol=1e-6)
    app.keep_odd.value = False
    assert app.pencil.odd is False
    app.pencil.values = [2.0] * app.N_DRAWN
    assert app.last["alternation"] == 0.0
    app.keep_odd.value = True
    np.testing.assert_allclose(app.pencil.values, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["tanh target", "dead band"])
def test_the_axis_of_the_rule_ends_at_the_bound(name, float32):
    app = RuleExplorer(start_from=name)
    assert app.figure.axes[0].get_ylim() == pytest.approx((-5.5, 5.5)) and app.pencil.bound == 5.0


def test_a_faster_rule_of_the_users_own_is_not_cut_off(float32):
    app = RuleExplorer({"mine": lateral.TanhInhibition(amplitude=9.0, slope=20.0)}, start_from="mine")
    low, high = app.figure.axes[0].get_ylim()
    assert low < -9.0 and high > 9.0 and max(app.pencil.values) == 5.0


def test_an_old_picture_says_that_a_new_one_is_drawn():
    said = []

    def draw(slope):
        said.append("" if slope == 1.0 else _said(app))
        return _line(slope)

    app = Explorer(draw, slope=slider(0.0, 2.0, 1.0))
    app.slope.value = 2.0
    assert "drawing …" in said[1] and "slope 1.0" in said[1] and _said(app) == "slope 2.0"


@pytest.mark.parametrize("n_cells", [2, 7, 30])
def test_the_clock_shows_the_cells_at_its_time_and_draws_nothing(n_cells, tmp_path, float32):
    app = DynamicsExplorer(n_cells=n_cells, duration=6.0)
    states = np.genfromtxt(app.export(tmp_path / "a.csv")[0], delimiter=",", skip_header=1)
    assert app.time.value == pytest.approx(6.0)
    shown = np.frombuffer(app.time.states, np.uint8).reshape(-1, app.time.n_cells) / 255
    np.testing.assert_allclose(shown, states[:, 1:], atol=0.5 / 255 + 1e-6)
    picture, drawn = _shown(app), app.n_drawn
    app.time.value = 2.0
    row = round(app.time.value / app.time.dt)
    assert states[row, 0] == pytest.approx(2.0) and app.n_drawn == drawn and _shown(app) == picture


@pytest.mark.slow
def test_the_clock_keeps_its_time_unless_it_stands_at_the_end(float32):
    app = DynamicsExplorer(duration=6.0)
    app.duration.value = 8.0
    assert app.time.value == pytest.approx(8.0)
    app.time.value = 3.0
    app.duration.value = 10.0
    assert app.time.value == pytest.approx(3.0)
    app.duration.value = 2.0
    assert app.time.value == pytest.approx(2.0)
    app.time.value = 99.0
    assert app.time.value == pytest.approx(2.0)


@pytest.mark.slow
def test_the_cursor_moves_over_the_space_time_plot(float32):
    app = DynamicsExplorer()
    for narrow in (False, True):
        _page(app).narrow = narrow
        left, bottom, width, height = app.time.panel
        assert app.figure.axes[0].get_title() == "One tissue"
        assert app.figure.axes[0].get_position().bounds == pytest.approx((left, bottom, width, height))
        panel = _pixels(app)
        y, x = round((1 - bottom - 0.4 * height) * panel.shape[0]), round(left * panel.shape[1])
        assert np.ptp(panel[y, x + 3]) > 0 or panel[y, x + 3].max() < 250, "inside the plot"
        assert (panel[y, x - 4] == panel[1, 1]).all(), "left of it"


def test_the_controls_of_the_utility_stand_in_groups(float32):
    app = UtilityExplorer()
    (grid,) = (widget for widget in _inside(app) if isinstance(widget, ipywidgets.GridBox))
    headings = [w.value for w in grid.children if isinstance(w, ipywidgets.Label)]
    assert headings == ["Patterns, by weight", "Tissues", "Soft estimates"]
    controls = [w for w in grid.children if not isinstance(w, ipywidgets.Label)]
    assert len(controls) == 11 and set(controls) == set(app.controls.values())


def test_a_trained_rule_can_be_taken_and_shows_itself_and_not_its_handles(float32):
    app = RuleExplorer({"mine": lateral.TanhInhibition(slope=30.0)}, start_from="mine")
    steep = DynamicsExplorer(steepness=20.0)
    assert app.last["utility"] == pytest.approx(steep.last["utility"], abs=0.05)
    assert app.points[0].value == pytest.approx(1.0, abs=0.05)


def test_both_sides_of_a_comparison_see_the_same_noise(float32):
    app = Comparison(left="dead band", right="dead band")
    assert app.last["left_utility"] == app.last["right_utility"]
    app.left.value = "tanh target"
    assert app.last["left_utility"] < app.last["right_utility"]


def test_a_comparison_draws_both_rules_and_names_them(tmp_path, float32):
    app = Comparison({"mine": lateral.DeadBand(), "tanh": lateral.TanhInhibition()})
    panels = app.figure.axes
    assert [panels[0].get_title(), panels[1].get_title()] == ["mine", "tanh"]
    assert panels[2].get_legend() is None, "it would hide a rule"
    colours = [title.get_color() for title in (panels[0].title, panels[1].title)]
    assert colours == [line.get_color() for line in panels[2].lines[:2]]
    assert [text.get_text() for text in panels[3].get_legend().get_texts()[:2]] == ["mine", "tanh"]
    means = np.linspace(0.0, 1.0, 401)
    for line, rule in zip(panels[2].lines, (lateral.DeadBand(), lateral.TanhInhibition()), strict=False):
        drawn, expected = line.get_ydata(), np.asarray(rule(means))
        assert np.mean(np.abs(drawn - expected) < 0.05) > 0.98, "a table rounds the corners of the dead band"
    assert "mine: U = " in app.text and "tanh less mine: " in app.text
    names = [path.name for path in app.export(tmp_path / "a.csv")]
    assert "a_rules.csv" in names


@pytest.mark.parametrize("app_of", [DynamicsExplorer, RuleExplorer, UtilityExplorer, Comparison])
def test_a_figure_made_ahead_gives_the_same_picture(app_of, float32):
    """The first picture is drawn on a figure of its own, all others on one that was made after the picture before."""
    app = app_of()
    control = app.controls["flips" if app_of is UtilityExplorer else "noise_strength"]
    first, start = _shown(app), control.value
    control.value = 0.3
    assert _shown(app) != first
    control.value = start
    assert _shown(app) == first


@pytest.mark.slow
def test_the_error_of_a_difference_is_that_of_leaving_one_replicate_out(tmp_path, float32):
    """Of both tissues the same one. To first order: rare patterns count for less."""
    app = Comparison(n_cells=4)
    paths = {path.stem: path for path in app.export(tmp_path / "a.csv")}
    left, right = (
        np.genfromtxt(paths[f"a_{side}_fates"], delimiter=",", skip_header=1)[:, 1:].astype(int)
        for side in ("left", "right")
    )
    n = len(left)

    def utility_without(fates, replicate):
        fates = np.delete(fates, replicate, axis=0)
        shares = np.unique(fates, axis=0, return_counts=True)[1] / len(fates)
        pooled = np.array([fates.mean(), 1.0 - fates.mean()])
        return shares @ np.log2(shares) / fates.shape[1] - pooled @ np.log2(pooled)

    gaps = [utility_without(right, r) - utility_without(left, r) for r in range(n)]
    assert app.last["difference_se"] == pytest.approx((n - 1) / np.sqrt(n) * np.std(gaps), rel=0.1)
    app.left.value = app.right.value
    assert app.last["difference"] == app.last["difference_se"] == 0.0


@pytest.mark.bad_input
def test_rejects_rules_that_are_not_there():
    with pytest.raises(ValueError, match=r"among tanh target, dead band, .* got 'step'"):
        RuleExplorer(start_from="step")
    with pytest.raises(ValueError, match="got 'step'"):
        Comparison(left="step")
    with pytest.raises(ValueError, match="at least one"):
        Comparison({})
    with pytest.raises(ValueError, match=r"rules\['x'\] must be a function"):
        Comparison({"x": 3})
    with pytest.raises(ValueError, match=r"network must be one of .* got 'forest'"):
        TrainingStudio(network="forest")
    with pytest.raises(ValueError, match=r"method must be one of .* got 'luck'"):
        TrainingStudio(method="luck")
    with pytest.raises(ValueError, match="no setting 'stripes'"):
        UtilityExplorer(stripes=1.0)


# --- the studio


@pytest.fixture
def studio(float32):
    app = TrainingStudio(SMALL, n_replicates=50, n_epochs=40, n_candidates=4)
    yield app
    app.close()
    for thread in threading.enumerate():
        if thread.name in ("lateral-worker", "lateral-painter"):
            thread.join(60)


def _make_endless(studio):
    """So that a run does not end by itself while a test looks at it, however busy the machine is."""
    studio.n_epochs.max = studio.n_epochs.value = 10**6


def _until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_a_run_trains_is_drawn_measured_and_kept(studio):
    pictures = studio.n_drawn
    studio.start()
    studio.join(120)
    assert studio.state == studio.last["state"] == "finished" and studio.n_drawn > pictures
    assert studio.last["epoch"] == 40 and len(studio.runs) == 1 and len(studio.runs[0].history["utility"]) == 40
    fresh = lateral.evaluate(
        studio.runs[0].regulatory_function, studio.runs[0].model, key=jax.random.key(9), n_replicates=20_000
    )
    assert studio.last["fresh_utility"] == pytest.approx(fresh.utility, abs=5 * studio.last["fresh_utility_se"])
    assert f"{studio.last['fresh_utility']:.3f}" in studio.text


@pytest.mark.slow
@pytest.mark.parametrize("method", ["evolution", "pathwise", "finite-differences", "combination"])
def test_every_method_trains(studio, method):
    studio.method.value = method
    studio.network.value = "perceptron"
    studio.n_epochs.value = 20
    studio.start()
    studio.join(120)
    assert studio.error is None and studio.last["epoch"] == 20
    assert ("gradient_norm" in studio.last) == (method != "evolution")
    assert studio.learning_rate.description == ("mutation strength" if method == "evolution" else "learning rate")
    assert studio.n_epochs.description == f"{'generations' if method == 'evolution' else 'epochs'} of a run"


@pytest.mark.slow
@pytest.mark.parametrize("method", SESSION_METHODS)
def test_from_a_poor_start_every_method_learns(studio, method):
    """U begins low, that of the best of a first generation too, and rises."""
    studio.method.value, studio.start_from.value, studio.n_replicates.value = method, "poor", 512
    studio.objective.value = "ensemble"
    assert "the network that is shown, which does next to nothing" in _said(studio)
    (before,) = (line for line in studio.figure.axes[1].lines if line.get_label() == "before training")
    assert 0.0 < np.abs(before.get_ydata()).max() < 0.5
    studio.start()
    studio.join(300)
    utility = studio.runs[0].history["utility"]
    assert utility[0] < (0.4 if method == "evolution" else 0.15)
    assert np.mean(utility[-5:]) > utility[0] + 0.1


@pytest.mark.slow
def test_what_waits_for_the_next_start_is_said(studio):
    studio.start()
    studio.join(120)
    assert "next Start" not in _said(studio)
    studio.seed.value += 1
    assert "<i>seed: from the next Start on</i>" in _said(studio)
    studio.seed.value -= 1
    assert "next Start" not in _said(studio)


def test_another_method_brings_its_learning_rate_unless_a_run_is_under_way(studio):
    studio.method.value = "pathwise"
    assert studio.learning_rate.value == pytest.approx(0.03)
    studio.method.value = "score"
    _make_endless(studio)
    studio.start()
    studio.method.value = "pathwise"
    assert studio.learning_rate.value == pytest.approx(0.3)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["bumps", "perceptron"])
def test_the_pathwise_gradient_explodes_or_vanishes_as_notebook_05_says(network, float32):
    """Which start explodes differs from one processor to the next: with bumps one of four does, by orders of magnitude;
    with perceptrons most gradients are next to nothing."""
    norms = []
    for seed in range(4):
        studio = TrainingStudio(method="pathwise", network=network, n_replicates=128, n_epochs=10, seed=seed)
        studio.start()
        studio.join(120)
        norms.append(studio.runs[0].history["gradient_norm"])
    if network == "bumps":
        assert np.max(norms) > 1e3
    else:
        assert np.median(norms) < 1e-2


@pytest.mark.slow
def test_drawing_takes_a_tenth_of_a_core(studio, monkeypatch):
    """A slow picture is drawn more rarely."""
    work, drawn = [], []

    def slow(self, *args, draw=studio._canvas.draw, **settings):
        clock = time.thread_time()
        while time.thread_time() - clock < 0.05:
            pass
        png = draw(*args, **settings)
        work.append(time.thread_time() - clock)
        drawn.append(time.monotonic())
        return png

    monkeypatch.setattr(type(studio._canvas), "draw", slow)
    _make_endless(studio)
    studio.start()
    _until(lambda: len(drawn) >= 4, 300.0)
    studio.stop()
    studio.join(60)
    assert sum(work[1:3]) < 0.12 * (drawn[3] - drawn[1])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(studio):
    for _ in range(2):
        studio.start()
        studio.join(120)
    first, second = (run.history["utility"] for run in studio.runs)
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_learning_rate_and_noise_take_effect_while_it_trains_and_compile_nothing(studio, compiled):
    _make_endless(studio)
    studio.start()
    _until(lambda: studio.last.get("epoch", 0) > 5)
    compiled.clear()
    studio.learning_rate.value, studio.noise_strength.value = 0.01, 0.3
    steered_at = studio.job.n_done
    expected = pytest.approx((0.01, 0.3))
    _until(lambda: (studio.last.get("learning_rate"), studio.last.get("noise_strength")) == expected)
    assert compiled == []
    studio.stop()
    studio.join(60)
    rates = studio.runs[-1].history["learning_rate"]
    assert rates[0] == pytest.approx(0.3) and rates[-1] == pytest.approx(0.01)
    assert np.flatnonzero(np.diff(rates))[0] <= steered_at + 32, "in the next chunk"
    assert float(studio.runs[-1].model.noise_strength) == pytest.approx(0.3)
    assert (studio.last["fresh_noise_strength"], studio.last["start_noise_strength"]) == pytest.approx((0.3, 0.1))
    at_start = lateral.evaluate(
        studio.runs[-1].regulatory_function, studio.runs[-1].model.changed(noise_strength=0.1), key=jax.random.key(3)
    )
    assert studio.last["start_noise_utility"] == pytest.approx(at_start.utility, abs=0.05)
    assert "fresh replicates at noise 0.3" in studio.text and "at the noise of the start, 0.1" in studio.text


def test_before_the_first_run_a_random_rule_is_shown(studio):
    assert studio.figure.axes[0].get_title() == "Training: press Start"
    f = lateral.RegulatoryFunction(NETWORKS["bumps"], None)
    for seed in (0, 3):
        studio.seed.value = seed
        params = f.network.init(jax.random.key(seed))
        means = np.linspace(0.0, 1.0, 201)
        expected = dataclasses.replace(f, params=params)(means)
        drawn = [line.get_ydata() for line in studio.figure.axes[1].lines if len(line.get_ydata()) == 201]
        assert any(np.allclose(y, expected, atol=1e-4) for y in drawn)
    assert studio.figure.axes[3].images[0].get_array().shape == (40, 4)


@pytest.mark.slow
def test_the_panel_below_shows_what_the_method_has(studio):
    panel = studio.figure.axes[2]
    for method, title, scale in (("score", "Gradient norm", "log"), ("evolution", "Mean of the population", "linear")):
        studio.method.value = method
        studio.start()
        studio.join(120)
        assert panel.get_title().startswith(title) and panel.get_yscale() == scale
    drawn = [line for line in panel.lines if len(line.get_xdata())]
    (mean,) = drawn  # the norm of the run before has no place here
    np.testing.assert_allclose(mean.get_ydata(), studio.runs[-1].history["mean_objective"], rtol=1e-6)


@pytest.mark.slow
def test_pause_holds_and_start_goes_on(studio):
    _make_endless(studio)
    studio.start()
    _until(lambda: studio.last.get("epoch", 0) > 0)
    studio.pause()
    assert studio.state == "paused"
    time.sleep(2.0)  # the chunk under way may end
    held = studio.job.n_done
    time.sleep(0.5)
    assert studio.job.n_done == held
    with pytest.raises(TimeoutError, match="paused"):
        studio.join()
    studio.start()
    _until(lambda: studio.job.n_done > held)
    studio.stop()
    studio.join(60)


def test_start_twice_is_one_run(studio):
    studio.start()
    job = studio.job
    studio.start()
    assert studio.job is job
    studio.join(120)
    assert len(studio.runs) == 1


def test_stop_before_the_first_chunk_leaves_no_run(studio, monkeypatch):
    stopped, make = threading.Event(), lateral.TrainingSession.__init__
    monkeypatch.setattr(
        lateral.TrainingSession, "__init__", lambda *args, **settings: (stopped.wait(60), make(*args, **settings))[-1]
    )
    studio.start()
    studio.stop()
    stopped.set()
    assert studio.state == "stopped"
    studio.join(120)
    assert studio.runs == [] and studio.error is None
    studio.start()
    studio.join(120)
    assert studio.state == "finished" and len(studio.runs) == 1


@pytest.mark.slow
def test_a_run_stopped_for_the_next_one_is_kept_too(studio):
    _make_endless(studio)
    studio.start()
    first = studio.job
    _until(lambda: studio.last.get("epoch", 0) > 0)
    studio.stop()
    studio.n_epochs.value = 20
    studio.start()
    studio.join(120)
    assert first.join(60)
    assert studio.state == "finished" and studio.last["epoch"] == 20 and len(studio.runs) == 2


def test_reset_forgets_even_what_is_still_running(studio):
    studio.start()
    job = studio.job
    studio.reset()
    assert job.join(120)
    assert studio.runs == [] and studio.state == "ready" and "epoch" not in studio.last


@pytest.mark.slow
def test_reset_forgets_a_run_that_was_stopped_before_too(studio):
    _make_endless(studio)
    studio.start()
    first = studio.job
    _until(lambda: studio.last.get("epoch", 0) > 0)
    studio.stop()
    studio.start()
    second = studio.job
    studio.reset()
    assert first.join(120) and second.join(120)
    assert len(studio.runs) == 0 and studio.state == "ready" and studio.job is None
    assert "A random rule" in studio.figure.axes[3].get_title() and "epoch" not in studio.last


@pytest.mark.slow
def test_a_new_run_does_not_show_the_numbers_of_the_last(studio):
    studio.start()
    studio.join(120)
    studio.start()
    assert "fresh_utility" not in studio.last or studio.last["state"] == "finished"
    studio.join(120)


def test_a_failure_shows_and_is_raised_on_join(studio, monkeypatch):
    def fail(self, n_epochs):
        raise FloatingPointError("loss <not> finite")

    monkeypatch.setattr(lateral.TrainingSession, "advance", fail)
    studio.start()
    with pytest.raises(FloatingPointError, match="not> finite"):
        studio.join(120)
    assert studio.state == "failed" and "loss &lt;not&gt; finite" in _said(studio)
    monkeypatch.undo()
    studio.start()
    studio.join(120)
    assert studio.state == "finished" and studio.error is None


def test_the_kernel_thread_is_free_while_it_trains(studio):
    _make_endless(studio)
    clock = time.monotonic()
    studio.start()
    assert time.monotonic() - clock < 10.0 and threading.current_thread() is threading.main_thread()
    assert studio.job.active
    studio.stop()


def test_earlier_runs_stay_as_faint_curves(studio):
    for _ in range(2):
        studio.start()
        studio.join(120)
    lines = [line for ax in studio.figure.axes for line in ax.lines if len(line.get_xdata())]
    faint = [line for line in lines if line.get_color() == "0.75"]
    assert len(faint) == 3, "utility, rule and gradient norm of the one before"


def test_a_run_is_saved_and_its_data_too(studio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no run has ended yet"):
        studio.save("run.npz")
    studio.start()
    studio.join(120)
    studio.save_button.click()
    run = lateral.load_run("exports/run-1.npz")
    np.testing.assert_array_equal(run.history["utility"], studio.runs[0].history["utility"])
    names = [path.name for path in studio.export("run.csv")]
    assert names == ["run_history.csv", "run_rule.csv", "run_fates.csv"]
    history = np.genfromtxt("run_history.csv", delimiter=",", names=True)
    assert history["epoch"][-1] == 40 and history["utility"][-1] == pytest.approx(studio.last["utility"])


@pytest.mark.slow
def test_fates_are_those_of_the_threshold_of_the_model(float32, tmp_path):
    """Below a threshold of 0 there is no state: all fates are 1, in the training, the picture and the measurement."""
    studio = TrainingStudio(dataclasses.replace(SMALL, threshold=0.0), n_replicates=50, n_epochs=10, n_candidates=1)
    studio.start()
    studio.join(120)
    for name in ("utility", "fresh_utility", "fresh_utility_refined"):
        assert studio.last[name] == pytest.approx(0.0, abs=1e-4), name
    fates = np.genfromtxt(studio.export(tmp_path / "a.csv")[2], delimiter=",", skip_header=1)
    assert (fates == 1.0).all()


def test_the_picture_put_together_from_pixels_is_that_of_a_whole_drawing(studio):
    """The fast way (pixels of what stays, then what moves) and matplotlib's own agree but for antialiased edges."""
    studio.start()
    studio.join(120)
    fast, whole = (
        np.asarray(PIL.Image.open(io.BytesIO(png)).convert("L"), float)
        for png in (_shown(studio), studio.figure.to_png())
    )
    assert fast.shape == whole.shape and (np.abs(fast - whole) > 60).mean() < 0.002


@pytest.mark.slow
def test_two_studios_train_side_by_side(float32):
    apps = [TrainingStudio(SMALL, n_replicates=50, n_epochs=30, n_candidates=4, seed=seed) for seed in (1, 1)]
    for app in apps:
        app.start()
    for app in apps:
        app.join(120)
    np.testing.assert_array_equal(*(app.runs[0].history["utility"] for app in apps))


@pytest.mark.slow
def test_two_hundred_random_actions_leave_a_live_app(studio):
    """Any order of clicks and moves, some in the middle of a chunk: no error, no hang, and it trains on."""
    monkey = random.Random(0)
    sliders = [c for c in studio.controls.values() if isinstance(c, ipywidgets.FloatSlider | ipywidgets.FloatLogSlider)]
    lists = [studio.objective, studio.network]
    for _ in range(200):
        what = monkey.random()
        if what < 0.5:
            monkey.choice([studio.start, studio.pause, studio.stop, studio.reset, studio.new_seed.click])()
        elif what < 0.8:
            control = monkey.choice(sliders)
            low, high = (control.min, control.max) if hasattr(control, "readout_format") else (0.1, 0.3)
            if isinstance(control, ipywidgets.FloatLogSlider):
                low, high = 10.0**low, 10.0**high
            control.value = monkey.uniform(low, high)
        elif what < 0.9:
            control = monkey.choice(lists)
            control.value = monkey.choice(
                [option if isinstance(option, str) else option[1] for option in control.options]
            )
        else:
            time.sleep(monkey.uniform(0.0, 0.15))
    studio.reset()
    studio.n_epochs.value = 20
    studio.learning_rate.value = 0.1
    studio.start()
    studio.join(180)
    assert studio.error is None and studio.state == "finished" and len(studio.runs) == 1


@pytest.mark.slow
def test_a_picture_may_be_a_figure_a_pair_or_a_picture():
    figure, text = _line(1.0)
    for made in (figure, (figure, text), Picture(figure, text, {"slope": 1.0}, {})):
        app = Explorer(lambda slope, made=made: made, slope=slider(0.0, 1.0, 0.5))
        assert app.error is None and app.figure is figure
