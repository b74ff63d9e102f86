"""Voronoi tissues against what is known of planar graphs and of the square, and the pictures of all tissues."""

import itertools

import jax
import numpy as np
import oracles
import pytest
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.colors import to_rgb

from lateral import Graph, Ring, Row, Sheet, voronoi_tissue
from lateral.figure import COLOURS, FATE_COLOURS, STATE_COLOURS, fate_colours, new_figure
from lateral.mosaic import contact_lines
from lateral.plotting import plot_tissue

TISSUES = [(3, 0), (40, 0), (40, 5), (400, 2)]


@pytest.fixture(scope="module", params=TISSUES, ids=str)
def tissue(request):
    n_cells, relaxed = request.param
    return voronoi_tissue(n_cells, key=jax.random.key(n_cells), relaxed=relaxed)


def test_the_cells_fill_the_square_and_hold_their_places(tissue):
    assert sum(tissue.areas) == pytest.approx(1.0, abs=1e-6)
    corners = np.concatenate([np.array(outline) for outline in tissue.outlines])
    assert corners.min() == 0.0 and corners.max() == 1.0
    places = np.array(tissue.positions)
    for outline, place in zip(tissue.outlines, places, strict=True):
        edges = np.roll(outline, -1, axis=0) - outline
        to_place = place[None] - outline
        assert (edges[:, 0] * to_place[:, 1] - edges[:, 1] * to_place[:, 0] > -1e-6).all(), "convex, and around it"


def test_every_point_belongs_to_the_cell_with_the_nearest_place():
    """By points drawn at random: the share of those nearest to a place is the area of its cell."""
    tissue = voronoi_tissue(12, key=jax.random.key(1), relaxed=1)
    points = np.random.default_rng(0).uniform(size=(40_000, 2))
    nearest = np.argmin(np.linalg.norm(points[:, None] - np.array(tissue.positions)[None], axis=2), axis=1)
    shares = np.bincount(nearest, minlength=12) / len(points)
    errors = np.sqrt(shares * (1.0 - shares) / len(points))
    assert (np.abs(shares - tissue.areas) < 4.5 * errors).all()


def test_neighbours_share_two_corners_and_weights_are_the_lengths_between_them(tissue):
    corners = [{tuple(corner) for corner in outline} for outline in tissue.outlines]
    shared = {(i, j): corners[i] & corners[j] for i, j in itertools.combinations(range(tissue.n_cells), 2)}
    lengths = np.zeros((tissue.n_cells, tissue.n_cells))
    for (i, j), ends in shared.items():
        if len(ends) == 2:
            a, b = ends
            lengths[i, j] = lengths[j, i] = np.hypot(a[0] - b[0], a[1] - b[1])
    np.testing.assert_allclose(tissue.matrix(), lengths / lengths.sum(axis=1, keepdims=True), atol=2e-4)


def test_in_the_plane_a_cell_has_fewer_than_six_neighbours_on_average(tissue):
    """Euler's formula: at most 3 N - 6 contacts, and three cells at every corner inside."""
    n = tissue.n_cells
    assert n - 1 <= len(tissue.pairs) <= max(3 * n - 6, 3)


@pytest.mark.slow
def test_steps_of_lloyd_make_cells_alike():
    spreads = [np.std(voronoi_tissue(100, key=jax.random.key(3), relaxed=n).areas) for n in (0, 2, 20)]
    assert spreads[0] > 1.5 * spreads[1] > 2.0 * spreads[2]


def test_numbers_of_neighbours_are_close_and_the_same_key_is_the_same_tissue(precision):
    tissue = voronoi_tissue(100, key=jax.random.key(3))
    assert np.median(np.abs(tissue.pairs[:, 0] - tissue.pairs[:, 1])) < 15
    assert voronoi_tissue(100, key=jax.random.key(3)) == tissue != voronoi_tissue(100, key=jax.random.key(4))


@pytest.mark.bad_input
def test_too_few_cells_and_steps_below_0_are_refused(key):
    with pytest.raises(ValueError, match="n_cells must be >= 3, got 2"):
        voronoi_tissue(2, key=key)
    with pytest.raises(ValueError, match="relaxed must be >= 0, got -1"):
        voronoi_tissue(10, key=key, relaxed=-1)
    with pytest.raises(ValueError, match="key must be a random key"):
        voronoi_tissue(10, key=0)


# --- pictures

POINTS = Graph.from_edges([(0, 1), (1, 2), (2, 0), (2, 3)], positions=[(0, 0), (1, 0), (0, 1), (1, 2)])
DRAWN = {
    "row": Row(5),
    "ring": Ring(5),
    "squares": Sheet(3, 4),
    "hexagons": Sheet(3, 4, "hexagonal"),
    "torus": Sheet(4, 4, "hexagonal", periodic=True),
    "points": POINTS,
    "points with areas": Graph(POINTS.neighbours, positions=POINTS.positions, areas=[1, 2, 1, 0]),
    "voronoi": voronoi_tissue(9, key=jax.random.key(0)),
}


def drawn(figure, kind):
    return [collection for collection in figure.axes[0].collections if isinstance(collection, kind)]


def _far(geometry, i, j) -> bool:
    """Whether neighbours stand at two ends of a sheet, whose cells are 1 apart."""
    return isinstance(geometry, Sheet) and np.linalg.norm(geometry.positions[i] - geometry.positions[j]) > 1.01


