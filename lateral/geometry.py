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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.fields import choice, number, settings, size

__all__ = [
    "BOUNDARIES",
    "GEOMETRIES",
    "SQUARE",
    "Geometry",
    "Pinned",
    "Ring",
    "Row",
    "RowWithEnds",
    "around",
    "check_geometry",
    "row_with_ends",
]

# Corners of the outline of a cell around its place.
SQUARE = 0.5 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


class Geometry:
    """What all geometries have in common. A subclass has `n_cells` and `linear`; the rest follows, more slowly."""

    kind = "other"
    edge_value: ArrayLike = 0.0
    # For drawing, where a geometry knows them: for each cell its name, its place (x, y), with y downwards as in images,
    # its area, and the corners of its outline; and after which (x, y) a tissue closed to a torus repeats.
    names: Any = None
    positions: Any = None
    areas: Any = None
    outlines: Any = None
    period: Any = None

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

    @property
    def positions(self):
        return np.stack([np.arange(self.n_cells), np.zeros(self.n_cells)], axis=1)

    @property
    def outlines(self):
        return around(self.positions, SQUARE)


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

    @property
    def positions(self):
        """On a circle, on which neighbours are 1 apart."""
        angles = 2.0 * np.pi * np.arange(self.n_cells) / self.n_cells
        radius = 0.5 / np.sin(np.pi / self.n_cells)
        return radius * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


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

    @property
    def positions(self):
        return Row(self.n_cells).positions

    @property
    def outlines(self):
        return Row(self.n_cells).outlines


# By name, as run files know them; `lateral.sheet` and `lateral.graph` add theirs.
GEOMETRIES = {geometry.kind: geometry for geometry in (Row, Ring, Pinned)}
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


def around(positions: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The same outline around each position, `(cell, corner, 2)`."""
    return positions[:, None] + corners[None]


def _between_zeros(states: Array) -> Array:
    """Half of both neighbours, with 0 beyond the ends."""
    zero = jnp.zeros_like(states[:1])
    return 0.5 * (jnp.concatenate([zero, states[:-1]]) + jnp.concatenate([states[1:], zero]))


def _with_mirror_images(permutations: np.ndarray) -> np.ndarray:
    return np.unique(np.concatenate([permutations, permutations[:, ::-1]]), axis=0)
