"""The bound of the utility against closed forms at sizes where nothing can be counted, and against counting where it
can."""

import itertools
import math
from collections import deque

import jax
import numpy as np
import pytest
from ensembles import ENSEMBLES, alternating_with_walls, chain, checkerboards_with_flips, frozen, square_sheet
from oracles import GEOMETRIES

import lateral
from lateral import Graph, Ring, Row, bound_utility, estimate_utility
from lateral.bounds import predict_patterns
from lateral.contexts import contexts_of, order_of_cells

# --- in which order, and from which cells


def test_a_row_a_ring_and_a_sheet_are_spelled_as_they_are_written():
    for geometry in (Row(9), Ring(9), square_sheet(4, 5)):
        assert order_of_cells(geometry) == list(range(geometry.n_cells))


def test_a_row_in_any_numbering_is_spelled_from_neighbour_to_neighbour():
    names = np.random.default_rng(0).permutation(12)
    row = [[] for _ in names]
    for left, right in itertools.pairwise(names.tolist()):
        row[left].append(right)
        row[right].append(left)
    contexts = contexts_of(Graph(tuple(map(tuple, row))), 1)
    assert all(earlier and earlier[0] in row[cell] for cell, earlier in contexts[1:])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_contexts_hold_the_nearest_earlier_cells_that_can_be_reached(name):
    geometry = GEOMETRIES[name]
    pairs = geometry.pairs.tolist()
    before = []
    for cell, earlier in contexts_of(geometry, 3):
        distance, queue = {cell: 0}, deque([cell])
        while queue:
            here = queue.popleft()
            for other in {x for pair in pairs if here in pair for x in pair} - distance.keys():
                distance[other] = distance[here] + 1
                queue.append(other)
        reachable = sorted(distance[other] for other in before if other in distance)
        assert [distance[other] for other in earlier] == reachable[:3]
        assert set(earlier) <= set(before) and len(set(earlier)) == len(earlier)
        before.append(cell)
    assert sorted(before) == list(range(geometry.n_cells))


# --- against closed forms


@pytest.mark.slow
@pytest.mark.parametrize("n_cells", [16, 64, 256])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_bound_is_never_above_the_truth(name, n_cells):
    """By more than three standard errors. What rounds to nothing is no error: all tissues may be alike."""
    if name == "one of 1,000 patterns" and n_cells == 16:
        n_cells = 40  # or two of them would be the same
    for n_replicates, seed in ((40, 0), (200, 1), (1000, 2))[: 1 if n_cells == 256 else 3]:
        known = ENSEMBLES[name](np.random.default_rng(seed), n_replicates, n_cells)
        bound = bound_utility(known.fates, known.geometry, n_fates=known.n_fates)
        assert bound.utility - 3.0 * bound.utility_se < known.utility + 1e-6
        assert bound.utility == pytest.approx(bound.s_pat - bound.s_rep, abs=1e-12)
        far = known.utility - bound.utility > 0.25
        assert bound.undersampled or not far or n_replicates == 40


@pytest.mark.slow
@pytest.mark.parametrize("n_cells", [16, 64, 256])
@pytest.mark.parametrize(
    "name",
    [
        "independent fair cells",
        "independent cells, 10 % on",
        "Markov rows",
        "alternating with walls",
        "frozen disorder",
        "Markov rows of three fates",
    ],
)
def test_the_bound_is_exact_where_cells_depend_on_the_one_before(name, n_cells):
    """Up to the cost of learning 1 to 6 frequencies a cell from 4/5 of the tissues, 1 / (2 ln2 R) bits each."""
    n_replicates = 200 if n_cells == 256 else 800
    known = ENSEMBLES[name](np.random.default_rng(3), n_replicates, n_cells)
    bound = bound_utility(known.fates, known.geometry, n_fates=known.n_fates)
    cost = 6.0 * 1.25 / (2.0 * math.log(2.0) * n_replicates)
    assert -cost - 4.0 * bound.utility_se < bound.utility - known.utility < 3.0 * bound.utility_se + 1e-6
    assert not bound.undersampled


