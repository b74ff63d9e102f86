"""How sure a user's data make us: utility and entropies of a table of fates, with bootstrap intervals."""

from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.checks import check_key, check_number, check_size
from lateral.counting import Counted, check_table, context_for
from lateral.geometry import Geometry, Row, check_geometry

__all__ = ["Interval", "UtilityIntervals", "interval_around", "utility_intervals"]


class Interval(NamedTuple):
    """A number, and the interval that it is in as often as asked: scalars, or arrays of one shape."""

    value: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray


class UtilityIntervals(NamedTuple):
    """What a table of fates is worth; all in bits per cell.

    Attributes:
        utility: S_pat - S_rep, corrected for bias (Miller 1955). Where patterns were not counted, a lower bound by the
            chain rule.
        s_pat: entropy of one fate, pooled over cells and tissues.
        s_rep: entropy of whole patterns divided by N, or its upper bound.
        information: for each cell, what its place says about its fate: S_pat less the entropy of its own fate. The
            mean over cells is the positional information.
        context: how many earlier cells the fate of a cell was taken with; None where whole patterns were counted.
    """

    utility: Interval
    s_pat: Interval
    s_rep: Interval
    information: Interval
    context: int | None


def utility_intervals(
    fates: ArrayLike,
    geometry: Geometry | None = None,
    *,
    key: Array,
    n_resamples: int = 1000,
    coverage: float = 0.95,
    context: int | None = None,
    n_fates: int = 2,
) -> UtilityIntervals:
    """Utility, entropies and information at each place, with intervals from resampling the tissues.

    Args:
        fates: `(replicate, cell)`, whole numbers from 0 to `n_fates` - 1; at least two replicates, independent of each
            other.
        geometry: which cells are neighbours; a row by default.
        key: random key of the resampling.
        n_resamples: how often as many tissues are drawn from the table, with replacement (Efron 1979).
        coverage: of the intervals, between 0 and 1. They have the width and the shape that resampling gives, and stand
            around the corrected number, since resampling adds a bias of its own.
        context: how many earlier cells to take instead of counting whole patterns; found out by default.
        n_fates: number of fates K.

    Raises:
        ValueError: for anything but fates, or a geometry of another size.
    """
    check_key(key)
    check_size("n_resamples", n_resamples, 2)
    check_number("coverage", coverage, above=0.0, maximum=1.0)
    table = check_table("fates", fates, n_fates)
    n_replicates, n_cells = table.shape
    geometry = check_geometry("geometry", Row(n_cells) if geometry is None else geometry, n_cells)
    context = context_for([table], n_fates, context)
    counted = Counted(table, geometry, context, n_fates)
    is_fate = np.stack([table == fate for fate in range(n_fates)], axis=2).reshape(n_replicates, -1).astype(float)

    def measured(rows: np.ndarray, corrected: bool = False) -> tuple[float, float, np.ndarray]:
        s_pat, s_rep = counted.entropies(rows, corrected)
        often = np.bincount(rows, minlength=n_replicates)
        of_cells = _entropies(often @ is_fate, n_cells, n_fates, corrected)
        return s_pat, s_rep, s_pat - of_cells

    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    found = measured(np.arange(n_replicates), corrected=True)
    resampled = [measured(rng.choice(n_replicates, n_replicates)) for _ in range(n_resamples)]
    s_pat, s_rep, information = (np.array(values) for values in zip(*resampled, strict=True))
    return UtilityIntervals(
        utility=interval_around(found[0] - found[1], s_pat - s_rep, coverage),
        s_pat=interval_around(found[0], s_pat, coverage),
        s_rep=interval_around(found[1], s_rep, coverage),
        information=interval_around(found[2], information, coverage),
        context=context,
    )


def interval_around(found: float | np.ndarray, resampled: np.ndarray, coverage: float) -> Interval:
    """The interval around what was found that is as wide as what resampling gave, `(resample, ...)`."""
    ends = [(1.0 - coverage) / 2.0, (1.0 + coverage) / 2.0]
    low, high = found + np.quantile(resampled - resampled.mean(axis=0), ends, axis=0)
    return Interval(found, low, high) if np.ndim(found) else Interval(float(found), float(low), float(high))


def _entropies(counts: Float[np.ndarray, " cell_and_fate"], n_cells: int, n_fates: int, corrected: bool) -> np.ndarray:
    """Entropy of the fate of each cell in bits."""
    counts = counts.reshape(n_cells, n_fates)
    n = counts.sum(axis=1, keepdims=True)
    shares = counts / n
    bits = -np.sum(shares * np.log2(np.where(shares > 0.0, shares, 1.0)), axis=1)
    if corrected:
        bits = bits + (np.count_nonzero(counts, axis=1) - 1) / (2.0 * np.log(2.0) * n[:, 0])
    return bits
