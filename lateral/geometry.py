"""Geometries: which cells are neighbours. The neighbour mean is a linear map of the states, `s̄ = W s + b`.

A geometry is a value that knows this map, its transpose, the pairs of neighbours and the symmetries. Everything else
asks it, so that another tissue is one class with one method:

    @lateral.fields.settings
    class Pair(lateral.Geometry):
        n_cells: int = size(2, "always 2")

        def linear(self, states):          # W s, cells on the first axis, real or complex
            return states[::-1]

W must not depend on traced numbers, b (`offset`) may. Rows of W are not negative, and W s + b stays within [0, 1].
"""

import dataclasses
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import check_number, check_size
from lateral.fields import choice, number, settings, size, value

__all__ = [
    "BOUNDARIES",
    "GEOMETRIES",
    "Geometry",
    "Graph",
    "Pinned",
    "Ring",
    "Row",
    "RowWithEnds",
    "check_geometry",
    "row_with_ends",
]


class Geometry:
    """What all geometries have in common. A subclass has `n_cells` and `linear`; the rest follows, more slowly."""

    kind = "other"
    edge_value: ArrayLike = 0.0

    @property
    def boundary(self) -> str:
        """The name of this kind of geometry; of rows that of their ends."""
        return self.kind

    def linear(self, states: Array) -> Array:
        """`W s` of states with cells on the first axis, real or complex."""
        raise NotImplementedError(f"{type(self).__name__} must define linear(states)")

    def offset(self) -> Array | None:
        """b, one number for each cell, or None where it is 0."""
        return None

    def mean(self, states: Array) -> Array:
        """Neighbour mean `W s + b` of real states with cells on the first axis."""
        seen, offset = self.linear(states), self.offset()
        return seen if offset is None else seen + offset.reshape((-1,) + (1,) * (states.ndim - 1))

    def transpose(self, cotangents: Array) -> Array:
        """`W^T c` of real cotangents with cells on the first axis."""
        return jax.linear_transpose(self.linear, cotangents)(cotangents)[0]

    def matrix(self) -> np.ndarray:
        """W as a dense matrix `(cell, neighbour)`."""
        with jax.ensure_compile_time_eval():
            return np.asarray(self.linear(jnp.eye(self.n_cells)))

    @property
    def pairs(self) -> np.ndarray:
        """Pairs of neighbours, `(pair, 2)`, each pair once; neighbours are cells of which one sees the other."""
        seen = self.matrix() > 0.0
        return np.argwhere(np.triu(seen | seen.T, 1))

    @property
    def symmetries(self) -> np.ndarray:
        """Permutations that leave W as it is, `(permutation, cell)`, the identity first: a group.

        Cell i takes the place of cell `permutation[i]`. Those that change b are told apart where they are used.
        """
        return np.arange(self.n_cells)[None]

    def changed(self, **settings: Any) -> "Geometry":
        """The row with other cells or ends, as `n_cells=`, `boundary=` and `edge_value=` of other functions ask for
        it."""
        if self.kind not in BOUNDARIES and "boundary" not in settings:
            if settings.keys() <= {f.name for f in dataclasses.fields(self)}:
                return dataclasses.replace(self, **settings)
            raise ValueError(
                f"n_cells and edge_value are settings of a row, and the geometry is a {type(self).__name__}: "
                "give geometry=..., or boundary= too"
            )
        now = {"n_cells": self.n_cells, "boundary": self.boundary, "edge_value": self.edge_value}
        return row_with_ends(**now | settings)


@settings
class Row(Geometry):
    """A row with free ends: an edge cell sees its one neighbour. A lone cell sees 0: nothing inhibits it."""

    n_cells: int = size(7, "cells in the row")
    kind = "free"

    def linear(self, states):
        if self.n_cells == 1:
            return jnp.zeros_like(states)
        left = jnp.concatenate([states[1:2], states[:-1]])
        right = jnp.concatenate([states[1:], states[-2:-1]])
        return 0.5 * (left + right)

    def transpose(self, cotangents):
        # An edge cell sees its neighbour with weight 1 instead of 1/2; otherwise seeing is mutual.
        if self.n_cells == 1:
            return jnp.zeros_like(cotangents)
        weights = (
            jnp.ones((self.n_cells, *[1] * (cotangents.ndim - 1)), cotangents.dtype).at[0].set(2.0).at[-1].set(2.0)
        )
        return _between_zeros(weights * cotangents)

    @property
    def pairs(self):
        return np.stack([np.arange(self.n_cells - 1), np.arange(1, self.n_cells)], axis=1)

    @property
    def symmetries(self):
        return _with_mirror_images(np.arange(self.n_cells)[None])


