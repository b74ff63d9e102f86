"""Two conditions compared: by how much their utilities differ, and how easily chance would make them differ so much.

The p-value is that of a permutation test. If it makes no difference which condition a tissue grew up in, any division
of all tissues into two groups of these sizes is as likely as the one that was made (Fisher 1935; Phipson & Smyth 2010
for counting the division itself). So the test holds for any number of tissues, however biased an entropy from so few
is. What it doubts is that the tissues of both conditions are alike in all that shows in U.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import check_key, check_number, check_size
from lateral.counting import Counted, check_table, context_for
from lateral.geometry import Geometry, Row, check_geometry
from lateral.intervals import interval_around

__all__ = ["ComparedConditions", "compare_conditions"]


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
    tables = [check_table(name, fates, n_fates) for name, fates in (("fates_a", fates_a), ("fates_b", fates_b))]
    if tables[0].shape[1] != tables[1].shape[1]:
        raise ValueError(
            f"both conditions must have equally many cells, got {tables[0].shape[1]} and {tables[1].shape[1]}"
        )
    n_cells = tables[0].shape[1]
    geometry = check_geometry("geometry", Row(n_cells) if geometry is None else geometry, n_cells)
    context = context_for(tables, n_fates, context)
    counted = Counted(np.concatenate(tables), geometry, context, n_fates)
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
    found = interval_around(utilities[0] - utilities[1], resampled, coverage)
    return ComparedConditions(
        *utilities,
        *found,
        p_value=float(np.mean(distance >= distance[0] - 1e-12)),
        context=context,
        n_permutations=n_permutations,
    )
