"""Tissues like those under a microscope: the Voronoi cells of random points, which share edges of unequal lengths."""

import jax
import numpy as np

from lateral.checks import check_key, check_size
from lateral.graph import Graph

__all__ = ["voronoi_tissue"]


def voronoi_tissue(n_cells: int, *, key: jax.Array, relaxed: int = 2, normalise: str = "rows") -> Graph:
    """Voronoi cells of random points in the unit square; neighbours share an edge, and its length is their weight.

    Cells are numbered in bands from left to right, so that neighbours have numbers close to each other. The graph
    knows the places, areas and outlines of the cells.

    Args:
        n_cells: cells, at least 3.
        key: random key of the points.
        relaxed: steps of Lloyd (1982), each of which moves the points to the centres of their cells: with more of them
            the cells become more alike, nearly all of them hexagons.
        normalise: what becomes of the lengths, see `lateral.Graph.from_edges`.
    """
    n_cells = check_size("n_cells", n_cells, 3)
    relaxed = check_size("relaxed", relaxed, 0)
    points = np.asarray(jax.random.uniform(check_key(key), (n_cells, 2), np.float32), float)
    for _ in range(relaxed):
        points = np.array([_centre(outline) for outline in _cells(points)[0]])
    band = np.floor(points[:, 1] * max(1, round(n_cells**0.5)))
    points = points[np.lexsort((points[:, 0], band))]
    outlines, edges, lengths = _cells(points)
    areas = [_area(outline) for outline in outlines]
    drawn = {"positions": points.round(6), "areas": np.round(areas, 9), "outlines": [o.round(6) for o in outlines]}
    return Graph.from_edges(edges, n_cells, lengths, normalise=normalise, **drawn)


def _cells(points: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Outlines within the square, pairs of cells that share an edge, and the length of it.

    The mirror images of all points beyond the four sides make the sides edges of the Voronoi cells.
    """
    from scipy.spatial import Voronoi  # takes long to import, and few need it; JAX depends on SciPy

    x, y = points.T
    images = [points, *(np.stack(place, axis=1) for place in ((-x, y), (2.0 - x, y), (x, -y), (x, 2.0 - y)))]
    diagram = Voronoi(np.concatenate(images))
    corners = np.clip(diagram.vertices, 0.0, 1.0)
    outlines = []
    for cell, centre in enumerate(points):
        outline = corners[diagram.regions[diagram.point_region[cell]]]
        outlines.append(outline[np.argsort(np.arctan2(*(outline - centre[None])[:, ::-1].T))])
    inside = (diagram.ridge_points < len(points)).all(axis=1)
    ends = corners[np.array([edge for edge, kept in zip(diagram.ridge_vertices, inside, strict=True) if kept])]
    lengths = np.hypot(*(ends[:, 0] - ends[:, 1]).T)
    touching = lengths > 1e-9  # four cells may meet in a point
    return outlines, np.sort(diagram.ridge_points[inside][touching], axis=1), lengths[touching]


def _area(outline: np.ndarray) -> float:
    """By the shoelace formula."""
    x, y = outline.T
    return 0.5 * abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)))


def _centre(outline: np.ndarray) -> np.ndarray:
    """Centre of mass."""
    after = np.roll(outline, -1, axis=0)
    pieces = outline[:, 0] * after[:, 1] - after[:, 0] * outline[:, 1]
    return ((outline + after) * pieces[:, None]).sum(axis=0) / (3.0 * pieces.sum())
