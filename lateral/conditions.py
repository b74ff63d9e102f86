"""Two conditions compared: by how much their utilities differ, and how easily chance would make them differ so much.

The p-value is that of a permutation test. If it makes no difference which condition a tissue grew up in, any division
of all tissues into two groups of these sizes is as likely as the one that was made (Fisher 1935; Phipson & Smyth 2010
for counting the division itself). So the test holds for any number of tissues, however biased an entropy from so few
is. What it doubts is that the tissues of both conditions are alike in all that shows in U.
"""

import math
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import check_fates, check_key, check_matrix, check_number, check_size
from lateral.contexts import contexts_of
from lateral.geometry import Geometry, Row, check_geometry

__all__ = ["ComparedConditions", "compare_conditions"]

LONGEST = 4  # cells in a context
TISSUES_PER_PATTERN = 10


class ComparedConditions(NamedTuple):
    """The utilities of two conditions; all but the p-value and the numbers in bits per cell.

    Attributes:
        utility_a, utility_b: of each condition, corrected for bias (Miller 1955). Where patterns were not counted, a
            lower bound by the chain rule.
        difference: `utility_a - utility_b`.
        low, high: interval of the difference, from resampling the tissues of each condition.
        p_value: probability of a difference at least so far from the middle if the condition made none.
        context: how many earlier cells the fate of a cell was taken with; None where whole patterns were counted.
        n_permutations: divisions tried.
    """

    utility_a: float
    utility_b: float
    difference: float
    low: float
    high: float
    p_value: float
    context: int | None
    n_permutations: int


def compare_conditions(
    fates_a: ArrayLike,
    fates_b: ArrayLike,
    geometry: Geometry | None = None,
    *,
    key: Array,
    n_permutations: int = 2000,
    coverage: float = 0.95,
    context: int | None = None,
    n_fates: int = 2,
) -> ComparedConditions:
    """The difference of the utilities of two conditions, with a bootstrap interval and a p-value by permutation.

    Whole patterns are counted if ten tissues come on each that is seen, in both conditions. If not, S_rep is bounded by
    the chain rule (`lateral.bounds`) with contexts of one size for all cells and both conditions. The difference of two
    bounds is no bound of a difference: say what it is of when you report it. The p-value holds for either.

    Args:
        fates_a, fates_b: `(replicate, cell)`, whole numbers from 0 to `n_fates` - 1; at least two replicates each,
            independent of each other.
        geometry: which cells are neighbours; a row by default.
        key: random key, of the permutations and of the resampling.
        n_permutations: divisions into two groups, and resamplings.
        coverage: of the interval, between 0 and 1. The interval has the width and the shape that resampling gives, and
            stands around the corrected difference, since resampling adds a bias of its own.
        context: how many earlier cells to take instead of counting; found out by default.
        n_fates: number of fates K.

    Raises:
        ValueError: for anything but fates, or tissues of two sizes.
    """
    check_key(key)
    check_size("n_permutations", n_permutations)
    check_number("coverage", coverage, above=0.0, maximum=1.0)
    tables = [_check(name, fates, n_fates) for name, fates in (("fates_a", fates_a), ("fates_b", fates_b))]
    if tables[0].shape[1] != tables[1].shape[1]:
        raise ValueError(
            f"both conditions must have equally many cells, got {tables[0].shape[1]} and {tables[1].shape[1]}"
        )
    n_cells = tables[0].shape[1]
    geometry = check_geometry("geometry", Row(n_cells) if geometry is None else geometry, n_cells)
    if context is None:
        context = None if all(map(_can_be_counted, tables)) else _affordable(min(map(len, tables)), n_fates)
    else:
        check_size("context", context, 0)
    counted = _Counted(np.concatenate(tables), geometry, context, n_fates)
    n_a, n_all = len(tables[0]), len(tables[0]) + len(tables[1])
    a, b = np.arange(n_a), np.arange(n_a, n_all)
    utilities = [counted.utility(rows, corrected=True) for rows in (a, b)]
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def difference(first, second):
        return counted.utility(first) - counted.utility(second)

    shuffled = [rng.permutation(n_all) for _ in range(n_permutations)]
    by_chance = np.array([difference(a, b), *(difference(rows[:n_a], rows[n_a:]) for rows in shuffled)])
    # Groups of unlike sizes are biased unlike: what counts is the distance from the middle of all divisions.
    distance = np.abs(by_chance - by_chance.mean())
    resampled = np.array([difference(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(n_permutations)])
    around = np.quantile(resampled - resampled.mean(), [(1.0 - coverage) / 2.0, (1.0 + coverage) / 2.0])
    found = utilities[0] - utilities[1]
    return ComparedConditions(
        *utilities,
        found,
        *(found + around).tolist(),
        p_value=float(np.mean(distance >= distance[0] - 1e-12)),
        context=context,
        n_permutations=n_permutations,
    )


def _check(name: str, fates: ArrayLike, n_fates: int) -> np.ndarray:
    table = np.asarray(check_fates(name, check_matrix(name, fates), check_size("n_fates", n_fates, 2)))
    if len(table) < 2:
        raise ValueError(f"{name} must hold at least 2 replicates, got {len(table)}")
    return table.astype(np.int64)


def _can_be_counted(table: np.ndarray) -> bool:
    return len(np.unique(table, axis=0)) * TISSUES_PER_PATTERN <= len(table)


def _affordable(n_replicates: int, n_fates: int) -> int:
    """The longest context for which ten tissues come on each case."""
    cases = max(n_replicates / TISSUES_PER_PATTERN, 1.0)
    return max(0, min(LONGEST, int(math.log(cases) / math.log(n_fates)) - 1))


class _Counted:
    """Cases numbered once, so that any selection of tissues is scored by counting them."""

    def __init__(self, table: np.ndarray, geometry: Geometry, context: int | None, n_fates: int):
        self.n_cells = table.shape[1]
        self.fates = np.stack([np.sum(table == fate, axis=1) for fate in range(n_fates)], axis=1)
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
        n = len(rows)
        counts = np.bincount(self.cases[rows].reshape(-1), minlength=len(self.signs))
        of_patterns = self.balance * math.log2(n) - float(self.signs @ self.n_log_n[counts]) / n
        per_tissue = self.fates[rows]
        pooled = per_tissue.mean(axis=0) / self.n_cells
        seen = pooled[pooled > 0.0]
        s_pat = -float(seen @ np.log2(seen))
        if corrected:
            scale = 1.0 / (2.0 * math.log(2.0) * n)
            of_patterns += scale * (float(self.signs @ (counts > 0)) - self.balance)
            spread = per_tissue.var(axis=0, ddof=1) / self.n_cells**2
            s_pat += scale * float(np.sum(spread[pooled > 0.0] / seen))
        return s_pat - of_patterns / self.n_cells
