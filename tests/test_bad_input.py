"""A mistake ends in one sentence that names what was wrong and shows its value, before anything is traced.

Only `test_a_mistake_is_refused` and its fellows with the mark `bad_input` break the shapes that signatures declare.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lateral
from lateral import (
    MLP,
    EvolutionStrategy,
    Model,
    RegulatoryFunction,
    Run,
    Table,
    TanhInhibition,
    alternation,
    apply_threshold,
    compute_bernoulli_utility,
    compute_hard_utility,
    compute_loss,
    compute_pairwise_utility,
    compute_soft_utility,
    correlational_information,
    estimate_utility,
    evaluate,
    fit_network,
    make_train_step,
    neighbour_mean,
    population_fitness,
    positional_information,
    preset,
    run_multiple_replicates,
    run_trajectories,
    save_run,
    soften_fates,
    tabulate,
    train_backprop,
    train_evolution,
    train_step,
)

pytestmark = pytest.mark.bad_input

KEY = jax.random.key(0)
F = TanhInhibition()
FATES = np.array([[0, 1, 0], [1, 0, 1]])
NAN = float("nan")
INF = float("inf")


class Line:
    def apply(self, params, x):
        return params * (0.5 - x)


LINE = Model(network=Line(), n_cells=3, n_replicates=4, n_steps=4)


def simulate(f=F, run=run_multiple_replicates, **changes):
    settings = dict(n_cells=3, n_replicates=4, n_steps=4, dt=0.01, noise_strength=0.1, key=KEY)
    return run(f, **settings | changes)


def backprop(model=LINE, **changes):
    return train_backprop(model, **dict(key=KEY, n_epochs=2, initial_params=1.0) | changes)


def evolution(model=LINE, **changes):
    return train_evolution(model, **dict(key=KEY, n_generations=2, initial_params=1.0) | changes)


# mistake: (call, what the message says)
MISTAKES = {
    # the simulation
    "negative noise": (lambda: simulate(noise_strength=-0.1), "noise_strength must be >= 0, got -0.1"),
    "noise is NaN": (lambda: simulate(noise_strength=NAN), "noise_strength must be finite, got nan"),
    "noise is an array": (
        lambda: simulate(noise_strength=np.ones(3)),
        "noise_strength must be a single number, got an array of shape (3,)",
    ),
    "noise is text": (lambda: simulate(noise_strength="0.1"), "noise_strength must be a single number, got '0.1'"),
    "noise is missing": (lambda: simulate(noise_strength=None), "noise_strength must be a single number, got None"),
    "noise is complex": (lambda: simulate(noise_strength=1j), "noise_strength must be a single number, got 1j"),
    "dt = 0": (lambda: simulate(dt=0), "dt must be > 0, got 0"),
    "dt is NaN": (lambda: simulate(dt=NAN), "dt must be finite, got nan"),
    "dt is infinite": (lambda: simulate(dt=jnp.inf), "dt must be finite, got inf"),
    "dt is bool": (lambda: simulate(dt=True), "dt must be a single number, got True"),
    "no cells": (lambda: simulate(n_cells=0), "n_cells must be >= 1, got 0"),
    "half a cell": (lambda: simulate(n_cells=7.0), "n_cells must be a whole number >= 1, got 7.0"),
    "cells is bool": (lambda: simulate(n_cells=True), "n_cells must be a whole number >= 1, got True"),
    "cells is text": (lambda: simulate(n_cells="7"), "n_cells must be a whole number >= 1, got '7'"),
    "no replicates": (lambda: simulate(n_replicates=-5), "n_replicates must be >= 1, got -5"),
    "too many cells": (
        lambda: simulate(n_cells=2**20, n_replicates=2**12),
        "n_cells * (first_replicate + n_replicates) must be below 2^32, got 4294967296",
    ),
    "replicates out of reach": (
        lambda: simulate(n_cells=2**20, n_replicates=2**10, first_replicate=2**12),
        "n_cells * (first_replicate + n_replicates) must be below 2^32, got 5368709120",
    ),
    "half a pair": (lambda: simulate(first_replicate=3), "first_replicate must be an even whole number >= 0, got 3"),
    "negative replicate": (lambda: simulate(first_replicate=-2), "first_replicate must be >= 0, got -2"),
    "knots of a simulation": (lambda: simulate(n_knots=1), "n_knots must be >= 2, got 1"),
    "twelve rounds": (lambda: simulate(rounds=12), "rounds must be one of 13, 20, got 12"),
    "rounds of a model": (lambda: Model(rounds=True), "rounds must be one of 13, 20, got True"),
    "recompute never": (lambda: simulate(recompute_every=0), "recompute_every must be >= 1, got 0"),
    "recompute half": (lambda: Model(recompute_every=2.5), "recompute_every must be a whole number >= 1, got 2.5"),
    "no steps": (lambda: simulate(n_steps=0), "n_steps must be >= 1, got 0"),
    "refine = 0": (lambda: simulate(refine=0), "refine must be >= 1, got 0"),
    "every = 0": (lambda: simulate(run=run_trajectories, every=0), "every must be >= 1, got 0"),
    "every does not divide the steps": (
        lambda: simulate(run=run_trajectories, n_steps=10, every=3),
        "n_steps must be a multiple of every, got n_steps = 10 and every = 3",
    ),
    "a trajectory of half a step": (
        lambda: simulate(run=run_trajectories, n_steps=4.5),
        "n_steps must be a whole number >= 1, got 4.5",
    ),
    "a ring of two cells": (lambda: simulate(boundary="ring", n_cells=2), "a ring needs n_cells >= 3, got 2"),
    "unknown boundary": (
        lambda: simulate(boundary="open"),
        "boundary must be one of 'free', 'ring', 'pinned', got 'open'",
    ),
    "boundary is not text": (lambda: simulate(boundary=None), "boundary must be one of"),
    "edge value beyond 1": (lambda: simulate(edge_value=2, boundary="pinned"), "edge_value must be <= 1, got 2"),
    "edge value below 0": (lambda: simulate(edge_value=-0.5), "edge_value must be >= 0, got -0.5"),
    "start reversed": (lambda: simulate(start=(0.6, 0.4)), "start must have low <= high, got (0.6, 0.4)"),
    "start beyond 1": (lambda: simulate(start=(0.4, 1.6)), "start[1] must be <= 1, got 1.6"),
    "start is one number": (lambda: simulate(start=0.5), "start must be a pair (low, high) within [0, 1], got 0.5"),
    "f is a number": (lambda: simulate(f=3.0), "f must be a function from neighbour averages to rates, got 3.0"),
    "f returns one cell less": (lambda: simulate(f=lambda x: x[1:]), "f must return one real rate for each neighbour"),
    "f returns complex rates": (lambda: simulate(f=lambda x: 1j * x), "f must return one real rate for each neighbour"),
    "key is an int": (lambda: simulate(key=0), "key must be a random key, got 0: make one with jax.random.key(seed)"),
    "key is missing": (lambda: simulate(key=None), "key must be a random key, got None"),
    "key is an array of numbers": (lambda: simulate(key=jnp.zeros(3)), "key must be a random key, got an array float"),
    "many keys": (
        lambda: simulate(key=jax.random.split(KEY, 2)),
        "key must be a single random key, got an array of keys of shape (2,): use jax.vmap",
    ),
    "initial states of another shape": (
        lambda: simulate(initial_states=np.zeros((3, 4))),
        "initial_states must have shape (3,) or (4, 3), got shape (3, 4)",
    ),
    "initial states out of range": (
        lambda: simulate(initial_states=np.array([0.5, 1.5, 0.0])),
        "initial_states must lie in [0, 1], got 1.5 at index (1,)",
    ),
    "initial states with NaN": (
        lambda: simulate(initial_states=np.array([0.5, 0.5, NAN])),
        "initial_states must lie in [0, 1], got nan at index (2,)",
    ),
    "neighbours of a number": (lambda: neighbour_mean(0.5), "states must have cells on the last axis, got shape ()"),
    "neighbours of NaN": (lambda: neighbour_mean(np.array([0.5, NAN])), "states must lie in [0, 1], got nan"),
    "neighbours in a ring of two": (
        lambda: neighbour_mean(np.zeros((9, 2)), "ring"),
        "a ring needs n_cells >= 3, got 2",
    ),
    # fates and utilities
    "states as fates": (
        lambda: compute_hard_utility(np.array([[0.0, 1.0], [0.3, 1.0]])),
        "must hold fates, exactly 0 or 1, got 0.3 at index (1, 0): turn states into fates with lateral.apply_threshold",
    ),
    "fates of two": (lambda: estimate_utility(2 * FATES), "exactly 0 or 1, got 2 at index (0, 1)"),
    "fates with NaN": (lambda: alternation(np.array([[0.0, NAN]])), "exactly 0 or 1, got nan at index (0, 1)"),
    "one tissue without its axis": (
        lambda: compute_hard_utility(FATES[0]),
        "patterns must have shape (replicate, cell) with at least one of each, got shape (3,)",
    ),
    "no tissue": (lambda: compute_hard_utility(np.zeros((0, 7))), "got shape (0, 7)"),
    "tissues without cells": (lambda: compute_soft_utility(np.zeros((5, 0))), "got shape (5, 0)"),
    "three axes": (lambda: positional_information(FATES[None]), "got shape (1, 2, 3)"),
    "text as fates": (lambda: compute_hard_utility(np.array([["0", "1"]])), "float array, got array([['0', '1']]"),
    "ragged lists": (
        lambda: correlational_information([[0, 1], [0]]),
        "patterns must be a bool, integer or float array, got [[0, 1], [0]]",
    ),
    "complex fates": (
        lambda: compute_hard_utility(FATES * 1j),
        "must be a bool, integer or float array, got dtype complex",
    ),
    "nothing as fates": (
        lambda: compute_hard_utility(None),
        "patterns must be a bool, integer or float array, got None",
    ),
    "complex states": (
        lambda: soften_fates(FATES * 1j),
        "states must be a bool, integer or float array, got dtype complex",
    ),
    "text as states": (
        lambda: apply_threshold(np.array(["0.5"])),
        "states must be a bool, integer or float array, got",
    ),
    "complex neighbours": (
        lambda: neighbour_mean(FATES * 1j),
        "states must be a bool, integer or float array, got dtype",
    ),
    "text as initial states": (
        lambda: simulate(initial_states=["x", "y", "z"]),
        "initial_states must be a bool, integer",
    ),
    "soft fates beyond 1": (
        lambda: compute_soft_utility(FATES * 1.5),
        "patterns must lie in [0, 1], got 1.5 at index (0, 1)",
    ),
    "soft fates with NaN": (lambda: compute_soft_utility(FATES * NAN), "patterns must lie in [0, 1], got nan"),
    "bandwidth = 0": (lambda: compute_soft_utility(FATES, 0.0), "bandwidth must be > 0, got 0"),
    "bandwidth negative": (lambda: compute_soft_utility(FATES, -0.1), "bandwidth must be > 0, got -0.1"),
    "13 cells for 2^N patterns": (lambda: compute_bernoulli_utility(np.zeros((5, 13))), "at most 12 cells, got 13"),
    "probabilities below 0": (lambda: compute_bernoulli_utility(FATES - 0.5), "must lie in [0, 1], got -0.5"),
    "pairwise probabilities below 0": (lambda: compute_pairwise_utility(FATES - 0.5), "must lie in [0, 1], got -0.5"),
    "pairwise probabilities in a row": (
        lambda: compute_pairwise_utility(np.zeros(5)),
        "fate_probabilities must have shape (replicate, cell) with at least one of each, got shape (5,)",
    ),
    "alternation on an unknown boundary": (lambda: alternation(FATES, "circle"), "boundary must be one of"),
    "an estimate on a ring of two": (
        lambda: estimate_utility(FATES[:, :2], "ring"),
        "a ring needs n_cells >= 3, got 2",
    ),
    "threshold beyond 1": (lambda: apply_threshold(FATES, 1.5), "threshold must be <= 1, got 1.5"),
    "threshold of NaN": (lambda: apply_threshold(np.array([NAN])), "states must lie in [0, 1], got nan at index (0,)"),
    "soft fates of no width": (lambda: soften_fates(FATES, 0), "width must be > 0, got 0"),
    "soft fates of states beyond 1": (lambda: soften_fates(3 * FATES), "states must lie in [0, 1], got 3"),
    # networks
    "no hidden layer": (lambda: MLP(()), "hidden_dims must name at least one hidden layer such as (8,), got ()"),
    "an empty layer": (lambda: MLP((8, 0)), "hidden_dims[1] must be >= 1, got 0"),
    "half a unit": (lambda: MLP((8.5,)), "hidden_dims[0] must be a whole number >= 1, got 8.5"),
    "hidden_dims is a number": (lambda: MLP(8), "hidden_dims must be a tuple of layer sizes such as (8, 8), got 8"),
    "hidden_dims is text": (lambda: MLP("88"), "hidden_dims must be a tuple of layer sizes such as (8, 8), got '88'"),
    "no rate": (lambda: MLP(max_rate=0.0), "max_rate must be > 0, got 0"),
    "infinite scale": (lambda: MLP(input_scale=INF), "input_scale must be finite, got inf"),
    "a network from an int": (lambda: MLP().init(0), "key must be a random key, got 0"),
    "one knot": (lambda: tabulate(F, 1), "n_knots must be >= 2, got 1"),
    "a table of a number": (lambda: tabulate(2.0), "f must be a function from neighbour averages to rates, got 2.0"),
    "a table of one value": (lambda: Table(np.zeros(1))(0.5), "at least 2 values in one dimension, got shape (1,)"),
    # the model
    "model without cells": (lambda: Model(n_cells=0), "n_cells must be >= 1, got 0"),
    "model with dt = 0": (lambda: Model(dt=0.0), "dt must be > 0, got 0"),
    "unknown relaxation": (lambda: Model(relaxation="soft"), "relaxation must be one of 'straight_through', 'raw'"),
    "13 cells by enumeration": (
        lambda: Model(relaxation="bernoulli", n_cells=13),
        'relaxation="bernoulli" takes at most 12 cells, got 13: use "pairwise" or "kernel"',
    ),
    "soft width 0": (lambda: Model(soft_width=0.0), "soft_width must be > 0, got 0"),
    "soft bandwidth negative": (lambda: Model(soft_bandwidth=-1), "soft_bandwidth must be > 0, got -1"),
    "threshold of the model": (lambda: Model(threshold=-0.1), "threshold must be >= 0, got -0.1"),
    "a network that is none": (
        lambda: Model(network=3),
        "network must have a method apply(params, neighbour_mean), got 3",
    ),
    "one knot in the model": (lambda: Model(n_knots=1), "n_knots must be >= 2, got 1"),
    "replace is checked too": (
        lambda: dataclasses.replace(LINE, noise_strength=-2.0),
        "noise_strength must be >= 0, got -2",
    ),
    # evolution
    "as many parents as networks": (
        lambda: EvolutionStrategy(n_parents=20),
        "n_parents must be below population_size = 20, got 20",
    ),
    "no parents": (lambda: EvolutionStrategy(n_parents=0), "n_parents must be >= 1, got 0"),
    "a population of one": (lambda: EvolutionStrategy(population_size=1), "population_size must be >= 2, got 1"),
    "no mutation": (lambda: EvolutionStrategy(mutation_strength=0), "mutation_strength must be > 0, got 0"),
    "scores of another number": (
        lambda: EvolutionStrategy(4, 2).tell(EvolutionStrategy(4, 2).init_around(1.0, KEY), None, np.zeros(3)),
        "fitness must have shape (4,), got (3,)",
    ),
    "no generation": (lambda: evolution(n_generations=0), "n_generations must be >= 1, got 0"),
    "evolution from an int": (lambda: evolution(key=7), "key must be a random key, got 7"),
    "evolution in no chunks": (lambda: evolution(chunk_size=0), "chunk_size must be >= 1, got 0"),
    "no final replicates": (lambda: evolution(n_final=0), "n_final must be >= 1, got 0"),
    "a population's key": (lambda: population_fitness(jnp.ones(2), LINE, 3), "key must be a random key, got 3"),
    # backpropagation
    "no epoch": (lambda: backprop(n_epochs=0), "n_epochs must be >= 1, got 0"),
    "learning rate 0": (lambda: backprop(learning_rate=0.0), "learning_rate must be > 0, got 0"),
    "learning rate negative": (lambda: backprop(learning_rate=-1e-3), "learning_rate must be > 0, got -0.001"),
    "learning rate NaN": (lambda: backprop(learning_rate=NAN), "learning_rate must be finite, got nan"),
    "a schedule below 0": (
        lambda: backprop(learning_rate=lambda epoch: 0.1 - epoch),
        "learning_rate must be finite and >= 0 at every epoch, got -0.9 to 0.1",
    ),
    "clip 0": (lambda: backprop(clip_norm=0.0), "clip_norm must be > 0, got 0"),
    "clip twice": (
        lambda: backprop(clip_norm=1.0, optimizer=optax.sgd(0.1)),
        "clip_norm goes with the built-in Adam; chain optax.clip_by_global_norm into your optimizer",
    ),
    "no batch": (lambda: backprop(n_batches=0), "n_batches must be >= 1, got 0"),
    "no training steps": (lambda: backprop(n_training_steps=0), "n_training_steps must be >= 1, got 0"),
    "more training steps than steps": (
        lambda: backprop(n_training_steps=5),
        "n_training_steps must be <= n_steps = 4, got 5",
    ),
    "unknown curriculum": (
        lambda: backprop(noise_curriculum="slow"),
        "noise_curriculum must be one of 'constant', 'guide', 'rising', 'falling', 'raised', 'cooling', got 'slow'",
    ),
    "backpropagation from an int": (lambda: backprop(key=7), "key must be a random key, got 7"),
    "a loss from an int": (lambda: compute_loss(1.0, LINE, 7), "key must be a random key, got 7"),
    "a step from an int": (lambda: train_step(1.0, None, LINE, 7), "key must be a random key, got 7"),
    "an optimizer by name": (
        lambda: make_train_step("adam"),
        "optimizer must be an optax optimiser such as optax.adam",
    ),
    "nothing to start from": (lambda: backprop(initial_params=None), "Line has no init(key): pass initial_params"),
    "unknown method": (lambda: preset("adam"), "method must be one of 'evolution', 'backprop', 'score', got 'adam'"),
    "unknown preset": (
        lambda: preset("backprop", "best"),
        "preset must be one of 'recipe', 'guide', 'pathwise', 'exploration', 'any-shape', 'odd-shape', got 'best'",
    ),
    # evaluation and files
    "unknown setting": (
        lambda: evaluate(F, key=KEY, noise=0.1),
        "unknown setting 'noise': evaluate takes the settings of lateral.Model",
    ),
    "evaluating a network": (lambda: evaluate(MLP(), key=KEY), "f must be a function from neighbour averages to rates"),
    "evaluating no replicate": (lambda: evaluate(F, key=KEY, n_replicates=0), "n_replicates must be >= 1, got 0"),
    "evaluating without noise to speak of": (
        lambda: evaluate(F, key=KEY, noise_strength=-1.0),
        "noise_strength must be >= 0, got -1",
    ),
    "fitting a number": (
        lambda: fit_network(MLP(), 3.0, key=KEY),
        "f must be a function from neighbour averages to rates, got 3.0",
    ),
    "fitting an infinite rule": (
        lambda: fit_network(MLP(), lambda x: 1.0 / x, key=KEY),
        "f must be finite, and at most 1e+102 in size, for every neighbour average from 0 to 1, got inf at 0",
    ),
    "fitting without a way to start": (lambda: fit_network(LINE.network, F, key=KEY), "Line has no init(key)"),
    "fitting by no steps": (lambda: fit_network(MLP(), F, key=KEY, n_steps=0), "n_steps must be >= 1, got 0"),
    "fitting backwards": (
        lambda: fit_network(MLP(), F, key=KEY, learning_rate=-1.0),
        "learning_rate must be > 0, got -1",
    ),
    "saving parameters alone": (lambda: save_run("run.npz", {"w": 1.0}), "run must be a lateral.Run, got dict"),
    "saving an object": (
        lambda: save_run("run.npz", Run("mine", {"w": object()}, LINE)),
        "parameters must be dicts, lists and tuples of real arrays, got object",
    ),
    "saving numbered parameters": (
        lambda: save_run("run.npz", Run("mine", {1: 1.0}, LINE)),
        "parameters in a dict need names that are strings",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused(mistake, nan_allowed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)  # one line
    assert list(tmp_path.iterdir()) == []


def test_values_are_checked_on_concrete_arrays_and_shapes_always():
    """Under jit a value is unknown and passes; a wrong shape or static setting is refused all the same."""
    assert jnp.isfinite(jax.jit(lambda noise: simulate(noise_strength=noise))(0.2)).all()
    with pytest.raises(
        ValueError, match=re.escape("noise_strength must be a single number, got an array of shape (2,)")
    ):
        jax.jit(lambda noise: simulate(noise_strength=noise))(jnp.ones(2))
    with pytest.raises(ValueError, match=re.escape("got shape (3,)")):
        jax.jit(compute_hard_utility)(jnp.zeros(3))
    with pytest.raises(ValueError, match=re.escape("initial_states must have shape (3,) or (4, 3), got shape (2,)")):
        jax.jit(lambda initial: simulate(initial_states=initial))(jnp.zeros(2))
    with pytest.raises(ValueError, match="n_cells must be a whole number"):
        jax.jit(lambda n: simulate(n_cells=n))(3)


def test_a_mistake_is_found_before_f_is_called(count_traces):
    f = count_traces(F)
    for change in ({"dt": 0.0}, {"n_steps": 0}, {"key": 1}, {"refine": 0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            simulate(f, **change)
    assert f.calls == 0


def test_every_public_name_exists_and_the_main_ones_are_tried_here():
    assert all(hasattr(lateral, name) for name in lateral.__all__)
    assert len(MISTAKES) >= 100
    assert isinstance(RegulatoryFunction(Line(), 1.0)(0.5), jax.Array)


@pytest.mark.bad_input
def test_a_trainer_wants_a_model_and_a_strategy(key):
    for train in (lateral.train_backprop, lateral.train_evolution):
        with pytest.raises(ValueError, match=r"model must be a lateral\.Model, got 7"):
            train(7, key=key)
    with pytest.raises(ValueError, match=r"strategy must be a lateral\.EvolutionStrategy, got 20"):
        lateral.train_evolution(Model(), key=key, strategy=20)
    with pytest.raises(ValueError, match=r"model must be a lateral\.Model, got 'tissue'"):
        lateral.evaluate(lateral.TanhInhibition(), "tissue", key=key)
