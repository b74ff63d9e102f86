"""S_rep by prediction: against closed forms, a plain count of the same predictions, and finite differences; and
training by it."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ensembles import ENSEMBLES, chain, frozen, independent

import lateral
from lateral import Model, RBFNetwork, Ring, Row, Sheet, StepNetwork, ValueGradient
from lateral.cli import main
from lateral.model import final_states, hard_objective, objective_of_fates, scores_of
from lateral.objective import hard_value, influence
from lateral.prediction import FOLDS, WEIGHT, WEIGHT_OF_OTHERS, known_contexts, predicted_s_rep


def values_of(ensembles):
    """The predicted utility of each of some ensembles of one kind."""
    known = ensembles[0]
    contexts = known_contexts(known.geometry, known.n_fates)
    value = jax.jit(jax.vmap(lambda fates: hard_value("ensemble", fates, known.n_fates, contexts)))
    return np.asarray(value(jnp.asarray([of_one.fates for of_one in ensembles], float)))


# --- what is predicted from what


def test_cells_of_a_row_know_those_to_their_left_and_the_first_ones_are_like_no_others():
    contexts = known_contexts(Row(8))
    for cell in range(8):
        assert list(contexts.earlier[cell][contexts.there[cell]]) == list(range(cell - 1, max(cell - 5, -1), -1))
    alone, one, *_, longest, own = contexts.alike
    assert [len(set(group)) for group in (alone, one, longest)] == [2, 3, 6]  # an end sees one neighbour
    assert list(own) == list(range(8))


def test_cells_of_a_ring_are_alike_but_for_the_first_and_where_it_closes():
    groups = known_contexts(Ring(20)).alike
    assert set(groups[0]) == {0}
    assert len(set(groups[4][4:17])) == 1 and groups[4][19] != groups[4][10]


@pytest.mark.parametrize(("n_fates", "size"), [(2, 4), (3, 2), (4, 2), (5, 1), (20, 1)])
def test_of_more_fates_fewer_cells_are_known(n_fates, size):
    assert known_contexts(Row(6), n_fates).earlier.shape == (6, size)


# --- the number


def predicted_plainly(fates, geometry, n_fates=2):
    """The same, counted by dictionaries."""
    contexts, total = known_contexts(geometry, n_fates), 0.0
    n_replicates, n_cells = fates.shape
    size = contexts.earlier.shape[1]

    def known(r, cell, level):
        slots = range(min(level, size))
        return tuple(int(fates[r, contexts.earlier[cell, j]]) if contexts.there[cell, j] else 0 for j in slots)

    for r in range(n_replicates):
        others = [o for o in range(n_replicates) if o % FOLDS != r % FOLDS]
        for cell in range(n_cells):
            q = 1.0 / n_fates
            for level, groups in enumerate(contexts.alike):
                cells = np.flatnonzero(groups == groups[cell])
                same = [(o, i) for o in others for i in cells if known(o, i, level) == known(r, cell, level)]
                weight = WEIGHT if level <= size else WEIGHT_OF_OTHERS
                seen = sum(fates[o, i] == fates[r, cell] for o, i in same)
                q = (seen + weight * q) / (len(same) + weight)
            chance = 0.5 / n_replicates
            total -= math.log2((1.0 - chance) * q + chance / n_fates)
    return total / (n_replicates * n_cells)


@pytest.mark.slow
@pytest.mark.parametrize(("geometry", "n_fates"), [(Row(6), 2), (Sheet(3, 3, "hexagonal"), 2), (Row(4), 3)])
def test_it_is_what_counting_one_prediction_after_another_gives(precision, geometry, n_fates):
    fates = np.random.default_rng(0).integers(0, n_fates, (19, geometry.n_cells))
    found = predicted_s_rep(jnp.asarray(fates, float), known_contexts(geometry, n_fates), jnp.ones(19), n_fates)
    expected = predicted_plainly(fates, geometry, n_fates)
    assert float(found) == pytest.approx(expected, abs=1e-12 if precision == "float64" else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENSEMBLES)
@pytest.mark.parametrize("n_replicates", [16, 64, 512])
def test_the_utility_is_below_the_truth_on_the_average(name, n_replicates):
    """Over eight ensembles, by three standard errors of their mean; frozen patterns have none."""
    ensembles = [ENSEMBLES[name](rng, n_replicates, 36) for rng in map(np.random.default_rng, range(8))]
    errors = values_of(ensembles) - [known.utility for known in ensembles]
    assert np.mean(errors) < 3.0 * np.std(errors, ddof=1) / math.sqrt(8) + 1e-9


@pytest.mark.parametrize(("make", "cost"), [(chain, 0.01), (independent, 0.02), (frozen, 0.02)])
def test_it_is_near_the_truth_where_the_cells_before_say_all(make, cost):
    """Rows that are Markov chains, cells that know nothing of each other, and a pattern that is always the same."""
    known = make(np.random.default_rng(2), 2000, 64)
    assert known.utility - cost < values_of([known])[0] < known.utility + 0.003


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ensemble", "tissue"])
@pytest.mark.parametrize("n_fates", [2, 3])
def test_the_influence_is_the_change_by_the_weight_of_a_replicate(objective, n_fates):
    known = chain(np.random.default_rng(3), 24, 14, n_fates=n_fates)
    fates, contexts = jnp.asarray(known.fates, float), known_contexts(known.geometry, n_fates)
    _, of_each = influence(objective, fates, n_fates=n_fates, contexts=contexts)
    value = jax.jit(lambda weights: _weighted(objective, fates, contexts, weights, n_fates))
    for r in range(0, 24, 5):
        ahead, behind = (value(jnp.ones(24).at[r].add(step)) for step in (1e-5, -1e-5))
        assert float(of_each[r]) == pytest.approx(float(ahead - behind) / 2e-5 * 24, abs=1e-6)


def _weighted(objective, fates, contexts, weights, n_fates):
    """Written out: the pooled share, or shares within a tissue, with weights that are not made to add up to 1."""
    shares = jnp.stack([(fates == fate).mean(axis=1) for fate in range(n_fates)])
    if objective == "ensemble":
        pooled = shares @ weights / len(fates)
        if n_fates == 2:
            pooled = jnp.stack([1.0 - pooled[1], pooled[1]])
        s_pat = -jnp.sum(pooled * jnp.log2(pooled))
    else:
        of_each = -jnp.sum(jnp.where(shares > 0, shares * jnp.log2(jnp.maximum(shares, 1e-300)), 0.0), axis=0)
        s_pat = jnp.mean(weights * of_each)
    return s_pat - predicted_s_rep(fates, contexts, weights, n_fates)


@pytest.mark.slow
def test_many_tissues_say_what_the_bound_says():
    """Two predictions, made differently, of the same 2,000 tissues on a sheet."""
    model = Model(geometry=Sheet(4, 4), n_replicates=2000, n_steps=200, dt=0.05)
    fates = model.readout.fates(final_states(lateral.TanhInhibition(), model, jax.random.key(0)))
    bound = lateral.bound_utility(fates, model.geometry)
    assert float(objective_of_fates(fates, model)) == pytest.approx(bound.utility, abs=0.02)


@pytest.mark.slow
def test_fates_that_are_not_finite_have_no_value(nan_allowed):
    model = Model(n_cells=14)
    assert np.isnan(objective_of_fates(jnp.full((20, 14), jnp.nan), model))


# --- where it is used


def test_patterns_are_counted_up_to_twelve_cells_and_predicted_beyond():
    assert Model(n_cells=12).contexts is None and Model(n_cells=13).contexts is not None
    assert Model(n_cells=20, patterns="counted").contexts is None
    assert Model(n_cells=7, patterns="predicted").contexts is not None
    with pytest.raises(ValueError, match="patterns must be one of 'auto', 'counted', 'predicted', got 'guessed'"):
        Model(patterns="guessed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::lateral.UndersampledWarning")
def test_few_cells_are_scored_as_they_were(key):
    model = Model(n_cells=12, n_replicates=100, n_steps=20, objective="tissue")
    states = final_states(lateral.TanhInhibition(), model, key)
    fates = model.readout.fates(states)
    utility, _, s_rep = lateral.compute_hard_utility(fates)
    within = np.mean([lateral.compute_hard_utility(fate[None])[1] for fate in fates])
    assert float(hard_objective(states, model)) == pytest.approx(float(within - s_rep), abs=1e-12)
    assert scores_of(states, model)["utility"] == utility


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [ValueGradient(n_windows=10), lateral.Score(n_chunks=20)])
def test_gradient_training_on_a_sheet_raises_the_bound(float32, gradient):
    model = Model(
        RBFNetwork(n_features=11), geometry=Sheet(4, 4), n_replicates=256, n_steps=100, dt=0.05, objective="tissue",
        noise_strength=0.2,
    )  # fmt: skip
    start = {"weights": jnp.full(5, 0.3)}  # a weak inhibition
    how = {"key": jax.random.key(0), "n_epochs": 25, "learning_rate": 0.3, "gradient": gradient}
    run = lateral.train_backprop(model, initial_params=start, **how)
    bounds = []
    for f in (run.initial_regulatory_function, run.regulatory_function):
        for refine in (1, 4):
            states = final_states(f, model.changed(n_replicates=1000), jax.random.key(1), refine=refine)
            bounds.append(lateral.bound_utility(model.readout.fates(states), model.geometry).utility)
    before, before_refined, after, after_refined = bounds
    assert after > before + 0.08 and after_refined > before_refined + 0.08
    assert abs(run.history["utility"][-5:].mean() - after) < 0.1


@pytest.mark.slow
def test_evolution_and_halving_on_a_sheet_raise_the_bound(float32):
    model = Model(StepNetwork(), geometry=Sheet(4, 4), n_replicates=32, n_steps=100, dt=0.05, objective="tissue")
    run = lateral.train_evolution(model, key=jax.random.key(0), n_generations=8, mutation_strength=1.0, n_final=200)
    assert lateral.evaluate(run.regulatory_function, run.model, key=jax.random.key(1), n_replicates=500).utility > 0.3
    assert run.history["utility"][-1] > run.history["mean_objective"][0] + 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::lateral.TimeStepWarning")
def test_evaluation_of_many_cells_reports_a_bound_and_says_so(key):
    model = Model(n_cells=16, n_steps=100, dt=0.05)
    result = lateral.evaluate(lateral.TanhInhibition(), model, key=key, n_replicates=400)
    assert result.lower_bound and result.n_patterns > 40
    own = model.changed(n_replicates=400, n_knots=4097)
    for refine, utility in ((1, result.utility), (4, result.utility_refined)):
        states = final_states(lateral.TanhInhibition(), own, key, refine=refine)
        assert utility == lateral.bound_utility(model.readout.fates(states)).utility
    assert result.utility == pytest.approx(result.s_pat - result.s_rep, abs=1e-12)
    assert result.utility == pytest.approx(result.positional_information + result.correlational_information, abs=1e-12)
    counted = lateral.evaluate(lambda x: 20.0, model, key=key, n_replicates=400)
    assert not counted.lower_bound and abs(counted.utility) < 1e-12  # one pattern can be counted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::lateral.TimeStepWarning", "ignore::lateral.UndersampledWarning")
def test_a_sheet_is_trained_from_the_command_line(tmp_path, capsys, float32):
    out = str(tmp_path / "run.npz")
    sizes = "--n-steps 40 --dt 0.1 --n-replicates 32 --n-candidates 32 --n-restarts 1 --n-epochs 4 --n-fresh 64"
    assert main(["train", "backprop", "--geometry", "hexagonal:6x6", *sizes.split(), "--out", out, "--quiet"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["lower_bound"] is True and -0.1 < line["utility"] < 1.0
    run = lateral.load_run(out)
    assert run.model.patterns == "auto" and run.evaluation["lower_bound"] and "a lower bound" in repr(run)
