"""A lower bound of the utility for tissues of any size, where whole patterns can no longer be counted.

By the chain rule the entropy of patterns is a sum over the cells in any order, and knowing fewer of the earlier cells
leaves no less entropy (Cover & Thomas 2006, theorems 2.5.1 and 2.6.5):

    N S_rep = sum_i H(z_i | all earlier cells)  <=  sum_i H(z_i | some earlier cells near i),     U = S_pat - S_rep.

The bound is exact where the near cells say all that the earlier ones do, as in rows that are Markov chains.

Entropies estimated by counting read too low, most of all where contexts are long and rare, so that a bound of them
would be none. Here each tissue is *predicted* from other tissues instead. A prediction q of whole patterns costs
-log2 q(z) bits on the average over tissues that it has not seen, and no prediction costs less than the entropy (Gibbs'
inequality). This holds for any number of tissues and whatever the prediction is made of: the fewer the tissues, the
looser the bound, but its expectation is never wrong. `benchmarks/bounds.py` compares it with counting, and with the
corrections of Miller (1955), Zahl (1977), Grassberger (2003) and Chao & Shen (2003): each of them is nearer the truth
on many ensembles, and above it on some, where it is no bound.

The tissues are dealt into five folds, and those of a fold are predicted from the other four.

- Level k of the prediction of a cell knows the k nearest earlier cells. What it has counted is mixed with what level
  k - 1 says, which weighs as much as two tissues: q_k = (count + 2 q_(k - 1)) / (total + 2), and q_(-1) is uniform.
- How many cells each cell knows is chosen without the fold that is predicted. Among the four others each fold is
  predicted from the other three, and the level with the least cost is taken. The smallest of many costs is too small
  by chance; here it only chooses, and what is reported is the cost of other tissues. One more known cell must save a
  bit, and what the cells before it have saved counts as if it were four cells' own, since alike cells need alike
  contexts.
- A tissue may also show a pattern that was seen before. The prediction is a mixture of spelling it cell by cell and of
  repeating one of the patterns seen; the share of the two is chosen in the same way. So the bound also holds what
  counting whole patterns can tell.
"""

import math
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from lateral.checks import check_size, is_traced
from lateral.contexts import contexts_of
from lateral.counting import check_table, missing_entropy
from lateral.geometry import Geometry, Row, check_geometry

__all__ = ["FEWEST", "Prediction", "UtilityBound", "bound_utility", "predict_patterns"]

FOLDS = 5
FEWEST = 2 * FOLDS  # tissues
WEIGHT = 2.0  # of the shorter context, in tissues
PENALTY = 1.0  # bits that one more known cell must save
ALIKE = 4.0  # how many cells of its own the experience of the cells before counts as
PATIENCE = 4  # levels without a saving after which no longer context is tried
STILL_RISING = 0.05  # bits per cell
ENOUGH_IMAGES = 50_000  # tissues and images of them together
SPELLED = np.array([1.0, 0.99, 0.95, *np.arange(0.9, 0.05, -0.1), 0.05, 0.01, 0.001])  # shares that are not repeated
# Predictions are made without the folds f and g, for all pairs; without f alone where they are the same.
LEFT_OUT = [(f, g) for f in range(FOLDS) for g in range(f, FOLDS)]
NUMBER = np.array([[LEFT_OUT.index((min(f, g), max(f, g))) for g in range(FOLDS)] for f in range(FOLDS)])


