"""Rules of any shape on islands: the worst time step counts, and a run is the same however it was made."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lateral
from lateral import EvolutionStrategy, Model, RegulatoryFunction, StepNetwork, TrainingDiverged, train_islands
from lateral.model import final_states, hard_objective
from lateral.presets import preset
from lateral.training.islands import Islands
from lateral.training.population import population_fitness

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float32")]

MODEL = Model(StepNetwork(2, odd=False), n_cells=4, n_replicates=32, n_steps=20, dt=0.1, objective="tissue")
SIZES = {"n_candidates": 32, "n_islands": 3, "n_survivors": 2, "n_settling": 2, "n_generations": 3, "n_final": 64}
SIZES |= {"population_size": 6, "n_parents": 2, "settling_divisors": (2,), "dt_divisors": (1, 2)}


def train(**settings):
    return train_islands(MODEL, key=jax.random.key(3), **SIZES | settings)


@pytest.fixture(scope="module")
def run():
    with jax.enable_x64(False):
        return train()


def test_a_rule_counts_by_its_worst_time_step():
    strategy = EvolutionStrategy(population_size=5, n_parents=2, dt_divisors=(1, 3))
    state = strategy.init(MODEL.network, jax.random.key(0))
    key = jax.random.key(1)
    after, record = strategy.step(state, MODEL, key)
    _, score_key = jax.random.split(key)
    for number, fitness in enumerate(after.fitness):
        params = jax.tree.map(lambda leaf, number=number: leaf[number], state.population)
        rule = RegulatoryFunction(MODEL.network, params)
        each = [hard_objective(final_states(rule, MODEL, score_key, refine=n), MODEL) for n in (1, 3)]
        assert float(fitness) == pytest.approx(float(min(each)), abs=1e-6)
    assert float(record["objective"]) == float(after.fitness.max())
    assert strategy.work(MODEL) == 4 * 5 * MODEL.cell_updates


@pytest.mark.parametrize(("shares", "steps"), [((0.5,), (10, 10)), ((1.0, 0.25), (20, 5)), ((1.0, 0.001), (20, 1))])
def test_a_rule_counts_after_a_share_of_the_duration(shares, steps):
    strategy = EvolutionStrategy(population_size=3, n_parents=2, dt_divisors=(1, 3), duration_shares=shares)
    state = strategy.init(MODEL.network, jax.random.key(0))
    key = jax.random.key(1)
    after, _ = strategy.step(state, MODEL, key)
    score_key = jax.random.split(key)[1]
    for number, fitness in enumerate(after.fitness):
        rule = RegulatoryFunction(MODEL.network, jax.tree.map(lambda leaf, i=number: leaf[i], state.population))
        each = [
            hard_objective(final_states(rule, MODEL, score_key, refine=refine, n_steps=n_steps), MODEL)
            for refine, n_steps in zip((1, 3), steps, strict=True)
        ]
        assert float(fitness) == pytest.approx(float(min(each)), abs=1e-6)
    assert strategy.work(MODEL) == 3 * (steps[0] + 3 * steps[1]) * MODEL.cell_updates // MODEL.n_steps


def test_one_divisor_is_the_strategy_as_it_was():
    strategy = EvolutionStrategy(population_size=5, n_parents=2)
    state = strategy.init(MODEL.network, jax.random.key(0))
    key = jax.random.key(1)
    after, _ = strategy.step(state, MODEL, key)
    expected, _ = population_fitness(state.population, MODEL, jax.random.split(key)[1])
    np.testing.assert_allclose(after.fitness, expected, atol=1e-6)


def test_the_result_does_not_depend_on_the_number_of_threads(run):
    alone = train(n_threads=1)
    jax.tree.map(np.testing.assert_array_equal, alone.params, run.params)
    np.testing.assert_array_equal(alone.history["objective"], run.history["objective"])
    assert alone.settings == run.settings


def test_a_run_tells_what_it_grew_from_and_what_it_cost(run):
    assert len(run.history["objective"]) == SIZES["n_settling"] + SIZES["n_generations"]
    assert len(run.settings["islands"]) == 3 and run.settings["islands"] == sorted(run.settings["islands"])[::-1]
    assert jax.tree.structure(run.initial_params) == jax.tree.structure(run.params)
    one = MODEL.cell_updates  # of 32 tissues
    drawn = 32 * one // 4 + 32 * 2 * one + 16 * 16 * one  # on 16 tissues for half of the time, on 64, on 512
    settled = 3 * (2 * 6 * 2 * one + 2 * 2 * one)  # at half the time step; the mean at the end on 64 tissues
    gone_on = 2 * (3 * 6 + 2) * (one + 2 * 8 * one // 20)  # there for 8 of 20 steps too
    assert run.settings["cell_updates"] == drawn + settled + gone_on


def test_refined_heats_score_at_a_quarter_of_the_time_step_too(run):
    refined = train(refined_heats=True)
    one = MODEL.cell_updates
    later = 32 * 2 * one + 16 * 16 * one  # on 64 tissues, on 512
    assert refined.settings["cell_updates"] == run.settings["cell_updates"] + 4 * later
    assert refined.settings["candidates"] == run.settings["candidates"], "the first heat is the same"


def test_it_goes_on_from_a_checkpoint_to_the_same_end(run, tmp_path):
    path, chunks = tmp_path / "run.npz", []

    def interrupt(training):
        chunks.append(training)
        if len(chunks) == 4:
            raise KeyboardInterrupt

    with pytest.raises(lateral.TrainingInterrupted):
        train(checkpoint=path, callback=interrupt, n_threads=1)
    taken_up = train(checkpoint=path)
    jax.tree.map(np.testing.assert_array_equal, taken_up.params, run.params)
    assert taken_up.settings == run.settings


@pytest.mark.parametrize("n_chunks", [3, 4])
def test_what_was_best_when_it_was_interrupted_is_in_the_exception(n_chunks):
    """After two generations on each of three islands in one chunk each, and when the first survivor has gone on."""
    trainings = []

    def interrupt(training):
        trainings.append(training)
        if len(trainings) == n_chunks:
            raise KeyboardInterrupt

    with pytest.raises(lateral.TrainingInterrupted) as caught:
        train(callback=interrupt, n_threads=1)
    ends = [training.history["objective"][-1] for training in trainings]
    assert len(set(ends[:3])) == 3 and np.argmax(ends[:3]) != 2, "of this key"
    best = trainings[3] if n_chunks == 4 else trainings[np.argmax(ends)]
    jax.tree.map(np.testing.assert_array_equal, caught.value.run.params, best.params)


def test_more_islands_than_the_heats_of_four_leave():
    heats = Islands(n_candidates=300, n_islands=280).heats()
    assert [heat.n_best for heat in heats] == [280, 280, 280]
    assert [heat.n_best for heat in Islands().heats()] == [256, 16, 4]


def test_a_warm_start_is_one_island():
    params = MODEL.network.init(jax.random.key(5))
    warm = train(initial_params=params, n_settling=1, n_generations=1)
    jax.tree.map(np.testing.assert_array_equal, warm.initial_params, params)
    assert warm.settings["candidates"] is None and len(warm.settings["islands"]) == 1


class Nowhere(NamedTuple):
    """A rule that is finite nowhere."""

    def init(self, key):
        return jnp.zeros(2)

    def apply(self, params, x):
        return jnp.nan * (x + params[0])


def test_what_is_nowhere_finite_ends_with_a_reason(nan_allowed):
    broken = MODEL.changed(network=Nowhere())
    with pytest.raises(TrainingDiverged, match="has a finite objective"):
        train_islands(broken, key=jax.random.key(3), initial_params=jnp.zeros(2), n_threads=1, **SIZES)
    with pytest.raises(ValueError, match="none of 32 random networks has a finite objective"):
        train_islands(broken, key=jax.random.key(3), **SIZES)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dt_divisors": ()}, "dt_divisors must be a tuple of whole numbers"),
        ({"dt_divisors": 4}, "dt_divisors must be a tuple of whole numbers"),
        ({"settling_divisors": (1, 0)}, r"settling_divisors\[1\] must be"),
        ({"duration_shares": (1.0, 1.5)}, r"duration_shares\[1\] must be"),
        ({"duration_shares": 0.5}, "duration_shares must be a tuple of numbers"),
        ({"duration_shares": (1.0, 0.5, 0.5)}, r"one for each of dt_divisors = \(1, 2\)"),
        ({"mutation_decay": 1.5}, "mutation_decay must be"),
        ({"recombination": 1}, "recombination must be True or False"),
        ({"n_islands": 33}, "n_candidates must be >= n_islands = 33, got 32"),
        ({"n_parents": 6}, "n_parents must be below population_size = 6"),
        ({"n_island": 6}, "n_island"),
    ],
)
def test_refuses_with_the_reason(settings, said):
    with pytest.raises((ValueError, TypeError), match=said):
        train(**settings)


def test_the_preset_asks_for_any_shape():
    model, settings = preset("evolution", "any-shape", n_islands=2)
    assert model.network == StepNetwork(odd=False, edge=0.015, highest=8.0) and model.objective == "tissue"
    assert settings == {"n_islands": 2} and model.n_replicates == 256


def test_the_preset_of_odd_rules_asks_for_two_time_steps():
    model, settings = preset("evolution", "odd-shape", n_cells=9, n_generations=3)
    assert model.network == StepNetwork(n_cuts=3, edge=0.001) and model.network.odd
    assert (model.n_cells, model.n_replicates, model.objective) == (9, 512, "tissue")
    assert settings["dt_divisors"] == settings["settling_divisors"] == (1, 4) and settings["refined_heats"]
    assert settings["n_generations"] == 3


@pytest.mark.filterwarnings("ignore::lateral.TimeStepWarning")  # a sixth of the work, which is not enough
def test_a_small_search_among_odd_rules_passes_the_tanh_at_both_time_steps():
    sizes = {"n_candidates": 1024, "n_islands": 2, "n_settling": 4, "n_generations": 12, "n_replicates": 256}
    model, settings = preset("evolution", "odd-shape", n_cells=5, **sizes)
    run = train_islands(model, key=jax.random.key(0), **settings)
    key = jax.random.key(1)
    result, by_hand = (lateral.evaluate(f, model, key=key) for f in (run.regulatory_function, lateral.TanhInhibition()))
    assert result.utility > by_hand.utility + 0.05 and result.utility_refined > by_hand.utility_refined + 0.05
    assert result.alternation > 0.9
