"""Figures are drawn from the data that they are given; the core does without matplotlib and ipywidgets."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import lateral
from lateral import plotting
from lateral.model import final_states
from lateral.widgets.canvas import Canvas, View

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture
def fates():
    return np.array([[0, 1, 0], [0, 1, 0], [1, 0, 1]])


@pytest.fixture
def run(key):
    model = lateral.Model(n_cells=4, n_replicates=10, n_steps=20)
    return lateral.train_backprop(model, key=key, n_epochs=3)


def _is_png(figure) -> bool:
    return figure._repr_png_().startswith(b"\x89PNG")


def test_space_time_plot_shows_cells_down_and_time_across():
    states = np.random.default_rng(0).random((11, 4))
    figure = plotting.plot_space_time(states, 0.5, "title")
    (picture,) = figure.axes[0].get_images()
    np.testing.assert_array_equal(picture.get_array(), states.T.astype(np.float32))
    assert picture.get_extent() == [0, 5.0, 4.5, 0.5] or tuple(picture.get_extent()) == (0, 5.0, 4.5, 0.5)
    assert "time" in figure.axes[0].get_xlabel() and _is_png(figure)


def test_states_over_time_are_one_line_a_cell():
    states = np.random.default_rng(0).random((11, 3))
    lines = plotting.plot_states(states, 0.1, "title").axes[0].get_lines()[:3]
    for cell, line in enumerate(lines):
        np.testing.assert_allclose(line.get_xdata(), 0.1 * np.arange(11))
        np.testing.assert_allclose(line.get_ydata(), states[:, cell], rtol=1e-6)


def test_fates_are_a_picture_of_the_first_replicates(fates):
    figure = plotting.plot_fates(fates, "title", n_shown=2)
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), fates[:2])
    assert _is_png(figure)


@pytest.mark.slow
def test_each_of_three_fates_has_its_colour_in_a_run_and_in_the_studio(key):
    model = lateral.Model(n_cells=4, n_replicates=10, n_steps=20, thresholds=(0.4, 0.6))
    run = lateral.train_evolution(model, key=key, population_size=8, n_generations=1, progress=False)
    (picture,) = plotting.plot_run(run, key=key).axes[2].get_images()
    states = final_states(run.regulatory_function, model.changed(n_replicates=40), key)
    np.testing.assert_array_equal(picture.get_array(), model.readout.fates(states))
    assert picture.get_clim() == (0, 2) and picture.get_cmap().N == 3
    view = View.before(model, "epoch", run.params)
    assert set(np.unique(view.fates)) == {0.0, 1.0, 2.0}
    canvas = Canvas()
    canvas.draw(view, [])
    (picture,) = canvas.figure.axes[3].get_images()
    assert picture.get_clim() == (0, 2) and canvas.figure.axes[0].get_ylim()[1] > np.log2(3)
    with pytest.raises(ValueError, match="n_fates must be at most 7, so that colours can be told apart, got 8"):
        plotting.plot_fates(np.zeros((2, 2)), "title", n_fates=8)


def test_pattern_frequencies_are_shares_in_falling_order(fates):
    figure = plotting.plot_pattern_frequencies(fates, "title")
    np.testing.assert_allclose([bar.get_width() for bar in figure.axes[0].patches], [2 / 3, 1 / 3])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["010", "101"]


def test_a_rule_is_drawn_as_it_is():
    figure = plotting.plot_regulatory_functions({"target": lateral.TanhInhibition()}, "title")
    line = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), -np.tanh(5 * (line.get_xdata() - 0.5)), atol=1e-6)


def test_points_are_coloured_by_their_group_and_no_point_is_lost():
    x, y = np.arange(5.0), np.arange(5.0) ** 2
    groups = {"low": x < 2, "four": x == 4}
    (ax,) = plotting.plot_groups(x, y, groups, "title", "x", "y").axes
    places = [points.get_offsets().data.tolist() for points in ax.collections]
    assert places == [[[0, 0], [1, 1]], [[4, 16]], [[2, 4], [3, 9]]]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["low: 40%", "four: 20%", "none of these: 40%"]


def test_a_bundle_holds_one_curve_for_each_rule():
    rates = np.array([[1.0, 0.0, -1.0], [2.0, 2.0, 2.0]])
    figure = plotting.plot_bundles({"two": rates, "none": np.zeros((0, 3))})
    two, none = figure.axes
    for curve, line in zip(rates, two.get_lines()[:2], strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([[0.0, 0.5, 1.0], curve]))
    assert len(two.get_lines()) == 3 and len(none.get_lines()) == 1, "the last is the line at 0"
    assert two.get_title() == "two" and _is_png(figure)


@pytest.mark.parametrize("cell", [1, 4, 7])
def test_a_cell_sees_the_mean_of_its_neighbours_and_moves_by_the_rule(cell):
    states = np.array([0.6, 0.3, 0.9, 0.4, 0.5, 0.7, 0.2])
    mean = {1: 0.3, 4: (0.9 + 0.5) / 2, 7: 0.7}[cell]
    figure = plotting.plot_view(states, cell, lateral.TanhInhibition())
    row, curve = figure.axes
    np.testing.assert_allclose(curve.get_lines()[1].get_xydata(), [[mean, -np.tanh(5 * (mean - 0.5))]], rtol=1e-5)
    np.testing.assert_allclose([float(circle.get_array()[0]) for circle in row.collections], states, rtol=1e-6)
    seen = [place for place, circle in enumerate(row.collections, 1) if circle.get_alpha() is None]
    assert seen == [place for place in (cell - 1, cell, cell + 1) if 1 <= place <= 7]
    arrows = [text for text in row.texts if text.arrow_patch is not None]
    assert len(arrows) == len(seen) - 1 and all(text.xy[0] == cell for text in arrows)
    says = (f"Cell {cell} sees a mean of {mean:.2f}", "so its state rises" if mean < 0.5 else "so its state falls")
    assert (row.get_title(), curve.get_title()) == says and _is_png(figure)


def test_curves_have_labels_errors_and_a_reference():
    figure = plotting.plot_curves([1, 2], {"a": ([1, 2], [0.1, 0.2]), "b": [3, 4]}, "t", "x", "y", reference=("r", 2.5))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["r", "a", "b"]


def test_points_that_follow_nothing_are_not_joined():
    (points, *_), *_ = plotting.plot_curves(range(30), {"a": range(30)}, "t", "x", "y", joined=False).axes[0].containers
    assert points.get_linestyle() == "None" and points.get_marker() == "o"


def test_a_few_values_are_named_on_a_logarithmic_axis_and_whole_numbers_on_another():
    ax = plotting.plot_curves([0.5, 1, 10], {"a": [1, 2, 3]}, "t", "x", "y", logx=True).axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.5", "1", "10"]
    assert not ax.xaxis.get_minorticklocs().size
    ax = plotting.plot_curves(np.arange(1, 6), {"a": range(5)}, "t", "x", "y").axes[0]
    assert np.all(np.mod(ax.get_xticks(), 1.0) == 0.0)


@pytest.mark.slow
def test_training_curves_of_both_methods(run, key):
    assert len(plotting.plot_history(run.history, "title").axes) == 2
    strategy = lateral.EvolutionStrategy(population_size=4, n_parents=2)
    evolved = lateral.train_evolution(run.model, key=key, n_generations=2, strategy=strategy, n_final=10)
    figure = plotting.plot_history(evolved.history, "title")
    assert len(figure.axes) == 1 and figure.axes[0].get_xlabel() == "generation"


@pytest.mark.slow
def test_evaluations_stand_side_by_side_with_utility_and_alternation(key):
    result = lateral.evaluate(lateral.TanhInhibition(), key=key, n_replicates=100, n_steps=100)
    figure = plotting.plot_evaluations({"tanh": result}, "title")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(heights, [result.utility, result.alternation])


def test_a_run_at_a_glance(run, key):
    assert len(plotting.plot_run(run, key=key).axes) == 3


@pytest.mark.bad_input
def test_rejects_fates_that_are_none():
    with pytest.raises(ValueError, match="apply_threshold"):
        plotting.plot_fates(np.full((3, 3), 0.4), "title")
    with pytest.raises(ValueError, match="time, cell"):
        plotting.plot_space_time(np.zeros(3), 0.1, "title")
    with pytest.raises(ValueError, match="cell 4 of 3"):
        plotting.plot_view(np.zeros(3), 4, lateral.TanhInhibition())


@pytest.mark.slow
def test_importing_the_package_imports_neither_matplotlib_nor_ipywidgets():
    code = "import sys, lateral; print([m for m in ('matplotlib', 'ipywidgets', 'IPython') if m in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert outcome.stdout.strip() == "[]"


def test_figures_can_be_drawn_outside_the_main_thread(fates):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        figures = list(pool.map(lambda title: plotting.plot_fates(fates, title), ["a", "b", "c", "d"]))
    assert all(_is_png(figure) for figure in figures)
    assert [figure.axes[0].get_title() for figure in figures] == ["a", "b", "c", "d"]


def test_no_figure_is_left_in_pyplot(fates):
    def kept():
        return sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else []

    before = kept()
    plotting.plot_fates(fates, "title")
    assert kept() == before
    assert isinstance(jax.random.key(0), jax.Array)