class UtilityBound(NamedTuple):
    """A lower bound of the utility of an ensemble of fates; utilities and entropies in bits per cell.

    Attributes:
        utility: the bound, S_pat - S_rep. Its expectation is at most U, however few the tissues.
        utility_se: its standard error over replicates.
        utility_plugin: the same with the same contexts by counting, too high where contexts are rare. What unlimited
            tissues would give with these contexts lies between the two.
        s_pat: entropy of one fate, pooled over cells and replicates, with its bias removed to first order.
        s_rep: upper bound of the entropy of whole patterns, divided by N.
        context: how many earlier cells each cell was predicted from, on the average over folds.
        repeated: share of the prediction that repeats whole patterns seen before.
        undersampled: `utility` and `utility_plugin` are more than 0.05 bits per cell apart, or the bound rises so
            much with the number of tissues that as much is missing. What no context shows that so many tissues can
            fill is not flagged: the bound is then far below U, and still one.
        pooled: whether the images of the tissues under the symmetries of the geometry were learnt from too.
    """

    utility: float
    utility_se: float
    utility_plugin: float
    s_pat: float
    s_rep: float
    context: Float[np.ndarray, " cell"]
    repeated: float
    undersampled: bool
    pooled: bool


def bound_utility(
    fates: ArrayLike,
    geometry: Geometry | None = None,
    *,
    context: int | None = None,
    pooled: bool = False,
    n_fates: int = 2,
) -> UtilityBound:
    """A lower bound of the utility of tissues of any size.

    Where patterns can be counted (`estimate_utility` without its warning), it agrees with U within the errors; where
    they cannot, `estimate_utility` is an upper bound, and U lies between the two.

    Args:
        fates: `(replicate, cell)`, whole numbers from 0 to `n_fates` - 1 of any dtype; at least 10 replicates, which
            must be independent of each other.
        geometry: which cells are neighbours, and therefore worth knowing; a row by default. A wrong one makes the
            bound looser, and no less a bound.
        context: of how many earlier cells each prediction knows the fates; found out by default. 1 is exact for rows
            that are Markov chains.
        pooled: learn from all images of the other tissues under the symmetries of the geometry, such as shifts of a
            ring. It tightens the bound if the tissues are few and the symmetries hold, and is a bound in any case.
        n_fates: number of fates K.

    Raises:
        ValueError: for anything but fates, fewer than 10 replicates, or a geometry of another size.
    """
    table = _check(fates, n_fates)
    n_replicates, n_cells = table.shape
    geometry = check_geometry("geometry", Row(n_cells) if geometry is None else geometry, n_cells)
    context = None if context is None else check_size("context", context, 0)
    found = predict_patterns(table, geometry, context, pooled, n_fates)
    own = found.bits
    # If what is lost for lack of data goes as 1/R, three times the difference between 3/5 and 4/5 of R is lost.
    lost = 3.0 * float(np.mean(found.bits_of_fewer - own)) / n_cells
    s_pat, of_each, bias = _pooled_entropy(table, n_fates)
    scores = of_each - own / n_cells
    utility, utility_plugin = float(scores.mean()) + bias, s_pat - found.counted / n_cells
    return UtilityBound(
        utility=utility,
        utility_se=float(scores.std(ddof=1)) / math.sqrt(n_replicates),
        utility_plugin=float(utility_plugin),
        s_pat=s_pat + bias,
        s_rep=float(own.mean()) / n_cells,
        context=found.context,
        repeated=found.repeated,
        undersampled=bool(max(lost, utility_plugin - utility) > STILL_RISING),
        pooled=bool(pooled),
    )


class Prediction(NamedTuple):
    """How well tissues are predicted from other tissues.

    Attributes:
        bits: -log2 of the probability with which each tissue was predicted from the four folds that it is not in.
        bits_of_fewer: the same from three of them, on the average.
        counted: entropy of whole patterns in bits that counting finds with the same contexts.
        context: how many earlier cells each cell was predicted from.
        repeated: share of the prediction that repeats patterns.
    """

    bits: Float[np.ndarray, " replicate"]
    bits_of_fewer: Float[np.ndarray, " replicate"]
    counted: float
    context: Float[np.ndarray, " cell"]
    repeated: float