@pytest.mark.slow
def test_over_many_ensembles_the_mean_bound_is_below_the_truth_and_counting_above():
    """Forty ensembles of 60 tissues; the standard error is the spread over them."""
    errors, spread = [], []
    for seed in range(40):
        known = alternating_with_walls(np.random.default_rng(seed), 60, 8)
        bound = bound_utility(known.fates)
        errors.append([bound.utility - known.utility, bound.utility_plugin - known.utility])
        spread.append(bound.utility_se)
    (mean, plugin), standard_error = np.mean(errors, axis=0), np.std(errors, axis=0) / math.sqrt(40)
    assert mean < standard_error[0] and plugin > 3.0 * standard_error[1]
    assert np.mean(spread) == pytest.approx(np.std(errors, axis=0)[0], rel=0.3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::lateral.UndersampledWarning")
def test_checkerboards_come_nearer_with_more_tissues_and_longer_contexts():
    known = checkerboards_with_flips(np.random.default_rng(4), 4000, 64)
    few, many = (bound_utility(known.fates[:n], known.geometry) for n in (200, 4000))
    assert few.utility < many.utility < known.utility and few.context.mean() < many.context.mean()
    assert few.undersampled and not many.undersampled and many.utility > known.utility - 0.03
    by_one = bound_utility(known.fates, known.geometry, context=1)
    assert (by_one.context[1:] == 1).all() and by_one.utility < many.utility - 0.1


@pytest.mark.slow
def test_patterns_that_no_context_tells_apart_are_told_by_their_repetition():
    known = ENSEMBLES["one of 1,000 patterns"](np.random.default_rng(5), 8000, 64)
    bound = bound_utility(known.fates)
    assert bound.repeated > 0.9 and known.utility - 0.02 < bound.utility < known.utility
    few = bound_utility(known.fates[:200])
    assert few.undersampled and few.utility < 0.3


# --- against counting, and the law that makes it a bound


@pytest.fixture(scope="module")
def simulated():
    with jax.enable_x64(False):
        f = lateral.TanhInhibition()
        states = lateral.run_multiple_replicates(
            f, n_cells=12, n_replicates=4000, n_steps=300, dt=0.02, key=jax.random.key(0)
        )
        return np.asarray(lateral.apply_threshold(states))


@pytest.mark.slow
def test_the_bound_of_simulated_tissues_agrees_with_counting(simulated):
    counted, bound = estimate_utility(simulated), bound_utility(simulated)
    assert not counted.undersampled and not bound.undersampled
    assert bound.s_pat == pytest.approx(float(counted.s_pat), abs=1e-3)
    error = float(counted.utility_corrected) - bound.utility
    assert -2.0 * bound.utility_se < error < 0.01 + 2.0 * bound.utility_se
    assert bound.utility_se == pytest.approx(float(counted.utility_se), rel=0.3)


def test_the_prediction_of_a_fold_is_a_distribution_made_without_it():
    """All 2^N patterns of three cells, each the last fold in its turn: the probabilities add up to 1."""
    rng, total = np.random.default_rng(6), 0.0
    others = rng.integers(0, 2, (12, 3))
    for pattern in itertools.product([0, 1], repeat=3):
        fates = np.concatenate([others, np.tile(pattern, (3, 1))])
        total += 2.0 ** -predict_patterns(fates, Row(3)).bits[-1]
    assert total == pytest.approx(1.0, abs=1e-9)


def test_a_wrong_geometry_makes_it_looser_and_no_less_a_bound():
    known = chain(np.random.default_rng(7), 1000, 16)
    right = bound_utility(known.fates, context=1)
    names = np.random.default_rng(8).permutation(16)
    wrong = bound_utility(known.fates[:, names], context=1)
    assert wrong.utility < right.utility - 0.1


# --- images under symmetries


def test_pooling_tightens_the_bound_of_few_tissues_and_stays_below_the_truth():
    """Alternating patterns with walls on a ring of 24 cells: U by the transfer matrix."""
    n, density, rng = 24, 0.1, np.random.default_rng(9)
    unlike = rng.random((20_000, n)) < 1.0 - density
    fates = (np.cumsum(unlike, axis=1) + rng.integers(0, 2, (20_000, 1))) % 2
    fates = fates[unlike.sum(axis=1) % 2 == 0][:60]  # closed rings only
    closed = 0.5 * (1.0 + (2.0 * density - 1.0) ** n)
    slope = n * (2.0 * density - 1.0) ** (n - 1) / closed
    walls = n * density + density * (1.0 - density) * slope  # mean number, d log Z / d log-odds
    of_all = 1.0 + math.log2(closed) - walls * math.log2(density) - (n - walls) * math.log2(1.0 - density)
    truth = 1.0 - of_all / n
    alone, pooled = (bound_utility(fates, Ring(n), pooled=pooled) for pooled in (False, True))
    assert alone.utility + 0.01 < pooled.utility < truth + 3.0 * pooled.utility_se
    assert pooled.pooled and not alone.pooled


def test_pooling_where_the_symmetry_does_not_hold_is_a_bound_too():
    known = frozen(np.random.default_rng(10), 50, 16)
    assert bound_utility(known.fates, Ring(16), pooled=True).utility <= known.utility


def test_a_geometry_without_symmetries_pools_nothing():
    known = chain(np.random.default_rng(11), 100, 8)
    geometry = Graph(tuple(map(tuple, ([1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7], [6]))))
    alone, pooled = (bound_utility(known.fates, geometry, pooled=pooled) for pooled in (False, True))
    assert alone[:-1][0] == pooled[:-1][0]


# --- what does not matter, and what is refused


def test_names_of_fates_and_dtypes_do_not_matter():
    known = ENSEMBLES["Markov rows of three fates"](np.random.default_rng(12), 100, 10)
    first = bound_utility(known.fates, n_fates=3)
    other = bound_utility(np.array([2.0, 0.0, 1.0])[known.fates], n_fates=3)
    assert first.utility == pytest.approx(other.utility, abs=1e-12)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("call", "message"),
    {
        "states": (lambda: bound_utility(np.full((20, 3), 0.3)), "exactly 0 or 1, got 0.3"),
        "three fates": (
            lambda: bound_utility(np.full((20, 3), 2)),
            "exactly 0 or 1, got 2 at index .0, 0.: say n_fates=3",
        ),
        "few tissues": (lambda: bound_utility(np.ones((9, 3))), "at least 10 replicates for a bound, got 9"),
        "other size": (lambda: bound_utility(np.ones((20, 3)), Row(4)), "as many cells as the patterns, 3, got 4"),
        "context": (lambda: bound_utility(np.ones((20, 3)), context=-1), "context must be >= 0, got -1"),
        "traced": (lambda: jax.jit(bound_utility)(np.ones((20, 3))), "outside of jax.jit"),
    }.values(),
)
def test_refuses_with_the_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
