"""Measure what docs/measured.md and BACKPROP_GUIDE.md state: trained utilities over several seeds.

    python benchmarks/measure.py                 # everything, two to three hours on two cores
    python benchmarks/measure.py main --seeds 3  # one group, fewer seeds
    python benchmarks/measure.py --tables        # measures nothing; only writes the tables again

Every run is trained from its seed and evaluated on 20,000 fresh replicates, at the time step and at a quarter of it.
A row gives the median and the worst over the seeds that made a pattern (alternation >= 0.8), and names how many did
not: those with a high utility are consensus. Prints a Markdown table, writes `benchmarks/results.json`, and at the end
the tables of docs/measured.md and BACKPROP_GUIDE.md that are made of it (`tables.py`).
"""

import argparse
import json
import warnings
from collections.abc import Callable

import numpy as np
import optax
from stored import save_json
from tables import EXPLORATION, PATTERN_HEADS, RECIPE, RESULTS, WINDOWS, patterns, write_tables

from lateral import MLP, DeadBand, Evaluation, Model, RBFNetwork, Score, StepNetwork, TanhInhibition, evaluate
from lateral.cli import initial_scores, keys_of, train_and_evaluate

GUIDE = ("backprop", "guide")
PATHWISE = ("backprop", "pathwise")
EXPLORE = ("score", "exploration")
BEST = ("score", "recipe")
ODD_SHAPE = ("evolution", "odd-shape")
EVALUATED = ("utility", "utility_se", "alternation", "utility_refined")
TISSUE, ENSEMBLE = {"objective": "tissue"}, {"objective": "ensemble"}

SEEDS = {
    "main": 10,
    "pathwise": 5,
    "guide": 3,
    "score": 3,
    "tissues": 10,
    "odd": 3,
    "limit": 2,
    "warm": 5,
    "beside": 10,
}
# Where a row has not as many as its group.
OF_ROW = {
    "noise 0.2, exploration": 5,
    "objective of the ensemble, perceptron (32, 32)": 5,
    "objective of the ensemble, perceptron (32, 32), 12 restarts": 5,
}

OTHER_TISSUES = {
    "N = 5": {"n_cells": 5},
    "N = 9": {"n_cells": 9},
    "N = 16": {"n_cells": 16},
    "noise 0.05": {"noise_strength": 0.05},
    "noise 0.2": {"noise_strength": 0.2},
    "ring of 8": {"n_cells": 8, "boundary": "ring"},
}
ALL_TISSUES = {"N = 7": {}} | OTHER_TISSUES
RING_OF_7 = {"n_cells": 7, "boundary": "ring"}
# More work than the recipe of the score, with steeper edges, and the answer to begin with.
FROM_DEAD_BAND = TISSUE | {
    "initial": DeadBand(0.12),
    "network": StepNetwork().sharpened(),
    "n_replicates": 1024,
    "n_generations": 60,
    "population_size": 24,
    "n_parents": 6,
    "recombination": True,
    "mutation_strength": 0.4,
    "mutation_decay": 0.95,
}


def from_evolution(seed: int) -> dict:
    """A warm start from the rule that the recipe of evolution makes of the same seed."""
    run, *_ = train_and_evaluate("evolution", "recipe", seed, progress=False, **TISSUE)
    return TISSUE | {"initial": run.regulatory_function}


