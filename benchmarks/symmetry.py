"""Search for a rule that prefers one pattern, which lifts U above 6/7, and see at which time steps it does.

    python benchmarks/symmetry.py                # seeds 0 to 4, about a quarter of an hour on two cores
    python benchmarks/symmetry.py --seeds 5 6    # these only; what is stored of others stays

Two patterns that are made equally often score 6/7 = 0.857 at most, one that is always made 0.985 (N = 7). An odd rule
must make both. Here f may have any sign anywhere: it is piecewise constant between seven cuts, with smooth edges, and
both cuts and levels are learned. Many random rules are scored within the tissue, the best of them at finer and finer
time steps, and the one whose lowest utility is highest is trained by the score gradient, at a quarter of the time step;
the best of its four checks on fresh tissues, at that step and at a quarter of it, is kept. |f| <= 5 throughout. The
answer, as a table of 513 values, is measured on 20,000 fresh replicates at dt, dt/4, dt/10 and dt/40, and at dt/40 once
more with four times the time (4,000 replicates), which tells a tissue that needs longer from one that loses its way.
Prints a Markdown table and writes `benchmarks/symmetry.json` after each seed.
"""

import argparse
import dataclasses
import json
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from stored import save_json

import lateral
from lateral.model import final_states

RESULTS = Path(__file__).with_name("symmetry.json")
N_CUTS, N_RANDOM = 7, 20_000
FACTORS = (1, 4, 10, 40)  # of refinement
BATCH = 50  # rules simulated side by side


MODEL = lateral.Model(network=lateral.StepNetwork(N_CUTS, odd=False), objective="tissue", n_replicates=512)


def at_fraction(factor: int, **changes) -> lateral.Model:
    """The tissue at a fraction of the time step."""
    return dataclasses.replace(MODEL, dt=MODEL.dt / factor, n_steps=MODEL.n_steps * factor, **changes)


def best(rules, n_best: int, factors: tuple[int, ...], n_replicates: int, key):
    """The rules whose lowest objective over these time steps is highest, best first."""
    models = [at_fraction(factor, n_replicates=n_replicates) for factor in factors]
    lowest = []
    for first in range(0, len(rules["cuts"]), BATCH):
        batch = jax.tree.map(lambda x, first=first: x[first : first + BATCH], rules)
        lowest.append(jnp.stack([lateral.population_fitness(batch, model, key)[0] for model in models]).min(axis=0))
    order = jnp.argsort(-jnp.concatenate(lowest))[:n_best]
    return jax.tree.map(lambda x: x[order], rules)


def search(seed: int):
    """A random rule chosen at three time steps, and what the score gradient makes of it."""
    init_key, first_key, second_key, third_key, train_key = jax.random.split(jax.random.key(seed), 5)
    rules = jax.vmap(MODEL.network.init)(jax.random.split(init_key, N_RANDOM))
    rules = best(rules, 1000, (1,), 100, first_key)
    rules = best(rules, 50, (1, 4), 200, second_key)
    chosen = jax.tree.map(lambda x: x[0], best(rules, 1, (1, 4, 10), 3000, third_key))
    with warnings.catch_warnings(action="ignore", category=lateral.TimeStepWarning):  # most are dropped
        run = lateral.train_backprop(
            at_fraction(4),
            key=train_key,
            initial_params=chosen,
            gradient=lateral.Score(),
            n_epochs=400,
            n_training_steps=2000,
            learning_rate=optax.cosine_decay_schedule(0.1, 400, alpha=0.03),
            b2=0.99,
            check_every=100,
        )
    return chosen, run.params


def as_table(params) -> np.ndarray:
    values = lateral.tabulate(lateral.RegulatoryFunction(MODEL.network, params), 513).values
    return np.round(np.asarray(values, float), 4)


def measure(values: np.ndarray, key) -> dict:
    """Utilities of a rule at all time steps, its alternation, and its most frequent pattern at dt/10."""
    f = lateral.Table(jnp.asarray(values))
    # Each result is at a quarter of its time step too, which makes four.
    results = [lateral.evaluate(f, at_fraction(factor), key=key) for factor in (1, 10)]
    fates = lateral.apply_threshold(final_states(f, at_fraction(10, n_replicates=4000), key))
    patterns, counts = np.unique(np.asarray(fates, int), axis=0, return_counts=True)
    return {
        "utility": [round(float(u), 4) for r in results for u in (r.utility, r.utility_refined)],
        "utility_se": [round(float(u), 4) for r in results for u in (r.utility_se, r.utility_refined_se)],
        "alternation": [round(float(r.alternation), 4) for r in results],
        "pattern": "".join(map(str, patterns[counts.argmax()])),
        "share": round(float(counts.max() / counts.sum()), 4),
    }


def measure_long(values: np.ndarray, key) -> dict:
    """Utility at dt/40 after four times the time."""
    model = at_fraction(40, n_replicates=4000)
    states = final_states(lateral.Table(jnp.asarray(values)), model, key, n_steps=4 * model.n_steps)
    estimate = lateral.estimate_utility(lateral.apply_threshold(states))
    return {
        "utility_long": round(float(estimate.utility), 4),
        "utility_long_se": round(float(estimate.utility_se), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    options = parser.parse_args()
    warnings.simplefilter("ignore", lateral.TimeStepWarning)  # all time steps stand in the table
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    columns = ["seed", "dt", *(f"dt/{factor}" for factor in FACTORS[1:]), "dt/40, T = 40"]
    columns += ["random rule it came from", "pattern at dt/10", "s"]
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for seed in options.seeds:
        clock = time.perf_counter()
        chosen, trained = map(as_table, search(seed))
        seconds = round(time.perf_counter() - clock, 1)
        key = jax.random.key(10_000 + seed)
        entry = measure(trained, key) | measure_long(trained, key)
        entry |= {"random": measure(chosen, key), "seconds": seconds, "rule": trained.tolist()}
        results[str(seed)] = entry
        save_json(RESULTS, dict(sorted(results.items(), key=lambda item: int(item[0]))), indent=None)
        utilities = " | ".join(f"{u:.3f}" for u in [*entry["utility"], entry["utility_long"]])
        before = ", ".join(f"{u:.3f}" for u in entry["random"]["utility"])
        print(
            f"| {seed} | {utilities} | {before} | {entry['pattern']}, {entry['share']:.3f} | {seconds:.0f} |",
            flush=True,
        )
    lowest = np.array([min(entry["utility"][:3]) for entry in results.values()])
    print(f"\nLowest of dt, dt/4 and dt/10: median {np.median(lowest):.3f}, worst {lowest.min():.3f}")


if __name__ == "__main__":
    main()
