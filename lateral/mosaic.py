"""Pictures of tissues in the plane: squares, hexagons, outlines of cells, or points with their contacts."""

import numpy as np
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.patches import Circle

from lateral.checks import check_fates, check_real, check_unit_interval
from lateral.figure import COLOURS, STATE_COLOURS, Figure, fate_colours, new_figure
from lateral.geometry import Geometry, check_geometry

__all__ = ["Mosaic", "contact_lines", "disc_radii", "plot_mosaic", "plot_tissue"]


def plot_tissue(
    values,
    geometry: Geometry,
    title: str = "",
    *,
    n_fates: int = 2,
    walls: bool = True,
    with_scale: bool = True,
    ax=None,
) -> Figure:
    """One tissue in the plane, each cell in the colour of its fate or state.

    Cells whose outlines the geometry knows (sheets, rows, `voronoi_tissue`) are drawn by them; others are discs with a
    line for each contact, as large as their areas where these are known. y goes downwards, as in images.

    Args:
        values: `(cell,)` of one tissue: fates, exactly 0 or 1, or states in [0, 1].
        geometry: who sees whom, with `positions`.
        n_fates: number of fates K, at most 7; with more than two, values are fates, whole numbers from 0 to K - 1.
        walls: mark pairs of neighbours of equal fate, which lateral inhibition tries to avoid, by a line; between
            states, those on the same side of 1/2. Across the seam of a periodic sheet, the pair has a line at both ends
            of the seam.
        with_scale: with the scale of colours.

    Raises:
        ValueError: for values that are neither fates nor states, or a geometry of another size or without positions.
    """
    if np.ndim(values) != 1:
        raise ValueError(f"values must be those of the cells of one tissue, got shape {np.shape(values)}")
    return plot_mosaic(values, geometry, title, n_fates=n_fates, walls=walls, with_scale=with_scale, ax=ax)[0]


def plot_mosaic(
    values, geometry: Geometry, title: str = "", *, n_fates: int = 2, walls: bool, with_scale: bool, ax=None
) -> tuple[Figure, "Mosaic"]:
    """`plot_tissue` of the first of several tissues `(..., cell)`, with what can show the others in its place."""
    colours = fate_colours(n_fates)
    values = check_real("values", values)
    hint = ": with K > 2 fates, say n_fates=K"
    values = check_unit_interval("values", values, hint) if n_fates == 2 else check_fates("values", values, n_fates)
    values = np.asarray(values, float)
    check_geometry("geometry", geometry, values.shape[-1])
    if geometry.positions is None:
        raise ValueError("geometry must know the positions of its cells to be drawn: Graph(..., positions=...)")
    are_fates = n_fates > 2 or bool(np.isin(values, (0.0, 1.0)).all())
    figure, ax = (ax.figure, ax) if ax is not None else new_figure(width=4.6, height=4.0)
    mosaic = Mosaic(geometry, ax, n_fates if are_fates else None, walls=walls)
    mosaic.show(values.reshape(-1, values.shape[-1])[0])
    if with_scale and are_fates:
        for fate in range(n_fates):
            ax.plot([], [], "s", color=colours(fate), markeredgecolor="grey", label=f"fate {fate}")
    elif with_scale:
        figure.colorbar(mosaic.shapes, ax=ax, label="state s", shrink=0.8)
    if walls:
        ax.plot([], [], color=COLOURS[1], lw=1.8, label="like neighbours")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=8, ncols=3, frameon=False)
    ax.set(title=title, aspect="equal", xticks=[], yticks=[])
    ax.autoscale_view()
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    return figure, mosaic