# For each group and row: method, preset, and what is changed (for each seed, where it is a function).
GROUPS = {
    "main": {
        "evolution, recipe": ("evolution", "recipe", {}),
        "evolution, guide": ("evolution", "guide", {}),
        "backprop, guide (literal)": (*GUIDE, {}),
        "backprop, pathwise": (*PATHWISE, {}),
        EXPLORATION: (*EXPLORE, {}),
        RECIPE: (*BEST, {}),
        WINDOWS: ("backprop", "recipe", {}),
        "evolution, recipe, work of the pathwise backprop": ("evolution", "recipe", {"n_generations": 46}),
    },
    "guide": {
        "states instead of fates": (*GUIDE, {"relaxation": "raw"}),
        "input scaled": (*GUIDE, {"network": MLP()}),
        "learning rate 1e-4": (*GUIDE, {"learning_rate": 1e-4}),
        "learning rate 1e-2": (*GUIDE, {"learning_rate": 1e-2}),
        "learning rate 1e-1": (*GUIDE, {"learning_rate": 1e-1}),
        "10 replicates": (*GUIDE, {"n_replicates": 10}),
        "30 replicates": (*GUIDE, {"n_replicates": 30}),
        "100 replicates": (*GUIDE, {"n_replicates": 100}),
        "hidden (16, 16)": (*GUIDE, {"hidden_dims": (16, 16)}),
        "300 time steps while training": (*GUIDE, {"n_training_steps": 300}),
        "clip to norm 1": (*GUIDE, {"clip_norm": 1.0}),
        "exponential decay": (*GUIDE, {"learning_rate": optax.exponential_decay(1e-3, 100, 0.9)}),
        "batch of 4": (*GUIDE, {"n_batches": 4}),
        "noise x (1 + epoch / epochs)": (*GUIDE, {"noise_curriculum": "guide"}),
    },
    "pathwise": {
        "without soft fates": (*PATHWISE, {"relaxation": "straight_through"}),
        "soft fates through the kernel": (*PATHWISE, {"relaxation": "kernel"}),
        "1,000 time steps while training": (*PATHWISE, {"n_training_steps": 1000}),
        "50 replicates": (*PATHWISE, {"n_replicates": 50}),
        "learning rate 1e-3": (*PATHWISE, {"learning_rate": 1e-3}),
        "without clipping": (*PATHWISE, {"clip_norm": None}),
        "SGD 0.1 instead of Adam": (*PATHWISE, {"clip_norm": None, "optimizer": optax.sgd(0.1)}),
        "SGD 1 instead of Adam": (*PATHWISE, {"clip_norm": None, "optimizer": optax.sgd(1.0)}),
        "input as it is": (*PATHWISE, {"network": MLP(input_centre=0.0, input_scale=1.0, max_rate=5.0)}),
        "rate not bounded": (*PATHWISE, {"network": MLP()}),
        "hidden (16, 16)": (*PATHWISE, {"hidden_dims": (16, 16)}),
        "50 epochs": (*PATHWISE, {"n_epochs": 50}),
        "noise from 3 to 1": (*PATHWISE, {"noise_curriculum": "falling"}),
    },
    # Exploration with one thing changed.
    "score": {
        "objective of the ensemble": (*EXPLORE, ENSEMBLE),
        "objective of the ensemble, perceptron (32, 32)": (*EXPLORE, ENSEMBLE | {"hidden_dims": (32, 32)}),
        "objective of the ensemble, perceptron (32, 32), 12 restarts": (
            *EXPLORE,
            ENSEMBLE | {"hidden_dims": (32, 32), "n_restarts": 12},
        ),
        "objective of the ensemble, not odd": (*EXPLORE, ENSEMBLE | {"network": RBFNetwork(odd=False)}),
        "not odd": (*EXPLORE, {"network": RBFNetwork(odd=False)}),
        "perceptron (8, 8)": (*EXPLORE, {"hidden_dims": (8, 8)}),
        "perceptron (32, 32)": (*EXPLORE, {"hidden_dims": (32, 32)}),
        "one random network, not the best of 256": (
            *EXPLORE,
            {"n_candidates": 1, "n_restarts": 1, "n_survivors": 1},
        ),
        "20 stretches, decay 0.7": (*EXPLORE, {"gradient": Score(20, 0.7)}),
        "one time step": (*EXPLORE, {"dt_cycle": (1.0,)}),
        "no more noise in exploration": (*EXPLORE, {"exploration_noise": "constant"}),
        "no more noise afterwards": (*EXPLORE, {"training_noise": "constant"}),
    },
    # The recipe as it is, in other tissues, and exploration where its median is better.
    "tissues": {
        **{tissue: (*BEST, changes) for tissue, changes in OTHER_TISSUES.items()},
        "noise 0.2, exploration": (*EXPLORE, {"noise_strength": 0.2}),
        "ring of 7": (*BEST, RING_OF_7),
    },
    # Odd rules evolved on islands, without retuning either.
    "odd": {tissue: (*ODD_SHAPE, changes) for tissue, changes in ALL_TISSUES.items()},
    # How far above the dead band an odd rule can be.
    "limit": {tissue: ("evolution", "recipe", FROM_DEAD_BAND | changes) for tissue, changes in ALL_TISSUES.items()},
    # Not from random networks: one start, which knows something of the answer.
    "warm": {
        "exploration, from evolution": (*EXPLORE, from_evolution),
        "exploration, from the tanh target": (*EXPLORE, {"initial": TanhInhibition()}),
        "exploration, from the dead band": (*EXPLORE, {"initial": DeadBand(0.12)}),
    },
    # Rules by hand on the replicates that the trained rules of the same seed are evaluated on.
    "beside": {
        f"{tissue}, {rule}": (f, changes)
        for tissue, changes in (ALL_TISSUES | {"ring of 7": RING_OF_7}).items()
        for rule, f in {"dead band": DeadBand(0.12), "tanh": TanhInhibition()}.items()
    },
}