def predict_patterns(
    table: np.ndarray, geometry: Geometry, context: int | None = None, pooled: bool = False, n_fates: int = 2
) -> Prediction:
    """`bound_utility` without its checks, before anything is averaged; `table` holds integers."""
    n_replicates, n_cells = table.shape
    longest = int(math.log(n_replicates) / math.log(n_fates)) + 2 if context is None else context
    fold, each = np.arange(n_replicates) * FOLDS // n_replicates, np.arange(n_replicates)
    images = _images(geometry, n_replicates) if pooled else np.arange(n_cells)[None]
    spelling = _Spelling(np.ascontiguousarray(table.T), fold, images, n_fates, fixed=context is not None)
    sizes = np.zeros(n_cells)
    for cell, earlier in contexts_of(geometry, longest):
        sizes[cell] = spelling.add(cell, earlier)
    cost, spelled = _with_repetition(table, fold, spelling.cost)
    own = cost[fold, each]
    fewer = (cost.sum(axis=0) - own) / (FOLDS - 1)
    return Prediction(own, fewer, spelling.counted, sizes, 1.0 - spelled)


def _check(fates: ArrayLike, n_fates: int) -> np.ndarray:
    if is_traced(fates):
        raise ValueError("bound_utility needs concrete fates: call it outside of jax.jit")
    return check_table("fates", fates, n_fates, FEWEST, " for a bound")


def _images(geometry: Geometry, n_replicates: int) -> np.ndarray:
    """Symmetries that leave b as it is, the identity first; evenly chosen where all would be too many."""
    permutations, offset = geometry.symmetries, geometry.offset()
    if offset is not None:
        permutations = permutations[(np.abs(np.asarray(offset)[permutations] - offset) < 1e-6).all(axis=1)]
    most = max(1, ENOUGH_IMAGES // n_replicates)
    return permutations[:: -(-len(permutations) // most)]


class _Spelling:
    """The cost of spelling out the tissues, cell by cell.

    Attributes:
        cost: in bits, `(fold, replicate)`: of tissue r if lengths are chosen without fold f, and counts without f and
            the fold of r.
        counted: the entropy of whole patterns in bits that counting finds with the same contexts.
    """

    def __init__(self, cells: np.ndarray, fold: np.ndarray, images: np.ndarray, n_fates: int, fixed: bool):
        self.cells, self.fold, self.images, self.n_fates, self.fixed = cells, fold, images, n_fates, fixed
        self.cost = np.zeros((FOLDS, len(fold)))
        self.counted = 0.0
        self._experience = np.zeros((1, FOLDS))

    def add(self, cell: int, earlier: list[int]) -> float:
        """Add a cell that knows some of the earlier cells; returns how many."""
        levels, losses, best = [], [], np.zeros(FOLDS, int)
        for level in self._levels(cell, earlier):
            levels.append(level)
            losses.append(level.loss)
            best = self._best(np.array(losses))
            if not self.fixed and len(levels) > best.max() + PATIENCE:
                break
        if self.fixed:
            best = np.full(FOLDS, len(levels) - 1)
        else:
            self._remember(np.array(losses))
        truth = self.cells[cell]
        for f, k in enumerate(best):
            level = levels[k]
            self.cost[f] += level.bits[NUMBER[f, self.fold], level.known, truth]
        self.counted += levels[int(np.median(best))].counted
        return float(best.mean())

    def _levels(self, cell: int, earlier: list[int]):
        """What knowing 0, 1, 2... cells predicts."""
        n_fates, n, n_all = self.n_fates, len(self.fold), len(self.fold) * len(self.images)
        truth, fold = self._seen(cell), np.tile(self.fold, len(self.images))
        known, n_known = np.zeros(n_all, np.int64), 1
        prediction, shorter = np.full((len(LEFT_OUT), 1, n_fates), 1.0 / n_fates), np.zeros(1, np.int64)
        for other in [None, *earlier]:
            if other is not None:
                code = known * n_fates + self._seen(other)
                used = np.zeros(n_known * n_fates, bool)
                used[code] = True
                known, shorter = (np.cumsum(used) - 1)[code], np.flatnonzero(used) // n_fates
                n_known = len(shorter)
            joint = (fold * n_known + known) * n_fates + truth
            shape = (FOLDS, n_known, n_fates)
            counts, own = (
                np.bincount(some, minlength=math.prod(shape)).reshape(shape).astype(float)
                for some in (joint, joint[:n])
            )
            total = counts.sum(axis=0)
            learnt = np.stack([total - counts[f] - (counts[g] if g != f else 0) for f, g in LEFT_OUT])
            prediction = learnt + WEIGHT * prediction[:, shorter]
            prediction /= learnt.sum(axis=2, keepdims=True) + WEIGHT
            bits = -np.log2(prediction)
            # (fold, folds left out), of which only what stands off the diagonal may choose.
            of_folds = own.reshape(FOLDS, -1) @ bits.reshape(len(LEFT_OUT), -1).T
            loss = np.array([sum(of_folds[g, NUMBER[f, g]] for g in range(FOLDS) if g != f) for f in range(FOLDS)])
            yield _Level(known[:n], bits, loss, _conditional_entropy(own.sum(axis=0)))

    def _seen(self, cell: int) -> np.ndarray:
        """The fates in the place of a cell, of the tissues and then of their images."""
        return self.cells[self.images[:, cell]].reshape(-1)

    def _best(self, losses: np.ndarray) -> np.ndarray:
        before = self._experience
        before = np.concatenate([before, np.repeat(before[-1:], len(losses), axis=0)])[: len(losses)]
        return np.argmin(losses + ALIKE * before + PENALTY * np.arange(len(losses))[:, None], axis=0)

    def _remember(self, losses: np.ndarray) -> None:
        """A running mean over about the last ten cells of what each level saves."""
        saved, before = losses - losses[:1], self._experience
        size = max(len(saved), len(before))
        saved, before = (np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)]) for x in (saved, before))
        self._experience = before + 0.1 * (saved - before)