@settings
class Ring(Geometry):
    """A closed row: the first and the last cell are neighbours."""

    n_cells: int = size(7, "cells in the ring, at least 3")
    kind = "ring"

    def check_together(self):
        if self.n_cells < 3:
            raise ValueError(
                f"a ring needs n_cells >= 3, got {self.n_cells}: with fewer, both neighbours are the same cell"
            )

    def linear(self, states):
        return 0.5 * (jnp.roll(states, 1, axis=0) + jnp.roll(states, -1, axis=0))

    def transpose(self, cotangents):
        return self.linear(cotangents)

    @property
    def pairs(self):
        cells = np.arange(self.n_cells)
        return np.stack([cells, (cells + 1) % self.n_cells], axis=1)

    @property
    def symmetries(self):
        cells = np.arange(self.n_cells)
        return _with_mirror_images((cells[:, None] + cells[None]) % self.n_cells)


@settings
class Pinned(Geometry):
    """A row between two ghost cells of fixed state, which only its ends see."""

    n_cells: int = size(7, "cells in the row")
    left: ArrayLike = number(0.0, "state of the ghost left of the first cell", minimum=0.0, maximum=1.0)
    right: ArrayLike = number(0.0, "state of the ghost right of the last cell", minimum=0.0, maximum=1.0)
    kind = "pinned"

    @property
    def edge_value(self):
        """State of both ghosts, of a row whose two ends are alike."""
        return self.left

    def linear(self, states):
        return _between_zeros(states)

    def transpose(self, cotangents):
        return _between_zeros(cotangents)

    def offset(self):
        seen = jnp.zeros(self.n_cells)
        return seen.at[0].add(0.5 * self.left).at[-1].add(0.5 * self.right)

    @property
    def pairs(self):
        return Row(self.n_cells).pairs

    @property
    def symmetries(self):
        return Row(self.n_cells).symmetries


def _neighbour_lists(name: str, lists) -> tuple[tuple[int, ...], ...]:
    try:
        lists = tuple(tuple(int(check_size("neighbour", cell, 0)) for cell in cells) for cells in lists)
    except TypeError:
        raise ValueError(f"{name} must hold one list of cell numbers for each cell, got {lists!r}") from None
    if not lists:
        raise ValueError(f"{name} must hold a list for at least one cell, got none")
    for cell, cells in enumerate(lists):
        wrong = [other for other in cells if other >= len(lists) or other == cell or cells.count(other) > 1]
        if wrong:
            raise ValueError(
                f"{name}[{cell}] must name other cells from 0 to {len(lists) - 1}, each once, got {list(cells)}"
            )
    return lists


def _neighbour_weights(name: str, lists):
    if lists is None:
        return None
    checked = tuple(
        tuple(float(check_number(f"{name}[{cell}]", w, minimum=0.0)) for w in ws) for cell, ws in enumerate(lists)
    )
    for cell, ws in enumerate(checked):
        if sum(ws) > 1.0 + 1e-6:
            raise ValueError(f"{name}[{cell}] must add up to at most 1, so that s̄ stays in [0, 1], got {sum(ws):g}")
    return checked