@pytest.mark.parametrize("name", DRAWN)
def test_every_cell_has_the_colour_of_its_fate_and_like_neighbours_a_line(name):
    geometry = DRAWN[name]
    fates = np.arange(geometry.n_cells) // 2 % 2
    figure = plot_tissue(fates, geometry, "a tissue")
    figure.to_png()
    (cells,) = drawn(figure, PolyCollection if geometry.outlines is not None else PatchCollection)
    np.testing.assert_allclose(cells.get_facecolors(), FATE_COLOURS(fates))
    lines = [lines for lines in drawn(figure, LineCollection) if tuple(lines.get_colors()[0][:3]) == to_rgb(COLOURS[1])]
    alike = sum(fates[i] == fates[j] for i, j in geometry.pairs)
    across = sum(fates[i] == fates[j] and _far(geometry, i, j) for i, j in geometry.pairs)
    assert len(lines[0].get_segments()) == alike + across and (across > 0) == (name == "torus")
    assert figure.axes[0].get_title() == "a tissue" and figure.axes[0].yaxis_inverted()


def test_an_edge_that_is_marked_lies_between_its_two_cells():
    figure = plot_tissue(np.array([1, 1, 0, 1]), Sheet(2, 2))
    (lines,) = drawn(figure, LineCollection)
    found = sorted(sorted(map(tuple, segment.tolist())) for segment in lines.get_segments())
    assert found == [[(-0.5, 0.5), (0.5, 0.5)], [(0.5, -0.5), (0.5, 0.5)]] or found == [
        [(0.5, -0.5), (0.5, 0.5)],
        [(0.5, 0.5), (1.5, 0.5)],
    ]


@pytest.mark.parametrize(
    "sheet",
    [Sheet(5, 7, periodic=True), Sheet(4, 3, "hexagonal", periodic=True), Sheet(1, 5, periodic=True), Sheet(4, 5)],
    ids=str,
)
def test_across_a_seam_a_pair_is_marked_at_both_ends(sheet):
    """Each cell lies half a cell from its lines, and the two lines of a pair are a period apart."""
    cells, ends = contact_lines(sheet)
    assert {tuple(pair) for pair in cells.tolist()} == {tuple(sorted(pair)) for pair in sheet.pairs.tolist()}
    for pair in sheet.pairs:
        found = ends[(cells == np.sort(pair)).all(axis=1)].mean(axis=1)
        to_cells = np.linalg.norm(found[:, None] - sheet.positions[pair][None], axis=2)
        np.testing.assert_allclose(to_cells.min(axis=1), 0.5, atol=1e-6)
        assert len(found) == (2 if _far(sheet, *pair) else 1)
        if len(found) == 2:
            assert set(to_cells.argmin(axis=1)) == {0, 1}, "one line beside each cell"
            turns = (found[1] - found[0]) / sheet.period
            np.testing.assert_allclose(turns, np.round(turns), atol=1e-6)


def test_cells_of_a_picture_that_share_no_edge_have_no_line():
    apart = Graph([[1], [0]], positions=[(0, 0), (2, 0)], outlines=[[(0, 0), (1, 0), (0, 1)], [(2, 0), (3, 0), (2, 1)]])
    cells, ends = contact_lines(apart)
    assert cells.shape == (0, 2) and ends.shape == (0, 2, 2)


@pytest.mark.parametrize("n_fates", range(3, 8))
def test_each_of_several_fates_has_its_colour_and_only_equal_ones_a_line(n_fates):
    sheet = Sheet(5, 6, "hexagonal")
    fates = np.random.default_rng(0).integers(0, n_fates, 30)
    figure = plot_tissue(fates, sheet, n_fates=n_fates)
    figure.to_png()
    (cells,) = drawn(figure, PolyCollection)
    colours = cells.get_facecolors()
    np.testing.assert_allclose(colours, [fate_colours(n_fates)(fate) for fate in fates])
    assert len(np.unique(colours, axis=0)) == len(np.unique(fates))
    np.testing.assert_allclose(fate_colours(n_fates)(np.arange(2)), FATE_COLOURS(np.arange(2)))
    (lines,) = drawn(figure, LineCollection)
    assert len(lines.get_segments()) == sum(fates[i] == fates[j] for i, j in sheet.pairs)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == [*(f"fate {fate}" for fate in range(n_fates)), "like neighbours"]


def test_states_are_drawn_in_the_colours_of_states_with_their_scale():
    states = np.linspace(0.1, 0.9, 12)
    figure = plot_tissue(states, Sheet(3, 4), walls=False)
    assert len(figure.axes) == 2 and not drawn(figure, LineCollection)
    (cells,) = drawn(figure, PolyCollection)
    assert cells.get_cmap().name == STATE_COLOURS and cells.get_clim() == (0.0, 1.0)
    np.testing.assert_allclose(cells.get_array(), states)
    figure, axes = new_figure(2)
    assert plot_tissue(states, Sheet(3, 4), with_scale=False, ax=axes[1]) is figure and len(figure.axes) == 2


@pytest.mark.bad_input
def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"must know the positions .* Graph\(\.\.\., positions=\.\.\.\)"):
        plot_tissue(np.array([0, 1, 0, 1]), Graph(oracles.STAR))
    with pytest.raises(ValueError, match="as many cells as the patterns, 3, got 5"):
        plot_tissue(np.zeros(3), Row(5))
    with pytest.raises(ValueError, match=r"one tissue, got shape \(2, 5\)"):
        plot_tissue(np.zeros((2, 5)), Row(5))
    with pytest.raises(ValueError, match=r"must lie in .* got 2 at .* n_fates=K"):
        plot_tissue(np.array([0, 1, 2]), Row(3))
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 2, got 3 at index \(2,\): say n_fates=4"):
        plot_tissue(np.array([0, 1, 3]), Row(3), n_fates=3)
    with pytest.raises(ValueError, match=r"n_fates must be at most 7, .* got 8"):
        plot_tissue(np.array([0, 1, 3]), Row(3), n_fates=8)