class _Level(NamedTuple):
    known: np.ndarray  # number of the context of each tissue
    bits: np.ndarray  # (folds left out, context, fate)
    loss: np.ndarray  # of the tissues outside each fold, without that fold
    counted: float


def _conditional_entropy(counts: np.ndarray) -> float:
    def bits(some):
        some = some[some > 0]
        return float(np.sum(some * np.log2(some)))

    return (bits(counts.sum(axis=1)) - bits(counts)) / counts.sum()


def _with_repetition(table: np.ndarray, fold: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, float]:
    """The cost if patterns may be repeated as a whole, and the share of spelling."""
    _, number = np.unique(table.astype(np.uint8), axis=0, return_inverse=True)
    number = number.reshape(-1)
    counts = np.zeros((FOLDS, number.max() + 1))
    np.add.at(counts, (fold, number), 1.0)
    of_fold, all_counts = np.bincount(fold), counts.sum(axis=0)
    chosen, mixed = [], np.empty_like(cost)
    for f in range(FOLDS):
        other = fold != f
        seen = all_counts[number] - counts[f, number] - np.where(other, counts[fold, number], 0.0)
        of = len(fold) - of_fold[f] - np.where(other, of_fold[fold], 0)
        with np.errstate(divide="ignore"):
            repeat = np.log2(seen / of) + np.log2(1.0 - SPELLED)[:, None]
            spell = np.log2(SPELLED)[:, None] - cost[f]
        both = -np.logaddexp2(repeat, spell)  # (share, replicate)
        share = int(np.argmin(both[:, other].sum(axis=1)))
        mixed[f] = both[share]
        chosen.append(SPELLED[share])
    return mixed, float(np.mean(chosen))


def _pooled_entropy(table: np.ndarray, n_fates: int) -> tuple[float, np.ndarray, float]:
    """S_pat by counting, what each replicate adds to it, and what it lacks, to first order (Miller 1955)."""
    shares = np.stack([np.mean(table == fate, axis=1) for fate in range(n_fates)], axis=1)
    shares = shares[:, shares.any(axis=0)]
    pooled = shares.mean(axis=0)
    of_each = -shares @ np.log2(pooled)
    s_pat = float(of_each.mean())
    # No entropy of K fates is above log2 K.
    return s_pat, of_each, min(missing_entropy(shares), math.log2(n_fates) - s_pat)
