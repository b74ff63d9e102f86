"""Pictures of tissues in the plane: squares, hexagons, outlines of cells, or points with their contacts."""

import numpy as np
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.patches import Circle

from lateral.checks import check_real, check_unit_interval
from lateral.figure import COLOURS, FATE_COLOURS, STATE_COLOURS, Figure, new_figure
from lateral.geometry import Geometry, check_geometry

__all__ = ["plot_tissue"]


def plot_tissue(
    values, geometry: Geometry, title: str = "", *, walls: bool = True, with_scale: bool = True, ax=None
) -> Figure:
    """One tissue in the plane, each cell in the colour of its fate or state.

    Cells whose outlines the geometry knows (sheets, rows, `voronoi_tissue`) are drawn by them; others are discs with a
    line for each contact, as large as their areas where these are known. y goes downwards, as in images.

    Args:
        values: of the cells of one tissue: fates, exactly 0 or 1, or states in [0, 1].
        geometry: who sees whom, with `positions`.
        walls: mark pairs of neighbours of equal fate, which lateral inhibition tries to avoid, by a line; between
            states, those on the same side of 1/2. Across the seam of a periodic sheet there is no place for it.
        with_scale: with the scale of colours.
    """
    values = np.asarray(check_unit_interval("values", check_real("values", values)), float)
    if values.ndim != 1:
        raise ValueError(f"values must be those of the cells of one tissue, got shape {values.shape}")
    check_geometry("geometry", geometry, len(values))
    if geometry.positions is None:
        raise ValueError("geometry must know the positions of its cells to be drawn: Graph(..., positions=...)")
    places = np.asarray(geometry.positions, float)
    are_fates = bool(np.isin(values, (0.0, 1.0)).all())
    figure, ax = (ax.figure, ax) if ax is not None else new_figure(width=4.6, height=4.0)
    shapes = _outlines(geometry) if geometry.outlines is not None else _discs(geometry, places, ax)
    shapes.set(array=values, cmap=FATE_COLOURS if are_fates else STATE_COLOURS, clim=(0.0, 1.0))
    ax.add_collection(shapes)
    if walls:
        ax.add_collection(_walls(values, geometry, places))
    if with_scale and are_fates:
        for fate in (0, 1):
            ax.plot([], [], "s", color=FATE_COLOURS(fate), markeredgecolor="grey", label=f"fate {fate}")
    elif with_scale:
        figure.colorbar(shapes, ax=ax, label="state s", shrink=0.8)
    if walls:
        ax.plot([], [], color=COLOURS[1], lw=1.8, label="like neighbours")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=8, ncols=3, frameon=False)
    ax.set(title=title, aspect="equal", xticks=[], yticks=[])
    ax.autoscale_view()
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    return figure


def _outlines(geometry: Geometry) -> PolyCollection:
    return PolyCollection([np.asarray(outline) for outline in geometry.outlines], edgecolors="white", linewidths=0.8)


def _discs(geometry: Geometry, places: np.ndarray, ax) -> PatchCollection:
    """Discs, on lines for their contacts."""
    first, second = geometry.pairs.T
    apart = np.hypot(*(places[first] - places[second]).T)
    ax.add_collection(LineCollection(places[geometry.pairs], colors="lightgrey", linewidths=1.0, zorder=0.5))
    usual = 0.3 * (np.median(apart) if len(apart) else 1.0)
    areas = np.full(len(places), np.pi * (usual / 0.7) ** 2) if geometry.areas is None else np.asarray(geometry.areas)
    radii = 0.7 * np.sqrt(areas / np.pi)  # smaller than the cells, so that contacts are seen between them
    discs = [Circle(place, radius) for place, radius in zip(places, radii, strict=True)]
    return PatchCollection(discs, edgecolors="grey", linewidths=0.6)


def _walls(values: np.ndarray, geometry: Geometry, places: np.ndarray) -> LineCollection:
    """A line for each pair of like neighbours: along the edge that they share, or from cell to cell."""
    first, second = geometry.pairs.T
    alike = geometry.pairs[(values[first] >= 0.5) == (values[second] >= 0.5)]
    if geometry.outlines is None:
        lines = [places[pair] for pair in alike]
    else:
        corners = [{tuple(np.round(corner, 5)) for corner in outline} for outline in geometry.outlines]
        shared = [sorted(corners[i] & corners[j]) for i, j in alike]
        lines = [edge for edge in shared if len(edge) == 2]  # across the seam of a periodic sheet there is no edge
    under_discs = 0.8 if geometry.outlines is None else 2.0
    return LineCollection(lines, colors=COLOURS[1], linewidths=1.8, capstyle="round", zorder=under_discs)
