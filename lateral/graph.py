"""Tissues by their neighbours: lists, edges, or a matrix of contacts, with names and places of the cells for drawing.

What a cell sees is a weighted sum of a few rows of the states, so that one gather for each place in the lists of
neighbours is all there is to compute; W as a dense matrix is never made.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lateral.checks import check_choice, check_number, check_size
from lateral.fields import settings, value
from lateral.geometry import GEOMETRIES, Geometry

__all__ = ["NORMALISATIONS", "Graph", "Slots", "checked_edges", "lists_of_edges", "normalised", "slots", "weighted_sum"]


class Slots(NamedTuple):
    """Lists of neighbours as arrays of equal length, `(slot, cell)`; what is not taken has weight 0."""

    cells: np.ndarray
    weights: np.ndarray


def weighted_sum(lists: Slots, states: Array) -> Array:
    """What cells see of states with cells on the first axis, real or complex."""
    states, total = jnp.asarray(states), None
    for cells, weights in zip(*lists, strict=True):
        column = jnp.asarray(weights, states.dtype).reshape((-1,) + (1,) * (states.ndim - 1))
        seen = column * states.at[cells].get(mode="promise_in_bounds", wrap_negative_indices=False)
        total = seen if total is None else total + seen
    return total


def slots(receivers: np.ndarray, senders: np.ndarray, weights: np.ndarray, n_cells: int) -> Slots:
    """Lists of who sees whom: each receiver sees its senders in the order in which they are given."""
    order = np.argsort(receivers, kind="stable")
    receivers, senders, weights = receivers[order], senders[order], weights[order]
    counts = np.bincount(receivers, minlength=n_cells)
    slot = np.arange(len(receivers)) - np.repeat(np.cumsum(counts) - counts, counts)
    # A place that is not taken holds the cell itself: a state that is not finite stays where it is.
    cells = np.tile(np.arange(n_cells, dtype=np.int32), (max(1, counts.max()), 1))
    kept = np.zeros(cells.shape)
    cells[slot, receivers], kept[slot, receivers] = senders, weights
    return Slots(cells, kept)


class _Hashed(tuple):
    """A tuple that is hashed once: JAX hashes what is static at each call, and a tissue may have 10,000 cells."""

    def __hash__(self):
        if not hasattr(self, "_hash"):
            self._hash = super().__hash__()
        return self._hash

    def __eq__(self, other):
        return self is other or super().__eq__(other)

    def __ne__(self, other):
        return not self == other


def _neighbour_lists(name: str, lists) -> tuple[tuple[int, ...], ...]:
    try:
        lists = _Hashed(tuple(int(check_size("neighbour", cell, 0)) for cell in cells) for cells in lists)
    except TypeError:
        raise ValueError(f"{name} must hold one list of cell numbers for each cell, got {lists!r}") from None
    if not lists:
        raise ValueError(f"{name} must hold a list for at least one cell, got none")
    for cell, cells in enumerate(lists):
        if cell in cells or max(cells, default=0) >= len(lists) or len(set(cells)) < len(cells):
            raise ValueError(
                f"{name}[{cell}] must name other cells from 0 to {len(lists) - 1}, each once, got {list(cells)}"
            )
    return lists


def _neighbour_weights(name: str, lists):
    if lists is None:
        return None
    checked = _Hashed(
        tuple(float(check_number(f"{name}[{cell}]", w, minimum=0.0)) for w in ws) for cell, ws in enumerate(lists)
    )
    for cell, ws in enumerate(checked):
        if math.fsum(ws) > 1.0 + 1e-6:
            raise ValueError(
                f"{name}[{cell}] must add up to at most 1, so that s̄ stays in [0, 1], got {math.fsum(ws):g}"
            )
    return checked


def _names(name: str, names):
    if names is None:
        return None
    checked = _Hashed(map(str, names))
    if len(set(checked)) < len(checked):
        twice = next(entry for entry in checked if checked.count(entry) > 1)
        raise ValueError(f"{name} must differ, got {twice!r} twice")
    return checked


def _places(name: str, values):
    return None if values is None else _Hashed(tuple(map(float, _finite(name, row, (2,)))) for row in values)


def _areas(name: str, values):
    if values is None:
        return None
    areas = _finite(name, values, (len(values),))
    if (areas < 0.0).any():
        raise ValueError(f"{name} must be >= 0, got {areas.min():g}")
    return _Hashed(map(float, areas))


def _outlines(name: str, values):
    if values is None:
        return None
    corners = [_finite(f"{name}[{cell}]", outline, (len(outline), 2)) for cell, outline in enumerate(values)]
    return _Hashed(tuple(map(tuple, outline.tolist())) for outline in corners)


def _finite(name: str, values, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold numbers, got {values!r:.80}") from None
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers of shape {shape}, got {values!r:.80}")
    return array


@settings
class Graph(Geometry):
    """Any tissue, by the list of neighbours that each cell sees; a cell without neighbours sees 0.

    Seeing need not be mutual. The numbers for drawing take no part in a simulation.
    """

    neighbours: tuple = value((), "for each cell the numbers of the cells that it sees", _neighbour_lists, static=True)
    weights: tuple | None = value(
        None,
        "for each cell the weights with which it sees them, not negative and at most 1 together; None for the mean",
        _neighbour_weights,
        static=True,
    )
    positions: tuple | None = value(
        None, "for each cell its place (x, y), with y downwards as in images", _places, static=True
    )
    names: tuple | None = value(None, "for each cell its name", _names, static=True)
    areas: tuple | None = value(None, "for each cell its area", _areas, static=True)
    outlines: tuple | None = value(None, "for each cell the corners (x, y) of its outline", _outlines, static=True)
    kind = "graph"

    def check_together(self):
        lengths = [len(cells) for cells in self.neighbours]
        if self.weights is not None and [len(ws) for ws in self.weights] != lengths:
            raise ValueError(
                f"weights must hold one weight for each neighbour, {lengths}, got {[len(ws) for ws in self.weights]}"
            )
        for name in ("positions", "names", "areas", "outlines"):
            values = getattr(self, name)
            if values is not None and len(values) != self.n_cells:
                raise ValueError(f"{name} must hold one entry for each of {self.n_cells} cells, got {len(values)}")

    @classmethod
    def from_edges(
        cls,
        edges: Any,
        n_cells: int | None = None,
        weights: Any = None,
        *,
        normalise: str = "rows",
        one_way: bool = False,
        **drawn: Any,
    ) -> "Graph":
        """The tissue of a list of contacts.

        Args:
            edges: pairs of cell numbers, `(edge, 2)`: each contact once, or each both ways, from the cell that sees to
                the cell that it sees.
            n_cells: cells; by default up to the largest number.
            weights: of each edge, such as the length of the contact; None for the mean of the neighbours.
            normalise: `"rows"`: the weights of each cell add up to 1; `"largest"`: all are divided by the largest sum
                of any cell, so that a cell with little contact sees little; `"none"`: they stay as they are.
            one_way: take the edges as they are: a cell need not be seen by those that it sees.
            **drawn: `positions`, `names`, `areas` and `outlines` of the cells.

        Raises:
            ValueError: for an unknown cell, a cell that sees itself, an edge that is there twice, a negative weight, or
                some contacts with and some without their opposite.
        """
        edges = np.asarray(edges)
        if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
            raise ValueError(f"edges must hold whole numbers, (edge, 2), got {edges.dtype} of shape {edges.shape}")
        n_cells = check_size("n_cells", int(edges.max(initial=0)) + 1 if n_cells is None else n_cells)
        given = np.ones(len(edges)) if weights is None else _finite("weights", weights, (len(edges),))
        edges, given = checked_edges(edges, given, n_cells, one_way)
        neighbours, lists = lists_of_edges(edges, given, n_cells)
        return cls(neighbours, None if weights is None else normalised(lists, normalise), **drawn)

    @classmethod
    def from_matrix(cls, matrix: Any, *, normalise: str = "rows", **drawn: Any) -> "Graph":
        """The tissue of a dense matrix `(cell, neighbour)` of contacts, 0 where there is none.

        The arguments are those of `from_edges`; the matrix need not be symmetric.
        """
        matrix = np.asarray(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "biuf":
            raise ValueError(f"matrix must hold real numbers, (cell, cell), got {matrix.dtype} of shape {matrix.shape}")
        edges = np.argwhere(matrix != 0)
        return cls.from_edges(
            edges.reshape(-1, 2), len(matrix), matrix[tuple(edges.T)], normalise=normalise, one_way=True, **drawn
        )

    @property
    def n_cells(self) -> int:
        return len(self.neighbours)

    def linear(self, states):
        return weighted_sum(_seen(self.neighbours, self.weights), states)

    def transpose(self, cotangents):
        return weighted_sum(_seen_by(self.neighbours, self.weights), cotangents)

    def matrix(self):
        matrix = np.zeros((self.n_cells, self.n_cells))
        receivers, senders, weights = _flat(self.neighbours, self.weights)
        matrix[receivers, senders] = weights
        return matrix

    @property
    def pairs(self):
        receivers, senders, weights = _flat(self.neighbours, self.weights)
        pairs = np.sort(np.stack([receivers, senders], axis=1)[weights > 0.0], axis=1)
        return np.unique(pairs, axis=0)


GEOMETRIES["graph"] = Graph


def _by_largest(sums: np.ndarray) -> np.ndarray:
    return np.full_like(sums, sums.max(initial=0.0))


# What the weights of each cell are divided by, given their sums.
NORMALISATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": lambda sums: sums,
    "largest": _by_largest,
    "none": np.ones_like,
}


def normalised(lists: tuple[tuple[float, ...], ...], how: str) -> tuple[tuple[float, ...], ...]:
    """Weights of each cell, divided as `Graph.from_edges` says."""
    sums = np.array([math.fsum(ws) for ws in lists])
    if how == "none" and sums.max(initial=0.0) > 1.0 + 1e-6:
        raise ValueError(
            f"the weights of cell {sums.argmax()} add up to {sums.max():g}, so that s̄ would leave [0, 1]: "
            'use normalise="rows" or "largest"'
        )
    by = NORMALISATIONS[check_choice("normalise", how, NORMALISATIONS)](sums)
    return tuple(tuple(w / total for w in ws) for ws, total in zip(lists, by.tolist(), strict=True))


def checked_edges(
    edges: np.ndarray,
    weights: np.ndarray,
    n_cells: int,
    one_way: bool,
    place: Callable[[int], str] = "edges[{}]".format,
    name: Callable[[int], Any] = str,
) -> tuple[np.ndarray, np.ndarray]:
    """Edges from receiver to sender with their weights; contacts that are there once are taken both ways.

    `place` says where an edge stands and `name` what a cell is called, for messages. Edges of weight 0 are none.
    """
    first = {}
    for k, ((i, j), w) in enumerate(zip(edges.tolist(), weights.tolist(), strict=True)):
        for cell in (i, j):
            if not 0 <= cell < n_cells:
                raise ValueError(f"{place(k)}: cells are numbered from 0 to {n_cells - 1}, got {cell}")
        if i == j:
            raise ValueError(f"{place(k)}: cell {name(i)} cannot be its own neighbour")
        if w < 0.0:
            raise ValueError(f"{place(k)}: a weight must be >= 0, got {w:g}")
        if (i, j) in first:
            raise ValueError(f"{place(k)}: {name(i)} and {name(j)} are already in {place(first[i, j])}")
        first[i, j] = k
    taken = {edge: k for edge, k in first.items() if weights[k] > 0.0}
    if not one_way:
        alone = [edge for edge in taken if edge[::-1] not in taken]
        if len(alone) == len(taken):
            edges, weights = np.concatenate([edges, edges[:, ::-1]]), np.concatenate([weights, weights])
        elif alone:
            i, j = alone[0]
            raise ValueError(
                f"{place(taken[i, j])}: {name(i)} sees {name(j)}, but not the other way round, while other contacts "
                "are there both ways: add what is missing, or say one_way=True"
            )
    return edges[weights > 0.0], weights[weights > 0.0]


def lists_of_edges(edges: np.ndarray, weights: np.ndarray, n_cells: int) -> tuple[tuple, tuple]:
    """Neighbours of each cell in their order, and their weights."""
    order = np.lexsort(edges.T[::-1])
    edges, weights = edges[order], weights[order]
    ends = np.cumsum(np.bincount(edges[:, 0], minlength=n_cells))[:-1]
    return tuple(tuple(tuple(part.tolist()) for part in np.split(flat, ends)) for flat in (edges[:, 1], weights))


@lru_cache(maxsize=16)
def _flat(neighbours: tuple, weights: tuple | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who sees whom, and with which weight."""
    lengths = np.array([len(cells) for cells in neighbours])
    senders = np.fromiter((cell for cells in neighbours for cell in cells), np.int32)
    if weights is None:
        flat = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
    else:
        flat = np.fromiter((w for ws in weights for w in ws), float)
    return np.repeat(np.arange(len(neighbours)), lengths), senders, flat


@lru_cache(maxsize=16)
def _seen(neighbours: tuple, weights: tuple | None) -> Slots:
    return slots(*_flat(neighbours, weights), len(neighbours))


@lru_cache(maxsize=16)
def _seen_by(neighbours: tuple, weights: tuple | None) -> Slots:
    receivers, senders, flat = _flat(neighbours, weights)
    return slots(senders, receivers, flat, len(neighbours))
