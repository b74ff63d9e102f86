"""The package in all of JAX's strict modes at once, which show what is promoted, infinite or leaked without a word.

All but the leaks are looked for throughout the suite (conftest.py), and the leaks too with LATERAL_LEAKS=1.
"""

import jax
import leaks
import numpy as np
import pytest

from lateral import (
    DeadBand,
    EvolutionStrategy,
    Graph,
    Model,
    RBFNetwork,
    Score,
    TanhInhibition,
    evaluate,
    preset,
    run_multiple_replicates,
    run_trajectories,
    train,
    train_backprop,
)

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
TISSUE = dict(n_cells=3, n_replicates=6, n_steps=8, dt=0.05, key=KEY)
MODEL = Model(n_cells=3, n_steps=8, dt=0.05, n_replicates=8)
BUMPS = MODEL.changed(network=RBFNetwork(5), objective="tissue")
LINE = Graph(((1,), (0, 2), (1,)))


CALLS = {
    "pinned": lambda: run_multiple_replicates(TanhInhibition(), **TISSUE, boundary="pinned", edge_value=0.3),
    "graph": lambda: run_multiple_replicates(DeadBand(), geometry=LINE, n_replicates=3, n_steps=4, key=KEY),
    "refined": lambda: run_multiple_replicates(lambda s: 0.5 - s, **TISSUE, refine=3, rounds=20),
    "reference": lambda: run_trajectories(TanhInhibition(), **TISSUE, engine="reference", every=2),
    "evaluate": lambda: evaluate(TanhInhibition(), MODEL, key=KEY, n_replicates=400).utility,
    "pathwise": lambda: train_backprop(**_pathwise()).params,
    "score": lambda: train_backprop(BUMPS, key=KEY, n_epochs=2, gradient=Score()).params,
    "evolution": lambda: train(EvolutionStrategy(4, 2), MODEL, key=KEY, n_steps=2, chunk_size=2).params,
    "recombination": lambda: (
        train(EvolutionStrategy(4, 2, recombination=True), MODEL, key=KEY, n_steps=2, chunk_size=2).params
    ),
}


def _pathwise():
    model, settings = preset("backprop", "pathwise", n_cells=3, n_steps=8, n_replicates=8, n_epochs=2)
    return {"model": model, "key": KEY} | settings


@pytest.mark.parametrize("name", CALLS)
def test_all_modes_at_once_find_nothing(name, precision):
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_infs(True),
        jax.checking_leaks(),
    ):
        result = CALLS[name]()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


def test_a_leaked_tracer_is_found_where_nothing_else_is_traced_again(count_traces):
    kept = []
    leaky, sound = jax.jit(lambda s: kept.append(s) or s), count_traces(lambda s: 2.0 * s)
    twice = jax.jit(sound)
    with leaks.looked_for():
        twice(1.0)
        with sound.no_new_trace():
            twice(2.0)
        with pytest.raises(Exception, match="Leaked"):
            leaky(1.0)
