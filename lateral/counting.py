"""Entropies of tissues that are selected from a table again and again, as bootstrap and permutation tests do.

Whole patterns are counted if ten tissues come on each that is seen. If not, the entropy of patterns is bounded by the
chain rule (`lateral.bounds`), with contexts of one size for all cells, which are counted.
"""

import math
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from lateral.checks import check_fates, check_matrix, check_size
from lateral.contexts import contexts_of
from lateral.geometry import Geometry

__all__ = ["Counted", "check_table", "context_for", "missing_entropy"]

LONGEST = 4  # cells in a context
TISSUES_PER_PATTERN = 10


def check_table(name: str, fates: ArrayLike, n_fates: int, fewest: int = 2, what_for: str = "") -> np.ndarray:
    """Fates as whole numbers, `(replicate, cell)`, of so many tissues at least."""
    table = np.asarray(check_fates(name, check_matrix(name, fates), check_size("n_fates", n_fates, 2)))
    if len(table) < fewest:
        raise ValueError(f"{name} must hold at least {fewest} replicates{what_for}, got {len(table)}")
    return table.astype(np.int64)


def context_for(tables: Sequence[np.ndarray], n_fates: int, context: int | None = None) -> int | None:
    """How many earlier cells to take the fate of a cell with: as asked, or None where all patterns can be counted."""
    if context is not None:
        return check_size("context", context, 0)
    return None if all(map(_can_be_counted, tables)) else _affordable(min(map(len, tables)), n_fates)


def _can_be_counted(table: np.ndarray) -> bool:
    return len(np.unique(table, axis=0)) * TISSUES_PER_PATTERN <= len(table)


def _affordable(n_replicates: int, n_fates: int) -> int:
    """The longest context for which ten tissues come on each case."""
    cases = max(n_replicates / TISSUES_PER_PATTERN, 1.0)
    return max(0, min(LONGEST, int(math.log(cases) / math.log(n_fates)) - 1))


def missing_entropy(shares: np.ndarray) -> float:
    """What the entropy of one fate lacks by counting, in bits, to first order (Miller 1955).

    `shares` are those of the fates in each tissue, `(replicate, fate)`: the cells of a tissue are not independent.
    """
    pooled = shares.mean(axis=0)
    spread = shares.var(axis=0, ddof=1)[pooled > 0.0] / pooled[pooled > 0.0]
    return float(spread.sum()) / (2.0 * math.log(2.0) * len(shares))


class Counted:
    """Cases numbered once, so that any selection of tissues is scored by counting them."""

    def __init__(self, table: np.ndarray, geometry: Geometry, context: int | None, n_fates: int):
        self.n_cells = table.shape[1]
        self.shares = np.stack([np.mean(table == fate, axis=1) for fate in range(n_fates)], axis=1)
        if context is None:
            columns = [(1.0, np.unique(table, axis=0, return_inverse=True)[1].reshape(-1))]
        else:
            columns = []
            for cell, earlier in contexts_of(geometry, context):
                case = np.zeros(len(table), np.int64)
                for other in earlier:
                    case = np.unique(case * n_fates + table[:, other], return_inverse=True)[1]
                columns += [(1.0, case * n_fates + table[:, cell]), (-1.0, case)]
        sizes = [int(cases.max()) + 1 for _, cases in columns]
        self.cases = np.stack([cases for _, cases in columns], axis=1) + np.cumsum([0, *sizes[:-1]])
        self.signs = np.repeat([sign for sign, _ in columns], sizes)
        self.balance = sum(sign for sign, _ in columns)  # entropies added less entropies taken off
        counts = np.arange(len(table) + 1)
        self.n_log_n = counts * np.log2(np.maximum(counts, 1))

    def utility(self, rows: np.ndarray, corrected: bool = False) -> float:
        """U of some tissues, each as often as it is named."""
        s_pat, s_rep = self.entropies(rows, corrected)
        return s_pat - s_rep

    def entropies(self, rows: np.ndarray, corrected: bool = False) -> tuple[float, float]:
        """S_pat and S_rep in bits per cell; `corrected`, with their bias removed to first order (Miller 1955)."""
        n = len(rows)
        counts = np.bincount(self.cases[rows].reshape(-1), minlength=len(self.signs))
        of_patterns = self.balance * math.log2(n) - float(self.signs @ self.n_log_n[counts]) / n
        shares = self.shares[rows]
        pooled = shares.mean(axis=0)
        s_pat = -float(pooled @ np.log2(np.where(pooled > 0.0, pooled, 1.0)))
        if corrected:
            of_patterns += (float(self.signs @ (counts > 0)) - self.balance) / (2.0 * math.log(2.0) * n)
            s_pat += missing_entropy(shares)
        return s_pat, of_patterns / self.n_cells
