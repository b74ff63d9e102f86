"""`TissueExplorer` against what the package computes, and its bound against entropies that are known.

What it shares with the other apps is in `test_widgets.py`.
"""

import itertools

import jax
import numpy as np
import PIL.Image
import pytest

import lateral
from lateral.contexts import contexts_of
from lateral.widgets import TissueExplorer, tissues
from lateral.widgets.tissues import bound_of_sample

pytestmark = pytest.mark.usefixtures("float32")
KINDS = ("row", "ring", "square", "hexagonal", "voronoi")


def _contexts(geometry, size=3) -> np.ndarray:
    contexts = np.full((geometry.n_cells, size), -1)
    for cell, earlier in contexts_of(geometry, size):
        contexts[cell, : len(earlier)] = earlier
    return contexts


# --- the bound


def test_the_bound_is_that_of_predicting_each_tissue_from_the_others():
    """Written out tissue by tissue, for a row of three whose cells know up to two earlier ones."""
    fates = np.random.default_rng(0).integers(0, 2, (7, 3))
    contexts = np.array([[-1, -1], [0, -1], [1, 0]])
    bits = []
    for tissue, z in enumerate(fates):
        others = np.delete(fates, tissue, axis=0)
        for cell, earlier in enumerate(contexts):
            q = 0.5
            for level in range(3):
                known = [c for c in earlier[:level] if c >= 0]
                alike = others[(others[:, known] == z[known]).all(axis=1), cell]
                q = (np.sum(alike == z[cell]) + 2 * q) / (len(alike) + 2)
            bits.append(-np.log2(q))
    p = fates.mean()
    expected = -p * np.log2(p) - (1 - p) * np.log2(1 - p) - np.mean(bits)
    assert bound_of_sample(fates, contexts)[0] == pytest.approx(expected)


def _coins(rng, n, sheet):
    return rng.integers(0, 2, (n, sheet.n_cells))


def _checkerboards(rng, n, sheet):
    rows, columns = np.divmod(np.arange(sheet.n_cells), sheet.columns)
    return ((rows + columns)[None] + rng.integers(0, 2, (n, 1))) % 2


def _markov_rows(rng, n, sheet):
    """Neighbours differ with probability 0.9: S_rep = (1 + (N - 1) H(0.9)) / N."""
    return (rng.integers(0, 2, (n, 1)) + np.cumsum(rng.random((n, sheet.n_cells)) < 0.9, axis=1)) % 2


