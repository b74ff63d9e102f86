"""Successive halving: the best go on, each heat costs what it says, and batches change nothing."""

import jax
import numpy as np
import pytest

from lateral import Model, StepNetwork, population_fitness
from lateral.training import halving
from lateral.training.halving import Heat, draw_and_halve, heats

pytestmark = pytest.mark.usefixtures("float32")

MODEL = Model(network=StepNetwork(), n_cells=4, n_steps=40, dt=0.05, objective="tissue")
KEY = jax.random.key(2)
SELECTION = (Heat(6, 8, share=0.5), Heat(2, 32, refine=True))


def scores_of(rules, n_replicates, n_steps, key, factor=1):
    model = MODEL.changed(n_replicates=n_replicates, n_steps=n_steps * factor, dt=0.05 / factor)
    return np.asarray(population_fitness(rules, model, key)[0])


@pytest.mark.slow
def test_each_heat_keeps_the_best_of_what_it_was_given():
    """By hand: half the time on 8 tissues, then 32 at two time steps, the lower objective less the difference."""
    init_key, first_key, second_key = jax.random.split(KEY, 3)
    rules = jax.vmap(MODEL.network.init)(jax.random.split(init_key, 30))
    scores = scores_of(rules, 8, 20, first_key)
    drawn = draw_and_halve(MODEL, KEY, 30, SELECTION)
    np.testing.assert_allclose(drawn.candidates, np.quantile(scores, [0.0, 0.5, 1.0]), atol=1e-6)
    rules = jax.tree.map(lambda leaf: leaf[np.argsort(-scores, kind="stable")[:6]], rules)
    coarse, fine = (scores_of(rules, 32, 40, second_key, factor) for factor in (1, 4))
    order = np.argsort(-(np.minimum(coarse, fine) - np.abs(coarse - fine)), kind="stable")[:2]
    for best, place in zip(drawn.best, order, strict=True):
        np.testing.assert_array_equal(best["levels"], rules["levels"][place])
    assert drawn.work == 4 * (30 * 8 * 20 + 6 * 32 * (40 + 160))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [8, 56, 10_000])
def test_the_size_of_a_batch_changes_nothing_but_the_work_that_fills_it_up(monkeypatch, batch):
    whole = draw_and_halve(MODEL, KEY, 30, SELECTION)
    monkeypatch.setattr(halving, "BATCH", batch)
    parts = draw_and_halve(MODEL, KEY, 30, SELECTION)
    for one, other in zip(whole.best, parts.best, strict=True):
        np.testing.assert_array_equal(one["cuts"], other["cuts"])
    assert whole.work <= parts.work <= 1.1 * whole.work


def test_fewer_rules_go_on_for_more_tissues_each():
    for n_candidates, n_best in ((4096, 2), (100, 4), (2, 2)):
        selection = heats(n_candidates, n_best)
        assert [heat.n_best for heat in selection] == sorted((h.n_best for h in selection), reverse=True)
        assert [heat.n_replicates for heat in selection] == [16, 64, 512]
        assert selection[-1].n_best == n_best
    assert [heat.n_best for heat in heats(4096, 2)] == [256, 16, 2]


@pytest.mark.slow
def test_without_any_finite_objective_it_says_so():
    class Lost(StepNetwork):
        def apply(self, params, s):
            return super().apply(params, s) * np.inf

    with pytest.raises(ValueError, match="none of 30 random networks has a finite objective"), jax.debug_nans(False):
        draw_and_halve(MODEL.changed(network=Lost()), KEY, 30, SELECTION)
