"""Ensembles of tissues of any size whose utility is known: what bounds are held against.

Each is a function `(rng, n_replicates, n_cells) -> Known`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lateral import Graph, Row
from lateral.geometry import Geometry


class Known(NamedTuple):
    """Fates, the geometry that made them, the number of fates, and U in bits per cell by a closed form."""

    fates: np.ndarray
    geometry: Geometry
    utility: float
    n_fates: int = 2


def entropy_bits(*probabilities: float) -> float:
    return -sum(p * math.log2(p) for p in probabilities if p > 0.0)


def coin(p: float) -> float:
    return entropy_bits(p, 1.0 - p)


def square_sheet(rows: int, columns: int) -> Graph:
    """Each cell sees the cells above, below, left and right."""
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    return _sheet(rows, columns, lambda row, column: [(row + i, column + j) for i, j in steps])


def triangular_sheet(rows: int, columns: int) -> Graph:
    """As a square sheet with one diagonal more: six neighbours, as hexagonal cells have, and a pattern of 3 colours."""
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1), (1, -1), (-1, 1))
    return _sheet(rows, columns, lambda row, column: [(row + i, column + j) for i, j in steps])


def _sheet(rows, columns, neighbours):
    def inside(place):
        return 0 <= place[0] < rows and 0 <= place[1] < columns

    cells = [(row, column) for row in range(rows) for column in range(columns)]
    return Graph(tuple(tuple(i * columns + j for i, j in filter(inside, neighbours(*cell))) for cell in cells))


def independent(rng, n_replicates, n_cells, p=0.5):
    return Known((rng.random((n_replicates, n_cells)) < p).astype(int), Row(n_cells), 0.0)


def chain(rng, n_replicates, n_cells, switch=0.1, n_fates=2):
    """A Markov chain along a row that takes another fate with probability `switch`, any of them equally often."""
    steps = rng.integers(1, n_fates, (n_replicates, n_cells)) * (rng.random((n_replicates, n_cells)) < switch)
    steps[:, 0] = rng.integers(0, n_fates, n_replicates)
    of_all = math.log2(n_fates) + (n_cells - 1) * (coin(switch) + switch * math.log2(n_fates - 1))
    fates = np.cumsum(steps, axis=1) % n_fates
    return Known(fates, Row(n_cells), math.log2(n_fates) - of_all / n_cells, n_fates)


def alternating_with_walls(rng, n_replicates, n_cells, density=0.05):
    """Both alternating patterns by a coin; two neighbours are alike with probability `density`."""
    return chain(rng, n_replicates, n_cells, 1.0 - density)


def checkerboards_with_flips(rng, n_replicates, n_cells, flip=0.05):
    """Both checkerboards by a coin on a square sheet, and each cell flipped with probability `flip`."""
    side = math.isqrt(n_cells)
    board = np.add.outer(np.arange(side), np.arange(side)).reshape(-1) % 2
    fates = board ^ rng.integers(0, 2, (n_replicates, 1)) ^ (rng.random((n_replicates, n_cells)) < flip)
    of_all = 0.0  # over the number of cells that agree with one of the boards
    for m in range(n_cells + 1):
        one, other = (k * math.log2(flip) + (n_cells - k) * math.log2(1.0 - flip) for k in (m, n_cells - m))
        log_p = np.logaddexp2(one, other) - 1.0
        of_all -= math.exp(math.lgamma(n_cells + 1) - math.lgamma(m + 1) - math.lgamma(n_cells - m + 1)) * (
            2.0**log_p * log_p
        )
    return Known(fates, square_sheet(side, side), 1.0 - of_all / n_cells)


def frozen(rng, n_replicates, n_cells):
    """One random pattern, always."""
    pattern = rng.integers(0, 2, n_cells)
    return Known(np.tile(pattern, (n_replicates, 1)), Row(n_cells), coin(pattern.mean()))


def frozen_or_random(rng, n_replicates, n_cells, share=0.3):
    """The alternating pattern in a share of the tissues, independent fair cells in the others."""
    is_frozen = rng.random((n_replicates, 1)) < share
    fates = np.where(is_frozen, np.arange(n_cells) % 2, rng.integers(0, 2, (n_replicates, n_cells)))
    rare = (1.0 - share) * 2.0**-n_cells
    often = share + rare
    of_all = -often * math.log2(often) - (1.0 - often) * (math.log2(1.0 - share) - n_cells)
    return Known(fates, Row(n_cells), 1.0 - of_all / n_cells)


def one_of_many(rng, n_replicates, n_cells, n_patterns=1000):
    """One of a thousand random patterns, all different, which no short context tells apart."""
    patterns = np.array(rng.integers(0, 2, (n_patterns, n_cells)))
    assert len(np.unique(patterns, axis=0)) == n_patterns, "give more cells"
    fates = patterns[rng.integers(0, n_patterns, n_replicates)]
    return Known(fates, Row(n_cells), coin(patterns.mean()) - math.log2(n_patterns) / n_cells)


def three_fates(rng, n_replicates, n_cells):
    return chain(rng, n_replicates, n_cells, 0.1, 3)


ENSEMBLES: dict[str, Callable] = {
    "independent fair cells": independent,
    "independent cells, 10 % on": lambda *args: independent(*args, p=0.1),
    "Markov rows": chain,
    "alternating with walls": alternating_with_walls,
    "checkerboards with flips": checkerboards_with_flips,
    "frozen disorder": frozen,
    "frozen or random": frozen_or_random,
    "Markov rows of three fates": three_fates,
    "one of 1,000 patterns": one_of_many,
}