H = 0.4689956  # of 0.9
KNOWN = {
    "coins": (_coins, lateral.Sheet(8, 8), 0.0),
    "checkerboards by a coin": (_checkerboards, lateral.Sheet(8, 8), 1 - 1 / 64),
    "rows with walls": (_markov_rows, lateral.Sheet(1, 64), 1 - (1 + 63 * H) / 64),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_bound_is_below_what_is_known_and_near(name):
    draw, sheet, truth = KNOWN[name]
    utility, error = bound_of_sample(draw(np.random.default_rng(0), 400, sheet), _contexts(sheet))
    assert truth - 0.03 < utility < truth + 3 * error + 1e-3


@pytest.mark.slow
def test_the_bound_agrees_with_the_slow_one_of_the_package(key):
    geometry = lateral.Sheet(8, 8, "hexagonal")
    states = lateral.run_multiple_replicates(
        lateral.TanhInhibition(), geometry=geometry, n_replicates=200, n_steps=400, key=key
    )
    fates = np.asarray(lateral.apply_threshold(states))
    slow = lateral.bound_utility(fates, geometry)
    quick, error = bound_of_sample(fates, _contexts(geometry))
    assert quick == pytest.approx(slow.utility, abs=0.03) and error == pytest.approx(slow.utility_se, rel=0.3)


def test_tissues_that_are_all_alike_say_nothing():
    utility, error = bound_of_sample(np.zeros((200, 9)), _contexts(lateral.Sheet(3, 3)))
    assert -0.01 < utility <= 0.0 and error == pytest.approx(0.0, abs=1e-9)


# --- the app


@pytest.mark.slow
def test_small_tissues_are_counted_and_large_ones_bounded():
    app = TissueExplorer(kind="ring", columns=8)
    assert not app.last["is_bound"] and "U = " in app.text
    states = lateral.run_multiple_replicates(
        lateral.TanhInhibition(), geometry=lateral.Ring(8), n_replicates=20_000, n_steps=400, key=jax.random.key(1)
    )
    expected = lateral.estimate_utility(lateral.apply_threshold(states), geometry=lateral.Ring(8))
    for name in ("utility", "alternation"):
        assert app.last[name] == pytest.approx(float(getattr(expected, name)), abs=4 * app.last["utility_se"]), name
    app.columns.value = 20
    assert app.last["is_bound"] and "U ≥ " in app.text and "lower bound" in app.text


def test_a_bound_below_0_says_nothing_and_is_not_shown_as_news():
    app = TissueExplorer({"none": lambda s: 0.0 * s}, kind="square", rows=8, columns=8)
    assert app.last["is_bound"] and app.last["utility"] < 0.0
    assert "U ≥ 0: in these tissues no cell tells of another" in app.text and "U ≥ -" not in app.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_its_cells_and_saves_them(kind, tmp_path):
    app = TissueExplorer(kind=kind, rows=3, columns=4, duration=2)
    n_cells = {"row": 4, "ring": 4}.get(kind, 12)
    assert app.geometry.n_cells == n_cells == app.time.n_cells == len(app.time.cells)
    assert all(len(cell) == 3 if kind == "ring" else len(cell) >= 6 for cell in app.time.cells)
    marked = {tuple(sorted((int(i), int(j)))) for i, j, *_ in app.time.lines}
    assert marked == {tuple(sorted(pair)) for pair in app.geometry.pairs.tolist()}
    assert (app.rows.disabled, app.ends.disabled) == (kind in ("row", "ring"), kind not in ("square", "hexagonal"))
    states, shares, fates = (
        np.genfromtxt(path, delimiter=",", skip_header=1) for path in app.export(tmp_path / "a.csv")
    )
    assert states[-1, 0] == shares[-1, 0] == app.time.value == app.time.end == pytest.approx(2.0)
    np.testing.assert_array_equal(states[-1, 1:] >= 0.5, fates[0, 1:])
    sent = np.frombuffer(app.time.states, np.uint8).reshape(-1, n_cells) / 255
    np.testing.assert_allclose(sent, states[:, 1:], atol=0.5 / 255 + 1e-6)
    expected = lateral.alternation(fates[:, 1:], geometry=app.geometry)
    assert shares[-1, 1] == pytest.approx(float(expected), abs=1e-6) == app.last["alternation"]
    assert shares[-1, 2] == pytest.approx(fates[:, 1:].mean()) == app.last["share_on"]


@pytest.mark.slow
def test_a_longer_duration_goes_on_from_the_same_states(tmp_path):
    app = TissueExplorer(rows=3, columns=3, duration=2)
    short = np.genfromtxt(app.export(tmp_path / "a.csv")[0], delimiter=",")
    app.duration.value = 5
    long = np.genfromtxt(app.export(tmp_path / "b.csv")[0], delimiter=",")
    assert len(long) == len(short) + 30
    np.testing.assert_array_equal(long[1 : len(short)], short[1:])


@pytest.mark.slow
def test_another_rule_and_its_name_come_from_the_user():
    app = TissueExplorer({"on": lambda s: 0.0 * s + 5.0, "off": lambda s: 0.0 * s - 5.0}, rows=3, columns=3, rule="on")
    assert app.last["share_on"] == 1.0 and app.last["alternation"] == 0.0
    app.rule.value = "off"
    assert app.last["share_on"] == 0.0


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_tissue_of_the_users_own_takes_the_place_of_the_list(unit):
    own = lateral.Graph.from_edges(
        [(0, 1), (1, 2), (2, 0), (2, 3)], positions=unit * np.array([(0, 0), (1, 0), (0, 1), (1, 2)])
    )
    app = TissueExplorer(geometry=own)
    assert list(app.controls) == ["noise_strength", "duration", "rule", "seed"] and app.geometry is own
    places = np.array(app.time.cells)[:, :2]
    np.testing.assert_allclose(places, own.positions, atol=1e-4 * unit)
    app.noise_strength.value = 0.5
    assert app.error is None and app.n_drawn == 2


@pytest.mark.slow
def test_an_impossible_size_is_out_of_reach():
    app = TissueExplorer(rows=5, columns=2, duration=1)
    app.ends.value = "periodic"
    assert app.error is None and app.geometry == lateral.Sheet(6, 3, "hexagonal", periodic=True)
    app.rows.value = 7
    assert app.error is None and app.rows.value == 8 and (app.rows.min, app.rows.step) == (4, 2)
    app.kind.value = "square"
    app.rows.value = 5
    assert app.geometry == lateral.Sheet(5, 3, "square", periodic=True)
    app.ends.value = "free"
    app.rows.value = 1
    assert app.error is None and app.geometry == lateral.Sheet(1, 3, "square")
    assert app.n_drawn == 7, "once for each change"
    with pytest.raises(ValueError, match="even number of rows"):
        TissueExplorer(rows=5, ends="periodic")


@pytest.mark.slow
def test_all_sizes_in_reach_are_those_of_a_tissue(monkeypatch):
    app = TissueExplorer(rows=4, columns=4, duration=1)
    figure, made = app.figure, []

    def only_the_tissue(kind, rows, columns, ends, **_):
        made.append(tissues._tissue(kind, rows, columns, ends))
        return figure

    monkeypatch.setattr(app, "_draw", only_the_tissue)
    monkeypatch.setattr(app, "_show", lambda picture: None)
    for kind, ends, rows, columns in itertools.product(KINDS, ("free", "periodic"), range(1, 9), range(2, 6)):
        app.kind.value, app.ends.value, app.rows.value, app.columns.value = kind, ends, rows, columns
        assert app.error is None, app.values()
    assert len(made) > 200


def test_what_is_saved_is_the_tissue_at_the_time_of_the_clock(tmp_path):
    app = TissueExplorer(rows=3, columns=3)
    drawn, text, picture = app.n_drawn, app.text, app._image.value
    states = np.genfromtxt(app.export(tmp_path / "a.csv")[0], delimiter=",", skip_header=1)
    app.time.value = 1.0
    cells = app.figure.axes[0].collections[0]
    np.testing.assert_allclose(cells.get_array(), states[10, 1:], rtol=1e-6)
    assert states[10, 0] == pytest.approx(1.0)
    assert (app.n_drawn, app.text) == (drawn, text) and app._image.value != picture, "nothing is simulated"
    app.seed.value = 1
    later = np.genfromtxt(app.export(tmp_path / "b.csv")[0], delimiter=",", skip_header=1)
    assert app.time.value == pytest.approx(1.0)
    np.testing.assert_allclose(app.figure.axes[0].collections[0].get_array(), later[10, 1:], rtol=1e-6)


@pytest.mark.slow
def test_the_canvas_lies_on_the_panel_and_looks_at_all_cells():
    app = TissueExplorer(kind="row", columns=5)
    for narrow, kind in itertools.product((False, True), KINDS):
        app._page.narrow = narrow
        app.kind.value = kind
        left, middle, _ = app.figure.axes[:3]
        assert app.time.canvas == pytest.approx(left.get_position().bounds)
        assert app.time.panel == pytest.approx(middle.get_position().bounds)
        x0, x1, y0, y1 = app.time.view
        assert (x0, x1) == pytest.approx(left.get_xlim()) and (y0, y1) == pytest.approx(left.get_ylim())
        assert x1 - x0 == pytest.approx(y0 - y1)
        corners = np.concatenate([np.reshape(cell[:2] if len(cell) == 3 else cell, (-1, 2)) for cell in app.time.cells])
        assert (corners.min(axis=0) >= (x0, y1)).all() and (corners.max(axis=0) <= (x1, y0)).all()
        width, height = app.figure.get_size_inches() * app.time.canvas[2:]
        assert width == pytest.approx(height, rel=0.01), "cells keep their shape"
    app._page.dark = True
    assert app.time.ground == "#111111"


@pytest.mark.slow
def test_the_tissue_is_saved_as_an_animation_and_other_apps_have_none(tmp_path):
    app = TissueExplorer(rows=2, columns=3, duration=1)
    (path,) = app.export(tmp_path / "a.gif")
    with PIL.Image.open(path) as animation:
        assert animation.n_frames == 11
    assert "gif" not in lateral.widgets.DynamicsExplorer.FORMATS
