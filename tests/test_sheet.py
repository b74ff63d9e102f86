"""Sheets: the graphs and rows that they are, their symmetries by trying, their modes by closed forms."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import lateral
from lateral import Graph, Ring, Row, Sheet, TanhInhibition, Tissue, alternation, run_multiple_replicates

SHEETS = {name: geometry for name, geometry in oracles.GEOMETRIES.items() if isinstance(geometry, Sheet)}


@pytest.fixture(params=SHEETS)
def sheet(request):
    return SHEETS[request.param]


def states_of(geometry, **settings):
    settings = dict(n_replicates=11, n_steps=200, dt=0.02, noise_strength=0.3, key=jax.random.key(3)) | settings
    return np.asarray(run_multiple_replicates(TanhInhibition(), geometry=geometry, **settings))


@pytest.mark.slow
def test_a_sheet_is_the_graph_of_the_same_edges_bit_for_bit(sheet, float32):
    graph = Graph([oracles.touching(sheet, cell) for cell in range(sheet.n_cells)])
    np.testing.assert_array_equal(states_of(sheet), states_of(graph))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["square", "hexagonal"])
def test_a_sheet_of_one_row_is_a_row_or_a_ring(kind):
    for sheet, row in ((Sheet(1, 6, kind), Row(6)), (Sheet(1, 6, kind, periodic=True), Ring(6)), (Sheet(6, 1), Row(6))):
        np.testing.assert_allclose(sheet.matrix(), row.matrix())
        np.testing.assert_allclose(states_of(sheet), states_of(row), atol=1e-9)
        assert {tuple(p) for p in sheet.symmetries} == {tuple(p) for p in row.symmetries}
        assert {frozenset(p) for p in sheet.pairs.tolist()} == {frozenset(p) for p in row.pairs.tolist()}


def test_a_checkerboard_alternates_everywhere_and_three_colours_leave_a_third_of_the_pairs_alike():
    """On hexagons three cells that touch pairwise cannot all differ: with one of three colours on, a pair in three is
    alike, and each cell that is off sees three of six on."""
    row, column = np.divmod(np.arange(36), 6)
    for periodic in (False, True):
        board = ((row + column) % 2)[None]
        assert alternation(board, geometry=Sheet(6, 6, periodic=periodic)) == 1.0
    torus = Sheet(6, 6, "hexagonal", periodic=True)
    places = torus.positions
    colour = np.round(places[:, 0] - places[:, 1] / np.sqrt(3.0) + 2.0 * places[:, 1] / np.sqrt(0.75)).astype(int) % 3
    on = (colour == 0).astype(float)
    assert alternation(on[None], geometry=torus) == pytest.approx(2 / 3)
    np.testing.assert_allclose(np.asarray(torus.mean(jnp.asarray(on))), np.where(on == 1.0, 0.0, 0.5))


@pytest.mark.parametrize(
    "sheet",
    [Sheet(2, 3), Sheet(2, 2), Sheet(3, 2, "hexagonal"), Sheet(2, 3, "hexagonal"), Sheet(1, 5, periodic=True)],
    ids=repr,
)
def test_small_sheets_declare_all_their_symmetries(sheet):
    """But for those that no turn or mirror makes: two hexagons in a row, both with the same neighbours."""
    matrix, _ = oracles.dense(sheet)
    cells = itertools.permutations(range(sheet.n_cells))
    all_of_them = {p for p in cells if (matrix[np.ix_(p, p)] == matrix).all()}
    declared = {tuple(p) for p in sheet.symmetries.tolist()}
    assert declared <= all_of_them
    assert declared == all_of_them or sheet.kind == "hexagonal"


@pytest.mark.parametrize(
    ("sheet", "number"),
    [
        (Sheet(4, 5), 4),
        (Sheet(4, 4), 8),
        (Sheet(5, 5, periodic=True), 25 * 8),
        (Sheet(4, 5, periodic=True), 20 * 4),
        (Sheet(3, 4, "hexagonal"), 2),
        (Sheet(4, 4, "hexagonal"), 2),
        (Sheet(6, 5, "hexagonal", periodic=True), 30 * 4),
    ],
    ids=repr,
)
def test_a_sheet_has_the_symmetries_of_its_lattice(sheet, number):
    """Translations times mirror images and turns; a rectangle of hexagons cannot be turned by 60 degrees."""
    assert len(sheet.symmetries) == number
    matrix = sheet.matrix()
    assert all((matrix[np.ix_(p, p)] == matrix).all() for p in sheet.symmetries)
    if sheet.periodic:
        assert set(sheet.symmetries[:, 0]) == set(range(sheet.n_cells)), "every cell takes the place of the first"


def test_neighbours_are_1_apart_and_their_outlines_share_two_corners(sheet):
    sheet = Sheet(sheet.rows, sheet.columns, sheet.kind)  # across a seam they are far apart
    apart = sheet.positions[sheet.pairs[:, 0]] - sheet.positions[sheet.pairs[:, 1]]
    np.testing.assert_allclose(np.hypot(*apart.T), 1.0)
    corners = [{tuple(corner) for corner in np.round(outline, 6).tolist()} for outline in sheet.outlines]
    assert all(len(corners[i] & corners[j]) == 2 for i, j in sheet.pairs)


# --- the modes of the uniform state: a collective property, known without the package


def waves(geometry):
    """Plane waves, all of them, and the mean of a wave over the neighbours of a cell, relative to the cell itself."""
    if isinstance(geometry, Ring):
        k = 2.0 * np.pi * np.arange(geometry.n_cells) / geometry.n_cells
        return k[:, None] * np.arange(geometry.n_cells)[None], np.cos(k)
    place = geometry.positions
    height = 1.0 if geometry.kind == "square" else np.sqrt(3.0) / 2.0
    columns, rows = np.meshgrid(np.arange(geometry.columns), np.arange(geometry.rows))
    kx = 2.0 * np.pi * columns.ravel() / geometry.columns
    ky = 2.0 * np.pi * rows.ravel() / (geometry.rows * height)
    if geometry.kind == "square":
        eigenvalues = (np.cos(kx) + np.cos(ky)) / 2.0
    else:
        half, up = kx / 2.0, ky * height
        eigenvalues = (np.cos(kx) + np.cos(half + up) + np.cos(half - up)) / 3.0
    return kx[:, None] * place[None, :, 0] + ky[:, None] * place[None, :, 1], eigenvalues


@pytest.mark.parametrize("engine", ["table", "reference"])
@pytest.mark.parametrize(
    "geometry",
    [Ring(12), Sheet(6, 5, periodic=True), Sheet(6, 6, "hexagonal", periodic=True)],
    ids=["ring", "square", "hexagonal"],
)
def test_each_mode_of_the_uniform_state_grows_as_linear_stability_says(geometry, engine):
    """At rate f'(1/2) times the eigenvalue of W, for every wave that fits: a state 1/2 + ε wave, simulated without
    noise. An Euler step multiplies it by 1 + rate dt."""
    f, dt, n_steps, epsilon = TanhInhibition(), 1e-3, 50, 1e-5
    slope = float(jax.grad(f)(0.5))
    phases, eigenvalues = waves(geometry)
    start = np.concatenate([np.cos(phases), np.sin(phases + 0.1)])
    quiet = dict(n_steps=n_steps, dt=dt, noise_strength=0.0, n_knots=None, engine=engine, key=jax.random.key(0))
    end = run_multiple_replicates(
        f, geometry=geometry, initial_states=0.5 + epsilon * start, n_replicates=len(start), **quiet
    )
    grown = (np.asarray(end) - 0.5) / epsilon
    expected = np.tile((1.0 + slope * eigenvalues * dt) ** n_steps, 2)
    np.testing.assert_allclose(grown, expected[:, None] * start, atol=1e-7)
    large = np.abs(start) > 0.3
    rates = np.log((grown / np.where(large, start, 1.0))[large]) / (n_steps * dt)
    of_theory = np.repeat(np.tile(slope * eigenvalues, 2), large.sum(axis=1))
    np.testing.assert_allclose(rates, of_theory, atol=0.55 * dt * slope**2)  # log(1 + x) = x - x²/2
    assert slope < -1.0 and expected.max() > 1.05 and expected.min() < 0.9


def test_the_fastest_mode_of_squares_is_a_checkerboard_and_hexagons_are_frustrated():
    """The lowest eigenvalue of W is -1 on squares, and -1/2 on hexagons, where it is that of three colours."""
    squares = waves(Sheet(6, 6, periodic=True))[1]
    hexagons = waves(Sheet(6, 6, "hexagonal", periodic=True))[1]
    assert squares.min() == pytest.approx(-1.0) and hexagons.min() == pytest.approx(-0.5)
    for sheet, expected in ((Sheet(6, 6, periodic=True), squares), (Sheet(6, 6, "hexagonal", periodic=True), hexagons)):
        np.testing.assert_allclose(np.linalg.eigvalsh(sheet.matrix()), np.sort(expected), atol=1e-6)


# --- in the rest of the package


@pytest.mark.slow
def test_a_rule_is_trained_on_a_sheet_saved_loaded_and_evaluated(tmp_path, float32):
    sheet = Sheet(4, 4, "hexagonal", periodic=True)
    model, settings = lateral.preset("score", n_replicates=64, n_steps=40, geometry=sheet)
    short = {"n_candidates": 4, "n_exploration": 2, "n_epochs": 4}
    run = lateral.train_restarts(model, key=jax.random.key(0), **settings | short)
    lateral.save_run(tmp_path / "run.npz", run)
    loaded = lateral.load_run(tmp_path / "run.npz")
    assert loaded.model.geometry == sheet
    x = jnp.linspace(0.0, 1.0, 9)
    np.testing.assert_array_equal(loaded.regulatory_function(x), run.regulatory_function(x))
    with pytest.warns(lateral.UndersampledWarning):
        result = lateral.evaluate(
            loaded.regulatory_function, loaded.model, key=jax.random.key(1), n_replicates=100, noise_strength=0.3
        )
    assert 0.0 <= result.alternation <= 1.0 and np.isfinite(result.utility)


def test_a_sheet_is_no_row_whose_cells_could_be_counted_anew():
    with pytest.raises(ValueError, match="settings of a row, and the geometry is a Sheet"):
        Tissue(geometry=Sheet(3, 3), n_cells=5)
    assert Sheet(3, 3).changed(columns=5) == Sheet(3, 5)
    assert Tissue(geometry=Sheet(3, 3), boundary="ring").geometry == Ring(9)


# A process of its own that may not take more than 2 GiB of memory for its data.
LARGE = """
import resource
import jax, numpy as np
import lateral
resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30, 2 * 2**30))
sheet = lateral.Sheet(100, 100, "hexagonal", periodic=True)
edges = sheet.pairs
assert len(edges) == 30_000
graph = lateral.Graph.from_edges(edges, positions=sheet.positions)
settings = dict(n_replicates=20, n_steps=20, key=jax.random.key(0))
f = lateral.TanhInhibition()
ours, theirs = (lateral.run_multiple_replicates(f, geometry=g, **settings) for g in (sheet, graph))
np.testing.assert_array_equal(ours, theirs)
fates = lateral.apply_threshold(ours)
shares = [float(lateral.alternation(fates, geometry=g)) for g in (sheet, graph)]
assert shares[0] == shares[1] and 0.4 < shares[0] < 0.7
def total(values):
    return lateral.run_multiple_replicates(lateral.Table(values), geometry=sheet, **settings).sum()
assert np.isfinite(jax.grad(total)(lateral.tabulate(f).values)).all()
"""


@pytest.mark.slow
def test_ten_thousand_cells_work_within_2_gib():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


MISTAKES = {
    "two rows closed": (lambda: Sheet(2, 4, periodic=True), "rows = 1 or >= 3, got 2: both neighbours are the same"),
    "two columns closed": (lambda: Sheet(4, 2, "hexagonal", True), "columns = 1 or >= 3, got 2"),
    "shifted against unshifted": (lambda: Sheet(5, 4, "hexagonal", True), "an even number of rows.*got rows = 5"),
    "a closed column": (lambda: Sheet(4, 1, "hexagonal", True), "columns >= 3, got 1"),
    "another shape": (lambda: Sheet(4, 4, "triangular"), "kind must be one of 'square', 'hexagonal'"),
    "half closed": (lambda: Sheet(4, 4, periodic="rows"), "periodic must be True or False"),
    "no row": (lambda: Sheet(0, 4), "rows must be >= 1, got 0"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused(name):
    mistake, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        mistake()
