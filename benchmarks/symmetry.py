"""Train rules that prefer one pattern, which lifts U above 6/7, and see at which time steps they do.

    python benchmarks/symmetry.py                # seeds 0 to 9, about 40 minutes on two cores
    python benchmarks/symmetry.py --seeds 5 6    # these only; what is stored of others stays

Two patterns that are made equally often score 6/7 = 0.857 at most, one that is always made 0.985 (N = 7). An odd rule
must make both; here f may have any sign anywhere. `lateral.train_islands` trains as `lateral train evolution --preset
any-shape` does. The answer, as a table of 513 values, is measured on 20,000 fresh replicates at dt, dt/4, dt/10 and
dt/40, and at dt/40 once more with four times the time (4,000 replicates), which tells a tissue that needs longer from
one that loses its way. Prints a Markdown table and writes `benchmarks/symmetry.json` after each seed. Its seconds are
those of the training, compilation included.
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
from stored import save_json

import lateral
from lateral.model import final_states

RESULTS = Path(__file__).with_name("symmetry.json")
FACTORS = (1, 4, 10, 40)  # of refinement
MODEL, SETTINGS = lateral.preset("evolution", "any-shape")


def at_fraction(factor: int, **changes) -> lateral.Model:
    """The tissue at a fraction of the time step."""
    return dataclasses.replace(MODEL, dt=MODEL.dt / factor, n_steps=MODEL.n_steps * factor, **changes)


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
    parser.add_argument("--seeds", type=int, nargs="+", default=range(10))
    options = parser.parse_args()
    warnings.simplefilter("ignore", lateral.TimeStepWarning)  # all time steps stand in the table
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    columns = ["seed", "dt", *(f"dt/{factor}" for factor in FACTORS[1:]), "dt/40, T = 40"]
    columns += ["random rule it came from", "pattern at dt/10", "s"]
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for seed in options.seeds:
        clock = time.perf_counter()
        run = lateral.train_islands(MODEL, key=jax.random.key(seed), **SETTINGS)
        seconds = round(time.perf_counter() - clock, 1)
        chosen, trained = as_table(run.initial_params), as_table(run.params)
        key = jax.random.key(10_000 + seed)
        entry = measure(trained, key) | measure_long(trained, key)
        entry |= {"random": measure(chosen, key), "seconds": seconds, "rule": trained.tolist()}
        entry["cell_updates"] = run.settings["cell_updates"]
        results[str(seed)] = entry
        save_json(RESULTS, dict(sorted(results.items(), key=lambda item: int(item[0]))), indent=None)
        utilities = " | ".join(f"{u:.3f}" for u in [*entry["utility"], entry["utility_long"]])
        before = ", ".join(f"{u:.3f}" for u in entry["random"]["utility"])
        print(
            f"| {seed} | {utilities} | {before} | {entry['pattern']}, {entry['share']:.3f} | {seconds:.0f} |",
            flush=True,
        )
    for n_steps, name in ((3, "dt, dt/4 and dt/10"), (4, "all four time steps")):
        lowest = np.array([min(entry["utility"][:n_steps]) for entry in results.values()])
        print(f"\nLowest of {name}: median {np.median(lowest):.3f}, worst {lowest.min():.3f}", end="")
    print(f"\nMedian {np.median([entry['seconds'] for entry in results.values()]):.0f} s")


if __name__ == "__main__":
    main()
