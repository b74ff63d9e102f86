"""Training of tissues whose patterns cannot be counted, by the lower bound of U: sheets and a long row.

    python benchmarks/sheets.py                  # three seeds of three tissues, in two ways: an hour on two cores
    python benchmarks/sheets.py --quick          # one seed and few epochs, to see it run; stores nothing
    python benchmarks/sheets.py --tissues square --by evolution --seeds 0    # five minutes; what else is stored stays

Two ways of training. By gradients through windows of time (`lateral.ValueGradient`), of bumps that are fitted to the
best of random step rules. Or by evolution of step rules themselves, whose edges are steeper (`lateral.train_islands`):
the best eight of 4,096 evolve each by itself, and the best two of these go on at a quarter of the time step. On the
row the best two of 2,048 evolve at the time step alone.

The objective is the utility within the tissue. Hexagonal cells have neighbours that are neighbours of each other, so
that no pattern of theirs stays good with the fates swapped; the rules for them are therefore not odd. Every utility is
the lower bound of `lateral.bound_utility` on 4,000 fresh tissues that no training has seen, or U itself where they show
few enough patterns to count them, at the time step, a quarter and a tenth of it; ± is the standard error over tissues.

Writes `benchmarks/sheets.json` after each rule, then the table of docs/measured.md, and prints it.
"""

import argparse
import json
import time
from collections.abc import Iterator

import jax
import tables
from stored import save_json

import lateral
from lateral.evaluation import FINE_KNOTS, fresh_estimates

GEOMETRIES = {
    "hexagonal": (lateral.Sheet(6, 6, kind="hexagonal", periodic=True), False),
    "square": (lateral.Sheet(8, 8), True),
    "row": (lateral.Row(64), True),
}
BY_HAND = {"tanh": lateral.TanhInhibition(), "dead band": lateral.DeadBand()}
GRADIENT = {
    "draw_from": "steps",
    "n_candidates": 2048,
    "n_restarts": 1,
    "n_exploration": 0,
    "gradient": lateral.ValueGradient(),
    "learning_rate": 0.2,
    "check_every": 25,
    "n_fresh": 1000,
}
EVOLUTION = {
    "n_islands": 8,
    "n_settling": 12,
    "n_generations": 30,
    "settling_divisors": (1,),
    "mutation_decay": 0.89,  # to 3 % of it in 30 generations
    "dt_divisors": (4,),  # at dt/2 one rule of three lived off the time step
    "duration_shares": (1.0,),
}
# On the row longer training at the time step does better, and no seed of three lived off it.
OF_ROW = {
    "n_candidates": 2048,
    "n_islands": 2,
    "n_settling": 4,
    "n_generations": 80,
    "mutation_decay": 0.957,  # to 3 % in 80
    "dt_divisors": (1,),
}


def model_of(tissue: str, network=lateral.RBFNetwork, n_replicates: int = 256, **settings) -> lateral.Model:
    geometry, odd = GEOMETRIES[tissue]
    network = network(odd=odd, **settings)
    return lateral.Model(network, geometry=geometry, n_replicates=n_replicates, objective="tissue")


def by_gradient(tissue: str, seed: int, quick: bool) -> lateral.Run:
    n_epochs = 10 if quick else 200
    return lateral.train_restarts(model_of(tissue), key=jax.random.key(seed), n_epochs=n_epochs, **GRADIENT)


def by_evolution(tissue: str, seed: int, quick: bool) -> lateral.Run:
    model = model_of(tissue, lateral.StepNetwork, 128, edge=0.003)
    settings = EVOLUTION | (OF_ROW if tissue == "row" else {}) | ({"n_generations": 2} if quick else {})
    return lateral.train_islands(model, key=jax.random.key(seed), **settings)


METHODS = {"gradient": by_gradient, "evolution": by_evolution}


def rules_of(tissue: str, options) -> Iterator[tuple[str, object, dict]]:
    """Names and rules, one after another, as they are trained, with what training took."""
    for name, f in BY_HAND.items():
        yield name, f, {}
    for method in options.by:
        for seed in options.seeds:
            start = time.perf_counter()
            run = METHODS[method](tissue, seed, options.quick)
            spent = {"seconds": round(time.perf_counter() - start), "cell_updates": run.settings["cell_updates"]}
            yield f"{method}, seed {seed}", run.regulatory_function, spent


def measured(f, model: lateral.Model, n_replicates: int) -> dict:
    key = jax.random.key(2**31)
    found = lateral.evaluate(f, model, key=key, n_replicates=n_replicates)
    assert found.lower_bound or found.n_patterns <= n_replicates / 10, "neither a bound nor counted"
    finer = model.changed(dt=model.dt / 10, n_steps=10 * model.n_steps, n_replicates=n_replicates, n_knots=FINE_KNOTS)
    (tenth,) = fresh_estimates(f, finer, key, divisors=(1,))
    names = ("utility", "utility_se", "utility_refined", "utility_refined_se", "alternation")
    values = {name: getattr(found, name) for name in names}
    values |= {"utility_10": tenth.utility, "utility_10_se": tenth.utility_se}
    return {name: round(float(value), 4) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tissues", nargs="+", choices=GEOMETRIES, default=list(GEOMETRIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--by", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--replicates", type=int, default=4000, help="fresh tissues of each evaluation")
    parser.add_argument("--quick", action="store_true", help="one seed, a few epochs, 500 fresh tissues, and no file")
    options = parser.parse_args()
    results = {}
    if options.quick:
        options.seeds, options.replicates = [0], 500
    elif tables.SHEETS.exists():
        results = json.loads(tables.SHEETS.read_text())
    for tissue in options.tissues:
        model = model_of(tissue)
        for name, f, spent in rules_of(tissue, options):
            row = results.setdefault(tissue, {})[name] = measured(f, model, options.replicates) | spent
            print(f"{tissue}, {name}: {row}", flush=True)
            if not options.quick:
                save_json(tables.SHEETS, results)
    print(tables.sheets(results))
    if not options.quick:
        tables.write_tables("benchmarks/sheets.py")


if __name__ == "__main__":
    main()