class Mosaic:
    """The cells of a tissue as artists on axes, to show one pattern after another.

    Args:
        geometry: with positions.
        ax: where to draw.
        n_fates: of patterns of fates; None for states in [0, 1].
        walls: mark like neighbours.
    """

    def __init__(self, geometry: Geometry, ax, n_fates: int | None = None, *, walls: bool = True):
        places = np.asarray(geometry.positions, float)
        self.pairs, self.lines = contact_lines(geometry)
        self._of_states = n_fates in (None, 2)
        thin = min(1.0, 12.0 / len(places) ** 0.5)  # lines in a large tissue
        if geometry.outlines is not None:
            outlines = [np.asarray(outline) for outline in geometry.outlines]
            self.shapes = PolyCollection(outlines, edgecolors="white", linewidths=0.8 * thin)
        else:
            discs = [Circle(*disc) for disc in zip(places, disc_radii(geometry), strict=True)]
            self.shapes = PatchCollection(discs, edgecolors="grey", linewidths=0.6 * thin)
            ax.add_collection(LineCollection(self.lines, colors="lightgrey", linewidths=1.0, zorder=0.5))
        self.shapes.set(
            cmap=STATE_COLOURS if n_fates is None else fate_colours(n_fates), clim=(0.0, (n_fates or 2) - 1.0)
        )
        ax.add_collection(self.shapes)
        under_discs = 0.8 if geometry.outlines is None else 2.0
        style = {"linewidths": 1.8 * thin, "capstyle": "round", "zorder": under_discs}
        self.walls = LineCollection([], colors=COLOURS[1], **style)
        if walls:
            ax.add_collection(self.walls)

    def show(self, values) -> None:
        """Fates or states of the cells, `(cell,)`."""
        values = np.asarray(values)
        first, second = (values >= 0.5 if self._of_states else values)[self.pairs.T]
        self.shapes.set_array(values)
        self.walls.set_segments(self.lines[first == second])


def contact_lines(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Where neighbours touch: along the edges that they share, or from place to place where outlines are not known.

    A pair that touches across the seam of a periodic tissue has a line at each end of the seam, and one whose outlines
    share no edge has none.

    Returns:
        The two cells of each line, `(line, 2)`, and its ends (x, y), `(line, 2, 2)`.
    """
    pairs = geometry.pairs
    if geometry.outlines is None:
        return pairs, np.asarray(geometry.positions, float)[pairs]
    outlines = [np.asarray(outline, float) for outline in geometry.outlines]
    owners = np.repeat(np.arange(len(outlines)), [len(outline) for outline in outlines])
    edges = np.concatenate([np.stack([o, np.concatenate([o[1:], o[:1]])], axis=1) for o in outlines])
    middles = edges.mean(axis=1)
    size = np.ptp(edges.reshape(-1, 2), axis=0).max()
    at = middles
    if geometry.period is not None:
        period = np.asarray(geometry.period)[None]
        at = middles - period * np.floor(middles / period + 1e-6)
    # Two cells share an edge if both have one with this middle.
    edge_of = np.unique(np.round(1e6 * at / size).astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(edge_of, kind="stable")
    met = np.flatnonzero(np.diff(edge_of[order]) == 0)
    first, second = order[met], order[met + 1]
    here, there = np.sort(owners[[first, second]], axis=0), np.abs(middles[first] - middles[second]).max(axis=1)
    known = np.isin(here[0] * len(outlines) + here[1], np.sort(pairs, axis=1) @ [len(outlines), 1])
    apart = known & (there > 1e-5 * size)
    cells = np.concatenate([here[:, known], here[:, apart]], axis=1).T
    return cells, np.concatenate([edges[first[known]], edges[second[apart]]])


def disc_radii(geometry: Geometry) -> np.ndarray:
    """Radii of the discs of cells without outlines, `(cell,)`: smaller than cells, so that contacts show between."""
    places = np.asarray(geometry.positions, float)
    first, second = geometry.pairs.T
    apart = np.hypot(*(places[first] - places[second]).T)
    usual = 0.3 * (np.median(apart) if len(apart) else 1.0)
    areas = np.full(len(places), np.pi * (usual / 0.7) ** 2) if geometry.areas is None else np.asarray(geometry.areas)
    return 0.7 * np.sqrt(areas / np.pi)