def evaluated(results: list[Evaluation]) -> dict[str, list[float]]:
    """The columns of a row that every rule has, trained or not."""
    return {name: [round(getattr(result, name), 4) for result in results] for name in EVALUATED}


def measure_by_hand(f: Callable, changes: dict, seeds: int) -> dict:
    """What a rule that nobody trains reaches."""
    return evaluated([evaluate(f, Model(**TISSUE | changes), key=keys_of(seed)[1]) for seed in range(seeds)])


def measure(method: str, preset: str, changes: dict | Callable, seeds: int) -> dict:
    results, row = [], {"seconds": [], "diverged_at": []}
    row |= {"initial_utility": [], "initial_alternation": [], "median_candidate": [], "cell_updates": []}
    for seed in range(seeds):
        of_seed = changes(seed) if callable(changes) else changes
        run, result, seconds, error = train_and_evaluate(method, preset, seed, progress=False, **of_seed)
        results.append(result)
        row["seconds"].append(round(seconds, 2))
        row["diverged_at"].append(None if error is None else error.epoch)
        for name, value in initial_scores(run).items():
            row[name].append(round(value, 4))
        row["median_candidate"].append((run.settings.get("candidates") or [None] * 3)[1])
        row["cell_updates"].append(run.settings.get("cell_updates"))
    return evaluated(results) | row


def summary(row: dict) -> str:
    row = {name: np.array(values) for name, values in row.items()}
    refined = np.abs(row["utility"] - row["utility_refined"]).max()
    seconds = f"{np.median(row['seconds']):.1f}" if "seconds" in row else "–"
    return " | ".join([*patterns(row), f"{refined:.3f}", seconds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"any of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--row", metavar="TEXT", help="only rows whose name contains this")
    parser.add_argument("--missing", action="store_true", help="only rows that results.json does not hold yet")
    parser.add_argument("--seeds", type=int, help=f"seeds 0 to SEEDS - 1; by default {SEEDS}, and {OF_ROW}")
    parser.add_argument("--tables", action="store_true", help="measure nothing, only write the tables again")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no group {sorted(unknown)[0]!r}: choose from {', '.join(GROUPS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    warnings.simplefilter("ignore")  # U at dt/4 stands in the table
    for group in [] if options.tables else options.groups or GROUPS:
        heads = [group, *PATTERN_HEADS, "largest change at dt/4", "s"]
        print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        measured = measure_by_hand if group == "beside" else measure
        for label, how in GROUPS[group].items():
            if options.missing and label in results.get(group, {}):
                continue
            if options.row and options.row not in label:
                continue
            row = measured(*how, options.seeds or OF_ROW.get(label, SEEDS[group]))
            results.setdefault(group, {})[label] = row
            save_json(RESULTS, results)
            print(f"| {label} | {summary(row)} |", flush=True)
    write_tables("benchmarks/measure.py")


if __name__ == "__main__":
    main()