@settings
class Graph(Geometry):
    """Any tissue, by the list of neighbours that each cell sees; a cell without neighbours sees 0.

    Seeing need not be mutual.
    """

    neighbours: tuple = value((), "for each cell the numbers of the cells that it sees", _neighbour_lists, static=True)
    weights: tuple | None = value(
        None,
        "for each cell the weights with which it sees them, not negative and at most 1 together; None for the mean",
        _neighbour_weights,
        static=True,
    )
    kind = "graph"

    def check_together(self):
        lengths = [len(cells) for cells in self.neighbours]
        if self.weights is not None and [len(ws) for ws in self.weights] != lengths:
            raise ValueError(
                f"weights must hold one weight for each neighbour, {lengths}, got {[len(ws) for ws in self.weights]}"
            )

    @property
    def n_cells(self) -> int:
        return len(self.neighbours)

    def linear(self, states):
        return _gather(_padded(self.neighbours, self._all_weights()), states)

    def transpose(self, cotangents):
        seen_by = [[] for _ in self.neighbours]
        for cell, (cells, ws) in enumerate(zip(self.neighbours, self._all_weights(), strict=True)):
            for other, w in zip(cells, ws, strict=True):
                seen_by[other].append((cell, w))
        cells, weights = (tuple(tuple(pair[i] for pair in pairs) for pairs in seen_by) for i in (0, 1))
        return _gather(_padded(cells, weights), cotangents)

    @property
    def pairs(self):
        seen = {(min(i, j), max(i, j)) for i, cells in enumerate(self.neighbours) for j in cells}
        return np.array(sorted(seen), int).reshape(-1, 2)

    def _all_weights(self):
        return self.weights or tuple(tuple(1.0 / len(cells) for _ in cells) for cells in self.neighbours)


GEOMETRIES = {geometry.kind: geometry for geometry in (Row, Ring, Pinned, Graph)}
# What `boundary=`, the name of the ends of a row, stands for.
BOUNDARIES = {
    "free": lambda n_cells, edge_value: Row(n_cells),
    "ring": lambda n_cells, edge_value: Ring(n_cells),
    "pinned": lambda n_cells, edge_value: Pinned(n_cells, edge_value, edge_value),
}


@settings
class RowWithEnds:
    """A row by the names of its settings, as they may be given instead of a geometry."""

    n_cells: int = size(7, "cells in the row")
    boundary: str = choice("free", "ends of the row", BOUNDARIES)
    edge_value: ArrayLike = number(0.0, "state of the ghosts beside a pinned row", minimum=0.0, maximum=1.0)

    @property
    def geometry(self) -> Geometry:
        """The geometry that is meant. Only pinned ends have ghosts."""
        return BOUNDARIES[self.boundary](self.n_cells, self.edge_value)


def row_with_ends(n_cells: int, boundary: str = "free", edge_value: ArrayLike = 0.0) -> Geometry:
    """The geometry of a row with ends `"free"`, `"ring"`, or `"pinned"` by ghosts of state `edge_value`."""
    return RowWithEnds(n_cells, boundary, edge_value).geometry


def check_geometry(name: str, geometry, n_cells: int | None = None) -> Geometry:
    """A geometry, of so many cells where the number is known."""
    if not isinstance(geometry, Geometry):
        raise ValueError(f"{name} must be a geometry such as lateral.Row(7), got {geometry!r}")
    if jax.tree.leaves(geometry) == [geometry]:
        raise ValueError(
            f"{name} must be a pytree: decorate the class {type(geometry).__name__} with lateral.fields.settings"
        )
    if n_cells is not None and geometry.n_cells != n_cells:
        raise ValueError(f"{name} must have as many cells as the patterns, {n_cells}, got {geometry.n_cells}")
    return geometry


def _between_zeros(states: Array) -> Array:
    """Half of both neighbours, with 0 beyond the ends."""
    zero = jnp.zeros_like(states[:1])
    return 0.5 * (jnp.concatenate([zero, states[:-1]]) + jnp.concatenate([states[1:], zero]))


def _with_mirror_images(permutations: np.ndarray) -> np.ndarray:
    return np.unique(np.concatenate([permutations, permutations[:, ::-1]]), axis=0)


@lru_cache(maxsize=16)
def _padded(neighbours: tuple, weights: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Lists of equal length, `(slot, cell)`; a slot that is not taken has weight 0."""
    n_slots = max(1, *map(len, neighbours)) if len(neighbours) > 1 else 1
    cells = np.zeros((n_slots, len(neighbours)), np.int32)
    padded = np.zeros((n_slots, len(neighbours)))
    for cell, (some, ws) in enumerate(zip(neighbours, weights, strict=True)):
        cells[: len(some), cell], padded[: len(ws), cell] = some, ws
    return cells, padded


def _gather(lists: tuple[np.ndarray, np.ndarray], states: Array) -> Array:
    total = jnp.zeros_like(states)
    for cells, weights in zip(*lists, strict=True):
        column = jnp.asarray(weights, states.dtype).reshape((-1,) + (1,) * (states.ndim - 1))
        total = total + column * states[cells]
    return total
