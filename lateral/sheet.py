"""Sheets of cells: squares with four neighbours, or hexagons with six, with free edges or closed to a torus."""

from functools import lru_cache

import numpy as np

from lateral.fields import choice, flag, settings, size
from lateral.geometry import GEOMETRIES, SQUARE, Geometry, around
from lateral.graph import Slots, weighted_sum

__all__ = ["Sheet"]

# Of a cell in an even and in an odd row, the steps (row, column) to its neighbours.
_FOUR = ((-1, 0), (0, -1), (0, 1), (1, 0))
_STEPS = {
    "square": (_FOUR, _FOUR),
    "hexagonal": (((-1, -1), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 0)),
                  ((-1, 0), (-1, 1), (0, -1), (0, 1), (1, 0), (1, 1))),
}  # fmt: skip
_ROW_HEIGHT = {"square": 1.0, "hexagonal": np.sqrt(0.75)}
_ANGLES = np.pi / 6.0 + np.pi / 3.0 * np.arange(6)
_OUTLINES = {"square": SQUARE, "hexagonal": np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1) / np.sqrt(3.0)}


@settings
class Sheet(Geometry):
    """Rows of cells, of which each sees the mean of its neighbours: four squares, or six hexagons.

    Cells are numbered row by row. Every second row of hexagons (the second, the fourth, ...) is shifted to the right by
    half a cell. At a free edge a cell sees the neighbours that there are, and a lone cell sees 0; a periodic sheet has
    no edge. A sheet of one row is a row, or a ring.
    """

    rows: int = size(6, "rows of cells")
    columns: int = size(6, "cells in a row")
    kind: str = choice("square", "shape of the cells", tuple(_STEPS))
    periodic: bool = flag(False, "whether the last row and column are neighbours of the first")

    def check_together(self):
        if not self.periodic:
            return
        for name, n in (("rows", self.rows), ("columns", self.columns)):
            if n == 2:
                raise ValueError(f"a periodic sheet needs {name} = 1 or >= 3, got 2: both neighbours are the same cell")
        if self.kind == "hexagonal" and self.rows > 1:
            if self.rows % 2:
                raise ValueError(
                    "a periodic sheet of hexagons needs an even number of rows, since every second one is shifted by "
                    f"half a cell, got rows = {self.rows}"
                )
            if self.columns == 1:
                raise ValueError(
                    "a periodic sheet of hexagons needs columns >= 3, got 1: two of its neighbours are the same cell"
                )

    @property
    def n_cells(self) -> int:
        return self.rows * self.columns

    def linear(self, states):
        return weighted_sum(_seen(self.rows, self.columns, self.kind, self.periodic), states)

    def transpose(self, cotangents):
        return weighted_sum(_seen_by(self.rows, self.columns, self.kind, self.periodic), cotangents)

    @property
    def pairs(self):
        neighbours, there = _neighbours(self.rows, self.columns, self.kind, self.periodic)
        pairs = np.stack([np.broadcast_to(np.arange(self.n_cells), there.shape), neighbours], axis=-1)[there]
        return pairs[pairs[:, 0] < pairs[:, 1]]

    @property
    def symmetries(self):
        """All translations of a periodic sheet, mirror images and turns.

        They are `(permutation, cell)`, 32-bit: of a periodic sheet a few times N² numbers.
        """
        row, column = np.divmod(np.arange(self.n_cells), self.columns)
        places = [(row, column), *self._images(row, column)]
        if self.kind == "square" and self.rows == self.columns:
            places += [(column, row) for row, column in places]
        if self.periodic:
            places = [self._moved(*place, down, right) for place in places
                      for down in range(self.rows) for right in range(self.columns)]  # fmt: skip
        found = np.array([row * self.columns + column for row, column in places], np.int32)
        return np.unique(found, axis=0)

    def _images(self, row, column):
        """Mirror images and the half turn."""
        upside_down, from_right = self.rows - 1 - row, self.columns - 1 - column
        if self.kind == "square" or self.rows == 1:
            return [(upside_down, column), (row, from_right), (upside_down, from_right)]
        if not self.periodic:  # the shifted rows must come to lie on shifted rows
            return [(upside_down, column if self.rows % 2 else from_right)]
        down, right = -row % self.rows, (-column - row % 2) % self.columns
        return [(down, column), (row, right), (down, right)]

    def _moved(self, row, column, down: int, right: int):
        extra = (row % 2) * (down % 2) if self.kind == "hexagonal" else 0
        return (row + down) % self.rows, (column + right + extra) % self.columns

    @property
    def positions(self):
        row, column = np.divmod(np.arange(self.n_cells), self.columns)
        shift = 0.5 * (row % 2) if self.kind == "hexagonal" else 0.0
        return np.stack([column + shift, row * _ROW_HEIGHT[self.kind]], axis=1)

    @property
    def outlines(self):
        return around(self.positions, _OUTLINES[self.kind])

    @property
    def period(self):
        return np.array([self.columns, self.rows * _ROW_HEIGHT[self.kind]]) if self.periodic else None


GEOMETRIES["sheet"] = Sheet


@lru_cache(maxsize=16)
def _neighbours(rows: int, columns: int, kind: str, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of each cell in their order, `(slot, cell)`, and which of them there are."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    found, there = [], []
    for even, odd in zip(*_STEPS[kind], strict=True):
        down, right = np.where(row % 2, *np.array([odd, even])[:, :, None])
        to_row, to_column = row + down, column + right
        inside = (to_row >= 0) & (to_row < rows) & (to_column >= 0) & (to_column < columns)
        along = ((down == 0) | (rows > 1)) & ((right == 0) | (columns > 1))  # in one row there is no way down
        there.append(along if periodic else inside)
        found.append((to_row % rows) * columns + to_column % columns)
    found, there = np.array(found), np.array(there)
    order = np.argsort(np.where(there, found, rows * columns), axis=0, kind="stable")
    found, there = (np.take_along_axis(array, order, axis=0) for array in (found, there))
    n_slots = max(1, there.sum(axis=0).max())
    return found[:n_slots], there[:n_slots]


@lru_cache(maxsize=16)
def _seen(rows: int, columns: int, kind: str, periodic: bool) -> Slots:
    found, there = _neighbours(rows, columns, kind, periodic)
    own = np.arange(rows * columns)[None]
    weights = there / np.maximum(there.sum(axis=0), 1)[None]
    return Slots(np.where(there, found, own).astype(np.int32), weights)


@lru_cache(maxsize=16)
def _seen_by(rows: int, columns: int, kind: str, periodic: bool) -> Slots:
    """Neighbours see each other, each with its own weight."""
    cells, weights = _seen(rows, columns, kind, periodic)
    _, there = _neighbours(rows, columns, kind, periodic)
    return Slots(cells, np.where(there, weights.max(axis=0)[cells], 0.0))
